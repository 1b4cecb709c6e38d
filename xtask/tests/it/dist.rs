//! The Debian package, made twice and installed for real: in a Debian with systemd, in an instance of a real Incus.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pika_incus::types::StateChange;
use pika_incus::{Client, ExecRequest, FileMeta};
use pikahut::stack::TestIncus;

const LIMIT: Duration = Duration::from_secs(120);
const PROGRAMS: [&str; 3] = ["pika", "pikaci", "pika-server"];

/// The folder of programs that cargo built for tests. Whoever runs all tests has them there; the others get them made.
fn programs() -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_xtask")).parent().unwrap();
    if PROGRAMS.iter().any(|name| !folder.join(name).is_file()) {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.arg("build").current_dir(env!("CARGO_MANIFEST_DIR"));
        for name in PROGRAMS {
            command.args(["--package", name]);
        }
        assert!(command.status().unwrap().success());
    }
    folder.to_owned()
}

/// Makes a package of this version; gives its path.
fn package(out: &Path, version: &str) -> PathBuf {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["dist", "--quick", "--version", version, "--programs"])
        .arg(programs())
        .arg("--out")
        .arg(out)
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}");
    out.join(format!("pika-cloud_{version}_amd64.deb"))
}

/// A Debian with systemd, and nothing of ours but what is installed in it.
struct Machine<'a> {
    client: &'a Client,
    name: String,
}

impl Machine<'_> {
    async fn boot(incus: &TestIncus) -> Machine<'_> {
        let alias = incus.runner_image().await;
        let client = incus.client();
        let name = incus.name("deb");
        let body = serde_json::json!({
            "name": name, "type": "container", "start": true,
            "source": {"type": "image", "alias": alias},
            "config": {"user.pika.owner": incus.owner()},
        });
        let created = client.create_instance(&body).await.unwrap();
        created.wait(LIMIT).await.unwrap();
        let machine = Machine { client, name };
        machine
            .does(
                "timeout 100 sh -c 'until test -S /run/systemd/private; do sleep 0.05; done; \
                 systemctl is-system-running --wait'",
            )
            .await;
        machine
    }

    async fn put(&self, package: &Path, path: &str) {
        let bytes = std::fs::read(package).unwrap();
        let meta = FileMeta::root(0o644);
        let put = self.client.file_put(&self.name, path, bytes, &meta);
        put.await.unwrap();
    }

    /// What a command prints; it must end with 0.
    async fn does(&self, command: &str) -> String {
        let request = ExecRequest::new(["sh", "-ec", command]);
        let output = self
            .client
            .exec_capture(&self.name, &request, Default::default(), LIMIT)
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.exit_code, 0, "{command}\n{said}\n{words}");
        said
    }

    /// The status and body of an answer of the server there.
    async fn asks(&self, path: &str) -> (String, serde_json::Value) {
        let command = format!(
            "curl -sS -w '\\n%{{http_code}}' -H \"Authorization: Bearer $(cat /root/token)\" http://127.0.0.1:8787{path}"
        );
        let said = self.does(&command).await;
        let (body, status) = said.rsplit_once('\n').unwrap();
        (status.to_owned(), serde_json::from_str(body).unwrap())
    }

    async fn remove(self) {
        let stop = StateChange::force_stop();
        let changed = self.client.set_instance_state(&self.name, &stop).await;
        changed.unwrap().wait(LIMIT).await.unwrap();
        let deleted = self.client.delete_instance(&self.name).await.unwrap();
        deleted.wait(LIMIT).await.unwrap();
    }
}

/// Installed: there, whole, and not running.
async fn is_installed(machine: &Machine<'_>) {
    machine.does("dpkg --install /root/first.deb").await;
    machine.does("dpkg --verify pika-cloud").await;
    assert_eq!(
        machine
            .does("systemctl is-enabled pika-server || true")
            .await,
        "disabled"
    );
    assert_eq!(
        machine
            .does("systemctl is-active pika-server || true")
            .await,
        "inactive"
    );
    machine
        .does("id --name --groups pika-server | grep --word-regexp incus-admin")
        .await;
    machine.does("pika --version && pikaci --version").await;
    machine
        .does("pika-server --print-config | grep --fixed-strings /var/lib/pika-server/pika.db")
        .await;
    let check = "runuser -u pika-server -- pika-server --check || test $? = 1";
    let found = machine.does(check).await;
    assert!(found.contains("ok    database"), "{found}");
    assert!(found.contains("FAIL  incus"), "{found}");
}

