//! What a test leaves out, said where somebody reads it.

use std::fmt::Display;
use std::io::Write as _;

/// Leaves out a test, or a part of one, because the environment lacks something. `cargo xtask test` brings everything, so
/// under its `PODRUN_TEST_STRICT` that is a failure: a test that never runs must not look like one that passes.
#[track_caller]
pub fn skip(reason: impl Display) {
    assert!(
        std::env::var_os("PODRUN_TEST_STRICT").is_none_or(|strict| strict.is_empty()),
        "nothing may be left out here: {reason}"
    );
    tell(&reason);
}

/// Whether the long tests are asked for; says which are left out if not.
pub fn full(what: impl Display) -> bool {
    let full = std::env::var_os("PODRUN_TEST_FULL").is_some_and(|full| !full.is_empty());
    if !full {
        tell(&format_args!("without --full: {what}"));
    }
    full
}

/// The harness captures what `eprintln!` writes, and drops it when a test passes; it does not capture this.
fn tell(what: &dyn Display) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Without a standard error there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "skipped in {test}: {what}");
}
