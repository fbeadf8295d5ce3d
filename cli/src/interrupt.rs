//! Signals, and the question that Ctrl-C asks on a terminal.
//!
//! - On a terminal the first SIGINT asks: stop the task, leave it running, or go on. A second one leaves it running.
//! - Elsewhere the first SIGINT stops the task, a second one leaves it running.
//! - SIGTERM and SIGHUP leave the task running: a worker that is restarted takes it up again.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::error::Error;

/// What whoever runs us wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Ask what is meant.
    Ask,
    /// Stop the task.
    Stop,
    /// Leave the task running, and end.
    Detach,
    /// Nothing, after all.
    Continue,
}

/// The question that [`Wish::Ask`] stands for.
pub(crate) const QUESTION: &str = "\
Stop the task (s), leave it running (l), or continue (c)? Type a letter and Enter; Ctrl-C again leaves it running.";

/// Listens for signals and answers.
pub(crate) struct Interrupts {
    int: Signal,
    term: Signal,
    hup: Signal,
    interactive: bool,
    /// How many SIGINT came since the last answer.
    count: u32,
    answers: (mpsc::UnboundedSender<Wish>, mpsc::UnboundedReceiver<Wish>),
    asking: bool,
}

impl Interrupts {
    /// Listen from now on. `interactive`: somebody can be asked.
    pub(crate) fn listen(interactive: bool) -> Result<Self, Error> {
        let open =
            |kind| signal(kind).map_err(|error| Error::Internal(format!("failed to listen for signals: {error}")));
        Ok(Self {
            int: open(SignalKind::interrupt())?,
            term: open(SignalKind::terminate())?,
            hup: open(SignalKind::hangup())?,
            interactive,
            count: 0,
            answers: mpsc::unbounded_channel(),
            asking: false,
        })
    }

    /// The next wish.
    pub(crate) async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.int.recv() => {
                self.count += 1;
                interrupted(self.count, self.interactive)
            }
            _ = self.term.recv() => Wish::Detach,
            _ = self.hup.recv() => Wish::Detach,
            // The sender lives as long as `self`, so this never ends.
            Some(wish) = self.answers.1.recv() => {
                self.asking = false;
                if wish == Wish::Continue {
                    self.count = 0;
                }
                wish
            }
        }
    }

    /// Read the answer to [`QUESTION`]; it comes as the next wish. A thread of its own reads, because nothing can end
    /// a read from a terminal.
    pub(crate) fn await_answer(&mut self) {
        if std::mem::replace(&mut self.asking, true) {
            return;
        }
        let answers = self.answers.0.clone();
        std::thread::spawn(move || {
            let mut line = String::new();
            let wish = match std::io::stdin().read_line(&mut line) {
                Ok(1..) => answer(&line),
                _ => Wish::Continue,
            };
            let _ = answers.send(wish);
        });
    }
}

/// What a SIGINT means.
fn interrupted(count: u32, interactive: bool) -> Wish {
    match (count, interactive) {
        (1, true) => Wish::Ask,
        (1, false) => Wish::Stop,
        _ => Wish::Detach,
    }
}

fn answer(line: &str) -> Wish {
    match line.trim().to_lowercase().chars().next() {
        Some('s') => Wish::Stop,
        Some('l') => Wish::Detach,
        _ => Wish::Continue,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_asked_and_anything_else_stops_the_task() {
        assert_eq!(interrupted(1, true), Wish::Ask);
        assert_eq!(interrupted(2, true), Wish::Detach);
        assert_eq!(interrupted(1, false), Wish::Stop);
        assert_eq!(interrupted(2, false), Wish::Detach);
    }

    #[test]
    fn answers() {
        assert_eq!(answer("s\n"), Wish::Stop);
        assert_eq!(answer(" Leave\n"), Wish::Detach);
        assert_eq!(answer("c\n"), Wish::Continue);
        assert_eq!(answer("\n"), Wish::Continue);
    }
}
