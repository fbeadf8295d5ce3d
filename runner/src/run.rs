//! One task from its start to its end: create or adopt the pod, bring files, follow, collect, report, delete.

use crate::{
    client::Cluster,
    collect::{self, Failure},
    config::Access,
    contract::{Error, Event, Host, Level, Outcome, OutputFile, Phase, Status, Task, text},
    create::begin,
    credentials,
    exec::Exec,
    follow::{Followed, Follower, Start},
    init_logs::InitLogs,
    inputs::Inputs,
    logs::Cursor,
    options::{Delete, Options},
    outputs,
    pod::{Handle, INIT, MAIN, Plan, SIDECAR, STOPPED, Stored},
    remove::delete,
    session::{Halt, Session},
    stage,
    status::{self, End, State, Waiting},
    watch::{self, Watched},
};
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Pod;
use std::{cell::Cell, time::Duration};
use tokio::time::Instant;

/// How long a creation that is under way is waited for when the host wants the task stopped.
const POSTED: Duration = Duration::from_secs(60);
/// How long collecting may take after a cancel or a timeout.
const COLLECT_BOUND: Duration = Duration::from_secs(120);

/// Starts a task, or takes it up, and follows it to its end.
pub(crate) async fn run(host: &dyn Host, config: &str, task: &Task, after: Option<&str>) -> Result<Outcome, Error> {
    let access = Access::parse(config)?;
    let options = Options::parse(&task.options)?;
    let after = after.map(str::parse).transpose()?;
    let inputs = Inputs::scan(host.inputs(), &task.inputs)?;
    let plan = Plan::new(task, &access.namespace, options, &inputs)?;
    let session = Session::new(host);
    let cluster = Cluster::new(access, plan.handle.namespace.clone(), &session)?;
    session.push(Event::Started(plan.handle.to_string()));
    session.phase(Phase::Pending);
    for warning in &plan.warnings {
        session.note(Level::Warn, warning);
    }
    let posting = Cell::new(false);
    let begin = begin(&cluster, &session, &plan, &task.image, &posting).fuse();
    tokio::pin!(begin);
    let mut begun = match session.flush() {
        Ok(()) => session.during(&mut begin).await,
        Err(halt) => Err(halt),
    };
    let cancelled = matches!(begun, Err(Halt::Cancel));
    if cancelled {
        session.cancelling();
    }
    if cancelled && posting.get() {
        // What the server may be about to create must be known before it can be stopped.
        session.note(
            Level::Info,
            "stopping: the API server's answer to the pod's creation is waited for",
        );
        let posted = tokio::time::timeout(POSTED, session.during(&mut begin)).await;
        begun = posted.unwrap_or(Err(Halt::Cancel));
    }
    let begun = match begun {
        Ok(begun) => Some(begun),
        Err(Halt::Error(error)) if !cancelled => return Err(error),
        Err(Halt::Detach) => return Err(Error::Detached(plan.handle.to_string())),
        Err(Halt::Cancel | Halt::Error(_)) => watch::find(&cluster, &plan.handle).await?,
    };
    let Some(pod) = begun else {
        return Ok(finish_without_pod(&session, &plan));
    };
    let ending = Ending::new(
        &cluster,
        &session,
        &plan.handle,
        plan.stored.clone(),
        Some(&inputs),
        pod,
        after,
    );
    if cancelled {
        ending.stop(Stop::Cancelled).await
    } else {
        ending.reach().await
    }
}

