//! Names of images, completed as container engines do. Pure.

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, Result, bail};

/// A registry, a repository in it, and a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    registry: String,
    repository: String,
    tag: String,
}

impl Reference {
    /// The part that a mirror of every registry knows it by.
    pub(crate) fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, `latest` unless given.
    pub(crate) fn tag(&self) -> &str {
        &self.tag
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (path, tag) = match text.rsplit_once(':') {
            // A colon before a slash belongs to a port.
            Some((path, tag)) if !tag.contains('/') => (path, tag),
            _ => (text, "latest"),
        };
        let (registry, repository) = match path.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest.to_owned()),
            Some(_) => ("docker.io", path.to_owned()),
            None => ("docker.io", format!("library/{path}")),
        };
        let valid = |text: &str, extra: &str| {
            !text.is_empty()
                && text
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || extra.contains(c))
        };
        let parts_are_valid = repository.split('/').all(|part| valid(part, "._-"));
        if text.contains('@') || !parts_are_valid || !valid(&tag.to_ascii_lowercase(), "._-") {
            bail!("`{text}` is not the name of an image: write [REGISTRY/]NAME[:TAG] in lower case");
        }
        Ok(Self {
            registry: registry.to_owned(),
            repository,
            tag: tag.to_owned(),
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.registry, self.repository, self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed() {
        for (given, whole) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1.37", "docker.io/library/busybox:1.37"),
            ("me/app", "docker.io/me/app:latest"),
            ("ghcr.io/kestra-io/pydata:latest", "ghcr.io/kestra-io/pydata:latest"),
            ("localhost:5000/a", "localhost:5000/a:latest"),
        ] {
            assert_eq!(given.parse::<Reference>().unwrap().to_string(), whole);
        }
    }

    #[test]
    fn names_that_no_registry_takes_are_refused() {
        for name in ["", "Busybox", "a//b", "a b", "a@sha256:0", "a:"] {
            assert!(name.parse::<Reference>().is_err(), "{name}");
        }
    }
}
