//! The lanes file: what parses, and how each mistake is shown.

use std::time::Duration;

use jerichoci::cache::payload::Payload;
use jerichoci::lanes::{LaneRunner, LanesFile, Workspace};
use pika_cloud::InstanceType;

const VECTOR: &str = include_str!("../vectors/lanes-160.toml");

fn refusal(source: &str) -> String {
    match LanesFile::parse("ci/forge-lanes.toml", source) {
        Ok(_) => panic!("parsed, but should not have:\n{source}"),
        Err(error) => error.to_string(),
    }
}

fn lane(keys: &str) -> String {
    format!("version = 1\n[[branch.lanes]]\nid = \"a\"\ncommand = [\"true\"]\n{keys}\n")
}

#[test]
fn the_twelve_lanes_of_branch_160_parse() {
    let file = LanesFile::parse("lanes-160.toml", VECTOR).expect("the vector parses");
    assert_eq!((file.branch.len(), file.nightly.len()), (12, 1));
    let time = file.nightly_schedule_utc.expect("a schedule");
    assert_eq!((time.hour, time.minute), (8, 0));
    assert_eq!(
        file.branch[0].concurrency_group.as_deref(),
        Some("staged-linux:pre-merge-pika-rust")
    );
    assert!(
        file.branch
            .iter()
            .all(|lane| lane.required && lane.keep_going && lane.paths.is_some())
    );
}

#[test]
fn every_key_is_read() {
    let source = r#"
version = 1
[[branch.lanes]]
id = "first"
command = ["true"]
outputs = ["workspace-deps", "workspace-build"]
[[branch.lanes]]
id = "all.keys_1"
title = "All keys"
entrypoint = "just all"
command = ["just", "all"]
paths = ["crates/**"]
exclude = ["crates/x/**"]
concurrency_group = "g"
guest_role = "pikaci-runner"
image = "other/dev"
instance_type = "container"
resources = { vcpu_count = 4, memory_mib = 8192, root_disk_gib = 20 }
timeout = "1h30m"
env = { A = "1", B_C = "two" }
run_as_root = true
needs = ["first"]
required = false
retry = 2
artifacts = ["out/**"]
reports = ["junit.xml"]
caches = ["cargo-home"]
workspace = "writable"
inputs = ["workspace-build"]
mounts = ["rust-toolchain"]
runner = "ssh:mac-mini"
matrix = { toolchain = ["stable", "beta"] }
keep_going = false
"#;
    let file = LanesFile::parse("f", source).expect("parses");
    let variants: Vec<&str> = file.branch[1..]
        .iter()
        .map(|lane| lane.id.as_str())
        .collect();
    assert_eq!(
        variants,
        ["all.keys_1@toolchain=stable", "all.keys_1@toolchain=beta"]
    );
    let lane = &file.branch[1];
    assert_eq!(lane.timeout, Some(Duration::from_secs(5400)));
    assert_eq!(lane.instance_type, Some(InstanceType::Container));
    assert_eq!(lane.resources.memory_mib, Some(8192));
    assert_eq!(lane.env["B_C"], "two");
    assert_eq!(lane.workspace, Workspace::Writable);
    assert_eq!(lane.inputs, [Payload::WorkspaceBuild]);
    assert_eq!(file.branch[0].outputs, Payload::ALL);
    assert_eq!(lane.runner, LaneRunner::Ssh("mac-mini".into()));
    assert_eq!(
        (lane.retry, lane.required, lane.keep_going, lane.run_as_root),
        (2, false, false, true)
    );
    assert_eq!(
        (lane.needs[0].as_str(), lane.mounts[0].as_str()),
        ("first", "rust-toolchain")
    );
}

