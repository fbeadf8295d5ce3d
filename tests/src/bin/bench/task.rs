//! One task through the runner, as a component or natively, and the moments at which its host learned things.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail};
use podrun_runner::contract as native;
use tokio::sync::oneshot;

use crate::cluster::{Cluster, RUN, SESSION};
use crate::profile::Cpu;

/// How the runner's code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// WebAssembly in podrun-host.
    Component,
    /// Compiled for this machine, in this process.
    Native,
}

impl Way {
    /// Its name in keys and tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Component => "component",
            Self::Native => "native",
        }
    }
}

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    /// Image of the script.
    pub(crate) image: &'static str,
    /// Shell of the script.
    pub(crate) shell: &'static str,
    /// The script.
    pub(crate) script: String,
    /// Paths of input files below `folder`.
    pub(crate) inputs: Vec<String>,
    /// Folder of the input files.
    pub(crate) folder: Option<PathBuf>,
    /// Patterns of the outputs.
    pub(crate) outputs: Vec<String>,
    /// Whether the output directory comes back as well, which is the default.
    pub(crate) output_dir: bool,
}

impl Work {
    /// Options that mark the pod as one of this benchmark.
    fn options(&self, cluster: &Cluster, run: &str) -> String {
        serde_json::json!({
            "labels": { SESSION: cluster.session, RUN: run },
            "outputDir": self.output_dir,
        })
        .to_string()
    }
}

/// When a host learned what, and what it got.
#[derive(Debug)]
pub(crate) struct Timeline {
    /// Just before the call.
    pub(crate) submitted: Instant,
    /// The handle became known: inputs are read and hashed, nothing exists yet.
    pub(crate) started: Option<Instant>,
    /// Input files began to move.
    pub(crate) staging: Option<Instant>,
    /// The pod acknowledged the last input file.
    pub(crate) staged: Option<Instant>,
    /// Output files began to move.
    pub(crate) collecting: Option<Instant>,
    /// The outcome.
    pub(crate) ended: Option<Instant>,
    /// Lines of the log, and when they were here.
    pub(crate) lines: Vec<(Instant, String)>,
    /// SHA-256 of the output files.
    pub(crate) files: BTreeMap<String, String>,
    /// What all processes had used when staging began and ended, if that is asked for.
    pub(crate) cpu: Option<(Cpu, Cpu)>,
    profiled: bool,
    failure: Option<String>,
}

impl Timeline {
    fn begin(profiled: bool) -> Self {
        Self {
            submitted: Instant::now(),
            started: None,
            staging: None,
            staged: None,
            collecting: None,
            ended: None,
            lines: Vec::new(),
            files: BTreeMap::new(),
            cpu: None,
            profiled,
            failure: None,
        }
    }

    /// An error unless the task succeeded.
    fn check(self) -> Result<Self> {
        match self.failure {
            Some(failure) => bail!("the task did not succeed: {failure}"),
            None if self.ended.is_none() => bail!("the runner reported no outcome"),
            None => Ok(self),
        }
    }

    /// Seconds between two moments.
    pub(crate) fn seconds(&self, from: Option<Instant>, to: Option<Instant>, what: &str) -> Result<f64> {
        let (Some(from), Some(to)) = (from, to) else {
            bail!("the runner did not report {what}")
        };
        Ok(to.saturating_duration_since(from).as_secs_f64())
    }

    fn staging(&mut self, now: Instant) {
        self.staging.get_or_insert(now);
        if self.profiled {
            let cpu = Cpu::now();
            self.cpu = Some((cpu.clone(), cpu));
        }
    }

    /// Called for each unit; the last one counts.
    fn staged(&mut self, now: Instant) {
        self.staged = Some(now);
        if let Some((_, end)) = &mut self.cpu {
            *end = Cpu::now();
        }
    }
}

