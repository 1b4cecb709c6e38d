//! What a job that isn't root can reach.

use pika_cloud::RunEnd;
use pikahut::stack::TestIncus;

use crate::support::{Guest, assert_end, request};

#[tokio::test(flavor = "multi_thread")]
async fn an_unprivileged_job_can_not_reach_the_runner() {
    let incus = TestIncus::shared().await;
    let guest = Guest::launch(&incus, "isolation", &[]).await;
    let attempts = "\
        ls /run/pika-runner
        cat /run/pika-runner/run.json
        ls /var/lib/pika-cloud
        cat /run/pika-cloud/guest-request.json
        rm -f /run/pika-cloud/status.json
        mv /run/pika-cloud/logs /run/pika-cloud/other
        echo x >> /run/pika-cloud/logs/guest.log
        echo x > /run/pika-cloud/events.jsonl
        ln -s /etc /run/pika-cloud/link
        umount /run/pika-cloud
        kill -9 $SUPERVISOR
        cat /proc/$SUPERVISOR/environ
        ls /proc/$SUPERVISOR/fd
        echo $$ > /sys/fs/cgroup/unified/cgroup.procs
        echo $$ > /sys/fs/cgroup/memory/cgroup.procs
        echo $$ > /sys/fs/cgroup/cgroup.procs
        rmdir /sys/fs/cgroup/*/pika-job";
    // Each attempt that works says so on stdout.
    let script: String = attempts
        .lines()
        .map(|attempt| {
            format!(
                "({}) >/dev/null 2>&1 && echo 'WORKED: {}'\n",
                attempt.trim(),
                attempt.trim().replace('\'', "")
            )
        })
        .collect();
    let command = format!(
        "SUPERVISOR=$PPID\n{script}echo \"cgroup $(grep -c pika-job /proc/self/cgroup)\"; exit 0"
    );
    let run = guest.run("isolation", &request(&command));
    assert_end(&run, RunEnd::Exited { code: 0 });
    let text = run.text();
    assert!(!text.contains("WORKED"), "{text}");
    let joined: u32 = text.trim().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(joined >= 1, "{text}");
    drop(guest);
    incus.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_runner_leaks_into_the_job() {
    let incus = TestIncus::shared().await;
    let guest = Guest::launch(&incus, "leaks", &[]).await;
    let mut asked = request(
        "ls /proc/self/fd | wc -l; readlink /proc/self/fd/0; env; id -G; cat /proc/self/oom_score_adj",
    );
    asked
        .env
        .insert("SECRET".to_owned(), "of the job".to_owned());
    let mut command = guest.incus(&["exec", &guest.name, "-T", "--env", "HOST_SECRET=leak", "--"]);
    command.args([
        pika_cloud::paths::RUNNER_PATH,
        "run-attached",
        "--nonce",
        "leaks",
        "--request-stdin",
    ]);
    let run = crate::support::ended(&crate::support::with_stdin(
        &mut command,
        &asked.encode().unwrap(),
    ));
    let text = run.text();
    // 0, 1, 2 and the directory that `ls` reads.
    assert!(text.starts_with("4\n/dev/null\n"), "{text}");
    assert!(
        text.contains("SECRET=of the job") && !text.contains("HOST_SECRET"),
        "{text}"
    );
    for name in [
        "CI=true",
        "CARGO_HOME=/cargo-home",
        "CARGO_TARGET_DIR=/cargo-target",
        "CARGO_INCREMENTAL=0",
        "HOME=/home/pikaci",
    ] {
        assert!(text.lines().any(|line| line == name), "{name} in {text}");
    }
    assert!(text.ends_with("1000\n500\n"), "{text}");
    guest.sh("test -z \"$(grep -rl 'of the job' /run/pika-cloud /run/pika-runner /var/lib/pika-cloud --include=*.json)\"");
    drop(guest);
    incus.assert_nothing_left().await;
}
