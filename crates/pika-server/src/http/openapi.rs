//! The OpenAPI document, made from the table of routes and the contract's types.
//!
//! Owns how a row becomes a path. The document is checked in; a test says when it changes.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::http::header;
use axum::response::IntoResponse;
use pika_managed_agent_contract as contract;
use pika_managed_agent_contract::ErrorCode;
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use super::routes::{Answer, Content, Query, QueryKind, Row, Takes, table};

#[derive(OpenApi)]
#[openapi(components(schemas(
    contract::AgentList,
    contract::AgentProvisionRequest,
    contract::AgentState,
    contract::AgentView,
    contract::AllowBody,
    contract::AllowList,
    contract::AllowView,
    contract::AuditList,
    contract::AuditView,
    contract::BackupList,
    contract::BackupView,
    contract::ErrorBody,
    contract::ErrorCode,
    contract::EventList,
    contract::EventView,
    contract::IncusProvisionParams,
    contract::KnownAgentBody,
    contract::MadeToken,
    contract::NewOwner,
    contract::NewTokenBody,
    contract::OperationKind,
    contract::OperationList,
    contract::OperationState,
    contract::OperationView,
    contract::OwnerList,
    contract::OwnerView,
    contract::QuotaBody,
    contract::RestoreBody,
    contract::Role,
    contract::Scope,
    contract::StartupPhase,
    contract::StrayList,
    contract::StrayView,
    contract::TokenList,
    contract::TokenView,
    contract::UsageView,
    pika_cloud::RuntimeResources,
)))]
struct Schemas;

/// A text without control characters.
const NO_CONTROL: &str = r"^[^\u0000-\u001f\u007f-\u009f]+$";

static DOCUMENT: LazyLock<String> = LazyLock::new(|| document().to_string());

pub(super) async fn get() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "application/json")],
        DOCUMENT.as_str(),
    )
}

/// The whole document.
pub(crate) fn document() -> Value {
    let components =
        serde_json::to_value(Schemas::openapi().components).expect("schemas are a document");
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for row in table() {
        let methods = paths.entry(plain_path(&row)).or_default();
        methods.insert(row.method.as_str().to_ascii_lowercase(), operation(&row));
    }
    let mut components = components;
    bound_integers(&mut components);
    components["securitySchemes"] = json!({ "bearer": { "type": "http", "scheme": "bearer" } });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "pika-server",
            "description": "Managed agents: asked for, kept, brought back.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT" },
        },
        "paths": paths,
        "components": components,
    })
}

/// A row's path as OpenAPI has it, which knows no parameter of several segments.
pub(super) fn plain_path(row: &Row) -> String {
    row.path.replace("{*", "{")
}

/// Numbers without a sign have 32 bits, which neither `int32` nor a least value alone says.
fn bound_integers(schema: &mut Value) {
    match schema {
        Value::Object(parts) => {
            let has = |key: &str, value: Value| parts.get(key) == Some(&value);
            if has("format", json!("int32")) && has("minimum", json!(0)) {
                parts.insert("format".to_owned(), json!("int64"));
                parts.entry("maximum").or_insert_with(|| json!(u32::MAX));
            }
            parts.values_mut().for_each(bound_integers);
        }
        Value::Array(parts) => parts.iter_mut().for_each(bound_integers),
        _ => {}
    }
}

fn operation(row: &Row) -> Value {
    let mut operation = json!({
        "operationId": operation_id(row),
        "summary": row.about,
        "parameters": parameters(row),
        "responses": responses(row),
    });
    if let Some(scope) = row.needs.scope() {
        operation["security"] = json!([{ "bearer": [] }]);
        operation["x-needs"] = json!(scope);
    }
    let (name, required) = match row.body {
        Takes::Nothing | Takes::Empty => return operation,
        Takes::Document(name) => (name, true),
        Takes::Optional(name) => (name, false),
    };
    let schema = json!({ "$ref": format!("#/components/schemas/{name}") });
    operation["requestBody"] =
        json!({ "required": required, "content": { "application/json": { "schema": schema } } });
    operation
}

