//! A supervisor's life: claim the task, start it, wait for whatever happens, write down the end, leave nothing.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, WaitOptions, WaitStatus};

use super::cgroup::Cgroup;
use super::channel::{Ends, Request};
use super::child::{self, Plan};
use super::output::Output;
use super::{Order, tree};
use crate::descriptors;
use crate::protocol::{Moment, Reason, Spec};
use crate::sidecar::{self, Surroundings};
use crate::store::atomic::{self, Durability};
use crate::store::records::{Claim, Ended, Identity, Started, Stop, Task};
use crate::store::{TaskId, file};

/// How soon something that cannot be awaited is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// How soon processes that were killed are looked for again; they may be held up in the kernel.
const KILL_AGAIN: Duration = Duration::from_millis(20);

/// How long a task waits for the main container to run.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// The largest record that is read.
const LARGEST: u64 = 64 << 20;

/// What went wrong before the task could be claimed. Whoever started the supervisor may try again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("failed to {0}: {1}")]
    Io(&'static str, io::Error),
    #[error("`{0}` is not a task's folder")]
    Folder(String),
    #[error("the `task` file cannot be used: {0}")]
    Task(String),
}

fn at<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Error {
    move |error| Error::Io(step, error.into())
}

/// Runs the task of a folder to its end, unless somebody else does or it is not to be run.
pub(super) fn supervise(order: &Order) -> Result<(), Error> {
    let folder = atomic::open_folder(&order.folder).map_err(at("open the folder"))?;
    let name = order.folder.file_name().and_then(|name| name.to_str());
    let id = name
        .and_then(TaskId::parse)
        .ok_or_else(|| Error::Folder(order.folder.display().to_string()))?;
    let _ = rustix::process::setsid();
    let _ = std::env::set_current_dir("/");
    let signals = signals().map_err(at("take signals"))?;
    let task = atomic::read(&folder, file::TASK, LARGEST).map_err(at("read the `task` file"))?;
    let task = task.ok_or_else(|| Error::Task("it is not there".to_owned()))?;
    let task: Task = serde_json::from_slice(&task).map_err(|error| Error::Task(error.to_string()))?;
    // Whoever finds the claim may rely on the pipes: they are open before it, and until the end.
    let ends = Ends::open(&folder).map_err(at("open the pipes"))?;
    let surroundings = match &order.main_container {
        Some(name) => enter(name, &folder, &ends),
        None => Ok(Surroundings::own()),
    };
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(at("become a subreaper"))?;
    if !claim(&folder, order.claim)? {
        return Ok(());
    }
    if let Some(most) = order.open_files {
        descriptors::limit(most);
    }
    if order.main_container.is_some() {
        // It outlives the agent's container, whose runtime waits until nobody has its log open any more.
        let null = std::fs::File::options().write(true).open("/dev/null");
        let _ = null.map(rustix::stdio::dup2_stderr);
    }
    let supervisor = Supervisor {
        id,
        folder,
        ends,
        signals,
        grace: Duration::from_millis(order.grace_ms),
    };
    supervisor.run(&task.spec, surroundings, order.log_limit);
    Ok(())
}

/// Enters the main container, once it runs. A task that is to stop meanwhile is not held up.
fn enter(name: &str, folder: &OwnedFd, ends: &Ends) -> Result<Surroundings, String> {
    let last = Instant::now() + START_PATIENCE;
    loop {
        match sidecar::enter(name) {
            Err(error) if error.is_passing() && Instant::now() < last && !is_stopped(folder, ends) => {
                let again = Timespec::try_from(AGAIN).ok();
                let _ = rustix::event::poll(&mut [PollFd::new(&ends.control, PollFlags::IN)], again.as_ref());
            }
            entered => return entered.map_err(|error| error.to_string()),
        }
    }
}

