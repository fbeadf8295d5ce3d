//! The containers that move files, `init-files` and `out-files`. Pure.

use super::{
    FILES, HELPER, INIT,
    manifest::{escape, mount, requirements},
};
use crate::{
    inputs::hex,
    merge::over,
    options::{Medium, Options, bytes},
};
use base64::Engine as _;
use k8s_openapi::{
    DeepMerge as _,
    api::core::v1::{Capabilities, Container, PodSpec, ResourceRequirements, SeccompProfile, SecurityContext},
    apimachinery::pkg::api::resource::Quantity,
};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

const CHUNK: usize = 96 * 1024;
const PROBE_SCRIPT: &str = include_str!("../scripts/probe.sh");
const INLINE_SCRIPT: &str = include_str!("../scripts/inline.sh");
const WAIT_SCRIPT: &str = include_str!("../scripts/wait.sh");
pub(super) const KEEP_SCRIPT: &str = include_str!("../scripts/keep.sh");

/// What the containers that move files have in common.
pub(super) struct Helper {
    base: Container,
}

impl Helper {
    /// What the author says of them, and where he says nothing what they need.
    pub(super) fn new(options: &Options, pod: &PodSpec) -> Self {
        let default = options.container_default_spec.clone().unwrap_or_default();
        let own = options.file_sidecar.default_spec.clone().unwrap_or_default();
        let mut base = over(default, own);
        let resources = base.resources.get_or_insert_default();
        resources.merge_from(requirements(&options.file_sidecar.resources));
        ask_for_little(resources, limit(options));
        base.image = Some(options.file_sidecar.image.clone());
        base.termination_message_policy
            .get_or_insert_with(|| "FallbackToLogsOnError".into());
        confine(base.security_context.get_or_insert_default(), pod);
        Self { base }
    }

    /// One of them.
    pub(super) fn container(&self, name: &str, script: &str, arguments: &[&str]) -> Container {
        let mut command = vec!["sh", "-c", script, "podrun"];
        command.extend(arguments);
        let own = Container {
            name: name.to_owned(),
            command: Some(command.into_iter().map(escape).collect()),
            volume_mounts: Some(vec![
                mount(FILES, "/podrun", None),
                mount(HELPER, "/podrun-helper", None),
            ]),
            ..Container::default()
        };
        over(self.base.clone(), own)
    }

    /// The one that brings input files: those that it holds itself, or those that it waits for, at most so many seconds.
    pub(super) fn init(&self, inline: Option<&[u8]>, patience: &str) -> Container {
        let Some(pack) = inline else {
            return self.container(INIT, &format!("{PROBE_SCRIPT}{WAIT_SCRIPT}"), &[patience]);
        };
        let sum = hex(&Sha256::digest(pack));
        let text = base64::engine::general_purpose::STANDARD.encode(pack);
        let mut arguments = vec![sum.as_str()];
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (chunk, more) = rest.split_at(rest.len().min(CHUNK));
            arguments.push(chunk);
            rest = more;
        }
        self.container(INIT, &format!("{PROBE_SCRIPT}{INLINE_SCRIPT}"), &arguments)
    }
}

/// The memory that a helper may need, if that can be told.
fn limit(options: &Options) -> Option<String> {
    // What a helper writes into a volume in memory counts as the helper's own.
    let volume = if options.volume.medium == Medium::Memory {
        options.size_limit().and_then(bytes)
    } else {
        Some(0.0)
    };
    volume.map(|b| format!("{}Mi", (b / 1_048_576.0).ceil() as u64 + 128))
}

/// Requests and a limit where the author gives none, as far as they fit what he gives.
fn ask_for_little(resources: &mut ResourceRequirements, memory: Option<String>) {
    let fits = |request: Option<&Quantity>, limit: Option<&Quantity>| match (request, limit) {
        (Some(request), Some(limit)) => bytes(&request.0) <= bytes(&limit.0),
        _ => true,
    };
    let ResourceRequirements { requests, limits, .. } = resources;
    if let Some(memory) = memory.map(Quantity) {
        let limits = limits.get_or_insert_with(BTreeMap::new);
        if !limits.contains_key("memory") && fits(requests.as_ref().and_then(|r| r.get("memory")), Some(&memory)) {
            limits.insert("memory".into(), memory);
        }
    }
    let requests = requests.get_or_insert_with(BTreeMap::new);
    for (name, quantity) in [("cpu", "10m"), ("memory", "16Mi")] {
        let quantity = Quantity(quantity.to_owned());
        if !requests.contains_key(name) && fits(Some(&quantity), limits.as_ref().and_then(|l| l.get(name))) {
            requests.insert(name.to_owned(), quantity);
        }
    }
    if limits.as_ref().is_some_and(BTreeMap::is_empty) {
        *limits = None;
    }
}

/// As few rights as moving files takes, where the author says nothing.
fn confine(context: &mut SecurityContext, pod: &PodSpec) {
    let of_pod = pod.security_context.as_ref();
    if context.privileged != Some(true) {
        context.allow_privilege_escalation.get_or_insert(false);
    }
    if context.seccomp_profile.is_none() && of_pod.is_none_or(|c| c.seccomp_profile.is_none()) {
        context.seccomp_profile = Some(SeccompProfile {
            type_: "RuntimeDefault".into(),
            localhost_profile: None,
        });
    }
    if context.capabilities.is_none() {
        let user = context.run_as_user.or(of_pod.and_then(|c| c.run_as_user));
        let not_root = context.run_as_non_root.or(of_pod.and_then(|c| c.run_as_non_root));
        let root = user.unwrap_or(0) == 0 && not_root != Some(true);
        context.capabilities = Some(Capabilities {
            drop: Some(vec!["ALL".into()]),
            // Root without these could not read a file that another user keeps for himself, or make one writable for all.
            add: root.then(|| vec!["DAC_OVERRIDE".into(), "FOWNER".into()]),
        });
    }
}
