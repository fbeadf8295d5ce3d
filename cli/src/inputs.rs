//! The inputs of an execution: what `-i` gave, checked against the flow, and stored so that a resumed execution sees
//! the same values even if a file was changed meanwhile.

pub(crate) mod values;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::document::{listed, nearest};
use crate::error::{Error, named, state};
use crate::expression::{Renderer, Text, is_template};
use crate::flow::{InputDeclaration, InputKind};
use crate::secrets::deep;
use crate::state::{ExecutionDir, private_folder};
pub(crate) use values::{output, value};

/// One `-i` argument.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Given {
    name: String,
    value: GivenValue,
}

#[derive(Clone, Debug, PartialEq)]
enum GivenValue {
    Text(String),
    File(PathBuf),
}

/// An input whose value fits the flow.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Input {
    pub(crate) id: String,
    pub(crate) value: InputValue,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum InputValue {
    Plain(Value),
    File(PathBuf),
}

/// An input as the journal keeps it. A file's content lies in the execution's folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredInput {
    pub(crate) id: String,
    pub(crate) value: StoredValue,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum StoredValue {
    Plain(Value),
    File {
        size: u64,
        sha256: String,
        executable: bool,
    },
}

/// Read `name=value` and `name=@file`.
pub(crate) fn parse(arguments: &[String]) -> Result<Vec<Given>, Error> {
    let mut all: Vec<Given> = Vec::new();
    for argument in arguments {
        let Some((name, value)) = argument.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err(Error::Usage(format!(
                "input `{argument}` has no value: write `-i NAME=VALUE` or `-i NAME=@FILE`"
            )));
        };
        if all.iter().any(|given| given.name == name) {
            return Err(Error::Usage(format!("input `{name}` is given twice")));
        }
        let value = match value.strip_prefix('@') {
            Some("") => {
                return Err(Error::Usage(format!(
                    "input `{name}` names no file: write `-i {name}=@FILE`"
                )));
            }
            Some(path) => GivenValue::File(path.into()),
            None => GivenValue::Text(value.to_owned()),
        };
        all.push(Given {
            name: name.to_owned(),
            value,
        });
    }
    Ok(all)
}

/// Check what was given against what the flow declares. `scope` is what defaults can use beside the inputs before them.
pub(crate) fn resolve(
    declarations: &[InputDeclaration],
    given: &[Given],
    renderer: &Renderer,
    mut scope: Map<String, Value>,
) -> Result<Vec<Input>, Error> {
    let names: Vec<&str> = declarations.iter().map(|declaration| declaration.id.as_str()).collect();
    if let Some(stray) = given.iter().find(|given| !names.contains(&given.name.as_str())) {
        let cure = match nearest(&stray.name, &names) {
            Some(near) => format!("did you mean `{near}`?"),
            None if names.is_empty() => "it declares none".to_owned(),
            None => format!("it declares {}", listed(&names)),
        };
        return Err(Error::Usage(format!("the flow has no input `{}`: {cure}", stray.name)));
    }
    let mut inputs = Vec::new();
    let mut known = Map::new();
    for declaration in declarations {
        let id = &declaration.id;
        let given = given
            .iter()
            .find(|given| given.name == *id)
            .map(|given| given.value.clone());
        scope.insert("inputs".to_owned(), known.clone().into());
        let value = match given {
            Some(value) => Some(value),
            None => default(declaration, renderer, &scope)?.map(GivenValue::Text),
        };
        let value = match value {
            Some(value) => typed(declaration, value)?,
            None if !declaration.required => InputValue::Plain(Value::Null),
            None => {
                let form = if declaration.kind == InputKind::File {
                    "@FILE"
                } else {
                    "VALUE"
                };
                return Err(Error::Usage(format!("input `{id}` is missing: add `-i {id}={form}`")));
            }
        };
        if let InputValue::Plain(value) = &value {
            known.insert(id.clone(), value.clone());
        }
        inputs.push(Input { id: id.clone(), value });
    }
    Ok(inputs)
}

