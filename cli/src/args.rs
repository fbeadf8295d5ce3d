//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::error::EXIT_CODES;
use crate::ui::Verbosity;

/// Runs flow files whose scripts run in Kubernetes pods.
#[derive(Debug, Parser)]
#[command(name = "podrun", version, about, after_help = EXIT_CODES, max_term_width = 120)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Show only what scripts write, and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Show also what helps to find a fault
    #[arg(short, long, global = true)]
    verbose: bool,
    /// Print one JSON object a line; each has a `type`
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl Arguments {
    pub(crate) fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a flow, or go on with an execution of it
    #[command(after_help = RUN_HELP)]
    Run(Run),
    /// List executions: the unfinished ones, and the latest others
    Ps(Ps),
    /// Print what the scripts of an execution wrote
    Logs(Logs),
    /// Go on with an execution that was interrupted or detached
    Attach(Attach),
    /// Stop an execution and remove what it left in the cluster
    Kill(Kill),
    /// Find out whether tasks can run: cluster reachable, rights present. Images are not looked at
    Doctor(Doctor),
    /// Find every mistake in flows, without running them and without a cluster
    Validate(Validate),
    /// Show what each property of a flow's tasks is after all defaults, and who said so. Secrets are not shown
    Explain(Explain),
    /// Print the pods that a flow's tasks would become
    Render(Render),
    /// Print the JSON Schema of flows, for editors
    #[command(after_help = SCHEMA_HELP)]
    Schema(Schema),
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: Shell,
    },
}

const RUN_HELP: &str = "\
Ctrl-C asks on a terminal whether to stop the task or to leave it running; a second one leaves it running. Elsewhere \
SIGINT stops the task and a second one leaves it running. SIGTERM and SIGHUP leave it running. Whatever ends podrun, \
the same command with the same --execution-id goes on where it was.

Environment:
  PODRUN_STATE_DIR  where the journal and the files of executions are kept; default: the platform's state folder
  PODRUN_RUNNER     the runner's component, as --runner
  KUBECONFIG        kubeconfig files, merged as kubectl does
  SECRET_<NAME>     a secret for `secret('NAME')` in expressions, in Base64
  ENV_<NAME>        what expressions see as `envs.name`
  NO_COLOR          no colours

See `podrun --help` for the exit codes.";

const SCHEMA_HELP: &str = "\
Save it beside your flows, and begin each flow with the line

  # yaml-language-server: $schema=podrun.schema.json

so that editors with the YAML language server complete properties and underline mistakes.";

#[derive(Debug, Args)]
pub(crate) struct Validate {
    /// The flows
    #[arg(required = true)]
    pub(crate) flows: Vec<PathBuf>,
    /// The operator's defaults: a file with `pluginDefaults`, which beat the flow's
    #[arg(long, value_name = "FILE")]
    pub(crate) defaults: Option<PathBuf>,
    /// The runner's component; default: podrun-runner.wasm beside this program
    #[arg(long, value_name = "FILE", env = "PODRUN_RUNNER", hide_env = true)]
    pub(crate) runner: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The flow
    pub(crate) flow: PathBuf,
    /// Only this task
    pub(crate) task: Option<String>,
    /// The operator's defaults: a file with `pluginDefaults`, which beat the flow's
    #[arg(long, value_name = "FILE")]
    pub(crate) defaults: Option<PathBuf>,
    /// The runner's component; default: podrun-runner.wasm beside this program
    #[arg(long, value_name = "FILE", env = "PODRUN_RUNNER", hide_env = true)]
    pub(crate) runner: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Render {
    /// The flow
    pub(crate) flow: PathBuf,
    /// Only this task
    pub(crate) task: Option<String>,
    /// An input of the flow: NAME=VALUE, or NAME=@FILE for the content of a file
    #[arg(short, long = "input", value_name = "NAME=VALUE|NAME=@FILE")]
    pub(crate) inputs: Vec<String>,
    /// Where the files of namespaces lie, each in DIR/NAMESPACE/; default: `namespaces` in the state folder
    #[arg(long, value_name = "DIR")]
    pub(crate) namespace_files: Option<PathBuf>,
    /// Have the API server try it, without creating anything, and print what it makes of it
    #[arg(long)]
    pub(crate) server: bool,
    /// The operator's defaults: a file with `pluginDefaults`, which beat the flow's
    #[arg(long, value_name = "FILE")]
    pub(crate) defaults: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) access: Cluster,
}

