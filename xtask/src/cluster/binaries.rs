//! The cluster's binaries: built once from their public Go modules, kept in the cache by version.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest as _, Sha256};

use super::layout::ApiServer;
use crate::places;
use crate::progress::{self, Size, Step};

/// A Go module of `xtask/cluster` and what is built from it.
#[derive(Debug)]
struct Module {
    /// Its folder.
    folder: &'static str,
    /// The required module whose version names the result.
    versioned_by: &'static str,
    packages: &'static [&'static str],
    /// The files that must be there afterwards.
    products: &'static [&'static str],
    tags: &'static str,
    /// Variables of the linked packages that take the version.
    stamped: &'static [&'static str],
}

const KUBERNETES: Module = Module {
    folder: "kubernetes",
    versioned_by: "k8s.io/kubernetes",
    packages: &["."],
    products: &["hyperkube"],
    tags: "",
    stamped: &["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"],
};

const CONTAINERD: Module = Module {
    folder: "containerd",
    versioned_by: "github.com/containerd/containerd/v2",
    packages: &[
        "github.com/containerd/containerd/v2/cmd/containerd",
        "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
        "github.com/containerd/containerd/v2/cmd/ctr",
    ],
    products: &["containerd", "containerd-shim-runc-v2", "ctr"],
    tags: "no_btrfs no_devmapper no_zfs",
    stamped: &[],
};

const API_SERVER_1_35: Module = Module {
    folder: "api-server-1.35",
    versioned_by: "k8s.io/kubernetes",
    packages: &["."],
    products: &["kube-apiserver"],
    tags: "",
    stamped: &["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"],
};

const HELLO: Module = Module {
    folder: "hello",
    versioned_by: "",
    packages: &["."],
    products: &["hello"],
    tags: "",
    stamped: &[],
};

/// Folders that hold the built binaries.
#[derive(Clone, Debug)]
pub(crate) struct Binaries {
    kubernetes: PathBuf,
    containerd: PathBuf,
    hello: PathBuf,
}

impl Binaries {
    /// Builds what the cache does not have yet.
    pub(crate) fn ensure() -> Result<Self> {
        let binaries = Self {
            kubernetes: KUBERNETES.ensure()?,
            containerd: CONTAINERD.ensure()?,
            hello: HELLO.ensure()?,
        };
        // People and tests find kubectl at a place that does not change with the version.
        let link = kubectl()?;
        let draft = link.with_extension(format!("{}", std::process::id()));
        std::os::unix::fs::symlink(binaries.hyperkube(), &draft)
            .and_then(|()| fs::rename(&draft, &link))
            .with_context(|| format!("failed to write `{}`", link.display()))?;
        Ok(binaries)
    }

    /// All of Kubernetes, and etcd.
    pub(crate) fn hyperkube(&self) -> PathBuf {
        self.kubernetes.join("hyperkube")
    }

    /// The API server of that version; that of a later one is built when it is first asked for.
    pub(crate) fn api_server(&self, version: ApiServer) -> Result<PathBuf> {
        match version {
            ApiServer::SameAsNode => Ok(self.hyperkube()),
            ApiServer::V1_35 => Ok(API_SERVER_1_35.ensure()?.join("kube-apiserver")),
        }
    }

    /// The container runtime.
    pub(crate) fn containerd(&self) -> PathBuf {
        self.containerd.join("containerd")
    }

    /// The program of the image that has no shell.
    pub(crate) fn hello(&self) -> PathBuf {
        self.hello.join("hello")
    }

    /// Where containerd looks for its shim, runc and the tools of a node.
    pub(crate) fn path(&self) -> String {
        format!(
            "{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            self.containerd.display()
        )
    }
}

/// The link to kubectl.
pub(crate) fn kubectl() -> Result<PathBuf> {
    Ok(places::cache()?.join("bin/kubectl"))
}

/// Whether a cluster can be started without Go.
pub(crate) fn are_built() -> Result<bool> {
    Ok(KUBERNETES.is_built()? && CONTAINERD.is_built()? && HELLO.is_built()?)
}

impl Module {
    fn source(&self) -> Result<PathBuf> {
        Ok(places::workspace()?.join("xtask/cluster").join(self.folder))
    }

