//! What is answered: every example of the document, every status, every answer against the description.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::agent::{Agent, Place, await_pid, await_true, children, is_alive};
use super::description;
use super::http::Answer;

/// The document's examples, as a user copies them.
const EXAMPLES: &str = include_str!("../examples.sh");

#[test]
fn the_documents_examples_work_as_they_are_written() {
    let place = Place::new();
    let agent = Agent::start(&place);
    // curl is sent elsewhere by its own settings, so that the commands stay as they are.
    let settings = format!(
        "connect-to = \"localhost:5758:{}\"\nsilent\nwrite-out = \" %{{http_code}}\\n\"\n",
        agent.address
    );
    fs::write(place.path().join(".curlrc"), settings).unwrap();
    let run = |example: &str| {
        let output = Command::new("sh")
            .args(["-e", "-c", example])
            .env("CURL_HOME", place.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let examples: Vec<_> = EXAMPLES.split("\n# ").collect();
    assert_eq!(examples.len(), 8);
    let example = |title: &str| {
        let found = examples.iter().find(|example| example.contains(title)).unwrap();
        found.split_once('\n').unwrap().1
    };
    let json_of = |text: &str| serde_json::from_str::<Value>(text.rsplit_once(' ').unwrap().0).unwrap();
    assert_eq!(run(example("Health")), "{\"status\":\"healthy\"}\n 200\n");
    let created = run(example("Create"));
    assert!(created.ends_with(" 201\n"));
    let created = json_of(&created);
    assert_eq!(created["name"], "my-first-task");
    assert_eq!(created["spec"]["process"]["command"], json!(["sh", "-c"]));
    assert_eq!(
        created["status"],
        json!({"state": {"waiting": {"reason": "Initialized"}}})
    );
    agent.await_running("my-first-task");
    let running = json_of(&run(example("Get")));
    assert!(running["status"]["state"]["running"]["startedAt"].is_string());
    agent.await_end("my-first-task");
    let ended = json_of(&run(example("Get")));
    let ended = &ended["status"]["state"]["terminated"];
    assert_eq!(ended["exitCode"], 0);
    assert_eq!(
        (&ended["reason"], &ended["message"]),
        (&json!("Succeeded"), &json!("Task completed successfully"))
    );
    assert_eq!(
        agent.get("/tasks/my-first-task/logs").text(),
        "Hello from my task!\nTask finished.\n"
    );
    assert_eq!(run(example("Delete")), " 204\n");
    agent.await_gone("my-first-task");
    let set = json_of(&run(example("Synchronize")));
    let names: Vec<_> = set
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["task-alpha", "task-beta"]);
    assert_eq!(set[1]["status"]["state"], json!({"waiting": {"reason": "Initialized"}}));
    agent.await_running("task-alpha");
    agent.await_end("task-beta");
    let list = json_of(&run(example("List")));
    assert!(list[0]["status"]["state"]["running"].is_object());
    assert_eq!(list[1]["status"]["state"]["terminated"]["reason"], "Succeeded");
    run(example("Sidecar"));
    agent.await_end("sidecar-namespace-check");
    assert!(agent.get("/tasks/sidecar-namespace-check/logs").text().contains("pid"));
}

#[test]
fn both_shapes_are_accepted_and_answered() {
    let place = Place::new();
    let agent = Agent::start(&place);
    let flat = json!({"name": "flat", "process": {"command": ["sleep", "1000"]}, "processStatus": {"waiting": {}}});
    let nested = json!({"name": "nested", "spec": {"process": {"command": ["sleep", "1000"]}}, "status": {}});
    let both =
        json!({"name": "both", "process": {"command": ["sleep", "1000"]}, "spec": {"process": {"command": ["false"]}}});
    for task in [flat, nested, both] {
        let name = task["name"].as_str().unwrap();
        let created = agent.ask("POST", "/tasks", &task.to_string()).json();
        for view in [&created["process"], &created["spec"]["process"]] {
            assert_eq!(*view, json!({"command": ["sleep", "1000"]}));
        }
        agent.await_running(name);
        let running = agent.get(&format!("/tasks/{name}")).json();
        assert!(running["processStatus"]["running"].is_object(), "{running}");
        assert_eq!(running["processStatus"], running["status"]["state"]);
    }
}

#[test]
fn refusals_have_their_status_and_change_nothing() {
    let place = Place::new();
    let agent = Agent::start_with(&place, &["--max-tasks=2"]);
    let task = |name: &str| json!({"name": name, "process": {"command": ["true"]}});
    agent.script("there", "exit 0");
    agent.await_end("there");
    let long = "x".repeat(254);
    let post = |path: &str, body: String| agent.ask("POST", path, &body);
    let check = |answer: Answer, status: u16, code: &str| {
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (status, &json!(code)),
            "{answer:?}"
        );
        assert!(
            answer.json()["message"]
                .as_str()
                .is_some_and(|message| !message.is_empty())
        );
    };
    check(post("/tasks", "{".to_owned()), 400, "Bad Request");
    check(post("/tasks", String::new()), 400, "Bad Request");
    for name in ["", "a/b", "..", "a..b", "a\0b", "../../etc/x", &long] {
        check(post("/tasks", task(name).to_string()), 400, "Bad Request");
        check(
            post("/setTasks", json!([task("new"), task(name)]).to_string()),
            400,
            "Bad Request",
        );
    }
    check(
        post("/setTasks", json!([task("a"), task("a")]).to_string()),
        400,
        "Bad Request",
    );
    check(
        post(
            "/tasks",
            json!({"name": "c", "spec": {"container": {"image": "x"}}}).to_string(),
        ),
        400,
        "Bad Request",
    );
    check(agent.get("/tasks/a%2Fb"), 400, "Bad Request");
    check(agent.ask("DELETE", "/tasks/..%2Fx", ""), 400, "Bad Request");
    check(agent.get("/tasks/unknown"), 404, "Not Found");
    check(agent.get("/tasks/unknown/logs"), 404, "Not Found");
    check(agent.get("/nowhere"), 404, "Not Found");
    check(agent.ask("PUT", "/tasks", ""), 405, "Method Not Allowed");
    assert_eq!(agent.ask("PUT", "/tasks", "").header("allow"), Some("GET, POST"));
    check(post("/tasks", task("there").to_string()), 409, "Conflict");
    check(post("/tasks", "x".repeat((16 << 20) + 1)), 413, "Payload Too Large");
    let three = json!([task("a"), task("b"), task("c")]).to_string();
    check(post("/setTasks", three), 429, "Too Many Requests");
    assert_eq!(post("/tasks", task("second").to_string()).status, 201);
    check(post("/tasks", task("third").to_string()), 429, "Too Many Requests");
    assert_eq!(agent.ask("DELETE", "/tasks/unknown", "").status, 204);
    assert_eq!(place.tasks().len(), 2, "nothing was written for what was refused");
    assert_eq!(agent.get("/getTasks").json().as_array().unwrap().len(), 2);
}