pub(super) fn operation_id(row: &Row) -> String {
    let words = row
        .path
        .trim_start_matches("/v1")
        .split(['/', '-', '.', '{', '}', '*']);
    let mut words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    if row.path.ends_with('/') {
        words.push("root");
    }
    format!(
        "{}_{}",
        row.method.as_str().to_ascii_lowercase(),
        words.join("_")
    )
}

pub(super) fn parameters(row: &Row) -> Vec<Value> {
    let path = plain_path(row);
    let in_path = path
        .split('{')
        .skip(1)
        .filter_map(|rest| rest.split_once('}'))
        .map(|(name, _)| {
            let schema = json!({ "type": "string", "minLength": 1, "maxLength": 128, "pattern": NO_CONTROL });
            json!({ "name": name, "in": "path", "required": true, "schema": schema })
        });
    let in_query = row.query.iter().map(|query| {
        json!({
            "name": query.name,
            "in": "query",
            "required": false,
            "description": query.about,
            "schema": query_schema(query),
        })
    });
    let posts = matches!(row.body, Takes::Nothing).then_some(()).is_none()
        && row.method == http::Method::POST;
    let key = posts.then(|| {
        let about = "Makes the request count once: a repetition gets the first one's answer.";
        let schema = json!({ "type": "string", "pattern": "^[!-~]{1,255}$" });
        json!({ "name": "Idempotency-Key", "in": "header", "required": false, "description": about, "schema": schema })
    });
    in_path.chain(in_query).chain(key).collect()
}

fn query_schema(query: &Query) -> Value {
    match query.kind {
        QueryKind::Text => json!({ "type": "string" }),
        QueryKind::Number { least, most } => {
            json!({ "type": "integer", "minimum": least, "maximum": most })
        }
        QueryKind::Switch => json!({ "type": "boolean" }),
    }
}

fn responses(row: &Row) -> Map<String, Value> {
    let mut responses = Map::new();
    for answer in &row.answers {
        let status = match answer.content {
            Content::Foreign => "default".to_owned(),
            _ => answer.status.to_string(),
        };
        responses.insert(status, good(answer));
    }
    let mut by_status: BTreeMap<u16, Vec<ErrorCode>> = BTreeMap::new();
    for code in errors_of(row) {
        by_status.entry(code.status()).or_default().push(code);
    }
    for (status, codes) in by_status {
        let words: Vec<String> = codes.iter().map(|code| format!("`{code}`")).collect();
        let schema = json!({ "$ref": "#/components/schemas/ErrorBody" });
        let content = json!({ "application/json": { "schema": schema } });
        let described = json!({ "description": words.join(", "), "content": content });
        responses.entry(status.to_string()).or_insert(described);
    }
    responses
}

/// Every error that a route can answer with.
pub(crate) fn errors_of(row: &Row) -> Vec<ErrorCode> {
    let mut codes = row.errors.clone();
    if row.needs.scope().is_some() {
        codes.extend([
            ErrorCode::Unauthorized,
            ErrorCode::NotWhitelisted,
            ErrorCode::Forbidden,
            ErrorCode::InvalidRequest,
            ErrorCode::RateLimited,
            ErrorCode::Internal,
        ]);
    }
    if row.path.contains("{agent_id}") {
        codes.push(ErrorCode::AgentNotFound);
    }
    if !matches!(row.body, Takes::Nothing) {
        codes.push(ErrorCode::PayloadTooLarge);
    }
    codes.sort_by_key(|code| (code.status(), code.as_str()));
    codes.dedup();
    codes
}

fn good(answer: &Answer) -> Value {
    match answer.content {
        Content::Nothing => json!({ "description": "Done." }),
        Content::Foreign => json!({ "description": "What the agent answers." }),
        Content::Elsewhere => json!({
            "description": "At another place.",
            "headers": { "Location": { "required": true, "schema": { "type": "string" } } },
        }),
        Content::Document(name) => {
            let schema = json!({ "$ref": format!("#/components/schemas/{name}") });
            json!({ "description": name, "content": { "application/json": { "schema": schema } } })
        }
        Content::AnyDocument => {
            json!({ "description": "A document.", "content": { "application/json": { "schema": { "type": "object" } } } })
        }
        Content::Text(kind) => {
            json!({ "description": "Text.", "content": { kind: { "schema": { "type": "string" } } } })
        }
    }
}
