//! Where settings come from.

use std::fs;

use crate::shell::Shell;

/// The socket that a call would use, as `doctor` says it: nothing listens there.
fn socket(shell: &Shell<'_>, arguments: &[&str]) -> String {
    let ended = shell.pika(&[&["doctor", "--output", "json"], arguments].concat());
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    let findings = ended.json();
    let daemon = findings
        .as_array()
        .unwrap()
        .iter()
        .find(|finding| finding["check"] == "daemon");
    daemon.unwrap()["found"]
        .as_str()
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .to_owned()
}

#[test]
fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
    let dir = tempfile::tempdir().unwrap();
    let named = dir.path().join("named.toml");
    fs::write(&named, "[incus]\nsocket = \"/from/file\"\n").unwrap();
    let named = named.to_str().unwrap();
    let bare = Shell::new(dir.path()).with("INCUS_DIR", "/from/incus-dir");
    assert_eq!(socket(&bare, &[]), "/from/incus-dir/unix.socket");
    assert_eq!(socket(&bare, &["--config", named]), "/from/file");
    let with_file = Shell::new(dir.path()).with("PIKA_CONFIG", named);
    assert_eq!(socket(&with_file, &[]), "/from/file");
    let with_both = Shell::new(dir.path())
        .with("PIKA_CONFIG", named)
        .with("PIKA_INCUS_SOCKET", "/from/environment");
    assert_eq!(socket(&with_both, &[]), "/from/environment");
    assert_eq!(
        socket(&with_both, &["--socket", "/from/flag"]),
        "/from/flag"
    );
}

#[test]
fn the_users_own_file_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join(".config/pika");
    fs::create_dir_all(&own).unwrap();
    fs::write(
        own.join("config.toml"),
        "[incus]\nsocket = \"/from/home\"\n",
    )
    .unwrap();
    assert_eq!(socket(&Shell::new(dir.path()), &[]), "/from/home");
}

#[test]
fn a_file_that_cant_be_used_is_exit_2_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let told = |text: &str| {
        fs::write(dir.path().join("c.toml"), text).unwrap();
        Shell::new(dir.path())
            .pika(&["doctor", "--config", "c.toml"])
            .all()
    };
    let texts = [
        told("[incus]\nsockets = \"/x\"\n"),
        told("[surprise]\n"),
        told("[incus]\nowner = \"a b\"\n"),
        told("[incus\n"),
        Shell::new(dir.path())
            .pika(&["doctor", "--config", "absent.toml"])
            .all(),
    ];
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn tables_of_pikaci_are_left_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let text = "[incus]\nsocket = \"/x\"\npool = \"p\"\n[mounts.a]\nsource = \"/a\"\n[caches.b]\n[defaults]\nparallel = 2\n";
    fs::write(dir.path().join("c.toml"), text).unwrap();
    assert_eq!(
        socket(&Shell::new(dir.path()), &["--config", "c.toml"]),
        "/x"
    );
}

#[test]
fn doctor_without_a_daemon_says_what_to_do_and_checks_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("none.socket");
    let ended = Shell::new(dir.path()).pika(&[
        "doctor",
        "--output",
        "json",
        "--socket",
        socket.to_str().unwrap(),
    ]);
    assert_eq!(ended.code, 1);
    let findings = ended.json();
    let of = |check: &str| {
        let found = findings
            .as_array()
            .unwrap()
            .iter()
            .find(|finding| finding["check"] == check);
        found.unwrap().clone()
    };
    assert_eq!(of("daemon")["health"], "problem");
    assert!(
        of("daemon")["remedy"]
            .as_str()
            .unwrap()
            .contains("start Incus")
    );
    for check in ["access", "version", "drivers", "profile", "pool", "image"] {
        assert_eq!(of(check)["health"], "not_checked", "{check}");
    }
}
