//! Compiled components on disk.
//!
//! One file per component and engine: `<SHA-256 of the component>-<engine>.<SHA-256 of the file>.cwasm`. A name that
//! carries the checksum of its content cannot be half written: a file that is cut short or damaged is found out, removed
//! and compiled again. Files are written under another name and renamed, so that two processes may fill one cache.
//!
//! The files that were used last are kept; others, of versions that nobody loads any more, go when one is added.
//!
//! Compiled code is trusted like a program, so the folder must be its user's own. It is created with mode 0700; one
//! that somebody else owns or may write to is refused.

use std::fs::{self, DirBuilder, File, Metadata};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::Error;

/// A folder of compiled components.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// Opens the folder, creating it if it is missing.
    pub(crate) fn open(folder: &Path) -> Result<Self, Error> {
        let unusable = |reason: String| Error::Folder {
            path: folder.to_owned(),
            reason,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| unusable(error.to_string()))?;
        let folder = folder.canonicalize().map_err(|error| unusable(error.to_string()))?;
        let about = fs::metadata(&folder).map_err(|error| unusable(error.to_string()))?;
        private(&about).map_err(|why| {
            unusable(format!(
                "{why}, and compiled code is trusted like a program; use a folder of your own, mode 0700"
            ))
        })?;
        Ok(Self { folder })
    }

    /// The component `wasm`, from the cache if it is there, compiled and put there otherwise.
    pub(crate) fn component(&self, engine: &Engine, wasm: &[u8]) -> wasmtime::Result<Component> {
        let stem = stem(engine, wasm);
        if let Some(component) = self.find(engine, &stem) {
            return Ok(component);
        }
        let compiled = engine.precompile_component(wasm)?;
        match self.store(&stem, &compiled) {
            Ok(path) => match load(engine, &path) {
                Ok(component) => return Ok(component),
                Err(why) => tracing::warn!("compiled component `{}` cannot be used: {why}", path.display()),
            },
            // A full disk makes the next load slow, not this one impossible.
            Err(error) => tracing::warn!(
                "failed to store a compiled component in `{}`: {error}",
                self.folder.display()
            ),
        }
        Component::new(engine, wasm)
    }

    fn find(&self, engine: &Engine, stem: &str) -> Option<Component> {
        for entry in fs::read_dir(&self.folder).ok()?.flatten() {
            let name = entry.file_name();
            let ours = name
                .to_str()
                .and_then(|name| name.strip_prefix(stem))
                .is_some_and(|rest| rest.ends_with(SUFFIX));
            if !ours {
                continue;
            }
            match load(engine, &entry.path()) {
                Ok(component) => {
                    // If this fails, the file merely counts as unused.
                    let _ = File::open(entry.path()).and_then(|file| file.set_modified(SystemTime::now()));
                    return Some(component);
                }
                Err(why) => {
                    tracing::warn!(
                        "compiled component `{}` is compiled again: {why}",
                        entry.path().display()
                    );
                    // If it stays, the next load finds out again.
                    let _ = fs::remove_file(entry.path());
                }
            }
        }
        None
    }

    fn store(&self, stem: &str, compiled: &[u8]) -> io::Result<PathBuf> {
        let path = self
            .folder
            .join(format!("{stem}{}{SUFFIX}", hex(&Sha256::digest(compiled))));
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(compiled)?;
        file.persist(&path)?;
        self.trim();
        Ok(path)
    }

    /// Removes all but the files that were used last. One that a process has mapped lives on until it is unmapped.
    fn trim(&self) {
        let used = |entry: fs::DirEntry| {
            let path = entry.path();
            let ours = path.extension().is_some_and(|extension| extension == &SUFFIX[1..]);
            ours.then_some((entry.metadata().ok()?.modified().ok()?, path))
        };
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut files: Vec<_> = entries.filter_map(used).collect();
        files.sort_unstable_by(|one, other| other.cmp(one));
        for (_, path) in files.iter().skip(KEPT) {
            // If it stays, the next one that is added tries again.
            let _ = fs::remove_file(path);
        }
    }
}

const SUFFIX: &str = ".cwasm";

/// How many compiled components are kept. Each takes more than twice the room of the component itself.
const KEPT: usize = 8;

