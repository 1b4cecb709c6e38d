//! Selection by changed paths.

use pikahut::stack::TestIncus;

use crate::bench_tree::{Tree, lane, without_daemon};

/// `docs` and `code` have path rules, and `code` needs `tools`, which has other ones.
fn lanes() -> String {
    [
        lane("docs", "true", "paths = [\"docs/**\"]"),
        lane("tools", "true", "paths = [\"tools/**\"]"),
        lane("code", "true", "paths = [\"src/**\"]\nneeds = [\"tools\"]"),
    ]
    .concat()
}

fn change(tree: &Tree, path: &str) {
    let path = tree.root().join(path);
    std::fs::create_dir_all(path.parent().expect("has a parent")).expect("create the folder");
    std::fs::write(path, "changed\n").expect("written");
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn nothing_selected_exits_5_and_tells_what_changed() {
    let tree = without_daemon(&lanes());
    tree.commit_to_main();
    let ended = tree.run(&["run", "--changed"]).await;
    ended.assert_code(5);
    assert!(
        ended
            .stderr
            .contains("nothing changed since main (merge base "),
        "{}",
        ended.stderr
    );
    for path in ["other/a\nb", "other/c", "other/d"] {
        change(&tree, path);
    }
    let ended = tree.run(&["run", "--changed"]).await;
    ended.assert_code(5);
    assert!(
        ended.stderr.contains("3 paths changed since main")
            && ended
                .stderr
                .contains("no lane's paths match: other/a\\x0ab, other/c and 1 more"),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.contains("hint: `pikaci lanes --changed`"),
        "{}",
        ended.stderr
    );
    assert!(!tree.root().join(".pikaci/runs").exists(), "no run is made");
    let nightly = tree.run(&["run", "--changed", "--nightly"]).await;
    assert!(
        nightly.assert_code(5).stderr.contains("no nightly lanes"),
        "{}",
        nightly.stderr
    );
}

#[tokio::test]
async fn what_cannot_be_compared_is_a_usage_error_with_a_remedy() {
    let tree = without_daemon(&lanes());
    let told = async |arguments: &[&str], message: &str, hint: &str| {
        let ended = tree.run(arguments).await;
        ended.assert_code(2);
        let (message, hint) = (ended.stderr.contains(message), ended.stderr.contains(hint));
        assert!(message && hint, "{arguments:?}: {}", ended.stderr);
    };
    told(
        &["run", "--changed"],
        "has no commits",
        "hint: commit something",
    )
    .await;
    tree.commit_to_main();
    told(
        &["run", "--changed", "--base", "nowhere"],
        "`nowhere` names no commit",
        "hint: `git fetch`",
    )
    .await;
    tree.git(&["branch", "-q", "-m", "main", "topic"]);
    told(
        &["run", "--changed"],
        "there is nothing to compare with",
        "--base REF",
    )
    .await;
    told(
        &["lanes", "--changed"],
        "there is nothing to compare with",
        "--base REF",
    )
    .await;
    tree.git(&["checkout", "-q", "--orphan", "apart"]);
    tree.git(&["commit", "-q", "-m", "a beginning of its own"]);
    told(
        &["run", "--changed", "--base", "topic"],
        "HEAD and topic have no common ancestor",
        "--base REF",
    )
    .await;
}

#[tokio::test]
async fn lanes_tell_why_each_is_selected_or_skipped() {
    let tree = without_daemon(&lanes());
    tree.commit_to_main();
    change(&tree, "src/a");
    let shown = tree.run(&["lanes", "--changed"]).await;
    let expected = "\
lane   section  choice    why
docs   branch   skipped   no changed path matches
tools  branch   selected  needed by lane code
code   branch   selected  the changed path src/a matched
";
    assert_eq!(shown.assert_code(0).stdout, expected);
    assert!(
        shown.stderr.contains("1 path changed since main"),
        "{}",
        shown.stderr
    );

    let shown = tree.run(&["lanes", "--changed", "--output", "json"]).await;
    let rows = json(&shown.assert_code(0).stdout);
    let selection = |place: usize| rows[place]["selection"].clone();
    assert_eq!(
        selection(0),
        serde_json::json!({"selected": false, "reason": "no changed path matches"})
    );
    assert_eq!(selection(1)["because"], "needed_by");
    assert_eq!(selection(2)["path"], "src/a");
    let plain = tree.run(&["lanes", "--output", "json"]).await;
    assert!(
        json(&plain.stdout)[0].get("selection").is_none(),
        "{}",
        plain.stdout
    );

    change(&tree, "ci/extra");
    let lanes = std::fs::read_to_string(tree.root().join("ci/forge-lanes.toml")).expect("read");
    std::fs::write(
        tree.root().join("ci/forge-lanes.toml"),
        format!("{lanes}\n# more\n"),
    )
    .expect("written");
    let shown = tree.run(&["lanes", "--changed"]).await;
    assert_eq!(
        shown
            .stdout
            .matches("the lanes file ci/forge-lanes.toml changed")
            .count(),
        3,
        "{}",
        shown.stdout
    );
}

#[tokio::test]
async fn a_selected_lane_that_cannot_start_is_no_selection_error() {
    let tree = without_daemon(&lanes());
    tree.commit_to_main();
    change(&tree, "src/a");
    let ended = tree.run(&["run", "--changed", "--base", "HEAD"]).await;
    ended.assert_code(3);
    assert!(
        ended.stderr.contains("1 path changed since HEAD")
            && ended.stderr.contains("2 of 3 branch lanes selected"),
        "{}",
        ended.stderr
    );
}

#[tokio::test]
async fn lanes_that_paths_leave_out_are_skipped_and_the_run_passes() {
    let incus = TestIncus::shared().await;
    let tree = Tree::on(&incus, &lanes()).await;
    tree.commit_to_main();
    change(&tree, "src/a");
    let ended = tree.run(&["run", "--changed"]).await;
    let shown = &ended.assert_code(0).stdout;
    assert!(shown.contains("docs   skipped        -\n"), "{shown}");
    assert!(
        shown.contains("docs skipped: no changed path matches"),
        "{shown}"
    );
    assert!(
        shown.contains("2 of 2 passed") && shown.contains(", 1 not selected"),
        "{shown}"
    );
    let status = json(&tree.run(&["status", "--output", "json"]).await.stdout);
    assert_eq!(status["verdict"], "passed");
    assert_eq!(status["selection"]["not_selected"][0]["lane"], "docs");
    assert_eq!(status["selection"]["reasons"]["tools"]["lane"], "code");
    let why = tree.run(&["why", "docs"]).await;
    assert!(
        why.assert_code(0)
            .stdout
            .contains("Skipped: no changed path matches; compared with main"),
        "{}",
        why.stdout
    );
    let why = tree.run(&["why", "code"]).await;
    assert!(
        why.assert_code(0)
            .stdout
            .contains("Chosen: the changed path src/a matched")
            && why.stdout.contains("It passed.")
            && why.stdout.contains("was removed at"),
        "{}",
        why.stdout
    );
    incus.assert_nothing_left().await;
}
