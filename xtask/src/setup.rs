//! `cargo xtask setup`: brings what the other commands need, and says exactly what it cannot bring.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cluster;
use crate::places;
use crate::progress::{self, Size, Step};

/// The target that the component is built for.
pub(crate) const WASM: &str = "wasm32-wasip2";

/// The target that the agent is built for: one static file, whatever image it runs in.
pub(crate) const STATIC: &str = if cfg!(target_arch = "aarch64") {
    "aarch64-unknown-linux-musl"
} else {
    "x86_64-unknown-linux-musl"
};

/// What the Python host needs, and which version of it works.
const REQUIREMENTS: &str = "hosts/python/requirements.txt";

/// The Node host, and the files in it that say what it needs.
const NODE_HOST: &str = "hosts/node";
const NODE_PACKAGES: [&str; 2] = ["package.json", "package-lock.json"];

/// What is about to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    /// The component and the programs are built.
    pub(crate) build: bool,
    /// A cluster is made here.
    pub(crate) cluster: bool,
    /// Images of Debian and of Python packages are built.
    pub(crate) images: bool,
    /// The tests of the Python and Node hosts run.
    pub(crate) hosts: bool,
}

impl Needs {
    /// Whether a Python is started: for the Python host, and to get what images of Python packages hold.
    fn python(self) -> bool {
        self.images || self.hosts
    }
}

/// A Debian package and a file that shows that it is there. A name without a slash is looked for in PATH.
struct Package {
    name: &'static str,
    proof: &'static str,
}

const fn package(name: &'static str, proof: &'static str) -> Package {
    Package { name, proof }
}

const FOR_BUILD: &[Package] = &[
    package("gcc", "cc"),
    package("libc6-dev", "/usr/include/stdio.h"),
    package("clang", "clang"),
    package("lld", "wasm-ld"),
    package("llvm", "llvm-ar"),
    package("musl-tools", "musl-gcc"),
    package("git", "git"),
];

const FOR_CLUSTER: &[Package] = &[
    package("busybox-static", "/bin/busybox"),
    package("ca-certificates", "/etc/ssl/certs/ca-certificates.crt"),
    package("containernetworking-plugins", "/usr/lib/cni/bridge"),
    package("docker-registry", "/usr/bin/docker-registry"),
    package("iproute2", "ip"),
    package("openssl", "openssl"),
    package("runc", "runc"),
];

const FOR_IMAGES: &[Package] = &[package("mmdebstrap", "mmdebstrap")];

/// Brings what is missing. Whatever cannot be brought is listed first, before anything is done.
pub(crate) fn ensure(needs: Needs) -> Result<()> {
    let mut packages: Vec<&str> = Vec::new();
    let lists = [
        (needs.build, FOR_BUILD),
        (needs.cluster, FOR_CLUSTER),
        (needs.images, FOR_IMAGES),
    ];
    for (_, list) in lists.iter().filter(|(needed, _)| *needed) {
        packages.extend(
            list.iter()
                .filter(|package| !is_there(package.proof))
                .map(|package| package.name),
        );
    }
    if needs.python() && !has_module("venv, ensurepip") && has_python() && !venv()?.join("bin/python").exists() {
        packages.push("python3-venv");
    }
    refuse_what_cannot_be_brought(needs, &packages)?;
    if packages.is_empty() {
        eprintln!("· every package that is needed is installed");
    }
    install(&packages)?;
    if needs.build {
        add_to_toolchain()?;
    }
    if needs.python() {
        python()?;
    }
    if needs.hosts {
        add_python_packages()?;
        add_node_packages()?;
    }
    Ok(())
}

