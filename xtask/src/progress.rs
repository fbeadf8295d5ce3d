//! What is printed while something takes time: the step's name, its elapsed time, a size where there is one.

use std::fmt;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::interrupt;

/// How often a step that is still going says so.
const TICK: Duration = Duration::from_secs(10);

/// One step of a command. Printed when it starts and when it is done.
pub(crate) struct Step {
    name: String,
    started: Instant,
    ticked: Instant,
}

impl Step {
    /// Announces the step.
    pub(crate) fn start(name: impl Into<String>) -> Self {
        let name = name.into();
        eprintln!("· {name}");
        let now = Instant::now();
        Self {
            name,
            started: now,
            ticked: now,
        }
    }

    /// Says that the step goes on, at most once every ten seconds.
    pub(crate) fn tick(&mut self, detail: &str) {
        if self.ticked.elapsed() >= TICK {
            self.ticked = Instant::now();
            let separator = if detail.is_empty() { "" } else { ", " };
            eprintln!("  … {}{separator}{detail}", Elapsed(self.started.elapsed()));
        }
    }

    /// Closes the step.
    pub(crate) fn done(self, detail: &str) -> Duration {
        let elapsed = self.started.elapsed();
        let separator = if detail.is_empty() { "" } else { ", " };
        eprintln!("✓ {} ({}{separator}{detail})", self.name, Elapsed(elapsed));
        elapsed
    }
}

/// Runs `command` with its output in `log`, ticking meanwhile; a failure shows the end of that log.
pub(crate) fn run(step: &mut Step, command: &mut Command, log: &Path) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let file = File::create(log).with_context(|| format!("failed to create `{}`", log.display()))?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let mut child = command
        .spawn()
        .with_context(|| format!("failed to start `{program}`"))?;
    let status = wait(step, &mut child)?;
    if !status.success() {
        bail!(
            "`{program}` failed ({status}); the end of `{}`:\n{}",
            log.display(),
            tail(log, 30)
        );
    }
    Ok(())
}

/// Waits for a child, ticking meanwhile.
fn wait(step: &mut Step, child: &mut Child) -> Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if interrupt::requested() {
            child.kill()?;
        }
        thread::sleep(Duration::from_millis(50));
        step.tick("");
    }
}

/// The last `lines` lines of a file, for an error's text.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(16 * 1024)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => {
            let all: Vec<&str> = text.lines().collect();
            all.get(all.len().saturating_sub(lines)..)
                .unwrap_or_default()
                .join("\n")
        }
        Err(error) => format!("(cannot be read: {error})"),
    }
}

/// A duration as a person reads it: `0.4 s`, `12 s`, `3 min 05 s`.
pub(crate) struct Elapsed(pub(crate) Duration);

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0..10 => write!(f, "{:.1} s", self.0.as_secs_f64()),
            10..60 => write!(f, "{seconds} s"),
            _ => write!(f, "{} min {:02} s", seconds / 60, seconds % 60),
        }
    }
}

/// A number of bytes as a person reads it.
pub(crate) struct Size(pub(crate) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0..1_024 => write!(f, "{} B", self.0),
            1_024..1_048_576 => write!(f, "{} KiB", self.0 / 1_024),
            _ => write!(f, "{} MiB", self.0 / 1_048_576),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_readable() {
        assert_eq!(Elapsed(Duration::from_millis(420)).to_string(), "0.4 s");
        assert_eq!(Elapsed(Duration::from_secs(12)).to_string(), "12 s");
        assert_eq!(Elapsed(Duration::from_secs(185)).to_string(), "3 min 05 s");
        assert_eq!(Size(900).to_string(), "900 B");
        assert_eq!(Size(2_048).to_string(), "2 KiB");
        assert_eq!(Size(130_000_000).to_string(), "123 MiB");
    }

    #[test]
    fn a_failing_tool_shows_the_end_of_its_output() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut step = Step::start("test");
        let error = run(
            &mut step,
            Command::new("sh").args(["-c", "echo first; echo last >&2; exit 3"]),
            &log,
        )
        .unwrap_err();
        assert!(error.to_string().contains("first\nlast"), "{error}");
    }
}
