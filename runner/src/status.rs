//! From a pod to what it means: phase, waiting reason, outcome. Pure. Truth is the container named `main` and the pod's own
//! reason; markers in volumes and the pod's phase `Succeeded` (which trails by a second) are never consulted.

use crate::{
    contract::{Outcome, Phase, Status},
    pod::{INIT, MAIN, SIDECAR, STOPPED, Stored, TIMED_OUT},
};
use k8s_openapi::{
    api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

/// What a container is doing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum State {
    /// Not started; with the kubelet's reason and words, if it gives any.
    Waiting { reason: String, message: String },
    /// Running since (milliseconds since the epoch).
    Running(Option<u64>),
    /// Ended.
    Ended(ContainerStateTerminated),
}

/// Whether waiting longer can help.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Waiting {
    /// It may: say why, and be patient.
    Patience(String),
    /// It cannot: the reason of the outcome, and the message.
    Hopeless(&'static str, String),
}

/// How long after the time at which a pod should have been gone, in milliseconds, its node counts as lost.
const FORSAKEN: u64 = 120_000;

fn status(pod: &Pod) -> Option<&PodStatus> {
    pod.status.as_ref()
}

fn container<'p>(pod: &'p Pod, name: &str) -> Option<&'p ContainerStatus> {
    let status = status(pod)?;
    let all = status
        .init_container_statuses
        .iter()
        .chain(&status.container_statuses)
        .flatten();
    all.into_iter().find(|c| c.name == name)
}

/// The author's own init containers, in the order in which they run: name, and whether it runs beside the script.
pub(crate) fn init_containers(pod: &Pod) -> impl Iterator<Item = (&str, bool)> {
    let all = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref());
    all.unwrap_or_default()
        .iter()
        .filter(|container| container.name != INIT)
        .map(|container| (container.name.as_str(), container.restart_policy.is_some()))
}

/// The state of one container; waiting without a reason if the kubelet has not reported it yet.
pub(crate) fn state(pod: &Pod, name: &str) -> State {
    let nothing = State::Waiting {
        reason: String::new(),
        message: String::new(),
    };
    let Some(state) = container(pod, name).and_then(|c| c.state.as_ref()) else {
        return nothing;
    };
    if let Some(ended) = &state.terminated {
        State::Ended(ended.clone())
    } else if let Some(running) = &state.running {
        State::Running(running.started_at.as_ref().map(millis))
    } else if let Some(waiting) = &state.waiting {
        State::Waiting {
            reason: waiting.reason.clone().unwrap_or_default(),
            message: waiting.message.clone().unwrap_or_default(),
        }
    } else {
        nothing
    }
}

pub(crate) fn millis(time: &Time) -> u64 {
    u64::try_from(time.0.as_millisecond()).unwrap_or(0)
}

