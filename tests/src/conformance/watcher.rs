//! Every version of the cluster's objects of one kind, as `kubectl get --watch` tells them.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Deserializer, Value};

use crate::faults::variable;

/// An object that was there while it was watched.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its last version.
    pub last: Value,
    /// Whether it is gone.
    pub gone: bool,
    /// In which order it appeared.
    pub(super) number: usize,
}

impl Seen {
    /// Whether it is there and nobody deletes it.
    pub fn stays(&self) -> bool {
        !self.gone && self.last["metadata"]["deletionTimestamp"].is_null()
    }
}

/// Objects by uid.
#[derive(Debug, Default)]
struct Known {
    objects: BTreeMap<String, Seen>,
    /// Why nothing more is seen.
    ended: Option<String>,
}

/// Watches the objects of one kind in all namespaces until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    child: Child,
    known: Arc<(Mutex<Known>, Condvar)>,
}

impl Watcher {
    /// Watches, as the administrator that `kubeconfig` names.
    pub(super) fn new(kubeconfig: &Path, kind: &str) -> Result<Self> {
        let program = variable("PODRUN_KUBECTL").unwrap_or_else(|_| "kubectl".into());
        let mut child = Command::new(&program)
            .env("KUBECONFIG", kubeconfig)
            .args([
                "get",
                kind,
                "--all-namespaces",
                "--watch",
                "--output-watch-events",
                "-o",
                "json",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("failed to start `{}`", program.display()))?;
        let out = child.stdout.take().context("kubectl has no output")?;
        let known = Arc::new((Mutex::new(Known::default()), Condvar::new()));
        let writer = known.clone();
        std::thread::spawn(move || {
            let mut why = "kubectl ended".to_owned();
            for event in Deserializer::from_reader(BufReader::new(out)).into_iter::<Value>() {
                match event {
                    Ok(event) => {
                        writer.0.lock().unwrap().take(event);
                        writer.1.notify_all();
                    }
                    Err(error) => {
                        why = error.to_string();
                        break;
                    }
                }
            }
            writer.0.lock().unwrap().ended = Some(why);
            writer.1.notify_all();
        });
        Ok(Self { child, known })
    }

    /// The objects that `is_it` picks, the oldest first.
    pub fn seen(&self, is_it: impl Fn(&Value) -> bool) -> Vec<Seen> {
        self.known.0.lock().unwrap().seen(&is_it)
    }

    /// Waits until the objects that `is_it` picks are as `enough` says.
    ///
    /// # Errors
    /// When they are not within `patience`, or nothing is seen any more.
    pub fn wait(
        &self,
        patience: Duration,
        is_it: impl Fn(&Value) -> bool,
        enough: impl Fn(&[Seen]) -> bool,
    ) -> Result<Vec<Seen>> {
        let (known, changed) = &*self.known;
        let waiting = |known: &mut Known| known.ended.is_none() && !enough(&known.seen(&is_it));
        let (known, waited) = changed
            .wait_timeout_while(known.lock().unwrap(), patience, waiting)
            .unwrap();
        let seen = known.seen(&is_it);
        if let Some(why) = &known.ended {
            bail!("the watch of the cluster broke off: {why}");
        }
        if waited.timed_out() {
            let names: Vec<&Value> = seen
                .iter()
                .filter(|one| !one.gone)
                .map(|one| &one.last["metadata"]["name"])
                .collect();
            bail!("still there after {} s: {names:?}", patience.as_secs());
        }
        Ok(seen)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // It is only a reader: that it ended by itself does not matter any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Known {
    fn take(&mut self, mut event: Value) {
        let object = event["object"].take();
        let Some(uid) = object["metadata"]["uid"].as_str().map(str::to_owned) else {
            return;
        };
        let number = self.objects.len();
        let gone = event["type"] == "DELETED";
        let known = self.objects.entry(uid).or_insert_with(|| Seen {
            last: Value::Null,
            gone,
            number,
        });
        known.last = object;
        known.gone = gone;
    }

    fn seen(&self, is_it: &impl Fn(&Value) -> bool) -> Vec<Seen> {
        let mut seen: Vec<Seen> = self.objects.values().filter(|one| is_it(&one.last)).cloned().collect();
        seen.sort_by_key(|one| one.number);
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_version_of_an_object_stays_when_it_is_gone() {
        let mut known = Known::default();
        let event =
            |kind: &str, uid: &str, value: u8| json!({"type": kind, "object": {"metadata": {"uid": uid}, "v": value}});
        for one in [
            event("ADDED", "b", 1),
            event("ADDED", "a", 2),
            event("MODIFIED", "b", 3),
            event("DELETED", "b", 4),
        ] {
            known.take(one);
        }
        let seen = known.seen(&|_| true);
        let values: Vec<(u64, bool)> = seen
            .iter()
            .map(|one| (one.last["v"].as_u64().unwrap(), one.gone))
            .collect();
        assert_eq!(values, [(4, true), (2, false)]);
    }
}
