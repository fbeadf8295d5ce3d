//! The table: what was measured, against what, and whether the target is met.

use std::fmt::Write as _;

use serde::Serialize;

use crate::figures::{Samples, Spread};
use crate::profile::Upload;
use crate::resident::Resident;
use crate::task::Way;

/// A median of fewer samples is not judged.
const ENOUGH: usize = 15;

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Target {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

impl Target {
    fn met(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    part: char,
    name: String,
    unit: &'static str,
    spread: Spread,
    target: Option<Target>,
    met: Option<bool>,
}

/// What the table is made of.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Everything that was measured more than once.
    pub(crate) samples: Samples,
    /// Part d.
    pub(crate) resident: Option<Resident>,
    /// The profiled uploads.
    pub(crate) uploads: Vec<(Way, Upload)>,
}

impl Found {
    /// The rows of everything that was measured.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let mut rows = Rows {
            samples: &self.samples,
            rows: Vec::new(),
        };
        rows.submit();
        rows.moments();
        rows.transfers();
        if let Some(resident) = &self.resident {
            rows.resident(resident);
        }
        rows.loading();
        rows.web_assembly();
        rows.rows
    }
}

struct Rows<'s> {
    samples: &'s Samples,
    rows: Vec<Row>,
}

impl Rows<'_> {
    fn push(&mut self, part: char, name: &str, unit: &'static str, spread: Option<Spread>, target: Option<Target>) {
        // What was not asked for has no samples.
        let Some(spread) = spread else { return };
        // Part d is one figure of 200 runs.
        let judged = part == 'd' || spread.count >= ENOUGH;
        self.rows.push(Row {
            part,
            name: name.to_owned(),
            unit,
            spread,
            target,
            met: target.filter(|_| judged).map(|target| target.met(spread.median)),
        });
    }

    fn figure(&mut self, part: char, name: &str, unit: &'static str, key: &str) {
        self.push(part, name, unit, self.samples.spread(key), None);
    }

    fn ratio(&mut self, part: char, name: &str, (over, under): (&str, &str), target: Option<Target>) {
        self.push(part, name, "ratio", self.samples.ratio(over, under), target);
    }

    fn submit(&mut self) {
        self.figure(
            'a',
            "one input, one output, submit to outcome: component",
            "s",
            "a/component",
        );
        self.figure('a', "the same: bare pod, until `main` terminated", "s", "a/bare");
        let keys = ("a/component", "a/bare");
        self.ratio('a', "component ÷ bare pod", keys, Some(Target::AtMost(1.15)));
    }

    fn moments(&mut self) {
        let within = Some(Target::AtMost(100.0));
        self.figure('b', "submit to first line", "ms", "b/submit-to-first-line");
        self.figure(
            'b',
            "submit to `main` running, native watch",
            "ms",
            "b/submit-to-watch-running",
        );
        let later = self.samples.spread("b/first-line-after-watch");
        self.push('b', "first line later than native watch", "ms", later, within);
        self.figure(
            'b',
            "first line written by the script to line at the host",
            "ms",
            "b/first-line-written-to-seen",
        );
        self.figure(
            'b',
            "last line written, right before the end, to line at the host",
            "ms",
            "b/last-line-written-to-seen",
        );
        self.figure('b', "end of user code to outcome", "ms", "b/end-to-outcome");
        self.figure(
            'b',
            "end of user code to `main` terminated, native watch",
            "ms",
            "b/end-to-watch-terminated",
        );
        let later = self.samples.spread("b/outcome-after-watch");
        self.push('b', "outcome later than native watch", "ms", later, within);
        self.figure('b', "of which collecting one small file", "ms", "b/collecting");
    }

    fn transfers(&mut self) {
        for (load, what, least) in [("64-mib", "64 MiB", 1.0), ("2000-files", "2,000 files of 1-4 KiB", 1.5)] {
            let key = |direction: &str, by: &str| format!("c/{load}/{direction}/{by}");
            let least = Some(Target::AtLeast(least));
            for direction in ["up", "down"] {
                let (ours, theirs) = (key(direction, "component"), key(direction, "kubectl"));
                self.figure('c', &format!("{what} {direction}: component"), "s", &ours);
                self.figure(
                    'c',
                    &format!("{what} {direction}: kubectl cp and sums of both sides"),
                    "s",
                    &theirs,
                );
                let copied = key(&format!("{direction}-copied"), "kubectl");
                self.figure(
                    'c',
                    &format!("{what} {direction}: of these, kubectl cp itself"),
                    "s",
                    &copied,
                );
            }
            // The component hashes before its pod exists, kubectl's side after the copy.
            let (theirs, ours) = (key("up", "kubectl"), key("up-with-local-hash", "component"));
            let name = format!("{what} up: kubectl ÷ component with the hashing before its pod exists");
            self.ratio('c', &name, (&theirs, &ours), least);
            let (theirs, ours) = (key("down", "kubectl"), key("down", "component"));
            let name = format!("{what} down: kubectl ÷ component");
            self.ratio('c', &name, (&theirs, &ours), least);
        }
        self.figure('c', "start of kubectl itself", "ms", "c/kubectl-start");
    }

    fn resident(&mut self, resident: &Resident) {
        let one = |value: f64| {
            Some(Spread {
                count: 1,
                min: value,
                median: value,
                max: value,
            })
        };
        let (all, pods) = (&resident.all, resident.pods);
        let name = format!("resident memory at {} runs over {pods} pods", all.runs);
        self.push('d', &name, "MB", one(all.resident as f64 / 1e6), None);
        let name = format!("resident memory at {} run", resident.one.runs);
        self.push('d', &name, "MB", one(resident.one.resident as f64 / 1e6), None);
        let most = Some(Target::AtMost(1.0));
        self.push('d', "per further run", "MB", one(resident.megabytes_per_run()), most);
        let mapped = one(resident.mapped_megabytes_per_run());
        self.push('d', "what runs share counted for each (VmRSS)", "MB", mapped, None);
        self.push(
            'd',
            "connections per further run",
            "",
            one(resident.connections_per_run()),
            None,
        );
    }

    fn loading(&mut self) {
        self.figure('e', "component loaded by compiling it", "ms", "e/cold");
        self.figure('e', "component loaded from the cache", "ms", "e/cached");
        self.figure('e', "first instance and call", "ms", "e/first-instance");
        self.figure('e', "further instance and call", "ms", "e/instance");
    }

    fn web_assembly(&mut self) {
        self.figure(
            'f',
            "one input, one output, submit to outcome: native runner",
            "s",
            "a/native",
        );
        self.ratio('f', "component ÷ native", ("a/component", "a/native"), None);
        for (load, what) in [("64-mib", "64 MiB"), ("2000-files", "2,000 files")] {
            for direction in ["up", "down"] {
                let (ours, native) = (
                    format!("c/{load}/{direction}/component"),
                    format!("c/{load}/{direction}/native"),
                );
                self.figure('f', &format!("{what} {direction}: native runner"), "s", &native);
                let name = format!("{what} {direction}: component ÷ native");
                self.ratio('f', &name, (&ours, &native), None);
            }
        }
    }
}

