//! Somebody who looks at a server's pages and presses what is there.

use std::time::Duration;

use reqwest::Url;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::driver::Driver;
use crate::support::{Api, LIMIT, Running};

/// A browser, and whom it visits.
pub(super) struct Visitor {
    pub(super) driver: Driver,
    base: String,
}

impl Visitor {
    pub(super) async fn new(running: &Running, javascript: bool) -> Visitor {
        Visitor {
            driver: Driver::start(javascript).await,
            base: format!("http://{}", running.server.address()),
        }
    }

    pub(super) async fn open(&self, path: &str) {
        self.driver.open(&format!("{}{path}", self.base)).await;
    }

    pub(super) async fn path(&self) -> String {
        let url = Url::parse(&self.driver.url().await).unwrap();
        url.path().to_owned()
    }

    /// What is replaced just now can't be pressed just now.
    pub(super) async fn press(&self, css: &str) {
        let limit = Instant::now() + LIMIT;
        while let Err(refused) = self.driver.click(css).await {
            assert!(Instant::now() < limit, "{css} can't be pressed: {refused}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(super) async fn fill(&self, css: &str, text: &str) {
        self.driver.write(css, text).await.unwrap();
    }

    pub(super) async fn sign_in(&self, api: &Api) {
        self.open("/agents").await;
        assert_eq!(self.path().await, "/sign-in");
        self.fill("#token", api.token()).await;
        self.press("form button").await;
        self.is_at("/agents").await;
    }

    /// Waits for a page.
    pub(super) async fn is_at(&self, path: &str) {
        let limit = Instant::now() + LIMIT;
        loop {
            let at = self.path().await;
            if at == path {
                return;
            }
            assert!(Instant::now() < limit, "still at {at}, not {path}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until what is shown has this in it.
    pub(super) async fn shows(&self, css: &str, wanted: &str) {
        self.shows_after(css, wanted, false).await;
    }

    /// The same on a page that is loaded again and again.
    pub(super) async fn shows_when_loaded_again(&self, css: &str, wanted: &str) {
        self.shows_after(css, wanted, true).await;
    }

    async fn shows_after(&self, css: &str, wanted: &str, reload: bool) {
        let limit = Instant::now() + LIMIT;
        loop {
            let text = self.driver.text(css).await;
            if text.as_ref().is_ok_and(|text| text.contains(wanted)) {
                return;
            }
            assert!(
                Instant::now() < limit,
                "{css} does not show {wanted:?}: {text:?}"
            );
            if reload {
                self.driver.reload().await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(super) async fn script(&self, script: &str) -> Value {
        self.driver.script(script).await
    }

    /// From here on the window is as wide as a phone's.
    pub(super) async fn is_a_phone(&self) {
        let size = json!({ "width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": true });
        let command = "Emulation.setDeviceMetricsOverride";
        self.driver.command(command, size).await;
    }

    pub(super) async fn fits(&self, path: &str) {
        self.open(path).await;
        let wide = "return document.documentElement.scrollWidth";
        assert_eq!(
            self.script(wide).await,
            json!(390),
            "{path} scrolls sideways"
        );
    }

    pub(super) async fn leave(self) {
        self.driver.end().await;
    }
}