/// The default, rendered, as if it had been given.
fn default(
    declaration: &InputDeclaration,
    renderer: &Renderer,
    scope: &Map<String, Value>,
) -> Result<Option<String>, Error> {
    let Some(node) = &declaration.default else {
        return Ok(None);
    };
    let what = format!("`defaults` of input `{}`", declaration.id);
    Ok(Some(match node.text() {
        Some(text) => {
            let place = node.place.clone();
            renderer.render(&Text { text, place, what }, scope)?
        }
        None => renderer.node(node, &what, scope)?.to_string(),
    }))
}

/// Inputs that were not given and whose default may be another one each time.
pub(crate) fn varying(declarations: &[InputDeclaration], given: &[Given]) -> Vec<String> {
    let varies = |declaration: &&InputDeclaration| {
        let default = declaration.default.as_ref().map(|node| node.to_json().to_string());
        default.is_some_and(|default| is_template(&default)) && given.iter().all(|given| given.name != declaration.id)
    };
    let varying = declarations.iter().filter(varies);
    varying.map(|declaration| declaration.id.clone()).collect()
}

fn typed(declaration: &InputDeclaration, value: GivenValue) -> Result<InputValue, Error> {
    let id = &declaration.id;
    let text = match (declaration.kind, value) {
        (InputKind::File, GivenValue::File(path)) => {
            let unreadable =
                |error| Error::Usage(format!("input `{id}`: failed to read `{}`: {error}", path.display()));
            let metadata = File::open(&path).and_then(|file| file.metadata()).map_err(unreadable)?;
            if !metadata.is_file() {
                return Err(Error::Usage(format!(
                    "input `{id}`: `{}` is not a file",
                    path.display()
                )));
            }
            return Ok(InputValue::File(path));
        }
        (InputKind::File, GivenValue::Text(_)) => {
            return Err(Error::Usage(format!(
                "input `{id}` is a FILE: write `-i {id}=@PATH` with an at sign"
            )));
        }
        (_, GivenValue::Text(text)) => text,
        (_, GivenValue::File(path)) => fs::read_to_string(&path).map_err(named("read", &path))?,
    };
    values::value(declaration, &text)
        .map(InputValue::Plain)
        .map_err(|reason| Error::Usage(format!("input `{id}` {reason}")))
}

/// Copy the inputs into the execution's folder. What is returned can be stored once this has returned.
pub(crate) fn store(inputs: &[Input], folder: &ExecutionDir) -> Result<Vec<StoredInput>, Error> {
    let store_one = |input: &Input| {
        let value = match &input.value {
            InputValue::Plain(value) => StoredValue::Plain(value.clone()),
            InputValue::File(path) => store_file(path, &folder.input(&input.id))?,
        };
        Ok(StoredInput {
            id: input.id.clone(),
            value,
        })
    };
    inputs.iter().map(store_one).collect()
}

fn store_file(from: &Path, to: &Path) -> Result<StoredValue, Error> {
    if let Some(parent) = to.parent() {
        private_folder(parent)?;
    }
    let mut source = File::open(from).map_err(named("read", from))?;
    let executable = source.metadata().map_err(named("read", from))?.permissions().mode() & 0o111 != 0;
    let mode = if executable { 0o700 } else { 0o600 };
    let mut target = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(to)
        .map_err(state("create", to))?;
    let (size, sha256) = copy(&mut source, &mut target).map_err(named("copy", from))?;
    target.sync_all().map_err(state("write", to))?;
    Ok(StoredValue::File {
        size,
        sha256,
        executable,
    })
}

/// Inputs as the journal keeps them: with the names of secrets in their place, which their defaults may have used.
pub(crate) fn concealed(inputs: &[StoredInput], renderer: &Renderer) -> Vec<StoredInput> {
    let Ok(inputs) = changed(inputs, |text| {
        Ok::<_, std::convert::Infallible>(renderer.sources().conceal(text))
    });
    inputs
}