    /// The version, and where a build of exactly these sources goes.
    fn place(&self) -> Result<(String, PathBuf)> {
        let source = self.source()?;
        let mut digest = Sha256::new();
        for name in ["go.mod", "go.sum", "main.go"] {
            if let Ok(bytes) = fs::read(source.join(name)) {
                digest.update(name);
                digest.update(Sha256::digest(bytes));
            }
        }
        digest.update(format!("{self:?}"));
        let manifest = source.join("go.mod");
        let text = fs::read_to_string(&manifest).with_context(|| format!("failed to read `{}`", manifest.display()))?;
        // What is all our own has no version but its content.
        let version = if self.versioned_by.is_empty() {
            Some("v0")
        } else {
            required_version(&text, self.versioned_by)
        };
        let version =
            version.with_context(|| format!("`{}` does not require {}", manifest.display(), self.versioned_by))?;
        let key: String = digest
            .finalize()
            .iter()
            .take(4)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let folder = places::cache()?
            .join("bin")
            .join(format!("{}-{version}-{key}", self.folder));
        Ok((version.to_owned(), folder))
    }

    fn is_built(&self) -> Result<bool> {
        let (_, folder) = self.place()?;
        Ok(self.products.iter().all(|product| folder.join(product).exists()))
    }

    fn ensure(&self) -> Result<PathBuf> {
        let (version, folder) = self.place()?;
        if self.is_built()? {
            return Ok(folder);
        }
        let shelf = places::cache()?.join("bin");
        fs::create_dir_all(&shelf).with_context(|| format!("failed to create `{}`", shelf.display()))?;
        // One build at a time; whoever waited finds it done.
        let lock = File::create(shelf.join(".lock"))?;
        lock.lock().context("failed to lock the cache of binaries")?;
        if self.is_built()? {
            return Ok(folder);
        }
        let mut step = Step::start(format!(
            "building {} {version} from its Go modules (minutes, once)",
            self.folder
        ));
        let draft = tempfile::Builder::new().prefix(".build-").tempdir_in(&shelf)?;
        let log = shelf.join(format!("{}.log", self.folder));
        progress::run(&mut step, &mut self.go(&version, draft.path())?, &log)?;
        for product in self.products {
            if !draft.path().join(product).exists() {
                bail!("the Go build of {} made no `{product}`", self.folder);
            }
        }
        let size = tree_size(draft.path());
        let _ = fs::remove_dir_all(&folder);
        fs::set_permissions(draft.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        fs::rename(draft.keep(), &folder).with_context(|| format!("failed to create `{}`", folder.display()))?;
        step.done(&Size(size).to_string());
        Ok(folder)
    }

    fn go(&self, version: &str, output: &Path) -> Result<Command> {
        let mut stamps = String::from("-s -w");
        let mut numbers = version.trim_start_matches('v').split('.');
        let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
        for package in self.stamped {
            stamps.push_str(&format!(
                " -X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
            ));
        }
        // The command has the name of the program that `main.go` says it is, not that of its module.
        let output = match self.products {
            [only] => output.join(only),
            _ => output.to_path_buf(),
        };
        let mut command = Command::new("go");
        command
            .current_dir(self.source()?)
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "-mod=readonly");
        command
            .args([
                "build",
                "-trimpath",
                "-buildvcs=false",
                "-tags",
                self.tags,
                "-ldflags",
                &stamps,
                "-o",
            ])
            .arg(output);
        command.args(self.packages);
        Ok(command)
    }
}

/// The version in a `require` line of a go.mod.
fn required_version<'a>(manifest: &'a str, module: &str) -> Option<&'a str> {
    manifest.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        (words.next()? == module)
            .then(|| words.next())?
            .filter(|version| version.starts_with('v'))
    })
}

/// The bytes of all files below a folder.
pub(crate) fn tree_size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => tree_size(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_comes_from_the_require_line() {
        let manifest = "module x\n\nrequire (\n\tk8s.io/kubectl v0.34.4\n\tk8s.io/kubernetes v1.34.4 // indirect\n)\nreplace k8s.io/kubernetes => ../x\n";
        assert_eq!(required_version(manifest, "k8s.io/kubernetes"), Some("v1.34.4"));
        assert_eq!(required_version("require a/b v2.0.1\n", "a/b"), Some("v2.0.1"));
        assert_eq!(required_version(manifest, "k8s.io/kube"), None);
    }

    #[test]
    fn both_modules_say_their_version() {
        for module in [KUBERNETES, CONTAINERD, API_SERVER_1_35, HELLO] {
            let (version, folder) = module.place().unwrap();
            assert!(
                version.starts_with('v') && folder.to_string_lossy().contains(&version),
                "{version}"
            );
        }
    }
}
