//! Measures Podrun against what a user would have otherwise, on the cluster that KUBECONFIG names; `cargo xtask bench`
//! builds what it needs and brings a cluster.
//!
//! One run measures everything on one cluster. Variants are interleaved in random order with random pauses, because the
//! kubelet looks at its containers once a second and fixed pauses run in step with it, which flatters the median.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

mod bare;
mod cluster;
mod figures;
mod load;
mod moments;
mod profile;
mod report;
mod resident;
mod rounds;
mod task;
mod transfer;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, ValueEnum};
use sha2::{Digest as _, Sha256};

use cluster::Cluster;
use load::Component;
use report::Found;

/// Measures Podrun on the cluster that KUBECONFIG names.
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// Print one JSON document, with every sample, instead of the table
    #[arg(long)]
    json: bool,
    /// Measure only these parts, such as a,b,c
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// How often each variant is measured
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Repeats the order, pauses and files of an earlier run
    #[arg(long)]
    seed: Option<u64>,
    /// How many tasks run at once in part d
    #[arg(long, default_value_t = 200, value_parser = tasks)]
    tasks: usize,
    /// Also find out where the time of an upload goes
    #[arg(long)]
    profile: bool,
    /// The cluster is thrown away afterwards: its pods are left to it
    #[arg(long)]
    disposable: bool,
    /// The runner's component
    #[arg(long, env = "PODRUN_RUNNER")]
    component: PathBuf,
    /// The kubectl to compare with
    #[arg(long, env = "PODRUN_KUBECTL", default_value = "kubectl")]
    kubectl: PathBuf,
    /// Whose rights are used; what cargo xtask brings up has an account with a task runner's rights only
    #[arg(long, env = "PODRUN_TEST_RUNNER_KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Be the process of part d, for the session of this name
    #[arg(long, hide = true, requires = "cache")]
    resident_child: Option<String>,
    /// Where that process finds the compiled component
    #[arg(long, hide = true)]
    cache: Option<PathBuf>,
}

fn tasks(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 2..) => Ok(count),
        _ => Err("a number from 2 on".to_owned()),
    }
}

/// What there is to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Part {
    /// Submit to outcome, against a bare pod
    A,
    /// First line and outcome, against a native watch
    B,
    /// Files, against kubectl cp
    C,
    /// Memory and connections of many running tasks
    D,
    /// Loading the component
    E,
    /// The component against the same code compiled natively, in a and c
    F,
}

impl Arguments {
    fn parts(&self) -> BTreeSet<Part> {
        if self.only.is_empty() {
            Part::value_variants().iter().copied().collect()
        } else {
            self.only.iter().copied().collect()
        }
    }

