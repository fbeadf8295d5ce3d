//! The images that examples and tests use, under the names that flows give them.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::debian;
use super::layer::Layer;
use super::reference::Reference;
use super::registry::{Defaults, Image, Registry};
use super::store::{Blob, Store};
use crate::progress::{Size, Step};

const BUSYBOX: &[&str] = &["busybox", "busybox:1", "busybox:1.36", "busybox:1.37", "busybox:stable"];

/// Like busybox, but its containers run as user 1000 unless told otherwise.
const BUSYBOX_USER: &[&str] = &["podrun.dev/test/busybox-user"];

/// One static program and nothing else, above all no shell.
const HELLO: &[&str] = &["podrun.dev/test/hello"];

/// Debian without some of the tools that file containers need.
const FEW_TOOLS: &[&str] = &["podrun.dev/test/few-tools"];

const DEBIAN: &[&str] = &[
    "debian",
    "debian:12",
    "debian:bookworm",
    "debian:bookworm-slim",
    "debian:stable-slim",
    "ubuntu",
    "ubuntu:22.04",
    "ubuntu:24.04",
    "centos",
    "centos:7",
    "bash",
];

const PYTHON: &[&str] = &[
    "ghcr.io/kestra-io/pydata",
    "ghcr.io/kestra-io/kestrapy",
    "python",
    "python:slim",
    "python:3",
    "python:3-slim",
    "python:3.11",
    "python:3.11-slim",
];

/// Debian with further languages of scripts.
const LANGUAGES: &[&str] = &["node", "node:18", "ruby", "ruby:3", "r-base", "r-base:4"];

/// Pushes what needs no package manager: the pause container that every pod has, busybox, and `hello`, the program of this
/// checkout.
pub(crate) fn push_small(port: u16, pause: &str, hello: &Path) -> Result<()> {
    let store = Store::open()?;
    let registry = Registry::on(port);
    let busybox = read_program("/bin/busybox", "busybox-static")?;

    let layer = store.add(|path| {
        let mut layer = Layer::create(path)?;
        layer.folder("bin", 0o755)?;
        layer.file("bin/sleep", 0o755, &busybox)?;
        layer.finish()
    })?;
    let entrypoint = vec!["/bin/sleep".to_owned(), "2147483647".to_owned()];
    registry.push(
        &Image::new(
            vec![layer],
            &Defaults {
                entrypoint,
                ..Defaults::default()
            },
        ),
        &names(&[pause])?,
    )?;

    let layer = store.add(|path| busybox_root(path, &busybox))?;
    let command = vec!["sh".to_owned()];
    let defaults = Defaults {
        command,
        ..Defaults::default()
    };
    registry.push(&Image::new(vec![layer.clone()], &defaults), &names(BUSYBOX)?)?;
    let defaults = Defaults {
        user: "1000".to_owned(),
        ..defaults
    };
    registry.push(&Image::new(vec![layer], &defaults), &names(BUSYBOX_USER)?)?;

    let program = fs::read(hello).with_context(|| format!("failed to read `{}`", hello.display()))?;
    let layer = store.add(|path| {
        let mut layer = Layer::create(path)?;
        layer.file("hello", 0o755, &program)?;
        layer.finish()
    })?;
    let defaults = Defaults {
        entrypoint: vec!["/hello".to_owned()],
        ..Defaults::default()
    };
    registry.push(&Image::new(vec![layer], &defaults), &names(HELLO)?)?;
    Ok(())
}

/// Pushes the larger ones: Debian with bash, and with Python and the library that scripts of flows import.
pub(crate) fn push_all(port: u16) -> Result<()> {
    let store = Store::open()?;
    let registry = Registry::on(port);
    let system = debian::system(&store, &[])?;
    let bash = Defaults {
        command: vec!["bash".to_owned()],
        ..Defaults::default()
    };
    push(&registry, &Image::new(vec![system.clone()], &bash), DEBIAN)?;
    // The shell of the static busybox has every tool built in, so that removing their names from it removes nothing.
    let removed = store.add(|path| {
        let mut layer = Layer::create(path)?;
        for tool in ["tar", "base64"] {
            layer.file(&format!("usr/bin/.wh.{tool}"), 0o644, b"")?;
        }
        layer.finish()
    })?;
    push(&registry, &Image::new(vec![system, removed], &bash), FEW_TOOLS)?;
    let languages = ["nodejs", "r-base-core", "ruby"].map(str::to_owned);
    push(
        &registry,
        &Image::new(vec![debian::system(&store, &languages)?], &bash),
        LANGUAGES,
    )?;
    push(
        &registry,
        &Image::new(
            python(&store)?,
            &Defaults {
                command: vec!["python3".to_owned()],
                ..Defaults::default()
            },
        ),
        PYTHON,
    )
}

fn python(store: &Store) -> Result<Vec<Blob>> {
    let packages = ["python3", "python3-pip", "python-is-python3", "ca-certificates"].map(str::to_owned);
    let system = debian::system(store, &packages)?;
    let libraries = debian::python(store, &system, &["kestra"])?;
    Ok(vec![system, libraries])
}

fn push(registry: &Registry, image: &Image, under: &[&str]) -> Result<()> {
    let step = Step::start(format!("pushing {}", under.join(", ")));
    let pushed = registry.push(image, &names(under)?)?;
    step.done(&format!(
        "{}{}",
        Size(image.size()),
        if pushed { "" } else { ", was there" }
    ));
    Ok(())
}

/// One program under every name that it answers to, and the few files that programs look for.
fn busybox_root(path: &Path, busybox: &[u8]) -> Result<()> {
    let output = Command::new("/bin/busybox")
        .arg("--list")
        .output()
        .context("failed to start `/bin/busybox`")?;
    let applets = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() || !applets.lines().any(|applet| applet == "sh") {
        bail!("`/bin/busybox --list` names no `sh`: install the package busybox-static");
    }
    let mut layer = Layer::create(path)?;
    for (folder, mode) in [
        ("bin", 0o755),
        ("dev", 0o755),
        ("etc", 0o755),
        ("home", 0o755),
        ("proc", 0o755),
        ("root", 0o700),
        ("sys", 0o755),
        ("tmp", 0o1777),
        ("var", 0o755),
    ] {
        layer.folder(folder, mode)?;
    }
    layer.file("bin/busybox", 0o755, busybox)?;
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        layer.link(&format!("bin/{applet}"), "busybox")?;
    }
    layer.file(
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home:/bin/sh\n",
    )?;
    layer.file("etc/group", 0o644, b"root:x:0:\nuser:x:1000:\n")?;
    layer.finish()
}

fn read_program(path: &str, package: &str) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("failed to read `{path}` (package {package})"))
}

fn names(texts: &[&str]) -> Result<Vec<Reference>> {
    texts.iter().map(|text| text.parse()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_one() {
        for list in [BUSYBOX, BUSYBOX_USER, HELLO, FEW_TOOLS, DEBIAN, LANGUAGES, PYTHON] {
            names(list).unwrap();
        }
    }
}