/// What comes before the checksum in a compiled component's name.
fn stem(engine: &Engine, wasm: &[u8]) -> String {
    let engine = BuildHasherDefault::<DefaultHasher>::new().hash_one(engine.precompile_compatibility_hash());
    format!("{}-{engine:016x}.", hex(&Sha256::digest(wasm)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Says who else could have written what this describes.
fn private(about: &Metadata) -> Result<(), String> {
    if about.uid() != rustix::process::geteuid().as_raw() {
        Err(format!("user {} owns it", about.uid()))
    } else if about.mode() & 0o022 != 0 {
        Err(format!(
            "its mode {:04o} lets others write to it",
            about.mode() & 0o7777
        ))
    } else {
        Ok(())
    }
}

fn load(engine: &Engine, path: &Path) -> Result<Component, String> {
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    private(&file.metadata().map_err(|error| error.to_string())?)?;
    let mut checksum = Sha256::new();
    io::copy(&mut file, &mut checksum).map_err(|error| error.to_string())?;
    let named = path
        .file_stem()
        .and_then(|name| name.to_str())
        .and_then(|name| name.rsplit_once('.'));
    if named.is_none_or(|(_, named)| named != hex(&checksum.finalize())) {
        return Err("it is damaged".to_owned());
    }
    deserialize(engine, path).map_err(|error| error.to_string())
}

#[expect(unsafe_code, reason = "compiled code can only be trusted, not checked")]
fn deserialize(engine: &Engine, path: &Path) -> wasmtime::Result<Component> {
    // SAFETY: the file must hold what this engine's compiler wrote. Its name says so, its content has the checksum in
    // its name, and both it and its folder belong to this user and are writable by nobody else, so that whoever could
    // have put something else there could as well have replaced this program. It is never written to again under this
    // name: files arrive by rename and leave by unlink, which leaves a mapped file as it is.
    unsafe { Component::deserialize_file(engine, path) }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A component without content, and one that differs from it by a custom section.
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";
    const OTHER: &[u8] = b"\0asm\x0d\0\x01\0\0\x02\x01x";

    /// A cache that holds [`EMPTY`] in one file.
    fn filled() -> (tempfile::TempDir, Cache, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        cache.component(&Engine::default(), EMPTY).unwrap();
        let [file] = files(&cache).try_into().unwrap();
        (folder, cache, file)
    }

    fn files(cache: &Cache) -> Vec<PathBuf> {
        fs::read_dir(&cache.folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    }

    #[test]
    fn what_was_compiled_is_found() {
        let (_folder, cache, file) = filled();
        let engine = Engine::default();
        assert!(cache.find(&engine, &stem(&engine, EMPTY)).is_some());
        assert!(cache.find(&engine, &stem(&engine, OTHER)).is_none());
        let written = fs::metadata(&file).unwrap().ino();
        cache.component(&engine, EMPTY).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().ino(), written, "it was compiled again");
        cache.component(&engine, OTHER).unwrap();
        assert_eq!(files(&cache).len(), 2);
    }

    #[test]
    fn those_used_last_are_kept() {
        let (_folder, cache, first) = filled();
        let long_ago = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1);
        let age = |file: &Path| File::open(file).unwrap().set_modified(long_ago).unwrap();
        age(&first);
        cache.component(&Engine::default(), OTHER).unwrap();
        let [second] = files(&cache)
            .into_iter()
            .filter(|file| *file != first)
            .collect::<Vec<_>>()
            .try_into()
            .unwrap();
        age(&second);
        let foreign = cache.folder.join("foreign");
        fs::write(&foreign, "").unwrap();
        // It is used again, the other one is not.
        cache.component(&Engine::default(), EMPTY).unwrap();
        for number in 1..KEPT {
            cache.store(&format!("{number}."), b"later").unwrap();
        }
        let left = files(&cache);
        assert!(left.contains(&first) && left.contains(&foreign), "{left:?}");
        assert!(!left.contains(&second), "{left:?}");
        assert_eq!(left.len(), KEPT + 1);
    }

    #[test]
    fn engine_with_other_settings_has_files_of_its_own() {
        let (_folder, cache, _) = filled();
        let engine = Engine::new(wasmtime::Config::new().epoch_interruption(true)).unwrap();
        cache.component(&engine, EMPTY).unwrap();
        assert_eq!(files(&cache).len(), 2);
    }

    #[test]
    fn damaged_file_is_compiled_again() {
        let (_folder, cache, file) = filled();
        let good = fs::read(&file).unwrap();
        let mut flipped = good.clone();
        flipped[good.len() / 2] ^= 1;
        for bad in [&[][..], &good[..good.len() / 2], &good[..good.len() - 1], &flipped] {
            fs::write(&file, bad).unwrap();
            assert!(load(&Engine::default(), &file).is_err());
            cache.component(&Engine::default(), EMPTY).unwrap();
            assert_eq!(files(&cache), std::slice::from_ref(&file));
            assert!(
                fs::read(&file).unwrap() == good,
                "a file of {} bytes was kept",
                bad.len()
            );
        }
    }

    #[test]
    fn file_that_others_may_write_is_compiled_again() {
        let (_folder, cache, file) = filled();
        fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
        cache.component(&Engine::default(), EMPTY).unwrap();
        let mode = fs::metadata(&file).unwrap().mode();
        assert_eq!(mode & 0o022, 0, "{mode:o}");
    }

    #[test]
    fn cache_that_cannot_be_written_is_done_without() {
        let (folder, cache, _) = filled();
        folder.close().unwrap();
        cache.component(&Engine::default(), EMPTY).unwrap();
    }
}
