//! Part c: files into a pod and out of it, through the runner and through `kubectl cp`, both verified by SHA-256.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::bare;
use crate::cluster::Cluster;
use crate::figures::Series;
use crate::task::{Driver, Timeline, Way, Work};

/// Bytes of the large file.
const LARGE: usize = 64 << 20;

/// How many small files.
const SMALL: usize = 2000;

/// What is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Load {
    /// One file of 64 MiB.
    Large,
    /// 2,000 files of 1 to 4 KiB.
    Small,
}

impl Load {
    /// Its name in keys.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Large => "64-mib",
            Self::Small => "2000-files",
        }
    }

    /// The file or folder that holds all of it.
    fn root(self) -> &'static str {
        match self {
            Self::Large => "large.bin",
            Self::Small => "small",
        }
    }
}

/// Random files on this machine, which nothing can compress.
pub(crate) struct Files {
    folder: TempDir,
    large: BTreeMap<String, String>,
    small: BTreeMap<String, String>,
}

impl Files {
    /// Writes them.
    pub(crate) fn make(random: &mut fastrand::Rng) -> Result<Self> {
        let folder = tempfile::tempdir().context("failed to make a folder for files")?;
        let mut write = |path: String, size: usize| -> Result<(String, String)> {
            let mut bytes = vec![0; size];
            random.fill(&mut bytes);
            let file = folder.path().join(&path);
            fs::write(&file, &bytes).with_context(|| format!("failed to write `{}`", file.display()))?;
            Ok((path, hex(&Sha256::digest(&bytes))))
        };
        let large = BTreeMap::from([write(Load::Large.root().into(), LARGE)?]);
        fs::create_dir(folder.path().join(Load::Small.root()))?;
        let mut sizes = fastrand::Rng::with_seed(SMALL as u64);
        let small = (0..SMALL)
            .map(|index| {
                write(
                    format!("{}/{index:04}.bin", Load::Small.root()),
                    sizes.usize(1024..=4096),
                )
            })
            .collect::<Result<_>>()?;
        Ok(Self { folder, large, small })
    }

    /// Paths and sums.
    fn of(&self, load: Load) -> &BTreeMap<String, String> {
        match load {
            Load::Large => &self.large,
            Load::Small => &self.small,
        }
    }
}

/// The task that takes the files in and gives them back.
pub(crate) fn work(files: &Files, load: Load) -> Work {
    let output = match load {
        Load::Large => load.root().to_owned(),
        Load::Small => format!("{}/**", load.root()),
    };
    Work {
        image: "busybox",
        shell: "sh",
        script: "true".into(),
        inputs: files.of(load).keys().cloned().collect(),
        folder: Some(files.folder.path().to_owned()),
        outputs: vec![output],
        output_dir: true,
    }
}

/// One task that takes the files in and gives them back, and the seconds of its two transfers.
pub(crate) async fn by_runner(
    driver: &Driver,
    cluster: &Cluster,
    (way, load): (Way, Load),
    files: &Files,
    run: &str,
    into: &mut Series<'_>,
) -> Result<Timeline> {
    let outputs = tempfile::tempdir()?;
    let work = work(files, load);
    let timeline = driver.run(way, cluster, &work, run, outputs.path().to_owned()).await?;
    ensure!(
        timeline.files == *files.of(load),
        "the outcome names other files than went in"
    );
    verify(&outputs.path().join("work"), files.of(load))?;
    let up = timeline.seconds(timeline.staging, timeline.staged, "staging")?;
    let before = timeline.seconds(Some(timeline.submitted), timeline.started, "the handle")?;
    let down = timeline.seconds(timeline.collecting, timeline.ended, "collecting")?;
    let key = |what: &str| format!("c/{}/{what}/{}", load.name(), way.name());
    into.add(&key("up"), up);
    into.add(&key("up-with-local-hash"), before + up);
    into.add(&key("down"), down);
    Ok(timeline)
}