/// A disk that is full cannot hold the file: the request alone counts too.
fn is_stopped(folder: &OwnedFd, ends: &Ends) -> bool {
    ends.has_request() || !matches!(atomic::read(folder, file::STOP, LARGEST), Ok(None))
}

fn signals() -> nix::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [
        Signal::SIGCHLD,
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ] {
        set.add(signal);
    }
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

fn claim(folder: &OwnedFd, durability: Durability) -> Result<bool, Error> {
    let own = Identity::of(std::process::id().cast_signed());
    let claim = Claim {
        supervisor: own.ok_or_else(|| Error::Io("find out who this is", io::Error::other("`/proc` cannot be read")))?,
        claimed_at: Moment::now(),
    };
    let claim = serde_json::to_vec(&claim).map_err(|error| at("write the claim")(io::Error::from(error)))?;
    atomic::create(folder, file::CLAIM, &claim, durability).map_err(at("claim the task"))
}

struct Supervisor {
    id: TaskId,
    folder: OwnedFd,
    ends: Ends,
    signals: SignalFd,
    grace: Duration,
}

/// A task under way.
struct Run {
    /// The program, until it has ended.
    main: Option<Pid>,
    started_at: Moment,
    outputs: [Output; 2],
    cgroup: Option<Cgroup>,
    deadline: Option<Instant>,
    stopping: Option<Stopping>,
    /// An end that could not be written yet.
    unwritten: Option<Ended>,
    /// Nobody needs it.
    unneeded: bool,
}

/// A task that is being stopped.
struct Stopping {
    reason: Reason,
    kill_at: Instant,
}

impl Supervisor {
    fn run(self, spec: &Spec, surroundings: Result<Surroundings, String>, log_limit: u64) {
        let started = if is_stopped(&self.folder, &self.ends) {
            Err((137, Reason::Killed, "Task was stopped before it was started".to_owned()))
        } else {
            surroundings
                .map_err(|message| (126, Reason::StartFailed, message))
                .and_then(|surroundings| self.start(spec, &surroundings, log_limit))
        };
        match started {
            Ok(run) => self.follow(run),
            Err((exit_code, reason, message)) => {
                let mut unwritten = Some(Ended {
                    exit_code,
                    signal: None,
                    reason,
                    message: Some(message),
                    started_at: None,
                    finished_at: Moment::now(),
                });
                let mut unneeded = false;
                while !self.write_end(&mut unwritten) && !unneeded {
                    self.wait(None, Some(AGAIN));
                    unneeded |= self.ends.take_request() == Some(Request::Delete);
                }
            }
        }
    }

    fn start(&self, spec: &Spec, surroundings: &Surroundings, log_limit: u64) -> Result<Run, (i32, Reason, String)> {
        let refuse = |message: String| (126, Reason::StartFailed, message);
        let Spec::Process(process) = spec else {
            return Err(refuse("a container has no supervisor".to_owned()));
        };
        let pipe = |error| refuse(format!("failed to make a pipe for the output: {error}"));
        let (stdout, stdout_writer) = Output::new("stdout", log_limit).map_err(pipe)?;
        let (stderr, stderr_writer) = Output::new("stderr", log_limit).map_err(pipe)?;
        // In the main container the task is in that one's cgroups, where nothing is ours to make.
        let cgroup = match surroundings.main {
            Some(_) => None,
            None => Cgroup::make(&self.id),
        };
        let begun = Instant::now();
        let main = child::start(Plan {
            id: &self.id,
            process,
            surroundings,
            cgroup: cgroup.as_ref(),
            stdout: stdout_writer,
            stderr: stderr_writer,
        });
        let main = main.map_err(|failure| {
            if let Some(cgroup) = &cgroup {
                let _ = rustix::process::wait(WaitOptions::empty());
                cgroup.remove();
            }
            (i32::from(failure.exit_code), Reason::StartFailed, failure.message)
        })?;
        let run = Run {
            main: Some(main),
            started_at: Moment::now(),
            outputs: [stdout, stderr],
            cgroup,
            deadline: spec
                .timeout_seconds()
                .and_then(|seconds| begun.checked_add(Duration::from_secs(seconds))),
            stopping: None,
            unwritten: None,
            unneeded: false,
        };
        let record = Started {
            started_at: run.started_at,
            process: Identity::of(main.as_raw_nonzero().get()),
            cgroup: run.cgroup.as_ref().map(|cgroup| cgroup.path().display().to_string()),
        };
        // The claim says durably that it was started; this only says when.
        let written = serde_json::to_vec(&record).map_err(io::Error::from);
        let written =
            written.and_then(|record| atomic::replace(&self.folder, file::STARTED, &record, Durability::Volatile));
        if let Err(error) = written {
            super::complain(&format!("failed to note the start of task {}: {error}", self.id));
        }
        self.ends.notify();
        if let Some(cgroup) = &run.cgroup {
            cgroup.take_in(main);
        }
        Ok(run)
    }

