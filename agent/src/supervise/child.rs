//! From a supervisor to a task's program: fork, take on the surroundings, execute.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use nix::errno::Errno;
use nix::sys::signal::SigSet;
use nix::unistd::ForkResult;
use rustix::fs::Mode;
use rustix::pipe::PipeFlags;
use rustix::process::Pid;

use super::MARK;
use super::cgroup::Cgroup;
use crate::protocol::Process;
use crate::sidecar::Surroundings;
use crate::store::TaskId;

/// Where programs are looked for if no `PATH` says it.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The exit code of shells for a program that is there and cannot be executed.
const CANNOT_EXECUTE: u8 = 126;
/// The exit code of shells for a program that is not there.
const NOT_FOUND: u8 = 127;

/// What a program is started with.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) id: &'a TaskId,
    pub(super) process: &'a Process,
    pub(super) surroundings: &'a Surroundings,
    pub(super) cgroup: Option<&'a Cgroup>,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// Why a program could not be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) exit_code: u8,
    pub(super) message: String,
}

impl Failure {
    fn new(exit_code: u8, message: String) -> Self {
        Self { exit_code, message }
    }

    /// For `map_err`: a step before the program failed.
    fn at<E: std::fmt::Display>(step: &str) -> impl FnOnce(E) -> Self {
        move |error| Self::new(CANNOT_EXECUTE, format!("failed to {step}: {error}"))
    }
}

/// Starts the program. When this returns its process it has been executed.
pub(super) fn start(plan: Plan<'_>) -> Result<Pid, Failure> {
    let null = File::options().read(true).open("/dev/null");
    let null: OwnedFd = null.map_err(Failure::at("open `/dev/null`"))?.into();
    let (report, reporter) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(Failure::at("make a pipe"))?;
    let supervisor = rustix::process::getpid();
    let forked = make_process(plan.cgroup).map_err(Failure::at("make a process"))?;
    match forked {
        None => {
            drop(report);
            let Err(failure) = execute(&plan, &null, supervisor);
            let mut reporter = File::from(reporter);
            let _ = reporter.write_all(&[failure.exit_code]);
            let _ = reporter.write_all(failure.message.as_bytes());
            drop(reporter);
            std::process::exit(i32::from(failure.exit_code));
        }
        Some(child) => {
            drop(reporter);
            drop(plan);
            let mut text = Vec::new();
            // A process that was executed has closed its end.
            let _ = File::from(report).take(64 << 10).read_to_end(&mut text);
            match text.split_first() {
                None => Ok(child),
                Some((code, message)) => Err(Failure::new(*code, String::from_utf8_lossy(message).into_owned())),
            }
        }
    }
}

/// Forks, if possible right into the task's cgroup: moving a process there later would hold up every fork of the
/// machine for milliseconds. The child is answered nothing.
fn make_process(cgroup: Option<&Cgroup>) -> Result<Option<Pid>, Errno> {
    if let Some(folder) = cgroup.and_then(Cgroup::open_unified)
        && let Ok(forked) = clone_into(&folder)
    {
        return Ok(forked);
    }
    // SAFETY: the supervisor has one thread, so the child's copy of its memory is consistent.
    #[expect(unsafe_code, reason = "a process is made by fork")]
    let forked = unsafe { nix::unistd::fork() }?;
    Ok(match forked {
        ForkResult::Child => None,
        ForkResult::Parent { child } => Pid::from_raw(child.as_raw()),
    })
}

/// Forks into a cgroup of the second version.
fn clone_into(cgroup: &OwnedFd) -> Result<Option<Pid>, Errno> {
    const CLONE_INTO_CGROUP: u64 = 1 << 33;
    let number = |number: i32| u64::from(number.unsigned_abs());
    // The kernel's `clone_args`, all of whose fields are of one size: flags, pidfd, child_tid, parent_tid, exit_signal,
    // stack, stack_size, tls, set_tid, set_tid_size, cgroup.
    let arguments: [u64; 11] = [
        CLONE_INTO_CGROUP,
        0,
        0,
        0,
        number(nix::libc::SIGCHLD),
        0,
        0,
        0,
        0,
        0,
        number(cgroup.as_raw_fd()),
    ];
    // SAFETY: without a stack of its own and without shared memory this is a fork, and the supervisor has one thread.
    #[expect(unsafe_code, reason = "no library forks into a cgroup")]
    let child = unsafe { nix::libc::syscall(nix::libc::SYS_clone3, &raw const arguments, size_of_val(&arguments)) };
    let child = Errno::result(child)?;
    Ok(i32::try_from(child).ok().and_then(Pid::from_raw))
}