/// The same with the secrets again.
pub(crate) fn revealed(inputs: &[StoredInput], renderer: &Renderer) -> Result<Vec<StoredInput>, Error> {
    changed(inputs, |text| renderer.sources().reveal(text))
        .map_err(|fault| Error::Usage(format!("cannot go on with the inputs of the execution: {fault}")))
}

fn changed<E>(inputs: &[StoredInput], change: impl Fn(&str) -> Result<String, E>) -> Result<Vec<StoredInput>, E> {
    let one = |input: &StoredInput| {
        let value = match &input.value {
            StoredValue::Plain(value) => StoredValue::Plain(deep(value.clone(), &change)?),
            file => file.clone(),
        };
        Ok(StoredInput {
            id: input.id.clone(),
            value,
        })
    };
    inputs.iter().map(one).collect()
}

/// Fail unless `inputs` are the ones that the execution was started with.
pub(crate) fn same(inputs: &[Input], stored: &[StoredInput]) -> Result<(), Error> {
    for input in inputs {
        let before = stored
            .iter()
            .find(|stored| stored.id == input.id)
            .map(|stored| &stored.value);
        let equal = match (&input.value, before) {
            (InputValue::Plain(value), Some(StoredValue::Plain(before))) => value == before,
            (InputValue::File(path), Some(StoredValue::File { sha256, .. })) => {
                let mut file = File::open(path).map_err(named("read", path))?;
                copy(&mut file, &mut io::sink()).map_err(named("read", path))?.1 == *sha256
            }
            _ => false,
        };
        if !equal {
            return Err(Error::Conflict(format!(
                "the execution was started with another value of input `{}`: leave out `-i` to go on with that one, or \
                 leave out `--execution-id` to start anew",
                input.id
            )));
        }
    }
    Ok(())
}

