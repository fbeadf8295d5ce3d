//! Part d: what many running tasks cost the process that follows them. Measured in a process of its own, so that nothing
//! else is counted.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use podrun_host::{Event, Folders, Run, Runner, Target, Task};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::cluster::{Cluster, RUN, SESSION};
use crate::load::{self, Component};

/// Tasks that are started at once.
const BATCH: usize = 20;

/// How long a batch may take until all of it runs. When one takes longer, no more pods are made.
const PATIENCE: Duration = Duration::from_secs(180);

/// How long all pods may take together.
const BUDGET: Duration = Duration::from_secs(600);

/// Heartbeats go on for so long before memory is read.
const SETTLING: Duration = Duration::from_secs(3);

/// Inotify instances that kubelet, containerd and others need beside one per followed log.
const RESERVE: usize = 100;

/// How many inotify instances a user may have on this machine.
fn watchers() -> Option<usize> {
    let text = fs::read_to_string("/proc/sys/fs/inotify/max_user_instances").ok()?;
    text.trim().parse().ok()
}

/// What one process holds at one moment.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Holding {
    /// Runs that are followed.
    pub(crate) runs: usize,
    /// Bytes of memory, a page counted once (proportional set size).
    pub(crate) resident: u64,
    /// The same with what runs share counted once for each of them (`VmRSS`): above all the component's own data, which the
    /// kernel maps into every instance and copies where one writes.
    pub(crate) mapped: u64,
    /// Open TCP connections.
    pub(crate) connections: usize,
}

/// The result of part d.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Resident {
    /// With the component loaded and one task running.
    pub(crate) one: Holding,
    /// With all of them running.
    pub(crate) all: Holding,
    /// How many pods they were. Fewer than runs when the node could not hold so many in time.
    pub(crate) pods: usize,
}

impl Resident {
    /// Growth of resident memory per further run, in MB.
    pub(crate) fn megabytes_per_run(&self) -> f64 {
        self.growth(|holding| holding.resident) / 1e6
    }

    /// The same for mapped memory.
    pub(crate) fn mapped_megabytes_per_run(&self) -> f64 {
        self.growth(|holding| holding.mapped) / 1e6
    }

    /// Connections per further run.
    pub(crate) fn connections_per_run(&self) -> f64 {
        self.growth(|holding| holding.connections as u64)
    }

    /// How much more of something there is per further run.
    fn growth(&self, of: impl Fn(&Holding) -> u64) -> f64 {
        let further = self.all.runs.saturating_sub(self.one.runs).max(1);
        (of(&self.all) as f64 - of(&self.one) as f64) / further as f64
    }
}

/// Measures in a child process. Its pods are left to whoever ends the benchmark.
pub(crate) async fn measure(cluster: &Cluster, component: &Component, tasks: usize) -> Result<Resident> {
    eprintln!("· d: {tasks} tasks in one process");
    if let Some(limit) = watchers().filter(|limit| *limit < tasks + RESERVE) {
        eprintln!(
            "· d: fs.inotify.max_user_instances is {limit} here. If the node is this machine, its kubelet follows fewer than {tasks} \
             logs and ends the other requests at once: set it to {} or more.",
            tasks + RESERVE
        );
    }
    let program = std::env::current_exe().context("failed to find this program")?;
    let mut command = tokio::process::Command::new(program);
    command
        .args(["--resident-child", &cluster.session, "--tasks", &tasks.to_string()])
        .arg("--component")
        .arg(component.file())
        .arg("--cache")
        .arg(component.cache())
        .arg("--kubeconfig")
        .arg(&cluster.kubeconfig)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let child = command.spawn().context("failed to start the process of part d")?;
    let output = child.wait_with_output().await?;
    if !output.status.success() {
        bail!("the process of part d failed ({})", output.status);
    }
    serde_json::from_slice(&output.stdout).context("the process of part d printed something else than its result")
}

/// What the child does: starts tasks that sleep, and prints what it holds.
pub(crate) async fn child(cluster: &Cluster, wasm: &Path, cache: &Path, tasks: usize) -> Result<Resident> {
    let runner = load::warm(wasm, cache.to_owned()).await?;
    let target = Target {
        config: cluster.config(),
        credentials: None,
    };
    let (sender, mut running) = mpsc::unbounded_channel();
    let mut crowd = Crowd {
        cluster,
        runner,
        target,
        sender,
        handles: Vec::new(),
    };
    crowd.start(1);
    crowd.reach(&mut running, 1, PATIENCE).await?;
    tokio::time::sleep(SETTLING).await;
    let one = holding(1)?;
    let begun = Instant::now();
    let mut pods = 1;
    while pods < tasks && begun.elapsed() < BUDGET {
        let batch = BATCH.min(tasks - pods);
        crowd.start(batch);
        if let Err(error) = crowd.reach(&mut running, pods + batch, PATIENCE).await {
            eprintln!("· d: no more pods: {error:#}");
            break;
        }
        pods += batch;
        eprintln!(
            "· d: {pods} of {tasks} tasks run after {:.0} s",
            begun.elapsed().as_secs_f64()
        );
    }
    let pods = crowd.handles.len();
    if pods < tasks {
        eprintln!(
            "· d: following the same {pods} pods again for the other {} runs",
            tasks - pods
        );
        crowd.attach(tasks - pods);
        crowd.reach(&mut running, tasks, PATIENCE).await?;
    }
    tokio::time::sleep(SETTLING).await;
    Ok(Resident {
        one,
        all: holding(tasks)?,
        pods,
    })
}