/// Whether the pod is on its way out.
pub(crate) fn deleting(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Whether the pod should have been gone for so long that whoever runs it is: its node does not answer any more.
pub(crate) fn forsaken(pod: &Pod, now: u64) -> bool {
    let due = pod.metadata.deletion_timestamp.as_ref().map(millis);
    due.is_some_and(|due| now > due + FORSAKEN)
}

/// Whether nothing in the pod will run any more.
pub(crate) fn over(pod: &Pod) -> bool {
    matches!(
        status(pod).and_then(|s| s.phase.as_deref()),
        Some("Failed" | "Succeeded")
    )
}

/// The phase of a task whose pod exists; none once main ended or never can start.
pub(crate) fn phase(pod: &Pod, stored: &Stored) -> Option<Phase> {
    match state(pod, MAIN) {
        State::Ended(_) => None,
        _ if over(pod) => None,
        _ if deleting(pod) => Some(Phase::Terminating),
        State::Running(_) => Some(Phase::Running),
        State::Waiting { .. } => match state(pod, INIT) {
            State::Running(_) if stored.staged => Some(Phase::Staging),
            _ => Some(Phase::Pending),
        },
    }
}

/// Whether the last pull of main's image failed, and the next one has not been put off yet.
pub(crate) fn pull_failed(pod: &Pod) -> bool {
    matches!(state(pod, MAIN), State::Waiting { reason, .. } if reason == "ErrImagePull")
}

/// Why main does not run yet, if the cluster says why.
pub(crate) fn waiting(pod: &Pod) -> Option<Waiting> {
    let theirs: Vec<&str> = init_containers(pod).map(|(name, _)| name).collect();
    for name in [INIT].into_iter().chain(theirs).chain([MAIN, SIDECAR]) {
        let State::Waiting { reason, message } = state(pod, name) else {
            continue;
        };
        let image = container(pod, name).map(|c| c.image.clone()).unwrap_or_default();
        let field = match name {
            MAIN => "containerImage",
            INIT | SIDECAR => "fileSidecar.image",
            _ => "podSpec.initContainers",
        };
        let said = if message.is_empty() {
            reason.clone()
        } else {
            format!("{reason}: {message}")
        };
        match reason.as_str() {
            "" | "ContainerCreating" | "PodInitializing" => {}
            "InvalidImageName" => {
                return Some(Waiting::Hopeless(
                    "image",
                    format!("`{image}` is not an image name ({said}): correct `{field}`"),
                ));
            }
            "ErrImageNeverPull" => {
                return Some(Waiting::Hopeless(
                    "image",
                    format!(
                        "the node does not have image `{image}` and `pullPolicy` is NEVER: use ALWAYS or IF_NOT_PRESENT"
                    ),
                ));
            }
            "ErrImagePull" | "ImagePullBackOff" if gone(&message) => {
                return Some(Waiting::Hopeless(
                    "image",
                    format!(
                        "image `{image}` does not exist or may not be pulled: check `{field}` and its registry ({said})"
                    ),
                ));
            }
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
                return Some(Waiting::Hopeless(
                    "configuration",
                    format!("container `{name}` cannot be created: {said}"),
                ));
            }
            _ => return Some(Waiting::Patience(format!("container `{name}`: {said}"))),
        }
    }
    let scheduled = status(pod)?
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
    Some(Waiting::Patience(format!(
        "{}: {}",
        scheduled.reason.as_deref().unwrap_or("not scheduled"),
        scheduled.message.as_deref().unwrap_or("the cluster gives no reason")
    )))
}

/// Whether the container's program could not be started at all.
pub(crate) fn never_started(end: &ContainerStateTerminated) -> bool {
    matches!(end.reason.as_deref(), Some("StartError" | "ContainerCannotRun"))
}

/// What to tell of a container for files that could not be started.
pub(crate) fn no_shell(said: &str) -> String {
    format!(
        "the containers that move files could not be started: set `fileSidecar.image` to an image with a shell, for example busybox ({})",
        said.trim()
    )
}

/// Whether a registry's words mean that it will not have the image in a minute either.
fn gone(message: &str) -> bool {
    let message = message.to_lowercase();
    [
        "not found",
        "manifest unknown",
        "name unknown",
        "repository does not exist",
        "unauthorized",
        "denied",
    ]
    .iter()
    .any(|w| message.contains(w))
}

/// How a task ended, before its files are known.
pub(crate) struct End<'a> {
    pub(crate) status: Status,
    pub(crate) reason: Option<&'a str>,
    pub(crate) retryable: bool,
    pub(crate) message: String,
}

