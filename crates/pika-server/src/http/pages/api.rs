//! The page to try the API, made from the table of routes and the document's schemas.
//!
//! Owns how routes are put together, and which example a body begins with.

use std::sync::{Arc, LazyLock};

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::Response;
use pika_managed_agent_contract::{ErrorCode, Scope, routes as paths};
use serde_json::{Map, Value};

use crate::http::Shared;
use crate::http::auth::authenticate;
use crate::http::error::ApiError;
use crate::http::guard::Asked;
use crate::http::openapi::{document, operation_id, parameters, plain_path};
use crate::http::routes::{Row, Takes, table};
use crate::pages::{self, ApiPage, Field, Frame, Input, RouteGroup, RouteLine};

/// Schemas by name.
static SCHEMAS: LazyLock<Value> = LazyLock::new(|| document()["components"]["schemas"].take());

/// Anybody sees it; who is signed in sends requests as such.
pub(in crate::http) async fn show(
    State(shared): State<Arc<Shared>>,
    request: Request,
) -> Result<Response, ApiError> {
    let mut asked = Asked::new(&request);
    asked.headers.remove(header::AUTHORIZATION);
    let who = match authenticate(&shared.app, &asked).await {
        Ok(caller) => Some(caller.who()),
        Err(error) if error.code == ErrorCode::Unauthorized => None,
        Err(error) => return Err(error),
    };
    let outside = shared.app.config.external_url.as_deref();
    let page = ApiPage {
        frame: Frame::new("The API", who, paths::API_PAGE),
        base: outside.unwrap_or("http://…").to_owned(),
        groups: groups(),
    };
    Ok(pages::answer(StatusCode::OK, &page)?)
}

fn groups() -> Vec<RouteGroup> {
    let mut groups: Vec<RouteGroup> = Vec::new();
    for row in table() {
        let title = title_of(row.path);
        let line = line(&row);
        match groups.iter_mut().find(|group| group.title == title) {
            Some(group) => group.routes.push(line),
            None => groups.push(RouteGroup {
                title,
                routes: vec![line],
            }),
        }
    }
    groups
}

/// What a route is about: the first word of its path, or the server.
fn title_of(path: &str) -> String {
    let word = path
        .strip_prefix("/v1/")
        .and_then(|rest| rest.split('/').next());
    match word {
        None => "Server".to_owned(),
        Some("owner" | "owners") => "Owners".to_owned(),
        Some(word) => {
            let (first, rest) = word.split_at(1);
            first.to_uppercase() + rest
        }
    }
}

fn line(row: &Row) -> RouteLine {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let inputs = parameters(row).into_iter().map(|parameter| Input {
        name: text(&parameter["name"]),
        place: text(&parameter["in"]),
        about: text(&parameter["description"]),
    });
    let schema = match row.body {
        Takes::Nothing | Takes::Empty => None,
        Takes::Document(name) | Takes::Optional(name) => Some(&SCHEMAS[name]),
    };
    let mut fields = Vec::new();
    if let Some(schema) = schema {
        fields_of(schema, "", &mut fields);
    }
    RouteLine {
        id: operation_id(row),
        method: row.method.to_string(),
        path: plain_path(row),
        needs: row.needs.scope().map_or("nothing", Scope::as_str),
        about: row.about,
        inputs: inputs.collect(),
        body: schema.map(|schema| format!("{:#}", example(schema))),
        fields,
        websocket: row.answers.iter().any(|answer| answer.status == 101),
    }
}

/// What a reference stands for, and what an optional value is when it is there.
fn resolve(schema: &Value) -> &Value {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap_or_default();
        return resolve(&SCHEMAS[name]);
    }
    let choices = schema["oneOf"].as_array();
    let real = choices.and_then(|all| all.iter().find(|choice| choice["type"] != "null"));
    match real {
        Some(choice) if schema["type"].is_null() && !choice["$ref"].is_null() => resolve(choice),
        _ => schema,
    }
}

/// The least document that has all that is required, its values to be filled in.
fn example(schema: &Value) -> Value {
    let schema = resolve(schema);
    let required = schema["required"].as_array().into_iter().flatten();
    if let Some(first) = choices_of(schema).first() {
        return Value::from(first.clone());
    }
    match kind_of(schema).as_str() {
        "object" => {
            let named = required.filter_map(Value::as_str);
            let with = named.map(|name| (name.to_owned(), example(&schema["properties"][name])));
            Value::Object(with.collect::<Map<_, _>>())
        }
        "integer" | "number" => schema.get("minimum").cloned().unwrap_or(Value::from(0)),
        "boolean" => Value::Bool(false),
        _ => Value::from(""),
    }
}

/// The words that a text may be, where there are only some.
fn choices_of(schema: &Value) -> Vec<String> {
    let of = |value: &Value| -> Vec<String> {
        let words = value["enum"].as_array().into_iter().flatten();
        words.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let listed = schema["oneOf"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(of);
    of(schema).into_iter().chain(listed).collect()
}

fn kind_of(schema: &Value) -> String {
    match &schema["type"] {
        Value::String(kind) => kind.clone(),
        Value::Array(kinds) => {
            let real = kinds.iter().find(|kind| *kind != "null");
            real.and_then(Value::as_str).unwrap_or_default().to_owned()
        }
        _ => "string".to_owned(),
    }
}

fn fields_of(schema: &Value, within: &str, fields: &mut Vec<Field>) {
    let schema = resolve(schema);
    let required = schema["required"].as_array();
    let is_required = |name: &str| required.is_some_and(|all| all.iter().any(|one| one == name));
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let real = resolve(property);
        let choice = property["oneOf"].as_array().into_iter().flatten();
        let about = std::iter::once(property)
            .chain(choice)
            .chain([real])
            .find_map(|part| part["description"].as_str());
        let words = choices_of(real);
        fields.push(Field {
            name: format!("{within}{name}"),
            kind: match words.is_empty() {
                true => kind_of(real),
                false => words.join(", "),
            },
            about: about.unwrap_or_default().to_owned(),
            required: is_required(name),
        });
        fields_of(real, &format!("{within}{name}."), fields);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(id: &str) -> RouteLine {
        let lines = groups().into_iter().flat_map(|group| group.routes);
        lines.into_iter().find(|line| line.id == id).unwrap()
    }

    #[test]
    fn a_body_begins_with_what_is_required_and_tells_what_else_it_may_hold() {
        let line = found("post_owners");
        assert_eq!(line.body.unwrap(), "{\n  \"owner_id\": \"\"\n}");
        let line = found("post_agents_ensure");
        assert_eq!(line.body.unwrap(), "{}");
        let names: Vec<&str> = line.fields.iter().map(|field| &*field.name).collect();
        assert!(names.contains(&"incus.guest_role"), "{names:?}");
        assert!(names.contains(&"resources.vcpu_count"), "{names:?}");
        let scope = found("post_tokens").fields;
        let scope = scope.iter().find(|field| field.name == "scope").unwrap();
        assert_eq!(scope.kind, "read, write, operator");
        assert!(scope.required);
    }

    #[test]
    fn every_route_has_its_place_and_its_inputs() {
        let count: usize = groups().iter().map(|group| group.routes.len()).sum();
        assert_eq!(count, table().len());
        let line = found("get_agents_agent_id_logs");
        assert!(line.inputs.iter().any(|input| input.place == "path"));
        assert!(line.body.is_none() && !line.websocket);
        assert!(found("get_agents_agent_id_exec").websocket);
        let key = found("post_agents_agent_id_restart").inputs;
        assert!(key.iter().any(|input| input.place == "header"));
    }
}