fn refuse_what_cannot_be_brought(needs: Needs, packages: &[&str]) -> Result<()> {
    let mut missing = Vec::new();
    if needs.build && find("rustup").is_none() {
        missing
            .push("cargo from rustup, for the targets of the component and of the agent: https://rustup.rs".to_owned());
    }
    if needs.cluster && !cluster::is_built()? {
        match version_of("go", &["version"]) {
            Some(version) if version >= (1, 26) => {}
            found => missing.push(format!(
                "Go 1.26 or later{}: https://go.dev/dl (only to build the cluster; not with a KUBECONFIG)",
                but(found)
            )),
        }
    }
    if needs.python() {
        match version_of("python3", &["--version"]) {
            Some(version) if version >= (3, 11) => {}
            found => missing.push(format!("Python 3.11 or later as `python3`{}", but(found))),
        }
    }
    if needs.hosts {
        match version_of("node", &["--version"]) {
            Some(version) if version >= (20, 0) => {}
            found => missing.push(format!("Node 20 or later as `node`{}: https://nodejs.org", but(found))),
        }
        if find("npm").is_none() {
            missing.push("`npm`, which comes with Node, or with the package npm where Node is Debian's".to_owned());
        }
    }
    if needs.cluster && !is_root() {
        missing.push("root, to run a cluster (or set KUBECONFIG to one that exists)".to_owned());
    }
    let brings_packages = is_root() && find("apt-get").is_some();
    if !packages.is_empty() && !brings_packages {
        missing.push(format!(
            "these packages, which only root on Debian gets by itself: apt-get install {}",
            packages.join(" ")
        ));
    }
    if !missing.is_empty() {
        bail!(
            "this machine lacks:\n  - {}\nNothing was changed.",
            missing.join("\n  - ")
        );
    }
    Ok(())
}

fn but(found: Option<(u32, u32)>) -> String {
    found
        .map(|(major, minor)| format!(" (found {major}.{minor})"))
        .unwrap_or_default()
}

fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let mut step = Step::start(format!("installing {}", packages.join(" ")));
    let log = log("apt")?;
    let apt = || {
        let mut command = Command::new("apt-get");
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-o", "DPkg::Lock::Timeout=300"]);
        command
    };
    progress::run(&mut step, apt().arg("update"), &log)?;
    progress::run(
        &mut step,
        apt()
            .args(["install", "--yes", "--no-install-recommends"])
            .args(packages),
        &log,
    )?;
    if packages.contains(&"docker-registry") {
        // Its service would hold port 5000; only the program is wanted.
        let has_systemd = Path::new("/run/systemd/system").exists();
        let stop: &[&[&str]] = if has_systemd {
            &[&["systemctl", "disable", "--now", "docker-registry"]]
        } else {
            &[
                &["/etc/init.d/docker-registry", "stop"],
                &["update-rc.d", "docker-registry", "disable"],
            ]
        };
        for command in stop {
            if let [program, arguments @ ..] = command {
                let _ = Command::new(program).args(arguments).output();
            }
        }
    }
    step.done("");
    Ok(())
}

fn add_to_toolchain() -> Result<()> {
    let installed = |what: &str| -> Result<String> {
        let output = Command::new("rustup")
            .args([what, "list", "--installed"])
            .current_dir(places::workspace()?)
            .output();
        Ok(String::from_utf8_lossy(&output.context("failed to start `rustup`")?.stdout).into_owned())
    };
    let (targets, components) = (installed("target")?, installed("component")?);
    for (what, name, there) in [
        ("target", WASM, targets.lines().any(|line| line.trim() == WASM)),
        ("target", STATIC, targets.lines().any(|line| line.trim() == STATIC)),
        ("component", "clippy", components.contains("clippy")),
        ("component", "rustfmt", components.contains("rustfmt")),
    ] {
        if !there {
            let mut step = Step::start(format!("adding the {what} {name} to the Rust toolchain"));
            progress::run(
                &mut step,
                Command::new("rustup")
                    .args([what, "add", name])
                    .current_dir(places::workspace()?),
                &log("rustup")?,
            )?;
            step.done("");
        }
    }
    Ok(())
}

/// A Python of our own, so that neither the machine's nor the user's packages are touched.
pub(crate) fn python() -> Result<PathBuf> {
    let venv = venv()?;
    let python = venv.join("bin/python");
    if !works(&python) {
        let mut step = Step::start("making a Python environment");
        progress::run(
            &mut step,
            Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv),
            &log("venv")?,
        )?;
        step.done("");
    }
    Ok(python)
}

/// Installs the Python host's requirements once for each version of their list.
fn add_python_packages() -> Result<()> {
    let list = places::workspace()?.join(REQUIREMENTS);
    let Some(wanted) = read_if_there(&list)? else {
        return Ok(());
    };
    let python = python()?;
    let note = venv()?.join("requirements.txt");
    if read_if_there(&note)?.as_deref() != Some(wanted.as_str()) {
        let mut step = Step::start(format!("installing {REQUIREMENTS} into the Python environment"));
        progress::run(
            &mut step,
            Command::new(&python)
                .args(["-m", "pip", "install", "--quiet", "-r"])
                .arg(&list),
            &log("pip")?,
        )?;
        fs::write(&note, wanted).with_context(|| format!("failed to write `{}`", note.display()))?;
        step.done(&Size(cluster::tree_size(&venv()?)).to_string());
    }
    Ok(())
}

