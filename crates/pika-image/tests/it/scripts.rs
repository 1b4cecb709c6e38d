//! The scripts, run with stand-ins for cargo and ssh: what they would run, where, and with which files.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn checkout() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    path.canonicalize().expect("this crate is in a checkout")
}

/// A directory with programs of these texts.
fn programs(texts: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (name, text) in texts {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("the directory is ours");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
            .expect("the file is ours");
    }
    directory
}

/// Says where it runs and with what, one argument a line.
const CARGO: &str = "#!/bin/sh\npwd\nprintf '%s\\n' \"$@\"\n";

fn run(script: &str, arguments: &[&str], programs: &Path, home: &Path) -> Output {
    let path = std::env::var("PATH").expect("programs are found by PATH");
    Command::new(checkout().join("scripts").join(script))
        .args(arguments)
        .env("PATH", format!("{}:{path}", programs.display()))
        .env("HOME", home)
        .env_remove("XDG_CACHE_HOME")
        .output()
        .expect("the script is executable")
}

fn lines(output: &Output) -> Vec<String> {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn each_verb_becomes_the_command_of_the_same_name() {
    let stand_ins = programs(&[("cargo", CARGO)]);
    let home = stand_ins.path();
    let here = checkout().display().to_string();
    let common = ["run", "--quiet", "--package", "pika", "--", "image"];

    let built = lines(&run(
        "pikaci-incus-image.sh",
        &["build", "--alias", "x"],
        stand_ins.path(),
        home,
    ));
    assert_eq!(built[0], here);
    assert_eq!(built[1..7], common);
    // An alias means nothing to files.
    assert_eq!(built[7..], ["build", "--role", "pikaci-runner"]);

    let imported = lines(&run(
        "incus-dev-image.sh",
        &[
            "--project",
            "p q",
            "build-import",
            "--alias",
            "a",
            "--no-host-ca",
        ],
        stand_ins.path(),
        home,
    ));
    assert_eq!(
        imported[7..],
        [
            "build-import",
            "--role",
            "managed-openclaw",
            "--no-host-ca",
            "--project",
            "p q",
            "--alias",
            "a"
        ]
    );
}

#[test]
fn a_remote_host_gets_the_files_and_runs_the_command_there() {
    // Stands in for the other host: its home is a directory here.
    let ssh =
        "#!/bin/sh\ntest \"$1\" = -- || exit 9\necho \"$2\" >>\"$HOME/hosts\"\nexec sh -c \"$3\"\n";
    let stand_ins = programs(&[("cargo", CARGO), ("ssh", ssh)]);
    let home = tempfile::tempdir().unwrap();
    let there = home.path().join(".cache/pika/checkout");
    std::fs::create_dir_all(there.join("target")).unwrap();
    std::fs::write(there.join("target/kept"), "").unwrap();
    std::fs::write(there.join("gone"), "").unwrap();

    let output = lines(&run(
        "incus-role-image.sh",
        &[
            "--role",
            "pikaci-runner",
            "build-import",
            "--remote-host",
            "user@far",
            "--alias",
            "it's",
        ],
        stand_ins.path(),
        home.path(),
    ));
    assert_eq!(Path::new(&output[0]), there.canonicalize().unwrap());
    assert_eq!(
        output[7..],
        ["build-import", "--role", "pikaci-runner", "--alias", "it's"]
    );
    let hosts = std::fs::read_to_string(home.path().join("hosts")).unwrap();
    assert_eq!(hosts, "user@far\nuser@far\n");
    // The tree is there, what cargo made is kept, and what is no longer in the tree is gone.
    assert!(there.join("images/roles.toml").is_file());
    assert!(there.join("crates/pika-image/Cargo.toml").is_file());
    assert!(there.join("target/kept").is_file());
    assert!(!there.join("gone").exists());
    assert!(!there.join(".git").exists());
}

#[test]
fn a_call_that_makes_no_sense_is_told_how_to() {
    let stand_ins = programs(&[("cargo", CARGO)]);
    for arguments in [
        &["build"][..],
        &["--role", "pikaci-runner"],
        &["--role"],
        &["--role", "r", "build", "import"],
        &["--role", "r", "--remote-host", "-oProxyCommand=x", "build"],
    ] {
        let output = run(
            "incus-role-image.sh",
            arguments,
            stand_ins.path(),
            stand_ins.path(),
        );
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty());
    }
}
