//! Processes of a cluster: started in a session of their own, known by pid and start time, found again even when their
//! pid file was never written.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{io, thread};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// Every process of a cluster, and every shim they start, carries this variable with the cluster's folder.
const TAG: &str = "PODRUN_CLUSTER";

/// A process that is told apart from a later one with the same pid by its start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    /// Its number.
    pub(crate) pid: u32,
    /// When it started, in clock ticks since the machine's boot.
    pub(crate) started: u64,
}

impl Process {
    /// The process that has this pid now, unless it is already dead and only waits to be reaped.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Self {
            pid,
            started: start_time(&stat)?,
        })
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// How long it has been running.
    pub(crate) fn age(self) -> Option<Duration> {
        let uptime = fs::read_to_string("/proc/uptime").ok()?;
        let seconds: f64 = uptime.split_whitespace().next()?.parse().ok()?;
        // The kernel reports start times in hundredths of a second on every architecture that Linux user space sees.
        Some(Duration::from_secs_f64(
            (seconds - self.started as f64 / 100.0).max(0.0),
        ))
    }

    /// Resident memory in bytes.
    pub(crate) fn memory(self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim()
            .strip_suffix(" kB")?
            .parse::<u64>()
            .ok()
            .map(|kib| kib * 1024)
    }

    /// Sends SIGKILL to this process and never to another one that took over its pid.
    fn kill(self) -> Result<()> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return Ok(());
        };
        // The descriptor pins the process; only then is the start time compared.
        let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) else {
            return Ok(());
        };
        if !self.is_alive() {
            return Ok(());
        }
        match pidfd_send_signal(descriptor, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(io::Error::from(error)).with_context(|| format!("failed to kill process {}", self.pid)),
        }
    }
}

/// Field 22 of `/proc/PID/stat`; the second field may contain spaces and parentheses. None for a zombie.
fn start_time(stat: &str) -> Option<u64> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// One component of a cluster: what its pid file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Daemon {
    /// The process.
    pub(crate) process: Process,
    /// The command line and the text of its configuration, so that a component is started anew when they have changed.
    pub(crate) command: Vec<String>,
    #[serde(default)]
    pub(crate) configuration: String,
}

/// The component that the pid file `file` names, if it still runs.
pub(crate) fn running(file: &Path) -> Option<Daemon> {
    let daemon: Daemon = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    daemon.process.is_alive().then_some(daemon)
}

/// A component that is to run.
#[derive(Clone, Debug)]
pub(crate) struct Component {
    /// Its name, which is also that of its pid file and its log.
    pub(crate) name: &'static str,
    /// The command line.
    pub(crate) command: Vec<String>,
    /// The text of its configuration file, if it reads one only when it starts.
    pub(crate) configuration: String,
}

/// A component that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ensured {
    /// It ran already.
    Found(Process),
    /// It was started.
    Started(Process),
}

/// Starts a component, or leaves it alone when it runs with the same command line and
/// configuration.
pub(crate) fn ensure(cluster: &Path, component: &Component, path: &str) -> Result<Ensured> {
    let Component {
        name,
        command,
        configuration,
    } = component;
    let file = pid_file(cluster, name);
    if let Some(daemon) = running(&file) {
        if daemon.command == *command && daemon.configuration == *configuration {
            return Ok(Ensured::Found(daemon.process));
        }
        end(&[daemon.process])?;
    }
    let log_path = log_file(cluster, name);
    let log = File::options().create(true).append(true).open(&log_path);
    let log = log.with_context(|| format!("failed to open `{}`", log_path.display()))?;
    // `setsid` replaces itself by the component, which keeps the pid and no longer belongs to the terminal.
    let child = Command::new("setsid")
        .args(command)
        .current_dir(cluster)
        .env(TAG, cluster)
        .env("PATH", path)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("failed to start {name}"))?;
    let Some(process) = Process::of(child.id()) else {
        bail!("{name} ended at once: see `{}`", log_path.display())
    };
    let text = serde_json::to_vec_pretty(&Daemon {
        process,
        command: command.clone(),
        configuration: configuration.clone(),
    })?;
    let draft = file.with_extension("new");
    fs::write(&draft, text)
        .and_then(|()| fs::rename(&draft, &file))
        .with_context(|| format!("failed to write `{}`", file.display()))?;
    Ok(Ensured::Started(process))
}

/// Where a component's pid file lies.
pub(crate) fn pid_file(cluster: &Path, name: &str) -> PathBuf {
    cluster.join("run").join(format!("{name}.pid"))
}

/// Where a component's output goes.
pub(crate) fn log_file(cluster: &Path, name: &str) -> PathBuf {
    cluster.join("logs").join(format!("{name}.log"))
}

/// Every live process that was started for the cluster in `cluster`, whoever started it.
pub(crate) fn tagged(cluster: &Path) -> Vec<Process> {
    let mut entry = format!("{TAG}=").into_bytes();
    entry.extend_from_slice(cluster.as_os_str().as_bytes());
    all()
        .filter(|process| {
            let environment = fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == entry)
        })
        .collect()
}

/// Every process of the machine.
fn all() -> impl Iterator<Item = Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Process::of)
}

/// Kills the processes and waits until they are gone.
pub(crate) fn end(processes: &[Process]) -> Result<()> {
    for process in processes {
        process.kill()?;
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    for process in processes {
        while process.is_alive() {
            if Instant::now() > deadline {
                bail!("process {} does not end after SIGKILL", process.pid);
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_survives_an_awkward_program_name() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 1 0 987654 1 2 3";
        assert_eq!(start_time(stat), Some(987_654));
        assert_eq!(start_time(&stat.replace(" S ", " Z ")), None);
    }

    #[test]
    fn a_pid_taken_over_by_another_process_is_not_alive() {
        let me = Process::of(std::process::id()).unwrap();
        assert!(me.is_alive());
        assert!(
            !Process {
                started: me.started + 1,
                ..me
            }
            .is_alive()
        );
    }

    #[test]
    fn a_component_is_started_once_found_by_its_tag_and_ended() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("run")).unwrap();
        fs::create_dir_all(folder.path().join("logs")).unwrap();
        let path = std::env::var("PATH").unwrap();
        let command = vec!["sleep".to_owned(), "600".to_owned()];
        let mut sleeper = Component {
            name: "sleeper",
            command,
            configuration: String::new(),
        };
        let started = |sleeper: &Component| match ensure(folder.path(), sleeper, &path).unwrap() {
            Ensured::Started(process) => process,
            Ensured::Found(process) => panic!("{process:?} is not what was asked for"),
        };
        let first = started(&sleeper);
        let again = ensure(folder.path(), &sleeper, &path).unwrap();
        assert_eq!(again, Ensured::Found(first), "a second start must do nothing");
        sleeper.configuration = "other".to_owned();
        let second = started(&sleeper);
        assert!(
            !first.is_alive() && second.is_alive(),
            "a changed configuration must restart it"
        );
        // Without its pid file it is still found.
        fs::remove_file(pid_file(folder.path(), "sleeper")).unwrap();
        assert_eq!(tagged(folder.path()), [second]);
        end(&[second]).unwrap();
        assert!(tagged(folder.path()).is_empty());
    }
}
