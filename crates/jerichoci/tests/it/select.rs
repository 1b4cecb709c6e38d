//! Lane selection, with the vectors of branch 160.

use jerichoci::changes::ChangeBase;
use jerichoci::lanes::LanesFile;
use jerichoci::record::SelectionRecord;
use jerichoci::select::{
    Cause, Choice, LaneSelection, add_needs, select_all, select_lanes, select_named,
};

fn selected(file: &LanesFile, changed: &[&[u8]]) -> Vec<String> {
    let selections = select_lanes(&file.branch, changed);
    assert_eq!(
        selections.len(),
        file.branch.len(),
        "every lane has an answer"
    );
    selections
        .iter()
        .filter(|one| one.is_selected())
        .map(|one| one.lane.id.clone())
        .collect()
}

fn one_lane(keys: &str) -> LanesFile {
    let source =
        format!("version = 1\n[[branch.lanes]]\nid = \"a\"\ncommand = [\"true\"]\n{keys}\n");
    LanesFile::parse("f", &source).expect("parses")
}

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    changed: Vec<String>,
    selected: Vec<String>,
}

#[test]
fn the_cases_of_branch_160() {
    let file = LanesFile::parse("f", include_str!("../vectors/lanes-160.toml")).expect("parses");
    let cases: Vec<Case> =
        serde_json::from_str(include_str!("../vectors/lanes-160-cases.json")).expect("parses");
    assert_eq!(cases.len(), 4);
    for case in cases {
        let changed: Vec<&[u8]> = case.changed.iter().map(String::as_bytes).collect();
        assert_eq!(selected(&file, &changed), case.selected, "{}", case.name);
    }
}

#[test]
fn path_rules() {
    for (keys, path, runs) in [
        ("", "anything", true),
        (r#"paths = ["*.rs"]"#, "a.rs", true),
        (r#"paths = ["*.rs"]"#, "src/a.rs", false),
        (r#"paths = ["**/*.rs"]"#, "src/deep/a.rs", true),
        (r#"paths = ["src/**"]"#, "src/.hidden/.file", true),
        (r#"paths = ["src/*"]"#, "src/.file", true),
        (r#"paths = ["src/*"]"#, "src/deep/file", false),
        (r#"paths = ["src"]"#, "src/a", false),
        (r#"paths = ["**"]"#, "a/b", true),
        (r#"paths = ["src/**"]"#, "srcs/a", false),
        (
            "paths = [\"src/**\"]\nexclude = [\"src/gen/**\"]",
            "src/gen/a",
            false,
        ),
        (
            "paths = [\"src/**\"]\nexclude = [\"src/gen/**\"]",
            "src/a",
            true,
        ),
    ] {
        let file = one_lane(keys);
        assert_eq!(
            selected(&file, &[path.as_bytes()]).len() == 1,
            runs,
            "{keys} {path}"
        );
    }
}

#[test]
fn any_bytes_match() {
    let file = one_lane(r#"paths = ["src/**"]"#);
    assert_eq!(selected(&file, &[b"src/\xff\xfe\n'\"".as_slice()]), ["a"]);
    let file = one_lane(r#"paths = ["src/*.rs"]"#);
    assert_eq!(selected(&file, &[b"src/\xff.rs".as_slice()]), ["a"]);
    assert_eq!(selected(&file, &[b"src/\xff\n.rs".as_slice()]), ["a"]);
}

#[test]
fn nothing_changed_selects_only_lanes_that_always_run() {
    assert_eq!(selected(&one_lane(""), &[]), ["a"]);
    assert!(selected(&one_lane(r#"paths = ["**"]"#), &[]).is_empty());
}

#[test]
fn a_change_of_the_lanes_file_selects_every_lane() {
    let file = one_lane("paths = [\"src/**\"]\nexclude = [\"ci/**\"]");
    let selections = select_lanes(&file.branch, &[b"ci/forge-lanes.toml".as_slice()]);
    assert_eq!(
        selections[0].choice,
        Choice::Selected(Cause::LanesFileChanged)
    );
}

#[test]
fn a_skipped_lane_says_why() {
    let file = one_lane("paths = [\"src/**\"]\nexclude = [\"src/gen/**\"]");
    let reason = |path: &[u8]| match select_lanes(&file.branch, &[path])[0].choice.clone() {
        Choice::Skipped { reason } => reason,
        Choice::Selected(cause) => panic!("selected: {cause:?}"),
    };
    assert_eq!(reason(b"docs/x"), "no changed path matches");
    assert_eq!(
        reason(b"src/gen/x"),
        "every changed path that matches is excluded"
    );
}

/// `d` needs `c` needs `b`; `a` stands alone. Each has its own folder.
fn chained() -> LanesFile {
    let lane = |id: &str, needs: &str| {
        format!(
            "[[branch.lanes]]\nid = \"{id}\"\ncommand = [\"true\"]\npaths = [\"{id}/**\"]\nneeds = [{needs}]\n"
        )
    };
    let lanes = [
        lane("a", ""),
        lane("b", ""),
        lane("c", "\"b\""),
        lane("d", "\"c\""),
    ];
    LanesFile::parse("f", &format!("version = 1\n{}", lanes.concat())).expect("parses")
}

fn causes(selections: &[LaneSelection<'_>]) -> Vec<Option<String>> {
    let cause = |one: &LaneSelection<'_>| match &one.choice {
        Choice::Selected(cause) => Some(cause.to_string()),
        Choice::Skipped { .. } => None,
    };
    selections.iter().map(cause).collect()
}

#[test]
fn what_a_selected_lane_needs_runs_because_of_it() {
    let file = chained();
    let mut selections = select_lanes(&file.branch, &[b"d/x\n".as_slice(), b"b/y"]);
    add_needs(&mut selections);
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        causes(&selections),
        [
            None,
            text("the changed path b/y matched"),
            text("needed by lane d"),
            text("the changed path d/x\\x0a matched"),
        ]
    );
    let mut named = select_named(&file.branch, &["c".to_owned()]).expect("known");
    add_needs(&mut named);
    assert_eq!(
        causes(&named),
        [
            None,
            text("needed by lane c"),
            text("asked for by name"),
            None
        ]
    );
    assert!(
        select_all(&file.branch)
            .iter()
            .all(LaneSelection::is_selected)
    );
    let wanted = ["a".to_owned(), "none".to_owned()];
    assert_eq!(
        select_named(&file.branch, &wanted).expect_err("unknown"),
        "none"
    );
}

#[test]
fn the_record_keeps_reasons_and_what_paths_left_out() {
    let file = chained();
    let mut selections = select_lanes(&file.branch, &[b"c/x".as_slice()]);
    add_needs(&mut selections);
    let base = ChangeBase {
        name: "origin/main".into(),
        merge_base: "0123".into(),
    };
    let record = SelectionRecord::new(&selections, Some(base));
    insta::assert_json_snapshot!(record, @r#"
    {
      "base": {
        "name": "origin/main",
        "merge_base": "0123"
      },
      "reasons": {
        "b": {
          "because": "needed_by",
          "lane": "c"
        },
        "c": {
          "because": "path",
          "path": "c/x"
        }
      },
      "not_selected": [
        {
          "lane": "a",
          "reason": "no changed path matches"
        },
        {
          "lane": "d",
          "reason": "no changed path matches"
        }
      ]
    }
    "#);
    let named = select_named(&file.branch, &["a".to_owned()]).expect("known");
    let record = SelectionRecord::new(&named, None);
    assert!(
        record.not_selected.is_empty(),
        "nobody asked for the others"
    );
    assert_eq!(record.reasons.get("a"), Some(&Cause::Named));
}