/// Follows a task started earlier.
pub(crate) async fn attach(host: &dyn Host, config: &str, handle: &str, after: Option<&str>) -> Result<Outcome, Error> {
    let access = Access::parse(config)?;
    let handle: Handle = handle.parse()?;
    let after = after.map(str::parse).transpose()?;
    let session = Session::new(host);
    let cluster = Cluster::new(access, handle.namespace.clone(), &session)?;
    let pod = watch::find(&cluster, &handle).await?;
    let pod = pod.ok_or_else(|| Error::NotFound(format!("task `{}` does not exist any more", handle.pod)))?;
    let stored = Stored::of(&pod)
        .ok_or_else(|| Error::NotFound(format!("pod `{}` is not a task of this runner", handle.pod)))?;
    session.push(Event::Started(handle.to_string()));
    if let Err(halt) = session.flush() {
        return match halt {
            Halt::Error(error) => Err(error),
            Halt::Detach => Err(Error::Detached(handle.to_string())),
            Halt::Cancel => {
                session.cancelling();
                Ending::new(&cluster, &session, &handle, stored, None, pod, after)
                    .stop(Stop::Cancelled)
                    .await
            }
        };
    }
    Ending::new(&cluster, &session, &handle, stored, None, pod, after)
        .reach()
        .await
}

fn finish_without_pod(session: &Session<'_>, plan: &Plan) -> Outcome {
    let end = End {
        status: Status::Cancelled,
        reason: None,
        retryable: false,
        message: "cancelled before anything was created".into(),
    };
    let outcome = status::build(&plan.pod, None, end);
    session.push(Event::Ended(outcome.clone()));
    session.finish();
    outcome
}

/// Why the runner stops a script.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stop {
    Cancelled,
    Overdue,
}

/// A task whose pod exists, on the way to its outcome.
struct Ending<'c> {
    cluster: &'c Cluster<'c>,
    session: &'c Session<'c>,
    handle: &'c Handle,
    stored: Stored,
    inputs: Option<&'c Inputs>,
    watched: Watched<'c>,
    follower: Follower<'c>,
    init_logs: InitLogs<'c>,
    said: String,
    pulls: Pulls,
    /// Why the pod cannot take the input files.
    refused: Option<String>,
}

impl<'c> Ending<'c> {
    fn new(
        cluster: &'c Cluster<'c>,
        session: &'c Session<'c>,
        handle: &'c Handle,
        stored: Stored,
        inputs: Option<&'c Inputs>,
        pod: Pod,
        after: Option<Cursor>,
    ) -> Self {
        cluster.insist();
        let start = Start::new(session, &pod, after);
        let follower = Follower::new(cluster, session, &start, None);
        let init_logs = if stored.init_logs {
            InitLogs::new(cluster, session, &pod, &start)
        } else {
            InitLogs::default()
        };
        let pulls = Pulls {
            with_secret: credentials::claimed(&pod).is_some(),
            ..Pulls::default()
        };
        Self {
            cluster,
            session,
            handle,
            stored,
            inputs,
            watched: Watched::new(cluster, pod),
            follower,
            init_logs,
            said: String::new(),
            pulls,
            refused: None,
        }
    }

    /// Goes on until the outcome is reported and the pod deleted.
    async fn reach(mut self) -> Result<Outcome, Error> {
        let session = self.session;
        match session.during(self.proceed()).await {
            Ok(Followed::Ended) => {}
            Ok(Followed::Overdue) => return self.stop(Stop::Overdue).await,
            Err(Halt::Cancel) => {
                session.cancelling();
                return self.stop(Stop::Cancelled).await;
            }
            Err(halt) => return Err(self.halted(halt)),
        }
        match session.during(self.conclude(None)).await {
            Ok(outcome) => self.report(outcome).await,
            Err(Halt::Cancel) => {
                // The script is over: cancelling changes nothing any more.
                session.cancelling();
                let outcome = session.during(self.conclude(None)).await.map_err(|h| self.halted(h))?;
                self.report(outcome).await
            }
            Err(halt) => Err(self.halted(halt)),
        }
    }

    fn halted(&self, halt: Halt) -> Error {
        match halt {
            Halt::Error(error) => error,
            Halt::Cancel => Error::Other("cancelled twice".into()),
            Halt::Detach => Error::Detached(self.handle.to_string()),
        }
    }

