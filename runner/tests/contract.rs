//! The contract as hosts see it: every item of the WIT is documented, and the schemas change only on purpose.

use podrun_runner::Runner;
use wit_parser::{Resolve, TypeDefKind};

#[test]
fn every_item_of_the_wit_is_documented() {
    let mut resolve = Resolve::default();
    resolve.push_path("../wit").unwrap();
    let mut bare: Vec<String> = Vec::new();
    let mut items = 0;
    let mut check = |name: String, docs: &wit_parser::Docs| {
        items += 1;
        if docs.contents.as_deref().is_none_or(|d| d.trim().is_empty()) {
            bare.push(name);
        }
    };
    for (_, interface) in &resolve.interfaces {
        check(interface.name.clone().unwrap_or_default(), &interface.docs);
        for (name, function) in &interface.functions {
            check(name.clone(), &function.docs);
        }
        for (name, id) in &interface.types {
            let definition = resolve.types.get(*id).unwrap();
            // A type that is only used here is documented where it is defined.
            if !matches!(definition.kind, TypeDefKind::Type(wit_parser::Type::Id(_))) {
                check(name.clone(), &definition.docs);
            }
        }
    }
    assert!(items > 30, "{items} items were found");
    assert!(bare.is_empty(), "without documentation: {bare:?}");
}

#[test]
fn the_schemas_change_only_on_purpose() {
    let described = Runner::describe();
    for (name, schema) in [("config", described.config_schema), ("options", described.task_schema)] {
        let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
        insta::assert_json_snapshot!(name, schema);
    }
}
