//! The real image, booted: what a job and the runner rely on.

use std::time::Duration;

use pika_incus::types::StateChange;
use pika_incus::{Client, ExecRequest};
use pikahut::stack::TestIncus;

/// What must be true inside, each a shell command that ends 0.
const FACTS: &[&str] = &[
    "test \"$(id -u pikaci):$(id -g pikaci)\" = 1000:1000",
    "test \"$(stat -c %U /home/pikaci)\" = pikaci",
    "for p in bash node python3 git cc pikaci-incus-run; do test -x /run/current-system/sw/bin/$p || exit 1; done",
    "/run/current-system/sw/bin/node --version",
    "for d in /workspace/snapshot /staged/linux-rust/workspace-deps /staged/linux-rust/workspace-build /mnt/pika-state /var/lib/pika-cloud; do test -d $d || exit 1; done",
    "for d in /cargo-home /cargo-target; do test \"$(stat -c %U $d)\" = pikaci || exit 1; done",
    "test ! -s /etc/hostname",
    "test ! -e /var/lib/apt/lists/lock",
    "printf 'int main(void){return 0;}' | cc -x c - -o /tmp/a && /tmp/a",
    "systemctl is-enabled systemd-networkd systemd-resolved",
    // Every certificate authority that was carried in is in the bundle that programs read.
    "for c in /usr/local/share/ca-certificates/*.crt; do test -e \"$c\" || continue; openssl verify -CAfile /etc/ssl/certs/ca-certificates.crt \"$c\" || exit 1; done",
];

#[tokio::test]
async fn the_runner_image_boots_with_all_that_a_job_needs() {
    let incus = TestIncus::shared().await;
    let client = incus.client();
    let alias = incus.runner_image().await;
    let name = incus.name("boot");
    let body = serde_json::json!({
        "name": name, "type": "container", "start": true,
        "source": {"type": "image", "alias": alias},
        "config": {"user.pika.owner": incus.owner()},
    });
    client
        .create_instance(&body)
        .await
        .unwrap()
        .wait(Duration::from_secs(120))
        .await
        .unwrap();
    let run = async |command: &str| {
        let request = ExecRequest::new(["sh", "-c", command]);
        client
            .exec_capture(&name, &request, Default::default(), Duration::from_secs(30))
            .await
            .unwrap()
    };
    // Up, with nothing failed and nothing that waits for ever.
    let state = run(
        "timeout 25 sh -c 'until test -S /run/systemd/private; do sleep 0.02; done; \
         systemctl is-system-running --wait'",
    )
    .await;
    assert_eq!(String::from_utf8_lossy(&state.stdout).trim(), "running");
    let route =
        run("timeout 20 sh -c 'until ip route show default | grep -q .; do sleep 0.02; done'")
            .await;
    assert_eq!(route.exit_code, 0, "no default route within 20 s");
    for fact in FACTS {
        let output = run(fact).await;
        assert_eq!(
            output.exit_code,
            0,
            "{fact}\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let host_name = run("cat /proc/sys/kernel/hostname").await;
    assert_eq!(String::from_utf8_lossy(&host_name.stdout).trim(), name);
    remove(client, &name).await;
    incus.assert_nothing_left().await;
}

async fn remove(client: &Client, name: &str) {
    let limit = Duration::from_secs(30);
    client
        .set_instance_state(name, &StateChange::force_stop())
        .await
        .expect("it runs")
        .wait(limit)
        .await
        .expect("a forced stop needs no help of the guest");
    client
        .delete_instance(name)
        .await
        .expect("it is stopped")
        .wait(limit)
        .await
        .expect("it is stopped");
}
