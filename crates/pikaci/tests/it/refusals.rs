//! What can't run says so: exit code, what happened, what to do; and nothing is left.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use pikahut::stack::TestIncus;

use crate::bench_tree::{Ended, Tree, lane, without_daemon};

#[tokio::test]
async fn a_broken_lanes_file_shows_its_line() {
    let tree = without_daemon("[[branch.lanes]]\nid = \"a\"\ncomand = [\"true\"]\n");
    let ended = tree.run(&["run", "--all"]).await;
    ended.assert_code(2);
    assert!(
        ended
            .stderr
            .contains("ci/forge-lanes.toml:4:1: unknown key `comand`"),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.contains("4 | comand") && ended.stderr.contains("did you mean `command`?"),
        "{}",
        ended.stderr
    );
    assert!(
        !tree.root().join(".pikaci/runs").exists(),
        "nothing was begun"
    );
}

#[tokio::test]
async fn a_lanes_file_that_leads_elsewhere_is_not_read() {
    let tree = without_daemon(&lane("one", "true", ""));
    let lanes = tree.root().join("ci/forge-lanes.toml");
    let elsewhere = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(elsewhere.path(), "secret of the host\n").expect("written");
    std::fs::remove_file(&lanes).expect("removed");
    std::os::unix::fs::symlink(elsewhere.path(), &lanes).expect("linked");
    let linked = tree.run(&["lanes"]).await;
    linked.assert_code(2);
    assert!(
        linked.stderr.contains("a symbolic link leads to it") && !linked.stderr.contains("secret"),
        "{}",
        linked.stderr
    );
    std::fs::remove_file(&lanes).expect("removed");
    let made = std::process::Command::new("mkfifo").arg(&lanes).status();
    assert!(made.expect("mkfifo runs").success());
    let fifo = tree.run(&["lanes"]).await;
    fifo.assert_code(2);
    assert!(fifo.stderr.contains("no regular file"), "{}", fifo.stderr);
}

/// A branch can commit anything, records of runs included.
#[tokio::test]
async fn records_that_come_with_a_branch_are_not_acted_on() {
    let tree = without_daemon(&lane("one", "true", ""));
    let id = "20200101-000000-aaaaaa";
    let store = tree.root().join(".pikaci");
    let elsewhere = tree.root().join("made-by-the-branch");
    std::fs::create_dir_all(store.join("runs").join(id)).expect("made");
    std::fs::create_dir_all(store.join("pending")).expect("made");
    std::fs::write(store.join("pending").join(id), "").expect("written");
    let record = serde_json::json!({
        "schema_version": 1, "run_id": id, "state": "running",
        "started_at": "2020-01-01T00:00:00Z", "owner": "o", "section": "branch",
        "lanes": [elsewhere],
    });
    std::fs::write(
        store.join("runs").join(id).join("run.json"),
        record.to_string(),
    )
    .expect("written");
    tree.git(&["add", "-f", ".pikaci"]);
    let listed = tree.run(&["list"]).await;
    assert!(
        listed.stderr.contains("git tracks files"),
        "{}",
        listed.stderr
    );
    // Also where they are not tracked, they are no way out of the store.
    tree.git(&["rm", "-r", "-q", "--cached", ".pikaci"]);
    let listed = tree.run(&["list"]).await;
    assert!(
        listed.stderr.contains("no name of a lane"),
        "{}",
        listed.stderr
    );
    assert!(!elsewhere.exists());
    assert!(
        store.join("pending").join(id).exists(),
        "it is not taken for settled"
    );
}

#[tokio::test]
async fn usage_errors_exit_2_and_help_exits_0() {
    let tree = without_daemon(&lane("one", "true", ""));
    for arguments in [
        &["run"][..],
        &["run", "none"],
        &["run", "--all", "one"],
        &["run", "--changed", "one"],
        &["run", "--changed", "--all"],
        &["run", "one", "--base", "main"],
        &["run", "--all", "--base", "main"],
        &["lanes", "--base", "main"],
        &["why"],
        &["frobnicate"],
        &["run", "one", "-j", "0"],
    ] {
        tree.run(arguments).await.assert_code(2);
    }
    let unknown = tree.run(&["run", "none"]).await;
    assert!(
        unknown.stderr.contains("hint: there are: one"),
        "{}",
        unknown.stderr
    );
    tree.run(&["--help"]).await.assert_code(0);
    let complete = tree.run(&["completions", "bash"]).await;
    assert!(
        complete.assert_code(0).stdout.contains("_pikaci"),
        "a completion"
    );
}

