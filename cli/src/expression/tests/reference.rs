//! Every entry of the library does what its examples say, and the reference page shows the same.

use std::fmt::Write;
use std::path::PathBuf;

use super::super::library::{self, Entry};
use super::super::names::ROOTS;
use super::*;

#[test]
fn every_example_is_true() {
    let mut bad = Vec::new();
    let entries = library::filters().chain(library::functions());
    let entries = entries.map(|entry| (entry.name, entry.examples));
    for (name, examples) in entries.chain(library::tests().map(|test| (test.name, test.examples))) {
        assert!(
            !examples.is_empty() || ["errorLogs", "currentEachOutput"].contains(&name),
            "{name}"
        );
        for (expression, wanted) in examples {
            let source = format!("{{{{ {expression} }}}}");
            let rendered = render(&source);
            if rendered.as_deref() != Ok(*wanted) || check(&source).is_err() {
                bad.push(format!(
                    "{source}: {rendered:?} instead of {wanted:?}; {:?}",
                    check(&source)
                ));
            }
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn names_are_unique_and_none_is_both_there_and_left_out() {
    for all in [
        library::filters().collect::<Vec<&Entry>>(),
        library::functions().collect(),
    ] {
        let mut names: Vec<&str> = all.iter().map(|entry| entry.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        for (left_out, _) in library::LEFT_OUT {
            assert!(!names.contains(left_out), "{left_out}");
        }
    }
}

/// `PODRUN_WRITE_DOCS=1 cargo test` writes the page anew.
#[test]
fn the_reference_page_is_current() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/expressions.md");
    let page = page();
    if std::env::var_os("PODRUN_WRITE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &page).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == page,
        "docs/expressions.md is not current: PODRUN_WRITE_DOCS=1 cargo test writes it"
    );
}

fn page() -> String {
    let mut page = include_str!("reference.md").to_owned();
    page.push_str("\n## Names\n\n| name | what it is |\n|---|---|\n");
    for (name, what) in ROOTS {
        writeln!(page, "| `{name}` | {} |", cell(what)).unwrap();
    }
    table(&mut page, "Filters", library::filters(), true);
    table(&mut page, "Functions", library::functions(), false);
    page.push_str("\n## Tests\n\n| test | for example |\n|---|---|\n");
    for test in library::tests() {
        writeln!(page, "| `is {}` | {} |", test.name, examples(test.examples)).unwrap();
    }
    page.push_str("\n## Left out\n\n| name | why, and what to use |\n|---|---|\n");
    for (name, why) in library::LEFT_OUT {
        writeln!(page, "| `{name}` | {} |", cell(why)).unwrap();
    }
    page
}

fn table(page: &mut String, title: &str, entries: impl Iterator<Item = &'static Entry>, filter: bool) {
    let mut entries: Vec<&Entry> = entries.collect();
    entries.sort_by_key(|entry| entry.name.to_lowercase());
    writeln!(
        page,
        "\n## {title}\n\nArguments with `?` may be left out; all can be given by name.\n"
    )
    .unwrap();
    page.push_str("| use | what it does | for example |\n|---|---|---|\n");
    for entry in entries {
        let parameters = entry.parameters.join(", ");
        let usage = match (filter, parameters.is_empty()) {
            (true, true) => entry.name.to_owned(),
            (_, _) => format!("{}({parameters})", entry.name),
        };
        writeln!(
            page,
            "| `{usage}` | {} | {} |",
            cell(entry.summary),
            examples(entry.examples)
        )
        .unwrap();
    }
}

fn examples(examples: &[(&str, &str)]) -> String {
    let one = |(expression, result): &(&str, &str)| {
        let result = result.replace('\n', "⏎");
        format!("`{}` → `{}`", cell(expression), cell(&result))
    };
    examples.iter().map(one).collect::<Vec<_>>().join("<br>")
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
