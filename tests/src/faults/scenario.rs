//! One task with a file in, a log of many lines and a file out; one death of its host; one more call of the same command.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{ChildStdout, Command};
use tokio::sync::mpsc;

use super::{Audit, Harm, Moment, Place, Podrun, Proxy, Target, Trap};

/// Lines that the script writes, over about two seconds.
pub const LINES: usize = 400;

/// Longer than anything that goes well takes.
const PATIENCE: Duration = Duration::from_secs(150);

/// How the input file gets into the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Inside the pod's spec.
    Inline,
    /// Through exec into the waiting init container.
    Exec,
}

/// When the host dies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kill {
    /// At a barrier of the journal, by `abort`.
    Barrier(&'static str),
    /// When a request to the API server is at this point, by SIGKILL.
    Request(Trap),
    /// This long after it was seen to enter a phase of the journal, by SIGKILL.
    Phase(&'static str, Duration),
    /// When `podrun kill` has made it stop the script and the request with the signal is at this point, by SIGKILL.
    Stop(Moment),
}

/// How the task is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The script comes to its end.
    Itself,
    /// The script waits until it is stopped.
    Stopped,
}

/// A task and its host.
#[derive(Debug)]
pub struct Scenario {
    /// Names it in the journal, the cluster and error messages.
    pub id: String,
    podrun: Podrun,
    proxy: Proxy,
    folder: TempDir,
    content: Vec<u8>,
    ending: Ending,
}

