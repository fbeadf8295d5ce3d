//! A namespace, a state folder and calls of the program with both.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use podrun_tests::faults::{Place, Podrun};
use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything that goes well takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A flow of one task that says `ready` and waits for a file `go`.
pub(crate) const WAITING: &str = r#"
id: waiting
namespace: podrun.tests
tasks:
  - id: wait
    type: io.kestra.plugin.scripts.shell.Commands
    containerImage: busybox
    taskRunner:
      type: io.kestra.plugin.ee.kubernetes.runner.Kubernetes
      pullPolicy: IF_NOT_PRESENT
    commands:
      - echo ready
      - until [ -e go ]; do sleep 0.1; done
      - echo gone on
"#;

/// A user of the program.
pub(crate) struct Sandbox {
    pub(crate) place: Place,
    pub(crate) podrun: Podrun,
    folder: TempDir,
}

/// A call that came to its end.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) error: String,
}

impl Finished {
    /// The call, if it ended with this code.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.error);
        self
    }

    /// Each line of `--json`.
    #[track_caller]
    pub(crate) fn reports(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.out.lines().map(parse).collect()
    }
}

impl Sandbox {
    pub(crate) fn new(name: &str) -> Self {
        let place = Place::new(name).unwrap();
        let folder = tempfile::tempdir().unwrap();
        place.kubeconfig(&folder.path().join("kubeconfig"), None).unwrap();
        Self {
            podrun: Podrun::new(folder.path()).unwrap(),
            place,
            folder,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Writes a file that does not compress.
    pub(crate) fn write_noise(&self, name: &str, size: usize) {
        let mut noise = vec![0; size];
        fastrand::Rng::with_seed(1).fill(&mut noise);
        fs::write(self.path(name), noise).unwrap();
    }

    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Finished {
        finished(&mut self.podrun.command(arguments))
    }

    pub(crate) fn start<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Running {
        Running::new(&mut self.podrun.command(arguments))
    }

    /// The pods of this namespace, as the API server has them.
    pub(crate) fn pods(&self) -> Vec<Value> {
        let list: Value = serde_json::from_str(&self.place.kubectl(&["get", "pods", "-o", "json"]).unwrap()).unwrap();
        list["items"].as_array().unwrap().clone()
    }

    /// Lets the script of [`WAITING`] go on.
    pub(crate) fn go(&self) {
        let pods = self.pods();
        let name = pods[0]["metadata"]["name"].as_str().unwrap();
        self.place
            .kubectl(&["exec", name, "-c", "main", "--", "touch", "/podrun/work/go"])
            .unwrap();
    }

    /// The one row of `ps`.
    #[track_caller]
    pub(crate) fn ps(&self) -> Value {
        let rows = self.run(&["ps", "--json"]).expect(0).reports();
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows[0].clone()
    }

    #[track_caller]
    pub(crate) fn nothing_is_left(&self) {
        self.place.wait_until_empty(Duration::from_secs(60)).unwrap();
    }

    /// Everything in the state folder, files of the journal's database included.
    pub(crate) fn state(&self) -> Vec<u8> {
        let mut all = Vec::new();
        gather(&self.podrun.state(), &mut all);
        assert!(!all.is_empty());
        all
    }
}

fn gather(folder: &Path, all: &mut Vec<u8>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            gather(&path, all);
        } else {
            all.extend(fs::read(path).unwrap());
        }
    }
}

/// Whether `text` is anywhere in `bytes`.
pub(crate) fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

pub(crate) fn finished(command: &mut Command) -> Finished {
    let output = command.stdin(Stdio::null()).output().unwrap();
    Finished {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        error: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A call that goes on.
pub(crate) struct Running {
    child: Child,
    text: Arc<(Mutex<String>, Condvar)>,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    pub(crate) fn new(command: &mut Command) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let text = Arc::new((Mutex::new(String::new()), Condvar::new()));
        let (out, error) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let readers = vec![read(out, text.clone()), read(error, text.clone())];
        Self { child, text, readers }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Types something.
    pub(crate) fn say(&mut self, text: &str) {
        self.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Sends a signal: `INT`, `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.child.id())])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Waits until what was printed holds `part`.
    #[track_caller]
    pub(crate) fn await_text(&self, part: &str) {
        let (text, changed) = &*self.text;
        let guard = text.lock().unwrap();
        let (guard, waited) = changed
            .wait_timeout_while(guard, PATIENCE, |text| !text.contains(part))
            .unwrap();
        assert!(!waited.timed_out(), "`{part}` was never printed:\n{guard}");
    }

    /// Waits for the end; its code and everything that was printed.
    #[track_caller]
    pub(crate) fn end(mut self) -> Finished {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > deadline => panic!("it never ended:\n{}", self.text.0.lock().unwrap()),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        Finished {
            code: status.code(),
            out: self.text.0.lock().unwrap().clone(),
            error: String::new(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After a failed assertion; otherwise it has ended.
        let _ = self.child.kill();
    }
}

fn read(stream: impl Read + Send + 'static, text: Arc<(Mutex<String>, Condvar)>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        loop {
            let read = match reader.fill_buf() {
                Ok([]) | Err(_) => return,
                Ok(bytes) => {
                    text.0.lock().unwrap().push_str(&String::from_utf8_lossy(bytes));
                    bytes.len()
                }
            };
            reader.consume(read);
            text.1.notify_all();
        }
    })
}
