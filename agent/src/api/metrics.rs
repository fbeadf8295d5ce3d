//! `/metrics`, in the text format of Prometheus.

use std::fmt::Write as _;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use http::Response;

use super::answer::{self, Answer};
use crate::engine::Engine;

pub(super) fn answer(engine: &Engine) -> Response<Answer> {
    let count = engine.table().count();
    let totals = engine.totals();
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: &[(String, u64)]| {
        let _ = writeln!(
            text,
            "# HELP podrun_agent_{name} {help}\n# TYPE podrun_agent_{name} {kind}"
        );
        for (labels, value) in samples {
            let _ = writeln!(text, "podrun_agent_{name}{labels} {value}");
        }
    };
    let plain = |value: u64| [(String::new(), value)];
    let states = [
        ("waiting", count.waiting),
        ("queued", count.queued),
        ("running", count.running),
        ("terminated", count.terminated),
    ];
    let states = states.map(|(state, value)| (format!("{{state=\"{state}\"}}"), value as u64));
    family("tasks", "gauge", "Tasks that are kept, by state.", &states);
    family(
        "tasks_deleting",
        "gauge",
        "Tasks that are being removed.",
        &plain(count.deleting as u64),
    );
    let created = totals.created.load(Ordering::Relaxed);
    family(
        "tasks_created_total",
        "counter",
        "Tasks accepted since the agent's start.",
        &plain(created),
    );
    let started = totals.started.load(Ordering::Relaxed);
    family(
        "tasks_started_total",
        "counter",
        "Tasks seen to start since the agent's start.",
        &plain(started),
    );
    let ended = totals.ended.lock().unwrap_or_else(PoisonError::into_inner);
    let ended: Vec<_> = ended
        .iter()
        .map(|(reason, value)| (format!("{{reason=\"{reason}\"}}"), *value))
        .collect();
    family(
        "tasks_ended_total",
        "counter",
        "Tasks seen to end since the agent's start, by reason.",
        &ended,
    );
    let draining = u64::from(engine.is_draining());
    family("draining", "gauge", "1 while new tasks are refused.", &plain(draining));
    let version = format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    family("build_info", "gauge", "The agent's version.", &[(version, 1)]);
    answer::text("text/plain; version=0.0.4; charset=utf-8", text)
}
