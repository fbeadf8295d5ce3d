//! Layers written from files: the same content gives the same bytes.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context, Result, bail};
use tar::{Builder, EntryType, Header};

/// A layer that is being written. Owners are root unless given, times are the epoch.
pub(crate) struct Layer {
    archive: Builder<BufWriter<File>>,
}

impl Layer {
    /// Starts a layer in the file `path`.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("failed to create `{}`", path.display()))?;
        Ok(Self {
            archive: Builder::new(BufWriter::new(file)),
        })
    }

    /// Adds a folder.
    pub(crate) fn folder(&mut self, path: &str, mode: u32) -> Result<()> {
        self.append(EntryType::Directory, path, mode, 0, io::empty())
    }

    /// Adds a file with this content.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.append(EntryType::Regular, path, mode, content.len() as u64, content)
    }

    /// Adds a symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: &str) -> Result<()> {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        let added = self.archive.append_link(&mut header, path, target);
        added.with_context(|| format!("failed to add `{path}` to a layer"))
    }

    /// Adds all that is in `source` below `path` (empty for the root), in the order of names. Owners are kept.
    pub(crate) fn tree(&mut self, source: &Path, path: &str) -> Result<()> {
        let entries = fs::read_dir(source).with_context(|| format!("failed to read `{}`", source.display()))?;
        let mut entries = entries.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
                bail!("`{}` has a name that is not UTF-8", entry.path().display());
            };
            let inner = if path.is_empty() {
                name
            } else {
                format!("{path}/{name}")
            };
            let metadata = entry.path().symlink_metadata()?;
            let mode = metadata.permissions().mode() & 0o7777;
            let (user, group) = (u64::from(metadata.uid()), u64::from(metadata.gid()));
            let owned = |mut header: Header| {
                header.set_uid(user);
                header.set_gid(group);
                header
            };
            if metadata.is_dir() {
                let mut header = owned(header(EntryType::Directory, mode, 0));
                self.archive.append_data(&mut header, &inner, io::empty())?;
                self.tree(&entry.path(), &inner)?;
            } else if metadata.is_symlink() {
                let target = fs::read_link(entry.path())?;
                let mut header = owned(header(EntryType::Symlink, 0o777, 0));
                self.archive.append_link(&mut header, &inner, target)?;
            } else if metadata.is_file() {
                let mut header = owned(header(EntryType::Regular, mode, metadata.len()));
                self.archive
                    .append_data(&mut header, &inner, File::open(entry.path())?)?;
            } else {
                bail!("`{}` is neither file, folder nor symbolic link", entry.path().display());
            }
        }
        Ok(())
    }

    /// Completes the layer.
    pub(crate) fn finish(self) -> Result<()> {
        self.archive.into_inner()?.flush().context("failed to write a layer")
    }

    fn append(&mut self, kind: EntryType, path: &str, mode: u32, size: u64, content: impl io::Read) -> Result<()> {
        let mut header = header(kind, mode, size);
        let added = self.archive.append_data(&mut header, path, content);
        added.with_context(|| format!("failed to add `{path}` to a layer"))
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_folder_gives_the_same_layer() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("root");
        fs::create_dir_all(source.join("bin")).unwrap();
        fs::write(source.join("bin/tool"), "x").unwrap();
        std::os::unix::fs::symlink("tool", source.join("bin/alias")).unwrap();
        let write = |name: &str| {
            let path = folder.path().join(name);
            let mut layer = Layer::create(&path).unwrap();
            layer.folder("tmp", 0o1777).unwrap();
            layer.tree(&source, "").unwrap();
            layer.finish().unwrap();
            fs::read(path).unwrap()
        };
        let first = write("one");
        // Touching a file changes its time and nothing else.
        fs::write(source.join("bin/tool"), "x").unwrap();
        assert_eq!(write("two"), first);
        let mut archive = tar::Archive::new(first.as_slice());
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["tmp", "bin", "bin/alias", "bin/tool"]);
    }
}