/// The same through `kubectl cp`, with the sums of both sides compared in its time.
pub(crate) async fn by_kubectl(
    kubectl: &Path,
    cluster: &Cluster,
    load: Load,
    files: &Files,
    run: &str,
    into: &mut Series<'_>,
) -> Result<()> {
    let pod = bare::hold(cluster, run).await?;
    let kubectl = Kubectl {
        program: kubectl,
        kubeconfig: &cluster.kubeconfig,
    };
    let root = load.root();
    let key = |what: &str| format!("c/{}/{what}/kubectl", load.name());

    let begun = Instant::now();
    kubectl.call(["version", "--client"]).await?;
    into.add("c/kubectl-start", begun.elapsed().as_secs_f64() * 1000.0);

    let there = format!("{pod}:/podrun/work");
    let source = files.folder.path().join(root);
    let begun = Instant::now();
    let target = match load {
        Load::Large => format!("{there}/{root}"),
        // A folder is copied into the one that is there.
        Load::Small => there.clone(),
    };
    kubectl
        .call([
            OsStr::new("cp"),
            "-c".as_ref(),
            bare::SIDECAR.as_ref(),
            source.as_os_str(),
            target.as_ref(),
        ])
        .await?;
    into.add(&key("up-copied"), begun.elapsed().as_secs_f64());
    let remote = kubectl.sums(&pod, root).await?;
    let local = sums(files.folder.path(), files.of(load).keys())?;
    into.add(&key("up"), begun.elapsed().as_secs_f64());
    ensure!(remote == local, "`kubectl cp` brought other bytes into the pod");

    let outputs = tempfile::tempdir()?;
    let begun = Instant::now();
    let target = outputs.path().join(root);
    let source = format!("{there}/{root}");
    kubectl
        .call([
            OsStr::new("cp"),
            "-c".as_ref(),
            bare::SIDECAR.as_ref(),
            source.as_ref(),
            target.as_os_str(),
        ])
        .await?;
    into.add(&key("down-copied"), begun.elapsed().as_secs_f64());
    let remote = kubectl.sums(&pod, root).await?;
    let local = sums(outputs.path(), files.of(load).keys())?;
    into.add(&key("down"), begun.elapsed().as_secs_f64());
    ensure!(remote == local, "`kubectl cp` brought other bytes out of the pod");
    cluster.delete(&pod).await
}

struct Kubectl<'k> {
    program: &'k Path,
    kubeconfig: &'k Path,
}

impl Kubectl<'_> {
    /// What it prints on its standard output.
    async fn call(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<String> {
        let mut command = tokio::process::Command::new(self.program);
        command
            .env("KUBECONFIG", self.kubeconfig)
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = command
            .output()
            .await
            .with_context(|| format!("failed to start `{}`", self.program.display()))?;
        if !output.status.success() {
            bail!("kubectl failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The sums of what lies below `root` in the pod, by path.
    async fn sums(&self, pod: &str, root: &str) -> Result<BTreeMap<String, String>> {
        let script = format!("cd /podrun/work && find {root} -type f -exec sha256sum {{}} +");
        let text = self
            .call(["exec", "-c", bare::SIDECAR, pod, "--", "sh", "-c", &script])
            .await?;
        let pairs = text.lines().filter_map(|line| line.split_once("  "));
        Ok(pairs.map(|(sum, path)| (path.to_owned(), sum.to_owned())).collect())
    }
}

fn verify(folder: &Path, expected: &BTreeMap<String, String>) -> Result<()> {
    let found = sums(folder, expected.keys())?;
    ensure!(found == *expected, "output files differ from what went in");
    Ok(())
}

/// The sums of files on this machine, by path.
fn sums<'p>(folder: &Path, paths: impl Iterator<Item = &'p String>) -> Result<BTreeMap<String, String>> {
    paths
        .map(|path| {
            let file: PathBuf = folder.join(path);
            let bytes = fs::read(&file).with_context(|| format!("failed to read `{}`", file.display()))?;
            Ok((path.clone(), hex(&Sha256::digest(&bytes))))
        })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
