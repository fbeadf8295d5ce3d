//! When a task that failed is tried again. Pure: what happened goes in, when to try again comes out.
//!
//! Failures of the script and failures of the cluster (an evicted pod, a lost node) have separate budgets, so that a
//! cluster that reclaims nodes does not use up the attempts that are meant for the script.

use podrun_host::Outcome;

use crate::flow::model::{Delay, Retry};

/// Attempts that may be lost to the cluster before the task has failed.
pub(crate) const CLUSTER_BUDGET: u32 = 5;

/// What happened to a task so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Attempts whose script failed.
    script: u32,
    /// Attempts that the cluster lost.
    cluster: u32,
    /// When the first attempt began and the last one ended, in milliseconds since the Unix epoch.
    began: Option<i64>,
    ended: Option<i64>,
}

impl Tally {
    /// Count an attempt that did not succeed.
    pub(crate) fn add(&mut self, outcome: &Outcome, began: Option<i64>, ended: Option<i64>) {
        if outcome.retryable {
            self.cluster += 1;
        } else {
            self.script += 1;
        }
        self.began = self.began.or(began);
        self.ended = ended.or(self.ended);
    }

    /// When the next attempt begins, in milliseconds since the Unix epoch; none if the task has failed. `random` is
    /// between 0 and 1.
    pub(crate) fn next(&self, retry: &Retry, random: f64) -> Option<i64> {
        let ended = self.ended.unwrap_or_default();
        let failures = self.script + self.cluster;
        let within = (retry.max_attempts == 0 || self.script < retry.max_attempts) && self.cluster <= CLUSTER_BUDGET;
        let at = ended.saturating_add(i64::try_from(delay(&retry.delay, failures, random)).unwrap_or(i64::MAX));
        let in_time = match (retry.max_duration, self.began) {
            (Some(seconds), Some(began)) => {
                let limit = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000);
                at.saturating_sub(began) <= limit
            }
            _ => true,
        };
        (within && in_time).then_some(at)
    }
}

/// Milliseconds before the attempt that follows `failures` failed ones.
fn delay(delay: &Delay, failures: u32, random: f64) -> u64 {
    match *delay {
        Delay::Constant { interval } => interval,
        Delay::Exponential {
            interval,
            max_interval,
            factor,
        } => {
            let exponent = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
            let grown = interval as f64 * factor.powi(exponent);
            // A product beyond the integers is beyond the maximum.
            (grown.min(max_interval as f64)) as u64
        }
        Delay::Random {
            min_interval,
            max_interval,
        } => {
            let width = max_interval.saturating_sub(min_interval);
            min_interval + (width as f64 * random.clamp(0.0, 1.0)) as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use podrun_host::Status;

    fn outcome(retryable: bool) -> Outcome {
        Outcome {
            status: Status::Failed,
            reason: None,
            retryable,
            exit_code: Some(1),
            message: String::new(),
            files: Vec::new(),
            started: None,
            finished: None,
            details: Vec::new(),
        }
    }

    fn after(failures: &[bool]) -> Tally {
        let mut tally = Tally::default();
        for (index, retryable) in failures.iter().enumerate() {
            let time = 1000 * index as i64;
            tally.add(&outcome(*retryable), Some(time), Some(time + 500));
        }
        tally
    }

    fn retry(delay: Delay, max_attempts: u32, max_duration: Option<u64>) -> Retry {
        Retry {
            delay,
            max_attempts,
            max_duration,
            warning_on_retry: false,
        }
    }

    const SECOND: Delay = Delay::Constant { interval: 1000 };

    #[test]
    fn attempts_are_counted_with_the_first() {
        let twice = retry(SECOND, 2, None);
        assert_eq!(after(&[false]).next(&twice, 0.0), Some(1500));
        assert_eq!(after(&[false, false]).next(&twice, 0.0), None);
        assert!(after(&[false; 100]).next(&retry(SECOND, 0, None), 0.0).is_some());
    }

    #[test]
    fn the_clusters_failures_have_a_budget_of_their_own() {
        let twice = retry(SECOND, 2, None);
        assert!(after(&[true, true, true, false]).next(&twice, 0.0).is_some());
        assert!(after(&[true, false, false]).next(&twice, 0.0).is_none());
        assert!(after(&[true; 5]).next(&twice, 0.0).is_some());
        assert!(after(&[true; 6]).next(&twice, 0.0).is_none());
    }

    #[test]
    fn delays_grow_to_their_maximum_or_are_drawn() {
        let exponential = Delay::Exponential {
            interval: 100,
            max_interval: 1000,
            factor: 3.0,
        };
        let delays: Vec<u64> = (1..=5).map(|failures| delay(&exponential, failures, 0.0)).collect();
        assert_eq!(delays, [100, 300, 900, 1000, 1000]);
        assert_eq!(delay(&exponential, u32::MAX, 0.0), 1000);
        let random = Delay::Random {
            min_interval: 100,
            max_interval: 200,
        };
        assert_eq!([delay(&random, 1, 0.0), delay(&random, 1, 1.0)], [100, 200]);
    }

    #[test]
    fn no_attempt_begins_after_the_maximum_duration() {
        let short = retry(SECOND, 0, Some(3));
        assert!(after(&[false, false]).next(&short, 0.0).is_some());
        assert!(after(&[false, false, false]).next(&short, 0.0).is_none());
    }
}