/// The outcome of a pod whose main ended, or that will never run it; none while that is open.
pub(crate) fn outcome(pod: &Pod, stored: &Stored) -> Option<Outcome> {
    let main = match state(pod, MAIN) {
        State::Ended(main) => Some(main),
        _ if over(pod) => None,
        _ => match state(pod, INIT) {
            State::Ended(init) if init.exit_code != 0 => {
                return Some(build(pod, None, staging_failed(pod, &init)));
            }
            _ => return None,
        },
    };
    let end = match (&main, disrupted(pod)) {
        // The script's own, complete end stands, whatever happened to the pod afterwards.
        (Some(main), Some(_)) if main.exit_code == 0 => ended(main, stored),
        (_, Some(end)) => end,
        (Some(main), None) if killed_by_deletion(pod, main) => End {
            status: Status::Failed,
            reason: Some("deleted"),
            retryable: true,
            message: "the pod was deleted by somebody else while the script ran".into(),
        },
        (Some(main), None) => ended(main, stored),
        (None, None) => match (state(pod, INIT), init_failed(pod)) {
            (State::Ended(init), _) if init.exit_code != 0 => staging_failed(pod, &init),
            (_, Some(end)) => end,
            _ => End {
                status: Status::Failed,
                reason: Some("configuration"),
                retryable: true,
                message: format!("the pod failed before the script started: {}", words(pod)),
            },
        },
    };
    Some(build(pod, main.as_ref(), end))
}

/// The outcome of a task that the runner itself gave up or stopped.
pub(crate) fn build(pod: &Pod, main: Option<&ContainerStateTerminated>, end: End<'_>) -> Outcome {
    // A program that could not be started has no code of its own, whatever the kubelet reports.
    let main = main.filter(|main| !never_started(main));
    Outcome {
        status: end.status,
        reason: end.reason.map(str::to_owned),
        retryable: end.retryable,
        exit_code: main.map(|m| m.exit_code),
        message: end.message,
        files: Vec::new(),
        started: main.and_then(|m| m.started_at.as_ref()).map(millis).filter(|t| *t > 0),
        finished: main.and_then(|m| m.finished_at.as_ref()).map(millis).filter(|t| *t > 0),
        details: details(pod),
    }
}

fn ended(main: &ContainerStateTerminated, stored: &Stored) -> End<'static> {
    let code = main.exit_code;
    let failed = |reason, retryable, message| End {
        status: Status::Failed,
        reason: Some(reason),
        retryable,
        message,
    };
    if stored
        .timeout
        .is_some_and(|timeout| says(main, TIMED_OUT) && ran(main) + 1 >= i64::from(timeout))
    {
        return End {
            status: Status::TimedOut,
            reason: Some("deadline"),
            retryable: false,
            message: format!("the script was stopped after {}", stored.limit()),
        };
    }
    if main.reason.as_deref() == Some("OOMKilled") {
        return failed(
            "out-of-memory",
            false,
            "the script used more memory than its limit: raise `resources.limit.memory`".into(),
        );
    }
    match code {
        0 => End {
            status: Status::Succeeded,
            reason: None,
            retryable: false,
            message: "the script succeeded".into(),
        },
        _ if never_started(main) => failed(
            "configuration",
            false,
            format!(
                "the program could not be started: {}",
                main.message.as_deref().unwrap_or("no reason given").trim()
            ),
        ),
        127 => failed(
            "exit-code",
            false,
            "the script ended with exit code 127: a command was not found in the image".into(),
        ),
        129..=192 => failed(
            "signal",
            false,
            format!("the script was ended by signal {} (exit code {code})", code - 128),
        ),
        _ => failed("exit-code", false, format!("the script ended with exit code {code}")),
    }
}

/// Whether the runner was stopping the script when it ended. A script may say so itself: it matters only to a host that
/// wants it stopped.
pub(crate) fn was_stopped(main: &ContainerStateTerminated) -> bool {
    says(main, STOPPED)
}

/// Whether a line of main's termination message is this mark.
fn says(main: &ContainerStateTerminated, mark: &str) -> bool {
    main.message
        .as_deref()
        .is_some_and(|message| message.lines().any(|line| line == mark))
}

/// Whether main ended, without success, after somebody asked for the pod's deletion.
fn killed_by_deletion(pod: &Pod, main: &ContainerStateTerminated) -> bool {
    let Some(deadline) = &pod.metadata.deletion_timestamp else {
        return false;
    };
    let asked = deadline.0.as_second() - pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
    main.exit_code != 0 && main.finished_at.as_ref().is_none_or(|t| t.0.as_second() >= asked)
}

