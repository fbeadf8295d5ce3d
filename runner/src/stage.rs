//! Sends input files into the waiting init container, one stream a unit: verified by SHA-256 in the pod, and after a
//! break resumed where the pod says it got to.

use crate::{
    client::Cluster,
    contract::{Error, Event, Level, Progress},
    exec::{Exec, ExecError},
    inputs::{Content, Inputs, Unit},
    pod::INIT,
    session::{Halt, Session},
};
use std::{io::Read, time::Duration};

const RECEIVE_SCRIPT: &str = concat!(include_str!("scripts/alive.sh"), include_str!("scripts/receive.sh"));
/// Bytes of one WebSocket message.
const MESSAGE: usize = 128 * 1024;
const ATTEMPTS: u32 = 5;

/// Sends every unit; returns when the pod has acknowledged the last one.
pub(crate) async fn stage(
    cluster: &Cluster<'_>,
    session: &Session<'_>,
    pod: &str,
    inputs: &Inputs,
) -> Result<(), Halt> {
    let groups = inputs.groups();
    let total = inputs.total();
    let mut meter = Meter {
        session,
        done: 0,
        total,
        reported: 0,
    };
    for (index, group) in groups.iter().enumerate() {
        let unit = &inputs.unit(index, group)?;
        let last = index + 1 == groups.len();
        let before = meter.done;
        let mut attempt = 1;
        loop {
            meter.done = before;
            let error = match send(cluster, pod, inputs, unit, last, &mut meter).await {
                Ok(()) => break,
                Err(Halt::Error(error)) => error,
                Err(halt) => return Err(halt),
            };
            if attempt == ATTEMPTS || !matches!(error, Error::Unavailable(_)) {
                return Err(error.into());
            }
            session.note(
                Level::Warn,
                format!("sending input files: {error}; going on where the pod got to"),
            );
            tokio::time::sleep(Duration::from_millis(200) * attempt.pow(2)).await;
            attempt += 1;
        }
        meter.done = before + group.iter().map(|f| f.size).sum::<u64>();
        meter.report(true)?;
    }
    Ok(())
}

async fn send(
    cluster: &Cluster<'_>,
    pod: &str,
    inputs: &Inputs,
    unit: &Unit<'_>,
    last: bool,
    meter: &mut Meter<'_>,
) -> Result<(), Halt> {
    let (path, mode) = match &unit.content {
        Content::Pack(_) => (String::new(), String::new()),
        Content::File(file) => (file.path.clone(), format!("{:o}", file.mode)),
    };
    let length = unit.length.to_string();
    let last = if last { "1" } else { "0" };
    let command = [
        "sh",
        "-c",
        RECEIVE_SCRIPT,
        "podrun",
        &unit.name,
        &length,
        &unit.sha256,
        &path,
        &mode,
        last,
    ];
    let mut exec = Exec::start(cluster, pod, INIT, &command).await.map_err(failed)?;
    let first = line(&mut exec).await.map_err(failed)?;
    if first == "done" {
        return Ok(());
    }
    let have = first.strip_prefix("have ").and_then(|n| n.parse().ok());
    let have: u64 = have.ok_or_else(|| Error::Unavailable(format!("the init container answered `{first}`")))?;
    meter.done += have;
    let mut source = inputs.open(unit, have)?;
    let mut left = unit.length.saturating_sub(have);
    let mut buffer = vec![0; MESSAGE];
    while left > 0 {
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(MESSAGE);
        let piece = buffer.get_mut(..room).unwrap_or_default();
        source
            .read_exact(piece)
            .map_err(|e| Error::InvalidArgument(format!("the input files changed or cannot be read: {e}")))?;
        exec.write(piece).await.map_err(failed)?;
        left -= room as u64;
        meter.done += room as u64;
        meter.report(false)?;
        // A pod that died or refused says so long before everything is sent.
        exec.ready().map_err(failed)?;
    }
    exec.flush().await.map_err(failed)?;
    let answer = exec.finish().await.map_err(failed)?;
    if answer.trim() == "done" {
        return Ok(());
    }
    Err(Error::Unavailable(format!(
        "the init container did not acknowledge a unit: `{}`",
        answer.trim()
    ))
    .into())
}

/// The first line of standard output.
async fn line(exec: &mut Exec) -> Result<String, ExecError> {
    let mut text = Vec::new();
    loop {
        match exec.next().await? {
            crate::exec::Output::Stdout(data) => {
                text.extend_from_slice(&data);
                if let Some(line) = text.strip_suffix(b"\n") {
                    return Ok(String::from_utf8_lossy(line).into_owned());
                }
            }
            crate::exec::Output::Stderr(_) => {}
            crate::exec::Output::Done => return Ok(String::from_utf8_lossy(&text).trim().to_owned()),
        }
    }
}

fn failed(error: ExecError) -> Halt {
    Halt::Error(match error {
        ExecError::Refused(error) => match error {
            // The container is not running (yet, or any more): the pod's status tells which.
            Error::NotFound(m) | Error::InvalidArgument(m) | Error::Other(m) => Error::Unavailable(m),
            other => other,
        },
        ExecError::Failed {
            code: Some(96),
            message,
        } => Error::InvalidArgument(message),
        ExecError::Failed { message, .. } if message.contains("No space left") => Error::InvalidArgument(format!(
            "the volume is too small for the input files: raise `options.volume.sizeLimit` ({message})"
        )),
        other => Error::Unavailable(other.to_string()),
    })
}

/// Reports progress, not more often than every MiB.
struct Meter<'s> {
    session: &'s Session<'s>,
    done: u64,
    total: u64,
    reported: u64,
}

impl Meter<'_> {
    fn report(&mut self, now: bool) -> Result<(), Halt> {
        if now || self.done >= self.reported + (1 << 20) {
            self.reported = self.done;
            self.session.push(Event::Progress(Progress {
                what: "inputs".into(),
                done: self.done,
                total: Some(self.total),
            }));
            if now {
                return self.session.flush_news();
            }
        }
        Ok(())
    }
}
