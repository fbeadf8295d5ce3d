//! What the agent costs. `PODRUN_AGENT_PROGRAM` names the delivered program; the result is one line of JSON.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::agent::{Agent, Place, children, program};

#[test]
#[ignore = "a benchmark"]
fn bench() {
    let (to_running, to_known) = latencies();
    let result = json!({
        "postToRunningMs": summary(to_running),
        "exitToKnownMs": summary(to_known),
        "startsPerSecond": starts_per_second(),
        "fsyncMs": summary(fsyncs()),
        "pssKiB": memory(),
        "binaryBytes": fs::metadata(program()).unwrap().len(),
    });
    println!("{result}");
}

/// Whoever measures has no time to look at the description.
fn unchecked(mut agent: Agent) -> Agent {
    agent.checks = false;
    agent
}

fn summary(mut times: Vec<Duration>) -> Value {
    times.sort();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1000.0;
    json!({"min": at(0), "median": at(50), "p95": at(95), "max": at(100), "n": times.len()})
}

/// From the request to a client's knowing that the task runs; from a task's end to a waiting client's knowing of it.
fn latencies() -> (Vec<Duration>, Vec<Duration>) {
    let place = Place::new();
    let agent = unchecked(Agent::start(&place));
    let gate = place.path().join("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut to_running = Vec::new();
    let mut to_known = Vec::new();
    for round in 0..60 {
        let name = format!("t{round}");
        let begun = Instant::now();
        agent.create(&name, json!({"command": ["/usr/bin/head", "-c", "1", gate]}));
        agent.await_running(&name);
        to_running.push(begun.elapsed());
        let version = agent.get("/tasks").json()["version"].as_u64().unwrap();
        let address = agent.address.clone();
        let client = std::thread::spawn(move || {
            super::http::ask(&address, "GET", &format!("/tasks?wait=30s&since={version}"), b"").unwrap();
            Instant::now()
        });
        // The client has to be waiting; opening waits for the program.
        std::thread::sleep(Duration::from_millis(20));
        fs::write(&gate, "x").unwrap();
        let ended = Instant::now();
        to_known.push(client.join().unwrap().saturating_duration_since(ended));
        agent.await_end(&name);
        agent.delete(&name);
        agent.await_gone(&name);
    }
    (to_running, to_known)
}

/// What the disk takes to make one small file last: a start needs that for the task, its folder and its claim.
fn fsyncs() -> Vec<Duration> {
    let place = Place::new();
    let fsync = |number: u32| {
        let begun = Instant::now();
        let mut file = fs::File::create(place.path().join(number.to_string())).unwrap();
        std::io::Write::write_all(&mut file, b"a record").unwrap();
        file.sync_all().unwrap();
        begun.elapsed()
    };
    (0..60).map(fsync).collect()
}

/// 200 tasks at once, of which 20 may run.
fn starts_per_second() -> Value {
    let mut rates: Vec<f64> = (0..5)
        .map(|_| {
            let place = Place::new();
            let agent = unchecked(Agent::start_with(&place, &["--max-active-tasks=20"]));
            let tasks: Vec<_> = (0..200)
                .map(|one| json!({"name": format!("t{one}"), "process": {"command": ["/bin/true"]}}))
                .collect();
            let begun = Instant::now();
            assert_eq!(
                agent.ask("POST", "/setTasks", &Value::from(tasks).to_string()).status,
                200
            );
            agent.await_tasks(|tasks| {
                tasks
                    .iter()
                    .all(|task| task["processStatus"]["terminated"].is_object())
                    .then_some(())
            });
            200.0 / begun.elapsed().as_secs_f64()
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    json!({"min": rates[0], "median": rates[2], "max": rates[4], "n": rates.len()})
}

/// The agent's share of memory, and that of its supervisors.
fn memory() -> Value {
    let place = Place::new();
    let agent = unchecked(Agent::start(&place));
    agent.get("/health");
    let idle = pss(agent.pid());
    for one in 0..100 {
        agent.create(&format!("t{one}"), json!({"command": ["/bin/sleep", "1000"]}));
    }
    agent.await_tasks(|tasks| {
        tasks
            .iter()
            .all(|task| task["processStatus"]["running"].is_object())
            .then_some(())
    });
    let supervisors: Vec<_> = children(agent.pid()).into_iter().collect();
    assert_eq!(supervisors.len(), 100);
    let server = pss(agent.pid());
    let above: u64 = supervisors.iter().map(|pid| pss(*pid)).sum();
    json!({"idle": idle, "agentWith100": server, "supervisors100": above, "allWith100": server + above})
}

fn pss(pid: i32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup.lines().find(|line| line.starts_with("Pss:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}
