//! What holds for every text and every value.

use proptest::prelude::*;

use super::*;

/// Pieces of expressions, so that random texts are often nearly right.
fn fragment() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("{{".to_owned()),
        Just("}}".to_owned()),
        Just("{%".to_owned()),
        Just("%}".to_owned()),
        Just("-".to_owned()),
        Just(" ".to_owned()),
        Just("inputs.a".to_owned()),
        Just("outputs['b']".to_owned()),
        Just("[".to_owned()),
        Just("]".to_owned()),
        Just("(".to_owned()),
        Just(")".to_owned()),
        Just("{".to_owned()),
        Just("}".to_owned()),
        Just("'".to_owned()),
        Just("\"".to_owned()),
        Just("#{".to_owned()),
        Just(" ?? ".to_owned()),
        Just(" ? ".to_owned()),
        Just(" : ".to_owned()),
        Just(" | ".to_owned()),
        Just("upper".to_owned()),
        Just("date('yyyy')".to_owned()),
        Just(" if ".to_owned()),
        Just("endif".to_owned()),
        Just("for x in ".to_owned()),
        Just("endfor".to_owned()),
        Just("set x = ".to_owned()),
        Just("raw".to_owned()),
        Just("endraw".to_owned()),
        Just(" is ".to_owned()),
        Just("not ".to_owned()),
        Just("empty".to_owned()),
        Just("1".to_owned()),
        Just("..".to_owned()),
        Just("~".to_owned()),
        Just("x".to_owned()),
        Just(",".to_owned()),
        Just("\\".to_owned()),
        Just("\0".to_owned()),
        "\\PC{0,3}",
    ]
}

/// Expressions that fail in as many ways as possible, over values named `a` to `d`.
fn failing() -> impl Strategy<Value = String> {
    let operand = prop_oneof![
        Just("inputs.a"),
        Just("inputs.b"),
        Just("inputs.c"),
        Just("inputs.d"),
        Just("inputs.b.nosuch"),
        Just("1"),
        Just("inputs[inputs.a]"),
        Just("inputs.c[inputs.a]"),
        Just("inputs.b[0]"),
        Just("{'x': inputs.a}"),
        Just("secret('TOKEN')"),
        Just("null"),
        Just("[inputs.a]"),
    ];
    let filters: Vec<&'static str> = super::super::library::filters().map(|entry| entry.name).collect();
    let operator = prop_oneof![
        Just("+"),
        Just("-"),
        Just("*"),
        Just("/"),
        Just("%"),
        Just(">"),
        Just("=="),
        Just("contains"),
        Just(".."),
        Just("and"),
        Just("isIn"),
    ];
    let functions: Vec<&'static str> = super::super::library::functions().map(|entry| entry.name).collect();
    (
        operand.clone(),
        operator,
        operand.clone(),
        proptest::sample::select(filters),
        proptest::sample::select(functions),
        operand,
        0..5,
    )
        .prop_map(|(a, operator, b, filter, function, c, form)| match form {
            0 => format!("{{{{ {a} {operator} {b} }}}}"),
            1 => format!("{{{{ {a} | {filter} }}}}"),
            2 => format!("{{{{ {a} | {filter}({b}) }}}}"),
            3 => format!("{{{{ {a} | {filter}({b}, {c}) }}}}"),
            _ => format!(
                "{{{{ {function}({a}).nosuch }}}} {{{{ {function}({a}, {b}) }}}} {{% for x in {c} %}}{{% endfor %}}"
            ),
        })
}

/// A value in which every text holds the mark.
fn marked() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        "[a-z ]{0,4}".prop_map(|text| json!(format!("{MARK}{text}"))),
        "[a-z{}%.*(\\[ ]{0,6}".prop_map(|text| json!(format!("{text}{MARK}"))),
        Just(json!(format!("{{{{ {MARK} }}}}"))),
        Just(json!(format!("{{{{ {MARK}.x | {MARK} }}}}"))),
        Just(json!(format!("{{\"{MARK}"))),
        Just(json!(7)),
        Just(Value::Null),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            inner.prop_map(|value| json!({"key": value})),
        ]
    })
}

