//! `cargo xtask demo`: from a fresh checkout to a script that ran in a pod, with proof that its file went in and came out.

use std::env;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::cargo::{self, Barriers};
use crate::cluster;
use crate::interrupt;
use crate::places;
use crate::progress::Step;
use crate::setup::{self, Needs};

/// The flow that is run.
const FLOW: &str = "examples/hello.yaml";

/// Runs the demonstration on the cluster that KUBECONFIG names, or on one that it brings up.
pub(crate) fn demo() -> Result<()> {
    let own = given_kubeconfig().is_none();
    setup::ensure(Needs {
        build: true,
        cluster: own,
        images: false,
        hosts: false,
    })?;
    let products = cargo::build(Barriers::Without)?;
    let kubeconfig = match given_kubeconfig() {
        Some(path) => {
            eprintln!(
                "· using the cluster that KUBECONFIG names: context `{}` of {}",
                context(&path),
                path.display()
            );
            path
        }
        None => cluster::up_for_demo()?,
    };

    let folder = fresh_folder()?;
    let input = folder.join("input.txt");
    let outputs = folder.join("outputs");
    fs::write(&input, random_text()?).with_context(|| format!("failed to write `{}`", input.display()))?;
    let step = Step::start(format!(
        "podrun run {FLOW} -i file=@{} --outputs {}",
        input.display(),
        outputs.display()
    ));
    let mut command = Command::new(&products.podrun);
    command.current_dir(places::workspace()?).env("KUBECONFIG", &kubeconfig);
    command
        .args(["run", FLOW, "-i"])
        .arg(format!("file=@{}", input.display()))
        .arg("--outputs")
        .arg(&outputs);
    interrupt::run(&mut command)?;
    step.done("");

    let output = find(&outputs, "out.txt").with_context(|| format!("no `out.txt` below `{}`", outputs.display()))?;
    let (sent, received) = (fs::read_to_string(&input)?, fs::read_to_string(&output)?);
    if sent != received {
        bail!("`{}` differs from `{}`", output.display(), input.display());
    }
    println!(
        "\nThe script copied its input to its output. {} reads:\n",
        output.display()
    );
    for line in received.lines() {
        println!("    {line}");
    }
    println!("\nThat is what {} was filled with before the run.\n", input.display());
    println!("  flow       {}", places::workspace()?.join(FLOW).display());
    println!("  podrun     {}", products.podrun.display());
    println!("  component  {}", products.runner.display());
    println!("  files      {}", folder.display());
    println!("  cluster    export KUBECONFIG={}", kubeconfig.display());
    if own {
        println!(
            "             it stays up; `cargo xtask cluster down` removes it, `cluster images` adds Debian and Python images"
        );
    }
    println!("\nMore: `{} --help`", products.podrun.display());
    Ok(())
}

/// The kubeconfig that the user chose by name.
pub(crate) fn given_kubeconfig() -> Option<PathBuf> {
    let variable = env::var_os("KUBECONFIG").filter(|value| !value.is_empty())?;
    // The first of several is the one that names the current context.
    env::split_paths(&variable).next()
}

/// The current context that a kubeconfig names.
pub(crate) fn context(kubeconfig: &Path) -> String {
    let text = fs::read_to_string(kubeconfig).unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.trim().trim_matches(['"', ',']).strip_prefix("current-context"));
    let name = line.map(|rest| rest.trim_start_matches(['"', ':', ' ']).trim_matches(['"', '\'', ' ']));
    name.filter(|name| !name.is_empty()).unwrap_or("(none)").to_owned()
}

fn fresh_folder() -> Result<PathBuf> {
    let moment = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let folder = places::cache()?.join("demo").join(moment.to_string());
    fs::create_dir_all(&folder).with_context(|| format!("failed to create `{}`", folder.display()))?;
    Ok(folder)
}

fn random_text() -> Result<String> {
    let mut bytes = [0; 96];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("failed to read /dev/urandom")?;
    let line = |chunk: &[u8]| chunk.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    Ok(bytes.chunks(32).map(line).collect())
}

/// The first file of that name below a folder.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    let here = entries
        .iter()
        .find(|path| path.is_file() && path.file_name().is_some_and(|file| file == name))
        .cloned();
    here.or_else(|| {
        entries
            .iter()
            .filter(|path| path.is_dir())
            .find_map(|path| find(path, name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_is_read_from_yaml_and_json() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config");
        for (text, expected) in [
            ("apiVersion: v1\ncurrent-context: kind-a\n", "kind-a"),
            ("current-context: \"b c\"\n", "b c"),
            ("{\n  \"current-context\": \"d\",\n}", "d"),
            ("current-context: \"\"\n", "(none)"),
        ] {
            fs::write(&file, text).unwrap();
            assert_eq!(context(&file), expected, "{text}");
        }
    }

    #[test]
    fn a_file_is_found_at_any_depth() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        fs::write(folder.path().join("a/b/out.txt"), "").unwrap();
        assert_eq!(find(folder.path(), "out.txt"), Some(folder.path().join("a/b/out.txt")));
        assert_eq!(find(folder.path(), "other"), None);
    }

    #[test]
    fn no_two_inputs_are_alike() {
        assert_ne!(random_text().unwrap(), random_text().unwrap());
    }
}