    /// Brings the script to run, and follows it.
    async fn proceed(&mut self) -> Result<Followed, Halt> {
        if !self.started().await? {
            return Ok(Followed::Ended);
        }
        self.follower.follow(&mut self.watched, &self.stored).await
    }

    /// Waits until main started; false if it never will.
    async fn started(&mut self) -> Result<bool, Halt> {
        let patience = Duration::from_secs(self.stored.wait_until_running);
        let mut deadline = Instant::now() + patience;
        let mut staged = false;
        loop {
            if !self.watched.gone() {
                let pod = self.watched.pod();
                self.init_logs.catch_up(self.session, pod, &self.stored).await?;
            }
            let pod = self.watched.pod();
            self.pulls.note(status::pull_failed(pod));
            if self.watched.gone() || status::outcome(pod, &self.stored).is_some() || self.hopeless(deadline).is_some()
            {
                return Ok(false);
            }
            if let Some(phase) = status::phase(pod, &self.stored) {
                self.session.phase(phase);
            }
            match status::state(pod, MAIN) {
                State::Waiting { .. } => {}
                State::Running(_) | State::Ended(_) => return Ok(true),
            }
            if self.stored.staged && !staged && matches!(status::state(pod, INIT), State::Running(_)) {
                let Some(inputs) = self.inputs else {
                    return Err(Error::Other(
                        "the task's input files are incomplete: call `run` with the same task".into(),
                    )
                    .into());
                };
                self.session.flush_news()?;
                let name = self.watched.name().to_owned();
                let begun = Instant::now();
                let sent = stage::stage(self.cluster, self.session, &name, inputs).await;
                // Files on their way are no reason to lose patience with the cluster.
                deadline += begun.elapsed();
                match sent {
                    Ok(()) => staged = true,
                    // The pod cannot take them: that is an end, and the pod must not wait for ever.
                    Err(Halt::Error(Error::InvalidArgument(why))) => {
                        self.refused = Some(why);
                        return Ok(false);
                    }
                    // Perhaps the pod is at fault, not the transfer.
                    Err(Halt::Error(error)) => {
                        self.watched.look().await?;
                        let running = matches!(status::state(self.watched.pod(), INIT), State::Running(_));
                        if running && !self.watched.gone() && !status::deleting(self.watched.pod()) {
                            return Err(error.into());
                        }
                    }
                    Err(halt) => return Err(halt),
                }
                continue;
            }
            say_why(self.session, self.watched.pod(), &mut self.said);
            self.session.flush_news()?;
            tokio::select! {
                biased;
                changed = self.watched.changed() => changed?,
                read = self.init_logs.read() => read?,
                () = tokio::time::sleep_until(deadline) => {}
            }
        }
    }

    /// The outcome of a pod that will not start, if waiting longer is pointless.
    fn hopeless(&self, deadline: Instant) -> Option<Outcome> {
        let pod = self.watched.pod();
        let State::Waiting { .. } = status::state(pod, MAIN) else {
            return None;
        };
        let patience = self.stored.wait_until_running;
        let end = match status::waiting(pod) {
            Some(Waiting::Hopeless(reason, message)) if !(self.pulls.are_doubtful() && reason == "image") => End {
                status: Status::Failed,
                reason: Some(reason),
                retryable: false,
                message,
            },
            Some(Waiting::Patience(why) | Waiting::Hopeless(_, why)) if Instant::now() >= deadline => {
                let reason = if why.starts_with("container") || self.pulls.are_doubtful() {
                    "image"
                } else {
                    "unschedulable"
                };
                End {
                    status: Status::Failed,
                    reason: Some(reason),
                    retryable: true,
                    message: format!("not running after {patience} s (`waitUntilRunning`): {why}"),
                }
            }
            None if Instant::now() >= deadline => End {
                status: Status::Failed,
                reason: Some("unschedulable"),
                retryable: true,
                message: format!(
                    "not running after {patience} s (`waitUntilRunning`), and the cluster does not say why"
                ),
            },
            _ => return None,
        };
        Some(status::build(pod, None, end))
    }

