//! A state folder, flow files and the program, apart from everything else on the machine.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

/// A folder to work in.
pub(crate) struct Sandbox {
    dir: TempDir,
}

/// What a call of the program left.
#[derive(Debug)]
pub(crate) struct Finished {
    /// None if it was killed.
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) error: String,
}

impl Finished {
    /// Fail unless the program ended with this code.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.error);
        self
    }

    /// Standard output as JSON lines.
    pub(crate) fn reports(&self) -> Vec<Value> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).expect("a JSON line"))
            .collect()
    }
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self {
            dir: TempDir::new().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Write `flow.yaml` with one task for each of `scripts`, named `t1`, `t2`, …
    pub(crate) fn flow(&self, scripts: &[&str]) {
        self.flow_at("https://ok", scripts);
    }

    /// The same, for the server of that name.
    pub(crate) fn flow_at(&self, server: &str, scripts: &[&str]) {
        let mut text = "id: f\nnamespace: n\ninputs: [{id: file, type: FILE, required: false}]\ntasks:\n".to_owned();
        for (index, script) in scripts.iter().enumerate() {
            let files = if script.contains("copy data.txt") {
                "{data.txt: '{{ inputs.file }}'}"
            } else {
                "{}"
            };
            text.push_str(&format!(
                "  - id: t{}\n    type: io.kestra.plugin.scripts.shell.Script\n    containerImage: busybox\n    \
                 inputFiles: {files}\n    taskRunner: {{config: {{masterUrl: '{server}', oauthToken: s3cret-t0ken}}}}\n    \
                 script: |\n      {}\n",
                index + 1,
                script.replace('\n', "\n      ")
            ));
        }
        self.write("flow.yaml", &text);
    }

    /// The program, to be started in the sandbox.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_podrun"));
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .env_clear()
            .env("HOME", self.dir.path())
            .env("PODRUN_STATE_DIR", self.path("state"))
            .env("PODRUN_RUNNER", component())
            // Compiled once for all tests.
            .env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"))
            .stdin(Stdio::null());
        command
    }

    /// Run the program to its end.
    pub(crate) fn podrun(&self, arguments: &[&str]) -> Finished {
        finished(&mut self.command(arguments))
    }

    /// Start the program, and read its standard output.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        Self::start_command(&mut self.command(arguments))
    }

    /// Start a command of the program, and read its standard output.
    pub(crate) fn start_command(command: &mut Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Running {
            child,
            out,
            seen: String::new(),
        }
    }

    /// What the runner's cluster saw of the only attempt of a task.
    pub(crate) fn history(&self, execution: &str, task: &str) -> Vec<String> {
        let path = self.path(&format!("state/executions/{execution}/tasks/{task}.1/outputs/history"));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Let a script that waits go on.
    pub(crate) fn let_go(&self, execution: &str, task: &str) {
        self.write(&format!("state/executions/{execution}/tasks/{task}.1/outputs/go"), "");
    }

    /// The state of an execution, as `podrun ps` tells it.
    pub(crate) fn state(&self, execution: &str) -> Option<String> {
        let ps = self.podrun(&["ps", "--json"]).expect(0);
        let row = ps.reports().into_iter().find(|row| row["id"] == execution)?;
        Some(row["state"].as_str()?.to_owned())
    }
}

/// The program while it runs.
pub(crate) struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
    seen: String,
}

impl Running {
    /// Wait until a line of standard output holds `text`.
    #[track_caller]
    pub(crate) fn await_line(&mut self, text: &str) {
        loop {
            let mut line = String::new();
            let count = self.out.read_line(&mut line).unwrap();
            self.seen.push_str(&line);
            if count == 0 {
                let mut error = String::new();
                self.child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
                panic!("it ended without `{text}`:\n{}\n{error}", self.seen);
            }
            if line.contains(text) {
                return;
            }
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Send a signal: INT, TERM, KILL.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Wait for the end.
    pub(crate) fn wait(mut self) -> Finished {
        self.out.read_to_string(&mut self.seen).unwrap();
        let mut error = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        Finished {
            code: self.child.wait().unwrap().code(),
            out: self.seen,
            error,
        }
    }
}

pub(crate) fn finished(command: &mut Command) -> Finished {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Finished {
        code: output.status.code(),
        out: text(output.stdout),
        error: text(output.stderr),
    }
}

/// The runner's component, built once.
fn component() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let arguments = [
            "build",
            "--package",
            "podrun-cli-test-guest",
            "--target",
            "wasm32-wasip2",
        ];
        let output = Command::new(cargo)
            .args(arguments)
            .args(["--message-format", "json"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let messages = String::from_utf8(output.stdout).unwrap();
        let files = messages.lines().flat_map(|line| {
            let message: Value = serde_json::from_str(line).unwrap();
            let files = message["filenames"].as_array().cloned().unwrap_or_default();
            files
                .into_iter()
                .filter_map(|file| file.as_str().map(PathBuf::from))
                .collect::<Vec<_>>()
        });
        files
            .into_iter()
            .find(|file| file.ends_with("podrun_cli_test_guest.wasm"))
            .expect("a component")
    })
}
