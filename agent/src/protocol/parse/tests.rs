use proptest::prelude::*;

use super::*;

#[track_caller]
fn accepted(body: &str) -> Desired {
    task(body.as_bytes()).unwrap()
}

#[track_caller]
fn refused(body: &str, part: &str) {
    let error = task(body.as_bytes()).unwrap_err().to_string();
    assert!(error.contains(part), "{error}");
}

#[test]
fn both_shapes_are_the_same_task() {
    let nested = accepted(
        r#"{"name": "t", "spec": {"process": {"command": ["sh", "-c"], "args": ["a"], "timeoutSeconds": 5,
            "env": [{"name": "A", "value": "1"}], "workingDir": "/app"}}, "status": {"state": {}}}"#,
    );
    let flat = accepted(
        r#"{"name": "t", "process": {"command": ["sh", "-c"], "args": ["a"], "timeoutSeconds": 5,
            "env": [{"name": "A", "value": "1"}], "workingDir": "/app"}, "processStatus": null, "deletionTimestamp": null}"#,
    );
    assert_eq!(nested, flat);
    let Spec::Process(process) = flat.spec else {
        panic!("not a process")
    };
    assert_eq!(process.arguments().collect::<Vec<_>>(), ["sh", "-c", "a"]);
    assert_eq!(process.timeout_seconds, Some(5));
}

