//! Private daemons: start, side by side, killed and restarted, cleaned by whoever comes after a killed process.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use pikahut::daemon::{
    self, CleanError, Lifetime, Pool, PrivateIncus, PrivateIncusConfig, StartError,
};
use pikahut::{stack, wait};

/// A directory of its own for each test and process.
fn directory(name: &str) -> PathBuf {
    PathBuf::from(format!(
        "/var/lib/pikahut/p-{name}-{}-0",
        std::process::id()
    ))
}

fn config(name: &str) -> PrivateIncusConfig {
    PrivateIncusConfig {
        pool: Pool::Btrfs { size_gib: 4 },
        ..PrivateIncusConfig::new(directory(name))
    }
}

fn incus(dir: &Path, arguments: &[&str]) -> String {
    run(Command::new("incus").args(arguments).env("INCUS_DIR", dir))
}

fn launch_tiny(dir: &Path, name: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let client = pika_incus::Client::unix(dir.join("unix.socket"));
    let image = runtime
        .block_on(stack::ensure_tiny_image(&client, dir))
        .unwrap();
    incus(dir, &["launch", &image, name]);
}

/// Runs a command that must succeed.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {} {words}",
        output.status
    );
    String::from_utf8(output.stdout).unwrap()
}

fn uptime_of_init(dir: &Path, name: &str) -> String {
    let stat = incus(dir, &["exec", name, "--", "/bin/cat", "/proc/1/stat"]);
    // Field 22: start time of PID 1 in ticks since the host's boot.
    stat.rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .nth(19)
        .unwrap()
        .to_owned()
}

fn assert_clean(dir: &Path) {
    assert_eq!(daemon::leftovers(dir).unwrap(), Vec::<String>::new());
}

#[test]
fn two_daemons_run_side_by_side_and_cleaning_one_leaves_the_other() {
    let first = PrivateIncus::start_blocking(&config("two-a")).unwrap();
    let second = PrivateIncus::start_blocking(&PrivateIncusConfig {
        project: "pika".to_owned(),
        pool: Pool::Dir,
        ..config("two-b")
    })
    .unwrap();
    assert_ne!(first.bridge(), second.bridge());
    let networks = incus(second.dir(), &["network", "list", "-f", "csv"]);
    assert!(networks.contains(second.bridge()), "{networks}");
    assert!(
        networks
            .lines()
            .any(|line| line.contains(first.bridge()) && line.contains("NO")),
        "{networks}"
    );
    let pools = incus(first.dir(), &["storage", "list", "-f", "csv"]);
    assert!(pools.starts_with("default,btrfs"), "{pools}");
    let profile = incus(
        second.dir(),
        &["profile", "show", "default", "--project", "pika"],
    );
    assert!(profile.contains(second.bridge()), "{profile}");

    let (first_dir, second_dir) = (first.dir().to_owned(), second.dir().to_owned());
    first.clean_blocking().unwrap();
    assert_clean(&first_dir);
    assert!(incus(second.dir(), &["storage", "list", "-f", "csv"]).contains("default,dir"));
    drop(second);
    assert_clean(&second_dir);
}

#[test]
fn an_instance_survives_kill_9_and_term_of_its_daemon() {
    let daemon = PrivateIncus::start_blocking(&config("kill")).unwrap();
    launch_tiny(daemon.dir(), "hut-survivor");
    let started = uptime_of_init(daemon.dir(), "hut-survivor");
    for end in [PrivateIncus::kill9_blocking, PrivateIncus::stop_blocking] {
        let before = daemon.daemon_pid().unwrap();
        assert!(end(&daemon));
        assert_eq!(daemon.daemon_pid(), None);
        daemon.restart_blocking().unwrap();
        assert_ne!(daemon.daemon_pid().unwrap(), before);
        assert_eq!(uptime_of_init(daemon.dir(), "hut-survivor"), started);
    }
    // The restarted daemon is among the mounts of its predecessor: what it hot-plugs is seen by the old guest.
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("marker"), "seen").unwrap();
    let source = format!("source={}", folder.path().display());
    let device = [
        "config",
        "device",
        "add",
        "hut-survivor",
        "d",
        "disk",
        &source,
        "path=/tmp/d",
        "shift=true",
    ];
    incus(daemon.dir(), &device);
    assert_eq!(
        incus(
            daemon.dir(),
            &["exec", "hut-survivor", "--", "/bin/cat", "/tmp/d/marker"]
        ),
        "seen"
    );

    let dir = daemon.dir().to_owned();
    daemon.clean_blocking().unwrap();
    assert_clean(&dir);
}