    /// Waits for things to happen until nothing of the task is left.
    fn follow(&self, mut run: Run) {
        loop {
            let mut more = false;
            for output in &mut run.outputs {
                more |= output.pump(&self.folder);
            }
            let request = self.ends.take_request();
            let signalled = self.take_signals();
            let late = run.deadline.is_some_and(|deadline| deadline <= Instant::now());
            // A program that ended before it was told to stop ended by itself, however late that is seen.
            let anybody_left = self.reap(&mut run);
            if let Some(request) = request {
                run.unneeded |= request == Request::Delete;
                self.begin_requested_stop(&mut run);
            }
            if signalled {
                run.begin_stop(Reason::Killed, self.grace);
            }
            if late && run.main.is_some() {
                run.begin_stop(Reason::TaskTimeout, self.grace);
            }
            let written = self.write_end(&mut run.unwritten);
            // An end that the disk does not take is tried again, unless nobody needs it.
            if !anybody_left && (written || run.unneeded) {
                break;
            }
            // A disk that does not take the end spares nobody.
            let killing = anybody_left && run.kill_when_due();
            let next = run
                .next_deadline()
                .filter(|_| anybody_left)
                .map(|next| next.saturating_duration_since(Instant::now()));
            let until = match (more, killing, written) {
                (true, _, _) => Some(Duration::ZERO),
                (false, true, _) => Some(KILL_AGAIN),
                (false, false, true) => next,
                (false, false, false) => Some(next.map_or(AGAIN, |next| next.min(AGAIN))),
            };
            self.wait(Some(&run), until);
        }
        for output in &mut run.outputs {
            output.drain(&self.folder);
        }
        if let Some(cgroup) = run.cgroup {
            cgroup.remove();
        }
    }