#[test]
fn flat_wins() {
    let both =
        accepted(r#"{"name": "t", "process": {"command": ["flat"]}, "spec": {"process": {"command": ["nested"]}}}"#);
    assert_eq!(both, accepted(r#"{"name": "t", "process": {"command": ["flat"]}}"#));
    let kinds = accepted(r#"{"name": "t", "process": {"command": ["flat"]}, "spec": {"container": {"image": "x"}}}"#);
    assert_eq!(kinds, both);
}

#[test]
fn what_newer_clients_send_is_read() {
    let newer =
        r#"{"name": "t", "priority": 3, "spec": {"process": {"command": ["a"], "nice": {"x": [1]}}, "x": null}}"#;
    assert_eq!(
        accepted(newer),
        accepted(r#"{"name": "t", "spec": {"process": {"command": ["a"]}}}"#)
    );
}

#[test]
fn nulls_and_zeros_of_other_encoders_mean_nothing() {
    let nulls = r#"{"name": "t", "process": {"command": ["a"], "args": null, "env": null, "workingDir": "",
        "timeoutSeconds": 0, "terminationGracePeriodSeconds": null}}"#;
    assert_eq!(
        accepted(nulls),
        accepted(r#"{"name": "t", "process": {"command": ["a"]}}"#)
    );
}

#[test]
fn containers_are_read() {
    let task = accepted(
        r#"{"name": "c", "spec": {"container": {"image": "ubuntu:latest", "command": ["/bin/bash", "-c"], "args": ["true"],
            "env": [{"name": "http_proxy", "value": "http://myproxy.com:5758"}],
            "volumeMounts": [{"name": "data-volume", "mountPath": "/data"}]}}}"#,
    );
    let Spec::Container(container) = task.spec else {
        panic!("not a container")
    };
    assert_eq!(container.volume_mounts.len(), 1);
}

#[test]
fn mistakes_are_named() {
    refused("", "body is not valid");
    refused("{", "body is not valid");
    refused("[]", "body is not valid");
    refused(r#"{"name": "t", "process": {"command": ["a"]}} x"#, "trailing");
    refused(r#"{"name": 5}"#, "at `name`");
    refused(
        r#"{"name": "t", "process": {"command": ["a", 5]}}"#,
        "at `process.command[1]`",
    );
    refused(r#"{"process": {"command": ["a"]}}"#, "needs a `name`");
    refused(r#"{"name": "../x", "process": {"command": ["a"]}}"#, "not allowed");
    refused(r#"{"name": "t"}"#, "nothing to run");
    refused(r#"{"name": "t", "podTemplateSpec": {}}"#, "podTemplateSpec");
    refused(r#"{"name": "t", "process": {}}"#, "must name a program");
    refused(r#"{"name": "t", "process": {"command": []}}"#, "must name a program");
    refused(r#"{"name": "t", "process": {"command": [""]}}"#, "must name a program");
    refused(r#"{"name": "t", "process": {"command": ["a\u0000b"]}}"#, "NUL");
    refused(
        r#"{"name": "t", "process": {"command": ["a"], "env": [{"name": "A=B"}]}}"#,
        "`=`",
    );
    refused(
        r#"{"name": "t", "process": {"command": ["a"], "env": [{"name": ""}]}}"#,
        "empty",
    );
    refused(
        r#"{"name": "t", "process": {"command": ["a"], "env": [{"name": "A", "valueFrom": {}}]}}"#,
        "valueFrom",
    );
    refused(
        r#"{"name": "t", "process": {"command": ["a"], "timeoutSeconds": -1}}"#,
        "timeoutSeconds",
    );
    refused(
        r#"{"name": "t", "process": {"command": ["a"], "timeoutSeconds": 9223372036854775807}}"#,
        "timeoutSeconds",
    );
    refused(
        r#"{"name": "t", "spec": {"process": {"command": ["a"]}, "container": {"image": "x"}}}"#,
        "both",
    );
    refused(r#"{"name": "t", "container": {"image": ""}}"#, "image");
    refused(
        r#"{"name": "t", "container": {"image": "x", "volumeMounts": [{"name": "v", "mountPath": "rel"}]}}"#,
        "mountPath",
    );
}

#[test]
fn one_bad_entry_refuses_the_set() {
    let good = r#"{"name": "a", "process": {"command": ["a"]}}"#;
    assert_eq!(set(format!("[{good}]").as_bytes()).unwrap().len(), 1);
    assert_eq!(set(b"[]").unwrap(), []);
    assert!(set(format!("[{good}, {{}}]").as_bytes()).is_err());
    assert!(matches!(
        set(format!("[{good}, {good}]").as_bytes()),
        Err(Error::Twice(_))
    ));
}

proptest! {
    #[test]
    fn any_bytes_are_answered(body in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = task(&body);
        let _ = set(&body);
    }

    #[test]
    fn any_json_is_answered_and_what_is_accepted_is_valid(body in arbitrary_task()) {
        if let Ok(desired) = task(body.to_string().as_bytes()) {
            prop_assert!(!desired.name.as_str().contains(['/', '\0']));
            let stored = serde_json::to_string(&desired.spec).unwrap();
            prop_assert_eq!(serde_json::from_str::<Spec>(&stored).unwrap(), desired.spec);
        }
    }

    #[test]
    fn what_is_valid_is_accepted_as_it_is_and_comes_back_from_the_disk(process in valid_process(), nested: bool, field in broken_field()) {
        let body = |process: &serde_json::Value| match nested {
            true => serde_json::json!({"name": "t", "spec": {"process": process}}).to_string(),
            false => serde_json::json!({"name": "t", "process": process}).to_string(),
        };
        let Spec::Process(accepted) = task(body(&process).as_bytes()).unwrap().spec else { panic!("not a process") };
        let words: Vec<_> = accepted.arguments().collect();
        let sent = ["command", "args"].into_iter().flat_map(|list| process[list].as_array().unwrap());
        prop_assert_eq!(words, sent.map(|word| word.as_str().unwrap()).collect::<Vec<_>>());
        prop_assert_eq!(accepted.env.len(), process["env"].as_array().unwrap().len());
        let stored = serde_json::to_string(&Spec::Process(accepted.clone())).unwrap();
        prop_assert_eq!(serde_json::from_str::<Spec>(&stored).unwrap(), Spec::Process(accepted));
        // One field that cannot be refuses it.
        let mut broken = process;
        broken[field.0] = field.1;
        prop_assert!(task(body(&broken).as_bytes()).is_err());
    }
}

/// A process that is accepted.
fn valid_process() -> impl Strategy<Value = serde_json::Value> {
    let words = |least: usize| proptest::collection::vec("[^\\x00]{1,8}", least..4);
    let variables = proptest::collection::vec(("[^=\\x00]{1,6}", "[^\\x00]{0,6}"), 0..3);
    let parts = (
        words(1),
        words(0),
        variables,
        0..=LONGEST,
        proptest::option::of("/[a-z]{0,4}"),
    );
    parts.prop_map(|(command, args, variables, timeout, folder)| {
        let env: Vec<_> = variables
            .into_iter()
            .map(|(name, value)| serde_json::json!({"name": name, "value": value}))
            .collect();
        serde_json::json!({
            "command": command, "args": args, "env": env, "timeoutSeconds": timeout, "workingDir": folder,
        })
    })
}

/// A field of a process, and a value that it cannot have.
fn broken_field() -> impl Strategy<Value = (&'static str, serde_json::Value)> {
    proptest::sample::select(vec![
        ("command", serde_json::json!([])),
        ("command", serde_json::json!(["a\0"])),
        ("command", serde_json::json!("sh")),
        ("args", serde_json::json!([5])),
        ("args", serde_json::json!(["\0"])),
        ("env", serde_json::json!([{"name": "A=B"}])),
        ("env", serde_json::json!([{"value": "x"}])),
        ("env", serde_json::json!({"A": "B"})),
        ("timeoutSeconds", serde_json::json!(-1)),
        ("timeoutSeconds", serde_json::json!(LONGEST + 1)),
        ("workingDir", serde_json::json!("/a\0")),
    ])
}

/// Objects that look like tasks, with anything at all in their fields.
fn arbitrary_task() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        "[a-z/.=\\x00]{0,6}".prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 64, 5, |inner| {
        let key = proptest::sample::select(vec![
            "name",
            "spec",
            "process",
            "container",
            "command",
            "args",
            "env",
            "value",
            "image",
            "timeoutSeconds",
            "workingDir",
            "volumeMounts",
            "mountPath",
            "other",
        ]);
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            proptest::collection::btree_map(key, inner, 0..6)
                .prop_map(|fields| fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}
