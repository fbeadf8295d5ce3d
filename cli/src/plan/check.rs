//! What can be known to be wrong with a script before there are values for its expressions.

use super::{Content, Staging, check_argument, command, environment, image, seconds};
use crate::document::Problem;
use crate::expression::{Text, is_template};
use crate::flow::{InputFiles, ScriptStep};

/// Every such mistake. What holds expressions is taken for something that fits.
pub(crate) fn check(declared: ScriptStep<'_>) -> Vec<Problem> {
    let ScriptStep { step, script } = declared;
    let literal = |text: &Text| !is_template(&text.text);
    let mut problems = Vec::new();
    let mut staging = Staging::default();
    if let InputFiles::Map(files) = &script.inputs {
        for (name, _) in files.iter().filter(|(name, _)| literal(name)) {
            let content = Content::Text(String::new());
            let added = staging.add(&name.place, &name.what, name.text.clone(), content, 0o644);
            problems.extend(added.err());
        }
    }
    if literal(&script.image) {
        problems.extend(image(&script.image, &script.image.text).err());
    }
    let written = |text: &Text| {
        Ok(if literal(text) {
            text.text.clone()
        } else {
            String::new()
        })
    };
    for pair in &script.env {
        problems.extend(environment(declared, std::slice::from_ref(pair), &written).err());
    }
    // Which program it is decides what else there may be.
    if script.interpreter.iter().all(literal) {
        match command(declared, &written, &mut staging) {
            Ok(arguments) => {
                let wrong = arguments.iter().map(|argument| check_argument(declared, argument));
                problems.extend(wrong.filter_map(Result::err));
            }
            Err(problem) => problems.push(problem),
        }
    }
    let timeout = step.timeout.iter().filter(|text| literal(text));
    problems.extend(timeout.filter_map(|text| seconds(&text.text, text).err()));
    problems
}
