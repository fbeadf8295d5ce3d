//! Layers in the cache: one file per digest, and which of them a recipe made.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest as _, Sha256};

use crate::places;

/// A file that a registry knows by its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blob {
    /// `sha256:` and the hexadecimal digest.
    pub(crate) digest: String,
    /// Its length in bytes.
    pub(crate) size: u64,
    /// Where it lies.
    pub(crate) path: PathBuf,
}

/// The cache's folder for images.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens the store, making its folders.
    pub(crate) fn open() -> Result<Self> {
        Self::at(&places::cache()?.join("images"))
    }

    fn at(root: &Path) -> Result<Self> {
        for folder in ["blobs", "recipes"] {
            let folder = root.join(folder);
            fs::create_dir_all(&folder).with_context(|| format!("failed to create `{}`", folder.display()))?;
        }
        Ok(Self { root: root.to_owned() })
    }

    /// Where tools may write what they do.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.root.join(format!("{name}.log"))
    }

    /// The layer that the recipe `recipe` makes; `build` writes it to the path it is given unless it is there already. Two
    /// callers do not build at once.
    pub(crate) fn made(&self, recipe: &str, build: impl FnOnce(&Path) -> Result<()>) -> Result<Blob> {
        let lock = File::create(self.root.join(".lock"))?;
        lock.lock().context("failed to lock the cache of images")?;
        let note = self.root.join("recipes").join(hex(&Sha256::digest(recipe)));
        if let Some(blob) = fs::read_to_string(&note).ok().and_then(|digest| self.blob(&digest)) {
            return Ok(blob);
        }
        let blob = self.add(build)?;
        fs::write(&note, &blob.digest).with_context(|| format!("failed to write `{}`", note.display()))?;
        Ok(blob)
    }

    /// Takes in what `build` writes.
    pub(crate) fn add(&self, build: impl FnOnce(&Path) -> Result<()>) -> Result<Blob> {
        let folder = tempfile::Builder::new().prefix(".new-").tempdir_in(&self.root)?;
        let draft = folder.path().join("blob");
        build(&draft)?;
        let (digest, size) = digest(&draft).with_context(|| format!("failed to read `{}`", draft.display()))?;
        let path = self.path(&digest);
        fs::rename(&draft, &path).with_context(|| format!("failed to write `{}`", path.display()))?;
        Ok(Blob { digest, size, path })
    }

    fn blob(&self, digest: &str) -> Option<Blob> {
        let path = self.path(digest);
        let size = path.metadata().ok()?.len();
        Some(Blob {
            digest: digest.to_owned(),
            size,
            path,
        })
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.root.join("blobs").join(digest.trim_start_matches("sha256:"))
    }
}

/// The digest of bytes as registries write it.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

fn digest(path: &Path) -> io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let read = file.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        hash.update(bytes);
        size += bytes.len() as u64;
    }
    Ok((format!("sha256:{}", hex(&hash.finalize())), size))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_is_followed_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path()).unwrap();
        let write = |text: &'static str| move |path: &Path| Ok(fs::write(path, text)?);
        let first = store.made("soup", write("abc")).unwrap();
        assert_eq!(
            first.digest,
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(store.made("soup", |_| panic!("made twice")).unwrap(), first);
        // Somebody emptied the cache behind its back.
        fs::remove_file(&first.path).unwrap();
        assert_eq!(store.made("soup", write("abc")).unwrap(), first);
    }

    #[test]
    fn a_failed_build_leaves_nothing_to_be_taken_for_a_layer() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path()).unwrap();
        assert!(store.made("soup", |_| anyhow::bail!("burnt")).is_err());
        assert_eq!(store.made("soup", |path| Ok(fs::write(path, "ok")?)).unwrap().size, 2);
    }
}
