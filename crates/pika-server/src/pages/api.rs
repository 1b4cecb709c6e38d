//! The page to try the API: every route with what it takes, and a form that sends it.

use askama::Template;

use super::frame::Frame;

/// Every route of the API.
#[derive(Debug, Template)]
#[template(path = "api.html")]
pub(crate) struct ApiPage {
    pub(crate) frame: Frame,
    /// Where the server is from outside, in the commands that the page shows.
    pub(crate) base: String,
    pub(crate) groups: Vec<RouteGroup>,
}

/// Routes about one thing.
#[derive(Debug)]
pub(crate) struct RouteGroup {
    pub(crate) title: String,
    pub(crate) routes: Vec<RouteLine>,
}

/// One route.
#[derive(Debug)]
pub(crate) struct RouteLine {
    /// The operation's id in the OpenAPI document.
    pub(crate) id: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) needs: &'static str,
    pub(crate) about: &'static str,
    pub(crate) inputs: Vec<Input>,
    /// An example of its body, if it takes one.
    pub(crate) body: Option<String>,
    /// What a body may hold.
    pub(crate) fields: Vec<Field>,
    /// A form can't send it.
    pub(crate) websocket: bool,
}

/// A parameter.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) name: String,
    /// `path`, `query` or `header`.
    pub(crate) place: String,
    pub(crate) about: String,
}

/// A field of a body.
#[derive(Debug)]
pub(crate) struct Field {
    /// Of a field within another: both names with a dot between them.
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) about: String,
    pub(crate) required: bool,
}

impl RouteLine {
    /// The request as a command of a shell.
    fn command(&self, base: &str) -> String {
        let mut command = "curl".to_owned();
        if self.needs != "nothing" {
            command.push_str(" -H \"Authorization: Bearer $PIKA_TOKEN\"");
        }
        if self.method != "GET" {
            command = format!("{command} -X {}", self.method);
        }
        if let Some(body) = &self.body {
            let body: String = body.split_whitespace().collect();
            command = format!("{command} -d '{body}'");
        }
        format!("{command} '{base}{}'", self.path)
    }
}
