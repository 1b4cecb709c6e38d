//! Untracked files that look like secrets.

use jerichoci::snapshot::{ScanOptions, SnapshotError, scan};

use crate::git_tree::GitTree;
use crate::snapshot_phases::{store_of, taken};

fn refusal(tree: &GitTree, allow: &[&str]) -> Option<(Vec<String>, usize)> {
    let allow: Vec<String> = allow.iter().map(|&pattern| pattern.to_owned()).collect();
    let options = ScanOptions {
        allow_untracked: &allow,
        ..ScanOptions::default()
    };
    match scan(&tree.repository(), &store_of(tree), &options) {
        Ok(_) => None,
        Err(SnapshotError::Secrets { names, more }) => Some((names, more)),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn each_listed_name_stops_the_snapshot_until_it_is_allowed() {
    for name in [
        ".env",
        ".env.local",
        "server.pem",
        "a.key",
        "id_rsa",
        "id_ed25519",
        "x.p12",
        "x.pfx",
        ".netrc",
        ".npmrc",
        "credentials.json",
        "x.kdbx",
        ".git-credentials",
        "kubeconfig",
        "X.PEM",
    ] {
        let tree = GitTree::new();
        let path = format!("deep/er/{name}");
        tree.write(&path, "secret");
        assert_eq!(refusal(&tree, &[]), Some((vec![path.clone()], 0)), "{name}");
        assert_eq!(
            refusal(&tree, &["*"]),
            Some((vec![path.clone()], 0)),
            "{name}"
        );
        assert_eq!(refusal(&tree, &["deep/**"]), None, "{name}");
        assert_eq!(refusal(&tree, &[&path]), None, "{name}");
    }
}

#[test]
fn tracked_ignored_and_harmless_files_pass() {
    let tree = GitTree::new();
    tree.write(".gitignore", "*.key\n");
    tree.write("tracked.pem", "public");
    tree.commit();
    for name in [
        "ignored.key",
        ".env.example",
        ".env.sample",
        ".env.template",
        "keys.txt",
    ] {
        tree.write(name, "x");
    }
    assert_eq!(refusal(&tree, &[]), None);
    let snapshot = taken(&tree, &ScanOptions::default());
    assert!(
        snapshot.dir.join("tracked.pem").exists() && !snapshot.dir.join("ignored.key").exists()
    );
}

#[test]
fn the_error_is_bounded_and_moves_no_cursor() {
    let tree = GitTree::new();
    for index in 0..14 {
        tree.write(
            &format!("{index:02}\u{1b}[2J\n{}/.env", "n".repeat(150)),
            "x",
        );
    }
    let (names, more) = refusal(&tree, &[]).expect("refused");
    assert_eq!((names.len(), more), (10, 4));
    for name in &names {
        assert!(
            name.chars().count() <= 123 && !name.contains(['\u{1b}', '\n']),
            "{name}"
        );
    }
    let error = scan(
        &tree.repository(),
        &store_of(&tree),
        &ScanOptions::default(),
    );
    let error = error.err().expect("refused").to_string();
    assert!(
        error.contains(".gitignore") && error.ends_with("allow their paths"),
        "{error}"
    );
    assert!(error.contains("and 4 more"), "{error}");
}

#[test]
fn a_rule_that_is_none_is_told() {
    let tree = GitTree::new();
    let allow = ["a[".to_owned()];
    let options = ScanOptions {
        allow_untracked: &allow,
        ..ScanOptions::default()
    };
    let error = scan(&tree.repository(), &store_of(&tree), &options);
    assert!(matches!(error, Err(SnapshotError::BadPattern { pattern, .. }) if pattern == "a["));
}
