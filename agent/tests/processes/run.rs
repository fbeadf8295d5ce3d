//! How programs are started, and what is said of them.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use serde_json::json;

use super::agent::{Agent, Place, await_line, await_true, is_alive};

#[test]
fn a_task_goes_from_waiting_over_running_to_its_end() {
    let place = Place::new();
    let agent = Agent::start(&place);
    let fifo = place.path().join("gate");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let created = agent.script("t", &format!("read line < {}; exit 3", fifo.display()));
    assert_eq!(
        created["status"]["state"],
        json!({"waiting": {"reason": "Initialized"}})
    );
    assert_eq!(created["processStatus"], created["status"]["state"]);
    agent.await_running("t");
    fs::write(&fifo, "go\n").unwrap();
    let ended = agent.await_end("t");
    assert_eq!((&ended["exitCode"], &ended["reason"]), (&json!(3), &json!("Failed")));
    assert!(ended["startedAt"].as_str().unwrap() <= ended["finishedAt"].as_str().unwrap());
    assert!(ended["signal"].is_null());
}

#[test]
fn ends_are_what_they_were() {
    let place = Place::new();
    let agent = Agent::start(&place);
    for (name, script, code, signal, reason) in [
        ("good", "exit 0", 0, None, "Succeeded"),
        ("bad", "exit 255", 255, None, "Failed"),
        ("killed", "kill -9 $$", 137, Some(9), "Failed"),
        ("terminated", "kill -15 $$", 143, Some(15), "Failed"),
    ] {
        agent.script(name, script);
        let ended = agent.await_end(name);
        assert_eq!(ended["exitCode"], json!(code), "{name}");
        assert_eq!(ended["signal"], json!(signal), "{name}");
        assert_eq!(ended["reason"], json!(reason), "{name}");
    }
}

#[test]
fn programs_are_started_exactly_as_they_are_written() {
    let place = Place::new();
    let agent = Agent::start(&place);
    let script = r#"printf '%s|' "$@"; pwd; echo "$A"; echo "$B"; readlink /proc/self/fd/0; ps -o sid= -p $$ | tr -d ' '; echo $$"#;
    let folder = place.path().join("a b");
    fs::create_dir(&folder).unwrap();
    agent.create(
        "t",
        json!({
            "command": ["sh", "-c", script, "zero"],
            "args": ["$HOME", "a  b", "", "*", "\"'\\", "ü"],
            "env": [{"name": "A", "value": "first"}, {"name": "A", "value": "x=y\nz"}, {"name": "B"}],
            "workingDir": folder,
        }),
    );
    agent.await_end("t");
    let output = agent.get("/tasks/t/logs").text();
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines[0], format!("$HOME|a  b||*|\"'\\|ü|{}", folder.display()));
    assert_eq!(lines[1..5], ["x=y", "z", "", "/dev/null"]);
    assert_eq!(lines[5], lines[6], "the program leads a session of its own");
    assert_eq!(agent.get("/tasks/t/logs?stream=stderr").text(), "");
}

#[test]
fn the_task_inherits_the_agents_variables_and_no_descriptors() {
    let place = Place::new();
    let agent = Agent::start(&place);
    agent.create("descriptors", json!({"command": ["ls", "/proc/self/fd"]}));
    agent.await_end("descriptors");
    // The last one is what `ls` reads the folder through.
    assert_eq!(agent.get("/tasks/descriptors/logs").text(), "0\n1\n2\n3\n");
    agent.script("t", "grep -E 'Sig(Blk|Ign)' /proc/self/status; test -n \"$PATH\"");
    assert_eq!(agent.await_end("t")["exitCode"], 0);
    for line in agent.get("/tasks/t/logs").text().lines() {
        let mask = u64::from_str_radix(line.split_ascii_whitespace().last().unwrap(), 16).unwrap();
        // Signals 32 and 33 are the C library's, and stay as this test found them.
        assert_eq!(mask & !(0b11 << 31), 0, "no signal is blocked or ignored: {line}");
    }
}

