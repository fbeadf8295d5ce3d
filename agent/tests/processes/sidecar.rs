//! Tasks in the surroundings of another container. Containers are made of what containers are made of: cgroups side by
//! side, and namespaces.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use super::agent::{Agent, PATIENCE, Place, await_line, await_pid, await_true, children, is_alive, kill, program};

/// What tasks of a container with another user take, and nothing else.
const ENOUGH: &str = "-all,+sys_admin,+sys_chroot,+sys_ptrace,+setpcap,+setuid,+setgid,+kill";

/// The cgroup of a pod, with one below it for each container.
struct Pod<'a> {
    place: &'a Place,
    cgroup: PathBuf,
}

impl<'a> Pod<'a> {
    fn new(place: &'a Place) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let unified = Path::new("/sys/fs/cgroup/unified");
        let root = if unified.exists() {
            unified
        } else {
            Path::new("/sys/fs/cgroup")
        };
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let cgroup = root.join(format!("podrun-pod-{}-{number}", std::process::id()));
        for container in ["agent", "main", "other"] {
            fs::create_dir_all(cgroup.join(container)).unwrap();
        }
        Self { place, cgroup }
    }

    /// A container's first process: a shell does something, then becomes `program`.
    fn container(&self, name: &str, marker: Option<&str>, script: &str, program: &str) -> Container {
        let mut command = Command::new("sh");
        let join = r#"echo $$ > "$CGROUP/cgroup.procs" && exec unshare --mount --uts --ipc --net sh -c "$1""#;
        command.args(["-c", join, "sh", &format!("set -e; {script}; exec {program}")]);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("CGROUP", self.cgroup.join(name))
            .env("FROM_CONTAINER", name)
            .envs(marker.map(|marker| ("SANDBOX_MAIN_CONTAINER", marker)))
            .current_dir(self.place.path())
            .stdin(Stdio::null());
        let container = Container {
            child: command.spawn().unwrap(),
        };
        let last = format!("/proc/{}/comm", container.pid());
        await_true("the container's program", || {
            fs::read_to_string(&last).is_ok_and(|name| name == "sleep\n")
        });
        container
    }

    /// A main container that is marked as such.
    fn main(&self) -> Container {
        self.container("main", Some("main"), "hostname main", "sleep 100000")
    }

    /// An agent in a container of its own.
    fn agent(&self, privileges: &str) -> Agent {
        Agent::spawn(self.place, self.command(privileges))
    }

    fn command(&self, privileges: &str) -> Command {
        let mut command = Command::new("sh");
        let join = r#"echo $$ > "$0/cgroup.procs" && exec "$@""#;
        command.args(["-c", join]).arg(self.cgroup.join("agent"));
        command.args([
            "setpriv",
            "--bounding-set",
            privileges,
            program(),
            "--enable-sidecar-mode",
        ]);
        command
    }

    /// What the agent says when it does not start.
    fn refused(&self, mut command: Command) -> String {
        let output = command
            .arg(format!("--data-dir={}", self.place.data().display()))
            .arg("--listen-addr=127.0.0.1:0")
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{text}");
        text
    }

    /// Kills everything in a container at once, as its runtime does.
    fn kill_container(&self, name: &str) {
        fs::write(self.cgroup.join(name).join("cgroup.kill"), "1").unwrap();
        await_true("the container's end", || self.members(name).is_empty());
    }