#[test]
fn odd_names_are_names() {
    let place = Place::new();
    let agent = Agent::start(&place);
    for (name, path) in [
        ("a b", "a%20b"),
        ("ü☃", "%C3%BC%E2%98%83"),
        ("logs", "logs"),
        ("-rf", "-rf"),
        (".x", ".x"),
        ("%2F", "%252F"),
    ] {
        agent.script(name, "echo $0");
        agent.await_end(name);
        assert_eq!(agent.get(&format!("/tasks/{path}")).json()["name"], *name);
        assert_eq!(agent.get(&format!("/tasks/{path}/logs")).status, 200);
        assert_eq!(agent.ask("DELETE", &format!("/tasks/{path}"), "").status, 204);
        agent.await_gone(name);
    }
}

#[test]
fn the_desired_set_is_what_there_is() {
    let place = Place::new();
    let agent = Agent::start(&place);
    agent.set(&[("a", "exec sleep 1000"), ("b", "exec sleep 1000"), ("done", "exit 3")]);
    for name in ["a", "b"] {
        agent.await_running(name);
    }
    let done = agent.await_end("done");
    let before = agent.get("/tasks/a").json();
    agent.set(&[("a", "exec sleep 1000"), ("c", "exec sleep 1000"), ("done", "exit 3")]);
    agent.await_gone("b");
    agent.await_running("c");
    assert_eq!(agent.get("/tasks/a").json(), before, "an equal task is left alone");
    assert_eq!(agent.await_end("done"), done, "an ended one too");
    agent.set(&[("a", "exec sleep 2000"), ("c", "exec sleep 1000"), ("done", "exit 3")]);
    let changed = |task: &Value| {
        task["process"]["command"][2] == "exec sleep 2000" && task["processStatus"]["running"].is_object()
    };
    let after = agent.await_task("a", changed);
    assert_ne!(after["createdAt"], before["createdAt"], "a changed one is another one");
    agent.set(&[]);
    agent.await_tasks(|tasks| tasks.is_empty().then_some(()));
    assert!(place.tasks().is_empty());
}

