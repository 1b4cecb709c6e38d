//! The configuration against its documents: nothing can be set that they don't tell of.

use std::path::{Path, PathBuf};

use pika_server::{Config, ENDING_LIMIT, REQUESTS_LIMIT, VARIABLES};

fn document(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name)
}

fn load(path: &Path) -> Config {
    Config::load(Some(path), |_| None).unwrap()
}

/// Every key of a table and of those in it, as `table.key`.
fn keys(before: &str, table: &toml::Table, found: &mut Vec<String>) {
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) => keys(&format!("{before}{key}."), inner, found),
            _ => found.push(format!("{before}{key}")),
        }
    }
}

#[test]
fn every_key_and_every_variable_is_in_the_reference() {
    let reference = std::fs::read_to_string(document("reference/server.md")).unwrap();
    let settled: toml::Table = load(&document("examples/server.toml"))
        .to_toml()
        .parse()
        .unwrap();
    let mut all = Vec::new();
    keys("", &settled, &mut all);
    assert!(all.contains(&"times.lease_secs".to_owned()), "{all:?}");
    all.extend(VARIABLES.iter().map(|(name, _)| (*name).to_owned()));
    let missing: Vec<&String> = all
        .iter()
        .filter(|name| !reference.contains(&format!("`{name}`")))
        .collect();
    assert!(
        missing.is_empty(),
        "not in docs/reference/server.md: {missing:?}"
    );
}

#[test]
fn the_settled_configuration_is_a_configuration_that_settles_as_itself() {
    let settled = load(&document("examples/server.toml")).to_toml();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.toml");
    std::fs::write(&file, &settled).unwrap();
    assert_eq!(load(&file).to_toml(), settled);
    assert!(
        settled.contains("external_url = \"https://agents.example\""),
        "{settled}"
    );
}

#[test]
fn an_outside_url_with_a_path_is_refused() {
    let refused = |url: &str| {
        let lookup = |name: &str| (name == "PIKA_SERVER_EXTERNAL_URL").then(|| url.to_owned());
        Config::load(Some(&document("examples/server.toml")), lookup)
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refused("https://agents.example/api"),
        "`server.external_url` is `https://agents.example/api`, which must be http:// or https:// with a host, \
         such as https://agents.example, and no path"
    );
    assert!(refused("agents.example").contains("server.external_url"));
}

#[test]
fn variables_of_the_schedule_win_over_the_file_and_an_expiry_need_not_be_given() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.toml");
    std::fs::write(&file, "[snapshots]\nschedule = \"@daily\"").unwrap();
    let plan = |schedule: &str| {
        let lookup =
            |name: &str| (name == "PIKA_SERVER_SNAPSHOTS_SCHEDULE").then(|| schedule.to_owned());
        let plan = Config::load(Some(&file), lookup).unwrap().snapshots;
        let plan = plan.unwrap();
        (plan.schedule, plan.expiry)
    };
    assert_eq!(plan("@Hourly"), ("@hourly".to_owned(), "7d".to_owned()));
    assert_eq!(plan(""), ("@daily".to_owned(), "7d".to_owned()));
}

#[test]
fn the_end_is_as_long_as_is_written_and_shorter_than_systemd_waits() {
    let reference = std::fs::read_to_string(document("reference/server.md")).unwrap();
    for limit in [
        format!("have {} seconds", REQUESTS_LIMIT.as_secs()),
        format!("takes {} seconds at most", ENDING_LIMIT.as_secs()),
    ] {
        assert!(reference.contains(&limit), "{limit}");
    }
    let unit = document("../packaging/systemd/pika-server.service");
    let unit = std::fs::read_to_string(unit).unwrap();
    let stop = unit
        .lines()
        .find_map(|line| line.strip_prefix("TimeoutStopSec="));
    let stop: u64 = stop.unwrap().parse().unwrap();
    assert!(stop > ENDING_LIMIT.as_secs(), "{stop}");
}