    /// The outcome of a task that ended or cannot start, with the rest of its log and its files.
    async fn conclude(&mut self, stop: Option<Stop>) -> Result<Outcome, Halt> {
        let pod = self.watched.pod();
        let name = self.watched.name().to_owned();
        let ended = status::outcome(pod, &self.stored);
        let mut outcome = match ended {
            Some(outcome) => outcome,
            None if let Some(message) = self.refused.clone() => {
                let end = End {
                    status: Status::Failed,
                    reason: Some("configuration"),
                    retryable: false,
                    message,
                };
                status::build(pod, None, end)
            }
            None if self.watched.gone() => status::deleted(pod),
            None => self.hopeless(Instant::now()).unwrap_or_else(|| status::deleted(pod)),
        };
        let ran = matches!(status::state(pod, MAIN), State::Ended(_));
        let (ran, collects) = (ran && !self.watched.gone(), ran && self.stored.collects());
        if collects {
            self.session.phase(Phase::Collecting);
            self.session.flush_news()?;
        }
        // Side by side: each waits for the node most of the time.
        let rest = async {
            match ran {
                true => self.follower.rest(&name, self.stored.wait_for_logs).await,
                false => Ok(()),
            }
        };
        let mut keeper = Keeper {
            cluster: self.cluster,
            session: self.session,
            stored: &self.stored,
            watched: &mut self.watched,
            said: &mut self.said,
        };
        let outputs = async {
            match collects {
                true => Some(keeper.outputs(&name).await),
                false => None,
            }
        };
        let (rest, outputs) = tokio::join!(rest, outputs);
        rest?;
        if let Some(outputs) = outputs {
            match outputs {
                Ok(files) => outcome.files = files,
                Err(Failure::Halt(halt)) => return Err(halt),
                Err(Failure::Refused(why)) => lose(&mut outcome, "outputs-refused", why, false),
                Err(Failure::Lost(why) | Failure::Unreached(why)) => {
                    let message = format!("the output files are lost: {why}");
                    lose(&mut outcome, "outputs-lost", message, true);
                }
            }
        }
        if outcome.status == Status::Succeeded
            && let Some(pattern) = outputs::missing(&self.stored.required, &outcome.files)?
        {
            let message = format!("no file in the working directory matches `{pattern}`, which is required");
            lose(&mut outcome, "output-missing", message, false);
        }
        if let Some(stop) = stop {
            stopped(&mut outcome, stop, &self.stored);
        }
        Ok(outcome)
    }

    /// Makes the outcome durable with the host, then deletes the pod.
    async fn report(self, outcome: Outcome) -> Result<Outcome, Error> {
        self.session.push(Event::Ended(outcome.clone()));
        self.session.finish();
        let delete_it = match self.stored.delete {
            Delete::Always => true,
            Delete::OnSuccess => outcome.status == Status::Succeeded,
            Delete::Never => false,
        };
        if delete_it && !self.watched.gone() {
            self.session.cancelling();
            let deletion = async { Ok(delete(self.cluster, self.watched.pod(), None).await?) };
            let why = match self.session.during(deletion).await {
                Ok(()) => return Ok(outcome),
                Err(Halt::Error(error)) => text(&error).to_owned(),
                Err(Halt::Cancel | Halt::Detach) => "the host left".to_owned(),
            };
            self.session.note(
                Level::Warn,
                format!(
                    "pod `{}` could not be deleted, kill the task to try again: {why}",
                    self.handle.pod
                ),
            );
            self.session.finish();
        }
        Ok(outcome)
    }

    /// Stops the script, collects what it left, reports, deletes.
    async fn stop(mut self, stop: Stop) -> Result<Outcome, Error> {
        let session = self.session;
        match session.during(self.stopped(stop)).await {
            Ok(outcome) => self.report(outcome).await,
            Err(halt) => Err(self.halted(halt)),
        }
    }

