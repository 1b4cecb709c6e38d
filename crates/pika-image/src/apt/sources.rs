//! Package sources of the machine: both formats of apt, narrowed to one Debian suite.
//!
//! Owns parsing and selection. Never resolves a host and never invents a mirror: a suite that the machine
//! has no mirror for is an error.

use std::path::{Path, PathBuf};

/// Key that signs a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignedBy {
    /// A key ring file.
    File(PathBuf),
    /// The key itself, armoured, as a deb822 source may carry it.
    Inline(String),
}

/// One archive of binary packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AptSource {
    /// Base address of the archive.
    pub uri: String,
    /// Suite below it.
    pub suite: String,
    /// Components of the suite.
    pub components: Vec<String>,
    /// Key, if the source names one; else apt's trusted keys count.
    pub signed_by: Option<SignedBy>,
}

/// Why there are no sources to build from.
#[derive(Debug, thiserror::Error)]
pub enum SourcesError {
    /// The apt directory or a file in it can't be read.
    #[error("can't read the package sources in {}", path.display())]
    Unreadable {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Nothing there serves the suite.
    #[error(
        "no package source in {} serves Debian {suite} (component main): this machine is {machine}; \
         add a source with the suite {suite} and a mirror that you trust, then build again",
        apt_dir.display()
    )]
    NoMirror {
        /// Which suite is wanted.
        suite: String,
        /// Where sources were looked for.
        apt_dir: PathBuf,
        /// Id and code name of the machine's own system.
        machine: String,
    },
}

/// Id and code name of a system, from `/etc/os-release`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct System {
    pub(crate) id: String,
    pub(crate) codename: String,
}

impl System {
    /// Reads an `os-release` text; what it doesn't say stays empty.
    pub(crate) fn parse(os_release: &str) -> System {
        let value = |key: &str| {
            os_release
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
                .map(|value| value.trim_matches(['"', '\'']).to_owned())
                .unwrap_or_default()
        };
        System {
            id: value("ID"),
            codename: value("VERSION_CODENAME"),
        }
    }
}

/// The machine's sources for a Debian suite with its updates and security suites.
///
/// A Debian machine of another release serves too: its mirrors carry all releases, so the suite's name is
/// exchanged.
pub(crate) fn for_suite(
    apt_dir: &Path,
    system: &System,
    suite: &str,
) -> Result<Vec<AptSource>, SourcesError> {
    let all = read_all(apt_dir)?;
    let own = select(&all, suite, suite);
    if own.iter().any(|source| source.suite == suite) {
        return Ok(own);
    }
    if system.id == "debian" && !system.codename.is_empty() {
        let exchanged = select(&all, &system.codename, suite);
        if exchanged.iter().any(|source| source.suite == suite) {
            return Ok(exchanged);
        }
    }
    Err(SourcesError::NoMirror {
        suite: suite.to_owned(),
        apt_dir: apt_dir.to_owned(),
        machine: format!("{} {}", system.id, system.codename)
            .trim()
            .to_owned(),
    })
}

/// Sources of `from` and its companions, under the name `to`, each once.
fn select(all: &[AptSource], from: &str, to: &str) -> Vec<AptSource> {
    let mut chosen: Vec<AptSource> = Vec::new();
    for source in all {
        let companion = match source.suite.strip_prefix(from) {
            Some(rest @ ("" | "-updates" | "-security")) => rest,
            _ => continue,
        };
        if !source
            .components
            .iter()
            .any(|component| component == "main")
        {
            continue;
        }
        let found = AptSource {
            uri: source.uri.clone(),
            suite: format!("{to}{companion}"),
            components: vec!["main".to_owned()],
            signed_by: source.signed_by.clone(),
        };
        if !chosen.contains(&found) {
            chosen.push(found);
        }
    }
    chosen
}

fn read_all(apt_dir: &Path) -> Result<Vec<AptSource>, SourcesError> {
    let mut sources = Vec::new();
    let main = apt_dir.join("sources.list");
    if main.is_file() {
        sources.extend(parse_one_line_format(&read(&main)?));
    }
    let parts = apt_dir.join("sources.list.d");
    for path in sorted_files(&parts)? {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("list") => sources.extend(parse_one_line_format(&read(&path)?)),
            Some("sources") => sources.extend(parse_deb822(&read(&path)?)),
            _ => {}
        }
    }
    for source in &mut sources {
        resolve_mirror_list(source)?;
    }
    Ok(sources)
}

