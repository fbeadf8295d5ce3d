//! The folder of compiled components: filled once, and refused when it is not private. What happens to damaged files is
//! tested beside the code.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use podrun_host::{Error, Host, Options};
use tempfile::TempDir;

use crate::guest::component;

fn host(folder: &Path) -> Result<Host, Error> {
    Host::new(Options {
        cache_dir: Some(folder.to_owned()),
        ..Options::default()
    })
}

/// Loads the guest and makes sure that it works.
async fn load(folder: &Path) {
    let runner = host(folder).unwrap().load(component()).await.unwrap();
    assert_eq!(runner.describe().await.unwrap().name, "test");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect()
}

#[tokio::test]
async fn compiled_once_and_found_again() {
    let parent = TempDir::new().unwrap();
    let folder = parent.path().join("new/compiled");
    load(&folder).await;
    let [file] = files(&folder).try_into().unwrap();
    assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
    let written = fs::metadata(&file).unwrap().ino();
    load(&folder).await;
    assert_eq!(files(&folder), std::slice::from_ref(&file));
    assert_eq!(fs::metadata(&file).unwrap().ino(), written, "it was compiled again");
}

#[test]
fn folder_of_others_is_refused_with_the_cure() {
    let folder = TempDir::new().unwrap();
    for mode in [0o770, 0o707, 0o1777] {
        fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
        let error = host(folder.path()).unwrap_err();
        assert!(matches!(error, Error::Folder { .. }), "{error:?}");
        assert!(error.to_string().contains("0700"), "{error}");
    }
    fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
    host(folder.path()).unwrap();
    // Only root can give a folder away, and everybody else finds one of root's.
    let foreign = if std::os::unix::fs::chown(folder.path(), Some(1), None).is_ok() {
        folder.path()
    } else {
        Path::new("/")
    };
    let error = host(foreign).unwrap_err();
    assert!(error.to_string().contains("owns it"), "{error}");
}

#[test]
fn file_in_the_place_of_the_folder_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(matches!(host(file.path()), Err(Error::Folder { .. })));
}
