//! A terminal: lines scroll by, and below them stands what the task is doing now.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::plain::Plain;
use super::text::bytes;
use super::{Ui, Verbosity};
use crate::report::Report;

pub(crate) struct Terminal {
    lines: Plain<crate::out::Out, std::io::Stderr>,
    bar: ProgressBar,
    /// The task that the bar speaks of, and what it is doing.
    task: Option<String>,
    phase: &'static str,
    moved: String,
    note: String,
}

impl Terminal {
    pub(crate) fn new(verbosity: Verbosity, colours: bool) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        let lines = Plain::new(crate::out::out(), std::io::stderr(), verbosity, colours);
        Self {
            lines,
            bar,
            task: None,
            phase: "",
            moved: String::new(),
            note: String::new(),
        }
    }

    /// Take over what the bar shows; true if the report has lines of its own as well.
    fn track(&mut self, report: &Report) -> bool {
        match report {
            Report::Task { task, .. } => {
                self.task = Some(task.clone());
                self.phase = "begins";
                self.moved.clear();
                self.note.clear();
                self.bar.reset();
                self.bar.enable_steady_tick(Duration::from_millis(100));
                false
            }
            Report::Phase { phase, .. } => {
                self.phase = phase;
                self.moved.clear();
                self.note.clear();
                false
            }
            Report::Progress { what, done, total, .. } => {
                let total = total.map(|total| format!(" of {}", bytes(total))).unwrap_or_default();
                self.moved = format!(", {what} {}{total}", bytes(*done));
                false
            }
            Report::Diagnostic { level, message, .. } if *level == "info" => {
                self.note = format!(", {}", message.lines().next().unwrap_or_default());
                false
            }
            Report::TaskEnded(_) | Report::ExecutionEnded { .. } | Report::Detached { .. } | Report::Error { .. } => {
                self.task = None;
                true
            }
            _ => true,
        }
    }
}

impl Ui for Terminal {
    fn show(&mut self, reports: &[Report]) {
        let mut shown = Vec::new();
        for report in reports {
            if self.track(report) {
                shown.push(report.clone());
            }
        }
        if !shown.is_empty() {
            let lines = &mut self.lines;
            self.bar.suspend(|| lines.show(&shown));
        }
        match &self.task {
            Some(task) => self
                .bar
                .set_message(format!("{task}: {}{}{}", self.phase, self.moved, self.note)),
            None => {
                self.bar.disable_steady_tick();
                self.bar.finish_and_clear();
            }
        }
    }

    fn ask(&mut self, question: &str) {
        let lines = &mut self.lines;
        self.bar.suspend(|| lines.ask(question));
    }
}
