//! Strategic merge of containers, as Kubernetes does it: maps deeply, lists by their keys, other lists replaced. Pure.
//!
//! The types bring the merge with them; what is added here is that an entry of `env` or `volumeMounts` replaces the one of
//! the same key instead of being mixed with it: a variable has one source.

use k8s_openapi::{DeepMerge as _, api::core::v1::Container};

/// A container with `over` laid over it: what `over` says wins, and its list entries come last.
pub(crate) fn over(mut base: Container, over: Container) -> Container {
    retain(&mut base.env, over.env.as_deref(), |a, b| a.name == b.name);
    retain(&mut base.volume_mounts, over.volume_mounts.as_deref(), |a, b| {
        a.mount_path == b.mount_path
    });
    base.merge_from(over);
    base
}

/// Drops what `over` has anew.
fn retain<T>(base: &mut Option<Vec<T>>, over: Option<&[T]>, same: fn(&T, &T) -> bool) {
    if let Some(base) = base {
        base.retain(|old| !over.unwrap_or_default().iter().any(|new| same(old, new)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn merged(base: Value, top: Value) -> Value {
        let read = |value| serde_json::from_value(value).unwrap();
        serde_json::to_value(over(read(base), read(top))).unwrap()
    }

    #[test]
    fn maps_are_merged_and_lists_by_their_keys() {
        let result = merged(
            json!({
                "name": "", "securityContext": {"runAsUser": 1, "capabilities": {"drop": ["ALL"], "add": ["CHOWN"]}},
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
                "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}, {"name": "B", "value": "b"}],
                "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": true}, {"name": "w", "mountPath": "/w"}],
                "envFrom": [{"prefix": "old"}],
            }),
            json!({
                "name": "main", "securityContext": {"runAsNonRoot": true, "capabilities": {"add": ["KILL"]}},
                "resources": {"limits": {"memory": "2Gi", "nvidia.com/gpu": "1"}},
                "env": [{"name": "C", "value": "c"}, {"name": "A", "value": "a"}],
                "volumeMounts": [{"name": "u", "mountPath": "/v"}],
                "envFrom": [{"prefix": "new"}],
            }),
        );
        assert_eq!(
            result,
            json!({
                "name": "main",
                "securityContext": {"runAsUser": 1, "runAsNonRoot": true, "capabilities": {"drop": ["ALL"], "add": ["KILL"]}},
                "resources": {"limits": {"cpu": "1", "memory": "2Gi", "nvidia.com/gpu": "1"}},
                "env": [{"name": "B", "value": "b"}, {"name": "C", "value": "c"}, {"name": "A", "value": "a"}],
                "volumeMounts": [{"name": "w", "mountPath": "/w"}, {"name": "u", "mountPath": "/v"}],
                "envFrom": [{"prefix": "new"}],
            })
        );
    }

    #[test]
    fn what_one_side_lacks_the_other_gives() {
        assert_eq!(
            merged(json!({"name": "a", "tty": true}), json!({"name": "a"})),
            json!({"name": "a", "tty": true})
        );
        assert_eq!(
            merged(json!({"name": "a"}), json!({"name": "a", "env": [{"name": "A"}]})),
            json!({"name": "a", "env": [{"name": "A"}]})
        );
    }
}
