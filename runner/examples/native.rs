//! Runs one task with the native build of the runner: `native CONFIG.json TASK.json INPUTS OUTPUTS`, events on standard output.
//!
//! The same files drive the component in the smoke tests of the hosts, so that the two can be compared.

#![expect(clippy::print_stdout, reason = "an example's output")]

use podrun_runner::{
    Runner,
    contract::{Credential, Directive, Event, Host, Input, Task},
};
use std::{path::PathBuf, process::ExitCode};

struct Console {
    inputs: PathBuf,
    outputs: PathBuf,
}

impl Host for Console {
    fn emit(&self, events: &[Event], _cursor: Option<&str>) -> Directive {
        for event in events {
            println!("{event:?}");
        }
        Directive::Proceed
    }

    fn authenticate(&self, _refused: bool) -> Option<Credential> {
        None
    }

    fn inputs(&self) -> PathBuf {
        self.inputs.clone()
    }

    fn outputs(&self) -> PathBuf {
        self.outputs.clone()
    }
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [config, task, inputs, outputs] = arguments.as_slice() else {
        return Err("usage: native CONFIG.json TASK.json INPUTS OUTPUTS".into());
    };
    let config = std::fs::read_to_string(config)?;
    let task = task_of(&serde_json::from_str(&std::fs::read_to_string(task)?)?).ok_or("TASK.json is not a task")?;
    let host = Console {
        inputs: inputs.into(),
        outputs: outputs.into(),
    };
    let outcome = Runner::new(&host).run(&config, &task, None)?;
    println!("{outcome:?}");
    Ok(ExitCode::SUCCESS)
}

/// Reads the contract's `task` with the names of the WIT.
fn task_of(json: &serde_json::Value) -> Option<Task> {
    let text = |name: &str| json.get(name)?.as_str().map(str::to_owned);
    let texts = |name: &str| -> Vec<String> {
        json.get(name)
            .and_then(|v| v.as_array())
            .into_iter()
            .flatten()
            .filter_map(|v| v.as_str().map(str::to_owned))
            .collect()
    };
    let pairs = |name: &str| -> Vec<(String, String)> {
        let list = json.get(name).and_then(|v| v.as_array()).into_iter().flatten();
        list.filter_map(|p| Some((p.get(0)?.as_str()?.to_owned(), p.get(1)?.as_str()?.to_owned())))
            .collect()
    };
    let inputs = json.get("inputs").and_then(|v| v.as_array()).into_iter().flatten();
    Some(Task {
        id: text("id")?,
        image: text("image")?,
        command: texts("command"),
        env: pairs("env"),
        inputs: inputs
            .filter_map(|i| {
                Some(Input {
                    path: i.get("path")?.as_str()?.to_owned(),
                    mode: u32::try_from(i.get("mode")?.as_u64()?).ok()?,
                })
            })
            .collect(),
        outputs: texts("outputs"),
        timeout: json
            .get("timeout")
            .and_then(serde_json::Value::as_u64)
            .and_then(|t| u32::try_from(t).ok()),
        labels: pairs("labels"),
        options: text("options").unwrap_or_else(|| "{}".into()),
    })
}
