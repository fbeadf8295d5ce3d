//! The rounds: every variant once in each, in random order, after a random pause.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use podrun_host::Target;

use crate::Part;
use crate::bare;
use crate::cluster::Cluster;
use crate::figures::Series;
use crate::load::Component;
use crate::moments;
use crate::profile::{Pod, Proxy, Upload};
use crate::report::Found;
use crate::task::{Driver, Way, Work};
use crate::transfer::{self, Files, Load};

/// Nothing that is measured takes this long.
const LIMIT: Duration = Duration::from_secs(180);

/// Pauses are shorter than this, and longer than the kubelet's second.
const PAUSE: f64 = 1.5;

/// One thing to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Measurement {
    Task(Way),
    Bare,
    Moments,
    Transfer(Way, Load),
    Kubectl(Load),
    Cold,
    Cached,
}

impl Measurement {
    /// What the parts need, each once.
    fn of(parts: &BTreeSet<Part>) -> BTreeSet<Self> {
        let mut all = BTreeSet::new();
        let loads = [Load::Large, Load::Small];
        for part in parts {
            match part {
                Part::A => all.extend([Self::Task(Way::Component), Self::Bare]),
                Part::B => all.extend([Self::Moments]),
                Part::C => {
                    all.extend(loads.map(|load| Self::Transfer(Way::Component, load)));
                    all.extend(loads.map(Self::Kubectl));
                }
                Part::D => {}
                Part::E => all.extend([Self::Cold, Self::Cached]),
                Part::F => {
                    for way in [Way::Component, Way::Native] {
                        all.insert(Self::Task(way));
                        all.extend(loads.map(|load| Self::Transfer(way, load)));
                    }
                }
            }
        }
        all
    }

    fn name(self) -> String {
        match self {
            Self::Task(way) => format!("one small task, {}", way.name()),
            Self::Bare => "one small task, bare pod".into(),
            Self::Moments => "first line and outcome".into(),
            Self::Transfer(way, load) => format!("{} up and down, {}", load.name(), way.name()),
            Self::Kubectl(load) => format!("{} up and down, kubectl", load.name()),
            Self::Cold => "cold load".into(),
            Self::Cached => "cached load".into(),
        }
    }
}

/// What rounds need.
pub(crate) struct Rounds<'b> {
    pub(crate) cluster: &'b Cluster,
    pub(crate) component: &'b Component,
    pub(crate) kubectl: &'b Path,
    pub(crate) parts: &'b BTreeSet<Part>,
    pub(crate) runs: u32,
}

impl Rounds<'_> {
    /// Carries out all rounds, then the profile; how many measurements failed.
    pub(crate) async fn run(&self, seed: u64, profile: bool, found: &mut Found) -> Result<usize> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut order: Vec<_> = Measurement::of(self.parts).into_iter().collect();
        if order.is_empty() && !profile {
            return Ok(0);
        }
        let files = Files::make(&mut random)?;
        let driver = Driver {
            runner: self.component.load().await?,
            target: Target {
                config: self.cluster.config(),
                credentials: None,
            },
            profiled: false,
        };
        let mut failures = 0;
        for round in 1..=self.runs {
            random.shuffle(&mut order);
            for (index, measurement) in order.iter().enumerate() {
                tokio::time::sleep(Duration::from_secs_f64(PAUSE * random.f64())).await;
                let pause = 1.0 + random.f64();
                let run = format!("r{round}m{index}");
                let begun = Instant::now();
                let step = self.measure(*measurement, &driver, &files, &run, pause, found.samples.round(round));
                let done = tokio::time::timeout(LIMIT, step).await;
                let done = done.with_context(|| format!("it takes longer than {} s", LIMIT.as_secs()));
                let name = measurement.name();
                let took = begun.elapsed().as_secs_f64();
                match done.and_then(|done| done) {
                    Ok(()) => eprintln!(
                        "  round {round}/{}, {}/{}: {name} ({took:.1} s)",
                        self.runs,
                        index + 1,
                        order.len()
                    ),
                    Err(error) => {
                        failures += 1;
                        eprintln!(
                            "✗ round {round}/{}: {name} failed after {took:.1} s: {error:#}",
                            self.runs
                        );
                        self.cluster.sweep(&self.cluster.selector(&run)).await?;
                    }
                }
                // What is deleted now must not disturb the next one.
                self.cluster.gone(&self.cluster.selector(&run)).await?;
            }
        }
        if profile {
            self.profile(driver, &files, found).await?;
        }
        Ok(failures)
    }

    async fn measure(
        &self,
        measurement: Measurement,
        driver: &Driver,
        files: &Files,
        run: &str,
        pause: f64,
        mut into: Series<'_>,
    ) -> Result<()> {
        let into = &mut into;
        match measurement {
            Measurement::Task(way) => {
                let (inputs, outputs) = (small_input()?, tempfile::tempdir()?);
                let work = small_work(inputs.path());
                let outputs = outputs.path().to_owned();
                let timeline = driver.run(way, self.cluster, &work, run, outputs).await?;
                let took = timeline.seconds(Some(timeline.submitted), timeline.ended, "an outcome")?;
                into.add(&format!("a/{}", way.name()), took);
                Ok(())
            }
            Measurement::Bare => {
                into.add("a/bare", bare::run(self.cluster, run).await?);
                Ok(())
            }
            Measurement::Moments => {
                let (inputs, outputs) = (small_input()?, tempfile::tempdir()?);
                let folders = (inputs.path().to_owned(), outputs.path().to_owned());
                moments::measure(driver, self.cluster, run, folders, pause, into).await
            }
            Measurement::Transfer(way, load) => {
                transfer::by_runner(driver, self.cluster, (way, load), files, run, into)
                    .await
                    .map(drop)
            }
            Measurement::Kubectl(load) => {
                transfer::by_kubectl(self.kubectl, self.cluster, load, files, run, into).await
            }
            Measurement::Cold => self.component.cold(into).await,
            Measurement::Cached => self.component.cached(&driver.target.config, into).await,
        }
    }

    /// One upload each way through a proxy. They are no samples: the proxy costs time of its own.
    async fn profile(&self, driver: Driver, files: &Files, found: &mut Found) -> Result<()> {
        let proxy = Proxy::start(self.cluster).await?;
        let driver = Driver {
            target: Target {
                config: proxy.config(self.cluster),
                credentials: None,
            },
            profiled: true,
            ..driver
        };
        for way in [Way::Component, Way::Native] {
            let outputs = tempfile::tempdir()?;
            let run = format!("profile-{}", way.name());
            let work = transfer::work(files, Load::Large);
            let outputs = outputs.path().to_owned();
            let (timeline, pod) = Pod::during(driver.run(way, self.cluster, &work, &run, outputs)).await;
            found.uploads.push((way, Upload::of(&timeline?, &proxy, &pod)?));
            eprintln!("  profile of an upload, {}", way.name());
        }
        Ok(())
    }
}

/// The task of part a.
fn small_work(inputs: &Path) -> Work {
    Work {
        image: "busybox",
        shell: "sh",
        script: "cat in.txt >out.txt".into(),
        inputs: vec!["in.txt".into()],
        folder: Some(inputs.to_owned()),
        outputs: vec!["out.txt".into()],
        output_dir: true,
    }
}

/// A folder with the small input.
fn small_input() -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("in.txt"), "input\n")?;
    Ok(folder)
}
