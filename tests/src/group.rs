//! The tasks of one test: named alike, so that what they leave behind can be found.

use crate::{Cluster, Trial, cluster};

/// Makes the tasks of one test. [`Group::close`] asserts that none of them left a pod.
#[derive(Debug)]
pub struct Group {
    /// The cluster under test.
    pub cluster: &'static Cluster,
    name: String,
}

impl Group {
    /// `name` is unique among the tests of a process.
    pub async fn new(name: &str) -> Self {
        Self::on(cluster().await, name)
    }

    /// The same on another cluster.
    pub fn on(cluster: &'static Cluster, name: &str) -> Self {
        Self {
            cluster,
            name: format!("{name}-{}", cluster.suite),
        }
    }

    /// A task that no other test has.
    pub fn trial(&self, name: &str) -> Trial {
        Trial::new(self.cluster, format!("{}-{name}", self.name)).label("group", &self.name)
    }

    /// The label selector of this test's pods.
    pub fn selector(&self) -> String {
        format!("podrun.dev/group={}", self.name)
    }

    /// The end of a test: nothing may be left.
    pub async fn close(self) {
        self.gone().await;
    }

    /// Waits until every pod is gone; fails if one stays.
    pub async fn gone(&self) {
        let selector = self.selector();
        let wait = ["wait", "pods", "-A", "--for=delete", "--timeout=60s", "-l", &selector];
        let output = self.cluster.try_kubectl(&wait, "").await;
        assert!(
            output.status.success(),
            "pods were left behind: {}",
            self.cluster
                .kubectl(&["get", "pods", "-A", "-o", "wide", "-l", &selector])
                .await
        );
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.cluster.sweep(&self.selector());
        }
    }
}
