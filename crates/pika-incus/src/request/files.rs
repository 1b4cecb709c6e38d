//! Requests on `/1.0/instances/{name}/files`.

use http::Method;

use super::instances::instance_path;
use super::{ApiRequest, FILE_PATH_BYTES_MAX, InvalidInput};

/// Owner, group and mode of a file that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMeta {
    /// User id in the guest.
    pub uid: u32,
    /// Group id in the guest.
    pub gid: u32,
    /// Permission bits, at most `0o7777`.
    pub mode: u32,
    /// What happens to a file that is there.
    pub write: WriteMode,
}

impl FileMeta {
    /// Owned by root, with this mode, replacing what is there.
    pub fn root(mode: u32) -> Self {
        Self {
            uid: 0,
            gid: 0,
            mode,
            write: WriteMode::Overwrite,
        }
    }
}

/// What happens to a file that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WriteMode {
    /// It is truncated and written anew.
    #[default]
    Overwrite,
    /// The bytes are added at its end.
    Append,
}

fn files(
    method: Method,
    project: &str,
    name: &str,
    path: &str,
) -> Result<ApiRequest, InvalidInput> {
    let reason = if !path.starts_with('/') {
        "must be absolute"
    } else if path.len() > FILE_PATH_BYTES_MAX {
        "is longer than 4096 bytes"
    } else if path.contains('\0') {
        "has a NUL byte"
    } else {
        let request = ApiRequest::new(method, instance_path(name)?.fixed("files"));
        return Ok(request.project(project).query("path", path));
    };
    Err(InvalidInput::new("file path", path, reason))
}

/// `GET`: content of a file, names in a directory, or target of a symbolic link.
pub fn get(project: &str, name: &str, path: &str) -> Result<ApiRequest, InvalidInput> {
    files(Method::GET, project, name, path)
}

/// `GET` of the bytes of a file from `offset` on, at most `length`.
pub fn get_range(
    project: &str,
    name: &str,
    path: &str,
    offset: u64,
    length: Option<u64>,
) -> Result<ApiRequest, InvalidInput> {
    let end = match length {
        Some(0) => return Err(InvalidInput::new("file range", path, "has length 0")),
        Some(length) => offset.saturating_add(length - 1).to_string(),
        None => String::new(),
    };
    get(project, name, path)?.header("range", &format!("bytes={offset}-{end}"))
}

/// `HEAD`: owner, mode, type and size, without opening the file.
pub fn head(project: &str, name: &str, path: &str) -> Result<ApiRequest, InvalidInput> {
    files(Method::HEAD, project, name, path)
}

/// `POST` of a file; its bytes are the body, added by the caller.
pub fn put(
    project: &str,
    name: &str,
    path: &str,
    meta: &FileMeta,
) -> Result<ApiRequest, InvalidInput> {
    let write = match meta.write {
        WriteMode::Overwrite => "overwrite",
        WriteMode::Append => "append",
    };
    with_meta(files(Method::POST, project, name, path)?, meta, "file")?
        .header("x-incus-write", write)
}

/// `POST` of a directory; its parent must exist.
pub fn create_directory(
    project: &str,
    name: &str,
    path: &str,
    meta: &FileMeta,
) -> Result<ApiRequest, InvalidInput> {
    with_meta(files(Method::POST, project, name, path)?, meta, "directory")
}

/// `POST` of a symbolic link; the body is its target, added by the caller.
pub fn create_symlink(project: &str, name: &str, path: &str) -> Result<ApiRequest, InvalidInput> {
    files(Method::POST, project, name, path)?.header("x-incus-type", "symlink")
}

/// `DELETE` of a file or an empty directory.
pub fn delete(project: &str, name: &str, path: &str) -> Result<ApiRequest, InvalidInput> {
    files(Method::DELETE, project, name, path)
}

fn with_meta(request: ApiRequest, meta: &FileMeta, kind: &str) -> Result<ApiRequest, InvalidInput> {
    request
        .header("x-incus-uid", &meta.uid.to_string())?
        .header("x-incus-gid", &meta.gid.to_string())?
        .header("x-incus-mode", &format!("{:04o}", meta.mode & 0o7777))?
        .header("x-incus-type", kind)?
        .header("content-type", "application/octet-stream")
}

#[cfg(test)]
mod tests {
    use super::{FileMeta, get, get_range, put};

    #[test]
    fn a_path_is_one_escaped_parameter() {
        let request = get("p", "c1", "/tmp/a b&path=/etc/shadow").unwrap();
        assert_eq!(
            request.path_and_query(),
            "/1.0/instances/c1/files?project=p&path=%2Ftmp%2Fa%20b%26path%3D%2Fetc%2Fshadow"
        );
        for path in ["", "tmp/x", "/a\0b"] {
            assert!(get("p", "c1", path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn a_range_is_inclusive_at_its_end() {
        let range = |offset, length| {
            let request = get_range("p", "c1", "/f", offset, length).unwrap();
            request.headers()["range"].to_str().unwrap().to_owned()
        };
        assert_eq!(range(0, Some(10)), "bytes=0-9");
        assert_eq!(range(7, None), "bytes=7-");
        assert!(get_range("p", "c1", "/f", 0, Some(0)).is_err());
    }

    #[test]
    fn owner_and_mode_travel_in_headers() {
        let request = put(
            "p",
            "c1",
            "/f",
            &FileMeta {
                uid: 1000,
                gid: 100,
                ..FileMeta::root(0o600)
            },
        )
        .unwrap();
        let header = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("x-incus-mode"), "0600");
        assert_eq!(header("x-incus-uid"), "1000");
        assert_eq!(header("x-incus-gid"), "100");
        assert_eq!(header("x-incus-type"), "file");
        assert_eq!(header("x-incus-write"), "overwrite");
    }
}
