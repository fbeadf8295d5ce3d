//! `cargo xtask mutants`: breaks one promise at a time, in a copy of the tree, and fails unless the test that guards it
//! notices.
//!
//! A mutant is a patch in `tests/mutants`, with lines before it that say what it breaks and which test kills it:
//!
//! ```text
//! Breaks: every deletion names the pod by its UID.
//! Killed by: cluster faults kills::killed_around_each_write_to_the_api_server PODRUN_TEST_ONLY=delete-after
//! ```
//!
//! `unit TARGET TEST` is a test of cargo's, for example `unit --lib pod::tests::names`; `cluster PROGRAM TEST` one of the
//! cluster tests, which gets the mutant's component or program. Variables for the test may follow.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::cargo::TestProgram;
use crate::interrupt;
use crate::places;
use crate::progress::Elapsed;
use crate::setup::WASM;

/// A test that takes longer has noticed something.
const PATIENCE: Duration = Duration::from_secs(400);

/// A broken promise.
#[derive(Debug, PartialEq, Eq)]
struct Mutant {
    name: String,
    breaks: String,
    killer: Killer,
    /// What is to be built anew for a cluster test.
    touches: Touches,
}

#[derive(Debug, PartialEq, Eq)]
struct Killer {
    place: Place,
    test: String,
    variables: Vec<(String, String)>,
}

/// Where a test is found.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// A target of cargo's: `--lib`, `--bin podrun`, `--test cli`.
    Unit(Vec<String>),
    /// A program of the cluster tests.
    Cluster(String),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Touches {
    component: bool,
    program: bool,
}

/// What the tests on a cluster need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tests<'a> {
    /// Every test program, built from the tree as it is.
    pub(crate) programs: &'a [TestProgram],
    /// The variables that they read.
    pub(crate) environment: &'a [(&'static str, OsString)],
}

/// Checks every mutant, or those of `only`. Fails if one survives, does not apply, or does not build.
pub(crate) fn check(tests: Tests<'_>, only: &[String]) -> Result<()> {
    let mutants = read_all(&places::workspace()?.join("tests/mutants"))?;
    if let Some(name) = only
        .iter()
        .find(|name| mutants.iter().all(|mutant| mutant.name != **name))
    {
        let names: Vec<&str> = mutants.iter().map(|mutant| mutant.name.as_str()).collect();
        bail!("there is no mutant `{name}`: choose from {}", names.join(", "));
    }
    let nursery = Nursery::new()?;
    let mut failures = Vec::new();
    let chosen = mutants
        .iter()
        .filter(|mutant| only.is_empty() || only.contains(&mutant.name));
    for mutant in chosen {
        ensure!(!interrupt::requested(), "interrupted");
        nursery.sync()?;
        let started = Instant::now();
        match kill(&nursery, mutant, tests) {
            Ok(how) => eprintln!(
                "✓ {}: killed by {}{how} ({})",
                mutant.name,
                mutant.killer.test,
                Elapsed(started.elapsed())
            ),
            Err(error) => {
                eprintln!("✗ {} ({}): {error:#}", mutant.name, Elapsed(started.elapsed()));
                failures.push(mutant.name.as_str());
            }
        }
    }
    nursery.sync()?;
    ensure!(failures.is_empty(), "not killed: {}", failures.join(", "));
    Ok(())
}