#[tokio::test]
async fn no_lane_to_run_is_never_a_pass() {
    let tree = without_daemon("");
    tree.run(&["run", "--all"]).await.assert_code(5);
}

#[tokio::test]
async fn an_invalid_role_override_names_the_variable() {
    let tree = without_daemon(&lane("one", "true", ""));
    let mut command = tree.command(&["run", "one"]);
    command.env("PIKACI_REMOTE_LINUX_VM_INCUS_GUEST_ROLE", "nonsense");
    let ended = Ended::of(command.output().expect("runs"));
    ended.assert_code(2);
    assert!(
        ended
            .stderr
            .contains("PIKACI_REMOTE_LINUX_VM_INCUS_GUEST_ROLE"),
        "{}",
        ended.stderr
    );
}

#[tokio::test]
async fn git_variables_of_a_hook_change_nothing() {
    let (tree, other) = (
        without_daemon(&lane("mine", "true", "")),
        without_daemon(&lane("other", "true", "")),
    );
    let mut command = tree.command(&["lanes"]);
    command
        .env("GIT_DIR", other.root().join(".git"))
        .env("GIT_WORK_TREE", other.root());
    let ended = Ended::of(command.output().expect("runs"));
    assert!(
        ended.assert_code(0).stdout.contains("mine"),
        "{}",
        ended.stdout
    );
}

#[tokio::test]
async fn incus_not_running_is_infrastructure() {
    let tree = without_daemon(&lane("one", "true", ""));
    let ended = tree.run(&["run", "one"]).await;
    ended.assert_code(3);
    assert!(
        ended.stderr.contains("/nonexistent/incus.socket"),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.contains("start Incus") && ended.stderr.contains("hint:"),
        "{}",
        ended.stderr
    );
    let doctor = tree.run(&["doctor"]).await;
    assert!(
        doctor.assert_code(3).stdout.contains("bad     Incus"),
        "{}",
        doctor.stdout
    );
}

#[tokio::test]
async fn no_permission_on_the_socket_says_which_group() {
    // Without privileges the program looks at a socket that only root may use.
    let dir = tempfile::tempdir().expect("a temporary directory");
    let socket = dir.path().join("unix.socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
    let tree = Tree::new(&socket, "nobody", &lane("one", "true", ""));
    tree.give_to(65534);
    let program = tree.program_for_everybody();
    let mut command = std::process::Command::new(program);
    command
        .args(["run", "one"])
        .current_dir(tree.root())
        .uid(65534)
        .gid(65534)
        .env_clear();
    command
        .env("PATH", "/usr/bin:/bin")
        .env("PIKACI_CONFIG", tree.config());
    let ended = Ended::of(command.output().expect("runs"));
    ended.assert_code(3);
    assert!(ended.stderr.contains("incus-admin"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_missing_image_says_how_to_make_it() {
    let incus = TestIncus::shared().await;
    let lanes = [
        lane("a", "true", "image = \"no/such\""),
        lane("b", "true", "image = \"no/such\""),
    ]
    .concat();
    let tree = Tree::new(&incus.socket(), &incus.owner(), &lanes);
    let ended = tree.run(&["run", "--all"]).await;
    ended.assert_code(3);
    assert_eq!(tree.result("a")["kind"], "image_missing");
    assert!(
        ended.stdout.contains("pika image build-import"),
        "{}",
        ended.stdout
    );
    assert_eq!(
        ended.stdout.matches("pika image build-import").count(),
        1,
        "told once: {}",
        ended.stdout
    );
    incus.assert_nothing_left().await;
}