#[test]
fn a_network_pair_that_a_killed_start_left_goes_with_the_bridge() {
    let daemon = PrivateIncus::start_blocking(&config("pair")).unwrap();
    let ends = ["a", "b"].map(|end| format!("hut{}{end}", std::process::id()));
    let [plugged, loose] = &ends;
    let ip = |arguments: &[&str]| run(Command::new("ip").arg("link").args(arguments));
    ip(&["add", plugged, "type", "veth", "peer", "name", loose]);
    ip(&["set", plugged, "master", daemon.bridge()]);

    let dir = daemon.dir().to_owned();
    let left = daemon::leftovers(&dir).unwrap();
    assert!(
        left.contains(&format!("network link {plugged}")),
        "{left:?}"
    );
    daemon.clean_blocking().unwrap();
    assert_clean(&dir);
    for end in &ends {
        let link = Path::new("/sys/class/net").join(end);
        assert!(!link.exists(), "{}", link.display());
    }
}

#[test]
fn a_pid_of_the_api_is_found_on_the_host() {
    let daemon = PrivateIncus::start_blocking(&config("pid")).unwrap();
    launch_tiny(daemon.dir(), "hut-pid");
    let state = run(Command::new("incus")
        .args(["query", "/1.0/instances/hut-pid/state"])
        .env("INCUS_DIR", daemon.dir()));
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    let pid = i32::try_from(state["pid"].as_i64().unwrap()).unwrap();
    let host_pid = daemon.host_pid(pid).unwrap();
    let line = fs_err::read_to_string(format!("/proc/{host_pid}/cmdline")).unwrap();
    assert!(line.contains("/sbin/init"), "{line:?}");
    assert_eq!(daemon.host_pid(i32::MAX), None);

    let inside = format!("/proc/{pid}/cmdline");
    let line = run(daemon.command_inside("cat").unwrap().arg(inside));
    assert!(line.contains("/sbin/init"), "{line:?}");
}

#[test]
fn what_a_killed_starter_left_ends_with_it_and_is_cleaned_by_the_next() {
    let dir = directory("orphan");
    let mut starter = Command::new(env!("CARGO_BIN_EXE_pikahut"))
        .args(["start", "--until-eof"])
        .arg(&dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stdout = starter.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    assert_eq!(line.trim_end(), format!("INCUS_DIR={}", dir.display()));
    launch_tiny(&dir, "hut-orphan");
    starter.kill().unwrap();
    starter.wait().unwrap();

    // Without any help every process is gone, and with them the mounts and the loop device.
    let ended = wait::until(Duration::from_secs(20), || {
        let left = daemon::leftovers(&dir).unwrap();
        let held = left.iter().any(|thing| {
            thing.starts_with("processes")
                || thing.starts_with("loop")
                || thing.starts_with("mount")
        });
        (!held).then_some(left)
    });
    let left = ended.expect("processes of a killed starter go on");
    assert!(
        left.iter().any(|thing| thing.starts_with("network link")),
        "{left:?}"
    );
    daemon::clean(&dir).unwrap();
    assert_clean(&dir);
    daemon::clean(&dir).unwrap();
}

#[test]
fn a_daemon_that_lives_while_it_is_used_ends_when_nobody_does_and_starts_again_quickly() {
    let dir = directory("idle");
    let config = PrivateIncusConfig {
        lifetime: Lifetime::WhileUsed {
            idle: Duration::from_secs(2),
        },
        ..config("idle")
    };
    let daemon = PrivateIncus::start_blocking(&config).unwrap();
    let second_user = PrivateIncus::start_blocking(&config).unwrap();
    drop(daemon);
    let ended = wait::until(Duration::from_secs(6), || {
        daemon::leftovers(&dir)
            .unwrap()
            .iter()
            .all(|thing| thing != "processes")
            .then_some(())
    });
    assert!(ended.is_none(), "it ended although somebody uses it");
    drop(second_user);
    let ended = wait::until(Duration::from_secs(20), || {
        daemon::leftovers(&dir)
            .unwrap()
            .iter()
            .all(|thing| thing != "processes")
            .then_some(())
    });
    assert!(ended.is_some(), "it goes on although nobody uses it");
    let daemon = PrivateIncus::start_blocking(&config).unwrap();
    assert!(incus(daemon.dir(), &["storage", "list", "-f", "csv"]).contains("default,btrfs"));
    drop(daemon);
    daemon::clean(&dir).unwrap();
    assert_clean(&dir);
}

#[test]
fn a_directory_with_files_of_others_is_refused_and_never_removed() {
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("letter"), "dear").unwrap();
    let error = PrivateIncus::start_blocking(&PrivateIncusConfig::new(folder.path())).unwrap_err();
    assert!(matches!(error, StartError::Directory { .. }), "{error}");
    let error = daemon::clean(folder.path()).unwrap_err();
    assert!(matches!(error, CleanError::NotOurs { .. }), "{error}");
    assert_eq!(
        fs_err::read_to_string(folder.path().join("letter")).unwrap(),
        "dear"
    );
    let long = format!("/var/lib/pikahut/{}", "x".repeat(80));
    let error = PrivateIncus::start_blocking(&PrivateIncusConfig::new(&long)).unwrap_err();
    assert!(error.to_string().contains("at most 70 bytes"), "{error}");
    assert!(!Path::new(&long).exists());
}
