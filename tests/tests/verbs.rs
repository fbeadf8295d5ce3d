//! What the runner's account asked for in all tests before: nothing that its Role does not allow. A program of its own,
//! whose name makes it the last one.

use podrun_tests::cluster;
use std::collections::BTreeMap;

/// The Role of the README.
const ROLE: [(&str, &[&str]); 3] = [
    ("pods", &["get", "create", "delete", "watch", "list"]),
    ("pods/exec", &["get", "watch"]),
    ("pods/log", &["get", "watch"]),
];

#[tokio::test]
#[ignore = "needs a cluster"]
async fn no_test_used_a_verb_that_the_role_does_not_have() {
    let Some(audit) = cluster().await.audit() else {
        return;
    };
    let mut outside: BTreeMap<String, String> = BTreeMap::new();
    let mut inside = 0;
    for entry in audit.whole().entries().await {
        // Paths that are no resources, and questions about one's own rights, are everybody's.
        let resource = entry.resource();
        let ours = entry.user() == "system:serviceaccount:default:task-runner";
        if !ours || resource.is_empty() || resource.starts_with("selfsubject") {
            continue;
        }
        if ROLE
            .iter()
            .any(|(of, verbs)| *of == resource && verbs.contains(&entry.verb()))
        {
            inside += 1;
        } else {
            outside.insert(format!("{} {resource}", entry.verb()), entry.uri().to_owned());
        }
    }
    assert!(outside.is_empty(), "{outside:#?}");
    assert!(inside > 0, "the account was never used: run the other tests first");
}