const MARK: &str = "qZ9marked";

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn text_without_openers_is_unchanged(source in "(\\PC|\n|\\{|\\}|%|#)*") {
        prop_assume!(!is_template(&source));
        prop_assert_eq!(render(&source), Ok(source.clone()));
        prop_assert_eq!(check(&source), Ok(()));
    }

    #[test]
    fn text_around_expressions_is_unchanged(
        before in "[^{]*", between in "([^{\u{0}]|\\{[^{%#\u{0}])*", after in "[^{\u{0}]*",
    ) {
        prop_assume!(!before.contains('\0'));
        let source = format!("{before}{{{{ inputs.count }}}}{between} {{{{ 'x' }}}}{after}");
        prop_assert_eq!(render(&source), Ok(format!("{before}3{between} x{after}")));
    }

    #[test]
    fn raw_text_is_unchanged(raw in "(\\PC|\n|\\{|%|-)*") {
        prop_assume!(!raw.contains("endraw"));
        let source = format!("{{% raw %}}{raw}{{% endraw %}}");
        prop_assert_eq!(render(&source), Ok(raw));
    }

    #[test]
    fn nothing_panics(fragments in proptest::collection::vec(fragment(), 0..24)) {
        let source: String = fragments.concat();
        let checked = check(&source);
        let rendered = render(&source);
        // What cannot be taken apart cannot be rendered, and the other way round.
        if rendered.is_err() && checked.is_ok() {
            let message = rendered.clone().unwrap_err();
            prop_assert!(!message.contains("syntax"), "{}", message);
        }
        let _ = renderer().evaluate(&text(&source), &scope());
    }

    #[test]
    fn no_error_holds_a_value(
        sources in proptest::collection::vec(failing(), 1..3), a in marked(), b in marked(), c in marked(),
    ) {
        let inputs = json!({"a": a, "b": {"inner": b}, "c": [c], "d": MARK});
        let scope = object(json!({"inputs": inputs, "flow": {"id": "f"}, "parents": [{"taskrun": {"value": MARK}}]}));
        for source in sources {
            if let Err(problem) = renderer().render(&text(&source), &scope) {
                let message = problem.to_string();
                prop_assert!(!message.contains(MARK) && !message.contains("s3cret"), "{}: {}", source, message);
            }
        }
    }
}

/// What is as deep as we allow must not be too deep for the engine.
#[test]
fn the_engine_takes_what_the_parser_takes() {
    let nested =
        |open: &str, close: &str, depth: usize| format!("{{{{ {}1{} }}}}", open.repeat(depth), close.repeat(depth));
    for (open, close) in [
        ("(", ")"),
        ("[", "]"),
        ("{'a': ", "}"),
        ("1 + (", ")"),
        ("true ? (", ") : 1"),
        ("inputs.empty ?? (", ")"),
        ("-", ""),
        ("not ", ""),
        ("max(", ")"),
        ("'a' | default(", ")"),
        ("inputs[", "] ?? 1"),
        ("1 and (", ")"),
        ("1 is odd and (", ")"),
        ("\"#{", "}\""),
    ] {
        for depth in 1..70 {
            let source = nested(open, close, depth);
            if let Err(message) = check(&source) {
                assert!(message.contains("too deeply"), "{open} {depth}: {message}");
                assert!(depth > 6, "{open} {depth}: {message}");
            }
        }
    }
    let long = format!("{{{{ 'x'{} }}}}", " ~ 'x'".repeat(150));
    assert_eq!(render(&long).unwrap().len(), 151);
    let blocks = format!("{}1{}", "{% if true %}".repeat(20), "{% endif %}".repeat(20));
    assert_eq!(render(&blocks).unwrap(), "1");
}
