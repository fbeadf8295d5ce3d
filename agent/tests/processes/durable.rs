//! What is answered is on the disk, and not on its way there.

use std::fs;
use std::mem::offset_of;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::libc;
use serde_json::json;

use super::agent::{Agent, Place, program};

/// The program, for which every `fsync` fails.
fn without_fsync() -> Command {
    let instruction = |code: u32, jf: u8, k: u32| libc::sock_filter {
        code: code.try_into().unwrap(),
        jt: 0,
        jf,
        k,
    };
    let number = offset_of!(libc::seccomp_data, nr).try_into().unwrap();
    let fsync = libc::SYS_fsync.try_into().unwrap();
    let filter = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, number),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, fsync),
        instruction(
            libc::BPF_RET | libc::BPF_K,
            0,
            libc::SECCOMP_RET_ERRNO | libc::EIO.unsigned_abs(),
        ),
        instruction(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let mut command = Command::new(program());
    let install = move || {
        let program = libc::sock_fprog {
            len: 4,
            filter: filter.as_ptr().cast_mut(),
        };
        // SAFETY: the kernel copies the filter, which outlives both calls.
        #[expect(unsafe_code, reason = "no library installs a filter")]
        let failed = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
                || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) != 0
        };
        if failed {
            Err(std::io::Error::last_os_error())
        } else {
            Ok(())
        }
    };
    // SAFETY: between fork and execution these are two system calls.
    #[expect(unsafe_code, reason = "a filter is installed by who it is for")]
    unsafe {
        command.pre_exec(install);
    }
    command
}

#[test]
fn nothing_is_answered_that_the_disk_did_not_take() {
    let place = Place::new();
    let agent = Agent::start(&place);
    agent.script("done", "exit 7");
    agent.await_end("done");
    agent.kill();
    let agent = Agent::spawn(&place, without_fsync());
    let ran = place.path().join("ran");
    let task = json!({"name": "t", "process": {"command": ["touch", ran]}});
    let done = json!({"name": "done", "process": {"command": ["sh", "-c", "exit 7"]}});
    let before = agent.get("/getTasks").json();
    for (method, path, body) in [
        ("POST", "/tasks", task.to_string()),
        ("POST", "/setTasks", json!([done, task]).to_string()),
    ] {
        let answer = agent.ask(method, path, &body);
        assert_eq!(answer.status, 500, "{answer:?}");
        assert_eq!(agent.get("/getTasks").json(), before);
    }
    assert_eq!(agent.ask("DELETE", "/tasks/done", "").status, 500);
    agent.kill();
    assert!(!ran.exists(), "what was not accepted is not started");
    let agent = Agent::start(&place);
    assert_eq!(agent.get("/getTasks").json(), json!([]));
    assert!(fs::read_dir(place.data().join("tasks")).unwrap().next().is_none());
}
