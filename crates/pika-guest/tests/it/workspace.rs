//! What a job can do to its source: everything in an overlay of its own, and nothing to the host's directory.

use std::fmt::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use pika_cloud::paths::{GUEST_GID, GUEST_UID};
use pika_cloud::{GuestRequest, RunEnd, WorkspaceMode};
use pikahut::stack::TestIncus;

use crate::support::{Guest, assert_end};

/// A command in the source itself, which is where a job runs.
fn in_source(command: &str, workspace: WorkspaceMode) -> GuestRequest {
    GuestRequest {
        workspace,
        ..GuestRequest::new(command, 60)
    }
}

fn writable(command: &str) -> GuestRequest {
    in_source(command, WorkspaceMode::Writable)
}

fn as_root(request: GuestRequest) -> GuestRequest {
    GuestRequest {
        run_as_root: true,
        ..request
    }
}

/// A tree as a snapshot has it: everything belongs to the guest's user.
fn snapshot() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    std::fs::create_dir_all(root.join("src/deep")).unwrap();
    std::fs::write(root.join("src/deep/leaf"), "leaf\n").unwrap();
    std::fs::write(root.join("kept"), "as it was\n").unwrap();
    std::fs::write(root.join("run.sh"), "echo ran\n").unwrap();
    std::os::unix::fs::symlink("kept", root.join("link")).unwrap();
    let all = [
        "",
        "src",
        "src/deep",
        "src/deep/leaf",
        "kept",
        "run.sh",
        "link",
    ];
    for name in all {
        std::os::unix::fs::lchown(root.join(name), Some(GUEST_UID), Some(GUEST_GID)).unwrap();
    }
    std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// Everything that can be seen of a tree: names, modes, owners, times, content.
fn picture(root: &Path) -> String {
    let mut lines = String::new();
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        let facts = path.symlink_metadata().unwrap();
        let content = match () {
            () if facts.is_symlink() => format!("{:?}", path.read_link().unwrap()),
            () if facts.is_file() => format!("{:?}", std::fs::read(&path).unwrap()),
            () => String::new(),
        };
        writeln!(
            lines,
            "{} {:o} {}:{} {} {content}",
            path.display(),
            facts.mode(),
            facts.uid(),
            facts.gid(),
            facts.mtime_nsec()
        )
        .unwrap();
        if facts.is_dir() {
            let mut below: Vec<_> = path
                .read_dir()
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            below.sort();
            open.extend(below);
        }
    }
    lines
}

