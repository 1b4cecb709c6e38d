//! An image of a few programs of this host: enough for a guest that sleeps, made in a moment.

use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAMS: &[&str] = &["/bin/bash", "/bin/sleep", "/bin/cat"];

/// Makes `metadata.tar` and `rootfs.tar` in this folder.
pub(crate) fn build(folder: &Path) -> (PathBuf, PathBuf) {
    let root = folder.join("rootfs");
    for below in [
        "sbin", "bin", "proc", "sys", "dev", "run", "tmp", "etc", "root",
    ] {
        fs_err::create_dir_all(root.join(below)).unwrap();
    }
    for program in PROGRAMS {
        let text = run(Command::new("ldd").arg(program));
        let libraries = text.split_whitespace().filter(|word| word.starts_with('/'));
        for file in libraries.chain([*program]) {
            let target = root.join(file.trim_start_matches('/'));
            fs_err::create_dir_all(target.parent().unwrap()).unwrap();
            fs_err::copy(fs_err::canonicalize(file).unwrap(), target).unwrap();
        }
    }
    let init = root.join("sbin/init");
    fs_err::write(&init, "#!/bin/bash\nwhile :; do /bin/sleep 3600; done\n").unwrap();
    run(Command::new("chmod").arg("0755").arg(&init));
    let metadata =
        "architecture: x86_64\ncreation_date: 1700000000\nproperties: {description: tiny}\n";
    fs_err::write(folder.join("metadata.yaml"), metadata).unwrap();
    let (meta, rootfs) = (folder.join("metadata.tar"), folder.join("rootfs.tar"));
    run(Command::new("tar")
        .arg("-C")
        .arg(folder)
        .arg("-cf")
        .arg(&meta)
        .arg("metadata.yaml"));
    run(Command::new("tar")
        .arg("-C")
        .arg(&root)
        .args(["--owner=0", "--group=0", "-cf"])
        .arg(&rootfs)
        .arg("."));
    (meta, rootfs)
}

/// Runs a command that must succeed.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {} {words}",
        output.status
    );
    String::from_utf8(output.stdout).unwrap()
}
