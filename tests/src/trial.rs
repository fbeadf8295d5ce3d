//! One task: described, run, followed, and what came of it.

use crate::Cluster;
use podrun_host::{Batch, Control, Error, Event, Folders, Input, LogLine, Outcome, Phase, Run, Runner, Target, Task};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{sync::SemaphorePermit, time::timeout};

/// Longer than anything that a test waits for: it ends what hangs.
const PATIENCE: Duration = Duration::from_secs(240);

/// A task, the folders of its host, and who runs it.
#[derive(Debug)]
pub struct Trial {
    /// What is run.
    pub task: Task,
    /// Where it is run.
    pub target: Target,
    /// In which host.
    pub runner: Runner,
    /// The host's folders.
    pub folder: TempDir,
    options: Value,
    cluster: &'static Cluster,
}

impl Trial {
    pub(crate) fn new(cluster: &'static Cluster, id: String) -> Self {
        let folder = TempDir::new().unwrap();
        for name in ["inputs", "outputs"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self {
            task: Task {
                id,
                image: crate::BUSYBOX.to_owned(),
                command: Vec::new(),
                env: Vec::new(),
                inputs: Vec::new(),
                outputs: Vec::new(),
                timeout: None,
                labels: Vec::new(),
                options: "{}".to_owned(),
            },
            target: cluster.target.clone(),
            runner: cluster.runner.clone(),
            folder,
            options: json!({}),
            cluster,
        }
    }

    /// Runs a script under `sh`.
    pub fn sh(self, script: &str) -> Self {
        self.command(&["sh", "-c", script])
    }

    /// Runs a program.
    pub fn command(mut self, words: &[&str]) -> Self {
        self.task.command = words.iter().map(|w| (*w).to_owned()).collect();
        self
    }

    /// In another image than busybox.
    pub fn image(mut self, image: &str) -> Self {
        image.clone_into(&mut self.task.image);
        self
    }

    /// With a variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.task.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With an input file.
    pub fn input(mut self, path: &str, mode: u32, content: impl AsRef<[u8]>) -> Self {
        let file = self.inputs().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
        self.task.inputs.push(Input {
            path: path.to_owned(),
            mode,
        });
        self
    }

    /// Wants the files that a pattern names.
    pub fn output(mut self, pattern: &str) -> Self {
        self.task.outputs.push(pattern.to_owned());
        self
    }

    /// Is stopped after so many seconds.
    pub fn timeout(mut self, seconds: u32) -> Self {
        self.task.timeout = Some(seconds);
        self
    }

    /// With a label.
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.task.labels.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With an option of the runner.
    pub fn option(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.options[name] = value.into();
        self.task.options = self.options.to_string();
        self
    }

    /// On another target.
    pub fn on(mut self, target: Target) -> Self {
        self.target = target;
        self
    }

    /// The host's folder of inputs.
    pub fn inputs(&self) -> PathBuf {
        self.folder.path().join("inputs")
    }

    /// The host's folder of outputs.
    pub fn outputs(&self) -> PathBuf {
        self.folder.path().join("outputs")
    }

    /// The pod that would be created, as JSON.
    pub async fn render(&self, server: bool) -> String {
        let rendered = self
            .runner
            .render(&self.target, &self.task, self.folders().inputs, server);
        rendered.await.unwrap()
    }

    fn folders(&self) -> Folders {
        Folders {
            inputs: Some(self.inputs()),
            outputs: Some(self.outputs()),
        }
    }

    /// Begins or takes up the task.
    pub async fn start(&self, after: Option<String>) -> Following {
        let slot = self.cluster.slot().await;
        let run = self
            .runner
            .start(&self.target, self.task.clone(), self.folders(), after);
        Following::new(run, slot)
    }

    /// Attaches to the task.
    pub async fn attach(&self, handle: &str, after: Option<String>) -> Following {
        let slot = self.cluster.slot().await;
        let run = self
            .runner
            .attach(&self.target, handle.to_owned(), self.folders(), after);
        Following::new(run, slot)
    }

    /// Runs the task to its end.
    pub async fn run(&self) -> Ran {
        self.start(None).await.end().await
    }

    /// What lies in the host's folder of outputs, by path (`work/...`, `out/...`).
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        list(&self.outputs(), "", &mut files);
        files
    }
}

fn list(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            list(&entry.path(), &format!("{name}/"), files);
        } else {
            files.insert(name, std::fs::read(entry.path()).unwrap());
        }
    }
}

