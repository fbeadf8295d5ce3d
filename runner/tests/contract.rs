//! The contract as hosts see it: every item of the WIT is documented, and the schemas are there.

use podrun_runner::Runner;
use wit_parser::{Docs, Resolve, TypeDef, TypeDefKind};

/// The fields, cases and flags of a type, by name.
fn parts(definition: &TypeDef) -> Vec<(&str, &Docs)> {
    match &definition.kind {
        TypeDefKind::Record(record) => record.fields.iter().map(|f| (f.name.as_str(), &f.docs)).collect(),
        TypeDefKind::Variant(variant) => variant.cases.iter().map(|c| (c.name.as_str(), &c.docs)).collect(),
        TypeDefKind::Enum(cases) => cases.cases.iter().map(|c| (c.name.as_str(), &c.docs)).collect(),
        TypeDefKind::Flags(flags) => flags.flags.iter().map(|f| (f.name.as_str(), &f.docs)).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn every_item_of_the_wit_is_documented() {
    let mut resolve = Resolve::default();
    resolve.push_path("../wit").unwrap();
    let mut bare: Vec<String> = Vec::new();
    let mut items = 0;
    let mut check = |name: String, docs: &Docs| {
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
                for (part, docs) in parts(definition) {
                    check(format!("{name}.{part}"), docs);
                }
            }
        }
    }
    assert!(items > 120, "{items} items were found");
    assert!(bare.is_empty(), "without documentation: {bare:?}");
}

#[test]
fn the_schemas_are_json_and_name_their_objects() {
    let described = Runner::describe();
    for (title, schema) in [("config", described.config_schema), ("options", described.task_schema)] {
        let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
        assert_eq!(schema["title"], format!("Kubernetes task runner {title}"));
        assert_eq!(schema["additionalProperties"], false);
    }
}
