//! Thousands of jobs over the fake Incus, which has no guests: what the program itself does is complete, right, and costs
//! the same from the first job to the last.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pikahut::fake::{DEFAULT_IMAGE, ExecCall, FakeIncus};
use pikahut::process::{Taken, samples};
use serde_json::{Value, json};

use crate::bench_tree::{Ended, Tree};
use crate::hostile_disks::SmallDisk;
use crate::program::start;

/// How many jobs where [`JOBS_VARIABLE`] does not say.
const JOBS: usize = 2_000;
/// Environment variable for another number, a multiple of [`VARIANTS`].
const JOBS_VARIABLE: &str = "PIKA_SCALE_JOBS";
/// A lane is a matrix of so many of them.
const VARIANTS: usize = 250;
const AT_ONCE: usize = 32;
/// Without optimisation, on two processors that others use too.
const LIMIT: Duration = Duration::from_secs(600);
/// Every job of this many fails.
const FAILS_EVERY: usize = 7;
/// How much more memory the second half of a run may take than the first: the results of its jobs, and some slack.
const GROWTH_KIB_MAX: u64 = 24 * 1024;
/// How many more descriptors.
const GROWTH_DESCRIPTORS_MAX: usize = 24;

/// What the guests' runners know: each run's number by its nonce.
type Runs = Arc<Mutex<HashMap<String, usize>>>;

/// What a guest's runner answers: the log from a byte on, then `result.json` and the terminal record. A machine that is
/// busy elsewhere may make the program ask again, by `attach`.
async fn runner(mut call: ExecCall, runs: Runs) -> Option<i32> {
    let mut request = Vec::new();
    while let Some(bytes) = call.stdin().await {
        request.extend_from_slice(&bytes);
    }
    let after = |word: &str| {
        let at = call.command.iter().position(|other| other == word)?;
        call.command.get(at + 1).cloned()
    };
    let nonce = after("--nonce").expect("every call of the runner names its run");
    if !request.is_empty() {
        let request: Value = serde_json::from_slice(&request).expect("a request");
        let command = request["command"].as_str().expect("a command");
        let n = command.rsplit(' ').next().and_then(|n| n.parse().ok());
        let n = n.expect("the command ends with the job's number");
        runs.lock().expect("whole").insert(nonce.clone(), n);
    }
    let n = *runs.lock().expect("whole").get(&nonce)?;
    let code = if fails(n) { 7 } else { 0 };
    let result = json!({
        "schema_version": 1, "status": if code == 0 { "completed" } else { "failed" },
        "finished_at": "2026-11-26T10:00:00.000Z", "message": format!("the command exited with {code}"),
        "exit_code": code, "details": {"nonce": nonce},
    });
    let log = log_of(n);
    let record = json!({
        "schema_version": 1, "nonce": nonce, "boot_id": "fake-boot", "log_bytes": log.len(),
        "end": {"exited": {"code": code}}, "self_reported": false,
    });
    let offset = after("--offset").map_or(0, |offset| offset.parse().expect("a number"));
    call.stdout(log[offset..].to_owned()).await;
    let result = Value::String(result.to_string());
    call.stderr(format!(
        "PIKA-RESULT {result}\nPIKA-TERMINAL-RECORD {record}\n"
    ))
    .await;
    Some(0)
}

async fn fake_with_guests() -> FakeIncus {
    let fake = FakeIncus::start().await.expect("a fake");
    // Every look at an instance lists all operations, so few that are over are kept.
    fake.set_operation_lifetime(Duration::from_millis(400));
    let runs = Runs::default();
    let again = Arc::clone(&runs);
    // A start executes the runner itself; whoever attaches later comes through a shell.
    fake.on_exec(&["/bin/sh"], move |call| {
        Box::pin(runner(call, Arc::clone(&again)))
    });
    fake.on_exec(
        &["/run/current-system/sw/bin/pikaci-incus-run"],
        move |call| Box::pin(runner(call, Arc::clone(&runs))),
    );
    let mut world = fake.world();
    let image = world.default_project().images.get_mut(DEFAULT_IMAGE);
    let properties = &mut image.expect("the image").properties;
    // Also the version of what `runner` says.
    properties.insert("pika.contract_version".to_owned(), "2".to_owned());
    drop(world);
    fake
}

fn log_of(n: usize) -> String {
    format!("ok {n}\n")
}

fn fails(n: usize) -> bool {
    n % FAILS_EVERY == 3
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heavy_thousands_of_jobs_are_complete_right_and_take_no_more_at_the_end_than_before() {
    let count = std::env::var(JOBS_VARIABLE).map_or(JOBS, |text| text.parse().expect("a number"));
    let fake = fake_with_guests().await;
    let lanes: String = (0..count / VARIANTS)
        .map(|lane| {
            let numbers = (lane * VARIANTS..).take(VARIANTS);
            let numbers: Vec<String> = numbers.map(|n| format!("\"{n}\"")).collect();
            let numbers = numbers.join(", ");
            format!(
                "[[branch.lanes]]\nid = \"j{lane}\"\nmatrix = {{ n = [{numbers}] }}\n\
                 command = [\"echo\", \"ok\", \"{{{{matrix.n}}}}\"]\n"
            )
        })
        .collect();
    let tree = Tree::new(fake.socket(), "scale", &lanes);
    // Records in memory: a disk on which others have just deleted much would be what is measured.
    let _disk = SmallDisk::mount(&tree.root().join(".pikaci/runs"), "1g");
    let jobs = AT_ONCE.to_string();
    let child = start(&tree, &["run", "--all", "--output", "json", "-j", &jobs]);
    let pid = child.id().expect("it runs");
    let output = tokio::time::timeout(LIMIT, child.wait_with_output());
    let (samples, output) = tokio::join!(samples(pid, || fake.clear_requests()), output);
    let ended = Ended::of(output.expect("ends in time").expect("waited for"));
    ended.assert_code(1);

    let document: Value = serde_json::from_str(&ended.stdout).expect("one JSON document");
    assert_eq!(document["troubles"], json!([]));
    assert_eq!(document["lanes"].as_array().map(Vec::len), Some(count));
    for n in 0..count {
        let lane = format!("j{}@n={n}", n / VARIANTS);
        let (told, kept) = (&document["lanes"][n], tree.result(&lane));
        assert_eq!(told["outcome"], kept["outcome"], "{told}");
        let (outcome, code) = if fails(n) {
            ("failed", json!(7))
        } else {
            ("passed", Value::Null)
        };
        assert_eq!(
            (&kept["outcome"], &kept["exit_code"]),
            (&outcome.into(), &code),
            "{kept}"
        );
        assert_eq!(String::from_utf8_lossy(&tree.log(&lane)), log_of(n));
    }

    assert_eq!(fake.world().instance_count(), 0);
    let pending = std::fs::read_dir(tree.root().join(".pikaci/pending")).expect("there");
    assert_eq!(pending.count(), 0, "everything is noted as gone");
    let (first, second) = samples.split_at(samples.len() / 2);
    let (first, second) = (Taken::most(first), Taken::most(second));
    let grew = second.rss_kib > first.rss_kib + GROWTH_KIB_MAX
        || second.descriptors > first.descriptors + GROWTH_DESCRIPTORS_MAX;
    assert!(!grew, "at most {first:?}, then {second:?}");
}