/// A script that adds its process to a file and goes on as `what`.
fn noting(file: &Path, what: &str) -> String {
    format!("echo $$ >> {}; {what}", file.display())
}

/// One invalid entry, too many of them, or one that cannot be accepted now, beside a change of everything that is there.
#[test]
fn a_refused_set_changes_nothing() {
    let place = Place::new();
    let agent = Agent::start_with(&place, &["--max-tasks=3"]);
    let file = |name: &str| place.path().join(name);
    let names = ["a", "b"];
    for name in names {
        agent.script(name, &noting(&file(name), "exec sleep 1000"));
    }
    let processes = names.map(|name| await_pid(&file(name)));
    names.iter().for_each(|name| agent.await_running(name));
    let before = agent.get("/tasks").json();
    let replaced = json!({"name": "a", "process": {"command": ["sh", "-c", noting(&file("a"), "exec sleep 2000")]}});
    let created = json!({"name": "c", "process": {"command": ["sh", "-c", noting(&file("c"), "exit 0")]}});
    let refuse = |status: u16, entry: Value| {
        let all = [&replaced, &created].into_iter().chain(entry.as_array().unwrap());
        let set = Value::from_iter(all.cloned()).to_string();
        let answer = agent.ask("POST", "/setTasks", &set);
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(agent.get("/tasks").json(), before, "not even the version, after {set}");
    };
    for invalid in [
        json!({}),
        json!({"name": "d"}),
        json!({"name": "d", "process": {}}),
        json!({"name": "d", "process": {"command": []}}),
        json!({"name": "d", "process": {"command": "true"}}),
        json!({"name": "d", "process": {"command": ["true"], "timeoutSeconds": -1}}),
        json!({"name": "d", "process": {"command": ["true"], "env": [{"name": "A=B"}]}}),
        json!({"name": "d", "process": {"command": ["true"]}, "container": {"image": "x"}}),
        json!({"name": "d", "spec": {"container": {"image": "x"}}}),
        json!({"name": "../d", "process": {"command": ["true"]}}),
        json!({"name": "c", "process": {"command": ["true"]}}),
        json!("d"),
    ] {
        refuse(400, json!([invalid]));
    }
    let more = ["d", "e"].map(|name| json!({"name": name, "process": {"command": ["true"]}}));
    refuse(429, json!(more));
    agent.ask("POST", "/drain", "");
    let before = agent.get("/tasks").json();
    let answer = agent.ask("POST", "/setTasks", &json!([replaced, created]).to_string());
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(agent.get("/tasks").json(), before);
    for (name, process) in names.into_iter().zip(processes) {
        assert!(is_alive(process));
        assert_eq!(fs::read_to_string(file(name)).unwrap(), format!("{process}\n"));
    }
    assert!(!file("c").exists());
}

