//! A small init: it starts the server again when that dies, reaps whoever lost its parent, and passes on the end.
//!
//! It has one thread, opens nothing and decides nothing about tasks, so that there is little in it that could fail.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, WaitOptions, WaitStatus};

/// The variable that tells a server which init started it.
pub const MARK: &str = "PODRUN_AGENT_INIT";

/// A server that lives so long counts as good.
const GOOD: Duration = Duration::from_secs(5);

/// The longest pause before the server is started again.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How often a server that dies while it stops the tasks is started again to go on with that.
const STOP_TRIES: u32 = 3;

/// Whether this process is a server that an init started.
#[must_use]
pub fn is_started_by_init() -> bool {
    let init = std::env::var(MARK).ok().and_then(|init| init.parse().ok());
    init.is_some() && init == rustix::process::getppid().map(|parent| parent.as_raw_nonzero().get())
}

/// Runs servers until the end is asked for. `arguments` are the server's.
#[must_use]
pub fn run(arguments: &[OsString]) -> ExitCode {
    match Init::new(arguments) {
        Ok(init) => ExitCode::from(init.run()),
        Err(error) => {
            log::error!("failed to become an init: {error}");
            ExitCode::from(crate::FAILURE)
        }
    }
}

struct Init<'a> {
    arguments: &'a [OsString],
    signals: SignalFd,
}

/// The server that runs.
struct Server {
    pid: Pid,
    since: Instant,
}

impl<'a> Init<'a> {
    fn new(arguments: &'a [OsString]) -> io::Result<Self> {
        // The server takes its signals when it is ready for them: until then they wait.
        let set = SigSet::all();
        set.thread_block()?;
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { arguments, signals })
    }

    fn run(self) -> u8 {
        let mut server: Option<Server> = None;
        let mut pause = Duration::ZERO;
        let mut start_at = Instant::now();
        let mut was_good = false;
        let mut ending = false;
        let mut stop_tries = 0;
        loop {
            if server.is_none() && start_at <= Instant::now() {
                match self.start() {
                    Ok(pid) => {
                        if ending {
                            forward(pid, Signal::SIGUSR2);
                        }
                        server = Some(Server {
                            pid,
                            since: Instant::now(),
                        });
                    }
                    Err(error) => {
                        log::error!("failed to start the server: {error}; it is tried again");
                        start_at = Instant::now() + LONGEST_PAUSE;
                    }
                }
            }
            self.wait(
                server
                    .is_none()
                    .then(|| start_at.saturating_duration_since(Instant::now())),
            );
            while let Ok(Some(signal)) = self.signals.read_signal() {
                let Ok(signal) = Signal::try_from(signal.ssi_signo.cast_signed()) else {
                    continue;
                };
                match (signal, &server) {
                    (Signal::SIGCHLD, _) => {}
                    (Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT, server) => {
                        ending = true;
                        if let Some(server) = server {
                            forward(server.pid, Signal::SIGUSR2);
                        }
                    }
                    (other, Some(server)) => forward(server.pid, other),
                    (_, None) => {}
                }
            }
            while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
                let Some(ended) = server.take_if(|server| server.pid == pid) else {
                    continue;
                };
                was_good |= ended.since.elapsed() >= GOOD;
                if ending && (status.exit_status() == Some(0) || stop_tries >= STOP_TRIES) {
                    return status
                        .exit_status()
                        .map_or(crate::FAILURE, |code| u8::try_from(code).unwrap_or(crate::FAILURE));
                }
                stop_tries += u32::from(ending);
                if !was_good && status.exit_status() == Some(i32::from(crate::FAILURE)) {
                    // What it cannot use now it cannot use later. Whoever runs this container says it better.
                    return crate::FAILURE;
                }
                pause = if ended.since.elapsed() >= GOOD {
                    Duration::ZERO
                } else {
                    (pause * 2).clamp(Duration::from_millis(20), LONGEST_PAUSE)
                };
                start_at = Instant::now() + pause;
                log::warn!(
                    "the server ended ({}); tasks go on, and it is started again",
                    describe(status)
                );
            }
        }
    }

    fn start(&self) -> io::Result<Pid> {
        let child = Command::new("/proc/self/exe")
            .arg0("podrun-agent")
            .args(self.arguments)
            .env(MARK, std::process::id().to_string())
            .spawn()?;
        Pid::from_raw(child.id().cast_signed()).ok_or_else(|| io::Error::other("the server has no number"))
    }

    fn wait(&self, longest: Option<Duration>) {
        let longest = longest.and_then(|longest| Timespec::try_from(longest).ok());
        let _ = rustix::event::poll(&mut [PollFd::new(&self.signals, PollFlags::IN)], longest.as_ref());
    }
}

fn forward(pid: Pid, signal: Signal) {
    if let Some(signal) = rustix::process::Signal::from_named_raw(signal as i32) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

fn describe(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown status".to_owned(),
    }
}
