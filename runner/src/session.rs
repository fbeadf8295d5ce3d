//! One call's conversation with its host: collects events into batches, keeps the heartbeat, and turns the host's
//! directives into the end of whatever is being waited for.

use crate::contract::{Diagnostic, Directive, Error, Event, Host, Level, Phase};
use std::{
    cell::{Cell, RefCell},
    future::Future,
    time::Duration,
};

/// A batch is handed over when it holds this many events, or this much text.
const BATCH_EVENTS: usize = 1000;
const BATCH_TEXT: usize = 256 * 1024;
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Why a step did not finish.
#[derive(Debug)]
pub(crate) enum Halt {
    /// The runner could not do its part.
    Error(Error),
    /// The host wants the script stopped.
    Cancel,
    /// The host leaves.
    Detach,
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// The conversation of one call of `run` or `attach`.
pub(crate) struct Session<'h> {
    host: &'h dyn Host,
    batch: RefCell<Batch>,
    phase: Cell<Option<Phase>>,
    directive: Cell<Directive>,
    /// Set while the script is being stopped on the host's word: a repeated `cancel` must not stop the stopping.
    cancelling: Cell<bool>,
}

#[derive(Default)]
struct Batch {
    events: Vec<Event>,
    text: usize,
    cursor: Option<String>,
}

impl<'h> Session<'h> {
    pub(crate) fn new(host: &'h dyn Host) -> Self {
        Self {
            host,
            batch: RefCell::default(),
            phase: Cell::new(None),
            directive: Cell::new(Directive::Proceed),
            cancelling: Cell::new(false),
        }
    }

    pub(crate) fn host(&self) -> &'h dyn Host {
        self.host
    }

    /// Adds an event to the batch; `flush` hands it over.
    pub(crate) fn push(&self, event: Event) {
        let mut batch = self.batch.borrow_mut();
        batch.text += text(&event);
        batch.events.push(event);
    }

    /// Adds what one log line became, and the cursor that covers it. Hands over full batches first; that the host then wants
    /// the script stopped is told after the line was taken, which its reader will not bring again.
    pub(crate) fn push_covered(&self, events: Vec<Event>, cursor: String) -> Result<(), Halt> {
        let added: usize = events.iter().map(text).sum();
        let full = {
            let batch = self.batch.borrow();
            !batch.events.is_empty()
                && (batch.text + added > BATCH_TEXT || batch.events.len() + events.len() > BATCH_EVENTS)
        };
        let flushed = if full { self.flush() } else { Ok(()) };
        if let Err(Halt::Detach | Halt::Error(_)) = flushed {
            return flushed;
        }
        let mut batch = self.batch.borrow_mut();
        batch.text += added;
        batch.events.extend(events);
        batch.cursor = Some(cursor);
        flushed
    }

    /// Says something to people.
    pub(crate) fn note(&self, level: Level, message: impl Into<String>) {
        self.push(Event::Diagnostic(Diagnostic {
            level,
            message: message.into(),
        }));
    }

    /// Reports the phase when it is another one.
    pub(crate) fn phase(&self, phase: Phase) {
        if self.phase.replace(Some(phase)) != Some(phase) {
            self.push(Event::Phase(phase));
        }
    }

    /// Hands over what was collected, or the heartbeat.
    pub(crate) fn flush(&self) -> Result<(), Halt> {
        let batch = self.batch.take();
        let directive = self.host.emit(&batch.events, batch.cursor.as_deref());
        self.obey(directive)
    }

    /// Hands over what was collected, if anything was.
    pub(crate) fn flush_news(&self) -> Result<(), Halt> {
        if self.batch.borrow().events.is_empty() {
            Ok(())
        } else {
            self.flush()
        }
    }

    fn obey(&self, directive: Directive) -> Result<(), Halt> {
        self.directive.set(directive);
        match directive {
            Directive::Detach => Err(Halt::Detach),
            Directive::Cancel if !self.cancelling.get() => Err(Halt::Cancel),
            Directive::Cancel | Directive::Proceed => Ok(()),
        }
    }

    /// From here on `cancel` is already being obeyed.
    pub(crate) fn cancelling(&self) {
        self.cancelling.set(true);
    }

    /// Hands over the last events; the host's directive does not matter any more.
    pub(crate) fn finish(&self) {
        let batch = self.batch.take();
        self.host.emit(&batch.events, batch.cursor.as_deref());
    }

    /// Waits for `step` while keeping the heartbeat; ends early when the host says so.
    pub(crate) async fn during<T>(&self, step: impl Future<Output = Result<T, Halt>>) -> Result<T, Halt> {
        tokio::pin!(step);
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        heartbeat.reset();
        self.flush_news()?;
        loop {
            tokio::select! {
                biased;
                done = &mut step => return done,
                _ = heartbeat.tick() => self.flush()?,
            }
        }
    }
}

fn text(event: &Event) -> usize {
    match event {
        Event::Log(line) => line.message.len(),
        Event::Output(output) => output.name.len() + output.value.len(),
        Event::Metric(metric) => metric.name.len() + metric.value.len(),
        Event::Diagnostic(diagnostic) => diagnostic.message.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Credential, LogLine};

    /// A host that answers with these directives, the last one first, and proceeds after them.
    #[derive(Default)]
    struct Recorder {
        answers: RefCell<Vec<Directive>>,
        batches: RefCell<Vec<(usize, Option<String>)>>,
    }

    impl Host for Recorder {
        fn emit(&self, events: &[Event], cursor: Option<&str>) -> Directive {
            self.batches
                .borrow_mut()
                .push((events.len(), cursor.map(str::to_owned)));
            self.answers.borrow_mut().pop().unwrap_or(Directive::Proceed)
        }

        fn authenticate(&self, _refused: bool) -> Option<Credential> {
            None
        }
    }

    fn line(message: String) -> Vec<Event> {
        vec![Event::Log(LogLine {
            source: None,
            level: Level::Info,
            time: 0,
            message,
            partial: false,
            lossy: false,
        })]
    }

    #[test]
    fn batches_are_handed_over_before_they_are_too_large() {
        let host = Recorder::default();
        let session = Session::new(&host);
        for number in 0..=BATCH_EVENTS {
            session.push_covered(line(String::new()), number.to_string()).unwrap();
        }
        assert_eq!(*host.batches.borrow(), [(BATCH_EVENTS, Some("999".to_owned()))]);
        session
            .push_covered(line("x".repeat(BATCH_TEXT)), "long".to_owned())
            .unwrap();
        session.push_covered(line("y".to_owned()), "short".to_owned()).unwrap();
        session.finish();
        let batches: Vec<_> = host.batches.take().into_iter().skip(1).collect();
        let expected = [(2, "long"), (1, "short")].map(|(events, cursor)| (events, Some(cursor.to_owned())));
        assert_eq!(batches, expected);
    }

    #[test]
    fn a_cancel_in_the_middle_of_a_burst_loses_no_line() {
        let host = Recorder::default();
        let session = Session::new(&host);
        for number in 0..BATCH_EVENTS {
            session.push_covered(line(String::new()), number.to_string()).unwrap();
        }
        host.answers.borrow_mut().push(Directive::Cancel);
        let halted = session.push_covered(line(String::new()), "after".to_owned());
        assert!(matches!(halted, Err(Halt::Cancel)));
        session.finish();
        assert_eq!(host.batches.borrow().last(), Some(&(1, Some("after".to_owned()))));
    }
}
