//! The operator's configuration.

use std::path::Path;
use std::time::Duration;

use jerichoci::operator::{CacheScope, OperatorConfig};
use pika_cloud::InstanceType;

#[test]
fn nothing_written_is_the_documented_default() {
    let config = OperatorConfig::parse("c", "").expect("parses");
    assert_eq!(config, OperatorConfig::default());
    assert_eq!(config.incus.default_instance_type, InstanceType::Auto);
    assert_eq!(
        (config.defaults.vcpu_count, config.defaults.memory_mib),
        (2, 4096)
    );
}

#[test]
fn every_key_is_read() {
    let source = r#"
[incus]
socket = "/run/incus/unix.socket"
project = "ci"
profile = "ci"
pool = "fast"
default_instance_type = "container"
owner = "here"
allow_unenforced_root_size = true

[mounts.rust-toolchain]
source = "/opt/rust"
mode = "read_only"
guest_path = "/opt/rust-toolchain"

[mounts.fixtures]
source = "/srv/fixtures"
mode = "read_only"

[caches.cargo-home]
volume = "ci-cargo-home"
guest_path = "/cargo-home"
concurrent_runs = true

[caches.cargo-target]
guest_path = "/cargo-target"
scope = "lane"

[defaults]
vcpu_count = 4
memory_mib = 8192
root_disk_gib = 30
timeout = "45m"
boot_timeout = "3m"
parallel = 6
artifacts_kept = "14d"
"#;
    let config = OperatorConfig::parse("c", source).expect("parses");
    assert_eq!(config.incus.socket, Path::new("/run/incus/unix.socket"));
    assert_eq!(
        config.mounts["rust-toolchain"].guest_path,
        "/opt/rust-toolchain"
    );
    assert_eq!(config.mounts["fixtures"].guest_path, "/mnt/fixtures");
    assert_eq!(
        config.defaults.artifacts_kept,
        std::time::Duration::from_secs(14 * 86_400)
    );
    assert_eq!(config.caches["cargo-target"].scope, CacheScope::Lane);
    assert_eq!(config.caches["cargo-target"].volume, "pikaci-cargo-target");
    assert!(
        config.caches["cargo-home"].concurrent_runs
            && !config.caches["cargo-target"].concurrent_runs
    );
    assert_eq!(config.defaults.timeout, Duration::from_secs(2700));
    assert_eq!(config.defaults.parallel, Some(6));
}

#[test]
fn mistakes_show_their_place() {
    let refusal = |source: &str| {
        OperatorConfig::parse("pikaci.toml", source)
            .expect_err("refused")
            .to_string()
    };
    insta::assert_snapshot!(refusal("[incus]\nsokcet = \"/x\"\n"), @r#"
    pikaci.toml:2:1: unknown key `sokcet`
      |
    2 | sokcet = "/x"
      | ^^^^^^
      = help: did you mean `socket`?
    "#);
    insta::assert_snapshot!(refusal("[mounts.x]\nsource = \"relative\"\nmode = \"read_write\"\n"), @r#"
    pikaci.toml:2:10: a path must be absolute, without `.` or `..`
      |
    2 | source = "relative"
      |          ^^^^^^^^^^

    pikaci.toml:3:8: a host directory is only ever mounted read-only
      |
    3 | mode = "read_write"
      |        ^^^^^^^^^^^^
      = help: write mode = "read_only"; for a directory that lanes may write, define a cache
    "#);
    for (source, part) in [
        ("[defaults]\nparallel = 0", "at least 1"),
        ("[defaults]\ntimeout = \"x\"", "not a duration"),
        ("[incus]\nproject = \"\"", "leave the key out"),
        (
            "[mounts.\"a/b\"]\nsource = \"/x\"\nmode = \"read_only\"",
            "a name has",
        ),
        (
            "[caches.x]\nguest_path = \"/a/../b\"",
            "without `.` or `..`",
        ),
        ("[caches.x]\n", "missing field `guest_path`"),
    ] {
        let text = refusal(source);
        assert!(
            text.contains(part) && text.contains('^'),
            "{source}: {text}"
        );
    }
}