impl Scenario {
    /// Lays out the flow, the input and the way to the cluster.
    pub async fn new(place: &Place, id: &str, way: Way, ending: Ending) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let proxy = Proxy::start(place).await?;
        place.kubeconfig(&folder.path().join("kubeconfig"), Some(&proxy))?;
        let (size, limit) = match way {
            Way::Inline => (20_000, 64 * 1024),
            Way::Exec => (3_000_000, 0),
        };
        let mut random = fastrand::Rng::with_seed(id.bytes().map(u64::from).sum());
        let content: Vec<u8> = (0..size).map(|_| random.u8(..)).collect();
        fs::write(folder.path().join("data.bin"), &content)?;
        fs::write(folder.path().join("flow.yaml"), flow(limit, ending))?;
        Ok(Self {
            id: id.to_owned(),
            podrun: Podrun::new(folder.path())?,
            proxy,
            folder,
            content,
            ending,
        })
    }

    fn command(&self) -> Command {
        let mut command = self.podrun.command(&[
            "run",
            "flow.yaml",
            "--execution-id",
            &self.id,
            "-i",
            "file=@data.bin",
            "--outputs",
            "out",
            "--json",
        ]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut command = Command::from(command);
        command.kill_on_drop(true);
        command
    }

    /// Runs the command until it dies as asked. False if it came to its end before that.
    pub async fn die(&self, kill: Kill) -> Result<bool> {
        let mut command = self.command();
        match kill {
            Kill::Barrier(point) => {
                let output = within(command.env("PODRUN_CRASH_AT", point).output()).await?;
                ensure!(
                    output.status.code().is_none(),
                    "{}: it did not die at `{point}`: {}\n{}",
                    self.id,
                    output.status,
                    text(&output)
                );
                Ok(true)
            }
            Kill::Request(trap) => {
                self.proxy.set(trap);
                self.kill_when(command, Some(trap), async |_| self.proxy.caught().await)
                    .await
            }
            Kill::Phase("ended", delay) => {
                // The end of a task is not told as a phase: its sign is that the pod is being deleted.
                self.proxy.set(Trap {
                    target: Target::Delete,
                    number: 1,
                    moment: Moment::Passed,
                });
                self.kill_when(command, None, async |_| {
                    self.proxy.caught().await;
                    tokio::time::sleep(delay).await;
                })
                .await
            }
            Kill::Phase(phase, delay) => {
                self.kill_when(command, None, async |phases: &mut Phases| {
                    phases.begins(phase).await;
                    tokio::time::sleep(delay).await;
                })
                .await
            }
            Kill::Stop(moment) => {
                let trap = Trap {
                    target: Target::Exec("main"),
                    number: 1,
                    moment,
                };
                self.proxy.set(trap);
                self.kill_when(command, Some(trap), async |phases: &mut Phases| {
                    phases.says(&last_line()).await;
                    // It waits for the host, and would see to the pod itself as soon as the host is dead.
                    let mut kill = Command::from(self.podrun.command(&["kill", &self.id]));
                    let kill = kill.kill_on_drop(true).stderr(Stdio::null()).spawn();
                    self.proxy.caught().await;
                    drop(kill);
                })
                .await
            }
        }
    }

    async fn kill_when(
        &self,
        mut command: Command,
        trap: Option<Trap>,
        moment: impl AsyncFnOnce(&mut Phases),
    ) -> Result<bool> {
        let mut child = command.spawn()?;
        let mut phases = Phases::read(child.stdout.take().context("no standard output")?);
        let died = tokio::select! {
            status = child.wait() => {
                let status = status?;
                if let Some(trap) = trap {
                    bail!("{}: it ended before {trap:?}: {status}", self.id);
                }
                ensure!(status.success(), "{}: it failed before it was killed: {status}", self.id);
                false
            }
            () = moment(&mut phases) => true,
            () = tokio::time::sleep(PATIENCE) => bail!("{}: the moment to kill it never came", self.id),
        };
        if died {
            if let Some(trap) = trap {
                self.check_order(trap)?;
            }
            child.kill().await?;
        }
        Ok(died)
    }

    /// What must be durable before the server gets a request.
    fn check_order(&self, trap: Trap) -> Result<()> {
        let kept = self.journal()?.context("the journal does not know the task")?;
        match (trap.target, trap.moment) {
            (Target::Create, _) => ensure!(
                kept.handle.is_some(),
                "{}: a pod is created, and the journal does not know its handle",
                self.id
            ),
            (Target::Exec("out-files"), _) => {
                let out = self.collected();
                ensure!(
                    !out.join("out.bin").exists(),
                    "{}: a file has its final name before it is complete",
                    self.id
                );
            }
            (Target::Delete, _) => {
                ensure!(
                    kept.outcome.is_some(),
                    "{}: the pod is deleted, and the journal does not know the outcome",
                    self.id
                );
                self.check_file(&self.collected())?;
            }
            _ => {}
        }
        Ok(())
    }

    /// The phase that the journal knows: `ended` once it has the outcome.
    pub fn phase(&self) -> Result<Option<String>> {
        Ok(self.journal()?.and_then(|kept| kept.phase))
    }

    /// Does harm to the next `times` answers that this host gets to such requests.
    pub fn harm(&self, target: Target, times: usize, harm: Harm) {
        self.proxy.harm(target, times, harm);
    }

    /// Checks that an upload that broke was taken up where the pod had got to: what went over later connections is less
    /// than the file.
    pub fn check_resumed(&self) -> Result<()> {
        let sent = self.proxy.sent(Target::Exec("init-files"));
        let (first, later) = sent.split_first().context("nothing was uploaded")?;
        let later: usize = later.iter().sum();
        let whole = self.content.len();
        ensure!(*first > whole / 2, "{}: it broke too early to tell: {sent:?}", self.id);
        ensure!(
            later > 0 && later < whole,
            "{}: of {whole} bytes {first} were sent before the break and {later} after it",
            self.id
        );
        Ok(())
    }

    /// Has the task stopped while the API server has not got the pod's creation yet, which then gets it, and checks that
    /// nothing of it goes on.
    pub async fn stop_while_created(&self) -> Result<()> {
        self.proxy.harm(Target::Create, 1, Harm::Held);
        let mut child = self.command().spawn()?;
        let mut phases = Phases::read(child.stdout.take().context("no standard output")?);
        let mut kill = Command::from(self.podrun.command(&["kill", &self.id]));
        let waited = async {
            self.proxy.caught().await;
            let kill = kill.kill_on_drop(true).stderr(Stdio::null()).spawn()?;
            phases
                .until(|report| report["message"].as_str().is_some_and(|said| said.contains("creation")))
                .await;
            self.proxy.release();
            anyhow::Ok(kill)
        };
        let mut kill = tokio::select! {
            kill = waited => kill?,
            status = child.wait() => bail!("{}: it ended before the pod was created: {}", self.id, status?),
            () = tokio::time::sleep(PATIENCE) => bail!("{}: it is never stopped", self.id),
        };
        let (killed, ended) = (kill.wait().await?, child.wait().await?);
        ensure!(
            killed.success() && ended.code() == Some(130),
            "{}: the kill ended with {killed}, the run with {ended}",
            self.id
        );
        Ok(())
    }

    /// Runs the command until it gives up on outputs that never arrive whole, and checks that none is taken for one.
    pub async fn miss_outputs(&self) -> Result<()> {
        let output = within(self.command().output()).await?;
        let said = text(&output);
        ensure!(
            output.status.code() == Some(3) && said.contains("still has them") && !said.contains("\"task-ended\""),
            "{}: {}\n{said}",
            self.id,
            output.status,
        );
        ensure!(
            !self.collected().join("out.bin").exists(),
            "{}: a damaged file has its final name",
            self.id
        );
        Ok(())
    }

    /// Runs the command, which must fail because the end of the log does not arrive, and must not call that an end.
    pub async fn miss_log(&self) -> Result<()> {
        let output = within(self.command().output()).await?;
        let said = text(&output);
        ensure!(
            output.status.code() == Some(3)
                && said.contains("the end of the log did not arrive")
                && !said.contains("\"task-ended\""),
            "{}: {}\n{said}",
            self.id,
            output.status,
        );
        Ok(())
    }

    /// Runs the same command again, to its end, and checks everything that can be seen from here.
    pub async fn go_on(&self) -> Result<()> {
        let output = within(self.command().output()).await?;
        let (code, state) = match self.ending {
            Ending::Itself => (0, "succeeded"),
            Ending::Stopped => (130, "cancelled"),
        };
        ensure!(
            output.status.code() == Some(code),
            "{}: the same command did not go on: {}\n{}",
            self.id,
            output.status,
            text(&output)
        );
        let logs = Command::from(self.podrun.command(&["logs", &self.id, "--quiet"]))
            .output()
            .await?;
        let expected: String = (1..=LINES).map(|number| line(number) + "\n").collect();
        let found = String::from_utf8_lossy(&logs.stdout);
        ensure!(
            found == expected,
            "{}: `podrun logs` differs from what the script wrote: {}",
            self.id,
            difference(&expected, &found)
        );
        self.check_file(&self.folder.path().join("out/work"))?;
        self.check_file(&self.collected())?;
        // Whatever is written under a temporary name has a dot in front of it.
        let hidden = |path: &PathBuf| {
            let below = path.strip_prefix(self.folder.path()).unwrap_or(path);
            below
                .components()
                .any(|part| part.as_os_str().to_string_lossy().starts_with('.'))
        };
        let mut strays = files(&self.podrun.state())?;
        strays.extend(files(&self.folder.path().join("out"))?);
        strays.retain(hidden);
        ensure!(
            strays.is_empty(),
            "{}: unfinished files are left behind: {strays:?}",
            self.id
        );
        let ps = Command::from(self.podrun.command(&["ps", "--json"])).output().await?;
        let row: Value = serde_json::from_slice(&ps.stdout)
            .with_context(|| format!("`ps` lists not one execution: {}", String::from_utf8_lossy(&ps.stdout)))?;
        ensure!(row["state"] == state && row["process"].is_null(), "{}: {row}", self.id);
        let kept = self.journal()?.context("the journal forgot the task")?;
        ensure!(
            kept.cleaned,
            "{}: the journal does not know that the pod is gone",
            self.id
        );
        Ok(())
    }

    /// Holds the cluster's own record against the journal's.
    pub fn audit(&self, audit: &Audit) -> Result<()> {
        let created: Vec<_> = audit
            .created
            .iter()
            .filter(|created| created.execution == self.id)
            .collect();
        ensure!(
            created.len() == 1,
            "{}: {} pods were created: {created:?}",
            self.id,
            created.len()
        );
        let kept = self.journal()?.context("the journal forgot the task")?;
        let ended = kept.ended.context("the journal has no end")?;
        for pod in created {
            let deleted: Vec<_> = audit.deleted.iter().filter(|deleted| deleted.pod == pod.pod).collect();
            ensure!(!deleted.is_empty(), "{}: nobody deleted {}", self.id, pod.pod);
            for deleted in deleted {
                ensure!(
                    deleted.uid.is_some(),
                    "{}: a deletion without a UID: {deleted:?}",
                    self.id
                );
                // The journal keeps milliseconds, the audit log microseconds.
                ensure!(
                    deleted.time.as_str() >= ended.as_str(),
                    "{}: deleted at {}, and the outcome was durable at {ended}",
                    self.id,
                    deleted.time
                );
            }
        }
        Ok(())
    }

    /// Where the runner puts output files.
    fn collected(&self) -> PathBuf {
        let execution = self.podrun.state().join("executions").join(&self.id);
        execution.join("tasks/work.1/outputs/work")
    }

    /// The folder holds one file, equal to what went in.
    fn check_file(&self, folder: &Path) -> Result<()> {
        let found = files(folder)?;
        ensure!(
            found == [folder.join("out.bin")],
            "{}: output files: {found:?}",
            self.id
        );
        let content = fs::read(folder.join("out.bin"))?;
        ensure!(
            content == self.content,
            "{}: `{}` differs from the input: {} bytes of {}",
            self.id,
            folder.join("out.bin").display(),
            content.len(),
            self.content.len()
        );
        Ok(())
    }

    /// What the journal knows of the task; none if it does not know it.
    fn journal(&self) -> Result<Option<Kept>> {
        let path = self.podrun.state().join("journal.db");
        if !path.exists() {
            return Ok(None);
        }
        let journal = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        journal.busy_timeout(Duration::from_secs(10))?;
        let sql = "SELECT handle, outcome, phase, cleaned,
                          (SELECT strftime('%Y-%m-%dT%H:%M:%f', time / 1000.0, 'unixepoch') FROM phases
                           WHERE task_run = task_runs.id AND phase = 'ended')
                   FROM task_runs WHERE execution = ?1";
        let kept = journal
            .query_row(sql, [&self.id], |row| {
                Ok(Kept {
                    handle: row.get(0)?,
                    outcome: row.get(1)?,
                    phase: row.get(2)?,
                    cleaned: row.get(3)?,
                    ended: row.get(4)?,
                })
            })
            .optional()?;
        Ok(kept)
    }
}