/// Lower-case hexadecimal digits of a content's SHA-256.
pub fn sha256(content: impl AsRef<[u8]>) -> String {
    let digest = Sha256::digest(content.as_ref());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a host stored.
#[derive(Debug, Default)]
pub struct Seen {
    /// Every event, in order.
    pub events: Vec<Event>,
    /// The last cursor.
    pub cursor: Option<String>,
}

impl Seen {
    /// The handle, from `started`.
    pub fn handle(&self) -> &str {
        let started = self.events.iter().find_map(|e| match e {
            Event::Started(handle) => Some(handle.as_str()),
            _ => None,
        });
        started.expect("an event `started`")
    }

    /// The name of the pod, which the handle holds.
    pub fn pod(&self) -> &str {
        self.handle().split('/').nth(2).unwrap()
    }

    /// What the script wrote, as it came.
    pub fn parts(&self) -> Vec<&LogLine> {
        let parts = self.events.iter().filter_map(|e| match e {
            Event::Log(line) => Some(line),
            _ => None,
        });
        parts.collect()
    }

    /// Whole lines.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut open = String::new();
        for part in self.parts() {
            open.push_str(&part.message);
            if !part.partial {
                lines.push(std::mem::take(&mut open));
            }
        }
        assert_eq!(open, "", "the last line does not end");
        lines
    }

    /// The phases, in order.
    pub fn phases(&self) -> Vec<Phase> {
        let phases = self.events.iter().filter_map(|e| match e {
            Event::Phase(phase) => Some(*phase),
            _ => None,
        });
        phases.collect()
    }

    /// What the runner had to say.
    pub fn diagnostics(&self) -> Vec<&str> {
        let said = self.events.iter().filter_map(|e| match e {
            Event::Diagnostic(diagnostic) => Some(diagnostic.message.as_str()),
            _ => None,
        });
        said.collect()
    }
}

/// A call of `run` or `attach` that is under way.
#[derive(Debug)]
pub struct Following {
    run: Run,
    seen: Seen,
    started: Instant,
    _slot: SemaphorePermit<'static>,
}

impl Following {
    fn new(run: Run, slot: SemaphorePermit<'static>) -> Self {
        Self {
            run,
            seen: Seen::default(),
            started: Instant::now(),
            _slot: slot,
        }
    }

    /// What was stored so far.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Cancels or detaches from elsewhere.
    pub fn control(&self) -> Control {
        self.run.control()
    }

    /// The next batch, not yet stored; none when the call is over.
    pub async fn batch(&mut self) -> Option<Batch> {
        timeout(PATIENCE, self.run.next())
            .await
            .unwrap_or_else(|_| panic!("nothing happens after {:#?}", self.seen))
    }

    /// Stores a batch.
    pub fn store(&mut self, batch: Batch) {
        self.seen.events.extend(batch.events.iter().cloned());
        if batch.cursor.is_some() {
            self.seen.cursor.clone_from(&batch.cursor);
        }
        batch.commit();
    }

    /// Stores batches until one holds an event that is waited for.
    pub async fn until(&mut self, what: &str, is_it: impl Fn(&Event) -> bool) {
        loop {
            let Some(batch) = self.batch().await else {
                panic!("the call ended before {what}: {:#?}", self.seen);
            };
            let found = batch.events.iter().any(&is_it);
            self.store(batch);
            if found {
                return;
            }
        }
    }

    /// Stores batches until the script wrote a line.
    pub async fn until_line(&mut self, line: &str) {
        self.until(line, |e| matches!(e, Event::Log(l) if l.message == line))
            .await;
    }

    /// Stores batches until the task is in a phase.
    pub async fn until_phase(&mut self, phase: Phase) {
        self.until(&format!("{phase:?}"), |e| *e == Event::Phase(phase)).await;
    }

    /// Leaves the task as it is.
    pub async fn detach(mut self) -> Seen {
        self.run.detach();
        while let Some(batch) = self.batch().await {
            self.store(batch);
        }
        match self.run.outcome().await {
            Err(Error::Detached(handle)) => assert_eq!(handle, self.seen.handle()),
            other => panic!("not detached, but {other:?} after {:#?}", self.seen),
        }
        self.seen
    }

    /// Asks for the script to be stopped.
    pub fn cancel(&self) {
        self.run.cancel();
    }

    /// Follows to the end.
    pub async fn end(mut self) -> Ran {
        while let Some(batch) = self.batch().await {
            self.store(batch);
        }
        let result = self.run.outcome().await;
        if let Ok(outcome) = &result {
            let ended = self.seen.events.iter().any(|e| *e == Event::Ended(outcome.clone()));
            assert!(
                ended,
                "the outcome was not told before it was returned: {:#?}",
                self.seen
            );
        }
        Ran {
            seen: self.seen,
            result,
            took: self.started.elapsed(),
        }
    }
}

/// A call that is over.
#[derive(Debug)]
pub struct Ran {
    /// What was stored.
    pub seen: Seen,
    /// How it ended.
    pub result: Result<Outcome, Error>,
    /// How long the call took.
    pub took: Duration,
}

impl std::ops::Deref for Ran {
    type Target = Seen;

    fn deref(&self) -> &Seen {
        &self.seen
    }
}

impl Ran {
    /// The outcome; an error fails the test.
    #[track_caller]
    pub fn outcome(&self) -> &Outcome {
        let Ok(outcome) = &self.result else {
            panic!("no outcome: {:#?}", self);
        };
        outcome
    }

    /// The error; an outcome fails the test.
    #[track_caller]
    pub fn error(&self) -> &Error {
        let Err(error) = &self.result else {
            panic!("no error: {:#?}", self.outcome());
        };
        error
    }

    /// The outcome of a script that succeeded; anything else fails the test.
    #[track_caller]
    pub fn succeeded(&self) -> &Outcome {
        let outcome = self.outcome();
        assert_eq!(outcome.status, podrun_host::Status::Succeeded, "{:#?}", self);
        outcome
    }
}
