//! Plain lines, for files and pipes, and for `--quiet`.

use std::io::Write;

use super::text::{Tone, lines};
use super::{Ui, Verbosity};
use crate::report::{Line, Report};

/// Writes lines. Errors and warnings go to standard error, everything else to standard output.
pub(crate) struct Plain<O, E> {
    out: O,
    error: E,
    verbosity: Verbosity,
    colours: bool,
    /// The task whose line is not complete.
    open: Option<String>,
}

impl<O: Write, E: Write> Plain<O, E> {
    pub(crate) fn new(out: O, error: E, verbosity: Verbosity, colours: bool) -> Self {
        Self {
            out,
            error,
            verbosity,
            colours,
            open: None,
        }
    }

    /// A line of a script, after its task's name unless only the scripts are to be heard.
    fn log(&mut self, line: &Line) {
        let begins = self.open.as_deref() != Some(&line.task);
        if begins {
            self.close();
            if self.verbosity > Verbosity::Quiet {
                let name = paint(Tone::Faint, &format!("{} |", line.task), self.colours);
                let _ = write!(self.out, "{name} ");
            }
        }
        let tone = match line.level.as_str() {
            "warn" => Tone::Warning,
            "error" => Tone::Bad,
            "trace" | "debug" => Tone::Faint,
            _ => Tone::Normal,
        };
        let _ = self.out.write_all(paint(tone, &line.message, self.colours).as_bytes());
        if line.partial {
            self.open = Some(line.task.clone());
        } else {
            let _ = writeln!(self.out);
            self.open = None;
        }
    }

    /// End a line that was left open.
    fn close(&mut self) {
        if self.open.take().is_some() {
            let _ = writeln!(self.out);
        }
    }
}

impl<O: Write, E: Write> Ui for Plain<O, E> {
    fn show(&mut self, reports: &[Report]) {
        for report in reports {
            if let Report::Log(line) = report {
                self.log(line);
                continue;
            }
            for (tone, text) in lines(report, self.verbosity) {
                self.close();
                let text = paint(tone, &text, self.colours);
                let _ = match report {
                    Report::Error { .. } | Report::Warning { .. } => {
                        // Keeps the order where both go to one place.
                        let _ = self.out.flush();
                        writeln!(self.error, "{text}")
                    }
                    _ => writeln!(self.out, "{text}"),
                };
            }
        }
        let _ = self.out.flush();
    }

    fn ask(&mut self, question: &str) {
        let _ = writeln!(self.error, "{question}");
    }
}

fn paint(tone: Tone, text: &str, colours: bool) -> String {
    let code = match tone {
        _ if !colours => return text.to_owned(),
        Tone::Normal => return text.to_owned(),
        Tone::Faint => 2,
        Tone::Good => 32,
        Tone::Warning => 33,
        Tone::Bad => 31,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}