fn ran(main: &ContainerStateTerminated) -> i64 {
    match (&main.started_at, &main.finished_at) {
        (Some(from), Some(to)) => to.0.as_second() - from.0.as_second(),
        _ => 0,
    }
}

/// What `wait.sh` ends with when it gives up.
const ABANDONED: i32 = 75;

fn staging_failed(pod: &Pod, init: &ContainerStateTerminated) -> End<'static> {
    let said = init.message.as_deref().map(str::trim).filter(|m| !m.is_empty());
    if let Some(end) = disrupted(pod) {
        return end;
    }
    let said = said.unwrap_or("it said nothing");
    let said = format!("init container ended with exit code {}: {said}", init.exit_code);
    let (reason, message) = if never_started(init) {
        ("configuration", no_shell(&said))
    } else if init.exit_code == ABANDONED {
        (
            "deadline",
            "no host brought the input files within `keepOutputs`".to_owned(),
        )
    } else if init.reason.as_deref() == Some("OOMKilled") {
        let advice = "the input files are larger than the volume allows: raise `volume.sizeLimit` or set `volume.medium` to DISK";
        ("out-of-memory", format!("{advice} ({said})"))
    } else {
        (
            "configuration",
            format!("the input files could not be unpacked ({said})"),
        )
    };
    End {
        status: Status::Failed,
        reason: Some(reason),
        retryable: false,
        message,
    }
}

/// The end of a pod of which an init container of the author's failed.
fn init_failed(pod: &Pod) -> Option<End<'static>> {
    let (name, init) = init_containers(pod).find_map(|(name, _)| match state(pod, name) {
        State::Ended(init) if init.exit_code != 0 => Some((name.to_owned(), init)),
        _ => None,
    })?;
    let said = init.message.as_deref().map(str::trim).filter(|said| !said.is_empty());
    let said = said.map_or_else(|| "`initLogs: true` shows its log".to_owned(), str::to_owned);
    Some(End {
        status: Status::Failed,
        reason: Some("init-container"),
        retryable: false,
        message: format!(
            "init container `{name}` of `podSpec` ended with exit code {}, so the script did not start ({said})",
            init.exit_code
        ),
    })
}

/// What ended the pod from outside, if the cluster says so.
fn disrupted(pod: &Pod) -> Option<End<'static>> {
    let status = status(pod)?;
    let disruption = status
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == "DisruptionTarget" && c.status == "True");
    let reason = status.reason.as_deref().unwrap_or_default();
    let target = disruption.and_then(|c| c.reason.as_deref()).unwrap_or_default();
    let (reason, advice) = match (reason, target) {
        ("DeadlineExceeded", _) => ("deadline", "the pod reached its last deadline"),
        ("Preempting", _) | (_, "PreemptionByScheduler" | "PreemptionByKubeScheduler") => {
            ("preempted", "a pod of higher priority took the place")
        }
        ("NodeLost", _) | (_, "DeletionByTaintManager" | "DeletionByPodGC") => ("node-lost", "the node was lost"),
        ("NodeShutdown" | "Terminated" | "Shutdown", _) => ("node-lost", "the node was shut down"),
        ("Evicted", _) | (_, "EvictionByEvictionAPI" | "TerminationByKubelet") => (
            "evicted",
            "the pod was evicted: ask for what the script needs in `resources.request`",
        ),
        ("OutOfcpu" | "OutOfmemory" | "OutOfpods" | "UnexpectedAdmissionError" | "NodeAffinity", _) => {
            ("unschedulable", "the node did not admit the pod")
        }
        _ => return None,
    };
    Some(End {
        status: Status::Failed,
        reason: Some(reason),
        retryable: reason != "deadline",
        message: format!("{advice} ({})", words(pod)),
    })
}

