//! Lane to job to runtime spec.

use std::path::Path;

use jerichoci::job::{
    GUEST_ROLE_ENV, JobContext, JobError, JobSpec, optional_lanes, parse_guest_role_override,
};
use jerichoci::lanes::{LanesFile, Section};
use jerichoci::operator::OperatorConfig;
use jerichoci::record::RunId;
use pika_cloud::{InstanceType, RuntimeMountMode};
use pika_incus_guest_role::IncusGuestRole;

fn lanes(keys: &str) -> LanesFile {
    let source = format!(
        "version = 1\n[[branch.lanes]]\nid = \"a\"\ncommand = [\"cargo\", \"test\", \"a b\"]\n{keys}\n"
    );
    LanesFile::parse("f", &source).expect("parses")
}

fn operator() -> OperatorConfig {
    let source = r#"
[incus]
project = "ci"
[mounts.rust-toolchain]
source = "/opt/rust"
mode = "read_only"
[caches.cargo-home]
guest_path = "/cargo-home"
concurrent_runs = true
[caches.cargo-target]
guest_path = "/cargo-target"
scope = "lane"
"#;
    OperatorConfig::parse("c", source).expect("parses")
}

fn make(
    lanes: &LanesFile,
    operator: &OperatorConfig,
    role_override: Option<IncusGuestRole>,
) -> Result<JobSpec, JobError> {
    let context = JobContext {
        operator,
        owner: "owner",
        store_tag: "tag",
        role_override,
    };
    JobSpec::new(Section::Branch, &lanes.branch[0], &context)
}

fn job(keys: &str) -> JobSpec {
    make(&lanes(keys), &operator(), None).expect("a job")
}

fn refusal(keys: &str) -> String {
    make(&lanes(keys), &operator(), None)
        .expect_err("refused")
        .to_string()
}

fn run_id() -> RunId {
    "20261121-091500-3f9a2c".parse().expect("a run id")
}