    fn kubeconfig(&self) -> Result<PathBuf> {
        if let Some(path) = &self.kubeconfig {
            return Ok(path.clone());
        }
        let variable = std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty());
        let variable = variable.context("set KUBECONFIG to a cluster's kubeconfig")?;
        std::env::split_paths(&variable).next().context("KUBECONFIG is empty")
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    let kubeconfig = arguments.kubeconfig()?;
    if let (Some(session), Some(cache)) = (&arguments.resident_child, &arguments.cache) {
        let cluster = Cluster::open(&kubeconfig, session.clone()).await?;
        let found = resident::child(&cluster, &arguments.component, cache, arguments.tasks).await?;
        println!("{}", serde_json::to_string(&found)?);
        return Ok(());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    // Two benchmarks on one cluster must not meet, even with one seed.
    let session = format!("{:x}-{:x}", now.as_secs(), std::process::id());
    let seed = arguments.seed.unwrap_or(u64::from(now.subsec_nanos()));
    let cluster = Cluster::open(&kubeconfig, session).await?;
    let begun = Instant::now();
    let component = Component::copy(&arguments.component)?;
    let header = Header::read(&arguments, seed, &component)?;
    eprint!("{header}");
    let mut found = Found::default();
    let measured = tokio::select! {
        measured = measure(&arguments, seed, &cluster, &component, &mut found) => measured,
        () = interrupted() => Err(anyhow::anyhow!("interrupted")),
    };
    // Whatever happened, nothing is left behind.
    if !arguments.disposable {
        eprintln!("· removing the pods");
        let everything = cluster.everything();
        tokio::select! {
            swept = cluster.sweep(&everything) => if let Err(error) = swept {
                eprintln!("✗ pods `{}` are left: {error:#}", cluster.everything());
            },
            () = interrupted() => eprintln!("✗ pods `{}` are left", cluster.everything()),
        }
    }
    let failures = measured?;
    let rows = found.rows();
    let load = load_average();
    if arguments.json {
        let document = serde_json::json!({
            "header": header,
            "loadAverageAtEnd": load,
            "seconds": begun.elapsed().as_secs(),
            "failures": failures,
            "rows": rows,
            "resident": found.resident,
            "uploads": found.uploads.iter().map(|(way, upload)| (way.name(), upload)).collect::<Vec<_>>(),
            "samples": found.samples,
        });
        println!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        print!("\n{header}{}{}", report::table(&rows), report::uploads(&found.uploads));
        println!(
            "A ratio's median is the ratio of the two medians; its min and max are of pairs of one round. \
             Script times are bash's EPOCHREALTIME, in microseconds of this machine's clock.\n\
             load average at the end {load}; {} min {:02} s",
            begun.elapsed().as_secs() / 60,
            begun.elapsed().as_secs() % 60
        );
    }
    if failures > 0 {
        bail!("{failures} measurements failed and are missing from the figures");
    }
    Ok(())
}

/// Everything that was asked for; how many measurements failed.
async fn measure(
    arguments: &Arguments,
    seed: u64,
    cluster: &Cluster,
    component: &Component,
    found: &mut Found,
) -> Result<usize> {
    let parts = arguments.parts();
    let rounds = rounds::Rounds {
        cluster,
        component,
        kubectl: &arguments.kubectl,
        parts: &parts,
        runs: arguments.runs,
    };
    let failures = rounds.run(seed, arguments.profile, found).await?;
    // Last, because the node is busy for minutes when so many pods go.
    if parts.contains(&Part::D) {
        // The cache is filled before memory is measured: compiling takes some.
        component.load().await?;
        found.resident = Some(resident::measure(cluster, component, arguments.tasks).await?);
    }
    Ok(failures)
}

async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// What the figures depend on.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    seed: u64,
    runs: u32,
    cpus: usize,
    load_average: String,
    kernel: String,
    component_bytes: usize,
    component_sha256: String,
}

impl Header {
    fn read(arguments: &Arguments, seed: u64, component: &Component) -> Result<Self> {
        let component = std::fs::read(component.file())?;
        let sum = Sha256::digest(&component);
        Ok(Self {
            seed,
            runs: arguments.runs,
            cpus: std::thread::available_parallelism()?.get(),
            load_average: load_average(),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            component_bytes: component.len(),
            component_sha256: sum.iter().take(6).map(|byte| format!("{byte:02x}")).collect(),
        })
    }
}

impl std::fmt::Display for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            seed,
            runs,
            cpus,
            load_average,
            kernel,
            component_bytes,
            component_sha256,
        } = self;
        writeln!(
            f,
            "seed {seed}, {runs} runs, {cpus} CPUs, kernel {kernel}, load average at the start {load_average}, component {:.1} MB sha256 \
             {component_sha256}",
            *component_bytes as f64 / 1e6
        )?;
        let load: f64 = load_average.parse().unwrap_or_default();
        if load > *cpus as f64 / 4.0 {
            writeln!(f, "This machine is busy with something else: the figures are noise.")?;
        }
        Ok(())
    }
}

/// Of the last minute: with more than the benchmark itself, the figures are noise.
fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}
