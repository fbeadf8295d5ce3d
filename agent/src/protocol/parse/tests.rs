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