    /// Reaps whoever ended, the program among them. The answer says whether any process is left.
    fn reap(&self, run: &mut Run) -> bool {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if Some(pid) == run.main => {
                    run.main = None;
                    let finished_at = Moment::now();
                    // Whoever learns of the end may read all that the program wrote before. What others write
                    // meanwhile has time.
                    for output in &mut run.outputs {
                        output.drain(&self.folder);
                    }
                    run.unwritten = Some(run.ended(status, finished_at));
                }
                Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    /// Makes the end last. The answer says whether nothing is left to write.
    fn write_end(&self, unwritten: &mut Option<Ended>) -> bool {
        let Some(ended) = unwritten else { return true };
        let written = serde_json::to_vec(ended).map_err(io::Error::from);
        let written =
            written.and_then(|record| atomic::replace(&self.folder, file::ENDED, &record, Durability::Durable));
        if written.is_ok() {
            *unwritten = None;
            self.ends.notify();
        }
        written.is_ok()
    }

    fn stop_request(&self) -> Option<Stop> {
        let request = atomic::read(&self.folder, file::STOP, LARGEST).ok()??;
        // A request that cannot be read is one all the same.
        Some(serde_json::from_slice(&request).unwrap_or(Stop {
            requested_at: Moment::now(),
            grace_ms: u64::try_from(self.grace.as_millis()).unwrap_or(u64::MAX),
            delete: false,
        }))
    }

    fn begin_requested_stop(&self, run: &mut Run) {
        let grace = self
            .stop_request()
            .map_or(self.grace, |stop| Duration::from_millis(stop.grace_ms));
        run.begin_stop(Reason::Killed, grace);
    }

    /// Whether a signal asks for the task's end.
    fn take_signals(&self) -> bool {
        let mut asked = false;
        while let Ok(Some(signal)) = self.signals.read_signal() {
            asked |= signal.ssi_signo != Signal::SIGCHLD as u32 && signal.ssi_signo != Signal::SIGHUP as u32;
        }
        asked
    }

    fn wait(&self, run: Option<&Run>, longest: Option<Duration>) {
        let outputs = run.iter().flat_map(|run| &run.outputs).filter_map(Output::pipe);
        let pipes: Vec<_> = outputs
            .chain([self.ends.control.as_fd(), self.signals.as_fd()])
            .collect();
        let mut polled: Vec<_> = pipes.iter().map(|pipe| PollFd::new(pipe, PollFlags::IN)).collect();
        let longest = longest.and_then(|longest| Timespec::try_from(longest).ok());
        let _ = rustix::event::poll(&mut polled, longest.as_ref());
    }
}

impl Run {
    /// Sends TERM to everybody. A second request can only bring the end nearer.
    fn begin_stop(&mut self, reason: Reason, grace: Duration) {
        let now = Instant::now();
        let kill_at = now
            .checked_add(grace)
            .unwrap_or(now + Duration::from_secs(86_400 * 365));
        match &mut self.stopping {
            Some(stopping) => stopping.kill_at = stopping.kill_at.min(kill_at),
            None => {
                self.stopping = Some(Stopping { reason, kill_at });
                let family = tree::descendants(std::process::id().cast_signed());
                tree::signal(&family, rustix::process::Signal::TERM);
                // Whoever is stopped would not hear it.
                tree::signal(&family, rustix::process::Signal::CONT);
            }
        }
    }

    /// Kills everybody once the grace is over. The answer says whether that is so.
    fn kill_when_due(&self) -> bool {
        let due = self
            .stopping
            .as_ref()
            .is_some_and(|stopping| stopping.kill_at <= Instant::now());
        if due {
            if let Some(cgroup) = &self.cgroup {
                cgroup.kill();
            }
            tree::kill(std::process::id().cast_signed());
        }
        due
    }

    fn next_deadline(&self) -> Option<Instant> {
        match &self.stopping {
            Some(stopping) => Some(stopping.kill_at),
            None => self.deadline.filter(|_| self.main.is_some()),
        }
    }

    fn ended(&self, status: WaitStatus, finished_at: Moment) -> Ended {
        let signal = status.terminating_signal();
        let exit_code = status.exit_status().or(signal.map(|signal| 128 + signal)).unwrap_or(-1);
        let reason = match &self.stopping {
            Some(stopping) if stopping.reason == Reason::TaskTimeout => Reason::TaskTimeout,
            Some(stopping) if exit_code != 0 => stopping.reason,
            _ if exit_code == 0 => Reason::Succeeded,
            _ => Reason::Failed,
        };
        let how = match signal {
            Some(signal) => format!("ended by signal {signal}"),
            None => format!("ended with exit code {exit_code}"),
        };
        let message = match reason {
            Reason::Succeeded => "Task completed successfully".to_owned(),
            Reason::TaskTimeout => format!("Task ran into its timeout and {how}"),
            Reason::Killed => format!("Task was stopped on request and {how}"),
            _ => format!("Task {how}"),
        };
        Ended {
            exit_code,
            signal,
            reason,
            message: Some(message),
            started_at: Some(self.started_at),
            finished_at,
        }
    }
}