/// Started without Incus: it answers, says what is missing, and keeps its token to itself.
async fn starts_without_incus(machine: &Machine<'_>) {
    machine.does("systemctl enable --now pika-server").await;
    assert_eq!(
        machine
            .does("stat --format '%a %U' /var/lib/pika-server/first-operator-token")
            .await,
        "600 pika-server"
    );
    machine
        .does("mv /var/lib/pika-server/first-operator-token /root/token; chown root /root/token")
        .await;
    machine
        .does("test -s /root/token; ! journalctl --unit pika-server | grep --fixed-strings \"$(cat /root/token)\"")
        .await;
    let (status, body) = machine.asks("/healthz").await;
    assert_eq!((&*status, &body["status"]), ("200", &"ok".into()));
    let (status, body) = machine.asks("/readyz").await;
    assert_eq!(status, "503", "{body}");
    assert_eq!(body["database"], "ok");
    let why = body["incus"].as_str().unwrap();
    assert!(
        why.contains("there is no socket at /var/lib/incus/unix.socket"),
        "{why}"
    );
    let (status, _) = machine.asks("/v1/owners").await;
    assert_eq!(status, "200");
}

/// Upgraded: another process with the same configuration and the same database.
async fn is_upgraded(machine: &Machine<'_>) {
    machine
        .does("sed --in-place 's/^#metrics_listen/metrics_listen/' /etc/pika/server.toml")
        .await;
    let pid = "systemctl show --property MainPID --value pika-server";
    let before = machine.does(pid).await;
    machine.does("dpkg --install /root/second.deb").await;
    assert_ne!(machine.does(pid).await, before);
    assert_eq!(
        machine.does("systemctl is-active pika-server").await,
        "active"
    );
    machine
        .does("curl -sSf http://127.0.0.1:9787/metrics | grep --quiet pika_build")
        .await;
    let (status, _) = machine.asks("/v1/owners").await;
    assert_eq!(status, "200");
    machine
        .does("test ! -e /var/lib/pika-server/first-operator-token")
        .await;
}

/// Removed, it leaves what is the operator's; purged, nothing.
async fn is_removed_and_purged(machine: &Machine<'_>) {
    machine.does("dpkg --remove pika-cloud").await;
    machine
        .does("test -f /etc/pika/server.toml; test -f /var/lib/pika-server/pika.db; test ! -e /usr/bin/pika-server")
        .await;
    machine.does("! pgrep --exact pika-server").await;
    machine.does("dpkg --purge pika-cloud").await;
    let left = machine
        .does(
            "find / -xdev \\( -iname '*pika-server*' -o -iname '*pika-cloud*' -o -path /etc/pika \\) \
             -not -path '/proc/*' -not -path '/var/log/*' -not -path '/tmp/*' -not -path '/var/lib/pika-cloud*' \
             -not -path '/run/*'",
        )
        .await;
    assert_eq!(left, "");
    machine
        .does("! getent passwd pika-server; ! getent group pika-server")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_package_installs_runs_upgrades_and_goes_without_a_trace() {
    let out = tempfile::tempdir().unwrap();
    let first = package(out.path(), "1.0");
    let bytes = std::fs::read(&first).unwrap();
    std::fs::remove_file(&first).unwrap();
    let again = package(out.path(), "1.0");
    let same = bytes == std::fs::read(&again).unwrap();
    assert!(same, "the same tree gave other bytes");
    let second = package(out.path(), "1.1");

    let incus = TestIncus::shared().await;
    let machine = Machine::boot(&incus).await;
    machine.put(&first, "/root/first.deb").await;
    machine.put(&second, "/root/second.deb").await;
    is_installed(&machine).await;
    starts_without_incus(&machine).await;
    is_upgraded(&machine).await;
    is_removed_and_purged(&machine).await;
    machine.remove().await;
    incus.assert_nothing_left().await;
}
