//! `install`: this program into a folder from which another container runs it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The program's name in the folder.
const NAME: &str = "podrun-agent";

/// Copies the running program into a folder, which is made if need be. Whoever runs the one that was there goes on.
pub fn install(dir: &Path) -> Result<PathBuf, String> {
    let target = dir.join(NAME);
    let temporary = dir.join(format!(".{NAME}.{}", std::process::id()));
    let copy = || -> io::Result<()> {
        fs::create_dir_all(dir)?;
        let mut program = File::open("/proc/self/exe")?;
        let mut copy = File::create(&temporary)?;
        io::copy(&mut program, &mut copy)?;
        copy.set_permissions(fs::Permissions::from_mode(0o755))?;
        copy.sync_all()?;
        fs::rename(&temporary, &target)
    };
    copy().map(|()| target.clone()).map_err(|error| {
        let _ = fs::remove_file(&temporary);
        format!(
            "failed to install into `{}`: {error}: the folder must be writable",
            dir.display()
        )
    })
}
