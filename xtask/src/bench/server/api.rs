//! A server of the measurement, and the few calls that it takes: its configuration, tenants, agents, its figures.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures_util::{StreamExt as _, TryStreamExt as _};
use pikahut::process::Taken;
use pikahut::served::Served;
use serde_json::{Value, json};
use tokio::time::Instant;

/// Requests under way at a time while agents are made.
const AT_ONCE: usize = 32;
/// Pause between two looks at the server's figures.
const PAUSE: Duration = Duration::from_millis(20);

/// Where a server is, and on what.
pub(super) struct Settings<'a> {
    pub(super) program: &'a Path,
    /// For configuration and log.
    pub(super) folder: &'a Path,
    pub(super) database: &'a Path,
    pub(super) socket: &'a Path,
    /// More of the configuration.
    pub(super) more: &'a str,
}

/// A server that runs, and its operator.
pub(super) struct Api {
    served: Served,
    pub(super) http: reqwest::Client,
    token: String,
}

/// What the server says of its passes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Passes {
    pub(super) count: u64,
    pub(super) seconds: f64,
}

impl Api {
    /// Starts a server; `token` is the operator's where an earlier server on this database made it.
    pub(super) async fn start(settings: &Settings<'_>, token: Option<&str>) -> Result<Api> {
        let file = settings.folder.join("server.toml");
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\ndatabase = \"sqlite:{}\"\nrequests_per_second = 100000\n\
             [incus]\nsocket = {:?}\nowner = \"bench\"\n\
             [sizes]\nvcpu = 1\nmemory_mib = 256\ndisk_gib = 1\n\
             [quotas]\nagents = 100000\nvcpu = 100000\nmemory_mib = 100000000\ndisk_gib = 100000\n{}",
            settings.database.display(),
            settings.socket,
            settings.more,
        );
        fs_err::write(&file, text)?;
        let log = settings.folder.join("server.log");
        let served = Served::start(settings.program, &file, &log).await?;
        let token = token.or(served.first_token()).context("no token")?;
        Ok(Api {
            token: token.to_owned(),
            http: reqwest::Client::new(),
            served,
        })
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.served.base())
    }

    /// Ends the server.
    pub(super) async fn end(self) -> Result<()> {
        Ok(self.served.end().await?)
    }

    /// The most memory that it ever had, in KiB.
    pub(super) fn peak_kib(&self) -> Result<u64> {
        let taken = self.served.pid().and_then(Taken::by);
        Ok(taken.context("the server ended")?.peak_kib)
    }

    async fn post(&self, token: &str, path: &str, body: &Value) -> Result<Value> {
        let request = self.http.post(self.url(path)).bearer_auth(token).json(body);
        let response = request.send().await?;
        let status = response.status();
        let body = response.text().await?;
        if !status.is_success() {
            bail!("POST {path} came to {status}: {body}");
        }
        Ok(serde_json::from_str(&body)?)
    }

    /// A new owner of this name; gives its token.
    pub(super) async fn tenant(&self, name: &str) -> Result<String> {
        self.post(&self.token, "/v1/owners", &json!({ "owner_id": name }))
            .await?;
        let path = format!("/v1/owners/{name}/tokens");
        let made = self
            .post(&self.token, &path, &json!({ "scope": "write" }))
            .await?;
        let secret = made["secret"].as_str().context("a token has a secret")?;
        Ok(secret.to_owned())
    }

    /// Asks for an agent of each of these, the owner's own or one more.
    pub(super) async fn ask_for(&self, tokens: &[&str], path: &str) -> Result<()> {
        let body = json!({});
        let asked = tokens.iter().map(|token| self.post(token, path, &body));
        futures_util::stream::iter(asked)
            .buffer_unordered(AT_ONCE)
            .try_for_each(|_| async { Ok(()) })
            .await
    }

    /// Its figures, in Prometheus's format.
    async fn figures(&self) -> Result<String> {
        let request = self.http.get(self.url("/metrics")).bearer_auth(&self.token);
        let response = request.send().await?.error_for_status()?;
        Ok(response.text().await?)
    }

    /// Its passes so far.
    pub(super) async fn passes(&self) -> Result<Passes> {
        let text = self.figures().await?;
        let of = |name: &str| {
            figure(
                &text,
                &format!("pika_reconcile_pass_seconds_{name}{{kind=\"succeeded\"}}"),
            )
        };
        Ok(Passes {
            count: of("count").unwrap_or(0.0) as u64,
            seconds: of("sum").unwrap_or(0.0),
        })
    }

    /// Waits until there were more passes than these.
    pub(super) async fn more_passes_than(&self, before: u64, limit: Duration) -> Result<Passes> {
        let until = Instant::now() + limit;
        loop {
            let now = self.passes().await?;
            if now.count > before {
                return Ok(now);
            }
            if Instant::now() >= until {
                bail!("no pass within {} s", limit.as_secs());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until so many agents are ready.
    pub(super) async fn ready(&self, agents: u32, limit: Duration) -> Result<()> {
        let until = Instant::now() + limit;
        loop {
            let text = self.figures().await?;
            let ready = figure(&text, "pika_agents{state=\"ready\"}").unwrap_or(0.0);
            if ready >= f64::from(agents) {
                return Ok(());
            }
            if Instant::now() >= until {
                bail!(
                    "{ready} of {agents} agents are ready after {} s",
                    limit.as_secs()
                );
            }
            tokio::time::sleep(10 * PAUSE).await;
        }
    }
}

fn figure(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().parse().ok()
}

/// Files of a database.
pub(super) fn move_database(from: &Path, to: &Path) -> Result<()> {
    for suffix in ["", "-wal"] {
        let named = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        if named(from).exists() {
            fs_err::copy(named(from), named(to))?;
            fs_err::remove_file(named(from))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::figure;

    #[test]
    fn a_figure_is_found_by_its_whole_name() {
        let text = "# TYPE x counter\nx_sum{kind=\"a\"} 1.5\nx_sum{kind=\"b\"} 2\n";
        assert_eq!(figure(text, "x_sum{kind=\"b\"}"), Some(2.0));
        assert_eq!(figure(text, "x_sum{kind=\"c\"}"), None);
    }
}
