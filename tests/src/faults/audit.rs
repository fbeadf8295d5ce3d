//! The API server's audit log: which pods were ever created, and how they were deleted.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// A pod that the API server accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// The execution that it belongs to.
    pub execution: String,
    /// Its name.
    pub pod: String,
    /// RFC 3339: when the request came.
    pub time: String,
}

/// A deletion that somebody outside of the cluster asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// The pod's name.
    pub pod: String,
    /// The UID that the deletion was bound to.
    pub uid: Option<String>,
    /// The answer.
    pub code: u64,
    /// RFC 3339: when the request came.
    pub time: String,
}

/// What happened to the pods of one namespace.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// In the order of their answers.
    pub created: Vec<Created>,
    /// In the order of their answers.
    pub deleted: Vec<Deleted>,
}

impl Audit {
    /// Reads the log in `cluster`, the folder of a cluster of `cargo xtask cluster up`.
    pub fn read(cluster: &Path, namespace: &str) -> Result<Self> {
        let path = cluster.join("audit.log");
        let file = File::open(&path).with_context(|| format!("failed to open `{}`", path.display()))?;
        let mut audit = Self::default();
        for line in BufReader::new(file).lines() {
            let line = line?;
            // Most lines are of no interest, and parsing is what takes time.
            if line.contains(namespace) && line.contains("\"pods\"") {
                // The last line may be half written.
                if let Ok(event) = serde_json::from_str(&line) {
                    audit.take(&event, namespace);
                }
            }
        }
        Ok(audit)
    }

    fn take(&mut self, event: &Value, namespace: &str) {
        let object = &event["objectRef"];
        let whole = object["resource"] == "pods" && object["subresource"].is_null();
        if !whole || object["namespace"] != namespace || event["stage"] != "ResponseComplete" {
            return;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let code = event["responseStatus"]["code"].as_u64().unwrap_or_default();
        let time = text(&event["requestReceivedTimestamp"]);
        let pod = text(&object["name"]);
        // Kubelets and controllers finish deletions; only who asked for them matters.
        let outside = !text(&event["user"]["username"]).starts_with("system:")
            || text(&event["user"]["username"]).starts_with("system:serviceaccount:default:");
        match event["verb"].as_str() {
            Some("create") if code == 201 => self.created.push(Created {
                execution: text(&event["requestObject"]["metadata"]["labels"]["podrun.dev/execution"]),
                pod,
                time,
            }),
            Some("delete") if outside => self.deleted.push(Deleted {
                pod,
                uid: event["requestObject"]["preconditions"]["uid"]
                    .as_str()
                    .map(str::to_owned),
                code,
                time,
            }),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_pods_that_were_accepted_count() {
        let event = |code: u64| {
            json!({
                "stage": "ResponseComplete", "verb": "create", "user": {"username": "system:serviceaccount:default:task-runner"},
                "objectRef": {"resource": "pods", "namespace": "n", "name": "p"},
                "responseStatus": {"code": code}, "requestReceivedTimestamp": "t",
                "requestObject": {"metadata": {"labels": {"podrun.dev/execution": "x"}}},
            })
        };
        let mut audit = Audit::default();
        for code in [409, 201, 403] {
            audit.take(&event(code), "n");
        }
        audit.take(&event(201), "other");
        let pods: Vec<&str> = audit.created.iter().map(|created| created.pod.as_str()).collect();
        assert_eq!(pods, ["p"]);
        assert_eq!(audit.created[0].execution, "x");
    }

    #[test]
    fn deletions_of_the_cluster_itself_do_not_count() {
        let event = |user: &str, uid: Option<&str>| {
            json!({
                "stage": "ResponseComplete", "verb": "delete", "user": {"username": user},
                "objectRef": {"resource": "pods", "namespace": "n", "name": "p"},
                "responseStatus": {"code": 200}, "requestObject": {"preconditions": {"uid": uid}},
            })
        };
        let mut audit = Audit::default();
        audit.take(&event("system:node:dev", Some("u")), "n");
        audit.take(&event("system:serviceaccount:default:task-runner", None), "n");
        audit.take(&event("podrun-admin", Some("u")), "n");
        let uids: Vec<Option<&str>> = audit.deleted.iter().map(|deleted| deleted.uid.as_deref()).collect();
        assert_eq!(uids, [None, Some("u")]);
    }
}
