//! Requests at a constant rate, each counted from the moment at which it was to be sent.
//!
//! Owns the clock of the load: a server that is slow delays no later request, so what users would wait is what counts.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// What is asked.
#[derive(Clone)]
pub(super) struct Load {
    pub(super) url: String,
    /// In turn; none means without a credential.
    pub(super) tokens: Vec<String>,
    /// Requests a second.
    pub(super) rate: u32,
}

/// How long answers took, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Latency {
    pub(super) requests: usize,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
}

impl Load {
    /// Sends so many seconds' worth of requests from a thread of its own: what this process does besides delays none of them.
    ///
    /// # Errors
    /// When one is not answered with 200.
    pub(super) async fn run_apart(self, seconds: u32) -> Result<Vec<Duration>> {
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("start an asynchronous runtime")?;
            runtime.block_on(self.run(seconds))
        };
        tokio::task::spawn_blocking(run).await?
    }

    /// Gives what each request took.
    async fn run(self, seconds: u32) -> Result<Vec<Duration>> {
        let http = reqwest::Client::new();
        let interval = Duration::from_secs(1) / self.rate;
        let begin = Instant::now() + interval;
        let mut under_way = JoinSet::new();
        for number in 0..self.rate * seconds {
            let due = begin + interval * number;
            sleep_until(due).await;
            let mut request = http.get(&self.url);
            if let Some(token) = self.tokens.get(number as usize % self.tokens.len().max(1)) {
                request = request.bearer_auth(token);
            }
            under_way.spawn(async move {
                let answer = request.send().await?;
                let status = answer.status();
                let body = answer.bytes().await?;
                if status != 200 {
                    bail!("{status}: {}", String::from_utf8_lossy(&body));
                }
                Ok(due.elapsed())
            });
        }
        let mut taken = Vec::new();
        while let Some(ended) = under_way.join_next().await {
            taken.push(ended?.with_context(|| format!("GET {}", self.url))?);
        }
        Ok(taken)
    }
}

/// Sorted first; the p99 is the least value that 99 of 100 are not above.
pub(super) fn latency(mut taken: Vec<Duration>) -> Latency {
    taken.sort_unstable();
    let at = |hundredths: usize| {
        let rank = (taken.len() * hundredths).div_ceil(100).max(1);
        taken
            .get(rank - 1)
            .map_or(0.0, |taken| super::super::millis(*taken))
    };
    Latency {
        requests: taken.len(),
        p50_ms: at(50),
        p99_ms: at(99),
        max_ms: at(100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let taken = (1..=200).rev().map(Duration::from_millis).collect();
        let told = latency(taken);
        let expected = Latency {
            requests: 200,
            p50_ms: 100.0,
            p99_ms: 198.0,
            max_ms: 200.0,
        };
        assert_eq!(told, expected);
        assert_eq!(latency(Vec::new()).requests, 0);
    }
}
