//! Specs on a real daemon, from ensure to destroy.

use std::fs;
use std::path::Path;

use pikahut::stack::TestIncus;
use serde_json::json;

use crate::shell::Shell;

/// A spec of a runner with a read-only tree, on the test's own name.
fn write_spec(dir: &Path, name: &str, alias: &str) -> String {
    let tree = dir.join("tree");
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("marker"), "seen\n").unwrap();
    let spec = json!({
        "identity": {"runtime_id": format!("{name}:job"), "instance_name": name},
        "incus": {
            "project": "default", "profile": "default", "image_alias": alias,
            "instance_type": "container",
        },
        "resources": {"vcpu_count": 1, "memory_mib": 512},
        "labels": {"lane": "real"},
        "mounts": [
            {"kind": "read_only_snapshot", "source": tree, "guest_path": "/workspace/snapshot",
             "mode": "read_only", "required": true},
            {"kind": "cache", "source": "no-such-volume", "guest_path": "/cargo-home",
             "mode": "read_write"},
        ],
    });
    let path = dir.join("spec.json");
    fs::write(&path, spec.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A collection that is whole; before the guest is up each one says why it is not.
async fn collected_once_booted(shell: &Shell<'_>, spec: &str, dir: &Path) -> serde_json::Value {
    let limit = std::time::Duration::from_secs(60);
    let out = dir.join("out");
    let arguments = [
        "--output",
        "json",
        "runtime",
        "collect",
        spec,
        "--into",
        out.to_str().unwrap(),
    ];
    let whole = pikahut::wait::until_async(limit, || async {
        let ended = shell.pika(&arguments);
        let collected = ended.json();
        let incomplete = collected.get("incomplete").is_some();
        assert_eq!(ended.code, i32::from(incomplete), "{}", ended.all());
        (!incomplete).then_some(collected)
    });
    whole.await.expect("the guest is up within a minute")
}

#[tokio::test(flavor = "multi_thread")]
async fn from_ensure_to_destroy() {
    let incus = TestIncus::shared().await;
    let alias = incus.runner_image().await;
    let name = incus.name("cli");
    let dir = tempfile::tempdir().unwrap();
    let spec = write_spec(dir.path(), &name, &alias);
    let shell = Shell::new(dir.path())
        .with("PIKA_INCUS_SOCKET", incus.socket().to_str().unwrap())
        .with("PIKA_OWNER", incus.owner());
    let json = |arguments: &[&str]| {
        let ended = shell.pika(&[&["--output", "json", "runtime"], arguments].concat());
        assert_eq!(ended.code, 0, "{arguments:?}: {}", ended.all());
        ended.json()
    };

    let resolved = json(&["plan", "--resolve", &spec]);
    assert_eq!(resolved["instance_type"], "container");
    assert_eq!(resolved["left_out_mounts"][0]["guest_path"], "/cargo-home");
    let before = json(&["plan", "--diff", &spec]);
    assert_eq!(before["seen"]["seen"], "absent");
    assert_eq!(before["steps"][0]["step"], "create");

    let runtime = json(&["ensure", &spec]);
    assert_eq!(runtime["resolved"]["create_body"], resolved["create_body"]);
    let instance = incus.client().instance(&name).await.unwrap().value;
    for (key, value) in resolved["create_body"]["config"].as_object().unwrap() {
        assert_eq!(
            instance.config.get(key).map(String::as_str),
            value.as_str(),
            "{key}"
        );
    }
    let started_at = runtime["started_at"].clone();
    assert_eq!(
        json(&["ensure", &spec])["started_at"],
        started_at,
        "a second ensure did something"
    );
    let after = shell.pika(&["runtime", "plan", "--diff", &spec]);
    assert!(
        after.stdout.contains("ensure would change nothing"),
        "{}",
        after.all()
    );

    let seen = json(&["inspect", &spec]);
    assert_eq!(seen["seen"]["power"], "running");
    assert_eq!(seen["labels"], json!({"lane": "real"}));
    let collected = collected_once_booted(&shell, &spec, dir.path()).await;
    assert_eq!(collected["from"], "running_guest");
    assert_eq!(collected["refused_count"], 0);

    assert_eq!(json(&["destroy", &spec])["end"], "destroyed");
    assert_eq!(json(&["destroy", &spec])["end"], "gone");
    incus.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_instance_is_not_touched() {
    let incus = TestIncus::shared().await;
    let alias = incus.runner_image().await;
    let name = incus.name("theirs");
    let dir = tempfile::tempdir().unwrap();
    let spec = write_spec(dir.path(), &name, &alias);
    let of = |owner: String| {
        Shell::new(dir.path())
            .with("PIKA_INCUS_SOCKET", incus.socket().to_str().unwrap())
            .with("PIKA_OWNER", owner)
    };
    let (ours, theirs) = (of(incus.owner()), of("somebody-else".to_owned()));
    assert_eq!(ours.pika(&["runtime", "ensure", &spec]).code, 0);
    for verb in ["ensure", "destroy"] {
        let refused = theirs.pika(&["runtime", verb, &spec]);
        assert_eq!(refused.code, 6, "{}", refused.all());
        assert!(refused.stderr.contains("not ours"), "{}", refused.stderr);
        assert_eq!(refused.stdout, "");
    }
    let diff = theirs.pika(&["runtime", "plan", "--diff", &spec]);
    assert_eq!(diff.code, 6, "{}", diff.all());
    assert_eq!(ours.pika(&["runtime", "inspect", &spec]).code, 0);
    assert_eq!(ours.pika(&["runtime", "destroy", &spec]).code, 0);
    incus.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_image_is_refused_with_the_command_that_makes_it() {
    let incus = TestIncus::shared().await;
    let dir = tempfile::tempdir().unwrap();
    let spec = write_spec(dir.path(), &incus.name("none"), "no/such-image");
    let shell = Shell::new(dir.path())
        .with("PIKA_INCUS_SOCKET", incus.socket().to_str().unwrap())
        .with("PIKA_OWNER", incus.owner());
    let refused = shell.pika(&["runtime", "ensure", &spec]);
    assert_eq!(refused.code, 6, "{}", refused.all());
    let expected = "there is no image `no/such-image` in the project `default`: import one with \
                    `pika image build-import`";
    assert!(refused.stderr.contains(expected), "{}", refused.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_finds_a_working_host_healthy() {
    let incus = TestIncus::shared().await;
    incus.runner_image().await;
    let dir = tempfile::tempdir().unwrap();
    let shell = Shell::new(dir.path()).with("PIKA_INCUS_SOCKET", incus.socket().to_str().unwrap());
    let ended = shell.pika(&["doctor", "--output", "json"]);
    let problems: Vec<_> = ended
        .json()
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["health"] != "good" && finding["health"] != "warning")
        .cloned()
        .collect();
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(ended.code, 0);
}
