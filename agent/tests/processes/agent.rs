//! An agent to test with.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::description;
use super::http::{self, Answer};

/// The program: the one that cargo built, or the delivered one that `PODRUN_AGENT_PROGRAM` names.
pub(crate) fn program() -> &'static str {
    static PROGRAM: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let given =
        || std::env::var("PODRUN_AGENT_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_podrun-agent").to_owned());
    PROGRAM.get_or_init(given)
}

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A data directory whose tasks go when the test ends.
pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// The folders of all tasks.
    pub(crate) fn tasks(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.data().join("tasks")).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

impl Drop for Place {
    /// Ends every supervisor that works below, whatever became of the test, and removes the cgroups that they made.
    fn drop(&mut self) {
        for process in processes() {
            let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
            let ours = self.path().as_os_str().as_encoded_bytes();
            if line.windows(ours.len()).any(|window| window == ours) {
                kill(process, "KILL");
            }
        }
        for task in self.tasks() {
            let name = format!("podrun-{}", task.file_name().unwrap_or_default().display());
            for hierarchy in ["", "unified", "freezer"] {
                let cgroup = Path::new("/sys/fs/cgroup").join(hierarchy).join(&name);
                let _ = fs::write(cgroup.join("cgroup.kill"), "1");
                let begun = Instant::now();
                while cgroup.exists() && fs::remove_dir(&cgroup).is_err() && begun.elapsed() < PATIENCE {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        }
    }
}

/// An agent that runs.
pub(crate) struct Agent {
    pub(crate) child: Child,
    pub(crate) address: String,
    pub(crate) log: PathBuf,
    /// Whether what is asked and answered is held against the description.
    pub(crate) checks: bool,
}

impl Agent {
    pub(crate) fn start(place: &Place) -> Self {
        Self::start_with(place, &[])
    }

    pub(crate) fn start_with(place: &Place, arguments: &[&str]) -> Self {
        let mut command = Command::new(program());
        command.args(arguments);
        Self::spawn(place, command)
    }

    /// Starts a command that ends in an agent, and waits until that listens.
    pub(crate) fn spawn(place: &Place, mut command: Command) -> Self {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let log = place.path().join(format!(
            "log.{}",
            COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
        ));
        let child = command
            .arg(format!("-data-dir={}", place.data().display()))
            .args(["--listen-addr=127.0.0.1:0", "--reconcile-interval=50ms"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut agent = Self {
            child,
            address: String::new(),
            log,
            checks: true,
        };
        agent.address = agent.find_address(0);
        agent
    }

    /// The address that the log tells as the one after `before` others.
    pub(crate) fn find_address(&mut self, before: usize) -> String {
        let log = self.log.clone();
        await_some("the agent to listen", || {
            let text = fs::read_to_string(&log).unwrap();
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {text}");
            // It answers once it is ready.
            text.matches(" ready;").nth(before)?;
            let address = text.lines().filter_map(|line| line.split("://").nth(1)).nth(before)?;
            Some(address.to_owned())
        })
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Kills it without a word.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    #[track_caller]
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let answer = http::ask(&self.address, method, path, body.as_bytes())
            .unwrap_or_else(|error| panic!("{error}: {}", self.log()));
        if self.checks {
            description::check(method, path, body.as_bytes(), &answer);
        }
        answer
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "")
    }

    /// Creates a task that must be accepted.
    #[track_caller]
    pub(crate) fn create(&self, name: &str, process: Value) -> Value {
        let answer = self.ask("POST", "/tasks", &json!({"name": name, "process": process}).to_string());
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()
    }

    /// Creates a task that is a shell script.
    #[track_caller]
    pub(crate) fn script(&self, name: &str, script: &str) -> Value {
        self.create(name, json!({"command": ["sh", "-c", script]}))
    }

    #[track_caller]
    pub(crate) fn set(&self, tasks: &[(&str, &str)]) -> Value {
        let tasks: Vec<_> = tasks
            .iter()
            .map(|(name, script)| json!({"name": name, "spec": {"process": {"command": ["sh", "-c", script]}}}))
            .collect();
        let answer = self.ask("POST", "/setTasks", &Value::from(tasks).to_string());
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// Waits until a task is as wanted, and answers it.
    #[track_caller]
    pub(crate) fn await_task(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.await_tasks(|tasks| tasks.iter().find(|task| task["name"] == name && wanted(task)).cloned())
    }

    /// Waits by long polls until the tasks are as wanted.
    #[track_caller]
    pub(crate) fn await_tasks<T>(&self, wanted: impl Fn(&[Value]) -> Option<T>) -> T {
        let begun = Instant::now();
        let mut version = 0;
        loop {
            let listing = self.get(&format!("/tasks?wait=1s&since={version}")).json();
            if let Some(found) = wanted(listing["tasks"].as_array().unwrap()) {
                return found;
            }
            assert!(begun.elapsed() < PATIENCE, "{listing:#}\n{}", self.log());
            version = listing["version"].as_u64().unwrap();
        }
    }

    /// Waits for a task's end, and answers how it ended.
    #[track_caller]
    pub(crate) fn await_end(&self, name: &str) -> Value {
        let task = self.await_task(name, |task| task["processStatus"]["terminated"].is_object());
        task["processStatus"]["terminated"].clone()
    }

    #[track_caller]
    pub(crate) fn await_running(&self, name: &str) {
        self.await_task(name, |task| task["processStatus"]["running"].is_object());
    }

    #[track_caller]
    pub(crate) fn delete(&self, name: &str) {
        assert_eq!(self.ask("DELETE", &format!("/tasks/{name}"), "").status, 204);
    }

    #[track_caller]
    pub(crate) fn await_gone(&self, name: &str) {
        self.await_tasks(|tasks| tasks.iter().all(|task| task["name"] != name).then_some(()));
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks until there is something.
#[track_caller]
pub(crate) fn await_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[track_caller]
pub(crate) fn await_true(what: &str, mut look: impl FnMut() -> bool) {
    await_some(what, || look().then_some(()));
}

/// The content of a file, once it has a whole line.
#[track_caller]
pub(crate) fn await_line(path: &Path) -> String {
    await_some("a line in a file", || {
        let text = fs::read_to_string(path).ok()?;
        text.ends_with('\n').then(|| text.trim().to_owned())
    })
}

/// The number in a file.
#[track_caller]
pub(crate) fn await_pid(path: &Path) -> i32 {
    await_line(path).parse().unwrap()
}

/// Whether a process is there and has not ended.
pub(crate) fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

pub(crate) fn processes() -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap();
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

pub(crate) fn children(parent: i32) -> Vec<i32> {
    let of = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let parent = stat.rsplit(')').next()?.split_ascii_whitespace().nth(1)?.parse().ok()?;
        Some::<i32>(parent)
    };
    processes().into_iter().filter(|pid| of(pid) == Some(parent)).collect()
}

/// Sends a signal by its name.
pub(crate) fn kill(pid: i32, signal: &str) {
    let signal: nix::sys::signal::Signal = format!("SIG{signal}").parse().unwrap();
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
}
