//! What pages load: one style sheet, the scripts, an icon. All of it is in the program.
//!
//! Owns their addresses. Each names the content, so a browser may keep it for ever and never has an old one.

use sha2::{Digest as _, Sha256};

/// A file that pages load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asset {
    name: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) text: &'static str,
}

const ALL: &[Asset] = &[
    Asset {
        name: "pika.css",
        kind: "text/css; charset=utf-8",
        text: include_str!("../../assets/pika.css"),
    },
    Asset {
        name: "pika.js",
        kind: "text/javascript; charset=utf-8",
        text: include_str!("../../assets/pika.js"),
    },
    Asset {
        name: "terminal.js",
        kind: "text/javascript; charset=utf-8",
        text: include_str!("../../assets/terminal.js"),
    },
    Asset {
        name: "api.js",
        kind: "text/javascript; charset=utf-8",
        text: include_str!("../../assets/api.js"),
    },
    Asset {
        name: "pika.svg",
        kind: "image/svg+xml",
        text: include_str!("../../assets/pika.svg"),
    },
];

impl Asset {
    /// Changes with the content.
    pub(crate) fn version(&self) -> String {
        hex::encode(&Sha256::digest(self.text.as_bytes())[..6])
    }
}

/// The file of this name.
pub(crate) fn find(name: &str) -> Option<&'static Asset> {
    ALL.iter().find(|asset| asset.name == name)
}

/// Where a page finds a file.
pub(super) fn address(name: &str) -> String {
    let version = find(name).map(Asset::version).unwrap_or_default();
    format!("/assets/{name}?v={version}")
}
