use super::*;

/// As pytest writes it.
const PYTEST: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<testsuites name="pytest tests"><testsuite name="pytest" errors="1" failures="1" skipped="1" tests="4" time="0.041" timestamp="2026-11-21T09:15:00" hostname="h">
<testcase classname="tests.test_a" name="test_ok" time="0.010" />
<testcase classname="tests.test_a" name="test_bad[1-&lt;x&gt;]" time="1.001"><failure message="AssertionError: assert 1 == 2&#10;  +  where 1 = f()">def test_bad():
&gt;       assert 1 == 2
E       assert 1 == 2</failure></testcase>
<testcase classname="tests.test_a" name="test_no" time="0.000"><skipped type="pytest.skip" message="not here">skip</skipped></testcase>
<testcase classname="" name="tests.test_b" time="0.000"><error message="collection failure">ImportError</error></testcase>
</testsuite></testsuites>"#;

/// As cargo-nextest writes it: coloured output, another failure of the same test kept beside.
const NEXTEST: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="2" failures="1" errors="0" uuid="u" timestamp="2026-11-21T09:15:00.000+00:00" time="2.5">
    <testsuite name="jerichoci::it" tests="2" disabled="0" errors="0" failures="1">
        <testcase name="lanes::parses" classname="jerichoci::it" timestamp="2026-11-21T09:15:00.000+00:00" time="0.5"></testcase>
        <testcase name="lanes::refuses" classname="jerichoci::it" time="2">
            <failure type="test failure with exit code 101"><![CDATA[thread 'lanes::refuses' panicked at src/x.rs:1:2:
assertion `left == right` failed]]></failure>
            <rerunFailure timestamp="2026-11-21T09:15:00.000+00:00" time="1" type="t">again</rerunFailure>
            <system-out>error: this is no failure</system-out>
        </testcase>
    </testsuite>
</testsuites>"#;

fn read(text: &str) -> Report {
    parse(text.as_bytes()).expect("a report")
}

fn refused(text: &str) -> String {
    crate::engine::chain(&parse(text.as_bytes()).expect_err("refused"))
}

#[test]
fn pytest_reports_are_counted_and_their_failures_named() {
    let report = read(PYTEST);
    let totals = TestTotals {
        tests: 4,
        failed: 1,
        errors: 1,
        skipped: 1,
        time_ms: 1011,
    };
    assert_eq!(report.totals, totals);
    assert_eq!(report.totals.passed(), 1);
    let [bad, error] = report.failed.as_slice() else {
        panic!("{:?}", report.failed);
    };
    assert_eq!(bad.full_name(), "tests.test_a test_bad[1-<x>]");
    assert_eq!(
        bad.message,
        "AssertionError: assert 1 == 2\n  +  where 1 = f()"
    );
    assert_eq!(bad.first_line(), "AssertionError: assert 1 == 2");
    assert_eq!(
        (error.class.as_deref(), error.kind),
        (None, TestFailureKind::Error)
    );
}

#[test]
fn nextest_reports_give_the_details_where_there_is_no_message() {
    let report = read(NEXTEST);
    assert_eq!((report.totals.tests, report.totals.failed), (2, 1));
    assert_eq!(report.totals.time_ms, 2500);
    assert_eq!(
        report.failed[0].message,
        "thread 'lanes::refuses' panicked at src/x.rs:1:2:\nassertion `left == right` failed"
    );
}

#[test]
fn a_single_suite_and_nested_ones_count_each_test_once() {
    let nested = r#"<testsuite><testsuite><testcase name="a"/></testsuite><testcase name="b"><failure/><failure message="second"/></testcase></testsuite>"#;
    let report = read(nested);
    assert_eq!((report.totals.tests, report.totals.failed), (2, 1));
    assert_eq!(report.failed[0].message, "");
    assert_eq!(read("<testsuites/>").totals, TestTotals::default());
}

#[test]
fn a_bomb_of_entities_is_never_resolved() {
    let mut bomb = String::from("<!DOCTYPE r [<!ENTITY a0 \"lol\">");
    for level in 1..30 {
        let before = format!("&a{};", level - 1).repeat(10);
        bomb.push_str(&format!("<!ENTITY a{level} \"{before}\">"));
    }
    bomb.push_str("<!ENTITY file SYSTEM \"file:///etc/passwd\">]>");
    bomb.push_str("<testsuite><testcase name=\"&a29;\"><failure>&a29; &file;</failure></testcase></testsuite>");
    let report = read(&bomb);
    assert_eq!(report.failed[0].name, "&a29;");
    assert_eq!(report.failed[0].message, "&a29; &file;");
}

