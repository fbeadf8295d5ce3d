//! Calls of cargo on this workspace, all into one target folder and with one selection of packages.
//!
//! Selecting fewer packages would unify features differently and build large dependencies a second time, so everything is
//! built as `--workspace`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::interrupt;
use crate::places;
use crate::progress::{Size, Step};
use crate::setup::{STATIC, WASM};

/// What a build leaves.
#[derive(Clone, Debug)]
pub(crate) struct Products {
    /// The reference host.
    pub(crate) podrun: PathBuf,
    /// The component beside it.
    pub(crate) runner: PathBuf,
}

/// A test program that cargo built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TestProgram {
    /// The package's name.
    pub(crate) package: String,
    /// The test target's name.
    pub(crate) target: String,
    /// The folder of its package, where cargo runs it.
    pub(crate) folder: PathBuf,
    /// The program.
    pub(crate) executable: PathBuf,
}

/// Whether the barriers that tests crash `podrun` at are compiled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Barriers {
    /// As users have it.
    Without,
    /// As tests need it.
    With,
}

/// A call of cargo in the workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new("cargo");
    command
        .args(arguments)
        .current_dir(places::workspace()?)
        .env("CARGO_TARGET_DIR", places::target()?);
    Ok(command)
}

/// Builds the component and the programs, and puts the component beside `podrun`, where it looks for it.
pub(crate) fn build(barriers: Barriers) -> Result<Products> {
    let step = Step::start("building the component");
    let arguments = [
        "build",
        "--package",
        "podrun-runner",
        "--profile",
        "component",
        "--target",
        WASM,
    ];
    interrupt::run(&mut cargo(&arguments)?)?;
    let target = places::target()?;
    let component = target.join(WASM).join("component/podrun_runner.wasm");
    step.done(&Size(size(&component)?).to_string());

    let step = Step::start("building podrun");
    let mut arguments = vec!["build", "--workspace"];
    if barriers == Barriers::With {
        // With the tests, so that what both need is built once: their dependencies ask for more features of it.
        arguments.extend(["--all-features", "--all-targets"]);
    }
    interrupt::run(&mut cargo(&arguments)?)?;
    let products = Products {
        podrun: target.join("debug/podrun"),
        runner: target.join("debug/podrun-runner.wasm"),
    };
    // A reader must never see half a component.
    let draft = products.runner.with_extension("new");
    fs::copy(&component, &draft)
        .and_then(|_| fs::rename(&draft, &products.runner))
        .with_context(|| format!("failed to write `{}`", products.runner.display()))?;
    step.done(&format!(
        "{}, {}",
        products.podrun.display(),
        Size(size(&products.podrun)?)
    ));
    Ok(products)
}

/// Builds the agent as it is delivered.
pub(crate) fn agent() -> Result<PathBuf> {
    let step = Step::start("building podrun-agent");
    let arguments = [
        "build",
        "--package",
        "podrun-agent",
        "--profile",
        "agent",
        "--target",
        STATIC,
    ];
    interrupt::run(&mut cargo(&arguments)?)?;
    let program = places::target()?.join(STATIC).join("agent/podrun-agent");
    step.done(&format!("{}, {}", program.display(), Size(size(&program)?)));
    Ok(program)
}

/// Builds every test and says where the programs are. Compiler messages go to the terminal.
pub(crate) fn test_programs() -> Result<Vec<TestProgram>> {
    let mut command = cargo(&[
        "test",
        "--workspace",
        "--all-features",
        "--no-run",
        "--message-format=json-render-diagnostics",
    ])?;
    Ok(programs(&interrupt::output(&mut command)?))
}

/// Builds one of them.
pub(crate) fn test_program(package: &str, target: &str) -> Result<TestProgram> {
    let mut command = cargo(&[
        "test",
        "--workspace",
        "--all-features",
        "--test",
        target,
        "--no-run",
        "--message-format=json-render-diagnostics",
    ])?;
    let built = programs(&interrupt::output(&mut command)?);
    let found = built
        .into_iter()
        .find(|program| program.package == package && program.target == target);
    found.with_context(|| format!("package {package} has no test program `{target}`"))
}

/// Test programs in cargo's messages, one JSON object a line.
fn programs(messages: &str) -> Vec<TestProgram> {
    let program = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
            return None;
        }
        let folder = Path::new(message["manifest_path"].as_str()?).parent()?.to_path_buf();
        Some(TestProgram {
            package: package_name(message["package_id"].as_str()?)?.to_owned(),
            target: message["target"]["name"].as_str()?.to_owned(),
            folder,
            executable: message["executable"].as_str()?.into(),
        })
    };
    let mut programs: Vec<_> = messages.lines().filter_map(program).collect();
    // Cargo tells of them as they are done, which is another order each time.
    programs.sort_by(|one, other| (&one.package, &one.target).cmp(&(&other.package, &other.target)));
    programs
}

/// The name in `path+file:///work/tests#podrun-tests@0.1.0`, or the folder's in `path+file:///work/xtask#0.1.0`.
fn package_name(id: &str) -> Option<&str> {
    let (path, fragment) = id.split_once('#')?;
    match fragment.split_once('@') {
        Some((name, _)) => Some(name),
        None => path.rsplit('/').next(),
    }
}

fn size(path: &Path) -> Result<u64> {
    let metadata = path.metadata();
    Ok(metadata
        .with_context(|| format!("the build left no `{}`", path.display()))?
        .len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_programs_are_found_in_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","package_id":"registry+x#serde@1.0.0","manifest_path":"/r/Cargo.toml","target":{"name":"serde"},"profile":{"test":false},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","package_id":"path+file:///w/tests#podrun-tests@0.1.0","manifest_path":"/w/tests/Cargo.toml","target":{"name":"files"},"profile":{"test":true},"executable":"/t/files-1"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","package_id":"path+file:///w/xtask#0.1.0","manifest_path":"/w/xtask/Cargo.toml","target":{"name":"cluster"},"profile":{"test":true},"executable":"/t/cluster-1"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let found = programs(messages);
        let names: Vec<(&str, &str)> = found
            .iter()
            .map(|one| (one.package.as_str(), one.target.as_str()))
            .collect();
        assert_eq!(names, [("podrun-tests", "files"), ("xtask", "cluster")]);
        assert_eq!(found[0].folder, Path::new("/w/tests"));
        assert_eq!(found[0].executable, Path::new("/t/files-1"));
    }
}
