//! What the agent is told: on the command line, where one or two dashes are the same, and in the environment. The
//! command line wins. Flags without a command mean `serve`, as deployed manifests have it.

mod units;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

pub use units::{boolean, duration, size, volume};

/// A task executor inside the pod that never loses a process or its result.
///
/// Without a command it serves.
#[derive(Debug, Parser)]
#[command(
    name = "podrun-agent",
    version,
    max_term_width = 120,
    args_conflicts_with_subcommands = true,
    args_override_self = true
)]
#[command(after_help = "Flags may have one dash or two. Exit code 64 is a failure of the agent itself.")]
pub struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Flags,
}

/// What the agent is to do.
#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one, once")]
pub enum Command {
    /// Serve the API and run tasks; what flags alone mean too
    Serve(Flags),
    /// Copy this program into a folder, such as a volume from which another container runs it
    Install {
        /// The folder; the program appears in it as `podrun-agent`
        dir: PathBuf,
    },
    /// Print a completion script
    Completion {
        /// For which shell
        shell: Shell,
    },
}

/// The flags of `serve`.
#[derive(Debug, Default, Args)]
pub struct Flags {
    /// Directory for task state and logs; a volume, so that it outlives the container [env: DATA_DIR] [default: /var/lib/sandbox/tasks]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address and port of the API; empty for none [env: LISTEN_ADDR] [default: 0.0.0.0:5758]
    #[arg(long, value_name = "HOST:PORT")]
    listen_addr: Option<String>,
    /// Unix socket of the API, beside the address [env: UNIX_SOCKET]
    #[arg(long, value_name = "FILE")]
    unix_socket: Option<PathBuf>,
    /// File with the token that every request must carry as `Authorization: Bearer`; read at each request [env: TOKEN_FILE]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Certificate chain in PEM; with it the address speaks TLS [env: TLS_CERT_FILE]
    #[arg(long, value_name = "FILE")]
    tls_cert_file: Option<PathBuf>,
    /// Private key in PEM [env: TLS_KEY_FILE]
    #[arg(long, value_name = "FILE")]
    tls_key_file: Option<PathBuf>,
    /// Run processes in the surroundings of the pod's main container [env: ENABLE_SIDECAR_MODE] [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = units::boolean)]
    enable_sidecar_mode: Option<bool>,
    /// The main container of sidecar mode [env: MAIN_CONTAINER_NAME] [default: main]
    #[arg(long, value_name = "NAME")]
    main_container_name: Option<String>,
    /// Run tasks with `spec.container` through the container runtime [env: ENABLE_CONTAINER_MODE] [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = units::boolean)]
    enable_container_mode: Option<bool>,
    /// Socket of the container runtime [env: CRI_SOCKET] [default: /var/run/containerd/containerd.sock]
    #[arg(long, value_name = "FILE")]
    cri_socket: Option<PathBuf>,
    /// A volume for container tasks that has no name at the runtime, such as a claim, and where this container mounts it;
    /// may be repeated, in the variable with commas [env: VOLUMES]
    #[arg(long, value_name = "NAME=PATH", value_parser = units::volume)]
    volume: Vec<(String, PathBuf)>,
    /// How often is looked for what no event told [env: RECONCILE_INTERVAL] [default: 500ms]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    reconcile_interval: Option<Duration>,
    /// How many tasks run at once, 0 for any number; the others wait [env: MAX_ACTIVE_TASKS] [default: 0]
    #[arg(long, value_name = "N")]
    max_active_tasks: Option<usize>,
    /// How many tasks are kept, 0 for any number; more are refused [env: MAX_TASKS] [default: 10000]
    #[arg(long, value_name = "N")]
    max_tasks: Option<usize>,
    /// How long a task may take to end after TERM, unless it says so itself [env: GRACE_PERIOD] [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    grace_period: Option<Duration>,
    /// How much of each output stream of a task is kept, such as 10Mi; a bare number is in MiB [env: LOG_MAX_SIZE] [default: 10Mi]
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    log_max_size: Option<u64>,
    /// Be a small init even if not PID 1: restart the server when it dies, reap orphans, stop tasks on TERM [env: INIT] [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = units::boolean)]
    init: Option<bool>,
    /// Flags of other executors for logs of their own, which this one writes to standard error.
    #[arg(long, hide = true)]
    log_dir: Option<String>,
    #[arg(long, hide = true)]
    log_max_backups: Option<u32>,
    #[arg(long, hide = true)]
    log_max_age: Option<u32>,
}

