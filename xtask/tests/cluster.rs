//! What `cargo xtask cluster` promises, tried on clusters that these tests make and take down.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(120);

/// A cluster of a test, taken down with it. The name says whose it is, so that the next test run removes what a killed one
/// leaves.
struct Cluster {
    name: String,
    folder: PathBuf,
}

impl Cluster {
    fn named(name: &str) -> Self {
        let name = format!("test-{}-{name}", std::process::id());
        let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
        let state = state.unwrap_or_else(|| std::env::home_dir().unwrap().join(".local/state"));
        Self {
            folder: state.join("podrun/clusters").join(&name),
            name,
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.arg("cluster").args(arguments).args(["--name", &self.name]);
        command
    }

    fn up(&self) {
        succeed(&mut self.command(&["up"]));
    }

    fn kubectl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command
            .args(["kubectl", "--name", &self.name])
            .args(arguments)
            .output()
            .unwrap()
    }

    /// What kubectl prints when it succeeds.
    fn get(&self, arguments: &[&str]) -> String {
        let output = self.kubectl(arguments);
        assert!(
            output.status.success(),
            "kubectl {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Creates a pod of one container; `patch` is merged into that container.
    fn run(&self, pod: &str, image: &str, script: &str, patch: Value) {
        let mut container = serde_json::json!({ "name": "main", "image": image, "command": ["sh", "-c", script] });
        for (key, value) in patch.as_object().into_iter().flatten() {
            container[key] = value.clone();
        }
        let manifest = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": pod },
            "spec": { "restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container] },
        });
        let file = self.folder.join(format!("{pod}.json"));
        fs::write(&file, manifest.to_string()).unwrap();
        self.get(&["create", "-f", file.to_str().unwrap()]);
    }

    /// Waits until the container's state has what `pick` asks for.
    fn until<T>(&self, pod: &str, pick: impl Fn(&Value) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let object: Value = serde_json::from_str(&self.get(&["get", "pod", pod, "-o", "json"])).unwrap();
            if let Some(found) = pick(&object["status"]["containerStatuses"][0]) {
                return found;
            }
            assert!(Instant::now() < deadline, "pod {pod} stays {:#}", object["status"]);
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn until_ended(&self, pod: &str) -> Value {
        self.until(pod, |status| status["state"].get("terminated").cloned())
    }

    /// The running container's identity.
    fn until_running(&self, pod: &str) -> String {
        self.until(pod, |status| {
            status["state"]
                .get("running")
                .and(status["containerID"].as_str())
                .map(str::to_owned)
        })
    }

    /// What `up` decided.
    fn decisions(&self) -> Value {
        serde_json::from_slice(&fs::read(self.folder.join("cluster.json")).unwrap()).unwrap()
    }

    fn bridge(&self) -> String {
        format!("podrun{}", self.decisions()["slot"])
    }

    /// The processes that pid files name.
    fn components(&self) -> Vec<u32> {
        let files = fs::read_dir(self.folder.join("run")).into_iter().flatten().flatten();
        let files = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "pid"));
        files.map(|file| pid(&fs::read(file.path()).unwrap())).collect()
    }

