//! Images as people read them.
//!
//! Owns the layout; properties of images are foreign text.

use pika_image::{AliasChange, BuiltImage, CheckReport, ImageRecord, ImageState, Imported};

use crate::output::{self, BAD, BOLD, DIM, GOOD, plain};

pub(super) fn built(image: &BuiltImage) -> String {
    let word = if image.reused { "found" } else { "built" };
    let rows = [
        ("fingerprint".to_owned(), image.fingerprint.clone()),
        ("metadata".to_owned(), image.metadata.display().to_string()),
        ("rootfs".to_owned(), image.rootfs.display().to_string()),
        ("size".to_owned(), mebibytes(image.rootfs_bytes)),
    ];
    let title = format!(
        "{GOOD}{word}{GOOD:#}  {BOLD}{}{BOLD:#} for a {}\n",
        image.role, image.kind
    );
    title + &output::columns(&rows, 2)
}

pub(super) fn imported(done: &Imported) -> String {
    let change = match &done.alias_change {
        AliasChange::Unchanged => "as before".to_owned(),
        AliasChange::Created => "new".to_owned(),
        AliasChange::Switched { from } => format!("before: {}", short(from)),
    };
    let upload = if done.uploaded {
        "uploaded"
    } else {
        "was there"
    };
    let mut text = format!(
        "{GOOD}ready{GOOD:#}  {BOLD}{}{BOLD:#} is {} ({upload}, alias {change})\n",
        done.alias,
        short(&done.fingerprint)
    );
    for fingerprint in &done.deleted {
        text.push_str(&format!(
            "  deleted {}, which nothing needs any more\n",
            short(fingerprint)
        ));
    }
    text
}

pub(super) fn list(records: &[ImageRecord]) -> String {
    if records.is_empty() {
        return "no images of this project\n".to_owned();
    }
    let mut text = String::new();
    for record in records {
        let aliases = match (record.aliases.as_slice(), &record.rollback_for) {
            ([], Some(alias)) => format!("kept to go back to for {alias}"),
            ([], None) => "no alias".to_owned(),
            (aliases, _) => aliases.join(", "),
        };
        let role = record.role.as_deref().unwrap_or("no role");
        let kind = record
            .kind
            .map_or_else(|| "unknown kind".to_owned(), |kind| kind.to_string());
        let contract = record
            .contract_version
            .map_or("none".to_owned(), |version| version.to_string());
        let uploaded = record
            .uploaded_at
            .as_deref()
            .unwrap_or("at an unknown time");
        text.push_str(&format!(
            "{BOLD}{}{BOLD:#}  {}\n  {DIM}{}, {}, contract {contract}, {}, uploaded {}{DIM:#}\n",
            short(&record.fingerprint),
            plain(&aliases),
            plain(role),
            kind,
            mebibytes(record.size_bytes),
            plain(uploaded),
        ));
    }
    text
}

pub(super) fn check(report: &CheckReport) -> String {
    let alias = &report.alias;
    let mut text = match &report.state {
        ImageState::Ready => {
            let fingerprint = report.image.as_ref().map(|image| short(&image.fingerprint));
            format!(
                "{GOOD}ready{GOOD:#}  {alias} is {}\n",
                fingerprint.unwrap_or_default()
            )
        }
        ImageState::Missing => format!("{BAD}missing{BAD:#}  there is no {alias}\n"),
        ImageState::Stale { reasons } => {
            let list: String = reasons
                .iter()
                .map(|reason| format!("  - {}\n", plain(&reason.to_string())))
                .collect();
            format!("{BAD}stale{BAD:#}  {alias}:\n{list}")
        }
    };
    if let Some(remedy) = &report.remedy {
        text.push_str(&format!("  mend it with: {remedy}\n"));
    }
    text
}

fn short(fingerprint: &str) -> String {
    plain(&fingerprint.chars().take(12).collect::<String>())
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}
