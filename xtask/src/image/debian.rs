//! Layers from packages: Debian's through mmdebstrap, Python's through pip.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::layer::Layer;
use super::store::{Blob, Store};
use crate::progress::{self, Size, Step};
use crate::setup;

/// What an image of scripts does not need; it halves the size.
const LEFT_OUT: [&str; 4] = [
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
];

/// Changes when the way in which layers are made does.
const RECIPE: u32 = 1;

/// A root file system of Debian's essential packages and these.
pub(crate) fn system(store: &Store, packages: &[String]) -> Result<Blob> {
    let sources = sources()?;
    let recipe = format!("debian {RECIPE}\n{sources}\n{packages:?}");
    store.made(&recipe, |path| {
        let list = if packages.is_empty() {
            "essential packages only".to_owned()
        } else {
            packages.join(", ")
        };
        let mut step = Step::start(format!("making a Debian system ({list})"));
        let list_file = path.with_extension("list");
        fs::write(&list_file, &sources)?;
        let mut command = Command::new("mmdebstrap");
        command.args([
            "--quiet",
            "--mode=root",
            "--variant=essential",
            "--format=tar",
            "--skip=output/dev,check/empty",
        ]);
        command.env("SOURCE_DATE_EPOCH", "0").env("LC_ALL", "C");
        if !packages.is_empty() {
            command.arg(format!("--include={}", packages.join(",")));
        }
        for pattern in LEFT_OUT {
            command.arg(format!("--dpkgopt=path-exclude={pattern}"));
        }
        command.arg("").arg(path).arg(&list_file);
        progress::run(&mut step, &mut command, &store.log("mmdebstrap"))?;
        step.done(&Size(path.metadata()?.len()).to_string());
        Ok(())
    })
}

/// Packages of PyPI, for the Python that `system` holds.
pub(crate) fn python(store: &Store, system: &Blob, packages: &[&str]) -> Result<Blob> {
    let recipe = format!("python {RECIPE}\n{}\n{packages:?}", system.digest);
    store.made(&recipe, |path| {
        let mut step = Step::start(format!("adding Python packages ({})", packages.join(", ")));
        let version = python_version(&system.path)?;
        let folder = path.with_extension("packages");
        let mut command = Command::new(setup::python()?);
        command.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-compile",
            "--only-binary=:all:",
            "--implementation=cp",
        ]);
        command
            .arg(format!("--python-version={version}"))
            .arg("--target")
            .arg(&folder)
            .args(packages);
        progress::run(&mut step, &mut command, &store.log("pip"))?;
        let mut layer = Layer::create(path)?;
        layer.tree(&folder, &format!("usr/local/lib/python{version}/dist-packages"))?;
        layer.finish()?;
        step.done(&Size(path.metadata()?.len()).to_string());
        Ok(())
    })
}

/// The version in the name of `usr/bin/python3.X`.
fn python_version(system: &Path) -> Result<String> {
    let mut archive = tar::Archive::new(File::open(system)?);
    for entry in archive.entries()? {
        let path = entry?.path()?.to_string_lossy().into_owned();
        if let Some(version) = path
            .trim_start_matches("./")
            .strip_prefix("usr/bin/python")
            .and_then(exact_version)
        {
            return Ok(version.to_owned());
        }
    }
    bail!("`{}` holds no Python", system.display())
}

fn exact_version(text: &str) -> Option<&str> {
    let (major, minor) = text.split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(major) && digits(minor)).then_some(text)
}

/// The Debian part of what apt reads, in the form that mmdebstrap takes.
fn sources() -> Result<String> {
    let format = "$(LABEL)|deb [signed-by=\"$(SIGNED_BY)\"] $(REPO_URI) $(RELEASE) $(COMPONENT)";
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", format, "Created-By: Packages"])
        .output()
        .context("failed to start `apt-get`")?;
    if !output.status.success() {
        bail!(
            "`apt-get indextargets` failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let sources = debian_only(&String::from_utf8_lossy(&output.stdout));
    if sources.is_empty() {
        bail!("apt has no source labelled Debian: add one to /etc/apt/sources.list");
    }
    Ok(sources)
}

/// Keeps the lines of Debian's own archives. The key is left out when apt did not name one and uses its default.
fn debian_only(targets: &str) -> String {
    let mut lines: Vec<String> = targets
        .lines()
        .filter_map(|line| line.split_once('|'))
        .filter(|(label, _)| matches!(*label, "Debian" | "Debian-Security"))
        .map(|(_, source)| {
            source
                .replace("[signed-by=\"$(SIGNED_BY)\"] ", "")
                .replace("[signed-by=\"\"] ", "")
                .replace('"', "")
        })
        .collect();
    lines.dedup();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_debian_is_taken_from_apts_sources() {
        let targets = "Debian|deb [signed-by=\"/k.gpg\"] http://deb/ bookworm main\nNodeSource|deb [signed-by=\"\"] http://node/ nodistro main\n\
             Debian-Security|deb [signed-by=\"$(SIGNED_BY)\"] http://sec/ bookworm-security main\n";
        assert_eq!(
            debian_only(targets),
            "deb [signed-by=/k.gpg] http://deb/ bookworm main\ndeb http://sec/ bookworm-security main"
        );
    }

    #[test]
    fn the_version_of_python_is_that_of_its_program() {
        assert_eq!(exact_version("3.11"), Some("3.11"));
        assert_eq!(exact_version("3.11-config"), None);
        assert_eq!(exact_version("3"), None);
    }
}