/// Runs that are followed until this process ends.
struct Crowd<'c> {
    cluster: &'c Cluster,
    runner: Runner,
    target: Target,
    sender: mpsc::UnboundedSender<Result<String>>,
    /// Of tasks that run.
    handles: Vec<String>,
}

impl Crowd<'_> {
    fn start(&self, count: usize) {
        let begun = self.handles.len();
        for index in begun..begun + count {
            let run = format!("d{index}");
            let options = serde_json::json!({
                "labels": { SESSION: self.cluster.session, RUN: run },
                "outputDir": false,
                "waitUntilRunning": "PT10M",
            });
            let task = Task {
                id: format!("bench-{}-{run}", self.cluster.session),
                image: "busybox".into(),
                command: ["sh", "-c", "echo up; sleep 86400"].map(str::to_owned).to_vec(),
                env: Vec::new(),
                inputs: Vec::new(),
                outputs: Vec::new(),
                timeout: None,
                labels: Vec::new(),
                options: options.to_string(),
            };
            self.follow(self.runner.start(&self.target, task, Folders::default(), None));
        }
    }

    fn attach(&self, count: usize) {
        for handle in self.handles.iter().cycle().take(count) {
            let run = self
                .runner
                .attach(&self.target, handle.clone(), Folders::default(), None);
            self.follow(run);
        }
    }

    /// Says when the first line of a run's log is there: from then on its log and its pod are followed.
    fn follow(&self, mut run: Run) {
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let mut handle = String::new();
            while let Some(batch) = run.next().await {
                for event in &batch.events {
                    match event {
                        Event::Started(started) => handle.clone_from(started),
                        Event::Log(_) => drop(sender.send(Ok(handle.clone()))),
                        _ => {}
                    }
                }
                batch.commit();
            }
            let end = run.outcome().await;
            let error = end.map_or_else(anyhow::Error::from, |outcome| {
                anyhow::anyhow!("a task ended: {}", outcome.message)
            });
            // The process is about to end when nobody listens.
            let _ = sender.send(Err(error));
        });
    }

    /// Waits until `count` runs follow.
    async fn reach(
        &mut self,
        running: &mut mpsc::UnboundedReceiver<Result<String>>,
        count: usize,
        patience: Duration,
    ) -> Result<()> {
        let wait = async {
            while self.handles.len() < count {
                let handle = running.recv().await.context("nobody reports any more")??;
                self.handles.push(handle);
            }
            Ok(())
        };
        let reached = tokio::time::timeout(patience, wait).await;
        reached.with_context(|| {
            format!(
                "{} of {count} tasks run after {} s",
                self.handles.len(),
                patience.as_secs()
            )
        })?
    }
}

/// Reads what this process holds now.
fn holding(runs: usize) -> Result<Holding> {
    let maps = fs::read_to_string("/proc/self/smaps_rollup").context("failed to read /proc/self/smaps_rollup")?;
    Ok(Holding {
        runs,
        resident: bytes(&maps, "Pss:")?,
        mapped: bytes(&maps, "Rss:")?,
        connections: connections()?,
    })
}

/// One line of /proc/PID/smaps_rollup.
fn bytes(maps: &str, name: &str) -> Result<u64> {
    let line = maps.lines().find_map(|line| line.strip_prefix(name));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kibibytes.with_context(|| format!("/proc/self/smaps_rollup holds no {name}"))? * 1024)
}

/// Established TCP connections of this process: those in the network's tables whose sockets it holds.
fn connections() -> Result<usize> {
    let mut own = BTreeSet::new();
    for entry in fs::read_dir("/proc/self/fd").context("failed to read /proc/self/fd")? {
        // A descriptor may be closed by now.
        let Ok(target) = fs::read_link(entry?.path()) else {
            continue;
        };
        let target = target.to_string_lossy().into_owned();
        if let Some(inode) = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')) {
            own.insert(inode.to_owned());
        }
    }
    let mut count = 0;
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        // A machine without IPv6 has no second table.
        let text = fs::read_to_string(table).unwrap_or_default();
        count += established(&text).filter(|inode| own.contains(*inode)).count();
    }
    Ok(count)
}

/// Inodes of established connections in a table of /proc/net.
fn established(table: &str) -> impl Iterator<Item = &str> {
    table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace();
        let state = fields.nth(3)?;
        let inode = fields.nth(5)?;
        (state == "01").then_some(inode)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        let maps = "56-7ff ---p 00000000 00:00 0 [rollup]\nRss:     70724 kB\nPss:     47576 kB\nPss_Dirty: 1 kB\n";
        assert_eq!(bytes(maps, "Pss:").unwrap(), 47576 * 1024);
        assert!(bytes(maps, "Swap:").is_err());
    }

    #[test]
    fn only_established_connections_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:9DF7 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0\n   \
            1: 0100007F:9DF7 0100007F:8E2C 01 00000000:00000000 02:00000A2B 00000000     0        0 222 2 0 20 4 30 10 -1\n";
        assert_eq!(established(table).collect::<Vec<_>>(), ["222"]);
    }
}
