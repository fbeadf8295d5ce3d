//! Flows that run as written, and how calls end.

use std::fs;

use crate::sandbox::{Sandbox, WAITING};

fn example(name: &str) -> String {
    format!("{}/../examples/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
#[ignore = "needs cluster"]
fn the_first_example_runs_as_written() {
    let sandbox = Sandbox::new("hello");
    let readme = format!("{}/../README.md", env!("CARGO_MANIFEST_DIR"));
    let input = format!("file=@{readme}");
    let run = sandbox
        .run(&["run", &example("hello.yaml"), "-i", &input, "--outputs", "out"])
        .expect(0);
    assert!(
        run.out.contains("shell | Hello from a Kubernetes task runner!\n"),
        "{}",
        run.out
    );
    assert_eq!(
        fs::read(sandbox.path("out/shell/out.txt")).unwrap(),
        fs::read(readme).unwrap()
    );
    sandbox.nothing_is_left();
}

#[test]
#[ignore = "needs cluster"]
fn outputs_of_one_task_are_used_by_the_next() {
    let sandbox = Sandbox::new("python");
    let run = sandbox
        .run(&["run", &example("python.yaml"), "-i", "count=5", "--outputs", "out"])
        .expect(0);
    assert!(
        run.out.contains("report | the sum of [0, 1, 2, 3, 4] is 10\n"),
        "{}",
        run.out
    );
    assert_eq!(
        fs::read_to_string(sandbox.path("out/report/copy.json")).unwrap(),
        "[0, 1, 2, 3, 4]"
    );
    sandbox.nothing_is_left();
}

#[test]
#[ignore = "needs cluster"]
fn every_way_to_end_has_its_own_code() {
    let sandbox = Sandbox::new("codes");
    let flow = |command: &str| WAITING.replace("until [ -e go ]; do sleep 0.1; done", command);
    sandbox.write("good.yaml", &flow("true"));
    sandbox.write("bad.yaml", &flow("exit 7"));
    sandbox.write(
        "invalid.yaml",
        &flow("true").replace("containerImage", "containerImagee"),
    );
    sandbox.write("waiting.yaml", WAITING);
    sandbox.run(&["run", "good.yaml"]).expect(0);

    let failed = sandbox.run(&["run", "bad.yaml"]).expect(1);
    assert!(failed.out.contains("exit code 7"), "{}", failed.out);

    let invalid = sandbox.run(&["run", "invalid.yaml"]).expect(2);
    assert!(
        invalid.error.contains("containerImagee") && invalid.error.contains("containerImage`"),
        "{}",
        invalid.error
    );

    let kubeconfig = fs::read_to_string(sandbox.path("kubeconfig")).unwrap();
    let server = sandbox.place.server().unwrap();
    // Nobody listens on port 1.
    sandbox.write("nowhere", &kubeconfig.replace(server, "https://127.0.0.1:1"));
    let unreachable = sandbox.run(&["run", "good.yaml", "--kubeconfig", "nowhere"]).expect(3);
    assert!(unreachable.error.contains("127.0.0.1:1"), "{}", unreachable.error);

    if let Some(token) = sandbox.place.token() {
        sandbox.write("stranger", &kubeconfig.replace(token, "c3RyYW5nZXI"));
        let refused = sandbox.run(&["run", "good.yaml", "--kubeconfig", "stranger"]).expect(3);
        assert!(refused.error.contains("credential"), "{}", refused.error);
        assert!(!format!("{refused:?}").contains("c3RyYW5nZXI"), "{refused:?}");
    }

    let waiting = sandbox.start(&["run", "waiting.yaml", "--execution-id", "one"]);
    waiting.await_text("ready");
    let conflict = sandbox.run(&["run", "waiting.yaml", "--execution-id", "one"]).expect(4);
    assert!(
        conflict.error.contains(&format!("process {}", waiting.id())),
        "{}",
        conflict.error
    );
    waiting.signal("INT");
    waiting.end().expect(130);
    sandbox.nothing_is_left();

    let waiting = sandbox.start(&["run", "waiting.yaml", "--execution-id", "two"]);
    waiting.await_text("ready");
    waiting.signal("TERM");
    waiting.end().expect(75);
    assert_eq!(sandbox.pods().len(), 1);
    sandbox.run(&["kill", "two"]).expect(0);
    sandbox.nothing_is_left();
}

#[test]
#[ignore = "needs cluster"]
fn the_doctor_knows_what_is_missing() {
    let sandbox = Sandbox::new("doctor");
    let well = sandbox.run(&["doctor"]).expect(0);
    assert!(well.out.lines().all(|line| line.starts_with("ok")), "{}", well.out);
    if sandbox.place.token().is_none() {
        // Whoever a given cluster's kubeconfig names may do everything everywhere.
        return;
    }
    sandbox
        .place
        .kubectl(&["delete", "rolebinding", "task-runner"])
        .unwrap();
    let ill = sandbox.run(&["doctor"]).expect(3);
    assert!(ill.out.contains("error") && ill.out.contains("pods"), "{}", ill.out);
}