/// Applies the mutant, and returns when its test has failed; with a remark on how.
fn kill(nursery: &Nursery, mutant: &Mutant, tests: Tests<'_>) -> Result<&'static str> {
    eprintln!("· {} breaks: {}", mutant.name, mutant.breaks);
    nursery.apply(&mutant.name)?;
    let output = match &mutant.killer.place {
        Place::Unit(target) => {
            let mut arguments = vec!["test", "--workspace", "--all-features"];
            arguments.extend(target.iter().map(String::as_str));
            nursery.build(&[&arguments[..], &["--no-run"]].concat())?;
            let mut command = nursery.cargo(&arguments);
            command.args(["--no-fail-fast", "--", "--exact", &mutant.killer.test]);
            limited(&mut command)?
        }
        Place::Cluster(name) => {
            let program = tests
                .programs
                .iter()
                .find(|program| program.package == "podrun-tests" && program.target == *name)
                .with_context(|| format!("there is no cluster test program `{name}`"))?;
            let mut command = Command::new(&program.executable);
            command
                .args(["--ignored", "--exact", &mutant.killer.test])
                .current_dir(&program.folder)
                .env("CARGO_MANIFEST_DIR", &program.folder)
                .envs(tests.environment.iter().cloned());
            if mutant.touches.component {
                nursery.build(&["build", "--package", "podrun-runner", "--target", WASM])?;
                command.env(
                    "PODRUN_RUNNER",
                    nursery.built.join(WASM).join("debug/podrun_runner.wasm"),
                );
            }
            if mutant.touches.program {
                nursery.build(&["build", "--workspace", "--all-features", "--bin", "podrun"])?;
                command.env("PODRUN_BIN", nursery.built.join("debug/podrun"));
            }
            limited(command.envs(mutant.killer.variables.iter().map(|(name, value)| (name, value))))?
        }
    };
    verdict(&mutant.killer.test, output)
}

fn verdict(test: &str, output: Option<Output>) -> Result<&'static str> {
    let Some(output) = output else {
        return Ok(", which never ended");
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let ran = |how: &str| {
        text.lines()
            .any(|line| line.starts_with(&format!("test {test} ")) && line.ends_with(how))
    };
    if ran("FAILED") && !output.status.success() {
        return Ok("");
    }
    if ran("ok") {
        bail!("it SURVIVES: `{test}` passes");
    }
    let error = String::from_utf8_lossy(&output.stderr);
    bail!("`{test}` did not run ({}): {text}{error}", output.status)
}

/// Runs a test to its end, or until it has had enough time; none then.
fn limited(command: &mut Command) -> Result<Option<Output>> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to start {:?}", command.get_program()))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let stdout = thread::spawn(move || drain(stdout));
    let stderr = thread::spawn(move || drain(stderr));
    let Some(status) = wait(&mut child)? else {
        child.kill()?;
        child.wait()?;
        return Ok(None);
    };
    let (Ok(stdout), Ok(stderr)) = (stdout.join(), stderr.join()) else {
        bail!("failed to read what {:?} printed", command.get_program())
    };
    Ok(Some(Output { status, stdout, stderr }))
}

fn wait(child: &mut Child) -> Result<Option<std::process::ExitStatus>> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if interrupt::requested() {
            child.kill()?;
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(None)
}

fn drain(stream: Option<impl std::io::Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What was read before an error is all that there is to show.
    let _ = stream.map(|mut stream| stream.read_to_end(&mut bytes));
    bytes
}

/// A copy of the tree, with a build folder of its own.
struct Nursery {
    tree: PathBuf,
    built: PathBuf,
}

impl Nursery {
    fn new() -> Result<Self> {
        let folder = places::cache()?.join("mutants");
        let nursery = Self {
            tree: folder.join("tree"),
            built: folder.join("built"),
        };
        fs::create_dir_all(&nursery.tree).with_context(|| format!("failed to create `{}`", folder.display()))?;
        Ok(nursery)
    }