#[test]
fn an_unknown_key_shows_its_line() {
    insta::assert_snapshot!(refusal("version = 1\n\n[[branch.lanes]]\nid = \"a\"\ncomand = [\"true\"]\n"), @r#"
    ci/forge-lanes.toml:5:1: unknown key `comand`
      |
    5 | comand = ["true"]
      | ^^^^^^
      = help: did you mean `command`?
    "#);
    insta::assert_snapshot!(refusal("version = 1\nfrobnicate = true\n"), @r"
    ci/forge-lanes.toml:2:1: unknown key `frobnicate`
      |
    2 | frobnicate = true
      | ^^^^^^^^^^
      = help: known here: `version`, `nightly_schedule_utc`, `branch`, `nightly`
    ");
}

#[test]
fn what_is_not_toml_shows_its_place() {
    insta::assert_snapshot!(refusal("version = 1\n[[branch.lanes]\nid = \"a\"\n"), @r"
    ci/forge-lanes.toml:2:16: unclosed array table, expected `]`
      |
    2 | [[branch.lanes]
      |                ^
    ");
}

#[test]
fn all_mistakes_are_shown_at_once_in_order() {
    let source = r#"version = 2
nightly_schedule_utc = "25:00"

[[branch.lanes]]
id = "a b"
command = []

[[branch.lanes]]
id = "c"
command = ["true"]
paths = ["/etc/**", "a[", "../x"]
timeout = "soon"
mounts = ["/etc"]
env = { "1A" = "x" }

[[branch.lanes]]
id = "C"
command = ["true"]
needs = ["nobody"]
"#;
    insta::assert_snapshot!(refusal(source), @r#"
    ci/forge-lanes.toml:1:11: version 2 is not known; this engine reads version 1
      |
    1 | version = 2
      |           ^

    ci/forge-lanes.toml:2:24: not a time of day; write hours and minutes in UTC, for example "08:00"
      |
    2 | nightly_schedule_utc = "25:00"
      |                        ^^^^^^^

    ci/forge-lanes.toml:5:6: a lane id has at most 100 letters, digits, `-`, `_` and `.`, and starts with a letter or a digit
      |
    5 | id = "a b"
      |      ^^^^^

    ci/forge-lanes.toml:6:11: an empty command; give a program and its arguments
      |
    6 | command = []
      |           ^^

    ci/forge-lanes.toml:11:10: a path rule is relative and has no `.` or `..` in it
       |
    11 | paths = ["/etc/**", "a[", "../x"]
       |          ^^^^^^^^^

    ci/forge-lanes.toml:11:21: not a glob: unclosed character class; missing ']'
       |
    11 | paths = ["/etc/**", "a[", "../x"]
       |                     ^^^^

    ci/forge-lanes.toml:11:27: a path rule is relative and has no `.` or `..` in it
       |
    11 | paths = ["/etc/**", "a[", "../x"]
       |                           ^^^^^^

    ci/forge-lanes.toml:12:11: `soon` is not a duration; write for example "90s", "15m" or "1h30m"
       |
    12 | timeout = "soon"
       |           ^^^^^^

    ci/forge-lanes.toml:13:11: a lanes file can't name a path of the host; use a name that the operator's configuration defines
       |
    13 | mounts = ["/etc"]
       |           ^^^^^^

    ci/forge-lanes.toml:14:9: an environment variable has letters, digits and `_`, and doesn't start with a digit
       |
    14 | env = { "1A" = "x" }
       |         ^^^^

    ci/forge-lanes.toml:17:6: a second branch lane with the id `C`
       |
    17 | id = "C"
       |      ^^^

    ci/forge-lanes.toml:19:10: no branch lane has the id `nobody`
       |
    19 | needs = ["nobody"]
       |          ^^^^^^^^
    "#);
}

#[test]
fn a_host_path_is_never_a_mount() {
    for value in ["/", "/etc", "../..", "a/b", "~", "$HOME", ""] {
        let text = refusal(&lane(&format!("mounts = [\"{value}\"]")));
        assert!(
            text.contains("a name") || text.contains("a path of the host"),
            "{value}: {text}"
        );
    }
}

#[test]
fn single_rules() {
    for (keys, part) in [
        ("retry = 11", "at most 10 retries"),
        ("timeout = \"25h\"", "longer than 1d 00h allowed"),
        ("resources = { memory_mib = 0 }", "a size of 0"),
        ("resources = { vcpu_count = 300 }", "300"),
        ("instance_type = \"vm\"", "not an instance type"),
        ("runner = \"ssh:\"", "not a runner"),
        ("guest_role = \"pikaci\"", "pikaci"),
        ("paths = []", "never matches"),
        ("matrix = { os = [] }", "no values"),
        ("matrix = { os = [\"a/b\"] }", "a value of a matrix has"),
        ("matrix = { os = [\"a\", \"A\"] }", "listed twice"),
        ("matrix = { \"o s\" = [\"a\"] }", "a name of a matrix has"),
        (
            "matrix = { os = [\"a\"] }\nenv = { X = \"{{matrix.arch}}\" }",
            "the matrix has no `arch`; it has os",
        ),
        (
            "matrix = { a = [\"1\"], b = [\"1\"], c = [\"1\"], d = [\"1\"], e = [\"1\"] }",
            "at most 4 names",
        ),
        ("title = \" \"", "`title` is empty"),
        ("caches = [\"a\", \"a\"]", "listed twice"),
        ("needs = [\"a\"]", "needs itself"),
        ("workspace = \"both\"", "unknown variant `both`"),
        ("command = [\"again\"]", "duplicate key"),
        ("run_as_root = \"yes\"", "invalid type"),
    ] {
        let text = refusal(&lane(keys));
        assert!(text.contains(part), "{keys}: {text}");
        assert!(
            text.contains('^') && text.contains("ci/forge-lanes.toml:"),
            "{keys}: {text}"
        );
    }
}

#[test]
fn a_matrix_makes_a_lane_of_each_combination() {
    let keys = "title = \"Test\"\nmatrix = { rust = [\"1.95\", \"beta\"], os = [\"debian\"] }\nenv = { RUST = \"{{matrix.rust}}\" }\nneeds = [\"first\"]";
    let source = format!(
        "version = 1\n[[branch.lanes]]\nid = \"first\"\ncommand = [\"true\"]\nmatrix = {{ x = [\"1\", \"2\"] }}\n\
         [[branch.lanes]]\nid = \"t\"\ncommand = [\"run\", \"{{{{matrix.os}}}}-{{{{matrix.rust}}}}\"]\n{keys}\n"
    );
    let file = LanesFile::parse("f", &source).expect("parses");
    let shown: Vec<String> = file
        .branch
        .iter()
        .map(|lane| {
            let (command, needs) = (lane.command.join(" "), lane.needs.join(" "));
            format!(
                "{} | {} | {command} | {needs} | {:?}",
                lane.id, lane.title, lane.env
            )
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    first@x=1 | first (1) | true |  | {"PIKACI_MATRIX_X": "1"}
    first@x=2 | first (2) | true |  | {"PIKACI_MATRIX_X": "2"}
    t@os=debian,rust=1.95 | Test (debian, 1.95) | run debian-1.95 | first@x=1 first@x=2 | {"PIKACI_MATRIX_OS": "debian", "PIKACI_MATRIX_RUST": "1.95", "RUST": "1.95"}
    t@os=debian,rust=beta | Test (debian, beta) | run debian-beta | first@x=1 first@x=2 | {"PIKACI_MATRIX_OS": "debian", "PIKACI_MATRIX_RUST": "beta", "RUST": "beta"}
    "#);
    let named = |id: &str| file.branch.iter().filter(|lane| lane.is_called(id)).count();
    assert_eq!(
        (named("t"), named("t@os=debian,rust=beta"), named("x")),
        (2, 1, 0)
    );
}

#[test]
fn a_circle_of_needs_is_refused() {
    let source = "version = 1\n[[branch.lanes]]\nid=\"a\"\ncommand=[\"true\"]\nneeds=[\"b\"]\n[[branch.lanes]]\nid=\"b\"\ncommand=[\"true\"]\nneeds=[\"a\"]\n";
    let text = refusal(source);
    assert!(
        text.contains("lane `a` needs itself") && text.contains("lane `b` needs itself"),
        "{text}"
    );
}

#[test]
fn a_file_beyond_the_limit_is_refused_unread() {
    let text = refusal(&format!("version = 1\n#{}", "x".repeat(1024 * 1024)));
    assert!(text.contains("more than the 1048576 allowed"), "{text}");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(source in "[ -~\n\t\u{e9}\u{1f600}]{0,200}") {
        if let Err(error) = LanesFile::parse("f", &source) {
            proptest::prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn no_text_after_a_good_start_makes_the_parser_panic(source in "[ -~\n\u{e9}]{0,120}") {
        if let Err(error) = LanesFile::parse("f", &lane(&source)) {
            proptest::prop_assert!(error.problems[0].line >= 1);
        }
    }
}

#[test]
fn whoever_takes_a_payload_needs_the_one_lane_that_makes_it() {
    let lane = |id: &str, keys: &str| {
        format!("[[branch.lanes]]\nid = \"{id}\"\ncommand = [\"true\"]\n{keys}\n")
    };
    let file = |lanes: &[String]| format!("version = 1\n{}", lanes.concat());
    let (makes, takes) = (
        "outputs = [\"workspace-deps\"]",
        "inputs = [\"workspace-deps\"]",
    );
    let good = [
        lane("t", &format!("{takes}\nmatrix = {{ n = [\"1\", \"2\"] }}")),
        lane("m", makes),
        lane("n", &format!("{takes}\nneeds = [\"m\"]")),
    ];
    let parsed = LanesFile::parse("f", &file(&good)).expect("parses");
    let needs: Vec<String> = (parsed.branch.iter())
        .map(|lane| format!("{}: {}", lane.id, lane.needs.join(" ")))
        .collect();
    assert_eq!(needs, ["t@n=1: m", "t@n=2: m", "m: ", "n: m"]);
    let circle = "inputs = [\"workspace-deps\"]\noutputs = [\"workspace-build\"]";
    let back = "inputs = [\"workspace-build\"]\noutputs = [\"workspace-deps\"]";
    for (lanes, words) in [
        (
            vec![lane("t", takes)],
            ":5:11: no branch lane makes `workspace-deps`",
        ),
        (
            vec![lane("t", &format!("{takes}\n{makes}"))],
            ":5:11: a lane can't take",
        ),
        (
            vec![lane("a", makes), lane("b", makes)],
            ":9:12: lane `a` makes `workspace-deps` already",
        ),
        (
            vec![lane("a", &format!("{makes}\nmatrix = {{ n = [\"1\"] }}"))],
            ":5:12: each variant",
        ),
        (
            vec![lane("a", circle), lane("b", back)],
            ":3:6: lane `a` needs itself, through `needs` and `inputs`",
        ),
        (
            vec![lane("a", "outputs = [\"deps\"]")],
            ":5:12: `deps` is no payload",
        ),
        (
            vec![lane(
                "a",
                "outputs = [\"workspace-deps\", \"workspace-deps\"]",
            )],
            ":5:30: `workspace-deps` is listed twice",
        ),
    ] {
        let text = refusal(&file(&lanes));
        assert!(text.contains(words), "{words}: {text}");
    }
}

/// `count` lanes of 256 variants each, every one with the needs that `needs` gives it.
fn many_variants(count: usize, needs: impl Fn(usize) -> Vec<String>) -> String {
    let values: Vec<String> = (0..256).map(|value| format!("\"{value}\"")).collect();
    let values = values.join(", ");
    let lanes = (0..count).map(|lane| {
        format!(
            "[[branch.lanes]]\nid = \"l{lane}\"\ncommand = [\"true\"]\nmatrix = {{ v = [{values}] }}\nneeds = {:?}\n",
            needs(lane)
        )
    });
    format!("version = 1\n{}", lanes.collect::<String>())
}

#[test]
fn variants_that_multiply_are_refused_before_they_are_made() {
    let all = refusal(&many_variants(100, |_| Vec::new()));
    assert!(all.contains("more than 20000 branch lanes"), "{all}");
    let before = |lane: usize| (0..lane).map(|before| format!("l{before}")).collect();
    let needs = refusal(&many_variants(30, before));
    assert!(needs.contains("need more than 1000000 others"), "{needs}");
}

#[test]
fn what_is_shown_of_a_broken_file_can_not_move_the_cursor() {
    let shown = refusal("version = 1\n\u{1b}]52;c;aGk=\u{7}\n");
    assert!(
        !shown.contains('\u{1b}') && !shown.contains('\u{7}'),
        "{shown:?}"
    );
    assert!(shown.contains("]52;c;aGk="), "{shown}");
}