/// In the child: everything between fork and the program.
fn execute(plan: &Plan<'_>, null: &OwnedFd, supervisor: Pid) -> Result<Infallible, Failure> {
    rustix::process::setsid().map_err(Failure::at("start a session"))?;
    clear_signals();
    if plan.surroundings.main.is_some() {
        // Programs open `/dev/stdout`, which is this pipe, and not as its owner.
        let mode = Mode::RUSR | Mode::WUSR | Mode::WGRP | Mode::WOTH;
        for pipe in [&plan.stdout, &plan.stderr] {
            rustix::fs::fchmod(pipe, mode).map_err(Failure::at("hand over the output"))?;
        }
    }
    close_the_rest().map_err(Failure::at("see to inherited descriptors"))?;
    rustix::stdio::dup2_stdin(null.as_fd()).map_err(Failure::at("set standard input"))?;
    rustix::stdio::dup2_stdout(plan.stdout.as_fd()).map_err(Failure::at("set standard output"))?;
    rustix::stdio::dup2_stderr(plan.stderr.as_fd()).map_err(Failure::at("set standard error"))?;
    if let Some(main) = &plan.surroundings.main {
        main.join().map_err(Failure::at("enter the main container"))?;
    }
    // A change of user clears this, so it comes after. It ends the program of a supervisor that was killed.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(Failure::at("tie the process to its supervisor"))?;
    if rustix::process::getppid() != Some(supervisor) {
        return Err(Failure::new(CANNOT_EXECUTE, "the supervisor was killed".to_owned()));
    }
    if let Some(folder) = &plan.process.working_dir {
        std::env::set_current_dir(folder).map_err(Failure::at(&format!("change into working directory `{folder}`")))?;
    }
    run_program(plan)
}

/// Descriptors that the agent was started with are no affair of a task's.
fn close_the_rest() -> std::io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let Some(number) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if number > 2 {
            // SAFETY: the descriptor is open, and only a flag of it is set.
            #[expect(unsafe_code, reason = "the descriptor belongs to nobody here")]
            let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
            rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::CLOEXEC)?;
        }
    }
    Ok(())
}

/// Programs expect every signal at its default and none blocked.
fn clear_signals() {
    // Two of the numbers are the C library's own, and it refuses them.
    for signal in 1..=nix::libc::SIGRTMAX() {
        // SAFETY: the default disposition runs no code of this process.
        #[expect(unsafe_code, reason = "dispositions are set by a raw call")]
        let _ = unsafe { nix::libc::signal(signal, nix::libc::SIG_DFL) };
    }
    let _ = SigSet::empty().thread_set_mask();
}

/// Executes the command as it stands. Without a slash it is looked for in the task's own `PATH`.
fn run_program(plan: &Plan<'_>) -> Result<Infallible, Failure> {
    let environment = environment(plan);
    let path = environment.iter().rev().find(|(name, _)| name == "PATH");
    let path = path.map_or(OsStr::new(DEFAULT_PATH), |(_, value)| value.as_os_str());
    let arguments = plan
        .process
        .arguments()
        .map(CString::new)
        .collect::<Result<Vec<_>, _>>();
    let arguments = arguments.map_err(Failure::at("pass the arguments"))?;
    let variables = environment.iter().map(|(name, value)| {
        let mut variable = name.clone();
        variable.push("=");
        variable.push(value);
        CString::new(variable.into_vec())
    });
    let variables = variables
        .collect::<Result<Vec<_>, _>>()
        .map_err(Failure::at("pass the environment"))?;

    let program = plan.process.command.first().map(String::as_str).unwrap_or_default();
    let candidates: Vec<Vec<u8>> = if program.contains('/') {
        vec![program.as_bytes().to_vec()]
    } else {
        let folders = path.as_bytes().split(|byte| *byte == b':');
        folders
            .map(|folder| match folder {
                b"" => program.as_bytes().to_vec(),
                folder => [folder, b"/", program.as_bytes()].concat(),
            })
            .collect()
    };
    let mut refused = None;
    for candidate in candidates {
        let candidate = CString::new(candidate).map_err(Failure::at("pass the program"))?;
        let Err(error) = nix::unistd::execve(&candidate, &arguments, &variables);
        match error {
            Errno::ENOENT | Errno::ENOTDIR | Errno::ENODEV | Errno::ESTALE | Errno::ETIMEDOUT => {}
            Errno::EACCES => refused = Some(error),
            error => return Err(Failure::new(CANNOT_EXECUTE, explain(program, error))),
        }
    }
    match refused {
        Some(error) => Err(Failure::new(CANNOT_EXECUTE, explain(program, error))),
        None if program.contains('/') => Err(Failure::new(NOT_FOUND, explain(program, Errno::ENOENT))),
        None => Err(Failure::new(
            NOT_FOUND,
            format!("program `{program}` was not found in PATH `{}`", path.to_string_lossy()),
        )),
    }
}

fn explain(program: &str, error: Errno) -> String {
    let cure = match error {
        Errno::ENOENT => ": it, or the interpreter that it names, is not there",
        Errno::EACCES => ": it is not executable, or lies in a folder or on a volume where that is not allowed",
        Errno::ENOEXEC => {
            ": it is neither a program for this machine nor a script that names its interpreter with `#!`"
        }
        Errno::E2BIG => ": arguments and environment are too large together, or one of them is over 128 KiB",
        _ => "",
    };
    format!("failed to execute `{program}`: {}{cure}", error.desc())
}

/// The surroundings' variables, the task's own over them, and the mark. Every name is there once.
fn environment(plan: &Plan<'_>) -> Vec<(OsString, OsString)> {
    let own = plan
        .process
        .env
        .iter()
        .map(|variable| (OsString::from(&variable.name), OsString::from(&variable.value)));
    let mark = (OsString::from(MARK), OsString::from(plan.id.as_str()));
    let mut merged: Vec<(OsString, OsString)> = Vec::new();
    let inherited = plan.surroundings.environment.iter().cloned();
    for (name, value) in inherited.chain(own).chain([mark]) {
        match merged.iter_mut().find(|(there, _)| *there == name) {
            Some((_, there)) => *there = value,
            None => merged.push((name, value)),
        }
    }
    merged
}
