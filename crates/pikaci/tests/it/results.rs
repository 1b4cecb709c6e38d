//! What a run came to, in each format; on records that are written here, and on real runs.

use jerichoci::outcome::{JobOutcome, RunVerdict};
use jerichoci::record::{
    ArtifactFile, ArtifactsRecord, FailedTest, ReportFile, ReportsRecord, RunDir, RunState,
    TestFailureKind, TestTotals,
};
use pikahut::stack::TestIncus;
use serde_json::{Value, json};

use crate::bench_tree::{Tree, lane, without_daemon};
use crate::written_run::{at, selection, write_run};

/// The run of `written_run`, with reports and artifacts of `code`.
pub(crate) fn write_results(tree: &Tree) -> RunDir {
    let run = write_run(tree, selection());
    let totals = TestTotals {
        tests: 12,
        failed: 2,
        errors: 0,
        skipped: 1,
        time_ms: 1500,
    };
    let failed = |name: &str, message: &str| FailedTest {
        name: name.into(),
        class: Some("shop::cart".into()),
        kind: TestFailureKind::Failure,
        message: message.into(),
    };
    let code = run.job("code");
    code.write_reports(&ReportsRecord {
        schema_version: 1,
        totals: totals.clone(),
        failed: vec![
            failed("adds", "left: 1, right: 2\nsecond line"),
            failed("shop::cart::removes <all> | @you", ""),
        ],
        files: vec![
            ReportFile {
                name: "junit.xml".into(),
                totals,
                problem: None,
            },
            ReportFile {
                name: "torn.xml".into(),
                totals: TestTotals::default(),
                problem: Some("it ends in the middle".into()),
            },
        ],
        unread_files: 0,
    })
    .expect("written");
    code.write_artifacts(&ArtifactsRecord {
        schema_version: 1,
        files: 1,
        bytes: 2048,
        listed: vec![ArtifactFile {
            name: "junit.xml".into(),
            bytes: 2048,
            sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".into(),
        }],
        expires_at: Some(at("2026-12-21T09:16:12Z")),
        took_ms: 300,
        ..ArtifactsRecord::default()
    })
    .expect("written");
    run
}

async fn shown(tree: &Tree, arguments: &[&str]) -> String {
    tree.run(arguments).await.assert_code(0).stdout.clone()
}

