//! Specs that need no daemon: validate and plan.

use std::fs;

use crate::shell::Shell;

const GOOD: &str = r#"
[identity]
runtime_id = "demo:echo"
instance_name = "pika-demo"
[incus]
project = "default"
profile = "default"
image_alias = "pikaci/dev"
[resources]
vcpu_count = 1
memory_mib = 512
[labels]
lane = "demo"
[policies.output_collection]
artifact_globs = ["report/**"]
[policies.deadlines]
run_secs = 60
[[mounts]]
kind = "read_only_snapshot"
source = "/srv/tree"
guest_path = "/workspace/snapshot"
mode = "read_only"
required = true
[[mounts]]
kind = "cache"
source = "cargo-home"
guest_path = "/cargo-home"
mode = "read_write"
"#;

const BAD: &str = r#"{
  "identity": {"runtime_id": " ", "instance_name": "1bad"},
  "incus": {"project": "default", "profile": "default", "image_alias": "x"},
  "resources": {"vcpu_count": 0},
  "mounts": [{"kind": "cache", "source": "x", "guest_path": "/", "mode": "read_write"}]
}"#;

fn files() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("good.toml"), GOOD).unwrap();
    fs::write(dir.path().join("bad.json"), BAD).unwrap();
    fs::write(
        dir.path().join("unknown.toml"),
        format!("surprise = 1\n{GOOD}"),
    )
    .unwrap();
    fs::write(dir.path().join("broken.json"), "{\n  \"identity\": ,\n}").unwrap();
    fs::write(dir.path().join("binary.json"), b"\xff\xfe").unwrap();
    dir
}

#[test]
fn validate_tells_all_problems() {
    let dir = files();
    let shell = Shell::new(dir.path());
    let texts: Vec<String> = [
        "good.toml",
        "bad.json",
        "unknown.toml",
        "broken.json",
        "binary.json",
        "absent.json",
    ]
    .iter()
    .map(|name| {
        format!(
            "$ pika runtime validate {name}\n{}",
            shell.pika(&["runtime", "validate", name]).all()
        )
    })
    .collect();
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn validate_says_the_same_in_json() {
    let dir = files();
    let shell = Shell::new(dir.path());
    let good = shell.pika(&["runtime", "validate", "good.toml", "--output", "json"]);
    assert_eq!((good.code, good.json()["valid"].as_bool()), (0, Some(true)));
    let bad = shell.pika(&["--output", "json", "runtime", "validate", "bad.json"]);
    assert_eq!((bad.code, bad.stderr.as_str()), (1, ""));
    assert_eq!(bad.json()["problems"].as_array().unwrap().len(), 4);
}

#[test]
fn plan_reads_like_this() {
    let dir = files();
    let ended = Shell::new(dir.path()).pika(&["runtime", "plan", "good.toml"]);
    insta::assert_snapshot!(ended.all());
}

#[test]
fn plan_in_json_is_the_librarys_plan_from_a_file_and_from_stdin() {
    let dir = files();
    let shell = Shell::new(dir.path()).with("PIKA_OUTPUT", "json");
    let from_file = shell.pika(&["runtime", "plan", "good.toml"]);
    assert_eq!((from_file.code, from_file.stderr.as_str()), (0, ""));
    let plan: pika_cloud::IncusRuntimePlan = serde_json::from_str(&from_file.stdout).unwrap();
    let spec: pika_cloud::RuntimeSpec = toml::from_str(GOOD).unwrap();
    assert_eq!(plan, spec.build_incus_plan().unwrap());
    let from_stdin = shell.pika_with_stdin(&["runtime", "plan", "-"], GOOD);
    assert_eq!(from_stdin.stdout, from_file.stdout);
    let as_json = serde_json::to_string(&spec).unwrap();
    assert_eq!(
        shell
            .pika_with_stdin(&["runtime", "plan", "-"], &as_json)
            .stdout,
        from_file.stdout
    );
}

#[test]
fn a_bad_spec_goes_no_further_in_any_verb() {
    let dir = files();
    let shell = Shell::new(dir.path());
    for verb in ["plan", "ensure", "inspect", "destroy"] {
        let ended = shell.pika(&["runtime", verb, "bad.json", "--socket", "/nowhere"]);
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{verb}");
        assert!(
            ended.stderr.contains("`identity.runtime_id` is empty"),
            "{}",
            ended.stderr
        );
    }
}

#[test]
fn an_endless_spec_is_refused() {
    let dir = files();
    let ended = Shell::new(dir.path()).pika(&["runtime", "validate", "/dev/zero"]);
    assert_eq!(ended.code, 2);
    insta::assert_snapshot!(ended.stderr, @"error: /dev/zero is longer than the 1048576 bytes that a spec may have");
}