    async fn stopped(&mut self, stop: Stop) -> Result<Outcome, Halt> {
        self.watched.look().await?;
        let running = matches!(status::state(self.watched.pod(), MAIN), State::Running(_)) && !self.watched.gone();
        if running {
            self.session.note(
                Level::Info,
                format!("stopping the script: TERM, and KILL after {} s", self.stored.grace),
            );
            if !self
                .signal(&format!("echo {STOPPED} >>/dev/termination-log; kill -TERM 1"))
                .await
            {
                // Without a shell only the deletion of the pod reaches the program, and the files go with it.
                self.session.phase(Phase::Terminating);
                delete(self.cluster, self.watched.pod(), None).await?;
            }
            // The end is awaited here, however long overdue it is.
            let untimed = Stored {
                timeout: None,
                ..self.stored.clone()
            };
            let grace = Duration::from_secs(u64::from(self.stored.grace) + 10);
            let ended = tokio::time::timeout(grace, self.follower.follow(&mut self.watched, &untimed)).await;
            if ended.is_err() {
                self.signal("kill -KILL -1").await;
                delete(self.cluster, self.watched.pod(), Some(1)).await?;
                self.follower.follow(&mut self.watched, &untimed).await?;
            }
            return self.conclude_within(stop).await;
        }
        if let State::Ended(main) = status::state(self.watched.pod(), MAIN) {
            // Unless an earlier call stopped it, it was faster, and its own end stands.
            return self.conclude(status::was_stopped(&main).then_some(stop)).await;
        }
        let mut outcome = status::deleted(self.watched.pod());
        stopped(&mut outcome, stop, &self.stored);
        Ok(outcome)
    }

    /// Like `conclude`, but a stopped task must go, with or without its files.
    async fn conclude_within(&mut self, stop: Stop) -> Result<Outcome, Halt> {
        let why = match tokio::time::timeout(COLLECT_BOUND, self.conclude(Some(stop))).await {
            Ok(Err(Halt::Error(Error::Unavailable(why)))) => why,
            Ok(outcome) => return outcome,
            Err(_) => format!("they did not arrive within {} s", COLLECT_BOUND.as_secs()),
        };
        let pod = self.watched.pod();
        let mut outcome = status::outcome(pod, &self.stored).unwrap_or_else(|| status::deleted(pod));
        stopped(&mut outcome, stop, &self.stored);
        outcome.message = format!("{}; its output files are lost: {why}", outcome.message);
        Ok(outcome)
    }

    /// Carries out a command that signals, inside main, in the shell that the script runs under.
    async fn signal(&self, command: &str) -> bool {
        let Some(shell) = &self.stored.shell else { return false };
        match Exec::start(self.cluster, self.watched.name(), MAIN, &[shell, "-c", command]).await {
            // The end of the container can cut the answer off.
            Ok(mut exec) => {
                let _ = exec.finish().await;
                true
            }
            Err(error) => {
                self.session
                    .note(Level::Warn, format!("the script could not be signalled: {error}"));
                false
            }
        }
    }
}

/// What became of the pulls of the script's image so far.
#[derive(Debug, Default)]
struct Pulls {
    with_secret: bool,
    failing: bool,
    failures: u32,
}

impl Pulls {
    /// Takes notice of whether the last one failed.
    fn note(&mut self, failing: bool) {
        let before = std::mem::replace(&mut self.failing, failing);
        self.failures += u32::from(failing && !before);
    }

    /// Whether the registry may have refused a pull that was made before the pull secret was there, which is created after
    /// the pod.
    fn are_doubtful(&self) -> bool {
        self.with_secret && self.failures < 2
    }
}

/// The container that keeps the output files after main's end.
struct Keeper<'k, 'c> {
    cluster: &'c Cluster<'c>,
    session: &'c Session<'c>,
    stored: &'k Stored,
    watched: &'k mut Watched<'c>,
    said: &'k mut String,
}