/// Copy and hash at once.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<(u64, String)> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    let mut size = 0;
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let part = buffer.get(..count).unwrap_or_default();
        hash.update(part);
        to.write_all(part)?;
        size += count as u64;
    }
    Ok((size, hex(&hash.finalize())))
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{self, Node, Place};
    use crate::flow::model::Rules;
    use crate::state::StateDir;

    fn declare(id: &str, kind: InputKind) -> InputDeclaration {
        InputDeclaration {
            id: id.into(),
            kind,
            place: Place::built_in(),
            required: true,
            default: None,
            rules: Rules::default(),
        }
    }

    fn given(arguments: &[&str]) -> Result<Vec<Given>, Error> {
        parse(
            &arguments
                .iter()
                .map(|argument| (*argument).to_owned())
                .collect::<Vec<_>>(),
        )
    }

    fn resolved(declarations: &[InputDeclaration], given: &[Given]) -> Result<Vec<Input>, Error> {
        let scope = Map::from_iter([("vars".to_owned(), serde_json::json!({"x": "v"}))]);
        resolve(declarations, given, &Renderer::new().unwrap(), scope)
    }

    #[test]
    fn a_default_may_use_what_is_known_before_it() {
        let text = |text: &str| Some(Node::built_in(document::Value::Text(text.into())));
        let first = declare("first", InputKind::Int);
        let mut second = declare("second", InputKind::Int);
        second.default = text("{{ inputs.first + 1 }}");
        let mut third = declare("third", InputKind::Json);
        let list = vec![text("{{ vars.x }}").unwrap(), text("{{ inputs.second }}").unwrap()];
        third.default = Some(Node::built_in(document::Value::List(list)));
        let declarations = [first, second, third];
        let values = |arguments: &[&str]| -> Vec<Value> {
            let inputs = resolved(&declarations, &given(arguments).unwrap()).unwrap();
            let plain = |input: Input| match input.value {
                InputValue::Plain(value) => value,
                InputValue::File(_) => panic!("a file"),
            };
            inputs.into_iter().map(plain).collect()
        };
        assert_eq!(
            values(&["first=1"]),
            [1.into(), 2.into(), serde_json::json!(["v", "2"])]
        );
        assert_eq!(
            values(&["first=1", "second=5"])[1..],
            [5.into(), serde_json::json!(["v", "5"])]
        );
        assert_eq!(
            varying(&declarations, &given(&["first=1", "second=5"]).unwrap()),
            ["third"]
        );
        let mut wrong = declare("n", InputKind::Int);
        wrong.default = text("{{ vars.x }}");
        let error = resolved(&[wrong], &[]).unwrap_err().to_string();
        assert_eq!(error, "input `n` must be a whole number");
    }

    fn refusal(declarations: &[InputDeclaration], arguments: &[&str]) -> String {
        given(arguments)
            .and_then(|given| resolved(declarations, &given))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn values_get_their_types() {
        let declarations = [
            declare("n", InputKind::Int),
            declare("f", InputKind::Float),
            declare("b", InputKind::Boolean),
        ];
        let inputs = resolved(&declarations, &given(&["n=3", "f=1.5", "b=true"]).unwrap()).unwrap();
        let values: Vec<_> = inputs.into_iter().map(|input| input.value).collect();
        let plain = |value: Value| InputValue::Plain(value);
        assert_eq!(values, [plain(3.into()), plain(1.5.into()), plain(true.into())]);
    }

    #[test]
    fn a_value_may_hold_equals_signs_and_a_default_fills_in() {
        let mut declaration = declare("q", InputKind::String);
        let inputs = resolved(&[declaration.clone()], &given(&["q=a=b"]).unwrap()).unwrap();
        assert_eq!(inputs[0].value, InputValue::Plain("a=b".into()));
        declaration.default = Some(Node::built_in(document::Value::Text("d".into())));
        assert_eq!(
            resolved(&[declaration], &[]).unwrap()[0].value,
            InputValue::Plain("d".into())
        );
    }

    #[test]
    fn refusals_name_the_input_and_the_cure() {
        let file = [declare("file", InputKind::File)];
        insta::assert_snapshot!(refusal(&file, &[]), @"input `file` is missing: add `-i file=@FILE`");
        insta::assert_snapshot!(refusal(&file, &["fil=@x"]), @"the flow has no input `fil`: did you mean `file`?");
        insta::assert_snapshot!(refusal(&file, &["file=x"]), @"input `file` is a FILE: write `-i file=@PATH` with an at sign");
        insta::assert_snapshot!(refusal(&file, &["file=@/"]), @"input `file`: `/` is not a file");
        insta::assert_snapshot!(refusal(&file, &["file=@nosuch"]), @"input `file`: failed to read `nosuch`: No such file or directory (os error 2)");
        insta::assert_snapshot!(refusal(&file, &["file"]), @"input `file` has no value: write `-i NAME=VALUE` or `-i NAME=@FILE`");
        insta::assert_snapshot!(refusal(&file, &["file=@a", "file=@b"]), @"input `file` is given twice");
        insta::assert_snapshot!(refusal(&[declare("n", InputKind::Int)], &["n=x"]), @"input `n` must be a whole number");
    }

    #[test]
    fn stored_files_outlive_their_source_and_other_content_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("data");
        fs::write(&source, "one").unwrap();
        fs::set_permissions(&source, fs::Permissions::from_mode(0o755)).unwrap();
        let folder = StateDir::at(dir.path().join("state")).unwrap().execution("x");
        let inputs = [Input {
            id: "file".into(),
            value: InputValue::File(source.clone()),
        }];
        let stored = store(&inputs, &folder).unwrap();
        assert!(matches!(
            stored[0].value,
            StoredValue::File {
                size: 3,
                executable: true,
                ..
            }
        ));
        same(&inputs, &stored).unwrap();
        fs::write(&source, "two").unwrap();
        assert_eq!(fs::read(folder.input("file")).unwrap(), b"one");
        assert!(
            same(&inputs, &stored)
                .unwrap_err()
                .to_string()
                .contains("another value of input `file`")
        );
    }
}