/// The cluster's own words about the pod.
fn words(pod: &Pod) -> String {
    let status = status(pod);
    let disruption = status.and_then(|s| s.conditions.iter().flatten().find(|c| c.type_ == "DisruptionTarget"));
    let reason = status
        .and_then(|s| s.reason.as_deref())
        .or_else(|| disruption.and_then(|c| c.reason.as_deref()));
    let message = status
        .and_then(|s| s.message.as_deref())
        .or_else(|| disruption.and_then(|c| c.message.as_deref()));
    [reason, message]
        .into_iter()
        .flatten()
        .map(str::trim)
        .collect::<Vec<_>>()
        .join(": ")
}

/// The outcome of a pod that disappeared before main's end was seen.
pub(crate) fn deleted(pod: &Pod) -> Outcome {
    let end = disrupted(pod).unwrap_or_else(|| End {
        status: Status::Lost,
        reason: Some("deleted"),
        retryable: true,
        message: "the pod was deleted by somebody else before the script's end was known".into(),
    });
    build(pod, None, end)
}

/// Where and when the task ran.
pub(crate) fn details(pod: &Pod) -> Vec<(String, String)> {
    let mut details = Vec::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|v| !v.is_empty()) {
            details.push((name.to_owned(), value));
        }
    };
    add("namespace", pod.metadata.namespace.clone());
    add("pod", pod.metadata.name.clone());
    add("uid", pod.metadata.uid.clone());
    add("node", pod.spec.as_ref().and_then(|s| s.node_name.clone()));
    add("image-id", container(pod, MAIN).map(|c| c.image_id.clone()));
    let time = |t: &Time| millis(t).to_string();
    add("created", pod.metadata.creation_timestamp.as_ref().map(time));
    let scheduled = status(pod).and_then(|s| {
        s.conditions
            .iter()
            .flatten()
            .find(|c| c.type_ == "PodScheduled" && c.status == "True")
    });
    add(
        "scheduled",
        scheduled.and_then(|c| c.last_transition_time.as_ref()).map(time),
    );
    if let State::Ended(init) = state(pod, INIT) {
        add("staged", init.finished_at.as_ref().map(time));
    }
    details
}