#[test]
fn a_hundred_repeats_change_nothing() {
    let place = Place::new();
    let agent = Agent::start(&place);
    let files = ["a", "b", "c"].map(|name| place.path().join(name));
    let [a, b, c] =
        [(0, "exec sleep 1000"), (1, "exit 1"), (2, "exec sleep 1000")].map(|(one, what)| noting(&files[one], what));
    let desired = [("a", a.as_str()), ("b", b.as_str()), ("c", c.as_str())];
    agent.set(&desired);
    agent.await_running("a");
    agent.await_running("c");
    agent.await_end("b");
    let processes: Vec<_> = files.iter().map(|file| await_pid(file)).collect();
    await_true("the end of the supervisor that is not needed any more", || {
        children(agent.pid()).len() == 2
    });
    let before = agent.get("/tasks").json();
    let mut supervisors = children(agent.pid());
    supervisors.sort_unstable();
    for _ in 0..100 {
        agent.set(&desired);
    }
    assert_eq!(agent.get("/tasks").json(), before, "not even the version");
    let mut after = children(agent.pid());
    after.sort_unstable();
    assert_eq!(after, supervisors);
    for (file, process) in files.iter().zip(&processes) {
        assert_eq!(fs::read_to_string(file).unwrap(), format!("{process}\n"), "it ran once");
    }
    assert!(is_alive(processes[0]) && is_alive(processes[2]));
}