    /// Makes the copy equal to the tree. Files that are equal keep their times, so that cargo builds only what changed.
    fn sync(&self) -> Result<()> {
        let workspace = places::workspace()?;
        let list = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(&workspace)
            .output()
            .context("failed to start git")?;
        ensure!(
            list.status.success(),
            "git ls-files: {}",
            String::from_utf8_lossy(&list.stderr)
        );
        let list = String::from_utf8(list.stdout).context("a file's name is not UTF-8")?;
        let mut wanted = BTreeSet::new();
        for name in list.split_terminator('\0') {
            let (from, to) = (workspace.join(name), self.tree.join(name));
            // Deleted, and git does not know it yet.
            let Ok(metadata) = from.metadata() else { continue };
            wanted.insert(to.clone());
            let content = fs::read(&from).with_context(|| format!("failed to read `{}`", from.display()))?;
            if fs::read(&to).is_ok_and(|old| old == content) {
                continue;
            }
            let folder = to.parent().unwrap_or(&self.tree);
            fs::create_dir_all(folder)
                .and_then(|()| fs::write(&to, content))
                .and_then(|()| fs::set_permissions(&to, fs::Permissions::from_mode(metadata.permissions().mode())))
                .with_context(|| format!("failed to write `{}`", to.display()))?;
        }
        remove_others(&self.tree, &wanted)
    }

