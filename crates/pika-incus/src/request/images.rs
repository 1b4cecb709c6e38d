//! Requests on `/1.0/images` and `/1.0/images/aliases`.

use http::Method;
use percent_encoding::utf8_percent_encode;
use serde_json::json;

use super::{ApiPath, ApiRequest, ESCAPED, InvalidInput};
use crate::types::{Config, ETag};

fn image_path(fingerprint: &str) -> Result<ApiPath, InvalidInput> {
    if fingerprint.is_empty() || !fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(InvalidInput::new(
            "image fingerprint",
            fingerprint,
            "is not a hex number",
        ));
    }
    ApiPath::of("images").name("image fingerprint", fingerprint)
}

fn alias_path(alias: &str) -> Result<ApiPath, InvalidInput> {
    ApiPath::of("images")
        .fixed("aliases")
        .name_with_slashes("image alias", alias)
}

/// `GET /1.0/images`
pub fn list(project: &str) -> ApiRequest {
    ApiRequest::get(ApiPath::of("images"))
        .query("recursion", "1")
        .project(project)
}

/// `GET /1.0/images/{fingerprint}`
pub fn get(project: &str, fingerprint: &str) -> Result<ApiRequest, InvalidInput> {
    Ok(ApiRequest::get(image_path(fingerprint)?).project(project))
}

/// `POST /1.0/images` of image files; the body is added by the caller.
pub fn import(
    project: &str,
    content_type: &str,
    filename: &str,
    properties: &Config,
) -> Result<ApiRequest, InvalidInput> {
    let mut encoded = String::new();
    for (key, value) in properties {
        if !encoded.is_empty() {
            encoded.push('&');
        }
        encoded.extend(utf8_percent_encode(key, ESCAPED));
        encoded.push('=');
        encoded.extend(utf8_percent_encode(value, ESCAPED));
    }
    let request = ApiRequest::new(Method::POST, ApiPath::of("images"))
        .project(project)
        .header("content-type", content_type)?
        .header("x-incus-filename", filename)?
        .header("x-incus-public", "false")?;
    if encoded.is_empty() {
        Ok(request)
    } else {
        request.header("x-incus-properties", &encoded)
    }
}

/// `DELETE /1.0/images/{fingerprint}`
pub fn delete(project: &str, fingerprint: &str) -> Result<ApiRequest, InvalidInput> {
    Ok(ApiRequest::new(Method::DELETE, image_path(fingerprint)?).project(project))
}

/// `PATCH /1.0/images/{fingerprint}`: the properties become these (the API replaces them as a whole).
pub fn update_properties(
    project: &str,
    fingerprint: &str,
    properties: &Config,
    etag: Option<&ETag>,
) -> Result<ApiRequest, InvalidInput> {
    ApiRequest::new(Method::PATCH, image_path(fingerprint)?)
        .project(project)
        .json(&json!({ "properties": properties }))?
        .if_match(etag)
}

/// `GET /1.0/images/aliases`
pub fn aliases(project: &str) -> ApiRequest {
    ApiRequest::get(ApiPath::of("images").fixed("aliases"))
        .query("recursion", "1")
        .project(project)
}

/// `GET /1.0/images/aliases/{name}`
pub fn alias(project: &str, alias: &str) -> Result<ApiRequest, InvalidInput> {
    Ok(ApiRequest::get(alias_path(alias)?).project(project))
}

/// `POST /1.0/images/aliases`
pub fn create_alias(
    project: &str,
    alias: &str,
    target: &str,
    description: &str,
) -> Result<ApiRequest, InvalidInput> {
    alias_path(alias)?;
    image_path(target)?;
    ApiRequest::new(Method::POST, ApiPath::of("images").fixed("aliases"))
        .project(project)
        .json(&json!({ "name": alias, "target": target, "description": description }))
}

/// `PUT /1.0/images/aliases/{name}`: points an alias elsewhere.
pub fn update_alias(
    project: &str,
    alias: &str,
    target: &str,
    description: &str,
    etag: Option<&ETag>,
) -> Result<ApiRequest, InvalidInput> {
    image_path(target)?;
    ApiRequest::new(Method::PUT, alias_path(alias)?)
        .project(project)
        .json(&json!({ "target": target, "description": description }))?
        .if_match(etag)
}

/// `DELETE /1.0/images/aliases/{name}`
pub fn delete_alias(project: &str, alias: &str) -> Result<ApiRequest, InvalidInput> {
    Ok(ApiRequest::new(Method::DELETE, alias_path(alias)?).project(project))
}

#[cfg(test)]
mod tests {
    use super::{alias, get, import};
    use crate::types::Config;

    #[test]
    fn an_alias_with_a_slash_is_one_segment() {
        let request = alias("p", "team/dev").unwrap();
        assert_eq!(
            request.path_and_query(),
            "/1.0/images/aliases/team%2Fdev?project=p"
        );
    }

    #[test]
    fn a_fingerprint_is_hex() {
        assert!(get("p", "abc123").is_ok());
        for wrong in ["", "aliases", "../instances", "abc/def"] {
            assert!(get("p", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn properties_travel_as_a_query_string() {
        let properties = Config::from([
            ("a".to_owned(), "x y".to_owned()),
            ("b&c".to_owned(), "1=2".to_owned()),
        ]);
        let request = import("p", "application/octet-stream", "f.tar", &properties).unwrap();
        assert_eq!(
            request.headers()["x-incus-properties"],
            "a=x%20y&b%26c=1%3D2"
        );
    }
}
