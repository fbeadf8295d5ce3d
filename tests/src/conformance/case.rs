//! One case: its folder, its run, and the verdict.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use super::compare::{Differences, compare, partial};
use super::{Expectation, Interrupt, Line, Observed, Seen, Stage};
use crate::faults::Podrun;
use crate::google::Google;

/// Longer than any call takes that goes well.
const PATIENCE: Duration = Duration::from_secs(120);

/// A case, not read yet.
#[derive(Clone, Debug)]
pub struct Case {
    /// `group/name`.
    pub name: String,
    folder: PathBuf,
}

/// All cases below `root`: folders two levels down, in the order of their names.
///
/// # Errors
/// When one of them has no `expect.yaml`.
pub fn cases(root: &Path) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for group in folders(root)? {
        for folder in folders(&group)? {
            let names = [&group, &folder].map(|path| path.file_name().unwrap_or_default().to_string_lossy());
            let name = names.join("/");
            if !folder.join("expect.yaml").is_file() {
                bail!("`{name}` has no expect.yaml");
            }
            cases.push(Case { name, folder });
        }
    }
    Ok(cases)
}

fn folders(root: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(root).with_context(|| format!("failed to read `{}`", root.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Copies what is in a folder; the copies are their owner's alone, as files of secrets must be.
fn copy(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let copied = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            fs::create_dir(&copied)?;
            copy(&path, &copied)?;
        } else {
            fs::copy(&path, &copied)?;
            fs::set_permissions(&copied, fs::Permissions::from_mode(0o600))?;
        }
    }
    Ok(())
}

/// The repository.
fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

impl Case {
    /// Reads what is expected, with the words of a stage if there is one.
    ///
    /// # Errors
    /// Names what is wrong with it, and unknown words.
    pub fn expectation(&self, stage: Option<&Stage>) -> Result<Expectation> {
        let text = fs::read_to_string(self.folder.join("expect.yaml"))?;
        Expectation::parse(&filled(&text, stage)?)
    }

    /// The files that a run needs are there.
    ///
    /// # Errors
    /// Names what is missing.
    pub fn check(&self) -> Result<()> {
        let expected = self.expectation(None)?;
        let flow = self.file(expected.flow.as_deref(), "flow.yaml");
        if !flow.is_file() {
            bail!("there is no `{}`", flow.display());
        }
        Ok(())
    }

    fn file(&self, named: Option<&str>, own: &str) -> PathBuf {
        named.map_or_else(|| self.folder.join(own), |name| repository().join(name))
    }

    /// Runs the flow and compares.
    ///
    /// # Errors
    /// Tells every difference, with what `podrun` said.
    pub fn run(&self, stage: &Stage) -> Result<()> {
        let unfilled = self.expectation(None)?;
        let text = fs::read_to_string(self.folder.join("expect.yaml"))?;
        if let Some(lack) = stage.lacks(&text, unfilled.account, unfilled.google) {
            crate::skip(lack);
            return Ok(());
        }
        let expected = self.expectation(Some(stage))?;
        let execution = format!("{}-{}", self.name.replace('/', "-"), stage.run);
        let google = expected.google.then(|| stage.google()).transpose()?;
        let mut call = Call::new(self, &expected, stage, &execution)?;
        call.environment.extend(google.iter().flat_map(Google::environment));
        let _objects = stage.objects(&expected.objects)?;
        let mut differences = Differences::default();
        call.refused(&mut differences)?;
        let seen = call.execution(stage, &mut differences)?;
        differences.0.extend(compare(&expected, &seen).0);
        if expected.rendered {
            call.rendered(&mut differences)?;
        }
        if differences.0.is_empty() {
            return Ok(());
        }
        bail!(
            "{}\nwhat was expected and is not:\n  {}\nwhat podrun said:\n{}\n{}",
            expected.about,
            differences.0.join("\n  "),
            tail(&seen),
            seen.error
        )
    }
}

/// The reports that explain most.
fn tail(seen: &Observed) -> String {
    let quiet = ["phase", "progress"];
    let said = seen
        .reports
        .iter()
        .filter(|report| !quiet.iter().any(|kind| report["type"] == **kind));
    let lines: Vec<String> = said.map(|report| format!("  {report}")).collect();
    let start = lines.len().saturating_sub(40);
    lines[start..].join("\n")
}

/// `text` with the words of the stage; without one they stay.
fn filled(text: &str, stage: Option<&Stage>) -> Result<String> {
    let Some(stage) = stage else {
        return Ok(text.to_owned());
    };
    let mut filled = text.to_owned();
    for (name, value) in stage.words()? {
        filled = filled.replace(&format!("%{{{name}}}"), &value);
    }
    if let Some((_, rest)) = filled.split_once("%{") {
        let name = rest.split('}').next().unwrap_or(rest);
        bail!("nobody knows what `%{{{name}}}` stands for");
    }
    Ok(filled)
}

/// The calls of `podrun` for one case.
struct Call<'a> {
    podrun: Podrun,
    expected: &'a Expectation,
    execution: &'a str,
    flow: PathBuf,
    defaults: Option<PathBuf>,
    /// Variables beside those of the case.
    environment: Vec<(&'static str, String)>,
    folder: TempDir,
}

impl<'a> Call<'a> {
    fn new(case: &Case, expected: &'a Expectation, stage: &Stage, execution: &'a str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        copy(&case.folder, folder.path())?;
        let defaults = case.file(expected.defaults.as_deref(), "defaults.yaml");
        let defaults = match defaults.is_file() {
            true => {
                let text = filled(&fs::read_to_string(&defaults)?, Some(stage))?;
                let path = folder.path().join("defaults.yaml");
                fs::write(&path, text)?;
                Some(path)
            }
            false if expected.defaults.is_some() => bail!("there is no `{}`", defaults.display()),
            false => None,
        };
        stage.kubeconfig(&folder.path().join("kubeconfig"), expected.account)?;
        Ok(Self {
            podrun: Podrun::new(folder.path())?,
            expected,
            execution,
            flow: match &expected.flow {
                Some(name) => repository().join(name),
                None => folder.path().join("flow.yaml"),
            },
            defaults,
            environment: Vec::new(),
            folder,
        })
    }

    fn command(&self, arguments: &[OsString]) -> Command {
        let mut command = self.podrun.command(arguments);
        // Nothing of the machine's own leads to a cluster.
        command.env("HOME", self.folder.path());
        if let Ok(cache) =
            std::env::var("XDG_CACHE_HOME").or_else(|_| std::env::var("HOME").map(|home| home + "/.cache"))
        {
            command.env("XDG_CACHE_HOME", cache);
        }
        command.envs(&self.expected.environment);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    fn with_defaults(&self, mut arguments: Vec<OsString>) -> Vec<OsString> {
        if let Some(defaults) = &self.defaults {
            arguments.extend(["--defaults".into(), defaults.into()]);
        }
        arguments
    }

    fn inputs<'i>(values: impl Iterator<Item = (&'i String, &'i String)>) -> Vec<OsString> {
        let pairs = values.flat_map(|(name, value)| ["-i".into(), format!("{name}={value}").into()]);
        pairs.collect()
    }

    /// Calls that must fail before anything is done.
    fn refused(&self, differences: &mut Differences) -> Result<()> {
        for (index, refused) in self.expected.refused.iter().enumerate() {
            let mut values = self.expected.inputs.clone();
            values.extend(refused.inputs.clone());
            let mut arguments: Vec<OsString> = vec!["run".into(), (&self.flow).into()];
            arguments.extend(Self::inputs(values.iter()));
            let mut command = self.command(&self.with_defaults(arguments));
            let output = command.stdin(Stdio::null()).output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            let place = format!("refused[{index}]");
            if output.status.code() != Some(2) {
                differences
                    .0
                    .push(format!("{place}: expected exit 2, found {}: {said}", output.status));
            }
            for text in refused.says.iter().filter(|text| !said.contains(text.as_str())) {
                differences.0.push(format!("{place}: nothing says `{text}`: {said}"));
            }
        }
        Ok(())
    }

    /// The execution from its beginning to its end, and what is left of it.
    fn execution(&self, stage: &Stage, differences: &mut Differences) -> Result<Observed> {
        let mut seen = Observed::default();
        let mut arguments: Vec<OsString> = vec!["run".into(), (&self.flow).into(), "--json".into()];
        arguments.extend(["--execution-id", self.execution, "--outputs", "out"].map(Into::into));
        arguments.extend(Self::inputs(self.expected.inputs.iter()));
        arguments.extend(self.expected.arguments.iter().map(Into::into));
        let interrupt = self.expected.interrupt.as_ref();
        self.follow(&self.with_defaults(arguments), interrupt, &mut seen)?;
        if interrupt.is_some_and(|interrupt| interrupt.signal != "INT") {
            let arguments = ["attach", self.execution, "--json", "--outputs", "out"].map(Into::into);
            self.follow(&self.with_defaults(arguments.to_vec()), None, &mut seen)?;
        }
        self.read_log(&mut seen)?;
        self.look(stage, &mut seen, differences)?;
        Ok(seen)
    }

    /// One call, to its end.
    fn follow(&self, arguments: &[OsString], interrupt: Option<&Interrupt>, seen: &mut Observed) -> Result<()> {
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let out = BufReader::new(child.stdout.take().context("podrun has no output")?);
        let mut error = child.stderr.take().context("podrun has no errors")?;
        let complaints = std::thread::spawn(move || {
            let mut text = String::new();
            // What cannot be read is missed in what is expected.
            let _ = error.read_to_string(&mut text);
            text
        });
        let (send, reports) = mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let deadline = Instant::now() + PATIENCE;
        let mut signalled = None;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = match reports.recv_timeout(left) {
                Ok(line) => line,
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let _ = child.kill();
                    seen.error += &format!("podrun did not end within {} s\n", PATIENCE.as_secs());
                    break;
                }
            };
            let report: Value = serde_json::from_str(&line).with_context(|| format!("not JSON: {line}"))?;
            let reached = |interrupt: &&Interrupt| report["message"] == *interrupt.line;
            if signalled.is_none()
                && report["type"] == "log"
                && let Some(interrupt) = interrupt.filter(reached)
            {
                signal(child.id(), &interrupt.signal)?;
                signalled = Some(Instant::now());
            }
            seen.reports.push(report);
        }
        seen.code = child.wait()?.code();
        if let Some(signalled) = signalled {
            seen.after_signal = Some(signalled.elapsed().as_secs_f64());
        }
        seen.error += &complaints.join().unwrap_or_default();
        Ok(())
    }

    /// The log as the journal has it: every line once, however many calls there were.
    fn read_log(&self, seen: &mut Observed) -> Result<()> {
        let output = self
            .command(&["logs", self.execution, "--json"].map(Into::into))
            .stdin(Stdio::null())
            .output()?;
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            if let Ok(line) = serde_json::from_str::<Line>(line) {
                seen.lines.push(line);
            }
        }
        Ok(())
    }

    /// Looks at the pods when they are gone, apart from those that are to stay; what stays is removed as a user would.
    fn look(&self, stage: &Stage, seen: &mut Observed, differences: &mut Differences) -> Result<()> {
        let ours = |object: &Value| object["metadata"]["labels"]["podrun.dev/execution"] == *self.execution;
        let task = |pod: &Seen| {
            let run = pod.last["metadata"]["labels"]["podrun.dev/taskrun"].as_str();
            let name = run.and_then(|run| run.strip_prefix(self.execution)?.strip_prefix('.'));
            name.unwrap_or_default().to_owned()
        };
        let kept = |pod: &Seen| {
            let expected = self.expected.tasks.get(&task(pod));
            expected.is_some_and(|task| task.kept)
        };
        let settled = |pods: &[Seen]| pods.iter().all(|pod| pod.gone || kept(pod));
        if let Err(error) = stage.pods.wait(Duration::from_secs(60), ours, settled) {
            differences.0.push(format!("pods: {error}"));
        }
        let pods = stage.pods.seen(ours);
        if pods.iter().any(Seen::stays) {
            let arguments = ["kill", self.execution, "--grace", "1"].map(Into::into);
            let output = self.command(&arguments).stdin(Stdio::null()).output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            let all_gone = |pods: &[Seen]| pods.iter().all(|pod| pod.gone);
            if let Err(error) = stage.pods.wait(Duration::from_secs(60), ours, all_gone) {
                differences.0.push(format!("pods after `podrun kill`: {error}: {said}"));
            }
        }
        let owned = |object: &Value| {
            let owner = &object["metadata"]["ownerReferences"][0]["uid"];
            pods.iter().any(|pod| pod.last["metadata"]["uid"] == *owner)
        };
        // The garbage collector comes by itself.
        let collected = |secrets: &[Seen]| secrets.iter().all(|secret| secret.gone);
        if let Err(error) = stage.secrets.wait(Duration::from_secs(60), owned, collected) {
            differences.0.push(format!("secrets: {error}"));
        }
        seen.secrets = stage.secrets.seen(owned);
        seen.pods = pods.into_iter().map(|pod| (task(&pod), pod)).collect();
        Ok(())
    }

    /// What the API server makes of the pods when it is only asked.
    fn rendered(&self, differences: &mut Differences) -> Result<()> {
        let wanted = self
            .expected
            .tasks
            .iter()
            .filter_map(|(name, task)| Some((name, task.pod.as_ref()?)));
        for (name, pod) in wanted {
            let mut arguments: Vec<OsString> = vec!["render".into(), (&self.flow).into(), name.into()];
            arguments.extend(["--server", "--json"].map(Into::into));
            arguments.extend(Self::inputs(self.expected.inputs.iter()));
            let mut command = self.command(&self.with_defaults(arguments));
            let output = command.stdin(Stdio::null()).output()?;
            let place = format!("tasks.{name}.pod, rendered");
            match serde_json::from_slice::<Value>(&output.stdout) {
                Ok(report) => {
                    let mut pod = pod.clone();
                    // Nothing runs.
                    if let Some(parts) = pod.as_object_mut() {
                        parts.remove("status");
                    }
                    partial(&place, &pod, &report["pod"], &mut differences.0);
                }
                Err(_) => differences.0.push(format!(
                    "{place}: podrun render failed: {}",
                    String::from_utf8_lossy(&output.stderr)
                )),
            }
        }
        Ok(())
    }
}

fn signal(process: u32, name: &str) -> Result<()> {
    let sent = Command::new("sh")
        .args(["-c", &format!("kill -{name} {process}")])
        .status()?;
    if !sent.success() {
        bail!("podrun could not be sent {name}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_without_expectations_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let case = root.path().join("group/name");
        fs::create_dir_all(&case).unwrap();
        assert!(cases(root.path()).is_err());
        fs::write(case.join("expect.yaml"), "about: nothing\n").unwrap();
        let found = cases(root.path()).unwrap();
        assert_eq!(found[0].name, "group/name");
        assert!(found[0].check().unwrap_err().to_string().contains("flow.yaml"));
    }
}
