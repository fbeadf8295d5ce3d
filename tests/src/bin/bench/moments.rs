//! Part b: how much later than a native watch a host learns that the script speaks and that it ended.

use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use futures::StreamExt as _;
use kube::api::WatchEvent;

use crate::cluster::{Cluster, ended, runs};
use crate::figures::Series;
use crate::task::{Driver, Way, Work};

/// The container that runs the script.
const MAIN: &str = "main";

/// Bash reads the clock without starting a program, and busybox's `date` has no fractions: the script says when it begins
/// and ends in microseconds of the clock that this process reads as well, if the node is this machine.
fn work(folder: PathBuf, pause: f64) -> Work {
    Work {
        image: "debian",
        shell: "bash",
        script: format!("echo $EPOCHREALTIME\ncat in.txt >out.txt\nsleep {pause:.3}\necho $EPOCHREALTIME"),
        inputs: vec!["in.txt".into()],
        folder: Some(folder),
        outputs: vec!["out.txt".into()],
        output_dir: true,
    }
}

/// When the native watch saw `main` run and end.
struct Watched {
    running: Instant,
    terminated: Instant,
}

/// Runs one task and records every figure of part b, in milliseconds.
pub(crate) async fn measure(
    driver: &Driver,
    cluster: &Cluster,
    run: &str,
    folders: (PathBuf, PathBuf),
    pause: f64,
    into: &mut Series<'_>,
) -> Result<()> {
    let (inputs, outputs) = folders;
    let watching = tokio::spawn(watch(cluster.watch(&cluster.selector(run)).await?));
    let work = work(inputs, pause);
    let timeline = driver.run(Way::Component, cluster, &work, run, outputs).await?;
    let watched = watching.await.context("the native watch died")??;
    let clock = Clock::read()?;
    let [(first_line, first), (last_line, last)] = timeline.lines.as_slice() else {
        bail!("the script wrote {} lines instead of 2", timeline.lines.len())
    };
    let (first, last) = (seconds(first)?, seconds(last)?);
    let (first_line, last_line) = (clock.wall(*first_line), clock.wall(*last_line));
    let at = |moment: Option<Instant>, what: &str| {
        let moment = moment.with_context(|| format!("the runner did not report {what}"))?;
        Ok::<f64, anyhow::Error>(clock.wall(moment))
    };
    let submitted = clock.wall(timeline.submitted);
    let (collecting, outcome) = (
        at(timeline.collecting, "collecting")?,
        at(timeline.ended, "an outcome")?,
    );
    let (running, terminated) = (clock.wall(watched.running), clock.wall(watched.terminated));
    for (key, from, to) in [
        ("b/submit-to-first-line", submitted, first_line),
        ("b/submit-to-watch-running", submitted, running),
        ("b/first-line-after-watch", running, first_line),
        ("b/first-line-written-to-seen", first, first_line),
        ("b/last-line-written-to-seen", last, last_line),
        ("b/end-to-outcome", last, outcome),
        ("b/end-to-watch-terminated", last, terminated),
        ("b/outcome-after-watch", terminated, outcome),
        ("b/collecting", collecting, outcome),
    ] {
        into.add(key, (to - from) * 1000.0);
    }
    Ok(())
}

async fn watch(
    mut events: futures::stream::BoxStream<'static, Result<WatchEvent<k8s_openapi::api::core::v1::Pod>>>,
) -> Result<Watched> {
    let mut running = None;
    while let Some(event) = events.next().await {
        if let WatchEvent::Added(pod) | WatchEvent::Modified(pod) = event? {
            let now = Instant::now();
            if runs(&pod, MAIN) {
                running.get_or_insert(now);
            }
            if ended(&pod, MAIN).is_some() {
                return Ok(Watched {
                    running: running.context("the native watch never saw `main` run")?,
                    terminated: now,
                });
            }
        }
    }
    bail!("the native watch ended early")
}

/// Turns this process's moments into the time that scripts read.
struct Clock {
    moment: Instant,
    wall: f64,
}

impl Clock {
    fn read() -> Result<Self> {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        Ok(Self {
            moment: Instant::now(),
            wall,
        })
    }

    fn wall(&self, moment: Instant) -> f64 {
        self.wall - self.moment.saturating_duration_since(moment).as_secs_f64()
    }
}

/// Reads what `echo $EPOCHREALTIME` wrote, whose decimal point is the locale's.
fn seconds(line: &str) -> Result<f64> {
    line.replace(',', ".")
        .parse()
        .with_context(|| format!("the script wrote `{line}` instead of a time"))
}