    fn members(&self, name: &str) -> Vec<i32> {
        let members = fs::read_to_string(self.cgroup.join(name).join("cgroup.procs")).unwrap();
        members.lines().map(|pid| pid.parse().unwrap()).collect()
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        let _ = fs::write(self.cgroup.join("cgroup.kill"), "1");
        let begun = std::time::Instant::now();
        for name in ["agent", "main", "other", ""] {
            let folder = self.cgroup.join(name);
            while fs::remove_dir(&folder).is_err() && folder.exists() && begun.elapsed() < PATIENCE {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        }
    }
}

struct Container {
    child: Child,
}

impl Container {
    fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    fn namespace(&self, name: &str) -> String {
        let link = fs::read_link(format!("/proc/{}/ns/{name}", self.pid())).unwrap();
        link.display().to_string()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a task printed.
fn output(agent: &Agent, name: &str, process: Value) -> String {
    agent.create(name, process);
    let ended = agent.await_end(name);
    let errors = agent.get(&format!("/tasks/{name}/logs?stream=stderr")).text();
    assert_eq!(ended["reason"], "Succeeded", "{ended} {errors}");
    agent.get(&format!("/tasks/{name}/logs")).text()
}

fn script(text: &str) -> Value {
    json!({"command": ["sh", "-c", text]})
}

#[test]
fn a_task_has_the_main_containers_surroundings() {
    let place = Place::new();
    let pod = Pod::new(&place);
    let inside = place.path().join("inside");
    fs::create_dir(&inside).unwrap();
    let main = pod.container(
        "main",
        Some("main"),
        &format!(
            "hostname from-main; mount -t tmpfs none {0}; mkdir {0}/work; cd {0}/work; echo mine > file",
            inside.display()
        ),
        "setpriv --reuid 1234 --regid 2345 --groups 3456,7 --bounding-set -all,+chown,+kill --no-new-privs sleep 100000",
    );
    let agent = pod.agent(ENOUGH);
    let text = "hostname; id -u; id -g; id -G; pwd; cat file; echo $FROM_CONTAINER $OWN; \
                readlink /proc/self/ns/mnt /proc/self/ns/net /proc/self/ns/uts /proc/self/ns/ipc /proc/self/ns/pid; \
                grep -E 'CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs' /proc/self/status | tr -d '\\n\\t'; \
                echo again > /dev/stdout";
    let said = output(
        &agent,
        "t",
        json!({"command": ["sh", "-c", text], "env": [{"name": "OWN", "value": "v"}]}),
    );
    let namespaces = ["mnt", "net", "uts", "ipc", "pid"]
        .map(|name| main.namespace(name))
        .join("\n");
    let zero = "0".repeat(16);
    // CHOWN is not the agent's to give, so KILL alone is left.
    let kill = "0000000000000020";
    assert_eq!(
        said,
        format!(
            "from-main\n1234\n2345\n2345 7 3456\n{}/work\nmine\nmain v\n{namespaces}\n\
             CapInh:{zero}CapPrm:{zero}CapEff:{zero}CapBnd:{kill}CapAmb:{zero}NoNewPrivs:1again\n",
            inside.display()
        )
    );
    for (name, folder) in [("mnt", "own"), ("net", "own"), ("uts", "own"), ("ipc", "own")] {
        let here = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert!(
            !said.contains(&here.display().to_string()),
            "{name} is the container's {folder}"
        );
    }
    // Another working directory is one of the container's file system.
    let elsewhere = json!({"command": ["cat", "work/file"], "workingDir": inside});
    assert_eq!(output(&agent, "elsewhere", elsewhere), "mine\n");
    let refused = json!({"command": ["true"], "workingDir": inside.join("missing")});
    agent.create("refused", refused);
    assert_eq!(agent.await_end("refused")["reason"], "StartFailed");
}

#[test]
fn a_task_has_no_privilege_that_the_main_container_has_not() {
    let place = Place::new();
    let pod = Pod::new(&place);
    let _main = pod.container(
        "main",
        Some("main"),
        "true",
        "setpriv --bounding-set -all,+chown,+sys_chroot sleep 100000",
    );
    // With the same user, what only concerns other users is not needed.
    let agent = pod.agent("-all,+sys_admin,+sys_chroot,+sys_ptrace,+setpcap,+setuid");
    let said = output(
        &agent,
        "t",
        script("grep -E 'Cap(Prm|Eff|Bnd)' /proc/self/status | tr -d '\\n\\t'; id -u"),
    );
    let chroot = "0000000000040000";
    assert_eq!(said, format!("CapPrm:{chroot}CapEff:{chroot}CapBnd:{chroot}0\n"));
}

#[test]
fn a_task_and_its_supervisor_are_in_the_main_containers_cgroup() {
    let place = Place::new();
    let pod = Pod::new(&place);
    let _main = pod.main();
    let agent = pod.agent(ENOUGH);
    let file = place.path().join("pid");
    agent.script("t", &format!("echo $$ > {}; exec sleep 1000", file.display()));
    let task = await_pid(&file);
    let supervisor = children(agent.pid()).remove(0);
    let members = pod.members("main");
    assert!(members.contains(&task) && members.contains(&supervisor), "{members:?}");
    assert_eq!(pod.members("agent"), [agent.pid()]);
}

#[test]
fn stopping_ends_the_whole_family() {
    let place = Place::new();
    let pod = Pod::new(&place);
    let main = pod.container(
        "main",
        Some("main"),
        "true",
        "setpriv --reuid 1234 --regid 1234 --clear-groups sleep 100000",
    );
    let agent = pod.agent(ENOUGH);
    let text = "trap '' TERM; setsid sh -c 'trap \"\" TERM; env -i sleep 1000 & sleep 1000' & sleep 1000 & echo up; while :; do sleep 0.05; done";
    agent.create(
        "t",
        json!({"command": ["sh", "-c", text], "terminationGracePeriodSeconds": 1}),
    );
    agent.await_running("t");
    await_true("the family", || pod.members("main").len() >= 6);
    agent.delete("t");
    agent.await_gone("t");
    assert_eq!(
        pod.members("main"),
        [main.pid()],
        "nothing but the container itself is left"
    );
}

#[test]
fn nothing_is_left_of_a_task_whose_supervisor_is_killed() {
    let place = Place::new();
    let pod = Pod::new(&place);
    let main = pod.container(
        "main",
        Some("main"),
        "true",
        "setpriv --reuid 1234 --regid 1234 --clear-groups sleep 100000",
    );
    let agent = pod.agent(ENOUGH);
    agent.script("t", "setsid sleep 1000 & exec sleep 1000");
    agent.await_running("t");
    await_true("the family", || pod.members("main").len() == 4);
    kill(children(agent.pid()).remove(0), "KILL");
    assert_eq!(agent.await_end("t")["reason"], "Lost");
    await_true("its end", || pod.members("main") == [main.pid()]);
}

#[test]
fn tasks_go_on_when_the_agent_or_its_container_dies() {
    let place = Place::new();
    let pod = Pod::new(&place);
    let main = pod.main();
    let agent = pod.agent(ENOUGH);
    let gate = place.path().join("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
    agent.script(
        "t",
        &format!("echo begin; read line < {}; echo end; exit 5", gate.display()),
    );
    agent.await_running("t");
    let before = agent.get("/tasks/t").json();
    kill(agent.pid(), "KILL");
    pod.kill_container("agent");
    drop(agent);
    let agent = pod.agent(ENOUGH);
    assert_eq!(agent.get("/tasks/t").json(), before, "it runs as before");
    pod.kill_container("agent");
    drop(agent);
    fs::write(&gate, "go\n").unwrap();
    let folder = place.tasks().remove(0);
    await_true("the end on the disk", || folder.join("ended").exists());
    let agent = pod.agent(ENOUGH);
    let ended = agent.await_end("t");
    assert_eq!((&ended["exitCode"], &ended["reason"]), (&json!(5), &json!("Failed")));
    assert_eq!(agent.get("/tasks/t/logs").text(), "begin\nend\n");
    // What dies with the main container is lost.
    agent.script("lost", "exec sleep 1000");
    agent.await_running("lost");
    drop(main);
    pod.kill_container("main");
    assert_eq!(agent.await_end("lost")["reason"], "Lost");
}

#[test]
fn a_task_waits_for_the_main_container_and_can_be_deleted_meanwhile() {
    let place = Place::new();
    let pod = Pod::new(&place);
    let agent = pod.agent(ENOUGH);
    agent.script("early", "hostname");
    agent.script("unwanted", "exit 0");
    await_true("two supervisors", || children(agent.pid()).len() == 2);
    agent.delete("unwanted");
    agent.await_gone("unwanted");
    let _main = pod.main();
    assert_eq!(agent.await_end("early")["reason"], "Succeeded");
    assert_eq!(agent.get("/tasks/early/logs").text(), "main\n");
}

#[test]
fn what_answers_twice_is_refused() {
    let place = Place::new();
    let pod = Pod::new(&place);
    let _main = pod.main();
    // It wants tasks that are meant for another.
    let other = pod.container("other", Some("main"), "true", "sleep 100000");
    let agent = pod.agent(ENOUGH);
    agent.script("t", "exit 0");
    let ended = agent.await_end("t");
    assert_eq!(ended["reason"], "StartFailed");
    assert!(
        ended["message"]
            .as_str()
            .unwrap()
            .starts_with("2 containers answer to `main`"),
        "{ended}"
    );
    drop(other);
    pod.kill_container("other");
    agent.script("u", "exit 0");
    assert_eq!(agent.await_end("u")["reason"], "Succeeded");
}

#[test]
fn a_neighbour_that_hides_is_no_hindrance() {
    let place = Place::new();
    let pod = Pod::new(&place);
    let _main = pod.main();
    // Who may execute a program and not read it is hidden from its own user by the kernel.
    let hidden = place.path().join("sleep");
    fs::copy("/bin/sleep", &hidden).unwrap();
    fs::set_permissions(&hidden, std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let other = format!(
        "setpriv --reuid 1234 --regid 1234 --clear-groups sh -c 'exec {} 100000'",
        hidden.display()
    );
    let other = pod.container("other", Some("other"), "true", &other);
    let owner = |what: &str| {
        let metadata = fs::metadata(format!("/proc/{}/{what}", other.pid())).unwrap();
        std::os::unix::fs::MetadataExt::uid(&metadata)
    };
    assert_eq!((owner(""), owner("environ")), (1234, 0));
    let agent = pod.agent(ENOUGH);
    assert_eq!(output(&agent, "t", json!({"command": ["hostname"]})), "main\n");
}

/// A file that stands for the one which the kubelet mounts into a container for its last words.
fn named(place: &Place, container: &str) -> String {
    let source = place.path().join("pods/uid/containers").join(container).join("1");
    let target = place.path().join("last-words");
    fs::create_dir_all(source.parent().unwrap()).unwrap();
    fs::write(&source, "").unwrap();
    fs::write(&target, "").unwrap();
    format!("mount --bind {} {}", source.display(), target.display())
}

#[test]
fn the_main_container_is_found_by_its_name() {
    let place = Place::new();
    let pod = Pod::new(&place);
    let _main = pod.container(
        "main",
        None,
        &format!("hostname by-name; {}", named(&place, "main")),
        "sleep 100000",
    );
    let _other = pod.container("other", None, &named(&place, "other"), "sleep 100000");
    let mut command = Command::new("unshare");
    let join = format!(
        "{} && echo $$ > \"$0/cgroup.procs\" && exec \"$@\"",
        named(&place, "agent")
    );
    command
        .args(["--mount", "sh", "-c", &join])
        .arg(pod.cgroup.join("agent"));
    command.args([program(), "--enable-sidecar-mode"]);
    let agent = Agent::spawn(&place, command);
    assert_eq!(output(&agent, "t", json!({"command": ["hostname"]})), "by-name\n");
}

#[test]
fn containers_that_are_set_apart_are_refused() {
    for (flags, article) in [("--user", "a user"), ("--pid --fork --kill-child", "a PID")] {
        let place = Place::new();
        let pod = Pod::new(&place);
        let ready = place.path().join("ready");
        let join = format!(
            "echo 0 > {}/cgroup.procs; echo up > {}; exec sleep 1000",
            pod.cgroup.join("main").display(),
            ready.display()
        );
        let mut command = Command::new("unshare");
        command
            .args(flags.split(' '))
            .args(["sh", "-c", &join])
            .env("SANDBOX_MAIN_CONTAINER", "main");
        let _main = Container {
            child: command.spawn().unwrap(),
        };
        await_line(&ready);
        let agent = pod.agent(ENOUGH);
        agent.script("t", "exit 0");
        let ended = agent.await_end("t");
        let message = ended["message"].as_str().unwrap();
        assert!(
            message.contains(&format!("has {article} namespace of its own")),
            "{flags}: {ended}"
        );
    }
}

#[test]
fn missing_privileges_are_named_before_anything_runs() {
    let place = Place::new();
    let pod = Pod::new(&place);
    for (missing, name) in [
        ("-sys_admin", "SYS_ADMIN"),
        ("-sys_chroot", "SYS_CHROOT"),
        ("-sys_ptrace", "SYS_PTRACE"),
        ("-setpcap", "SETPCAP"),
        ("-setuid", "SETUID"),
    ] {
        let text = pod.refused(pod.command(missing));
        assert!(
            text.contains(&format!("lacks {name}: run the agent's container as user 0")),
            "{text}"
        );
    }
    let _main = pod.container(
        "main",
        Some("main"),
        "true",
        "setpriv --reuid 1234 --regid 1234 --clear-groups sleep 100000",
    );
    let agent = pod.agent("-all,+sys_admin,+sys_chroot,+sys_ptrace,+setpcap,+setuid");
    agent.script("t", "exit 0");
    let ended = agent.await_end("t");
    assert!(
        ended["message"].as_str().unwrap().contains("lacks SETGID, KILL:"),
        "{ended}"
    );
}

#[test]
fn an_agent_that_sees_nobody_else_does_not_start() {
    let place = Place::new();
    let pod = Pod::new(&place);
    let mut command = Command::new("unshare");
    command.args([
        "--pid",
        "--fork",
        "--kill-child=KILL",
        "--mount-proc",
        program(),
        "--enable-sidecar-mode",
    ]);
    let text = pod.refused(command);
    assert!(text.contains("shareProcessNamespace: true"), "{text}");
}

/// The main container's root may signal what has its user; it may not look into it.
#[test]
fn a_supervisor_gives_nothing_away() {
    let place = Place::new();
    let pod = Pod::new(&place);
    let _main = pod.container(
        "main",
        Some("main"),
        "true",
        "setpriv --bounding-set -all,+kill,+dac_override sleep 100000",
    );
    let agent = pod.agent(ENOUGH);
    let file = place.path().join("pid");
    agent.script("t", &format!("echo $$ > {}; exec sleep 1000", file.display()));
    let task = await_pid(&file);
    let supervisor = children(agent.pid()).remove(0);
    let look = |pid: i32, what: &str| script(&format!("ls -l /proc/{pid}/{what}"));
    for (number, what) in ["fd/", "root/", "cwd/", "environ"].into_iter().enumerate() {
        let name = format!("look-{number}");
        let process = if what == "environ" {
            json!({"command": ["cat", format!("/proc/{supervisor}/environ")]})
        } else {
            look(supervisor, what)
        };
        agent.create(&name, process);
        assert_eq!(agent.await_end(&name)["reason"], "Failed", "{what} of the supervisor");
    }
    // Descriptors of the supervisor are no affair of the task's.
    let listed = output(&agent, "own", look(task, "fd/"));
    assert!(!listed.contains(&place.data().display().to_string()), "{listed}");
    assert!(is_alive(task));
}
