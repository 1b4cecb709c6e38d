//! Chromium, by its driver's protocol (W3C WebDriver): the few requests that these tests need.
//!
//! The crates for it either bring a licence that is not taken here or make all of the workspace's JSON keep its order.

use std::process::Stdio;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// The key under which an answer holds an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser's session.
pub(super) struct Driver {
    http: reqwest::Client,
    session: String,
    program: Child,
}

/// What the driver says when it refuses: its code and its words.
type Refused = String;

impl Driver {
    /// A browser of its own, without a window.
    pub(super) async fn start(javascript: bool) -> Driver {
        let mut program = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("chromedriver is there: `cargo xtask test` installs it with the package chromium-driver");
        let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
        let port = loop {
            let line = lines.next_line().await.unwrap();
            let line = line.expect("chromedriver says its port before it ends");
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                break port.trim_end_matches('.').to_owned();
            }
        };
        // It writes on, and must not be held back.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let args = [
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--disable-background-networking",
            "--window-size=1280,900",
        ];
        let mut options = json!({ "args": args });
        if !javascript {
            options["prefs"] = json!({ "profile.managed_default_content_settings.javascript": 2 });
        }
        let wishes = json!({ "browserName": "chrome", "goog:chromeOptions": options });
        let mut driver = Driver {
            http: reqwest::Client::new(),
            session: format!("http://127.0.0.1:{port}/session"),
            program,
        };
        let wanted = json!({ "capabilities": { "alwaysMatch": wishes } });
        let begun = driver.ask(Method::POST, "", wanted).await.unwrap();
        driver.session = format!(
            "{}/{}",
            driver.session,
            begun["sessionId"].as_str().unwrap()
        );
        driver
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> Result<Value, Refused> {
        let request = self
            .http
            .request(method.clone(), format!("{}{path}", self.session));
        let request = match method {
            Method::POST => request.json(&body),
            _ => request,
        };
        let mut answer: Value = request.send().await.unwrap().json().await.unwrap();
        let value = answer["value"].take();
        match value.get("error") {
            Some(error) => Err(format!("{error}: {}", value["message"])),
            None => Ok(value),
        }
    }

    async fn post(&self, path: &str, body: Value) -> Result<Value, Refused> {
        self.ask(Method::POST, path, body).await
    }

    pub(super) async fn open(&self, url: &str) {
        self.post("/url", json!({ "url": url })).await.unwrap();
    }

    pub(super) async fn reload(&self) {
        self.post("/refresh", json!({})).await.unwrap();
    }

    pub(super) async fn url(&self) -> String {
        let url = self.ask(Method::GET, "/url", Value::Null).await.unwrap();
        url.as_str().unwrap().to_owned()
    }

    async fn element(&self, css: &str) -> Result<String, Refused> {
        let wanted = json!({ "using": "css selector", "value": css });
        let found = self.post("/element", wanted).await?;
        Ok(format!("/element/{}", found[ELEMENT].as_str().unwrap()))
    }

    pub(super) async fn click(&self, css: &str) -> Result<(), Refused> {
        let element = self.element(css).await?;
        self.post(&format!("{element}/click"), json!({}))
            .await
            .map(drop)
    }

    pub(super) async fn write(&self, css: &str, text: &str) -> Result<(), Refused> {
        let element = self.element(css).await?;
        let text = json!({ "text": text });
        self.post(&format!("{element}/value"), text).await.map(drop)
    }

    pub(super) async fn text(&self, css: &str) -> Result<String, Refused> {
        let element = self.element(css).await?;
        let text = self
            .ask(Method::GET, &format!("{element}/text"), Value::Null)
            .await?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    pub(super) async fn script(&self, script: &str) -> Value {
        let wanted = json!({ "script": script, "args": [] });
        self.post("/execute/sync", wanted).await.unwrap()
    }

    /// A command of Chromium's own protocol.
    pub(super) async fn command(&self, command: &str, params: Value) -> Value {
        let wanted = json!({ "cmd": command, "params": params });
        self.post("/goog/cdp/execute", wanted).await.unwrap()
    }

    pub(super) async fn end(mut self) {
        self.ask(Method::DELETE, "", Value::Null).await.unwrap();
        self.program.kill().await.unwrap();
    }
}
