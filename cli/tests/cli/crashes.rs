//! The program dies at every point around the journal's commits, and the same command goes on.

use crate::sandbox::{Finished, Sandbox, finished};

const RUN: [&str; 7] = [
    "run",
    "flow.yaml",
    "--execution-id",
    "x",
    "-i",
    "file=@data",
    "--outputs=out",
];

/// Every crash barrier that a run passes, with those that are passed often at several passes.
const POINTS: [&str; 27] = [
    "before-execution",
    "after-execution",
    "before-prepared",
    "after-prepared",
    "before-started",
    "after-started",
    "before-batch",
    "after-batch",
    "before-batch:3",
    "after-batch:3",
    "before-batch:4",
    "after-batch:4",
    "before-batch:6",
    "after-batch:6",
    "before-ended",
    "after-ended",
    "after-ended-committed",
    "before-published",
    "amid-published",
    "after-published",
    "before-cleaned",
    "after-cleaned",
    "before-prepared:2",
    "after-started:2",
    "after-ended:2",
    "before-finished",
    "after-finished",
];

fn sandbox(server: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("data", "content");
    sandbox.flow_at(server, &["say 2\npublish v 1\ncopy data.txt out.txt\nsay 1", "say 1"]);
    sandbox
}

/// Run until the program dies at a point.
#[track_caller]
fn crash(sandbox: &Sandbox, point: &str) -> Finished {
    let run = finished(sandbox.command(&RUN).env("PODRUN_CRASH_AT", point));
    assert_eq!(run.code, None, "it did not die at {point}: {}\n{}", run.out, run.error);
    run
}

#[test]
fn after_a_crash_at_any_point_the_same_command_goes_on() {
    for point in POINTS {
        let sandbox = sandbox("https://ok");
        crash(&sandbox, point);
        let again = sandbox.podrun(&RUN);
        assert_eq!(again.code, Some(0), "{point}: {}\n{}", again.out, again.error);
        let created = |task: &str| {
            sandbox
                .history("x", task)
                .iter()
                .filter(|line| *line == "created")
                .count()
        };
        assert_eq!((created("t1"), created("t2")), (1, 1), "{point}: a task ran twice");
        let logs = sandbox.podrun(&["logs", "x"]).expect(0).out;
        assert_eq!(logs, "t1 | line 1\nt1 | line 2\nt1 | line 1\nt2 | line 1\n", "{point}");
        assert_eq!(
            std::fs::read_to_string(sandbox.path("out/t1/out.txt")).unwrap(),
            "content",
            "{point}"
        );
        assert_eq!(
            std::fs::read_dir(sandbox.path("out/t1")).unwrap().count(),
            1,
            "{point}: something was left"
        );
        assert_eq!(sandbox.state("x").as_deref(), Some("succeeded"), "{point}");
    }
}

#[test]
fn a_crash_while_a_task_is_forgotten_forgets_it_or_renders_it_anew() {
    for point in ["before-forgotten", "after-forgotten"] {
        let sandbox = Sandbox::new();
        sandbox.write("data", "content");
        sandbox.flow(&["fail before unavailable"]);
        crash(&sandbox, point);
        assert_eq!(sandbox.state("x").as_deref(), Some("unfinished"), "{point}");
        sandbox.podrun(&RUN).expect(3);
        assert!(sandbox.history("x", "t1").is_empty(), "{point}");
    }
}

#[test]
fn a_crash_while_settings_change_leaves_the_old_or_the_new_ones() {
    for (point, changed) in [("before-settings", false), ("after-settings", true)] {
        let sandbox = sandbox("https://ok");
        crash(&sandbox, "after-started");
        let other = ["attach", "x", "--outputs=other"];
        let run = finished(sandbox.command(&other).env("PODRUN_CRASH_AT", point));
        assert_eq!(run.code, None, "{point}: {}", run.error);
        sandbox.podrun(&["attach", "x"]).expect(0);
        assert_eq!(sandbox.path("other/t1/out.txt").exists(), changed, "{point}");
        assert_eq!(sandbox.path("out/t1/out.txt").exists(), !changed, "{point}");
    }
}

#[test]
fn a_crash_of_kill_leaves_its_wish_or_nothing() {
    for (point, code) in [("before-stop", 0), ("after-stop", 130)] {
        let sandbox = Sandbox::new();
        sandbox.flow(&["say 1\nwait", "say 1"]);
        let mut run = sandbox.start(&["run", "flow.yaml", "--execution-id", "x"]);
        run.await_line("line 1");
        let kill = finished(sandbox.command(&["kill", "x"]).env("PODRUN_CRASH_AT", point));
        assert_eq!(kill.code, None, "{point}: {}", kill.error);
        if code == 0 {
            sandbox.let_go("x", "t1");
        }
        run.wait().expect(code);
    }
}

#[test]
fn what_a_kill_removed_before_it_crashed_does_not_run_again() {
    let sandbox = Sandbox::new();
    sandbox.flow(&["say 1\nwait", "say 1"]);
    let mut run = sandbox.start(&["run", "flow.yaml", "--execution-id", "x"]);
    run.await_line("line 1");
    run.signal("KILL");
    run.wait();
    let kill = finished(sandbox.command(&["kill", "x"]).env("PODRUN_CRASH_AT", "after-cleaned"));
    assert_eq!(kill.code, None, "{}", kill.error);
    sandbox.let_go("x", "t1");
    sandbox.podrun(&["attach", "x"]).expect(130);
    assert_eq!(sandbox.history("x", "t1"), ["created"]);
    assert_eq!(sandbox.state("x").as_deref(), Some("cancelled"));
}

#[test]
fn nothing_is_created_before_its_handle_is_durable() {
    let sandbox = sandbox("https://ok");
    crash(&sandbox, "before-started");
    assert!(sandbox.history("x", "t1").is_empty());
    crash(&sandbox, "after-started");
    assert!(
        sandbox.history("x", "t1").is_empty(),
        "the runner went on before the commit"
    );
}

#[test]
fn nothing_is_deleted_before_the_outcome_is_durable() {
    let sandbox = sandbox("https://ok");
    crash(&sandbox, "before-ended");
    assert_eq!(sandbox.history("x", "t1"), ["created"]);
    crash(&sandbox, "after-ended");
    assert_eq!(sandbox.history("x", "t1"), ["created"]);
}

#[test]
fn what_a_crash_left_in_the_cluster_is_removed_and_a_failure_to_is_told() {
    let sandbox = sandbox("https://unkillable");
    crash(&sandbox, "after-ended");
    let again = sandbox.podrun(&RUN).expect(0);
    assert!(
        again
            .error
            .contains("what task `t1` left in the cluster could not be removed"),
        "{}",
        again.error
    );
    // Another server is no other flow: how to reach the cluster may change.
    sandbox.flow_at(
        "https://ok",
        &["say 2\npublish v 1\ncopy data.txt out.txt\nsay 1", "say 1"],
    );
    let again = sandbox.podrun(&["attach", "x"]).expect(0);
    assert_eq!(again.error, "");
}