/// The component's and the native runner's types have the same names and fields, and are different types.
macro_rules! of_contract {
    ($note:ident, $task:ident, $contract:ident) => {
        impl Timeline {
            fn $note(&mut self, event: &$contract::Event, now: Instant) {
                use $contract::{Event, Phase, Status};
                match event {
                    Event::Started(_) => self.started = Some(now),
                    Event::Phase(Phase::Staging) => self.staging(now),
                    Event::Phase(Phase::Collecting) => self.collecting = Some(now),
                    Event::Progress(progress) if progress.what == "inputs" && Some(progress.done) == progress.total => {
                        self.staged(now);
                    }
                    Event::Log(line) => self.lines.push((now, line.message.clone())),
                    Event::Ended(outcome) => {
                        self.ended = Some(now);
                        if outcome.status != Status::Succeeded {
                            self.failure = Some(outcome.message.clone());
                        }
                        for file in &outcome.files {
                            self.files.insert(file.path.clone(), file.sha256.clone());
                        }
                    }
                    _ => {}
                }
            }
        }

        fn $task(work: &Work, cluster: &Cluster, run: &str) -> $contract::Task {
            $contract::Task {
                id: format!("bench-{}-{run}", cluster.session),
                image: work.image.to_owned(),
                command: [work.shell, "-c", &work.script].map(str::to_owned).to_vec(),
                env: Vec::new(),
                inputs: work
                    .inputs
                    .iter()
                    .map(|path| $contract::Input {
                        path: path.clone(),
                        mode: 0o644,
                    })
                    .collect(),
                outputs: work.outputs.clone(),
                timeout: None,
                labels: Vec::new(),
                options: work.options(cluster, run),
            }
        }
    };
}

use podrun_host as component;
of_contract!(note_component, task_component, component);
of_contract!(note_native, task_native, native);

/// Runs tasks one after the other on one cluster.
pub(crate) struct Driver {
    /// The loaded component.
    pub(crate) runner: component::Runner,
    /// Where its tasks run.
    pub(crate) target: component::Target,
    /// Record CPU times as well.
    pub(crate) profiled: bool,
}

impl Driver {
    /// Runs a task to its outcome. Its pod may still be going when this returns.
    pub(crate) async fn run(
        &self,
        way: Way,
        cluster: &Cluster,
        work: &Work,
        run: &str,
        outputs: PathBuf,
    ) -> Result<Timeline> {
        match way {
            Way::Component => self.component(cluster, work, run, outputs).await,
            Way::Native => self.native(cluster, work, run, outputs).await,
        }
    }

    async fn component(&self, cluster: &Cluster, work: &Work, run: &str, outputs: PathBuf) -> Result<Timeline> {
        let task = task_component(work, cluster, run);
        let folders = component::Folders {
            inputs: work.folder.clone(),
            outputs: Some(outputs),
        };
        let mut timeline = Timeline::begin(self.profiled);
        let mut run = self.runner.start(&self.target, task, folders, None);
        while let Some(batch) = run.next().await {
            let now = Instant::now();
            batch
                .events
                .iter()
                .for_each(|event| timeline.note_component(event, now));
            batch.commit();
        }
        run.outcome().await?;
        timeline.check()
    }

    async fn native(&self, cluster: &Cluster, work: &Work, run: &str, outputs: PathBuf) -> Result<Timeline> {
        let task = task_native(work, cluster, run);
        let config = self.target.config.clone();
        let inputs = work.folder.clone().unwrap_or_else(|| outputs.clone());
        let (sender, receiver) = oneshot::channel();
        let host = Recorder {
            inputs,
            outputs,
            timeline: Timeline::begin(self.profiled).into(),
        };
        // The runner makes a runtime of its own, which must not happen on a thread of this one.
        std::thread::Builder::new()
            .name("native-runner".into())
            .spawn(move || {
                let answer = podrun_runner::Runner::new(&host).run(&config, &task, None);
                // Nobody waits any more when the benchmark was interrupted.
                let _ = sender.send((answer, host.timeline.into_inner()));
            })
            .context("failed to start a thread")?;
        let (answer, timeline) = receiver.await.context("the native runner's thread died")?;
        answer.map_err(|error| anyhow!("the native runner failed: {error:?}"))?;
        timeline.check()
    }
}

/// The native runner's host: remembers what it is told.
struct Recorder {
    inputs: PathBuf,
    outputs: PathBuf,
    timeline: std::cell::RefCell<Timeline>,
}

impl native::Host for Recorder {
    fn emit(&self, events: &[native::Event], _cursor: Option<&str>) -> native::Directive {
        let now = Instant::now();
        let mut timeline = self.timeline.borrow_mut();
        events.iter().for_each(|event| timeline.note_native(event, now));
        native::Directive::Proceed
    }

    fn authenticate(&self, _refused: bool) -> Option<native::Credential> {
        None
    }

    fn inputs(&self) -> PathBuf {
        self.inputs.clone()
    }

    fn outputs(&self) -> PathBuf {
        self.outputs.clone()
    }
}
