//! Repositories of every kind: a lane sees their files, or the program says why not.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use pikahut::stack::TestIncus;

use crate::bench_tree::{Ended, Tree, lane};

/// Runs the lane `look` of the repository at `path`.
async fn look(tree: &Tree, path: &Path, arguments: &[&str]) -> Ended {
    let path = path.to_str().expect("a path of a test is text");
    tree.run(&[&["--repo", path, "run"], arguments].concat())
        .await
}

#[track_caller]
fn assert_shown(ended: &Ended, what: &str, line: &str) {
    ended.assert_code(0);
    assert!(
        ended.stdout.contains(&format!("look | {line}\n")),
        "{what}: {}",
        ended.stdout
    );
}

#[tokio::test]
async fn clones_worktrees_submodules_and_no_commits_work_or_say_why_not() {
    let incus = TestIncus::shared().await;
    let script = "echo $(cat hello.txt), $(ls -A part 2>/dev/null | tr '\\n' ' ')";
    let tree = Tree::on(&incus, &lane("look", script, "")).await;
    let ended = look(&tree, &tree.root(), &["look"]).await;
    assert_shown(&ended, "without commits", "from the work tree,");
    let ended = look(&tree, &tree.root(), &["--changed"]).await;
    ended.assert_code(2);
    assert!(
        ended.stderr.contains("no commit") && ended.stderr.contains("hint:"),
        "{}",
        ended.stderr
    );

    tree.commit_to_main();
    tree.git(&["commit", "-q", "--allow-empty", "-m", "y"]);
    let beside = |name: &str| tree.root().with_file_name(name);
    let origin = format!("file://{}", tree.root().display());
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    for (name, options) in [("clean", &[][..]), ("shallow", &["--depth", "1"])] {
        let place = text(&beside(name));
        tree.git(&[&["clone", "-q"], options, &[&origin, &place]].concat());
        let ended = look(&tree, &beside(name), &["look"]).await;
        assert_shown(&ended, name, "from the work tree,");
    }
    tree.git(&["worktree", "add", "-q", &text(&beside("worktree"))]);
    std::fs::write(beside("worktree").join("hello.txt"), "of its own\n").expect("written");
    let ended = look(&tree, &beside("worktree"), &["look"]).await;
    assert_shown(&ended, "worktree", "of its own,");

    let allowed = ["-c", "protocol.file.allow=always"];
    let clean = text(&beside("clean"));
    tree.git(
        &[
            &allowed[..],
            &["submodule", "--quiet", "add", &clean, "part"],
        ]
        .concat(),
    );
    let ended = look(&tree, &tree.root(), &["look"]).await;
    assert_shown(&ended, "submodule", "from the work tree, ci hello.txt");
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn names_of_any_bytes_reach_the_lane() {
    let incus = TestIncus::shared().await;
    let script = "find odd -type f -print0 | sort -z | od -An -c | tr -s ' ' | tr '\\n' ' '; echo";
    let tree = Tree::on(&incus, &lane("look", script, "")).await;
    std::fs::create_dir(tree.root().join("odd")).expect("made");
    let names: [&[u8]; 4] = [b"a\nb", b"\xff\xfe", b" c \t", b"-n"];
    for name in names {
        let path = tree
            .root()
            .join("odd")
            .join(std::ffi::OsStr::from_bytes(name));
        std::fs::write(path, "x").expect("written");
    }
    tree.git(&["add", "-A"]);
    let ended = look(&tree, &tree.root(), &["look"]).await;
    ended.assert_code(0);
    let seen: String = ended.stdout.split_whitespace().collect();
    for name in ["odd/a\\nb\\0", "odd/377376\\0", "odd/c\\t\\0", "odd/-n\\0"] {
        assert!(seen.contains(name), "{name}: {seen}");
    }
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn heavy_a_hundred_thousand_files_reach_the_lane() {
    const FOLDERS: usize = 100;
    const FILES: usize = 1000;
    let incus = TestIncus::shared().await;
    let script = "find many -type f | wc -l; cat many/99/999";
    let tree = Tree::on(&incus, &lane("look", script, "")).await;
    for folder in 0..FOLDERS {
        let dir = tree.root().join("many").join(folder.to_string());
        std::fs::create_dir_all(&dir).expect("made");
        for file in 0..FILES {
            std::fs::write(dir.join(file.to_string()), format!("{folder}/{file}\n"))
                .expect("written");
        }
    }
    let ended = look(&tree, &tree.root(), &["look"]).await;
    assert_shown(&ended, "untracked", "100000");
    assert_shown(&ended, "untracked", "99/999");
    tree.commit_to_main();
    let ended = look(&tree, &tree.root(), &["look"]).await;
    assert_shown(&ended, "committed", "100000");
    incus.assert_nothing_left().await;
}
