//! `cargo xtask bench agent`: what the agent costs as it is delivered, against what it may cost.
//!
//! The measuring is a test of the agent's that is ignored otherwise. It is done twice, with the agent's data on the disk and
//! in memory: the difference is what the disk takes to make things last.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::{Value, json};

use crate::cargo;
use crate::interrupt;
use crate::progress::Step;
use crate::setup::{self, Needs};

/// A file system without a disk.
const MEMORY: &str = "/dev/shm";

/// What is printed.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Options {
    /// Print one JSON document, with everything that was measured, instead of the table
    #[arg(long)]
    json: bool,
}

/// Something that is measured, and what it may be.
#[derive(Debug, Clone, Copy)]
struct Target {
    what: &'static str,
    /// Where it is in what the test prints.
    pointer: &'static str,
    /// What one unit of the test is in units of this.
    scale: f64,
    unit: &'static str,
    bound: Bound,
}

#[derive(Debug, Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
    /// It is the machine's, and explains the others.
    None,
}

const fn target(what: &'static str, pointer: &'static str, scale: f64, unit: &'static str, bound: Bound) -> Target {
    Target {
        what,
        pointer,
        scale,
        unit,
        bound,
    }
}

const TARGETS: [Target; 7] = [
    target(
        "POST to running, median",
        "/postToRunningMs/median",
        1.0,
        "ms",
        Bound::AtMost(5.0),
    ),
    target(
        "exit to known by a waiting client, median",
        "/exitToKnownMs/median",
        1.0,
        "ms",
        Bound::AtMost(50.0),
    ),
    target(
        "tasks started, 200 queued, median",
        "/startsPerSecond/median",
        1.0,
        "/s",
        Bound::AtLeast(300.0),
    ),
    target(
        "memory when idle, PSS",
        "/pssKiB/idle",
        1.0 / 1024.0,
        "MiB",
        Bound::AtMost(10.0),
    ),
    target(
        "memory with 100 tasks and their supervisors, PSS",
        "/pssKiB/allWith100",
        1.0 / 1024.0,
        "MiB",
        Bound::AtMost(25.0),
    ),
    target("program", "/binaryBytes", 1.0 / 1_048_576.0, "MiB", Bound::AtMost(4.0)),
    target(
        "one fsync of this machine, median",
        "/fsyncMs/median",
        1.0,
        "ms",
        Bound::None,
    ),
];

/// Measures, and prints what came out.
pub(crate) fn bench(options: Options) -> Result<()> {
    setup::ensure(Needs {
        build: true,
        cluster: false,
        images: false,
        hosts: false,
    })?;
    let agent = cargo::agent()?;
    let test = cargo::test_program("podrun-agent", "processes")?;
    let measure = |place: &Path| -> Result<Value> {
        let step = Step::start(format!("measuring with data in {}", place.display()));
        let mut command = Command::new(&test.executable);
        command
            .args(["bench::bench", "--exact", "--ignored", "--nocapture"])
            .current_dir(&test.folder)
            .env("PODRUN_AGENT_PROGRAM", &agent)
            .env("TMPDIR", place);
        let measured = find(&interrupt::output(&mut command)?)?;
        step.done("");
        Ok(measured)
    };
    let disk = measure(&std::env::temp_dir())?;
    let memory = if Path::new(MEMORY).is_dir() {
        measure(Path::new(MEMORY))?
    } else {
        Value::Null
    };
    if options.json {
        println!("{}", json!({ "onDisk": disk, "inMemory": memory }));
    } else {
        print!("{}", table(&disk, &memory));
    }
    Ok(())
}

/// The one line of JSON among what the test harness prints.
fn find(output: &str) -> Result<Value> {
    let line = output.lines().find_map(|line| line.get(line.find('{')?..));
    let line = line.with_context(|| format!("the benchmark printed no result: {output}"))?;
    serde_json::from_str(line).context("failed to read the benchmark's result")
}

fn table(disk: &Value, memory: &Value) -> String {
    let mut table = format!("{:<50} {:>12} {:>12} {:>12}\n", "", "target", "on disk", "in memory");
    for target in TARGETS {
        let measured = |of: &Value| {
            of.pointer(target.pointer)
                .and_then(Value::as_f64)
                .map(|value| value * target.scale)
        };
        let show = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1} {}", target.unit));
        let value = measured(disk);
        let (sign, bound, met) = match target.bound {
            Bound::AtMost(bound) => ("≤", bound, value.is_some_and(|value| value <= bound)),
            Bound::AtLeast(bound) => ("≥", bound, value.is_some_and(|value| value >= bound)),
            Bound::None => {
                let (value, memory) = (show(value), show(measured(memory)));
                table += &format!("{:<50} {:>12} {value:>12} {memory:>12}\n", target.what, "");
                continue;
            }
        };
        let bound = format!("{sign} {bound} {}", target.unit);
        let verdict = if met { "met" } else { "MISSED" };
        let (value, memory) = (show(value), show(measured(memory)));
        table += &format!("{:<50} {bound:>12} {value:>12} {memory:>12}  {verdict}\n", target.what);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_found_and_judged() {
        let text = "\nrunning 1 test\ntest bench::bench ... {\"postToRunningMs\": {\"median\": 4.04}, \"startsPerSecond\": {\"median\": 299}, \"binaryBytes\": 2097152}\nok\n";
        let table = table(&find(text).unwrap(), &Value::Null);
        let line = |what: &str| table.lines().find(|line| line.starts_with(what)).unwrap();
        assert!(
            line("POST to running").ends_with("≤ 5 ms       4.0 ms            -  met"),
            "{table}"
        );
        assert!(
            line("tasks started").ends_with("299.0 /s            -  MISSED"),
            "{table}"
        );
        assert!(
            line("program").contains("2.0 MiB") && line("program").ends_with("met"),
            "{table}"
        );
        assert!(
            line("memory when idle").ends_with("MISSED"),
            "what was not measured is not met: {table}"
        );
        find("running 0 tests\n").unwrap_err();
    }
}