impl Keeper<'_, '_> {
    /// The output files. A pod that still has what did not arrive is no loss but a halt: another call can bring them.
    async fn outputs(&mut self, name: &str) -> Result<Vec<OutputFile>, Failure> {
        self.running().await?;
        let collected = collect::collect(self.cluster, self.session, name, self.stored).await;
        let Err(Failure::Unreached(why)) = collected else {
            return collected;
        };
        self.watched.look().await?;
        let kept = matches!(status::state(self.watched.pod(), SIDECAR), State::Running(_));
        if kept && !self.watched.gone() {
            return Err(Error::Unavailable(format!(
                "the output files did not arrive ({why}); pod `{name}` still has them: call `run` or `attach` again"
            ))
            .into());
        }
        Err(Failure::Lost(why))
    }

    /// Waits until the sidecar runs, which starts after main; fails if it never will.
    async fn running(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + Duration::from_secs(self.stored.wait_until_running);
        let lost = |why: &str| Err(Failure::Lost(why.to_owned()));
        loop {
            let pod = self.watched.pod();
            if self.watched.gone() {
                return lost("the pod is gone");
            }
            match status::state(pod, SIDECAR) {
                State::Running(_) => return Ok(()),
                State::Ended(end) if status::never_started(&end) => {
                    return Err(Failure::Refused(status::no_shell(
                        end.message.as_deref().unwrap_or_default(),
                    )));
                }
                State::Ended(_) => return lost("the sidecar that kept them has ended"),
                State::Waiting { .. } if status::over(pod) => {
                    return lost("the pod ended before its sidecar started");
                }
                State::Waiting { .. } => {}
            }
            match status::waiting(pod) {
                Some(Waiting::Hopeless(_, why)) => return Err(Failure::Refused(why)),
                Some(Waiting::Patience(why)) if Instant::now() >= deadline => return Err(Failure::Lost(why)),
                None if Instant::now() >= deadline => return lost("their sidecar did not start"),
                _ => {}
            }
            say_why(self.session, self.watched.pod(), self.said);
            self.session.flush_news()?;
            tokio::select! {
                changed = self.watched.changed() => changed?,
                () = tokio::time::sleep_until(deadline) => {}
            }
        }
    }
}

/// Says what the cluster waits for, once.
fn say_why(session: &Session<'_>, pod: &Pod, said: &mut String) {
    if let Some(Waiting::Patience(why) | Waiting::Hopeless(_, why)) = status::waiting(pod)
        && why != *said
    {
        session.note(Level::Info, format!("waiting: {why}"));
        *said = why;
    }
}

fn lose(outcome: &mut Outcome, reason: &str, message: String, retryable: bool) {
    // A script that failed by itself keeps its own reason: that is what its author must look at.
    if outcome.status == Status::Succeeded {
        outcome.status = Status::Failed;
        outcome.reason = Some(reason.to_owned());
        outcome.retryable = retryable;
        outcome.message = message;
    } else {
        outcome.message = format!("{}; {message}", outcome.message);
    }
}

fn stopped(outcome: &mut Outcome, stop: Stop, stored: &Stored) {
    match stop {
        Stop::Cancelled => {
            outcome.status = Status::Cancelled;
            outcome.reason = None;
            outcome.message = "the task was cancelled".into();
        }
        Stop::Overdue => {
            outcome.status = Status::TimedOut;
            outcome.reason = Some("deadline".into());
            outcome.message = format!("the script was stopped after {}", stored.limit());
        }
    }
    outcome.retryable = false;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_second_refusal_counts_where_the_first_may_have_come_before_the_pull_secret() {
        let with_secret = Pulls {
            with_secret: true,
            ..Pulls::default()
        };
        for (mut pulls, doubtful) in [(Pulls::default(), [false; 4]), (with_secret, [true, true, true, false])] {
            // Refused, put off, about to be tried again, refused.
            let found = [true, true, false, true].map(|failing| {
                pulls.note(failing);
                pulls.are_doubtful()
            });
            assert_eq!(found, doubtful);
        }
    }
}