/// What the journal keeps of a task.
struct Kept {
    handle: Option<String>,
    outcome: Option<String>,
    phase: Option<String>,
    cleaned: bool,
    /// As the audit log writes times, cut to milliseconds.
    ended: Option<String>,
}

/// The phases and the log lines that the program tells of, one JSON object a line.
struct Phases(mpsc::UnboundedReceiver<Value>);

impl Phases {
    /// Reads everything from now on: a program whose output nobody reads stands still.
    fn read(stdout: ChildStdout) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut lines = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                // Nobody may want to know.
                let _ = sender.send(serde_json::from_str(&line).unwrap_or_default());
            }
        });
        Self(receiver)
    }

    /// Returns when the phase begins; never if it does not.
    async fn begins(&mut self, phase: &str) {
        self.until(|report| report["type"] == "phase" && report["phase"] == phase)
            .await;
    }

    /// Returns when the script has written the line.
    async fn says(&mut self, line: &str) {
        self.until(|report| report["type"] == "log" && report["message"] == line)
            .await;
    }

    async fn until(&mut self, wanted: impl Fn(&Value) -> bool) {
        while let Some(report) = self.0.recv().await {
            if wanted(&report) {
                return;
            }
        }
        std::future::pending().await
    }
}

async fn within(output: impl Future<Output = std::io::Result<Output>>) -> Result<Output> {
    Ok(tokio::time::timeout(PATIENCE, output)
        .await
        .context("it takes too long")??)
}

