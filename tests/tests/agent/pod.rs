//! A pod of one of the manifests, ways to its agent, and ways to harm it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use podrun_tests::faults::{Place, variable};
use podrun_tests::skip;
use serde_json::{Value, json};

use super::http::{self, Answer};

/// Longer than anything that goes well takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) const PORT: u16 = 5758;
pub(crate) const TOKEN: &str = "t0ken-of-the-tests";

/// A pod in a namespace of its own.
pub(crate) struct Pod {
    pub(crate) place: Place,
    pub(crate) name: String,
}

impl Pod {
    /// Deploys `examples/agent/NAME.yaml` as its first lines say, and waits until its agent is ready.
    pub(crate) fn deploy(name: &str) -> Self {
        Self::deploy_changed(name, &[])
    }

    /// The same with some of its text replaced, each of which must be there.
    pub(crate) fn deploy_changed(name: &str, changes: &[(&str, &str)]) -> Self {
        let pod = Self::create(name, changes);
        pod.await_ready();
        pod
    }

    /// What a container says that does not start.
    pub(crate) fn refused(name: &str, changes: &[(&str, &str)], container: &str) -> String {
        let pod = Self::create(name, changes);
        let begun = Instant::now();
        loop {
            // It is started again and again: what it says now, or what it said last.
            let said = ["", "--previous"].map(|which| {
                let arguments = ["logs", &pod.name, "-c", container, which];
                let arguments: Vec<_> = arguments.into_iter().filter(|argument| !argument.is_empty()).collect();
                pod.place.kubectl(&arguments).unwrap_or_default()
            });
            if let Some(said) = said.into_iter().find(|said| said.contains("error: ")) {
                return said;
            }
            assert!(begun.elapsed() < PATIENCE, "{:#}", pod.get()["status"]);
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn create(name: &str, changes: &[(&str, &str)]) -> Self {
        let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/agent");
        let mut manifest = fs::read_to_string(format!("{examples}/{name}.yaml")).unwrap();
        for (from, to) in changes {
            assert!(manifest.contains(from), "{name}.yaml has no `{from}`");
            manifest = manifest.replace(from, to);
        }
        // A node that was tested on before has what the image was then.
        manifest = manifest.replace("imagePullPolicy: IfNotPresent", "imagePullPolicy: Always");
        let place = Place::new(&format!("agent-{name}")).unwrap();
        let secret = ["create", "secret", "generic", "agent-token"];
        let token = format!("--from-literal=token={TOKEN}");
        place.kubectl(&[&secret[..], &[&token]].concat()).unwrap();
        let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
        fs::write(file.path(), manifest).unwrap();
        place.kubectl(&["apply", "-f", file.path().to_str().unwrap()]).unwrap();
        Self {
            place,
            name: format!("agent-{name}"),
        }
    }

    pub(crate) fn await_ready(&self) {
        let pod = format!("pod/{}", self.name);
        let ready = self
            .place
            .kubectl(&["wait", "--for=condition=Ready", &pod, "--timeout=90s"]);
        if let Err(error) = ready {
            let log = self
                .place
                .kubectl(&["logs", &self.name, "--all-containers", "--prefix"]);
            panic!("{error:#}\n{:#}\n{}", self.get()["status"], log.unwrap_or_default());
        }
    }

    pub(crate) fn get(&self) -> Value {
        let text = self.place.kubectl(&["get", "pod", &self.name, "-o", "json"]).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// The agent by the pod's own address.
    pub(crate) fn by_address(&self) -> Agent {
        let address = self.get()["status"]["podIP"].as_str().unwrap().to_owned();
        Agent::at(format!("{address}:{PORT}"))
    }

    /// The agent through the API server, as long as the answer is kept.
    pub(crate) fn by_port_forward(&self) -> (Agent, Forward) {
        let kubectl = variable("PODRUN_KUBECTL").unwrap_or_else(|_| "kubectl".into());
        let mut command = Command::new(kubectl);
        command.args(["--namespace", &self.place.namespace, "port-forward"]);
        command.arg(format!("pod/{}", self.name)).arg(format!(":{PORT}"));
        let child = command
            .env("KUBECONFIG", variable("KUBECONFIG").unwrap())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        let mut forward = Forward { child: child.unwrap() };
        let mut line = String::new();
        let stdout = forward.child.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let port = line
            .strip_prefix("Forwarding from 127.0.0.1:")
            .and_then(|rest| rest.split(' ').next());
        let port = port.unwrap_or_else(|| panic!("kubectl port-forward said {line:?}"));
        (Agent::at(format!("127.0.0.1:{port}")), forward)
    }

    /// Kills the first process of a container from the node, and waits until the kubelet has started the container again
    /// and the agent is ready. False where the node is not this machine.
    pub(crate) fn kill_container(&self, container: &str) -> bool {
        self.end_container(container, "KILL")
    }

    /// The same with another signal.
    pub(crate) fn end_container(&self, container: &str, signal: &str) -> bool {
        if variable("PODRUN_TEST_CLUSTER_DIR").is_err() {
            skip("the node is not this machine, so that nothing on it can be killed");
            return false;
        }
        let before = self.restarts(container);
        let first = self.processes(container).remove(0);
        let killed = Command::new("kill")
            .args(["-s", signal, &first.to_string()])
            .status()
            .unwrap();
        assert!(killed.success());
        let begun = Instant::now();
        while self.restarts(container) == before {
            assert!(begun.elapsed() < PATIENCE, "{:#}", self.get()["status"]);
            std::thread::sleep(Duration::from_millis(100));
        }
        self.await_ready();
        true
    }

    /// Kills the server below the first process of the agent's container from the node, and waits until another one answers.
    /// False where the node is not this machine.
    pub(crate) fn kill_server(&self, container: &str, agent: &Agent) -> bool {
        if variable("PODRUN_TEST_CLUSTER_DIR").is_err() {
            skip("the node is not this machine, so that nothing on it can be killed");
            return false;
        }
        let server = || {
            let is_server = |pid: &i32| {
                let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                line.contains("--listen-addr") && !line.contains("\0supervise\0")
            };
            let first = self.processes(container)[0];
            self.processes(container)
                .into_iter()
                .find(|pid| *pid != first && is_server(pid))
        };
        let before = server().unwrap();
        let killed = Command::new("kill")
            .args(["-KILL", &before.to_string()])
            .status()
            .unwrap();
        assert!(killed.success());
        let begun = Instant::now();
        while server().is_none_or(|there| there == before) || !agent.answers() {
            assert!(begun.elapsed() < PATIENCE, "no other server answers");
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }

    fn status(&self, container: &str) -> Value {
        let pod = self.get();
        let statuses = pod["status"]["containerStatuses"].as_array().unwrap();
        let status = statuses.iter().find(|status| status["name"] == container);
        status.unwrap_or_else(|| panic!("{pod:#}")).clone()
    }

    pub(crate) fn restarts(&self, container: &str) -> u64 {
        self.status(container)["restartCount"].as_u64().unwrap()
    }

    /// A container's processes as the node numbers them, the first one first.
    pub(crate) fn processes(&self, container: &str) -> Vec<i32> {
        let id = self.status(container)["containerID"].as_str().unwrap().to_owned();
        let id = id.rsplit('/').next().unwrap();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            let file = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
            if file("cgroup").contains(id) {
                let stat = file("stat");
                let start = stat
                    .rsplit(')')
                    .next()
                    .and_then(|rest| rest.split(' ').nth(20)?.parse::<u64>().ok());
                found.extend(start.map(|start| (start, pid)));
            }
        }
        found.sort_unstable();
        assert!(
            !found.is_empty(),
            "container {container} has no process on this machine"
        );
        found.into_iter().map(|(_, pid)| pid).collect()
    }
}

/// A port of this machine that leads to the pod's.
pub(crate) struct Forward {
    child: Child,
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An agent that can be asked.
pub(crate) struct Agent {
    address: String,
}

impl Agent {
    fn at(address: String) -> Self {
        Self { address }
    }

    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let token = format!("Bearer {TOKEN}");
        http::ask_with(
            &self.address,
            method,
            path,
            &[("authorization", &token)],
            body.as_bytes(),
        )
        .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    fn answers(&self) -> bool {
        http::ask(&self.address, "GET", "/health", b"").is_ok_and(|answer| answer.status == 200)
    }

    /// Makes the tasks the desired ones, each of which is a script.
    pub(crate) fn set(&self, tasks: &[(&str, &str)]) -> Answer {
        let task = |(name, script): &(&str, &str)| json!({"name": name, "spec": {"process": {"command": ["sh", "-c", script]}}});
        self.ask("POST", "/setTasks", &tasks.iter().map(task).collect())
    }

    /// Asks as somebody who does not know the token.
    pub(crate) fn ask_as_stranger(&self, path: &str) -> Answer {
        http::ask(&self.address, "GET", path, b"").unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &Value::Null)
    }

    /// Creates a task, which must be accepted.
    #[track_caller]
    pub(crate) fn create(&self, name: &str, command: &[&str]) {
        let answer = self.ask(
            "POST",
            "/tasks",
            &json!({"name": name, "process": {"command": command}}),
        );
        assert_eq!(answer.status, 201, "{answer:?}");
    }

    #[track_caller]
    pub(crate) fn delete(&self, name: &str) {
        assert_eq!(self.ask("DELETE", &format!("/tasks/{name}"), &Value::Null).status, 204);
    }

    /// Waits until the tasks are as wanted, and answers what was found.
    #[track_caller]
    pub(crate) fn await_some<T>(&self, wanted: impl Fn(&[Value]) -> Option<T>) -> T {
        let begun = Instant::now();
        let mut version = 0;
        loop {
            let listing = self.get(&format!("/tasks?wait=2s&since={version}")).json();
            if let Some(found) = wanted(listing["tasks"].as_array().unwrap()) {
                return found;
            }
            assert!(begun.elapsed() < PATIENCE, "{listing:#}");
            version = listing["version"].as_u64().unwrap();
        }
    }

    /// Waits until a task is in a state, and answers it.
    #[track_caller]
    pub(crate) fn await_state(&self, name: &str, state: &str) -> Value {
        self.await_some(|tasks| {
            let task = tasks.iter().find(|task| task["name"] == name)?;
            let state = &task["processStatus"][state];
            (!state.is_null()).then(|| state.clone())
        })
    }

    #[track_caller]
    pub(crate) fn await_gone(&self, name: &str) {
        self.await_some(|tasks| tasks.iter().all(|task| task["name"] != name).then_some(()));
    }

    pub(crate) fn log(&self, name: &str) -> String {
        self.get(&format!("/tasks/{name}/logs")).text()
    }

    /// Waits until a task has printed this.
    #[track_caller]
    pub(crate) fn await_log(&self, name: &str, text: &str) {
        let begun = Instant::now();
        while !self.log(name).contains(text) {
            assert!(begun.elapsed() < PATIENCE, "{:?}", self.log(name));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