#[test]
fn what_is_no_report_says_why() {
    assert!(refused("").contains("no JUnit report"));
    assert!(refused("hello").contains("no JUnit report"));
    assert!(refused("<html><testcase/></html>").contains("no JUnit report"));
    assert!(refused("<testsuite><testcase></testsuite>").contains("not well-formed"));
    assert!(refused("<testsuite><testcase name='a'/>").contains("ends in the middle"));
    assert!(refused("\0\u{1}<<<").contains("not well-formed"));
    let invalid = parse(&b"<testsuite name=\"\xff\"></testsuite>"[..]);
    assert!(
        matches!(invalid, Err(ReportError::Malformed { .. })),
        "{invalid:?}"
    );
    let deep = "<testsuite>".repeat(100_000);
    assert!(refused(&deep).contains("nested deeper than 64"));
}

#[test]
fn what_is_kept_is_bounded_and_free_of_controls() {
    let long = "x".repeat(100_000);
    let case = format!(
        "<testcase name=\"{long}&#27;[31m\" time=\"NaN\"><failure message=\"a&#27;]0;title&#7;b\">{long}</failure></testcase>"
    );
    let report = read(&format!("<testsuite>{}</testsuite>", case.repeat(60)));
    assert_eq!(
        (report.totals.failed, report.failed.len()),
        (60, FAILED_KEPT_MAX)
    );
    let failed = &report.failed[0];
    assert_eq!(failed.name.chars().count(), NAME_CHARS_MAX + 1);
    assert_eq!(failed.message, "ab");
    assert_eq!(report.totals.time_ms, 0);
    let details = read(&format!(
        "<testsuite><testcase><failure>{}</failure></testcase></testsuite>",
        "\u{e9}\n".repeat(50_000)
    ));
    assert!(details.failed[0].message.chars().count() <= MESSAGE_CHARS_MAX + 1);
}

#[test]
fn an_element_with_many_attributes_takes_no_long_time() {
    let attributes: String = (0..300_000).map(|n| format!(" a{n}='1'")).collect();
    let report = read(&format!(
        "<testsuite><testcase name='t'{attributes}/></testsuite>"
    ));
    assert_eq!(report.totals.tests, 1);
}

#[test]
fn a_report_over_the_limit_is_not_read() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("big.xml");
    let file = File::create(&path).expect("made");
    file.set_len(REPORT_BYTES_MAX + 1).expect("sparse");
    assert!(matches!(
        read_report(&path),
        Err(ReportError::TooLarge { .. })
    ));
}

#[test]
fn the_reports_of_a_job_are_chosen_by_glob_and_bad_ones_are_noted() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::create_dir(dir.path().join("sub")).expect("made");
    for (name, text) in [
        ("junit.xml", PYTEST),
        ("sub/junit.xml", NEXTEST),
        ("sub/broken.xml", "<testsuite>"),
        ("other.xml", "<testsuite>"),
    ] {
        std::fs::write(dir.path().join(name), text).expect("written");
    }
    let names = [
        "junit.xml",
        "sub/junit.xml",
        "sub/broken.xml",
        "other.xml",
        "gone.xml",
    ];
    let files: Vec<_> = names
        .iter()
        .map(|name| (name.into(), (*name).to_owned()))
        .collect();
    let globs = ["junit.xml".to_owned(), "sub/*.xml".to_owned()];
    let record = read_reports(dir.path(), &files, &globs);
    assert_eq!((record.totals.tests, record.totals.not_passed()), (6, 3));
    assert_eq!(record.failed.len(), 3);
    assert_eq!(record.files.len(), 3);
    let problems: Vec<_> = record.problems().collect();
    assert_eq!(problems, [("sub/broken.xml", "it ends in the middle")]);
    assert_eq!(
        record.totals.words(),
        "6 tests, 2 failed, 1 with errors, 1 skipped"
    );
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_a_report_or_a_reason(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
        if let Err(error) = parse(bytes.as_slice()) {
            proptest::prop_assert!(!error.to_string().is_empty());
        }
    }
}
