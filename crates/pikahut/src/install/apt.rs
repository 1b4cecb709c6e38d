//! Packages by apt: what is missing, and where Debian 12 gets Incus from.
//!
//! Owns one file in `/etc/apt/sources.list.d`, made only where Debian 12 lacks its backports suite. Mirror and key
//! are those of the sources that the machine already has.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::InstallError;
use crate::program;

const SOURCES_LIST: &str = "/etc/apt/sources.list";
const SOURCES_FOLDER: &str = "/etc/apt/sources.list.d";

/// A package source as a file for apt.
#[derive(Debug, PartialEq, Eq)]
struct Source {
    /// `sources` for stanzas, `list` for single lines.
    extension: &'static str,
    text: String,
}

/// Packages of this list that are not installed.
pub(super) fn missing(packages: &[&str]) -> Vec<String> {
    packages
        .iter()
        .filter(|package| !is_installed(package))
        .map(|package| (*package).to_owned())
        .collect()
}

fn is_installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Status}", package]);
    // dpkg-query fails for a package that it never heard of.
    program::run(&mut query).is_ok_and(|status| status == "installed")
}

/// Installs packages and gives their names.
pub(super) fn install(
    packages: &[String],
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<String>, InstallError> {
    let codename = os_release("VERSION_CODENAME").unwrap_or_default();
    let needs_incus = packages.iter().any(|package| package.starts_with("incus"));
    let suite = (codename == "bookworm" && needs_incus).then(|| format!("{codename}-backports"));
    if let Some(suite) = &suite {
        ensure_suite(&codename, suite, progress)?;
    }
    progress("reading the lists of the machine's package sources");
    apt(&["update"])?;
    let packages = known_names(packages)?;
    progress(&format!("installing {}", packages.join(" ")));
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    if let Some(suite) = &suite {
        let (incus, others): (Vec<&str>, Vec<&str>) = packages
            .iter()
            .map(String::as_str)
            .partition(|package| package.starts_with("incus"));
        if !others.is_empty() {
            apt(&[arguments.clone(), others].concat())?;
        }
        arguments.extend(["--target-release", suite]);
        apt(&[arguments, incus].concat())?;
    } else {
        arguments.extend(packages.iter().map(String::as_str));
        apt(&arguments)?;
    }
    Ok(packages)
}

/// Names that apt knows: older Ubuntu releases have the daemon in `incus` where Debian has `incus-base`.
fn known_names(packages: &[String]) -> Result<Vec<String>, InstallError> {
    packages
        .iter()
        .map(|package| {
            if has_candidate(package) {
                return Ok(package.clone());
            }
            if package == "incus-base" && has_candidate("incus") {
                return Ok("incus".to_owned());
            }
            Err(InstallError::NoPackage {
                package: package.clone(),
            })
        })
        .collect()
}

fn has_candidate(package: &str) -> bool {
    program::run(Command::new("apt-cache").args(["policy", package])).is_ok_and(|policy| {
        policy
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Candidate:"))
            .any(|version| version.trim() != "(none)")
    })
}

fn apt(arguments: &[&str]) -> Result<(), InstallError> {
    program::run(
        Command::new("apt-get")
            .args(["--option", "DPkg::Lock::Timeout=300", "--quiet=2"])
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("PATH", program::path_with_system_folders()),
    )
    .map(drop)
    .map_err(InstallError::Program)
}

fn ensure_suite(
    codename: &str,
    suite: &str,
    progress: &mut dyn FnMut(&str),
) -> Result<(), InstallError> {
    let files = source_files();
    let texts: Vec<(PathBuf, String)> = files
        .into_iter()
        .filter_map(|path| Some((path.clone(), fs_err::read_to_string(path).ok()?)))
        .collect();
    if texts
        .iter()
        .any(|(path, text)| derive(path, text, suite, suite).is_some())
    {
        return Ok(());
    }
    let source = texts
        .iter()
        .find_map(|(path, text)| derive(path, text, codename, suite))
        .ok_or_else(|| InstallError::NoSource {
            suite: suite.to_owned(),
            codename: codename.to_owned(),
        })?;
    let path = Path::new(SOURCES_FOLDER).join(format!("pikahut-{suite}.{}", source.extension));
    progress(&format!("adding the suite {suite} in {}", path.display()));
    fs_err::create_dir_all(SOURCES_FOLDER).map_err(InstallError::Files)?;
    fs_err::write(path, source.text).map_err(InstallError::Files)
}

fn source_files() -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from(SOURCES_LIST)];
    if let Ok(entries) = fs_err::read_dir(SOURCES_FOLDER) {
        files.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
    }
    files.sort();
    files
}