/// Whether main outlived its timeout by more than its wrapper needs to stop it.
pub(crate) fn overdue(pod: &Pod, stored: &Stored, now: u64) -> bool {
    let (State::Running(Some(started)), Some(timeout)) = (state(pod, MAIN), stored.timeout) else {
        return false;
    };
    // A wrapped script stops itself; a bare program relies on the host.
    let slack = if stored.shell.is_some() {
        u64::from(stored.grace) + 5
    } else {
        1
    };
    now > started + (u64::from(timeout) + slack) * 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn stored() -> Stored {
        Stored {
            required: vec![],
            outputs: vec![],
            output_dir: true,
            timeout: Some(10),
            wait_until_running: 600,
            delete: crate::options::Delete::Always,
            staged: true,
            shell: Some("sh".into()),
            labels: vec![],
            until_completion: false,
            grace: 30,
            wait_for_logs: 30,
            sync: false,
            init_logs: false,
        }
    }

    fn pod(status: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "status": status}))
            .unwrap()
    }

    fn main_ended(terminated: Value) -> Value {
        json!([{"name": "main", "ready": false, "restartCount": 0, "image": "i", "imageID": "d", "state": {"terminated": terminated}},
               {"name": "out-files", "ready": true, "restartCount": 0, "image": "b", "imageID": "b", "state": {"running": {}}}])
    }

    /// Main's termination, to status, reason, exit code.
    fn check(terminated: Value, expected: (Status, Option<&str>, Option<i32>)) {
        let pod = pod(json!({"phase": "Running", "containerStatuses": main_ended(terminated)}));
        let outcome = outcome(&pod, &stored()).unwrap();
        assert_eq!(
            (outcome.status, outcome.reason.as_deref(), outcome.exit_code),
            expected,
            "{}",
            outcome.message
        );
        assert_eq!(phase(&pod, &stored()), None);
    }

    #[test]
    fn the_end_of_main_is_the_end_of_the_task() {
        let at = |from: u32, to: u32| json!({"startedAt": format!("2026-01-01T00:00:{from:02}Z"), "finishedAt": format!("2026-01-01T00:00:{to:02}Z")});
        let with = |mut times: Value, more: Value| {
            let more = more.as_object().unwrap().clone();
            times.as_object_mut().unwrap().extend(more);
            times.as_object_mut().unwrap().insert("containerID".into(), "c".into());
            times
        };
        check(
            with(at(0, 1), json!({"exitCode": 0, "reason": "Completed"})),
            (Status::Succeeded, None, Some(0)),
        );
        check(
            with(at(0, 1), json!({"exitCode": 3, "reason": "Error"})),
            (Status::Failed, Some("exit-code"), Some(3)),
        );
        check(
            with(at(0, 1), json!({"exitCode": 137, "reason": "Error"})),
            (Status::Failed, Some("signal"), Some(137)),
        );
        check(
            with(at(0, 1), json!({"exitCode": 137, "reason": "OOMKilled"})),
            (Status::Failed, Some("out-of-memory"), Some(137)),
        );
        check(
            with(at(0, 10), json!({"exitCode": 143, "message": "podrun:timed-out\n"})),
            (Status::TimedOut, Some("deadline"), Some(143)),
        );
        check(
            with(
                at(0, 10),
                json!({"exitCode": 143, "message": "podrun:timed-out\npodrun:stopped\n"}),
            ),
            (Status::TimedOut, Some("deadline"), Some(143)),
        );
        // A script cannot pretend that its time was up, nor that somebody wanted it stopped.
        check(
            with(at(0, 5), json!({"exitCode": 1, "message": "podrun:stopped\n"})),
            (Status::Failed, Some("exit-code"), Some(1)),
        );
        check(
            with(at(0, 5), json!({"exitCode": 1, "message": "podrun:timed-out\n"})),
            (Status::Failed, Some("exit-code"), Some(1)),
        );
        check(
            json!({"exitCode": 128, "reason": "StartError", "message": "exec: \"nope\": not found"}),
            (Status::Failed, Some("configuration"), None),
        );
    }

    #[test]
    fn a_script_that_was_deleted_with_its_pod_did_not_fail_by_itself() {
        let ended = |finished: &str| {
            let mut pod = pod(
                json!({"phase": "Running", "containerStatuses": main_ended(json!({"exitCode": 143, "finishedAt": finished}))}),
            );
            pod.metadata.deletion_timestamp = Some(Time("2026-01-01T00:01:30Z".parse().unwrap()));
            pod.metadata.deletion_grace_period_seconds = Some(30);
            outcome(&pod, &stored()).unwrap()
        };
        let deleted = ended("2026-01-01T00:01:05Z");
        assert_eq!(
            (deleted.reason.as_deref(), deleted.retryable, deleted.exit_code),
            (Some("deleted"), true, Some(143))
        );
        assert_eq!(ended("2026-01-01T00:00:59Z").reason.as_deref(), Some("signal"));
    }

    #[test]
    fn what_ended_the_pod_from_outside_is_named_and_worth_a_retry() {
        for (status, reason) in [
            (
                json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}),
                "evicted",
            ),
            (json!({"phase": "Failed", "reason": "Preempting"}), "preempted"),
            (
                json!({"phase": "Failed", "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}]}),
                "node-lost",
            ),
            (json!({"phase": "Failed", "reason": "OutOfcpu"}), "unschedulable"),
        ] {
            let outcome = outcome(&pod(status), &stored()).unwrap();
            assert_eq!(
                (outcome.status, outcome.reason.as_deref(), outcome.retryable),
                (Status::Failed, Some(reason), true)
            );
        }
        // The kubelet reports DeadlineExceeded for a pod whose script had long succeeded.
        let late = pod(
            json!({"phase": "Failed", "reason": "DeadlineExceeded", "containerStatuses": main_ended(json!({"exitCode": 0, "containerID": "c"}))}),
        );
        assert_eq!(outcome(&late, &stored()).unwrap().status, Status::Succeeded);
    }

    #[test]
    fn a_pod_that_nobody_removes_is_forsaken_in_the_end() {
        let mut pod = pod(json!({"phase": "Running"}));
        assert!(!forsaken(&pod, u64::MAX));
        pod.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::from_second(1_000).unwrap()));
        assert!(!forsaken(&pod, 1_000_000 + FORSAKEN));
        assert!(forsaken(&pod, 1_000_001 + FORSAKEN));
        let taint = json!([{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}]);
        pod.status.as_mut().unwrap().conditions = serde_json::from_value(taint).unwrap();
        assert_eq!(deleted(&pod).reason.as_deref(), Some("node-lost"));
    }

    #[test]
    fn waiting_is_patient_unless_it_is_hopeless() {
        let waiting_for = |reason: &str, message: &str| {
            waiting(&pod(
                json!({"phase": "Pending", "containerStatuses": [{"name": "main", "ready": false, "restartCount": 0, "image": "img", "imageID": "",
                "state": {"waiting": {"reason": reason, "message": message}}}]}),
            ))
        };
        assert_eq!(waiting_for("ContainerCreating", ""), None);
        assert!(
            matches!(waiting_for("ErrImagePull", "dial tcp: connection refused"), Some(Waiting::Patience(m)) if m.contains("refused"))
        );
        assert!(
            matches!(waiting_for("ErrImagePull", "manifest unknown"), Some(Waiting::Hopeless("image", m)) if m.contains("`img`"))
        );
        assert!(matches!(
            waiting_for("InvalidImageName", "x"),
            Some(Waiting::Hopeless("image", _))
        ));
        assert!(matches!(
            waiting_for("CreateContainerConfigError", "configmap"),
            Some(Waiting::Hopeless("configuration", _))
        ));
        let unschedulable = pod(
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]}),
        );
        assert!(matches!(waiting(&unschedulable), Some(Waiting::Patience(m)) if m.contains("0/1 nodes")));
    }

    #[test]
    fn phases_follow_the_containers() {
        let init = |state: Value| json!({"phase": "Pending", "initContainerStatuses": [{"name": "init-files", "ready": false, "restartCount": 0, "image": "", "imageID": "", "state": state}]});
        assert_eq!(
            phase(&pod(json!({"phase": "Pending"})), &stored()),
            Some(Phase::Pending)
        );
        assert_eq!(
            phase(&pod(init(json!({"running": {}}))), &stored()),
            Some(Phase::Staging)
        );
        let failed = pod(init(
            json!({"terminated": {"exitCode": 96, "message": "the image lacks: tar"}}),
        ));
        assert!(outcome(&failed, &stored()).unwrap().message.contains("lacks: tar"));
    }

    #[test]
    fn an_init_container_of_the_author_that_fails_is_the_end_and_one_that_waits_says_why() {
        let with = |phase: &str, state: Value| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": "p"},
                "spec": {"containers": [{"name": "main"}], "initContainers": [{"name": "init-files"}, {"name": "setup"}]},
                "status": {"phase": phase, "initContainerStatuses": [
                    {"name": "setup", "ready": false, "restartCount": 0, "image": "i", "imageID": "", "state": state},
                ]},
            }))
            .unwrap()
        };
        let failed = with(
            "Failed",
            json!({"terminated": {"exitCode": 3, "message": "no database\n"}}),
        );
        let outcome = outcome(&failed, &stored()).unwrap();
        assert_eq!(
            (outcome.reason.as_deref(), outcome.exit_code),
            (Some("init-container"), None)
        );
        assert!(
            outcome.message.contains("`setup`") && outcome.message.contains("no database"),
            "{}",
            outcome.message
        );
        let pulling = with(
            "Pending",
            json!({"waiting": {"reason": "ErrImagePull", "message": "manifest unknown"}}),
        );
        assert!(
            matches!(waiting(&pulling), Some(Waiting::Hopeless("image", m)) if m.contains("podSpec.initContainers"))
        );
    }
}