/// The rows as text.
pub(crate) fn table(rows: &[Row]) -> String {
    let width = rows
        .iter()
        .map(|row| row.name.chars().count())
        .max()
        .unwrap_or_default();
    let mut text = format!(
        "     {:width$}  {:>9} {:>9} {:>9}  {:5} {:>3}  target\n",
        "", "min", "median", "max", "unit", "n"
    );
    let mut part = ' ';
    for row in rows {
        let label = if row.part == part {
            "   ".to_owned()
        } else {
            format!("({})", row.part)
        };
        part = row.part;
        let verdict = match row.target {
            Some(target) => {
                let met = match row.met {
                    Some(true) => "met",
                    Some(false) => "MISSED",
                    None => "not judged: few runs",
                };
                match target {
                    Target::AtMost(limit) => format!("≤ {limit} {met}"),
                    Target::AtLeast(limit) => format!("≥ {limit} {met}"),
                }
            }
            None => String::new(),
        };
        let Spread {
            count,
            min,
            median,
            max,
        } = row.spread;
        let digits = if row.unit == "ms" { 1 } else { 2 };
        let line = format!(
            "{label}  {:width$}  {min:>9.digits$} {median:>9.digits$} {max:>9.digits$}  {:5} {count:>3}  {verdict}",
            row.name, row.unit
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// The profiled uploads as text.
pub(crate) fn uploads(uploads: &[(Way, Upload)]) -> String {
    let mut text = String::new();
    for (way, upload) in uploads {
        let Upload {
            read_and_hashed,
            opened,
            streamed,
            waited_for_runner,
            waited_for_server,
            drained,
            hashed,
            acknowledged,
            bytes,
            processor,
        } = upload;
        let _ = writeln!(
            text,
            "upload of 64 MiB, {}: read and hashed {read_and_hashed:.2} s, opened {opened:.2} s, streamed {streamed:.2} s ({:.0} MB/s on the \
             wire; proxy waited {waited_for_runner:.2} s for the runner and {waited_for_server:.2} s for the API server), \
             all of it in the pod's file {drained:.2} s later, hashed there in {hashed:.2} s, acknowledged {acknowledged:.2} s after the last byte",
            way.name(),
            *bytes as f64 / 1e6 / streamed.max(1e-3)
        );
        let mut shares: Vec<_> = processor.iter().collect();
        shares.sort_by(|a, b| b.1.total_cmp(a.1));
        let shares: Vec<String> = shares
            .iter()
            .map(|(name, time)| format!("{name} {time:.2} s"))
            .collect();
        let _ = writeln!(
            text,
            "  processor time from the phase to the pod's word: {}",
            shares.join(", ")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_judged_by_the_median() {
        let mut found = Found::default();
        let mut add = |rounds: std::ops::Range<u32>, ours: f64| {
            for round in rounds {
                let mut series = found.samples.round(round);
                series.add("a/component", ours);
                series.add("a/bare", 1.0);
            }
            table(&found.rows())
        };
        assert!(add(0..6, 1.0).contains("≤ 1.15 not judged: few runs"));
        add(6..9, 1.2);
        add(9..15, 9.0);
        let rows = found.rows();
        let ratio = rows.iter().find(|row| row.name == "component ÷ bare pod").unwrap();
        assert_eq!((ratio.spread.median, ratio.met), (1.2, Some(false)));
        let text = table(&rows);
        assert!(text.contains("≤ 1.15 MISSED"), "{text}");
        assert!(!text.contains("(c)"), "{text}");
        assert!(Target::AtLeast(1.5).met(1.5) && !Target::AtLeast(1.5).met(1.4));
    }
}
