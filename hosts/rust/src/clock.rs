//! The deadline that ends a runner which computes without end.
//!
//! wasmtime's epochs are the clock: [`Ticker`] advances them from a thread of its own, because a runtime whose workers
//! are all busy with spinning runners could not. At each tick that a runner spends computing, [`Meter`] is charged one
//! and the runner yields to the runtime; each call to the host refills it. Time spent waiting inside a call to the host
//! is therefore free, however long it is, and so is time spent queueing for a worker.
//!
//! `Store::call_hook` would be the obvious place to refill, but it also fires for wasmtime's own library calls, among
//! them the epoch's and `memory.grow`, so a loop that only moves memory would never end.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wasmtime::{Engine, EngineWeak, Store, UpdateDeadline};

use crate::state::State;

/// The longest time for which a computing runner holds a worker of the runtime.
const LONGEST_TICK: Duration = Duration::from_millis(50);
/// The least number of ticks in a deadline, as it can be missed by one.
const LEAST_TICKS: u32 = 50;

/// The time between two ticks.
fn tick(deadline: Duration) -> Duration {
    (deadline / LEAST_TICKS).clamp(Duration::from_millis(1), LONGEST_TICK)
}

/// What is left of a runner's time until its next call to the host.
#[derive(Debug)]
pub(crate) struct Meter {
    deadline: Duration,
    ticks: u128,
    left: u128,
}

impl Meter {
    pub(crate) fn new(deadline: Duration) -> Self {
        let ticks = deadline.as_nanos().div_ceil(tick(deadline).as_nanos());
        Self {
            deadline,
            ticks,
            left: ticks,
        }
    }

    /// A call to the host was made.
    pub(crate) fn refill(&mut self) {
        self.left = self.ticks;
    }

    fn charge(&mut self) -> Result<(), DeadlinePassed> {
        self.left = self.left.checked_sub(1).ok_or(DeadlinePassed {
            deadline: self.deadline,
        })?;
        Ok(())
    }
}

/// A runner computed for longer than it may between two calls to the host.
#[derive(Debug, thiserror::Error)]
#[error("it computed for {deadline:?} without a call to the host; if it needs longer, raise `Options::guest_deadline`")]
pub(crate) struct DeadlinePassed {
    deadline: Duration,
}

/// Puts the code in `store` under its [`Meter`].
pub(crate) fn arm(store: &mut Store<State>) {
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|mut store| {
        store.data_mut().meter().charge()?;
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    });
}

/// Advances an engine's epoch while calls are under way. Its thread ends with it.
#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<Calls>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Calls {
    under_way: usize,
    over: bool,
}

impl Shared {
    /// The counters are whole numbers that each change leaves valid, so a panic elsewhere cannot have broken them.
    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticker {
    /// Starts the thread.
    pub(crate) fn start(engine: &Engine, deadline: Duration) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (engine, period) = (engine.weak(), tick(deadline));
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("podrun-epoch".to_owned())
            .spawn(move || advance(&theirs, &engine, period))?;
        Ok(Self { shared })
    }

    /// Keeps the epoch advancing until the guard is dropped.
    pub(crate) fn call(&self) -> CallGuard {
        self.shared.lock().under_way += 1;
        self.shared.changed.notify_one();
        CallGuard {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.changed.notify_one();
    }
}

/// One call under way.
#[derive(Debug)]
pub(crate) struct CallGuard {
    shared: Arc<Shared>,
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.shared.lock().under_way -= 1;
    }
}

fn advance(shared: &Shared, engine: &EngineWeak, period: Duration) {
    let mut calls = shared.lock();
    while !calls.over {
        if calls.under_way == 0 {
            calls = shared.changed.wait(calls).unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        drop(calls);
        std::thread::sleep(period);
        match engine.upgrade() {
            Some(engine) => engine.increment_epoch(),
            None => return,
        }
        calls = shared.lock();
    }
}
