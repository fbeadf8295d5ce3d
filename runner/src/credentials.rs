//! Access to a private registry: from the option `credentials` to the pull secret of one pod. Pure, and never shown.

use crate::{contract::Error, inputs::hex, pod::LABEL_DOMAIN};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::{
    ByteString,
    api::core::v1::{LocalObjectReference, Pod, Secret},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeMap, fmt};

/// The name under which Docker Hub's credentials are looked for.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
/// The annotation of a pod that names its pull secret.
const PULL_SECRET: &str = "pull-secret";

/// Access to a private registry: a user name with a password, or `auth`.
#[derive(Clone, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Credentials {
    /// The registry, as images name it. Default: that of `containerImage`.
    registry: Option<String>,
    /// User name.
    username: Option<String>,
    /// Password or token.
    password: Option<String>,
    /// Base64 of `USERNAME:PASSWORD`, as Docker keeps it. Wins over the two.
    auth: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl Serialize for Credentials {
    /// Nothing that is written down holds a credential; the secret is made by hand.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl Credentials {
    /// Refuses what cannot be meant. No value is ever quoted.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let refuse =
            |field: &str, why: &str| Err(Error::InvalidArgument(format!("`options.credentials{field}` {why}")));
        if let Some(registry) = &self.registry
            && (registry.trim().is_empty() || registry.contains(char::is_whitespace))
        {
            return refuse(
                ".registry",
                "is not a registry: write HOST or HOST:PORT, as in the image's name",
            );
        }
        if let Some(auth) = &self.auth {
            let decoded = STANDARD.decode(auth.trim()).ok();
            if !decoded.is_some_and(|pair| pair.contains(&b':')) {
                return refuse(
                    ".auth",
                    "is not base64 of USERNAME:PASSWORD: copy it from Docker's config.json",
                );
            }
            return Ok(());
        }
        match (&self.username, &self.password) {
            (Some(name), _) if name.contains(':') => refuse(".username", "holds a colon, which no registry takes"),
            (Some(_), Some(_)) => Ok(()),
            (Some(_), None) => refuse(".password", "is missing: `username` needs it"),
            (None, Some(_)) => refuse(".username", "is missing: `password` needs it"),
            (None, None) => refuse("", "says nothing: set `username` and `password`, or `auth`"),
        }
    }

    /// The content of a pull secret for an image.
    fn docker_config(&self, image: &str) -> String {
        let registry = match self.registry.as_deref().unwrap_or_else(|| registry_of(image)) {
            "docker.io" | "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB,
            other => other,
        };
        let auth = match &self.auth {
            Some(auth) => auth.trim().to_owned(),
            None => {
                let (name, password) = (self.username.as_deref(), self.password.as_deref());
                STANDARD.encode(format!("{}:{}", name.unwrap_or_default(), password.unwrap_or_default()))
            }
        };
        serde_json::json!({"auths": {registry: {"auth": auth}}}).to_string()
    }

    /// The pull secret of a task's pod. With `owner`, the pod itself, it goes away when the pod does.
    pub(crate) fn secret(&self, name: &str, namespace: &str, image: &str, owner: Option<&Pod>) -> Secret {
        let owner = owner.map(|pod| {
            vec![OwnerReference {
                api_version: "v1".into(),
                kind: "Pod".into(),
                name: pod.metadata.name.clone().unwrap_or_default(),
                uid: pod.metadata.uid.clone().unwrap_or_default(),
                ..OwnerReference::default()
            }]
        });
        Secret {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(namespace.to_owned()),
                owner_references: owner,
                ..ObjectMeta::default()
            },
            type_: Some("kubernetes.io/dockerconfigjson".into()),
            data: Some(BTreeMap::from([(
                ".dockerconfigjson".to_owned(),
                ByteString(self.docker_config(image).into_bytes()),
            )])),
            ..Secret::default()
        }
    }
}

/// The registry that an image's name begins with.
fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

