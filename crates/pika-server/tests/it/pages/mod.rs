//! The pages, as a browser without JavaScript has them: sessions, forms, what is shown to whom.

mod agents;
mod operator;
mod rules;
mod session;

use reqwest::header::{HeaderMap, LOCATION, SET_COOKIE};
use reqwest::{Method, RequestBuilder, StatusCode};

use crate::support::{Api, Running};

/// What a page answered.
#[derive(Debug)]
struct Page {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Page {
    fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    fn location(&self) -> &str {
        self.header(LOCATION.as_str())
    }

    /// The value of an input, the first of this name.
    fn input(&self, name: &str) -> String {
        let (_, after) = self
            .text
            .split_once(&format!("name=\"{name}\" value=\""))
            .unwrap_or_else(|| panic!("no input {name}: {}", self.text));
        after.split_once('"').unwrap().0.to_owned()
    }

    /// The value of an input of the form that goes to a place.
    fn input_of(&self, action: &str, name: &str) -> String {
        let (_, after) = self
            .text
            .split_once(&format!("action=\"{action}\""))
            .unwrap_or_else(|| panic!("no form to {action}: {}", self.text));
        let form = after.split_once("</form>").unwrap().0;
        let (_, after) = form
            .split_once(&format!("name=\"{name}\" value=\""))
            .unwrap_or_else(|| panic!("no input {name}: {form}"));
        after.split_once('"').unwrap().0.to_owned()
    }
}

/// A browser that has one cookie at most and follows no redirect by itself.
#[derive(Clone)]
struct Browser {
    http: reqwest::Client,
    base: String,
    cookie: String,
}

impl Browser {
    fn new(running: &Running) -> Browser {
        let policy = reqwest::redirect::Policy::none();
        Browser {
            http: reqwest::Client::builder().redirect(policy).build().unwrap(),
            base: format!("http://{}", running.server.address()),
            cookie: String::new(),
        }
    }

    /// One in which this caller's token was typed.
    async fn of(running: &Running, api: &Api) -> Browser {
        let mut browser = Browser::new(running);
        let page = browser.sign_in(api.token(), "/agents").await;
        assert_eq!(page.status, StatusCode::SEE_OTHER, "{}", page.text);
        browser
    }

    async fn sign_in(&mut self, token: &str, next: &str) -> Page {
        let page = self
            .post("/sign-in", &[("token", token), ("next", next)])
            .await;
        if let Some(cookie) = page.headers.get(SET_COOKIE) {
            let text = cookie.to_str().unwrap();
            self.cookie = text.split_once(';').unwrap().0.to_owned();
        }
        page
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        request
            .header("accept", "text/html,application/xhtml+xml")
            .header("cookie", &self.cookie)
    }

    async fn send(&self, request: RequestBuilder) -> Page {
        let response = request.send().await.unwrap();
        Page {
            status: response.status(),
            headers: response.headers().clone(),
            text: response.text().await.unwrap(),
        }
    }

    async fn get(&self, path: &str) -> Page {
        self.send(self.request(Method::GET, path)).await
    }

    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Page {
        let request = self.request(Method::POST, path).form(fields);
        self.send(request).await
    }

    /// Fills in the form that a page shows, and sends it.
    async fn submit(&self, shown: &str, action: &str, more: &[(&str, &str)]) -> Page {
        let page = self.get(shown).await;
        assert_eq!(page.status, StatusCode::OK, "{shown}: {}", page.text);
        let (csrf, key) = (page.input_of(action, "csrf"), page.input_of(action, "key"));
        let mut fields = vec![("csrf", &*csrf), ("key", &*key)];
        fields.extend(more);
        self.post(action, &fields).await
    }

    async fn csrf(&self) -> String {
        self.get("/agents").await.input("csrf")
    }
}

/// A path of a table, with made-up ids.
fn fill(path: &str) -> String {
    let mut filled = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        filled.push_str("made-up");
        rest = after.split_once('}').unwrap().1;
    }
    filled + rest
}
