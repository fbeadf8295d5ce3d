//! The component's exports: generated functions on one side, [`Runner`] on the other.

#![allow(unsafe_code, unreachable_pub, reason = "the export macro writes the component's ABI")]

use crate::{
    Runner,
    bindings::{exports::podrun::task_runner::runner::Guest, podrun::task_runner::host},
    contract::{
        Connection, Credential, Descriptor, Diagnostic, Directive, Directories, Error, Event, Host, Outcome, Snapshot,
        Task,
    },
};

struct Component;

/// The host that loaded the component.
struct Imported;

impl Host for Imported {
    fn emit(&self, events: &[Event], cursor: Option<&str>) -> Directive {
        host::emit(events, cursor)
    }

    fn authenticate(&self, refused: bool) -> Option<Credential> {
        host::authenticate(refused)
    }
}

const RUNNER: Runner<'static> = Runner { host: &Imported };

impl Guest for Component {
    fn describe() -> Descriptor {
        Runner::describe()
    }

    fn connect(config: String) -> Result<Connection, Error> {
        Runner::connect(&config)
    }

    fn layout(config: String, _id: String) -> Result<Directories, Error> {
        Runner::layout(&config)
    }

    fn run(config: String, task: Task, after: Option<String>) -> Result<Outcome, Error> {
        RUNNER.run(&config, &task, after.as_deref())
    }

    fn attach(config: String, handle: String, after: Option<String>) -> Result<Outcome, Error> {
        RUNNER.attach(&config, &handle, after.as_deref())
    }

    fn kill(config: String, handle: String, grace: Option<u32>) -> Result<(), Error> {
        RUNNER.kill(&config, &handle, grace)
    }

    fn status(config: String, handle: String) -> Result<Snapshot, Error> {
        RUNNER.status(&config, &handle)
    }

    fn list(config: String, labels: Vec<(String, String)>) -> Result<Vec<Snapshot>, Error> {
        RUNNER.list(&config, &labels)
    }

    fn check(config: String) -> Result<Vec<Diagnostic>, Error> {
        RUNNER.check(&config)
    }

    fn render(config: String, task: Task, server: bool) -> Result<String, Error> {
        RUNNER.render(&config, &task, server)
    }
}

crate::bindings::export!(Component with_types_in crate::bindings);