/// Has the pod name a pull secret of its own. The pod is made first, so that the secret can name it as its owner; `moment`
/// tells the pods apart that have the same name one after the other.
pub(crate) fn claim(pod: &mut Pod, moment: u128) {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let mark = hex(&Sha256::digest(moment.to_be_bytes()));
    let name = format!("{name}-{}", mark.get(..10).unwrap_or_default());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(format!("{LABEL_DOMAIN}/{PULL_SECRET}"), name.clone());
    if let Some(spec) = &mut pod.spec {
        let secrets = spec.image_pull_secrets.get_or_insert_default();
        secrets.push(LocalObjectReference { name });
    }
}

/// The name of a pod's pull secret, if it has one of its own.
pub(crate) fn claimed(pod: &Pod) -> Option<&str> {
    crate::pod::annotation(pod, PULL_SECRET)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn credentials(value: Value) -> Credentials {
        serde_json::from_value(value).unwrap()
    }

    fn auths(value: Value, image: &str) -> Value {
        let mut config: Value = serde_json::from_str(&credentials(value).docker_config(image)).unwrap();
        config["auths"].take()
    }

    #[test]
    fn the_registry_is_that_of_the_image_unless_it_is_named() {
        let user = json!({"username": "u", "password": "p:1"});
        let auth = json!({"auth": "dTpwOjE="});
        for (image, registry) in [
            ("busybox", DOCKER_HUB),
            ("team/tool:1", DOCKER_HUB),
            ("docker.io/team/tool", DOCKER_HUB),
            ("ghcr.io/team/tool", "ghcr.io"),
            ("localhost/tool", "localhost"),
            ("registry:5000/tool", "registry:5000"),
        ] {
            assert_eq!(auths(user.clone(), image), json!({registry: auth}), "{image}");
        }
        let named = json!({"registry": "example.com", "auth": " dTpwOjE=\n", "username": "no", "password": "no"});
        assert_eq!(auths(named, "busybox"), json!({"example.com": auth}));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_without_a_secret() {
        for (value, field) in [
            (json!({}), "`options.credentials`"),
            (json!({"username": "u"}), "`options.credentials.password`"),
            (json!({"password": "hunter2"}), "`options.credentials.username`"),
            (
                json!({"username": "u:v", "password": "hunter2"}),
                "`options.credentials.username`",
            ),
            (json!({"auth": "hunter2"}), "`options.credentials.auth`"),
            (json!({"auth": "aHVudGVyMg=="}), "`options.credentials.auth`"),
            (
                json!({"registry": " ", "auth": "dTpw"}),
                "`options.credentials.registry`",
            ),
        ] {
            let error = credentials(value.clone()).check().unwrap_err().to_string();
            assert!(error.contains(field), "{value}: {error}");
            assert!(!error.contains("hunter2") && !error.contains("aHVudGVyMg"), "{error}");
        }
        credentials(json!({"auth": "dTpw"})).check().unwrap();
        let shown = format!("{:?}", credentials(json!({"username": "u", "password": "hunter2"})));
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn the_secret_belongs_to_its_pod_and_each_pod_has_another_one() {
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "uid": "u"}, "spec": {"containers": [], "imagePullSecrets": [{"name": "theirs"}]},
        }))
        .unwrap();
        let mut later = pod.clone();
        claim(&mut pod, 1);
        claim(&mut later, 2);
        let name = claimed(&pod).unwrap();
        assert_ne!(Some(name), claimed(&later));
        let secrets = pod.spec.as_ref().unwrap().image_pull_secrets.as_ref().unwrap();
        assert_eq!(
            secrets.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(),
            ["theirs", name]
        );
        let secret = credentials(json!({"auth": "dTpw"})).secret(name, "n", "busybox", Some(&pod));
        let owner = &secret.metadata.owner_references.unwrap()[0];
        assert_eq!(
            (owner.kind.as_str(), owner.name.as_str(), owner.uid.as_str()),
            ("Pod", "p", "u")
        );
    }
}
