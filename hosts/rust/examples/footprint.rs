//! What a runner costs: time to compile, to load from the cache and to call, and memory for many runs that wait.
//!
//! `footprint COMPONENT CACHE [CONFIG TASK.json RUNS]`. CACHE is where compiled components are kept: the first load of a
//! component compiles it, and the memory figures are those of a worker only if it did not. The task is started RUNS
//! times with a number added to its id. Each run is followed for five seconds more, and detached.

#![expect(clippy::print_stdout, reason = "a program for people")]

use std::path::Path;
use std::time::{Duration, Instant};

use podrun_host::{Folders, Host, Options, Run, Target, Task};

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [component, cache, rest @ ..] = arguments.as_slice() else {
        return Err("usage: footprint COMPONENT CACHE [CONFIG TASK.json RUNS]".into());
    };
    let options = Options {
        cache_dir: Some(cache.into()),
        ..Options::default()
    };
    for number in 1..=3 {
        let start = Instant::now();
        Host::new(options.clone())?.load(Path::new(component)).await?;
        println!("load {number}: {:?}", start.elapsed());
    }
    let runner = Host::new(options)?.load(Path::new(component)).await?;
    let mut calls = Vec::new();
    for _ in 0..100 {
        let start = Instant::now();
        runner.describe().await?;
        calls.push(start.elapsed());
    }
    calls.sort();
    println!(
        "one call (describe), median of 100: {:?}",
        calls.get(calls.len() / 2).ok_or("no calls")?
    );
    println!("resident before any run: {}", resident()?);

    let [config, task, runs] = rest else { return Ok(()) };
    let target = Target {
        config: std::fs::read_to_string(config)?,
        credentials: None,
    };
    let task: Task = serde_json::from_str(&std::fs::read_to_string(task)?)?;
    let mut waiting: Vec<Run> = Vec::new();
    for number in 0..runs.parse::<usize>()? {
        let task = Task {
            id: format!("{}-{number}", task.id),
            ..task.clone()
        };
        let mut run = runner.start(&target, task, Folders::default(), None);
        match run.next().await {
            Some(batch) => batch.commit(),
            None => return Err(run.outcome().await.map(|outcome| outcome.message)?.into()),
        }
        waiting.push(run);
        if waiting.len().is_multiple_of(50) {
            println!("resident with {} runs: {}", waiting.len(), resident()?);
        }
    }
    let settled = tokio::time::Instant::now() + Duration::from_secs(5);
    for run in &mut waiting {
        while let Ok(Some(batch)) = tokio::time::timeout_at(settled, run.next()).await {
            batch.commit();
        }
    }
    println!("resident with {} runs that wait: {}", waiting.len(), resident()?);
    waiting.iter().for_each(Run::detach);
    Ok(())
}

fn resident() -> Result<String, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .ok_or("/proc tells no VmRSS")?;
    Ok(line.trim().to_owned())
}
