//! Ctrl-C and SIGTERM: the tool that runs is ended, nothing new is started, and what was made is still taken down.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// How long an interrupted tool may take to end by itself.
const GRACE: Duration = Duration::from_secs(5);

/// From now on an interrupt is noticed instead of ending this process.
pub(crate) fn watch() -> Result<()> {
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::SeqCst)).context("failed to watch for interrupts")
}

/// Whether somebody asked to stop.
pub(crate) fn requested() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// Runs a tool on the terminal. It has a process group of its own, so that all that it starts can be ended.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let mut child = start(command)?;
    check(command, wait(&mut child)?)
}

/// Like [`run`], and returns what the tool prints on its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let mut child = start(command.stdout(Stdio::piped()))?;
    let stdout = child.stdout.take();
    let reader = thread::spawn(move || {
        let mut text = Vec::new();
        stdout
            .map(|mut stdout| stdout.read_to_end(&mut text))
            .transpose()
            .map(|_| text)
    });
    let status = wait(&mut child)?;
    let Ok(text) = reader.join() else {
        bail!("failed to read what {:?} printed", command.get_program())
    };
    check(command, status)?;
    Ok(String::from_utf8_lossy(&text?).into_owned())
}

fn start(command: &mut Command) -> Result<Child> {
    if requested() {
        bail!("interrupted");
    }
    command.stdin(Stdio::null()).process_group(0);
    command
        .spawn()
        .with_context(|| format!("failed to start {:?}", command.get_program()))
}

fn check(command: &Command, status: ExitStatus) -> Result<()> {
    if requested() {
        bail!("interrupted");
    }
    if !status.success() {
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
        bail!(
            "`{} {}` failed ({status})",
            command.get_program().to_string_lossy(),
            arguments.join(" ")
        );
    }
    Ok(())
}

fn wait(child: &mut Child) -> Result<ExitStatus> {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let mut asked: Option<Instant> = None;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if let Some(group) = group.filter(|_| requested()) {
            match asked {
                None => {
                    let _ = kill_process_group(group, Signal::TERM);
                    asked = Some(Instant::now());
                }
                Some(since) if since.elapsed() > GRACE => {
                    let _ = kill_process_group(group, Signal::KILL);
                }
                Some(_) => {}
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command() {
        let error = run(Command::new("sh").args(["-c", "exit 3"])).unwrap_err().to_string();
        assert!(
            error.contains("`sh -c exit 3` failed") && error.contains('3'),
            "{error}"
        );
        assert_eq!(output(Command::new("echo").arg("hi")).unwrap(), "hi\n");
    }
}
