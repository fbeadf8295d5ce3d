//! Pushing to a cluster's registry over its HTTP interface.

use std::fs::File;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::{Response, StatusCode};

use super::reference::Reference;
use super::store::{Blob, digest_of};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// An image that is ready to be pushed: its layers are files, its configuration is in memory.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    config: Vec<u8>,
    layers: Vec<Blob>,
}

/// What containers of an image run unless told otherwise.
#[derive(Clone, Debug, Default)]
pub(crate) struct Defaults {
    /// The program and its first arguments.
    pub(crate) entrypoint: Vec<String>,
    /// Further arguments, or the whole command when there is no entrypoint.
    pub(crate) command: Vec<String>,
    /// The user, as a number or a name.
    pub(crate) user: String,
    /// Variables beside PATH, as `NAME=value`.
    pub(crate) environment: Vec<String>,
}

impl Image {
    /// Puts layers under a configuration. Layers are plain tar archives, so their digests are those of their content.
    pub(crate) fn new(layers: Vec<Blob>, defaults: &Defaults) -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let mut environment = vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()];
        environment.extend_from_slice(&defaults.environment);
        let digests: Vec<&str> = layers.iter().map(|layer| layer.digest.as_str()).collect();
        let mut config = json!({ "Env": environment, "User": defaults.user });
        for (field, words) in [("Entrypoint", &defaults.entrypoint), ("Cmd", &defaults.command)] {
            if !words.is_empty() {
                config[field] = json!(words);
            }
        }
        let document = json!({
            "architecture": architecture,
            "os": "linux",
            "config": config,
            "rootfs": { "type": "layers", "diff_ids": digests },
        });
        Self {
            config: document.to_string().into_bytes(),
            layers,
        }
    }

    /// Bytes of all layers.
    pub(crate) fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }

    fn manifest(&self) -> Vec<u8> {
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|layer| json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer.digest, "size": layer.size }))
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": digest_of(&self.config),
                "size": self.config.len(),
            },
            "layers": layers,
        });
        manifest.to_string().into_bytes()
    }
}

/// A registry on this machine.
#[derive(Debug)]
pub(crate) struct Registry {
    agent: Agent,
    port: u16,
}

impl Registry {
    /// The registry that listens on this port.
    pub(crate) fn on(port: u16) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(Duration::from_secs(120)));
        Self {
            agent: Agent::new_with_config(config.build()),
            port,
        }
    }

    /// Makes `image` known under every one of `names`; says whether anything had to be pushed.
    pub(crate) fn push(&self, image: &Image, names: &[Reference]) -> Result<bool> {
        let manifest = image.manifest();
        let digest = digest_of(&manifest);
        let mut pushed = false;
        let mut source = None;
        for name in names {
            if !self.has_manifest(name, &digest)? {
                self.push_one(image, &manifest, name, source)
                    .with_context(|| format!("failed to push `{name}`"))?;
                pushed = true;
            }
            source = Some(name.repository());
        }
        Ok(pushed)
    }

    fn push_one(&self, image: &Image, manifest: &[u8], name: &Reference, source: Option<&str>) -> Result<()> {
        for layer in &image.layers {
            let file = File::open(&layer.path).with_context(|| format!("failed to open `{}`", layer.path.display()))?;
            self.push_blob(name, &layer.digest, source, file)?;
        }
        self.push_blob(name, &digest_of(&image.config), source, image.config.as_slice())?;
        let address = self.address(&format!("{}/manifests/{}", name.repository(), name.tag()));
        let response = self
            .agent
            .put(&address)
            .header("Content-Type", MANIFEST)
            .send(manifest)?;
        expect(response, &[StatusCode::CREATED]).map(drop)
    }

    fn push_blob(
        &self,
        name: &Reference,
        digest: &str,
        source: Option<&str>,
        content: impl ureq::AsSendBody,
    ) -> Result<()> {
        let repository = name.repository();
        let present = self
            .agent
            .head(&self.address(&format!("{repository}/blobs/{digest}")))
            .call()?;
        if present.status() == StatusCode::OK {
            return Ok(());
        }
        // A repository that has the blob can lend it without a copy.
        let from = source
            .map(|source| format!("?mount={digest}&from={source}"))
            .unwrap_or_default();
        let response = self
            .agent
            .post(&self.address(&format!("{repository}/blobs/uploads/{from}")))
            .send_empty()?;
        let response = expect(response, &[StatusCode::CREATED, StatusCode::ACCEPTED])?;
        if response.status() == StatusCode::CREATED {
            return Ok(());
        }
        let place = response.headers().get("Location").and_then(|value| value.to_str().ok());
        let place = place.context("the registry named no place to upload to")?;
        let separator = if place.contains('?') { '&' } else { '?' };
        let request = self.agent.put(&format!("{place}{separator}digest={digest}"));
        expect(
            request
                .header("Content-Type", "application/octet-stream")
                .send(content)?,
            &[StatusCode::CREATED],
        )
        .map(drop)
    }

    fn has_manifest(&self, name: &Reference, digest: &str) -> Result<bool> {
        let address = self.address(&format!("{}/manifests/{}", name.repository(), name.tag()));
        let response = self.agent.head(&address).header("Accept", MANIFEST).call();
        let response = response.with_context(|| format!("the registry on port {} does not answer", self.port))?;
        Ok(response
            .headers()
            .get("Docker-Content-Digest")
            .is_some_and(|known| known == digest))
    }

    fn address(&self, below: &str) -> String {
        format!("http://127.0.0.1:{}/v2/{below}", self.port)
    }
}

fn expect(mut response: Response<ureq::Body>, wanted: &[StatusCode]) -> Result<Response<ureq::Body>> {
    if !wanted.contains(&response.status()) {
        let reason = response.body_mut().read_to_string().unwrap_or_default();
        bail!("the registry answered {}: {}", response.status(), reason.trim());
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_what_containers_run() {
        let layer = Blob {
            digest: "sha256:aa".to_owned(),
            size: 3,
            path: "/nowhere".into(),
        };
        let defaults = Defaults {
            entrypoint: vec!["/hello".to_owned()],
            user: "1000".to_owned(),
            ..Defaults::default()
        };
        let image = Image::new(vec![layer], &defaults);
        let config: Value = serde_json::from_slice(&image.config).unwrap();
        assert_eq!(config["config"]["Entrypoint"], json!(["/hello"]));
        assert_eq!(config["config"]["User"], "1000");
        assert_eq!(config["config"].get("Cmd"), None);
        assert_eq!(config["rootfs"]["diff_ids"], json!(["sha256:aa"]));
        let manifest: Value = serde_json::from_slice(&image.manifest()).unwrap();
        assert_eq!(manifest["config"]["digest"], digest_of(&image.config));
        assert_eq!(manifest["layers"][0]["size"], 3);
    }
}