/// The folder with the Node host's packages. Node looks for such a folder beside the program that imports them.
pub(crate) fn node_modules() -> Result<PathBuf> {
    Ok(places::cache()?.join("node/node_modules"))
}

/// Installs the Node host's packages once for each version of their list (not with `npm ci`, which refuses a list whose
/// optional packages of other platforms are not published). npm installs beside the list, so that is copied first.
fn add_node_packages() -> Result<()> {
    let source = places::workspace()?.join(NODE_HOST);
    let mut wanted = String::new();
    for file in NODE_PACKAGES {
        let Some(text) = read_if_there(&source.join(file))? else {
            return Ok(());
        };
        wanted += &text;
    }
    let folder = places::cache()?.join("node");
    let note = folder.join("installed");
    if read_if_there(&note)?.as_deref() != Some(wanted.as_str()) {
        let mut step = Step::start(format!("installing the packages of {NODE_HOST}"));
        fs::create_dir_all(&folder).with_context(|| format!("failed to create `{}`", folder.display()))?;
        for file in NODE_PACKAGES {
            let copy = folder.join(file);
            fs::copy(source.join(file), &copy).with_context(|| format!("failed to write `{}`", copy.display()))?;
        }
        progress::run(
            &mut step,
            Command::new("npm")
                .args(["install", "--no-save", "--no-audit", "--no-fund"])
                .current_dir(&folder),
            &log("npm")?,
        )?;
        fs::write(&note, wanted).with_context(|| format!("failed to write `{}`", note.display()))?;
        step.done(&Size(cluster::tree_size(&node_modules()?)).to_string());
    }
    Ok(())
}

fn read_if_there(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("failed to read `{}`", path.display())),
    }
}

fn venv() -> Result<PathBuf> {
    Ok(places::cache()?.join("venv"))
}

/// A virtual environment breaks when the Python that made it goes.
fn works(python: &Path) -> bool {
    Command::new(python)
        .args(["-c", "import pip"])
        .output()
        .is_ok_and(|output| output.status.success())
}

fn has_module(modules: &str) -> bool {
    Command::new("python3")
        .args(["-c", &format!("import {modules}")])
        .output()
        .is_ok_and(|output| output.status.success())
}

fn has_python() -> bool {
    find("python3").is_some()
}

/// Where a tool's output goes.
fn log(name: &str) -> Result<PathBuf> {
    let folder = places::cache()?.join("logs");
    fs::create_dir_all(&folder).with_context(|| format!("failed to create `{}`", folder.display()))?;
    Ok(folder.join(format!("{name}.log")))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn is_there(proof: &str) -> bool {
    if proof.contains('/') {
        Path::new(proof).exists()
    } else {
        find(proof).is_some()
    }
}

/// The program that a shell would start. System folders count even when a user's PATH leaves them out.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(system)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

fn version_of(program: &str, arguments: &[&str]) -> Option<(u32, u32)> {
    let output = Command::new(program).args(arguments).output().ok()?;
    first_version(&String::from_utf8_lossy(&output.stdout))
}

/// The first `X.Y` in a text such as `go version go1.26.8 linux/amd64`.
fn first_version(text: &str) -> Option<(u32, u32)> {
    text.split_whitespace().find_map(|word| {
        let mut numbers = word.trim_start_matches(|c: char| !c.is_ascii_digit()).split('.');
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_print() {
        assert_eq!(first_version("go version go1.26.8 linux/amd64"), Some((1, 26)));
        assert_eq!(first_version("Python 3.11.7\n"), Some((3, 11)));
        assert_eq!(first_version("v20.19.0\n"), Some((20, 19)));
        assert_eq!(first_version("command not found"), None);
        assert!(first_version("go version go1.9.1 linux/amd64") < Some((1, 26)));
    }

    #[test]
    fn programs_are_found_in_system_folders_too() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program").is_none());
    }
}