/// What `serve` needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where state and logs are.
    pub data_dir: PathBuf,
    /// Where the API listens, if anywhere.
    pub listen_addr: Option<String>,
    /// The socket where it listens.
    pub unix_socket: Option<PathBuf>,
    /// The file with the token.
    pub token_file: Option<PathBuf>,
    /// The files with the certificate chain and the key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The main container, in sidecar mode.
    pub main_container: Option<String>,
    /// The runtime's socket, in container mode.
    pub cri_socket: Option<PathBuf>,
    /// Where volumes are mounted in this container, by names for tasks.
    pub volumes: BTreeMap<String, PathBuf>,
    /// How often is looked for what no event told.
    pub reconcile_interval: Duration,
    /// How many tasks may be under way.
    pub max_active_tasks: usize,
    /// How many tasks are kept.
    pub max_tasks: usize,
    /// The grace of tasks that have none of their own.
    pub grace_period: Duration,
    /// How many bytes of each stream are kept.
    pub log_max_size: u64,
    /// Whether to be an init.
    pub init: bool,
    /// What was said and has no effect.
    pub ignored: Vec<&'static str>,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Asked {
    /// Serve.
    Serve(Box<Options>),
    /// Install into a folder.
    Install(PathBuf),
    /// Print a completion script.
    Completion(Shell),
}