#[tokio::test]
async fn people_see_failed_tests_errors_and_where_the_time_went() {
    let tree = without_daemon(&lane("code", "true", ""));
    write_results(&tree);
    insta::assert_snapshot!(shown(&tree, &["status"]).await, @r"
    run       20261121-091500-000007
    verdict   failed
    began     2026-11-21 09:15:00 UTC
    took      1m 30s
    head      -
    base      main (merge base 0123456789ab)
    snapshot  -
    folder    .pikaci/runs/20261121-091500-000007

    lane   outcome     time  start     run  collect  remove
    code   failed    1m 10s   8.0s  1m 02s     0.3s    1.7s
    after  skipped        -
    docs   skipped        -

    code failed: exit code 7
      - shop::cart adds: left: 1, right: 2
      - shop::cart::removes <all> | @you
      error: it broke

    after skipped: lane `code`, which it needs, did not pass

    code: 12 tests, 2 failed, 1 skipped
      not read: torn.xml: it ends in the middle

    docs skipped: no changed path matches
    ");
    insta::assert_snapshot!(shown(&tree, &["artifacts"]).await, @r"
    code  .pikaci/runs/20261121-091500-000007/jobs/code/artifacts (kept until 2026-12-21)
         2.0 KiB  sha256:ba7816bf8f01cfea  junit.xml
    ");
}

#[tokio::test]
async fn logs_of_many_lines_come_whole_and_in_order() {
    let tree = without_daemon(&lane("code", "exit", ""));
    let run = write_run(&tree, selection());
    let lines = |count: u32| (0..count).map(|line| format!("{line}\n"));
    let text: String = lines(200_000).collect();
    std::fs::write(run.job("code").log_path(), &text).unwrap();
    std::fs::write(run.job("after").log_path(), "no newline").unwrap();
    assert!(shown(&tree, &["logs", run.id.as_str(), "code"]).await == text);
    let of_both = shown(&tree, &["logs"]).await;
    let mut expected: String = lines(200_000)
        .map(|line| format!("code  | {line}"))
        .collect();
    expected.push_str("after | no newline\n");
    assert!(of_both == expected, "{} bytes", of_both.len());
}

#[tokio::test]
async fn markdown_can_be_pasted() {
    let tree = without_daemon(&lane("code", "true", ""));
    write_results(&tree);
    insta::assert_snapshot!(shown(&tree, &["status", "--output", "markdown"]).await, @r"
    ### CI failed: 0 of 2 lanes passed in 1m 30s

    Run `20261121-091500-000007`.

    | lane | outcome | time | tests | phases |
    |---|---|---:|---|---|
    | `code` | **failed** | 1m 10s | 12 tests, 2 failed, 1 skipped | start 8.0s, run 1m 02s, collect 0.3s, remove 1.7s |
    | `after` | **skipped** | - |  |  |

    #### `code` failed: exit code 7

    - `shop::cart adds`: left: 1, right: 2
    - `shop::cart::removes <all> | @you`

    ```text
    error: it broke
    ```

    `after` skipped: lane \`code\`, which it needs, did not pass

    The report `torn.xml` of `code` was not read: it ends in the middle.

    <details><summary>1 lane not selected</summary>

    - `docs`: no changed path matches

    </details>
    ");
}

#[tokio::test]
async fn junit_is_xml_with_a_case_for_each_lane() {
    let tree = without_daemon(&lane("code", "true", ""));
    write_results(&tree);
    let xml = shown(&tree, &["status", "--output", "junit"]).await;
    insta::assert_snapshot!(xml, @r#"
    <?xml version="1.0" encoding="UTF-8"?>
    <testsuites name="pikaci" tests="3" failures="1" errors="0" skipped="2" time="90.000">
      <testsuite name="pikaci.branch" timestamp="2026-11-21T09:15:00Z" tests="3" failures="1" errors="0" skipped="2" time="90.000">
        <properties>
          <property name="run_id" value="20261121-091500-000007"/>
        </properties>
        <testcase classname="pikaci.branch" name="code" time="70.000">
          <properties>
            <property name="phase.start_ms" value="8000"/>
            <property name="phase.run_ms" value="62000"/>
            <property name="phase.collect_ms" value="300"/>
            <property name="phase.remove_ms" value="1700"/>
          </properties>
          <failure message="failed: exit code 7">shop::cart adds: left: 1, right: 2
    shop::cart::removes &lt;all&gt; | @you
    error: it broke</failure>
        </testcase>
        <testcase classname="pikaci.branch" name="after" time="0.000">
          <skipped message="lane `code`, which it needs, did not pass"/>
        </testcase>
        <testcase classname="pikaci.branch" name="docs">
          <skipped message="no changed path matches"/>
        </testcase>
      </testsuite>
    </testsuites>
    "#);
    // What this program writes, the parser of reports reads.
    let report = jerichoci::junit::parse(xml.as_bytes()).expect("a report");
    assert_eq!(
        (
            report.totals.tests,
            report.totals.failed,
            report.totals.skipped
        ),
        (3, 1, 2)
    );
}

#[tokio::test]
async fn json_has_phases_tests_and_error_lines() {
    let tree = without_daemon(&lane("code", "true", ""));
    write_results(&tree);
    let text = shown(&tree, &["status", "--output", "json"]).await;
    let document: Value = serde_json::from_str(&text).expect("a document");
    let code = &document["results"][0];
    assert_eq!(code["outcome"], "failed");
    assert_eq!(code["error_lines"], json!(["error: it broke"]));
    assert_eq!(code["tests"]["failed"][0]["name"], "adds");
    let phases = code["phases"].as_array().expect("a list");
    let phases: Vec<&str> = phases
        .iter()
        .filter_map(|one| one["phase"].as_str())
        .collect();
    assert_eq!(phases, ["start", "run", "collect", "remove"]);
    let lines = shown(&tree, &["status", "--output", "jsonl"]).await;
    assert_eq!(
        events(&lines),
        [
            "run_started",
            "lane_finished",
            "lane_artifacts",
            "lane_tests",
            "instance_removed",
            "lane_finished",
            "run_ended"
        ]
    );
}

fn lines(text: &str) -> Vec<Value> {
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    text.lines().map(parse).collect()
}

fn events(text: &str) -> Vec<String> {
    let name = |line: &Value| line["event"].as_str().expect("a name").to_owned();
    lines(text).iter().map(name).collect()
}

#[tokio::test]
async fn an_optional_lane_that_failed_is_noted() {
    let tree = without_daemon(&lane("code", "true", ""));
    let run = write_results(&tree);
    let mut record = run.read().expect("read");
    record.lanes = vec!["after".into(), "code".into()];
    record.optional = vec!["code".into()];
    let mut after = run
        .job("after")
        .read_result()
        .expect("read")
        .expect("there");
    after.outcome = JobOutcome::Passed;
    let code = run.job("code").read_result().expect("read").expect("there");
    record.verdict = Some(record.verdict_of(&[after.clone(), code]));
    assert_eq!(record.verdict, Some(RunVerdict::Passed));
    run.write(&record).expect("written");
    run.job("after").write_result(&after).expect("written");
    let note = "An optional lane did not pass, which is no part of the verdict: code.";
    let why = shown(&tree, &["why", "code"]).await;
    for part in [
        "Its test reports: 12 tests, 2 failed, 1 skipped; the first that failed is shop::cart adds.",
        "It is optional: how it ends is no part of the run's verdict.",
    ] {
        assert!(why.contains(part), "{part}: {why}");
    }
    for format in ["human", "markdown"] {
        let text = shown(&tree, &["status", "--output", format]).await;
        assert!(text.contains(note) && text.contains("(optional)"), "{text}");
    }
    let xml = shown(&tree, &["status", "--output", "junit"]).await;
    assert!(
        xml.contains(r#"<skipped message="optional, and failed: exit code 7">"#),
        "{xml}"
    );
}

#[tokio::test]
async fn reports_artifacts_and_an_optional_failure_of_a_real_run() {
    let incus = TestIncus::shared().await;
    let report = r#"echo '<testsuite><testcase name="adds"><failure message="1 is not 2"/></testcase><testcase name="ok"/></testsuite>' > $PIKACI_ARTIFACTS_DIR/junit.xml"#;
    let lanes = [
        lane("fine", "echo fine", ""),
        lane(
            "tests",
            &format!("{report}; echo '<testsuite>' > $PIKACI_ARTIFACTS_DIR/torn.xml; exit 1"),
            "required = false\nreports = [\"*.xml\"]",
        ),
    ];
    let tree = Tree::on(&incus, &lanes.concat()).await;
    let ended = tree.run(&["run", "--all", "--output", "jsonl"]).await;
    ended.assert_code(0);
    let all = lines(&ended.stdout);
    let find = |event: &str| {
        let found = all.iter().find(|line| line["event"] == event);
        found.unwrap_or_else(|| panic!("no {event}: {}", ended.stdout))
    };
    assert_eq!(find("lane_tests")["failed"][0]["message"], "1 is not 2");
    assert_eq!(find("lane_tests")["totals"]["tests"], 2);
    assert_eq!(all.last().expect("a line")["event"], "run_ended");
    assert_eq!(
        (
            &all[all.len() - 1]["exit_code"],
            &all[all.len() - 1]["passed"]
        ),
        (&json!(0), &json!(1))
    );
    let status = shown(&tree, &["status"]).await;
    for part in [
        "tests failed: exit code 1",
        "- adds: 1 is not 2",
        "torn.xml: it ends in the middle",
        "An optional lane did not pass",
    ] {
        assert!(status.contains(part), "{part}: {status}");
    }
    let listed: Value =
        serde_json::from_str(&shown(&tree, &["artifacts", "--output", "json"]).await)
            .expect("a document");
    let torn = &listed[0]["listed"][1];
    assert_eq!(torn["name"], "torn.xml");
    // Of the bytes `<testsuite>\n`.
    assert_eq!(torn["bytes"], 12);
    let digest = std::process::Command::new("sha256sum")
        .arg(tree.newest_run().join("jobs/tests/artifacts/torn.xml"))
        .output()
        .expect("runs");
    let digest = String::from_utf8_lossy(&digest.stdout);
    assert!(
        digest.starts_with(torn["sha256"].as_str().expect("text")),
        "{digest}"
    );
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn what_did_not_pass_runs_again_and_is_linked_to_its_run() {
    let incus = TestIncus::shared().await;
    let lanes = [
        lane("needed", "true", ""),
        lane("other", "true", ""),
        lane("broken", "test -e mended", "needs = [\"needed\"]"),
        lane("after", "true", "needs = [\"broken\"]"),
    ];
    let tree = Tree::on(&incus, &lanes.concat()).await;
    tree.run(&["run", "--all"]).await.assert_code(1);
    let first = tree.newest_run();
    let first = first
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    std::fs::write(tree.root().join("mended"), "").expect("written");
    let again = tree.run(&["rerun", "--failed", "--output", "json"]).await;
    again.assert_code(0);
    assert!(
        again.stderr.contains("2 lanes of run")
            && again.stderr.contains("on the tree as it is now"),
        "{}",
        again.stderr
    );
    let document: Value = serde_json::from_str(&again.stdout).expect("a document");
    assert_eq!(document["rerun_of"], first.as_str());
    let ran: Vec<&str> = document["lanes"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|lane| lane["lane"].as_str())
        .collect();
    assert_eq!(ran, ["needed", "broken", "after"]);
    let nothing = tree.run(&["rerun", "--failed"]).await;
    nothing.assert_code(5);
    assert!(
        nothing.stderr.contains("nothing to run again"),
        "{}",
        nothing.stderr
    );
    incus.assert_nothing_left().await;
}

#[tokio::test]
async fn a_run_that_can_not_run_again_says_why() {
    let tree = without_daemon(&lane("code", "true", ""));
    let run = write_results(&tree);
    let gone = tree.run(&["rerun"]).await;
    gone.assert_code(2);
    assert!(
        gone.stderr.contains("lane `after` of run") && gone.stderr.contains("any more"),
        "{}",
        gone.stderr
    );
    let mut record = run.read().expect("read");
    record.state = RunState::Running;
    run.write(&record).expect("written");
    let living = tree.run(&["rerun", "--failed"]).await;
    living.assert_code(2);
    assert!(
        living.stderr.contains("still in progress"),
        "{}",
        living.stderr
    );
}