const CHANGES: &str = "set -ex; trap 'id; stat .; cat /proc/self/mountinfo' ERR
    echo new >new; mkdir -p made/here; echo more >>kept; echo other >src/deep/other
    mv src moved; [ ! -e src ]; cat moved/deep/leaf moved/deep/other
    chmod 755 run.sh; ./run.sh; rm link; ln -s new link; cat link
    rm -r moved/deep; mkdir moved/deep; [ -z \"$(ls moved/deep)\" ]
    mv kept renamed; cat renamed; ls";

#[tokio::test(flavor = "multi_thread")]
async fn a_job_may_change_everything_and_nobody_else_sees_it() {
    let incus = TestIncus::shared().await;
    let snapshot = snapshot();
    let before = picture(snapshot.path());
    let guest = Guest::with_snapshot(&incus, "writable", snapshot.path()).await;
    let other = Guest::with_snapshot(&incus, "other", snapshot.path()).await;

    let changed = |nonce: &str, request: &GuestRequest| {
        let run = guest.run(nonce, request);
        assert_end(&run, RunEnd::Exited { code: 0 });
        let text = run.text();
        let seen: Vec<&str> = text.lines().filter(|line| !line.starts_with('+')).collect();
        let expected = [
            "leaf",
            "other",
            "ran",
            "new",
            "as it was",
            "more",
            "link",
            "made",
            "moved",
            "new",
            "renamed",
            "run.sh",
        ];
        assert_eq!(seen, expected, "{text}");
    };
    changed("w1", &writable(CHANGES));
    assert_eq!(picture(snapshot.path()), before);
    let look = "cat kept src/deep/leaf; ls";
    let expected = "as it was\nleaf\nkept\nlink\nrun.sh\nsrc\n";
    let seen = other.run("r1", &in_source(look, WorkspaceMode::ReadOnly));
    assert_eq!(seen.text(), expected);
    assert_eq!(other.run("w1", &writable(look)).text(), expected);

    // The next run in the same guest begins anew, whoever it is and whatever it asks for.
    changed("w2", &as_root(writable(CHANGES)));
    assert_eq!(guest.run("w3", &writable(look)).text(), expected);
    let refused = format!("{look}; touch new || exit 7");
    let run = guest.run("r2", &in_source(&refused, WorkspaceMode::ReadOnly));
    assert_end(&run, RunEnd::Exited { code: 7 });
    assert!(run.text().starts_with(expected), "{}", run.text());
    assert!(
        run.text().contains("Read-only file system"),
        "{}",
        run.text()
    );

    assert_eq!(picture(snapshot.path()), before);
    // What is written is on the root disk, and out of the job's own reach.
    let place = "stat -f -c %T /var/lib/pika-workspace; stat -c '%a %u' /var/lib/pika-workspace";
    let found = guest.sh(place);
    assert!(
        !found.contains("tmpfs") && found.ends_with("700 0\n"),
        "{found}"
    );
    drop((guest, other));
    incus.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_job_can_not_reach_the_hosts_directory() {
    let incus = TestIncus::shared().await;
    let snapshot = snapshot();
    let before = picture(snapshot.path());
    let guest = Guest::with_snapshot(&incus, "root", snapshot.path()).await;
    // Each attempt may succeed at something; what counts is the host's directory.
    let attempts = "
        touch /workspace/snapshot/x; echo x >>/workspace/snapshot/kept; chmod 777 /workspace/snapshot/kept
        mount -o remount,rw /workspace/snapshot; touch /workspace/snapshot/x
        mount -o remount,bind,rw /workspace/snapshot; touch /workspace/snapshot/x
        mkdir -p /m1 && mount --bind /workspace/snapshot /m1 && mount -o remount,bind,rw /m1; touch /m1/x; echo x >>/m1/kept
        mkdir -p /m2 && mount --rbind / /m2 && mount -o remount,bind,rw /m2/workspace/snapshot; echo x >>/m2/workspace/snapshot/kept
        echo x >>/proc/1/root/workspace/snapshot/kept; touch /proc/1/root/workspace/snapshot/x
        unshare -m sh -c 'mount --make-rprivate /; mount -o remount,bind,rw /workspace/snapshot; echo x >>/workspace/snapshot/kept; umount /workspace/snapshot; echo x >>/workspace/snapshot/kept'
        unshare -Urm sh -c 'mount -o remount,bind,rw /workspace/snapshot; echo x >>/workspace/snapshot/kept'
        nsenter -t 1 -m sh -c 'mount -o remount,rw /workspace/snapshot; echo x >>/workspace/snapshot/kept'
        umount /workspace/snapshot; echo x >>/workspace/snapshot/kept
        mount -o remount,bind,rw /workspace/snapshot; echo x >>/workspace/snapshot/kept
        umount -l /workspace/snapshot; mkdir -p /workspace/snapshot; echo x >/workspace/snapshot/kept
        for device in $(sed -n 's/^[0-9]* [0-9]* \\([0-9]*:[0-9]*\\) .*/\\1/p' /proc/self/mountinfo | sort -u); do
            mknod /tmp/device b ${device%:*} ${device#*:} && head -c 1 /tmp/device && echo 'READ A DEVICE'; rm -f /tmp/device; done
        exit 0";
    for (nonce, workspace) in [
        ("read-only", WorkspaceMode::ReadOnly),
        ("writable", WorkspaceMode::Writable),
    ] {
        let run = guest.run(nonce, &as_root(in_source(attempts, workspace)));
        assert_end(&run, RunEnd::Exited { code: 0 });
        assert!(!run.text().contains("READ A DEVICE"), "{}", run.text());
        if workspace == WorkspaceMode::ReadOnly {
            let refused = run.text().matches(": permission denied.").count();
            assert!(refused >= 7, "{}", run.text());
        }
        assert_eq!(picture(snapshot.path()), before, "{nonce}: {}", run.text());
        // A guest whose source was taken away gets it back only with a new boot.
        let restart = ["restart", "--force", guest.name.as_str()];
        assert!(guest.incus(&restart).output().unwrap().status.success());
        guest.wait_for_runner();
    }
    let look = guest.run("after", &writable("cat kept"));
    assert_eq!(look.text(), "as it was\n");
    drop(guest);
    incus.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boot_that_goes_on_takes_the_workspace_from_nobody() {
    let incus = TestIncus::shared().await;
    let snapshot = snapshot();
    let guest = Guest::with_snapshot(&incus, "boot", snapshot.path()).await;
    let command = "echo begun; until [ -e /tmp/go ]; do sleep 0.05; done; echo new >new; cat new";
    guest.start("boot", &writable(command));
    guest.wait_for("grep -q begun /run/pika-cloud/logs/guest.log");
    // What the guest's init does at some moment of a boot, often before the first job and now and then after it. It
    // complains of much in a container, and how it ends is not what counts.
    guest.sh("systemd-tmpfiles --create || true; touch /tmp/go");
    let run = guest.attach("boot", 0);
    assert_end(&run, RunEnd::Exited { code: 0 });
    assert_eq!(run.text(), "begun\nnew\n");
    drop(guest);
    incus.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_that_can_not_be_made_is_the_runners_failure() {
    let incus = TestIncus::shared().await;
    let snapshot = snapshot();
    let guest = Guest::with_snapshot(&incus, "failing", snapshot.path()).await;
    let failure = |nonce: &str, needle: &str| {
        let run = guest.run(nonce, &writable("echo the command ran"));
        let RunEnd::RunnerFailed { reason } = &run.record.end else {
            panic!("{:?}", run.record);
        };
        assert!(reason.contains(needle), "{reason}");
        assert_eq!(run.text(), "");
    };
    guest.sh("touch /var/lib/pika-workspace");
    failure("file", "/var/lib/pika-workspace");
    guest.sh("rm /var/lib/pika-workspace; mkdir /var/lib/pika-workspace; mount -t tmpfs none /var/lib/pika-workspace");
    failure("memory", "is on a tmpfs");
    guest.sh("umount /var/lib/pika-workspace; mount -t proc none /var/lib/pika-workspace");
    failure("mount", "/var/lib/pika-workspace");
    guest.sh("umount /var/lib/pika-workspace");
    let run = guest.run("fine", &writable("echo ok >kept && cat kept"));
    assert_eq!(run.text(), "ok\n");
    drop(guest);
    incus.assert_nothing_left().await;
}