/// Reads the command line, without the program, and the environment. An error may be a request for help.
pub fn read(
    arguments: impl Iterator<Item = OsString>,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Asked, clap::Error> {
    let program = OsString::from("podrun-agent");
    let line = CommandLine::try_parse_from([program].into_iter().chain(arguments.map(two_dashes)))?;
    let flags = match line.command {
        Some(Command::Install { dir }) => return Ok(Asked::Install(dir)),
        Some(Command::Completion { shell }) => return Ok(Asked::Completion(shell)),
        Some(Command::Serve(flags)) => flags,
        None => line.serve,
    };
    let options = flags.with(environment).map_err(|reason| {
        let kind = clap::error::ErrorKind::ValueValidation;
        clap::Error::raw(kind, format!("{reason}\n"))
    })?;
    Ok(Asked::Serve(Box::new(options)))
}

/// `-data-dir=x` is `--data-dir=x`. What has one dash and one letter stays.
fn two_dashes(argument: OsString) -> OsString {
    match argument.to_str().and_then(|text| text.strip_prefix('-')) {
        Some(name) if name.len() > 1 && name.starts_with(|first: char| first.is_ascii_lowercase()) => {
            format!("--{name}").into()
        }
        _ => argument,
    }
}

impl Flags {
    /// Fills in the environment and the defaults. An empty variable counts as none.
    fn with(self, environment: impl Fn(&str) -> Option<String>) -> Result<Options, String> {
        let text = |name: &str| environment(name).filter(|value| !value.is_empty());
        let path = |flag: Option<PathBuf>, name: &str| flag.or_else(|| text(name).map(PathBuf::from));
        let flag = |flag: Option<bool>, name| or_parse(flag, name, text, |value| units::boolean(&value));
        let number = |flag: Option<usize>, name| {
            or_parse(flag, name, text, |value| {
                value.parse().map_err(|_| "it must be a whole number".to_owned())
            })
        };
        let span = |flag: Option<Duration>, name| or_parse(flag, name, text, |value| units::duration(&value));
        let unlimited = |number: usize| if number == 0 { usize::MAX } else { number };
        let sidecar = flag(self.enable_sidecar_mode, "ENABLE_SIDECAR_MODE")?.unwrap_or(false);
        let containers = flag(self.enable_container_mode, "ENABLE_CONTAINER_MODE")?.unwrap_or(false);
        let main_container = self.main_container_name.or_else(|| text("MAIN_CONTAINER_NAME"));
        let cri_socket = path(self.cri_socket, "CRI_SOCKET");
        let volumes = (!self.volume.is_empty()).then_some(self.volume);
        let volumes = or_parse(volumes, "VOLUMES", text, |value| {
            value.split(',').map(units::volume).collect()
        })?;
        let listen_addr = self.listen_addr.or_else(|| text("LISTEN_ADDR"));
        let listen_addr = listen_addr.unwrap_or_else(|| "0.0.0.0:5758".to_owned());
        let unix_socket = path(self.unix_socket, "UNIX_SOCKET");
        if listen_addr.is_empty() && unix_socket.is_none() {
            return Err(
                "--listen-addr is empty and there is no --unix-socket: the agent could not be reached".to_owned(),
            );
        }
        let tls = match (
            path(self.tls_cert_file, "TLS_CERT_FILE"),
            path(self.tls_key_file, "TLS_KEY_FILE"),
        ) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err("--tls-cert-file and --tls-key-file are only of use together".to_owned()),
        };
        let interval = span(self.reconcile_interval, "RECONCILE_INTERVAL")?.unwrap_or(Duration::from_millis(500));
        let ignored = [
            ("--log-dir", self.log_dir.is_some()),
            ("--log-max-backups", self.log_max_backups.is_some()),
            ("--log-max-age", self.log_max_age.is_some()),
        ];
        Ok(Options {
            data_dir: path(self.data_dir, "DATA_DIR").unwrap_or_else(|| "/var/lib/sandbox/tasks".into()),
            listen_addr: Some(listen_addr).filter(|address| !address.is_empty()),
            unix_socket,
            token_file: path(self.token_file, "TOKEN_FILE"),
            tls,
            main_container: sidecar.then(|| main_container.unwrap_or_else(|| "main".to_owned())),
            cri_socket: containers.then(|| cri_socket.unwrap_or_else(|| "/var/run/containerd/containerd.sock".into())),
            volumes: volumes.unwrap_or_default().into_iter().collect(),
            // Nothing is gained by looking more often.
            reconcile_interval: interval.max(Duration::from_millis(10)),
            max_active_tasks: unlimited(number(self.max_active_tasks, "MAX_ACTIVE_TASKS")?.unwrap_or(0)),
            max_tasks: unlimited(number(self.max_tasks, "MAX_TASKS")?.unwrap_or(10_000)),
            grace_period: span(self.grace_period, "GRACE_PERIOD")?.unwrap_or(Duration::from_secs(10)),
            log_max_size: or_parse(self.log_max_size, "LOG_MAX_SIZE", text, |value| units::size(&value))?
                .unwrap_or(10 << 20),
            init: flag(self.init, "INIT")?.unwrap_or(false),
            ignored: ignored
                .into_iter()
                .filter(|(_, said)| *said)
                .map(|(name, _)| name)
                .collect(),
        })
    }
}

fn or_parse<T>(
    flag: Option<T>,
    name: &str,
    environment: impl Fn(&str) -> Option<String>,
    parse: impl FnOnce(String) -> Result<T, String>,
) -> Result<Option<T>, String> {
    match (flag, environment(name)) {
        (Some(said), _) => Ok(Some(said)),
        (None, None) => Ok(None),
        (None, Some(value)) => {
            let reason = |reason| format!("variable {name} is `{value}`: {reason}");
            parse(value.clone()).map(Some).map_err(reason)
        }
    }
}

#[cfg(test)]
mod tests;
