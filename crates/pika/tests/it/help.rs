//! Help texts.

use crate::shell::Shell;

#[test]
fn every_command_has_its_help() {
    let dir = tempfile::tempdir().unwrap();
    let shell = Shell::new(dir.path());
    let mut text = String::new();
    for command in [
        vec!["--help"],
        vec!["agent", "--help"],
        vec!["agent", "new", "-h"],
        vec!["agent", "restart", "-h"],
        vec!["agent", "restore", "-h"],
        vec!["agent", "reset", "-h"],
        vec!["agent", "delete", "-h"],
        vec!["agent", "backups", "-h"],
        vec!["agent", "logs", "-h"],
        vec!["agent", "list", "-h"],
        vec!["agent", "undelete", "-h"],
        vec!["agent", "events", "-h"],
        vec!["agent", "exec", "-h"],
        vec!["agent", "ssh", "-h"],
        vec!["agent", "wait", "-h"],
        vec!["agent", "token", "-h"],
        vec!["agent", "token", "new", "-h"],
        vec!["agent", "token", "revoke", "-h"],
        vec!["agent", "owner", "-h"],
        vec!["agent", "owner", "show", "-h"],
        vec!["agent", "owner", "add", "-h"],
        vec!["agent", "owner", "set", "-h"],
        vec!["agent", "allow", "-h"],
        vec!["agent", "allow", "add", "-h"],
        vec!["agent", "audit", "-h"],
        vec!["agent", "strays", "-h"],
        vec!["agent", "strays", "remove", "-h"],
        vec!["runtime", "--help"],
        vec!["runtime", "validate", "-h"],
        vec!["runtime", "plan", "-h"],
        vec!["runtime", "ensure", "-h"],
        vec!["runtime", "inspect", "-h"],
        vec!["runtime", "collect", "-h"],
        vec!["runtime", "destroy", "-h"],
        vec!["doctor", "-h"],
    ] {
        let ended = shell.pika(&command);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
        text.push_str(&format!("$ pika {}\n{}\n", command.join(" "), ended.stdout));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn help_fits_a_terminal_of_80_columns() {
    let dir = tempfile::tempdir().unwrap();
    let shell = Shell::new(dir.path()).with("COLUMNS", "80");
    for command in [
        vec!["--help"],
        vec!["agent", "--help"],
        vec!["agent", "new", "--help"],
        vec!["agent", "token", "new", "--help"],
        vec!["agent", "owner", "set", "--help"],
        vec!["agent", "audit", "-h"],
        vec!["runtime", "plan", "-h"],
        vec!["image", "check", "-h"],
        vec!["doctor", "-h"],
    ] {
        let text = shell.pika(&command).stdout;
        let long = text.lines().find(|line| line.chars().count() > 80);
        assert_eq!(long, None, "{command:?}");
    }
}

#[test]
fn help_does_not_show_what_the_environment_holds() {
    let dir = tempfile::tempdir().unwrap();
    let shell = Shell::new(dir.path()).with("PIKA_INCUS_SOCKET", "/somewhere/secret");
    assert!(!shell.pika(&["--help"]).stdout.contains("/somewhere/secret"));
}

#[test]
fn a_wrong_argument_is_exit_2_with_nothing_on_stdout() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in [
        vec![],
        vec!["nonsense"],
        vec!["runtime", "plan"],
        vec!["runtime", "plan", "x", "--resolve", "--diff"],
        vec!["runtime", "ensure", "x", "--kind", "cache"],
        vec!["runtime", "ensure", "x", "--role", "nobody"],
        vec!["runtime", "ensure", "x", "--lease-secs", "0"],
        vec!["doctor", "--output", "yaml"],
        vec!["agent"],
        vec!["agent", "restore", "me"],
        vec!["agent", "delete"],
        vec!["agent", "exec", "me"],
        vec!["agent", "new", "--label", "x"],
        vec!["agent", "logs", "--lines", "0"],
        vec!["agent", "list", "--token", "x"],
        vec!["agent", "token"],
        vec!["agent", "token", "new", "--scope", "all"],
        vec!["agent", "token", "new", "--days", "0"],
        vec!["agent", "token", "revoke"],
        vec!["agent", "owner", "set", "alice"],
        vec!["agent", "owner", "add", "alice", "--role", "king"],
        vec!["agent", "audit", "-n", "0"],
    ] {
        let ended = Shell::new(dir.path()).pika(&arguments);
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (2, ""),
            "{arguments:?}"
        );
        assert!(!ended.stderr.is_empty());
    }
}

#[test]
fn completions_are_made_for_every_shell() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["bash", "zsh", "fish"] {
        let ended = Shell::new(dir.path()).pika(&["completions", name]);
        assert_eq!(ended.code, 0);
        assert!(ended.stdout.contains("runtime"), "{name}");
    }
}

#[test]
fn the_manual_has_a_page_for_each_command() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let pages = dir.path().join("pages");
    let ended = Shell::new(dir.path()).pika(&["man", pages.to_str().expect("text")]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    for page in [
        "pika.1",
        "pika-agent-token-new.1",
        "pika-runtime-ensure.1",
        "pika-doctor.1",
    ] {
        let text = std::fs::read_to_string(pages.join(page)).expect("there");
        assert!(text.contains(".TH"), "{page}: {text}");
    }
}
