//! The misbehaving runner: built once, loaded for each test, asked for one thing at a time.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use podrun_host::{
    BoxFuture, Credential, Credentials, Error, Event, Folders, Host, Options, Outcome, Run, Runner, Target, Task,
};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// The component's file.
pub(crate) fn component() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let build = [
            "build",
            "--package",
            "podrun-test-guest",
            "--target",
            "wasm32-wasip2",
            "--message-format",
            "json",
        ];
        let output = Command::new(cargo)
            .args(build)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let messages = String::from_utf8(output.stdout).unwrap();
        let files = messages.lines().flat_map(|line| {
            let message: serde_json::Value = serde_json::from_str(line).unwrap();
            let files = message["filenames"].as_array().cloned().unwrap_or_default();
            files.into_iter().filter_map(|file| file.as_str().map(PathBuf::from))
        });
        files
            .into_iter()
            .find(|file| file.ends_with("podrun_test_guest.wasm"))
            .expect("a component")
    })
}

/// Compiled components are shared by all tests but those of the cache itself.
pub(crate) fn options() -> Options {
    Options {
        cache_dir: Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled")),
        ..Options::default()
    }
}

/// The runner under a short deadline.
pub(crate) async fn impatient(deadline: Duration) -> Runner {
    load(Options {
        guest_deadline: deadline,
        ..options()
    })
    .await
}

pub(crate) async fn runner() -> Runner {
    load(options()).await
}

pub(crate) async fn load(options: Options) -> Runner {
    Host::new(options).unwrap().load(component()).await.unwrap()
}

pub(crate) fn target(config: &str) -> Target {
    Target {
        config: config.to_owned(),
        credentials: None,
    }
}

pub(crate) fn task(command: &[&str]) -> Task {
    Task {
        id: "task-1".to_owned(),
        image: "image".to_owned(),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        env: Vec::new(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        timeout: None,
        labels: Vec::new(),
        options: "{}".to_owned(),
    }
}

/// A run's two folders.
pub(crate) struct Pair {
    pub(crate) inputs: TempDir,
    pub(crate) outputs: TempDir,
}

impl Pair {
    pub(crate) fn new() -> Self {
        Self {
            inputs: TempDir::new().unwrap(),
            outputs: TempDir::new().unwrap(),
        }
    }

    pub(crate) fn folders(&self) -> Folders {
        Folders {
            inputs: Some(self.inputs.path().to_owned()),
            outputs: Some(self.outputs.path().to_owned()),
        }
    }

    /// What the runner left in `/outputs`, if it did.
    pub(crate) fn left(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.outputs.path().join(name)).ok()
    }
}

/// Commits everything; the events and the end.
pub(crate) async fn follow(mut run: Run) -> (Vec<Event>, Result<Outcome, Error>) {
    let mut events = Vec::new();
    while let Some(mut batch) = run.next().await {
        events.append(&mut batch.events);
        batch.commit();
    }
    (events, run.outcome().await)
}

/// What the runner found when asked for `command` with `config`.
pub(crate) async fn ask(runner: &Runner, config: &str, command: &[&str]) -> Result<String, Error> {
    let run = runner.start(&target(config), task(command), Folders::default(), None);
    follow(run).await.1.map(|outcome| outcome.message)
}

/// Credentials that give nothing, and tell when the call that holds them is over.
pub(crate) struct Alarm(Option<oneshot::Sender<()>>);

impl Alarm {
    /// A target, and what resolves once the last call on it is over.
    pub(crate) fn target() -> (Target, oneshot::Receiver<()>) {
        let (sender, over) = oneshot::channel();
        (
            Target {
                config: String::new(),
                credentials: Some(std::sync::Arc::new(Self(Some(sender)))),
            },
            over,
        )
    }
}

impl Credentials for Alarm {
    fn credential(&self, _: bool) -> BoxFuture<'_, Result<Option<Credential>, Error>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            let _ = sender.send(());
        }
    }
}