#[test]
fn a_silent_lane_gets_the_defaults_of_ci() {
    let job = job("");
    let spec = job.runtime_spec(&run_id(), 1, Path::new("/s"));
    insta::assert_json_snapshot!(spec, @r#"
    {
      "identity": {
        "runtime_id": "20261121-091500-3f9a2c:a",
        "instance_name": "pikaci-2efabbcf881f"
      },
      "incus": {
        "project": "ci",
        "profile": "default",
        "image_alias": "pikaci/dev",
        "instance_type": "auto"
      },
      "resources": {
        "vcpu_count": 2,
        "memory_mib": 4096
      },
      "lifecycle_root": "/run/pika-cloud",
      "mounts": [
        {
          "kind": "read_only_snapshot",
          "guest_path": "/workspace/snapshot",
          "source": "/s",
          "mode": "read_only",
          "required": true
        }
      ],
      "paths": {
        "state_dir": "/run/pika-cloud",
        "events_path": "/run/pika-cloud/events.jsonl",
        "status_path": "/run/pika-cloud/status.json",
        "result_path": "/run/pika-cloud/result.json",
        "guest_request_path": "/run/pika-cloud/guest-request.json",
        "logs_dir": "/run/pika-cloud/logs",
        "guest_log_path": "/run/pika-cloud/logs/guest.log",
        "artifacts_dir": "/run/pika-cloud/artifacts"
      },
      "policies": {
        "restart_policy": "never",
        "retention_policy": "destroy_on_completion",
        "output_collection": {
          "mode": "always",
          "include_logs": true,
          "include_result": true,
          "artifact_globs": []
        },
        "deadlines": {
          "boot_secs": 120,
          "run_secs": 3600
        }
      },
      "bootstrap": {},
      "labels": {
        "lane": "a"
      },
      "metadata": {}
    }
    "#);
    let request = job.guest_request("n0nce");
    assert_eq!(
        (request.command.as_str(), request.timeout_secs),
        ("cargo test 'a b'", 3600)
    );
    assert_eq!(request.nonce.as_deref(), Some("n0nce"));
}

#[test]
fn mounts_and_caches_come_by_name() {
    let job = job("mounts = [\"rust-toolchain\"]\ncaches = [\"cargo-home\", \"cargo-target\"]");
    let spec = job.runtime_spec(&run_id(), 1, Path::new("/s"));
    let shown: Vec<_> = spec
        .mounts
        .iter()
        .map(|mount| {
            (
                mount.source.as_str(),
                mount.guest_path.as_str(),
                mount.mode == RuntimeMountMode::ReadOnly,
            )
        })
        .collect();
    assert_eq!(
        shown[..2],
        [
            ("/s", "/workspace/snapshot", true),
            ("/opt/rust", "/mnt/rust-toolchain", true),
        ]
    );
    let is_working_volume = |(source, path, read_only): (&str, &str, bool), cache: &str| {
        source.starts_with(&format!("pikaci-{cache}-")) && path == format!("/{cache}") && !read_only
    };
    assert!(is_working_volume(shown[2], "cargo-home"), "{shown:?}");
    assert!(is_working_volume(shown[3], "cargo-target"), "{shown:?}");
    let again = job.runtime_spec(&run_id(), 2, Path::new("/s"));
    assert_ne!(
        again.mounts[2].source, spec.mounts[2].source,
        "each attempt has a clone of its own"
    );
    let keys: Vec<_> = job
        .caches
        .iter()
        .map(|cache| (cache.key.whose.as_str(), cache.key.lane.as_deref()))
        .collect();
    assert_eq!(
        keys,
        [("owner", None), ("tag", Some("a"))],
        "cargo's registry may be shared by everybody, build products only by runs of one tree that follow each other"
    );
    spec.build_incus_plan().expect("a plan");
}

#[test]
fn an_unknown_name_says_what_there_is() {
    insta::assert_snapshot!(refusal("mounts = [\"rust\"]\ncaches = [\"x\"]"), @r"
    lane `a` can't run
      - no mount is called `rust`; the operator's configuration defines `rust-toolchain`
      - no cache is called `x`; the operator's configuration defines `cargo-home`, `cargo-target`
    ");
}

#[test]
fn what_is_not_supported_is_refused_and_never_ignored() {
    let text = refusal("runner = \"ssh:mac\"");
    assert!(
        text.contains("runner") && text.contains("not supported"),
        "{text}"
    );
}

#[test]
fn two_mounts_at_one_place_are_refused_before_anything_starts() {
    let source = "[caches.a]\nguest_path = \"/c\"\n[caches.b]\nguest_path = \"/c\"";
    let operator = OperatorConfig::parse("c", source).expect("parses");
    let lanes = lanes("caches = [\"a\", \"b\"]");
    let text = make(&lanes, &operator, None)
        .expect_err("refused")
        .to_string();
    assert!(text.contains("/c"), "{text}");
}

#[test]
fn a_payload_is_mounted_where_nothing_else_may_be() {
    let with = |keys: &str, config: &str| {
        let source = format!(
            "version = 1\n[[branch.lanes]]\nid = \"a\"\ncommand = [\"true\"]\n{keys}\n\
             [[branch.lanes]]\nid = \"b\"\ncommand = [\"true\"]\noutputs = [\"workspace-deps\"]\n"
        );
        let lanes = LanesFile::parse("f", &source).expect("parses");
        let operator = OperatorConfig::parse("c", config).expect("parses");
        make(&lanes, &operator, None)
    };
    let takes = "inputs = [\"workspace-deps\"]";
    let taker = with(takes, "").expect("a job");
    assert_eq!(taker.needs, ["b"]);
    let own = taker.runtime_spec(&run_id(), 1, Path::new("/s")).mounts;
    assert_eq!(own.len(), 1, "what it takes is known when it starts");
    let made = with("outputs = [\"workspace-build\"]", "").expect("a job");
    let of = |attempt| {
        let spec = made.runtime_spec(&run_id(), attempt, Path::new("/s"));
        spec.mounts.last().expect("its output").clone()
    };
    assert_eq!(of(1).guest_path, "/staged/linux-rust/workspace-build");
    assert_eq!(of(1).mode, RuntimeMountMode::ReadWrite);
    assert_ne!(of(1).source, of(2).source, "each attempt has its own");
    let there = "[mounts.x]\nsource = \"/x\"\nmode = \"read_only\"\nguest_path = \"/staged/linux-rust/workspace-deps\"";
    let refused = with(&format!("{takes}\nmounts = [\"x\"]"), there).expect_err("refused");
    assert!(
        refused
            .to_string()
            .contains("/staged/linux-rust/workspace-deps"),
        "{refused}"
    );
}

#[test]
fn the_role_comes_from_the_override_then_the_lane_then_ci() {
    let chosen = |keys: &str, role: Option<IncusGuestRole>| {
        let job = make(&lanes(keys), &operator(), role).expect("a job");
        (job.guest_role, job.image_alias)
    };
    let sandbox = "guest_role = \"pi-sandbox\"";
    assert_eq!(
        chosen("", None),
        (IncusGuestRole::PikaciRunner, "pikaci/dev".into())
    );
    assert_eq!(
        chosen(sandbox, None),
        (IncusGuestRole::PiSandbox, "pi-sandbox/dev".into())
    );
    assert_eq!(
        chosen(sandbox, Some(IncusGuestRole::PikaciRunner)),
        (IncusGuestRole::PikaciRunner, "pikaci/dev".into())
    );
    assert_eq!(
        chosen("image = \"mine\"", Some(IncusGuestRole::PiSandbox)),
        (IncusGuestRole::PiSandbox, "mine".into())
    );
    assert_eq!(
        job("instance_type = \"container\"").instance_type,
        InstanceType::Container
    );
    assert_eq!(job("").instance_type, InstanceType::Auto);
}

#[test]
fn an_invalid_override_names_the_variable() {
    assert_eq!(parse_guest_role_override(None).expect("unset"), None);
    assert_eq!(
        parse_guest_role_override(Some(" pikaci-runner ")).expect("a role"),
        Some(IncusGuestRole::PikaciRunner)
    );
    for value in ["", "runner"] {
        let error = parse_guest_role_override(Some(value)).expect_err("no role");
        assert!(error.to_string().contains(GUEST_ROLE_ENV), "{error}");
    }
}

#[test]
fn each_attempt_has_a_name_of_its_own() {
    let job = job("");
    let name = |attempt| {
        job.runtime_spec(&run_id(), attempt, Path::new("/s"))
            .identity
    };
    assert_eq!(name(1).runtime_id, "20261121-091500-3f9a2c:a");
    assert_ne!(name(1).instance_name, name(2).instance_name);
    assert_eq!(name(2).runtime_id, "20261121-091500-3f9a2c:a:2");
}

#[test]
fn reports_are_collected_beside_artifacts() {
    let job = job("artifacts = [\"*.log\"]\nreports = [\"junit/*.xml\"]");
    assert_eq!(job.collected_globs(), ["*.log", "junit/*.xml"]);
}

#[test]
fn what_a_required_lane_needs_is_not_optional() {
    let with = |id: &str, required, needs: &[&str]| {
        let mut job = job("");
        job.lane = id.to_owned();
        job.required = required;
        job.needs = needs.iter().map(|need| (*need).to_owned()).collect();
        job
    };
    let mut jobs = vec![
        with("a", false, &[]),
        with("b", false, &["a"]),
        with("c", true, &["b"]),
        with("d", false, &[]),
    ];
    assert_eq!(optional_lanes(&jobs).into_iter().collect::<Vec<_>>(), ["d"]);
    jobs.truncate(2);
    assert!(
        optional_lanes(&jobs).is_empty(),
        "a run of optional lanes alone is about them"
    );
}

#[test]
fn a_job_reads_back_as_it_was_written_down() {
    let keys = "caches = [\"cargo-home\", \"cargo-target\"]\nmounts = [\"rust-toolchain\"]\nretry = 2\ntimeout = \"90s\"";
    let written = job(keys);
    let text = serde_json::to_string(&written).expect("written");
    let read: JobSpec = serde_json::from_str(&text).expect("read");
    assert_eq!(read, written);
    assert_eq!(read.departs_from(&operator()), None);
}

#[test]
fn a_job_that_was_written_down_brings_nothing_that_the_operator_does_not_give() {
    let keys = "caches = [\"cargo-home\"]\nmounts = [\"rust-toolchain\"]";
    let departs = |change: &dyn Fn(&mut OperatorConfig)| {
        let mut operator = operator();
        change(&mut operator);
        job(keys).departs_from(&operator).expect("it departs")
    };
    let forged = |pointer: &str, value: serde_json::Value| {
        let mut text = serde_json::to_value(job(keys)).expect("written");
        *text.pointer_mut(pointer).expect("there") = value;
        let job: JobSpec = serde_json::from_value(text).expect("read");
        job.departs_from(&operator()).expect("it departs")
    };
    assert_eq!(
        departs(&|operator| operator.mounts.clear()),
        "the mount at /mnt/rust-toolchain"
    );
    assert_eq!(
        departs(&|operator| operator.caches.clear()),
        "the cache cargo-home"
    );
    assert_eq!(
        departs(&|operator| operator.incus.project = "x".into()),
        "the project"
    );
    assert_eq!(
        departs(&|operator| operator.incus.profile = "x".into()),
        "the profile"
    );
    assert_eq!(
        departs(&|operator| operator.incus.pool = Some("x".into())),
        "the pool"
    );
    assert_eq!(
        forged("/mounts/0/source", "/etc".into()),
        "the mount at /mnt/rust-toolchain"
    );
    assert_eq!(
        forged("/mounts/0/mode", "read_write".into()),
        "the mount at /mnt/rust-toolchain"
    );
    assert_eq!(
        forged("/caches/0/guest_path", "/etc".into()),
        "the cache cargo-home"
    );
    assert_eq!(forged("/profile", "privileged".into()), "the profile");
}