#[derive(Debug, Args)]
pub(crate) struct Schema {
    /// The schema of an operator's defaults file instead
    #[arg(long)]
    pub(crate) defaults: bool,
    /// Write the pages of the reference into this folder instead
    #[arg(long, value_name = "DIR", hide = true)]
    pub(crate) reference: Option<PathBuf>,
    /// The runner's component; default: podrun-runner.wasm beside this program
    #[arg(long, value_name = "FILE", env = "PODRUN_RUNNER", hide_env = true)]
    pub(crate) runner: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The flow
    pub(crate) flow: PathBuf,
    /// An input of the flow: NAME=VALUE, or NAME=@FILE for the content of a file. Kept in the journal as it is, so it is no
    /// place for a credential
    #[arg(short, long = "input", value_name = "NAME=VALUE|NAME=@FILE")]
    pub(crate) inputs: Vec<String>,
    /// Name this execution, or go on with the execution of that name
    #[arg(long, value_name = "ID", value_parser = execution_id)]
    pub(crate) execution_id: Option<String>,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

#[derive(Debug, Args)]
pub(crate) struct Attach {
    /// The execution
    #[arg(value_parser = execution_id)]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// List all executions
    #[arg(short, long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The execution
    #[arg(value_parser = execution_id)]
    pub(crate) id: String,
    /// Go on printing until the execution ends
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only what this task wrote
    #[arg(long)]
    pub(crate) task: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Kill {
    /// The execution
    #[arg(value_parser = execution_id)]
    pub(crate) id: String,
    /// Seconds that the script has to end by itself; default: the runner's, which also holds where another process drives
    /// the execution
    #[arg(long, value_name = "SECONDS")]
    pub(crate) grace: Option<u32>,
    #[command(flatten)]
    pub(crate) access: Cluster,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Look with the configs and namespaces of this flow's tasks
    pub(crate) flow: Option<PathBuf>,
    /// The operator's defaults: a file with `pluginDefaults`, which beat the flow's
    #[arg(long, value_name = "FILE")]
    pub(crate) defaults: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) values: Values,
    #[command(flatten)]
    pub(crate) access: Cluster,
}

/// How to run, kept in the journal for whoever goes on.
#[derive(Debug, Args)]
pub(crate) struct Settings {
    /// The operator's defaults: a file with `pluginDefaults`, which beat the flow's
    #[arg(long, value_name = "FILE")]
    pub(crate) defaults: Option<PathBuf>,
    /// Copy output files to DIR/TASK/
    #[arg(long, value_name = "DIR")]
    pub(crate) outputs: Option<PathBuf>,
    /// Where the files of namespaces lie, each in DIR/NAMESPACE/, for `namespaceFiles`; default: `namespaces` in the state
    /// folder
    #[arg(long, value_name = "DIR")]
    pub(crate) namespace_files: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) values: Values,
    #[command(flatten)]
    pub(crate) access: Cluster,
}

/// Where `secret` and `kv` in expressions look.
#[derive(Debug, Args)]
pub(crate) struct Values {
    /// A YAML file of names and secrets for `secret('NAME')`, which others must not be able to read; secrets can also be in
    /// variables SECRET_NAME, in Base64
    #[arg(long, value_name = "FILE")]
    pub(crate) secrets: Option<PathBuf>,
    /// A YAML or JSON file of names and values for `kv('name')`
    #[arg(long, value_name = "FILE")]
    pub(crate) kv: Option<PathBuf>,
}

/// How to reach the cluster, and through which runner.
#[derive(Debug, Args)]
pub(crate) struct Cluster {
    /// The cluster for tasks without a config; default: KUBECONFIG, ~/.kube/config, the pod's service account
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context; default: its current one
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// The runner's component; default: podrun-runner.wasm beside this program
    #[arg(long, value_name = "FILE", env = "PODRUN_RUNNER", hide_env = true)]
    pub(crate) runner: Option<PathBuf>,
}

/// Ids become part of file names, labels and pod names.
fn execution_id(text: &str) -> Result<String, String> {
    let fits = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        && text.len() <= 63;
    if fits {
        return Ok(text.to_owned());
    }
    Err("use up to 63 letters, digits, `-` and `_`, with a letter or digit at both ends".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn ids_that_cannot_be_file_names_are_refused() {
        for bad in ["", "../x", "a/b", "a b", "-a", "a.b", &"a".repeat(64)] {
            assert!(execution_id(bad).is_err(), "{bad}");
        }
        assert!(execution_id("nightly-2026_11").is_ok());
    }
}
