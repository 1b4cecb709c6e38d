//! Pages for people.
//!
//! Owns their markup. Every text that comes from outside is escaped.

use serde_json::Value;

/// A page that lists every route of the API, good without any script.
pub(crate) fn api_page(document: &Value) -> String {
    let mut rows = String::new();
    for (path, methods) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            let needs = operation["x-needs"].as_str().unwrap_or("nothing");
            let about = operation["summary"].as_str().unwrap_or_default();
            rows.push_str(&format!(
                "<tr><td><code>{}</code></td><td><code>{}</code></td><td>{}</td><td>{}</td></tr>\n",
                method.to_ascii_uppercase(),
                escape(path),
                escape(needs),
                escape(about)
            ));
        }
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>pika-server API</title><style>{STYLE}</style>\n<h1>pika-server API</h1>\n\
         <p>Try it: <code>curl -H \"Authorization: Bearer $PIKA_TOKEN\" …/v1/agents/me</code>. \
         The whole document: <a href=\"/openapi.json\">/openapi.json</a>.</p>\n<div class=\"scroll\"><table><thead><tr><th>Method<th>\
         Path<th>Needs<th>What it does</thead><tbody>\n{rows}</tbody></table></div></html>\n"
    )
}

const STYLE: &str = ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;\
    padding:0 1rem}table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.4rem .8rem;border-bottom:1px \
    solid color-mix(in srgb,currentColor 20%,transparent)}.scroll{overflow-x:auto}";

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