#[test]
fn what_cannot_be_started_says_why() {
    let place = Place::new();
    let agent = Agent::start(&place);
    let plain = place.path().join("plain");
    fs::write(&plain, "echo no interpreter is named here\n").unwrap();
    fs::set_permissions(&plain, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for (name, process, code, part) in [
        (
            "missing",
            json!({"command": ["no-such-program"]}),
            127,
            "was not found in PATH",
        ),
        ("path", json!({"command": ["/no/such"]}), 127, "is not there"),
        ("folder", json!({"command": ["/tmp"]}), 126, "not executable"),
        ("shell", json!({"command": [plain]}), 126, "#!"),
        (
            "cwd",
            json!({"command": ["true"], "workingDir": "/no/such"}),
            126,
            "working directory `/no/such`",
        ),
        (
            "long",
            json!({"command": ["true", "x".repeat(200_000)]}),
            126,
            "128 KiB",
        ),
    ] {
        agent.create(name, process);
        let ended = agent.await_end(name);
        assert_eq!(ended["reason"], "StartFailed", "{name}");
        assert_eq!(ended["exitCode"], code, "{name}");
        assert!(ended["message"].as_str().unwrap().contains(part), "{ended}");
        assert!(ended["startedAt"].is_null());
    }
}

#[test]
fn what_a_task_leaves_behind_goes_on_until_it_is_deleted() {
    let place = Place::new();
    let agent = Agent::start(&place);
    let file = place.path().join("daemon");
    agent.script(
        "t",
        &format!("setsid sh -c 'echo $$ > {}; exec sleep 1000' & exit 0", file.display()),
    );
    assert_eq!(agent.await_end("t")["exitCode"], 0);
    let daemon = await_line(&file).parse().unwrap();
    assert!(is_alive(daemon));
    agent.delete("t");
    agent.await_gone("t");
    await_true("the daemon's end", || !is_alive(daemon));
}

#[test]
fn more_than_the_active_ones_are_queued() {
    let place = Place::new();
    let agent = Agent::start_with(&place, &["--max-active-tasks=1"]);
    agent.script("first", "exec sleep 1000");
    let second = agent.script("second", "exit 0");
    assert_eq!(second["processStatus"], json!({"waiting": {"reason": "Queued"}}));
    agent.script("third", "exit 0");
    agent.await_running("first");
    assert_eq!(
        agent.get("/tasks/second").json()["processStatus"]["waiting"]["reason"],
        "Queued"
    );
    agent.delete("first");
    let (second, third) = (agent.await_end("second"), agent.await_end("third"));
    assert!(
        second["finishedAt"].as_str().unwrap() <= third["startedAt"].as_str().unwrap(),
        "one after the other"
    );
}

#[test]
fn a_queued_task_that_is_deleted_never_runs() {
    let place = Place::new();
    let agent = Agent::start_with(&place, &["--max-active-tasks=1"]);
    agent.script("first", "exec sleep 1000");
    let mark = place.path().join("mark");
    agent.script("second", &format!("touch {}", mark.display()));
    agent.delete("second");
    agent.await_gone("second");
    agent.delete("first");
    agent.await_gone("first");
    agent.script("third", "exit 0");
    agent.await_end("third");
    assert!(!mark.exists());
}

#[test]
fn a_task_has_a_cgroup_of_its_own_where_one_can_be_made() {
    let permitted = ["unified", "freezer", ""].iter().any(|hierarchy| {
        let probe = Path::new("/sys/fs/cgroup")
            .join(hierarchy)
            .join(format!("probe-{}", std::process::id()));
        let made = fs::create_dir(&probe).is_ok();
        let kills = ["cgroup.kill", "freezer.state"]
            .iter()
            .any(|file| probe.join(file).exists());
        let _ = fs::remove_dir(&probe);
        made && kills
    });
    if !permitted {
        let _ = writeln!(std::io::stderr(), "skipped: no cgroup can be made here");
        return;
    }
    let place = Place::new();
    let agent = Agent::start(&place);
    agent.script("one", "cat /proc/self/cgroup");
    agent.script("two", "cat /proc/self/cgroup");
    let cgroups = ["one", "two"].map(|name| {
        agent.await_end(name);
        let log = agent.get(&format!("/tasks/{name}/logs")).text();
        let own = log.lines().find_map(|line| line.split_once("/podrun-"));
        own.unwrap_or_else(|| panic!("none of its own: {log}")).1.to_owned()
    });
    assert_ne!(cgroups[0], cgroups[1]);
}