#[test]
fn a_waiting_client_hears_of_an_end_at_once() {
    let place = Place::new();
    let agent = Agent::start(&place);
    let gate = place.path().join("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
    agent.script("t", &format!("read line < {}", gate.display()));
    agent.await_running("t");
    let version = agent.get("/tasks").json()["version"].as_u64().unwrap();
    let address = agent.address.clone();
    let client = std::thread::spawn(move || {
        let answer = super::http::ask(&address, "GET", &format!("/tasks?wait=30s&since={version}"), b"").unwrap();
        (Instant::now(), answer.json())
    });
    fs::write(&gate, "go\n").unwrap();
    let begun = Instant::now();
    let (heard, listing) = client.join().unwrap();
    assert!(listing["tasks"][0]["processStatus"]["terminated"].is_object());
    // The benchmark measures how soon; this is about not waiting for an interval.
    assert!(heard.duration_since(begun) < Duration::from_secs(5));
}

#[test]
fn polls_end_in_time_and_versions_of_other_lives_do_not_hang() {
    let place = Place::new();
    let agent = Agent::start(&place);
    let version = agent.get("/tasks").json()["version"].as_u64().unwrap();
    let begun = Instant::now();
    let listing = agent.get(&format!("/tasks?wait=100ms&since={version}")).json();
    assert_eq!(listing["version"], version);
    assert!(begun.elapsed() >= Duration::from_millis(100));
    let begun = Instant::now();
    for other in [0, version - 1, version + 1_000_000] {
        agent.get(&format!("/tasks?wait=30&since={other}"));
    }
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(agent.get("/tasks?wait=soon&since=1").status, 400);
    agent.kill();
    let agent = Agent::start(&place);
    assert!(agent.get("/tasks").json()["version"].as_u64().unwrap() > version);
}

#[test]
fn draining_refuses_new_tasks_and_lets_the_others_go_on() {
    let place = Place::new();
    let agent = Agent::start(&place);
    let gate = place.path().join("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
    agent.script("t", &format!("read line < {}", gate.display()));
    agent.await_running("t");
    assert_eq!((agent.get("/ready").status, agent.get("/health").status), (200, 200));
    assert_eq!(
        agent.ask("POST", "/drain", "").json(),
        json!({"draining": true, "active": 1})
    );
    assert_eq!((agent.get("/ready").status, agent.get("/health").status), (503, 200));
    let refused = agent.ask(
        "POST",
        "/tasks",
        &json!({"name": "n", "process": {"command": ["true"]}}).to_string(),
    );
    assert_eq!(
        (refused.status, &refused.json()["code"]),
        (503, &json!("Service Unavailable"))
    );
    // A set that asks for nothing new is not refused.
    let script = format!("read line < {}", gate.display());
    let set = |tasks: &[(&str, &str)]| {
        let tasks: Vec<_> = tasks
            .iter()
            .map(|(name, script)| json!({"name": name, "process": {"command": ["sh", "-c", script]}}))
            .collect();
        agent.ask("POST", "/setTasks", &Value::from(tasks).to_string()).status
    };
    assert_eq!(set(&[("t", &script)]), 200);
    assert_eq!(set(&[("t", &script), ("n", "exit 0")]), 503);
    assert_eq!(set(&[("t", "exit 0")]), 503);
    agent.await_running("t");
    fs::write(&gate, "go\n").unwrap();
    assert_eq!(agent.await_end("t")["exitCode"], 0);
}

#[test]
fn metrics_count() {
    let place = Place::new();
    let agent = Agent::start(&place);
    agent.script("t", "exit 1");
    agent.await_end("t");
    let metrics = agent.get("/metrics");
    assert!(
        metrics
            .header("content-type")
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    let text = metrics.text();
    for line in [
        "podrun_agent_tasks{state=\"terminated\"} 1",
        "podrun_agent_tasks_created_total 1",
        "podrun_agent_tasks_started_total 1",
        "podrun_agent_tasks_ended_total{reason=\"Failed\"} 1",
        "podrun_agent_draining 0",
    ] {
        assert!(text.lines().any(|there| there == line), "{line}: {text}");
    }
}

/// Every body is sent alone and in a set, and [`description::check`] compares the answer with what the schema says.
#[test]
fn bodies_are_accepted_that_are_as_described_and_no_others() {
    let place = Place::new();
    let agent = Agent::start(&place);
    let process = |more: Value| {
        let mut process = json!({"command": ["true"]});
        process
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({"name": "t", "process": process})
    };
    let container = |more: Value| {
        let mut container = json!({"image": "busybox"});
        container
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({"name": "t", "spec": {"container": container}})
    };
    let nothing = json!({});
    let mounts = |mount: Value| container(json!({"volumeMounts": [mount]}));
    let good = [
        process(nothing.clone()),
        process(
            json!({"command": ["true", ""], "args": [""], "env": [{"name": "A"}, {"name": "A", "value": "=\n"}], "workingDir": ""}),
        ),
        process(json!({"timeoutSeconds": 0, "terminationGracePeriodSeconds": 3_155_760_000_u64, "unknown": 1})),
        json!({"name": "t", "spec": {"process": {"command": ["true"]}, "unknown": 1}, "status": {}, "unknown": {}}),
        json!({"name": "t", "process": {"command": ["true"]}, "processStatus": {"waiting": {}}, "spec": {}}),
        json!({"name": "a.b -\u{fc}\u{2603}".repeat(20), "process": {"command": ["true"]}}),
    ];
    let of_containers = [
        container(nothing.clone()),
        json!({"name": "t", "container": {"image": "x"}, "spec": {"process": {"command": ["true"]}}}),
        container(json!({"command": [], "args": ["a"], "workingDir": "/", "timeoutSeconds": 1})),
        mounts(json!({"name": "a", "mountPath": "/a", "subPath": "a/..b", "readOnly": true})),
    ];
    let bad = [
        json!(null),
        json!([[]]),
        json!({"name": "t"}),
        json!({"name": "t", "spec": {}}),
        json!({"name": "t", "podTemplateSpec": {}}),
        json!({"name": "t", "process": {"command": ["true"]}, "container": {"image": "x"}}),
        json!({"name": "t", "spec": {"process": {"command": ["true"]}, "container": {"image": "x"}}}),
        json!({"process": {"command": ["true"]}}),
        json!({"name": 1, "process": {"command": ["true"]}}),
        json!({"name": ".", "process": {"command": ["true"]}}),
        json!({"name": "a\u{85}", "process": {"command": ["true"]}}),
        json!({"name": "t", "process": {}}),
        process(json!({"command": []})),
        process(json!({"command": [""]})),
        process(json!({"command": "true"})),
        process(json!({"command": ["true", "a\0b"]})),
        process(json!({"args": [1]})),
        process(json!({"args": ["\0"]})),
        process(json!({"env": {"A": "b"}})),
        process(json!({"env": [{"name": ""}]})),
        process(json!({"env": [{"name": "A=B"}]})),
        process(json!({"env": [{"name": "A\0"}]})),
        process(json!({"env": [{"name": "A", "value": 1}]})),
        process(json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {}}}]})),
        process(json!({"workingDir": "/\0"})),
        process(json!({"timeoutSeconds": -1})),
        process(json!({"timeoutSeconds": 1.5})),
        process(json!({"timeoutSeconds": 3_155_760_001_u64})),
        process(json!({"terminationGracePeriodSeconds": "1"})),
        json!({"name": "t", "spec": {"container": {}}}),
        container(json!({"image": ""})),
        container(json!({"image": "a\0"})),
        container(json!({"env": [{}]})),
        container(json!({"timeoutSeconds": -1})),
        mounts(json!({"name": "a"})),
        mounts(json!({"name": "", "mountPath": "/a"})),
        mounts(json!({"name": "a", "mountPath": "a"})),
        mounts(json!({"name": "a", "mountPath": "/a", "subPath": "/a"})),
        mounts(json!({"name": "a", "mountPath": "/a", "subPath": "a/../b"})),
        mounts(json!({"name": "a", "mountPath": "/a", "readOnly": "yes"})),
    ];
    let post = |path: &str, body: &Value| agent.ask("POST", path, &body.to_string());
    for task in good {
        assert_eq!(post("/setTasks", &json!([task])).status, 200, "{task}");
        agent.set(&[]);
        agent.await_tasks(|tasks| tasks.is_empty().then_some(()));
        assert_eq!(post("/tasks", &task).status, 201, "{task}");
        agent.set(&[]);
        agent.await_tasks(|tasks| tasks.is_empty().then_some(()));
    }
    for task in of_containers {
        for answer in [post("/tasks", &task), post("/setTasks", &json!([task]))] {
            let message = answer.json()["message"].to_string();
            assert!(message.contains("--enable-container-mode"), "{task}: {message}");
        }
    }
    for task in bad {
        assert_eq!(post("/tasks", &task).status, 400, "{task}");
        assert_eq!(post("/setTasks", &json!([task])).status, 400, "{task}");
    }
    for set in [json!({}), json!(null), json!("t")] {
        assert_eq!(post("/setTasks", &set).status, 400, "{set}");
    }
}