fn text(output: &Output) -> String {
    let lines = String::from_utf8_lossy(&output.stdout);
    let kept: Vec<&str> = lines
        .lines()
        .filter(|line| !line.contains("\"type\":\"log\""))
        .collect();
    format!("{}\n{}", kept.join("\n"), String::from_utf8_lossy(&output.stderr))
}

/// Every file below a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("failed to list `{}`", folder.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(files(&entry.path())?);
        } else {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// The first line at which two texts part.
fn difference(expected: &str, found: &str) -> String {
    let count = |text: &str| text.lines().count();
    let first = expected
        .lines()
        .zip(found.lines())
        .enumerate()
        .find(|(_, (a, b))| a != b);
    let first = first.map_or_else(
        || "one is the beginning of the other".to_owned(),
        |(index, (a, b))| format!("line {} is `{b}` instead of `{a}`", index + 1),
    );
    format!("{} lines of {}; {first}", count(found), count(expected))
}

/// What the script writes.
fn line(number: usize) -> String {
    format!("line {number} of {LINES}")
}

/// The output file is complete before this.
fn last_line() -> String {
    line(LINES)
}

fn flow(inline_limit: usize, ending: Ending) -> String {
    let end = match ending {
        Ending::Itself => "true",
        Ending::Stopped => "sleep 3600",
    };
    format!(
        r#"id: faults
namespace: podrun.tests
inputs:
  - id: file
    type: FILE
tasks:
  - id: work
    type: io.kestra.plugin.scripts.shell.Commands
    containerImage: busybox
    taskRunner:
      type: io.kestra.plugin.ee.kubernetes.runner.Kubernetes
      pullPolicy: IF_NOT_PRESENT
      waitForLogs: PT5S
      inlineLimit: {inline_limit}
    inputFiles:
      data.bin: "{{{{ inputs.file }}}}"
    outputFiles:
      - out.bin
    commands:
      - |
        cp data.bin out.bin
        i=1
        while [ $i -le {LINES} ]; do
          echo "line $i of {LINES}"
          [ $((i % 20)) != 0 ] || sleep 0.1
          i=$((i + 1))
        done
        {end}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_and_a_repeated_line_are_named() {
        assert!(difference("a\nb\nc\n", "a\nc\n").contains("2 lines of 3; line 2 is `c` instead of `b`"));
        assert!(difference("a\nb\n", "a\na\nb\n").contains("line 2 is `a`"));
        assert!(difference("a\nb\n", "a\n").contains("1 lines of 2"));
    }
}