fn sorted_files(directory: &Path) -> Result<Vec<PathBuf>, SourcesError> {
    let unreadable = |source| SourcesError::Unreadable {
        path: directory.to_owned(),
        source,
    };
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        paths.push(entry.map_err(unreadable)?.path());
    }
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<String, SourcesError> {
    std::fs::read_to_string(path).map_err(|source| SourcesError::Unreadable {
        path: path.to_owned(),
        source,
    })
}

/// Cloud images of Debian name a file of mirrors; its first line is the preferred one.
fn resolve_mirror_list(source: &mut AptSource) -> Result<(), SourcesError> {
    let Some(list) = source.uri.strip_prefix("mirror+file:") else {
        return Ok(());
    };
    let text = read(Path::new(list))?;
    if let Some(first) = text
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .find(|word| !word.starts_with('#'))
    {
        source.uri = first.to_owned();
    }
    Ok(())
}

/// `deb [options] uri suite component...`
pub(crate) fn parse_one_line_format(text: &str) -> Vec<AptSource> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<AptSource> {
    let line = line.split('#').next().unwrap_or_default().trim();
    let mut rest = line.strip_prefix("deb")?.trim_start();
    if !line[3..].starts_with([' ', '\t']) {
        return None;
    }
    let mut signed_by = None;
    if let Some(options) = rest.strip_prefix('[') {
        let (inside, after) = options.split_once(']')?;
        for option in inside.split_whitespace() {
            if let Some(path) = option.strip_prefix("signed-by=") {
                signed_by = Some(SignedBy::File(PathBuf::from(path)));
            }
        }
        rest = after.trim_start();
    }
    let mut words = rest.split_whitespace().map(str::to_owned);
    let (uri, suite) = (words.next()?, words.next()?);
    Some(AptSource {
        uri,
        suite,
        components: words.collect(),
        signed_by,
    })
}

/// Stanzas of `Field: value` lines with continuation lines.
pub(crate) fn parse_deb822(text: &str) -> Vec<AptSource> {
    let mut sources = Vec::new();
    for stanza in stanzas(text) {
        let words = |name: &str| -> Vec<String> {
            stanza
                .iter()
                .filter(|(field, _)| field.eq_ignore_ascii_case(name))
                .flat_map(|(_, value)| value.split_whitespace().map(str::to_owned))
                .collect()
        };
        let enabled = words("Enabled");
        if enabled
            .first()
            .is_some_and(|value| value.eq_ignore_ascii_case("no"))
        {
            continue;
        }
        if !words("Types").iter().any(|kind| kind == "deb") {
            continue;
        }
        let signed_by = stanza
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case("Signed-By"))
            .map(|(_, value)| signed_by(value));
        for uri in words("URIs") {
            for suite in words("Suites") {
                sources.push(AptSource {
                    uri: uri.clone(),
                    suite,
                    components: words("Components"),
                    signed_by: signed_by.clone(),
                });
            }
        }
    }
    sources
}

fn signed_by(value: &str) -> SignedBy {
    if value.contains("BEGIN PGP") {
        // In deb822 an empty line of the key is written as a lone dot.
        let lines: Vec<&str> = value
            .lines()
            .map(|line| if line.trim() == "." { "" } else { line.trim() })
            .collect();
        SignedBy::Inline(lines.join("\n").trim_start().to_owned())
    } else {
        SignedBy::File(PathBuf::from(value.trim()))
    }
}

fn stanzas(text: &str) -> Vec<Vec<(String, String)>> {
    let mut stanzas: Vec<Vec<(String, String)>> = vec![Vec::new()];
    for line in text.lines() {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            stanzas.push(Vec::new());
            continue;
        }
        let Some(stanza) = stanzas.last_mut() else {
            continue;
        };
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = stanza.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((field, value)) = line.split_once(':') {
            stanza.push((field.trim().to_owned(), value.trim().to_owned()));
        }
    }
    stanzas
}