#[test]
fn every_answer_that_is_described_is_given() {
    let place = Place::new();
    let agent = Agent::start_with(&place, &["--max-tasks=3", "--max-active-tasks=2"]);
    let mut seen = std::collections::BTreeSet::new();
    let mut check_of = |agent: &Agent, method: &str, path: &str, body: &str, status: u16| {
        let answer = agent.ask(method, path, body);
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        seen.extend(description::check(method, path, body.as_bytes(), &answer));
    };
    let mut check = |method: &str, path: &str, body: &str, status: u16| check_of(&agent, method, path, body, status);
    let task = |name: &str, script: &str| {
        json!({"name": name, "process": {"command": ["sh", "-c", script], "args": ["a"], "env": [{"name": "A", "value": "b"}],
            "workingDir": "/", "timeoutSeconds": 1000, "terminationGracePeriodSeconds": 1}})
        .to_string()
    };
    check("GET", "/health", "", 200);
    check("GET", "/ready", "", 200);
    check("POST", "/tasks", &task("running", "exec sleep 1000"), 201);
    check("POST", "/tasks", &task("ended", "kill $$"), 201);
    agent.await_running("running");
    agent.await_end("ended");
    check("POST", "/tasks", "{", 400);
    check("POST", "/tasks", &task("ended", ""), 409);
    check("POST", "/tasks", &"x".repeat((16 << 20) + 1), 413);
    for name in ["running", "ended"] {
        check("GET", &format!("/tasks/{name}"), "", 200);
    }
    check("GET", "/tasks/x", "", 404);
    check("GET", "/tasks/..%2f", "", 400);
    check("DELETE", "/tasks/..%2f", "", 400);
    check("GET", "/tasks/ended/logs", "", 200);
    check("GET", "/tasks/ended/logs?stream=x", "", 400);
    check("GET", "/tasks/x/logs", "", 404);
    let set = |count: usize| {
        let tasks =
            (0..count).map(|one| format!(r#"{{"name": "s{one}", "process": {{"command": ["sleep", "1000"]}}}}"#));
        format!("[{}]", tasks.collect::<Vec<_>>().join(","))
    };
    check("POST", "/setTasks", &set(4), 429);
    check("POST", "/setTasks", &set(3), 200);
    check("POST", "/setTasks", "{}", 400);
    check("POST", "/setTasks", &"x".repeat((16 << 20) + 1), 413);
    check("GET", "/tasks", "", 200);
    check("GET", "/tasks?since=x", "", 400);
    check("GET", "/getTasks", "", 200);
    agent.await_tasks(|tasks| (tasks.len() == 3).then_some(()));
    check("POST", "/tasks", &task("fourth", ""), 429);
    check("DELETE", "/tasks/s0", "", 204);
    check("GET", "/metrics", "", 200);
    check("GET", "/openapi.yaml", "", 200);
    check("POST", "/drain", "", 200);
    check("GET", "/ready", "", 503);
    check("POST", "/tasks", &task("late", ""), 503);
    check("POST", "/setTasks", &set(1), 503);
    // A disk that fails, and a client without the token: on agents of their own.
    let broken_place = Place::new();
    let broken = Agent::start(&broken_place);
    for name in ["t", "u"] {
        broken.script(name, "exit 0");
        broken.await_end(name);
    }
    await_true("the end of the supervisors", || children(broken.pid()).is_empty());
    let (tasks, away) = (broken_place.data().join("tasks"), broken_place.path().join("away"));
    std::fs::rename(&tasks, &away).unwrap();
    std::fs::write(&tasks, "not a folder").unwrap();
    let guarded_place = Place::new();
    let token = guarded_place.path().join("token");
    std::fs::write(&token, "secret").unwrap();
    let guarded = Agent::start_with(&guarded_place, &[&format!("--token-file={}", token.display())]);
    check_of(&broken, "POST", "/tasks", &task("new", ""), 500);
    check_of(&broken, "GET", "/tasks/t/logs", "", 500);
    check_of(&broken, "DELETE", "/tasks/t", "", 500);
    check_of(&broken, "POST", "/setTasks", "[]", 500);
    std::fs::remove_file(&tasks).unwrap();
    std::fs::rename(&away, &tasks).unwrap();
    broken.await_gone("t");
    for (method, path) in [
        ("GET", "/tasks"),
        ("POST", "/tasks"),
        ("GET", "/tasks/t"),
        ("DELETE", "/tasks/t"),
        ("GET", "/tasks/t/logs"),
        ("POST", "/setTasks"),
        ("GET", "/getTasks"),
        ("POST", "/drain"),
        ("GET", "/metrics"),
        ("GET", "/openapi.yaml"),
    ] {
        check_of(&guarded, method, path, "", 401);
    }
    for (method, path, status) in [("PUT", "/tasks", 405), ("GET", "/nowhere", 404)] {
        check_of(&agent, method, path, "", status);
    }
    // A body has a minute to arrive.
    let described = description::all().filter(|(_, _, status)| status != "408");
    assert_eq!(seen, described.collect());
}