/// A source of `suite` with mirror and key of this file's source of `from`, if it has one with component main.
fn derive(path: &Path, text: &str, from: &str, suite: &str) -> Option<Source> {
    match path.extension()?.to_str()? {
        "sources" => text
            .split("\n\n")
            .find_map(|stanza| derive_stanza(stanza, from, suite))
            .map(|text| Source {
                extension: "sources",
                text,
            }),
        "list" => text
            .lines()
            .find_map(|line| derive_line(line, from, suite))
            .map(|text| Source {
                extension: "list",
                text,
            }),
        _ => None,
    }
}

fn derive_line(line: &str, from: &str, suite: &str) -> Option<String> {
    let rest = line.trim().strip_prefix("deb ")?.trim_start();
    let (options, rest) = match rest.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((options, rest)) => (format!("[{}] ", options.trim()), rest),
        None => (String::new(), rest),
    };
    let mut words = rest.split_whitespace();
    let (mirror, found) = (words.next()?, words.next()?);
    (found == from && words.any(|component| component == "main"))
        .then(|| format!("deb {options}{mirror} {suite} main\n"))
}

fn derive_stanza(stanza: &str, from: &str, suite: &str) -> Option<String> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in stanza
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
    {
        if line.starts_with([' ', '\t']) {
            let (_, value) = fields.last_mut()?;
            value.push('\n');
            value.push_str(line);
        } else {
            let (name, value) = line.split_once(':')?;
            fields.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    let field = |name: &str| {
        let found = fields
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value.as_str())
    };
    let has = |name: &str, word: &str| field(name).split_whitespace().any(|known| known == word);
    if !has("Types", "deb")
        || !has("Suites", from)
        || !has("Components", "main")
        || has("Enabled", "no")
    {
        return None;
    }
    let mut text = format!(
        "Types: deb\nURIs: {}\nSuites: {suite}\nComponents: main\n",
        field("URIs")
    );
    for (name, value) in &fields {
        if !["types", "uris", "suites", "components"].contains(&name.to_ascii_lowercase().as_str())
        {
            text.push_str(&format!("{name}: {value}\n"));
        }
    }
    Some(text)
}

/// A value of /etc/os-release.
pub(super) fn os_release(name: &str) -> Option<String> {
    let text = fs_err::read_to_string("/etc/os-release").ok()?;
    text.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix('=')?;
        Some(value.trim_matches('"').to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANZAS: &str = "Types: deb\n# a comment\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\n\
        Components: main contrib\nSigned-By:\n -----BEGIN KEY-----\n .\n abc\n\nTypes: deb\n\
        URIs: http://mirror.example/debian-security\nSuites: bookworm-security\nComponents: main\n";

    #[test]
    fn a_stanza_keeps_mirror_and_key_and_gets_the_suite() {
        let source = derive(
            Path::new("debian.sources"),
            STANZAS,
            "bookworm",
            "bookworm-backports",
        )
        .unwrap();
        assert_eq!(source.extension, "sources");
        assert_eq!(
            source.text,
            "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm-backports\nComponents: main\n\
             Signed-By: \n -----BEGIN KEY-----\n .\n abc\n"
        );
    }

    #[test]
    fn a_line_keeps_its_options() {
        let text = "# deb http://old.example bookworm main\n\
            deb [ signed-by=/usr/share/keyrings/k.gpg arch=amd64 ] http://mirror.example/debian bookworm main\n";
        let source = derive(
            Path::new("sources.list"),
            text,
            "bookworm",
            "bookworm-backports",
        )
        .unwrap();
        assert_eq!(
            source.text,
            "deb [signed-by=/usr/share/keyrings/k.gpg arch=amd64] http://mirror.example/debian bookworm-backports main\n"
        );
    }

    #[test]
    fn a_disabled_or_other_source_is_not_taken() {
        let off =
            "Types: deb\nEnabled: no\nURIs: http://m.example\nSuites: bookworm\nComponents: main\n";
        assert_eq!(derive(Path::new("a.sources"), off, "bookworm", "x"), None);
        let security = "deb http://m.example/debian-security bookworm-security main\n";
        assert_eq!(derive(Path::new("a.list"), security, "bookworm", "x"), None);
        assert_eq!(
            derive(Path::new("a.list.bak"), security, "bookworm-security", "x"),
            None
        );
    }
}