/// The one-line form of a source, with a key file in place of an inline key.
///
/// `key_file` gives the path under which an inline key was written.
pub(crate) fn one_line(source: &AptSource, key_file: impl Fn(&str) -> PathBuf) -> String {
    let signed_by = match &source.signed_by {
        None => String::new(),
        Some(SignedBy::File(path)) => format!("[signed-by={}] ", path.display()),
        Some(SignedBy::Inline(key)) => format!("[signed-by={}] ", key_file(key).display()),
    };
    format!(
        "deb {signed_by}{} {} {}\n",
        source.uri,
        source.suite,
        source.components.join(" ")
    )
}

/// The address without a user name or password, for a file that others will read.
pub(crate) fn without_credentials(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once("://") else {
        return uri.to_owned();
    };
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => uri.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEB822: &str = "\
Types: deb
# a comment
URIs: http://mirror.test/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib
Signed-By: /usr/share/keyrings/archive.gpg

Types: deb deb-src
URIs: http://user:secret@mirror.test/debian-security
Suites: bookworm-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEY
 -----END PGP PUBLIC KEY BLOCK-----

Enabled: no
Types: deb
URIs: http://off.test/debian
Suites: bookworm
Components: main
";

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("sources.list.d")).unwrap();
        for (name, text) in files {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        directory
    }

    fn debian(codename: &str) -> System {
        System::parse(&format!("ID=debian\nVERSION_CODENAME=\"{codename}\"\n"))
    }

    #[test]
    fn the_suite_and_its_companions_are_taken_and_nothing_else() {
        let machine = machine(&[
            ("sources.list.d/debian.sources", DEB822),
            (
                "sources.list.d/other.list",
                "deb https://other.test/deb nodistro main\n",
            ),
        ]);
        let sources = for_suite(machine.path(), &debian("bookworm"), "bookworm").unwrap();
        let suites: Vec<_> = sources.iter().map(|source| source.suite.as_str()).collect();
        assert_eq!(
            suites,
            ["bookworm", "bookworm-updates", "bookworm-security"]
        );
        assert!(sources.iter().all(|source| source.components == ["main"]));
        assert!(
            matches!(&sources[2].signed_by, Some(SignedBy::Inline(key)) if key.starts_with("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEY"))
        );
    }

    #[test]
    fn another_debian_release_lends_its_mirrors() {
        let machine = machine(&[(
            "sources.list",
            "deb [arch=amd64 signed-by=/k.gpg] http://mirror.test/debian trixie main # main archive\n\
             deb-src http://mirror.test/debian trixie main\n\
             deb http://mirror.test/debian-security trixie-security main\n",
        )]);
        let sources = for_suite(machine.path(), &debian("trixie"), "bookworm").unwrap();
        assert_eq!(sources[0].suite, "bookworm");
        assert_eq!(
            sources[0].signed_by,
            Some(SignedBy::File(PathBuf::from("/k.gpg")))
        );
        assert_eq!(sources[1].suite, "bookworm-security");
        assert_eq!(sources.len(), 2);
    }

    #[test]
    fn a_machine_without_a_mirror_is_told_what_to_add() {
        let machine = machine(&[("sources.list", "deb http://mirror.test/ubuntu noble main\n")]);
        let system = System::parse("ID=ubuntu\nVERSION_CODENAME=noble\n");
        let error = for_suite(machine.path(), &system, "bookworm").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("ubuntu noble"), "{text}");
        assert!(
            text.contains("add a source with the suite bookworm"),
            "{text}"
        );
    }

    #[test]
    fn a_mirror_list_file_gives_its_first_mirror() {
        let machine = machine(&[]);
        let list = machine.path().join("mirrors.list");
        std::fs::write(&list, "# preferred\nhttp://near.test/debian\tpriority:1\n").unwrap();
        std::fs::write(
            machine.path().join("sources.list"),
            format!("deb mirror+file:{} bookworm main\n", list.display()),
        )
        .unwrap();
        let sources = for_suite(machine.path(), &debian("bookworm"), "bookworm").unwrap();
        assert_eq!(sources[0].uri, "http://near.test/debian");
    }

    #[test]
    fn credentials_do_not_reach_a_file_of_the_image() {
        assert_eq!(
            without_credentials("http://user:secret@mirror.test/debian"),
            "http://mirror.test/debian"
        );
        assert_eq!(
            without_credentials("http://mirror.test/~a@b/debian"),
            "http://mirror.test/~a@b/debian"
        );
        assert_eq!(without_credentials("file:/srv/debian"), "file:/srv/debian");
    }
}
