//! Images of a few programs of this host: enough for a guest that waits and runs commands, made in a moment.
//!
//! Owns the list of programs, and what such a guest does at its start. It has no systemd and no user but root, and is
//! nothing that a lane runs in.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::image::ImageError;
use crate::program::{self, ProgramError};

const PROGRAMS: &[&str] = &[
    "bash", "cat", "chmod", "dd", "echo", "env", "head", "id", "kill", "ln", "ls", "mkdir",
    "mkfifo", "mknod", "mount", "mv", "printf", "rm", "seq", "sleep", "stat", "tail", "tar",
    "touch", "true", "wc",
];
const FOLDERS: &[&str] = &[
    "bin", "sbin", "proc", "sys", "dev", "run", "tmp", "etc", "root", "var", "mnt",
];
/// Ends at once when Incus asks for a clean stop (SIGPWR).
const INIT_HEAD: &str = "#!/bin/bash\ntrap 'exit 0' PWR TERM\n";
const INIT_WAITS: &str = "while :; do /bin/sleep 3600 & wait $!; done\n";

/// What a guest does at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tiny {
    /// Nothing.
    Waits,
    /// It says in its status file that its service is ready, as a managed agent does.
    SaysReady,
}

impl Tiny {
    fn init(self) -> String {
        let says = match self {
            Tiny::Waits => String::new(),
            Tiny::SaysReady => says_ready(),
        };
        format!("{INIT_HEAD}{says}{INIT_WAITS}")
    }
}

fn says_ready() -> String {
    let folder = pika_cloud::paths::STATE_DIR;
    let status = serde_json::json!({
        "schema_version": pika_cloud::lifecycle::LIFECYCLE_SCHEMA_VERSION, "state": "ready", "message": "there is nothing to start",
        "updated_at": "2026-01-01T00:00:00.000Z", "boot_id": "%s",
    });
    format!(
        "read -r boot </proc/sys/kernel/random/boot_id\n/bin/mkdir -p {folder}\n\
         printf '{status}' \"$boot\" >{folder}/status.new\n/bin/mv {folder}/status.new {folder}/status.json\n"
    )
}

const METADATA: &str = "architecture: x86_64\ncreation_date: 1700000000\nproperties: {description: programs of the host}\n";

/// Makes `metadata.tar` and `rootfs.tar` in this folder.
pub(super) fn build(folder: &Path, tiny: Tiny) -> Result<(PathBuf, PathBuf), ImageError> {
    let root = folder.join("rootfs");
    let files = |source| ImageError::Files {
        path: root.clone(),
        source,
    };
    fill(&root, tiny).map_err(files)?;
    for program in PROGRAMS {
        // A shell's own echo or kill does where the host lacks the program.
        let Some(path) = program::find(program) else {
            continue;
        };
        let bin = root.join("bin").join(program);
        fs_err::copy(&path, bin).map_err(files)?;
        for library in libraries(&path).map_err(ImageError::Tiny)? {
            let target = root.join(library.strip_prefix("/").unwrap_or(&library));
            if let Some(parent) = target.parent() {
                fs_err::create_dir_all(parent).map_err(files)?;
            }
            fs_err::copy(&library, target).map_err(files)?;
        }
    }
    fs_err::write(folder.join("metadata.yaml"), METADATA).map_err(files)?;
    let (metadata, rootfs) = (folder.join("metadata.tar"), folder.join("rootfs.tar"));
    let pack = |archive: &Path, from: &Path, what: &str| {
        let mut tar = Command::new("tar");
        tar.arg("-C")
            .arg(from)
            .args(["--owner=0", "--group=0", "-cf"])
            .arg(archive)
            .arg(what);
        program::run(&mut tar).map_err(ImageError::Tiny)
    };
    pack(&metadata, folder, "metadata.yaml")?;
    pack(&rootfs, &root, ".")?;
    Ok((metadata, rootfs))
}

fn fill(root: &Path, tiny: Tiny) -> std::io::Result<()> {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    for folder in FOLDERS {
        fs_err::create_dir_all(root.join(folder))?;
    }
    fs_err::set_permissions(root.join("tmp"), std::fs::Permissions::from_mode(0o1777))?;
    fs_err::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/bash\n")?;
    fs_err::write(root.join("etc/group"), "root:x:0:\n")?;
    let init = root.join("sbin/init");
    fs_err::write(&init, tiny.init())?;
    fs_err::set_permissions(&init, std::fs::Permissions::from_mode(0o755))?;
    symlink("bash", root.join("bin/sh"))
}

/// Shared libraries of a program and its loader, where the program looks for them.
fn libraries(program: &Path) -> Result<BTreeSet<PathBuf>, ProgramError> {
    let text = program::run(Command::new("ldd").arg(program))?;
    Ok(text
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect())
}
