//! Runs trials side by side, and looks at the end what they left in the cluster and in its audit log.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use podrun_tests::faults::{Audit, Ending, Kill, Moment, Place, Scenario, Way, variable};
use podrun_tests::skip;
use tokio::sync::{Semaphore, SemaphorePermit};

/// More at a time would only wait for the machine.
static SLOTS: Semaphore = Semaphore::const_new(6);

/// Longest that pods take to vanish: the grace period of the program in them, and some.
const VANISH: Duration = Duration::from_secs(60);

/// Whether a trial is to be run. `PODRUN_TEST_ONLY` names one, for whoever looks into a failure, and for mutants.
pub(crate) fn wanted(trial: &str) -> bool {
    std::env::var("PODRUN_TEST_ONLY").map_or(true, |only| only == trial)
}

/// What one test does to its hosts, in a namespace of its own.
pub(crate) struct Trials {
    place: Place,
    cluster: Option<PathBuf>,
}

impl Trials {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            place: Place::new(name).unwrap(),
            cluster: variable("PODRUN_TEST_CLUSTER_DIR").ok(),
        }
    }

    /// A task that nothing has happened to yet, and the right to run it.
    pub(crate) async fn scenario(
        &self,
        id: &str,
        way: Way,
        ending: Ending,
    ) -> Result<(Scenario, SemaphorePermit<'static>)> {
        let slot = SLOTS.acquire().await?;
        Ok((Scenario::new(&self.place, id, way, ending).await?, slot))
    }

    /// One death and one more call. With the phase that the journal knew at the death, if there was one.
    pub(crate) async fn trial(&self, id: &str, way: Way, kill: Kill) -> Result<(Scenario, Option<String>)> {
        let ending = match kill {
            Kill::Stop(_) => Ending::Stopped,
            Kill::Barrier(_) | Kill::Request(_) | Kill::Phase(..) => Ending::Itself,
        };
        let (scenario, _slot) = self.scenario(id, way, ending).await?;
        let died = scenario.die(kill).await?;
        let phase = if died { scenario.phase()? } else { None };
        if kill == Kill::Stop(Moment::Done) {
            // What is to be judged is an end that no host saw.
            self.place.wait_for_end(&scenario.id)?;
        }
        scenario.go_on().await?;
        Ok((scenario, phase))
    }

    /// Every failure of the trials, what is left in the cluster, and what its audit log says.
    pub(crate) fn close(&self, results: Vec<Result<Scenario>>) {
        let (mut scenarios, mut failures) = (Vec::new(), Vec::new());
        for result in results {
            match result {
                Ok(scenario) => scenarios.push(scenario),
                Err(error) => failures.push(error),
            }
        }
        failures.extend(self.place.wait_until_empty(VANISH).err());
        match &self.cluster {
            Some(cluster) => {
                let audit = Audit::read(cluster, &self.place.namespace).unwrap();
                failures.extend(scenarios.iter().filter_map(|scenario| scenario.audit(&audit).err()));
            }
            None => skip("PODRUN_TEST_CLUSTER_DIR is not set, so the audit log is not looked at"),
        }
        let failures: Vec<String> = failures.iter().map(|error| format!("{error:#}")).collect();
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }
}
