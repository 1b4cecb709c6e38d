//! What is said about a configuration that can't be used, word for word.

use std::error::Error;

use insta::assert_snapshot;
use pika_server::{Config, ConfigError};

fn refused(text: &str, variables: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.toml");
    std::fs::write(&file, text).unwrap();
    let lookup = |name: &str| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    let error = Config::load(Some(&file), lookup).map(|_| ()).unwrap_err();
    told(&error).replace(&folder.path().display().to_string(), "FOLDER")
}

fn told(error: &ConfigError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

#[test]
fn a_file_that_is_not_there() {
    let error = Config::load(Some("/nowhere/server.toml".as_ref()), |_| None)
        .map(|_| ())
        .unwrap_err();
    assert_snapshot!(told(&error), @"can't read the configuration /nowhere/server.toml: No such file or directory (os error 2)");
}

#[test]
fn a_file_that_is_no_toml() {
    assert_snapshot!(refused("[server\nlisten = 1", &[]), @r"
    FOLDER/server.toml is not a configuration: TOML parse error at line 1, column 8
      |
    1 | [server
      |        ^
    unclosed table, expected `]`
    ");
}

#[test]
fn a_key_that_nobody_knows() {
    assert_snapshot!(refused("[server]\nlissen = \"127.0.0.1:1\"", &[]), @r#"
    FOLDER/server.toml is not a configuration: TOML parse error at line 2, column 1
      |
    2 | lissen = "127.0.0.1:1"
      | ^^^^^^
    unknown field `lissen`, expected one of `listen`, `metrics_listen`, `external_url`, `database`, `operations_at_once`, `requests_per_second`, `log_json`
    "#);
}

#[test]
fn a_table_that_nobody_knows() {
    assert_snapshot!(refused("[servers]\n", &[]), @r"
    FOLDER/server.toml is not a configuration: TOML parse error at line 1, column 2
      |
    1 | [servers]
      |  ^^^^^^^
    unknown field `servers`, expected one of `server`, `incus`, `agents`, `sizes`, `quotas`, `times`, `snapshots`
    ");
}

#[test]
fn a_value_of_another_type() {
    assert_snapshot!(refused("[quotas]\nagents = -1", &[]), @r"
    FOLDER/server.toml is not a configuration: TOML parse error at line 2, column 10
      |
    2 | agents = -1
      |          ^^
    invalid value: integer `-1`, expected u32
    ");
}

#[test]
fn an_address_without_a_port() {
    assert_snapshot!(refused("[server]\nlisten = \"127.0.0.1\"", &[]), @"`server.listen` is `127.0.0.1`, which must be an address with a port, such as 127.0.0.1:8787");
}

#[test]
fn an_address_of_a_variable() {
    let variables = [("PIKA_SERVER_METRICS_LISTEN", "everywhere")];
    assert_snapshot!(refused("", &variables), @"`server.metrics_listen` is `everywhere`, which must be an address with a port, such as 127.0.0.1:8787");
}

#[test]
fn an_outside_url_without_a_scheme() {
    assert_snapshot!(refused("[server]\nexternal_url = \"agents.example\"", &[]), @"`server.external_url` is `agents.example`, which must be http:// or https:// with a host, such as https://agents.example, and no path");
}

#[test]
fn no_operation_at_once() {
    assert_snapshot!(refused("[server]\noperations_at_once = 0", &[]), @"`server.operations_at_once` is `0`, which must be at least 1, or nothing would ever be done");
}

#[test]
fn a_deployment_that_can_be_no_label() {
    assert_snapshot!(refused("[incus]\nowner = \"two words\"", &[]), @"`incus.owner` is `two words`, which must be 1 to 63 letters, digits, `.`, `_` or `-`");
}

#[test]
fn a_time_that_is_too_short() {
    assert_snapshot!(refused("[times]\nlease_secs = 1", &[]), @"`times.lease_secs` is 1, which must be 5 to 316224000 seconds");
}

#[test]
fn a_schedule_that_is_none() {
    assert_snapshot!(refused("[snapshots]\nschedule = \"nightly\"", &[]), @"`snapshots.schedule` is `nightly`, which must be minute, hour, day of month, month and day of week as in crontab, such as `0 3 * * *`, or one of @hourly, @daily, @midnight, @weekly, @monthly, @annually, @yearly");
}

#[test]
fn an_expiry_that_is_none() {
    let variables = [("PIKA_SERVER_SNAPSHOTS_EXPIRY", "a week")];
    assert_snapshot!(refused("[snapshots]\nschedule = \"@daily\"", &variables), @"`snapshots.expiry` is `a week`, which must be numbers from 1 to 9999, each with its unit, such as `7d` or `1m 12H`: M minutes, H hours, d days, w weeks, m months, y years, each once at most");
}

#[test]
fn an_expiry_without_a_schedule() {
    assert_snapshot!(refused("[snapshots]\nexpiry = \"7d\"", &[]), @"`snapshots.expiry` is `7d`, which is of no use without a schedule: set `snapshots.schedule` too, or leave it out");
}

#[test]
fn a_role_that_nobody_knows() {
    let variables = [("PIKA_AGENT_INCUS_GUEST_ROLE", "butler")];
    assert_snapshot!(refused("", &variables), @"parameters of agents can't be used: set PIKA_AGENT_INCUS_GUEST_ROLE to a role, or leave it out: `butler` is not a guest role: use one of managed-openclaw, pikaci-runner, pi-sandbox");
}

#[test]
fn half_of_a_remote_incus() {
    assert_snapshot!(refused("[agents]\nclient_cert_path = \"/etc/pika/client.crt\"", &[]), @"parameters of agents can't be used: a client certificate needs its key: also set `client_key_path`");
}
