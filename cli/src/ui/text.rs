//! Reports as text: the same words on a terminal and in a file.

use crate::report::{Report, TaskEnded};
use crate::ui::Verbosity;

/// What a line is, which decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Normal,
    Faint,
    Good,
    Warning,
    Bad,
}

/// The lines of a report, and whether they belong on standard error. None where there is nothing to say.
pub(crate) fn lines(report: &Report, verbosity: Verbosity) -> Vec<(Tone, String)> {
    let line = |tone, text: String| vec![(tone, text)];
    if verbosity == Verbosity::Quiet && !matches!(report, Report::Warning { .. } | Report::Error { .. }) {
        return Vec::new();
    }
    match report {
        Report::Execution {
            id,
            flow,
            namespace,
            resumed,
            resume,
        } => {
            let again = if *resumed {
                "execution taken up again:"
            } else {
                "execution"
            };
            line(
                Tone::Normal,
                format!("{again} {id} of flow {namespace}.{flow}; to take it up again: {resume}"),
            )
        }
        Report::Warning { message } => line(Tone::Warning, format!("warning: {message}")),
        Report::Task {
            task, image, resumed, ..
        } => line(
            Tone::Normal,
            format!(
                "{task}: {} image {image}",
                if *resumed { "taken up again," } else { "starting" }
            ),
        ),
        Report::Skipped { task } => line(Tone::Faint, format!("{task}: skipped, its `runIf` does not hold")),
        Report::Retry {
            task,
            attempt,
            milliseconds,
        } => {
            let wait = duration(i64::try_from(*milliseconds).unwrap_or(i64::MAX));
            line(Tone::Warning, format!("{task}: attempt {attempt} begins in {wait}"))
        }
        Report::Phase { task, phase } => line(Tone::Faint, format!("{task}: {phase}")),
        // Log lines are written by whoever shows them: their parts may share a line.
        Report::Log(_) | Report::Progress { .. } => Vec::new(),
        Report::Output { task, name, value } if verbosity == Verbosity::Verbose => {
            line(Tone::Faint, format!("{task}: output {name} = {value}"))
        }
        Report::Metric { task, name, value } if verbosity == Verbosity::Verbose => {
            line(Tone::Faint, format!("{task}: metric {name} = {value}"))
        }
        Report::Output { .. } | Report::Metric { .. } => Vec::new(),
        Report::Diagnostic { task, level, message } => {
            let tone = match *level {
                "error" => Tone::Bad,
                "warn" => Tone::Warning,
                "info" => Tone::Faint,
                _ if verbosity < Verbosity::Verbose => return Vec::new(),
                _ => Tone::Faint,
            };
            line(tone, format!("{task}: {message}"))
        }
        Report::TaskEnded(ended) => summary(ended, verbosity),
        Report::ExecutionEnded {
            id,
            state,
            message,
            outputs,
        } => {
            let tone = match *state {
                "succeeded" => Tone::Good,
                "warned" => Tone::Warning,
                _ => Tone::Bad,
            };
            let message = message
                .as_ref()
                .map(|message| format!(": {message}"))
                .unwrap_or_default();
            let values = outputs.iter();
            let mut lines: Vec<_> = values
                .map(|(name, value)| (Tone::Normal, format!("output {name} = {}", crate::at::text(value))))
                .collect();
            lines.push((tone, format!("execution {id} {state}{message}")));
            lines
        }
        Report::Detached { resume, .. } => line(
            Tone::Warning,
            format!("detached; the task goes on. To take it up again: {resume}"),
        ),
        Report::Error { message, .. } => line(Tone::Bad, format!("error: {message}")),
    }
}

/// What there is to say about a task that ended.
fn summary(ended: &TaskEnded, verbosity: Verbosity) -> Vec<(Tone, String)> {
    let total: i64 = ended.phases.iter().map(|phase| phase.milliseconds).sum();
    let mut head = format!("{}: {}", ended.task, ended.status);
    if ended.earlier {
        head.push_str(" earlier");
    }
    if !ended.phases.is_empty() {
        head.push_str(&format!(" after {}", duration(total)));
    }
    if let Some(code) = ended.exit_code {
        head.push_str(&format!(", exit code {code}"));
    }
    if let Some(reason) = &ended.reason {
        head.push_str(&format!(", {reason}"));
    }
    let good = ended.status == "succeeded";
    let mut lines = vec![(if good { Tone::Good } else { Tone::Bad }, head)];
    if !good && !ended.message.is_empty() {
        lines.extend(ended.message.lines().map(|line| (Tone::Bad, format!("  {line}"))));
    }
    let times: Vec<String> = ended
        .phases
        .iter()
        .map(|phase| format!("{} {}", phase.phase, duration(phase.milliseconds)))
        .collect();
    if !times.is_empty() {
        lines.push((Tone::Faint, format!("  {}", times.join(", "))));
    }
    let shown = |name: &str| verbosity == Verbosity::Verbose || name == "pod";
    for (name, value) in ended.details.iter().filter(|(name, _)| shown(name)) {
        lines.push((Tone::Faint, format!("  {name} {}", value.as_str().unwrap_or_default())));
    }
    let width = ended
        .files
        .iter()
        .map(|file| file.name.chars().count())
        .max()
        .unwrap_or(0)
        .min(40);
    for file in &ended.files {
        lines.push((
            Tone::Normal,
            format!("  {:<width$}  {:>9}  {}", file.name, bytes(file.size), file.path),
        ));
    }
    lines
}

/// A number of bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    indicatif::HumanBytes(count).to_string()
}

/// A time for people.
pub(crate) fn duration(milliseconds: i64) -> String {
    match milliseconds {
        ..60_000 => format!("{:.1} s", milliseconds as f64 / 1000.0),
        60_000..3_600_000 => format!("{} min {} s", milliseconds / 60_000, milliseconds % 60_000 / 1000),
        _ => format!(
            "{} h {} min",
            milliseconds / 3_600_000,
            milliseconds % 3_600_000 / 60_000
        ),
    }
}

/// Columns as wide as what is in them.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}