    fn apply(&self, name: &str) -> Result<()> {
        let patch = self.tree.join("tests/mutants").join(name).with_extension("patch");
        let mut command = Command::new("git");
        command
            .args(["apply", "--whitespace=nowarn"])
            .arg(&patch)
            .current_dir(&self.tree);
        // The cache may lie in somebody's repository, which is not meant.
        if let Some(folder) = self.tree.parent() {
            command.env("GIT_CEILING_DIRECTORIES", folder);
        }
        let output = command.output().context("failed to start git")?;
        ensure!(
            output.status.success(),
            "it does not apply: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }

    fn cargo(&self, arguments: &[&str]) -> Command {
        // A folder of its own: cargo names what it builds by the path within the workspace, so in a shared one a mutant would
        // pass for the tree's own program afterwards.
        let mut command = Command::new("cargo");
        command
            .args(arguments)
            .current_dir(&self.tree)
            .env("CARGO_TARGET_DIR", &self.built)
            .env_remove("CARGO_MANIFEST_DIR");
        command
    }

    fn build(&self, arguments: &[&str]) -> Result<()> {
        let output = self.cargo(arguments).output().context("failed to start cargo")?;
        ensure!(
            output.status.success(),
            "it does not build: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
}

fn remove_others(folder: &Path, wanted: &BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("failed to list `{}`", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(&path, wanted)?;
        } else if !wanted.contains(&path) {
            fs::remove_file(&path).with_context(|| format!("failed to remove `{}`", path.display()))?;
        }
    }
    Ok(())
}

fn read_all(folder: &Path) -> Result<Vec<Mutant>> {
    let mut mutants = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("failed to list `{}`", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "patch") {
            let text = fs::read_to_string(&path).with_context(|| format!("failed to read `{}`", path.display()))?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            mutants.push(parse(name, &text).with_context(|| format!("`{}`", path.display()))?);
        }
    }
    mutants.sort_by(|one, other| one.name.cmp(&other.name));
    ensure!(!mutants.is_empty(), "there is no mutant in `{}`", folder.display());
    Ok(mutants)
}

fn parse(name: String, text: &str) -> Result<Mutant> {
    let value = |key: &str| {
        let line = text
            .lines()
            .take_while(|line| !line.starts_with("diff "))
            .find_map(|line| line.strip_prefix(key));
        line.map(str::trim)
            .with_context(|| format!("has no line `{key}` before the patch"))
    };
    let killer = value("Killed by:")?;
    let (words, variables): (Vec<&str>, Vec<&str>) = killer.split_whitespace().partition(|word| !word.contains('='));
    let (place, test) = match words.as_slice() {
        ["unit", target @ .., test] if !target.is_empty() => (
            Place::Unit(target.iter().map(|word| (*word).to_owned()).collect()),
            *test,
        ),
        ["cluster", program, test] => (Place::Cluster((*program).to_owned()), *test),
        _ => bail!("`{killer}` is neither `unit TARGET TEST` nor `cluster PROGRAM TEST`"),
    };
    let pair = |word: &str| {
        word.split_once('=')
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let touches = |folders: &[&str]| {
        let mut files = text.lines().filter_map(|line| line.strip_prefix("+++ b/"));
        files.any(|file| folders.iter().any(|folder| file.starts_with(folder)))
    };
    let changes_agent = touches(&["agent/"]);
    let touches = Touches {
        component: touches(&["runner/", "wit/"]),
        program: touches(&["cli/", "hosts/rust/"]),
    };
    ensure!(
        touches != Touches::default() || changes_agent,
        "changes neither the runner, a host nor the agent"
    );
    ensure!(
        !changes_agent || matches!(place, Place::Unit(_)),
        "the agent's image is not built anew for a cluster test: name a `unit` one"
    );
    Ok(Mutant {
        breaks: value("Breaks:")?.to_owned(),
        killer: Killer {
            place,
            test: test.to_owned(),
            variables: variables.into_iter().filter_map(pair).collect(),
        },
        touches,
        name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutant_applies_to_the_tree_as_it_is() {
        let workspace = places::workspace().unwrap();
        let folder = workspace.join("tests/mutants");
        let mutants = read_all(&folder).unwrap();
        assert!(!mutants.is_empty());
        for Mutant { name, .. } in mutants {
            let patch = folder.join(format!("{name}.patch"));
            let mut command = Command::new("git");
            command.args(["apply", "--check"]).arg(patch).current_dir(&workspace);
            let output = command.output().unwrap();
            assert!(
                output.status.success(),
                "{name}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }

    #[test]
    fn headers_say_what_is_broken_and_who_notices() {
        let patch =
            "\ndiff --git a/runner/src/run.rs b/runner/src/run.rs\n--- a/runner/src/run.rs\n+++ b/runner/src/run.rs\n";
        let text = format!("Breaks: a promise.\nKilled by: cluster faults a::b ONLY=x\n{patch}");
        let mutant = parse("m".into(), &text).unwrap();
        assert_eq!(mutant.breaks, "a promise.");
        assert_eq!(mutant.killer.place, Place::Cluster("faults".into()));
        assert_eq!(mutant.killer.variables, [("ONLY".to_owned(), "x".to_owned())]);
        assert!(mutant.touches.component && !mutant.touches.program);
        let text = format!("Breaks: a promise.\nKilled by: unit --bin podrun a::b\n{patch}");
        let killer = parse("m".into(), &text).unwrap().killer;
        assert_eq!(
            (killer.place, killer.test.as_str()),
            (Place::Unit(vec!["--bin".into(), "podrun".into()]), "a::b")
        );
        let agents = "\ndiff --git a/agent/src/init.rs b/agent/src/init.rs\n+++ b/agent/src/init.rs\n";
        parse("m".into(), &format!("Breaks: x.\nKilled by: unit --lib a\n{agents}")).unwrap();
        parse("m".into(), &format!("Breaks: x.\nKilled by: cluster agent a\n{agents}")).unwrap_err();
        for bad in [
            "Breaks: x.\n",
            "Killed by: unit --lib a\n",
            "Breaks: x.\nKilled by: nobody\n",
        ] {
            parse("m".into(), &format!("{bad}{patch}")).unwrap_err();
        }
    }

    #[test]
    fn only_a_test_that_ran_and_failed_kills() {
        let output = |code: i32, text: &str| {
            use std::os::unix::process::ExitStatusExt as _;
            let status = std::process::ExitStatus::from_raw(code << 8);
            Some(Output {
                status,
                stdout: text.into(),
                stderr: Vec::new(),
            })
        };
        assert_eq!(verdict("a::b", output(101, "test a::b ... FAILED\n")).unwrap(), "");
        let survives = verdict("a::b", output(0, "test a::b ... ok\n"))
            .unwrap_err()
            .to_string();
        assert!(survives.contains("SURVIVES"), "{survives}");
        verdict("a::b", output(0, "running 0 tests\n")).unwrap_err();
        verdict("a::b", output(101, "test a::bc ... FAILED\n")).unwrap_err();
        assert_eq!(verdict("a::b", None).unwrap(), ", which never ended");
    }
}