    /// Whether a control group of this name is the cluster's: its name, and eight digits for its folder.
    fn owns(&self, group: &str) -> bool {
        let digits = group.strip_prefix(&format!("podrun-{}-", self.name));
        digits.is_some_and(|digits| digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
    }

    /// Every process that belongs to the cluster: components, shims, and what runs in containers.
    fn processes(&self) -> Vec<u32> {
        let tag = format!("PODRUN_CLUSTER={}", self.folder.display());
        let belongs = |pid: &u32| {
            // Who is dead and waits to be reaped is init's affair.
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if stat
                .rsplit(") ")
                .next()
                .is_none_or(|fields| fields.starts_with(['Z', 'X']))
            {
                return false;
            }
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|entry| entry == tag.as_bytes())
                || groups.split(['/', '\n']).any(|group| self.owns(group))
        };
        let entries = fs::read_dir("/proc").unwrap().flatten();
        entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(belongs)
            .collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let output = self.command(&["down"]).output().unwrap();
        if !thread::panicking() {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

fn pid(file: &[u8]) -> u32 {
    let file: Value = serde_json::from_slice(file).unwrap();
    file["process"]["pid"].as_u64().unwrap().try_into().unwrap()
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn kill(processes: &[u32]) {
    let numbers = processes.iter().map(u32::to_string);
    // Some may have ended by themselves meanwhile.
    let _ = Command::new("kill")
        .arg("-9")
        .args(numbers)
        .stderr(Stdio::null())
        .status()
        .unwrap();
}

#[test]
#[ignore = "needs root and makes a cluster"]
fn pods_run_and_every_image_comes_from_the_clusters_own_registry() {
    let cluster = Cluster::named("pods");
    cluster.up();
    let printed = succeed(&mut cluster.command(&["up"]));
    assert_eq!(
        printed,
        format!("export KUBECONFIG={}", cluster.folder.join("kubeconfig").display())
    );

    cluster.run("hello", "busybox", "echo hello; id -u", Value::Null);
    assert_eq!(cluster.until_ended("hello")["exitCode"], 0);
    assert_eq!(cluster.get(&["logs", "hello"]), "hello\n0");

    // The API server answers at the node's address, as a pod sees it.
    let decisions = cluster.decisions();
    let address = format!("10.{}.0.1", 176 + decisions["slot"].as_u64().unwrap());
    cluster.run(
        "inside",
        "busybox",
        &format!("nc -w 5 {address} {} </dev/null", decisions["ports"]["api"]),
        Value::Null,
    );
    assert_eq!(cluster.until_ended("inside")["exitCode"], 0);

    let limit = serde_json::json!({ "resources": { "limits": { "memory": "32Mi" } } });
    cluster.run(
        "greedy",
        "busybox",
        "x=0123456789abcdef; while :; do x=$x$x; done",
        limit,
    );
    let end = cluster.until_ended("greedy");
    assert_eq!(
        (&end["reason"], &end["exitCode"]),
        (&"OOMKilled".into(), &137.into()),
        "{end:#}"
    );

    // The same name, pushed again with other content: only a real pull shows it.
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("bin")).unwrap();
    fs::copy("/bin/busybox", root.path().join("bin/sh")).unwrap();
    let always = serde_json::json!({ "imagePullPolicy": "Always" });
    for version in ["one", "two"] {
        fs::write(root.path().join("version"), version).unwrap();
        succeed(&mut cluster.command(&["image", "quay.io/me/app:1", "--folder", root.path().to_str().unwrap()]));
        let pod = format!("app-{version}");
        cluster.run(&pod, "quay.io/me/app:1", "read v </version; echo $v", always.clone());
        cluster.until_ended(&pod);
        assert_eq!(cluster.get(&["logs", &pod]), version);
    }

    cluster.run("nowhere", "quay.io/prometheus/busybox:latest", "true", always);
    let message = cluster.until("nowhere", |status| {
        let waiting = &status["state"]["waiting"];
        (waiting["reason"] == "ErrImagePull").then(|| waiting["message"].as_str().unwrap_or_default().to_owned())
    });
    assert!(message.contains("not found"), "an upstream was asked: {message}");

    let runner = cluster.folder.join("runner.kubeconfig");
    for (verb, resource, namespace, allowed) in [
        ("create", "pods", "default", "yes"),
        ("get", "pods --subresource=exec", "default", "yes"),
        ("watch", "pods --subresource=log", "default", "yes"),
        ("patch", "pods", "default", "no"),
        ("create", "pods --subresource=exec", "default", "no"),
        ("get", "secrets", "default", "no"),
        ("create", "pods", "kube-system", "no"),
    ] {
        let mut question = vec![
            "--kubeconfig",
            runner.to_str().unwrap(),
            "auth",
            "can-i",
            verb,
            "-n",
            namespace,
        ];
        question.extend(resource.split(' '));
        let output = cluster.kubectl(&question);
        assert_eq!(
            String::from_utf8_lossy(&output.stdout).trim(),
            allowed,
            "{verb} {resource} in {namespace}"
        );
    }

    let audit = fs::read_to_string(cluster.folder.join("audit.log")).unwrap();
    let created = audit
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .any(|event| {
            let object = &event["objectRef"];
            event["verb"] == "create"
                && event["user"]["username"] == "admin"
                && object["resource"] == "pods"
                && object["name"] == "hello"
                && event["responseStatus"]["code"] == 201
        });
    assert!(created, "the audit log does not show who created the pod `hello`");
}

#[test]
#[ignore = "needs root and makes a cluster"]
fn a_cluster_killed_at_any_moment_is_repaired_by_the_next_up() {
    let cluster = Cluster::named("kill");
    // Killed while it is brought up for the first time, as soon as a component has started.
    for component in ["etcd", "kube-apiserver", "kubelet"] {
        let mut up = cluster
            .command(&["up"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let file = cluster.folder.join("run").join(format!("{component}.pid"));
        let deadline = Instant::now() + PATIENCE;
        while !file.exists() {
            assert!(
                Instant::now() < deadline && up.try_wait().unwrap().is_none(),
                "{component} never started"
            );
            thread::sleep(Duration::from_millis(5));
        }
        up.kill().unwrap();
        up.wait().unwrap();
        kill(&cluster.processes());
    }
    cluster.up();

    cluster.run("long", "busybox", "sleep 100000", Value::Null);
    let container = cluster.until_running("long");
    kill(&cluster.components());
    cluster.up();
    assert_eq!(
        cluster.until_running("long"),
        container,
        "a container must outlive the components"
    );
    assert_eq!(cluster.get(&["exec", "long", "--", "echo", "alive"]), "alive");

    // A pid file that was never written, and one that names a stranger.
    fs::remove_file(cluster.folder.join("run/kube-scheduler.pid")).unwrap();
    let kubelet = cluster.folder.join("run/kubelet.pid");
    let mut stale: Value = serde_json::from_slice(&fs::read(&kubelet).unwrap()).unwrap();
    kill(&[pid(&fs::read(&kubelet).unwrap())]);
    stale["process"]["pid"] = std::process::id().into();
    fs::write(&kubelet, stale.to_string()).unwrap();
    cluster.up();
    let schedulers = cluster
        .processes()
        .into_iter()
        .filter(|pid| command_line(*pid).contains("kube-scheduler"))
        .count();
    assert_eq!(schedulers, 1);

    // Containers and shims as well.
    kill(&cluster.processes());
    cluster.up();
    let end = cluster.until_ended("long");
    assert_ne!(end["exitCode"], 0, "{end:#}");
    cluster.run("after", "busybox", "echo again", Value::Null);
    assert_eq!(cluster.until_ended("after")["exitCode"], 0);
    assert_eq!(cluster.get(&["logs", "after"]), "again");
}

fn command_line(pid: u32) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).replace('\0', " ")
}

#[test]
#[ignore = "needs root and makes two clusters"]
fn taking_one_of_two_clusters_down_leaves_no_trace_of_it_and_the_other_running() {
    let (going, staying) = (Cluster::named("going"), Cluster::named("staying"));
    let mut starts = [&going, &staying].map(|cluster| {
        cluster
            .command(&["up"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    });
    for start in &mut starts {
        assert!(start.wait().unwrap().success());
    }
    assert_ne!(going.decisions()["slot"], staying.decisions()["slot"]);
    let counting = "i=0; while :; do i=$((i + 1)); echo $i; sleep 0.1; done";
    for cluster in [&going, &staying] {
        cluster.run("long", "busybox", counting, Value::Null);
    }
    going.until_running("long");
    let container = staying.until_running("long");

    let bridge = going.bridge();
    let traces = || Traces::of(&going, &bridge);
    let before = traces();
    assert!(
        before.processes > 8
            && before.mounts > 0
            && before.groups > 0
            && before.device
            && before.folder
            && before.sockets,
        "the search for traces finds too little: {before:?}"
    );
    succeed(&mut going.command(&["down"]));
    let nothing = Traces {
        processes: 0,
        mounts: 0,
        groups: 0,
        device: false,
        folder: false,
        sockets: false,
        links: 0,
    };
    assert_eq!(traces(), nothing);

    // Not only is it there: it goes on, and its log reaches the API server.
    let count = || -> u64 { staying.get(&["logs", "long", "--tail=1"]).parse().unwrap_or(0) };
    let (then, deadline) = (count(), Instant::now() + PATIENCE);
    while count() <= then {
        assert!(Instant::now() < deadline, "the log stays at line {then}");
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(staying.until_running("long"), container);
    assert_eq!(staying.get(&["exec", "long", "--", "echo", "alive"]), "alive");
    succeed(&mut staying.command(&["status"]));
    // Down again is no error.
    succeed(&mut going.command(&["down"]));
}

/// What a cluster has on the machine.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    processes: usize,
    mounts: usize,
    groups: usize,
    device: bool,
    folder: bool,
    sockets: bool,
    links: usize,
}

impl Traces {
    fn of(cluster: &Cluster, bridge: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let folder = cluster.folder.to_str().unwrap();
        let hierarchies = fs::read_dir("/sys/fs/cgroup")
            .unwrap()
            .flatten()
            .map(|entry| entry.path());
        let links = fs::read_dir("/var/log/containers").into_iter().flatten().flatten();
        Self {
            processes: cluster.processes().len(),
            mounts: mounts
                .lines()
                .filter(|line| line.contains(&format!("{folder}/")))
                .count(),
            groups: hierarchies
                .chain([PathBuf::from("/sys/fs/cgroup")])
                .flat_map(|path| fs::read_dir(path).into_iter().flatten().flatten())
                .filter(|entry| entry.file_name().to_str().is_some_and(|name| cluster.owns(name)))
                .count(),
            device: Path::new("/sys/class/net").join(bridge).exists(),
            folder: cluster.folder.exists(),
            sockets: Path::new("/run/podrun").join(bridge).exists(),
            links: links
                .filter(|link| fs::read_link(link.path()).is_ok_and(|target| target.starts_with(folder)))
                .count(),
        }
    }
}
