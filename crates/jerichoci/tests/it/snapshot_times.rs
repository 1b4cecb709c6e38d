//! File times of snapshots: whatever is edited, taken and kept in whatever order, nothing that differs from what a cache
//! was built with is older than the cache.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use jerichoci::snapshot::{ManifestId, Recycle, ScanOptions, Snapshot};
use proptest::prelude::*;

use crate::git_tree::GitTree;
use crate::snapshot_phases::{scanned, taken};

const PATHS: [&str; 5] = ["a", "b", "folder/c", "folder/d", "folder/deeper/e"];

#[derive(Debug, Clone)]
enum Step {
    /// Content, whether it can be executed, and how many days old it says that it is.
    Edit(usize, u8, bool, u64),
    Remove(usize),
    /// A cache is built from the newest snapshot and kept, as the given one.
    Commit(usize),
    /// A snapshot for jobs that meet the caches whose bits are set.
    Take(u8, bool),
    /// As before, with an edit between the phases.
    TakeWhile(u8, usize, u8),
}

/// What cargo compares with: what the cache was built with, and when.
#[derive(Debug, Clone)]
struct Cache {
    base: ManifestId,
    files: BTreeMap<PathBuf, (Vec<u8>, u32)>,
    built_at: SystemTime,
}

fn step() -> impl Strategy<Value = Step> {
    let path = 0..PATHS.len();
    prop_oneof![
        4 => (path.clone(), 0..3_u8, any::<bool>(), 0..3_u64)
            .prop_map(|(path, content, executable, days)| Step::Edit(path, content, executable, days)),
        1 => path.clone().prop_map(Step::Remove),
        2 => (0..3_usize).prop_map(Step::Commit),
        4 => (0..8_u8, any::<bool>()).prop_map(|(bases, recycle)| Step::Take(bases, recycle)),
        1 => (0..8_u8, path, 0..3_u8).prop_map(|(bases, path, content)| Step::TakeWhile(bases, path, content)),
    ]
}

fn edit(tree: &GitTree, path: &str, content: u8, executable: bool, days: u64) {
    let path = tree.write(path, &content.to_string());
    let mode = if executable { 0o755 } else { 0o644 };
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("chmod");
    let old = SystemTime::now() - Duration::from_secs(days * 86_400);
    let opened = std::fs::File::options().write(true).open(&path);
    opened
        .expect("opened")
        .set_modified(old)
        .expect("set the time");
}

fn files(snapshot: &Snapshot) -> BTreeMap<PathBuf, (Vec<u8>, u32, SystemTime)> {
    let mut all = BTreeMap::new();
    for path in PATHS {
        let path = snapshot.dir.join(path);
        if let Ok(found) = std::fs::metadata(&path) {
            let content = std::fs::read(&path).expect("readable");
            let time = found.modified().expect("a time");
            all.insert(
                path.strip_prefix(&snapshot.dir).expect("below").to_owned(),
                (content, found.mode(), time),
            );
        }
    }
    all
}

/// `raced` was written between the phases: it has the time of its taking, whatever it became.
fn holds(snapshot: &Snapshot, met: &[&Cache], raced: Option<&str>) -> Result<(), TestCaseError> {
    for (path, (content, mode, time)) in files(snapshot) {
        for cache in met {
            let was = cache.files.get(&path);
            let is_same = was == Some(&(content.clone(), mode));
            prop_assert!(
                is_same || time > cache.built_at,
                "{} differs from what the cache was built with and is older",
                path.display()
            );
        }
        // And what is as every cache had it is built by none of them again.
        let is_known = !met.is_empty()
            && raced.is_none_or(|raced| path != Path::new(raced))
            && met
                .iter()
                .all(|cache| cache.files.get(&path) == Some(&(content.clone(), mode)));
        if is_known {
            prop_assert!(
                met.iter().all(|cache| time < cache.built_at),
                "{} is built again",
                path.display()
            );
        }
    }
    Ok(())
}

fn play(steps: &[Step]) -> Result<(), TestCaseError> {
    let tree = GitTree::new();
    edit(&tree, PATHS[0], 0, false, 0);
    let mut caches: [Option<Cache>; 3] = [None, None, None];
    let mut newest = taken(&tree, &ScanOptions::default());
    for step in steps {
        match *step {
            Step::Edit(path, content, executable, days) => {
                edit(&tree, PATHS[path], content, executable, days);
            }
            Step::Remove(path) => {
                std::fs::remove_file(tree.root().join(PATHS[path])).ok();
            }
            Step::Commit(index) => {
                let plain = |(path, (content, mode, _))| (path, (content, mode));
                caches[index] = Some(Cache {
                    base: newest.manifest_id.clone(),
                    files: files(&newest).into_iter().map(plain).collect(),
                    built_at: SystemTime::now(),
                });
            }
            Step::Take(bits, _) | Step::TakeWhile(bits, ..) => {
                let met = |(index, cache): (usize, &'_ Option<Cache>)| {
                    cache.clone().filter(|_| bits & (1 << index) != 0)
                };
                let met: Vec<Cache> = caches.iter().enumerate().filter_map(met).collect();
                let met: Vec<&Cache> = met.iter().collect();
                let bases: Vec<ManifestId> = met.iter().map(|cache| cache.base.clone()).collect();
                let options = ScanOptions {
                    bases: &bases,
                    recycle: match step {
                        Step::Take(_, true) => Recycle::UnusedExcept(&[]),
                        _ => Recycle::Never,
                    },
                    ..ScanOptions::default()
                };
                let scanned = scanned(&tree, &options);
                let mut raced = None;
                if let Step::TakeWhile(_, path, content) = *step {
                    edit(&tree, PATHS[path], content, false, 1);
                    raced = Some(PATHS[path]);
                }
                newest = scanned.fill().expect("filled");
                holds(&newest, &met, raced)?;
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_differs_from_a_cache_is_newer_than_it(steps in prop::collection::vec(step(), 1..16)) {
        play(&steps)?;
    }
}

/// A file that comes back to what the cache had while it is taken is built once more than it need be, and never stale.
#[test]
fn a_file_that_is_changed_back_while_it_is_taken_is_only_newer() {
    let steps = [
        Step::Commit(1),
        Step::Edit(0, 0, true, 0),
        Step::TakeWhile(2, 0, 0),
        Step::Take(2, false),
    ];
    play(&steps).expect("nothing is older than a cache that it differs from");
}

#[test]
fn a_base_that_is_not_known_has_nothing() {
    let tree = GitTree::new();
    tree.write("a", "1");
    let first = taken(&tree, &ScanOptions::default());
    let time = |snapshot: &Snapshot| {
        std::fs::metadata(snapshot.dir.join("a"))
            .expect("there")
            .modified()
            .expect("a time")
    };
    let unknown: ManifestId = "0".repeat(64).parse().expect("an id");
    for bases in [
        vec![unknown.clone()],
        vec![first.manifest_id.clone(), unknown],
    ] {
        let options = ScanOptions {
            bases: &bases,
            ..ScanOptions::default()
        };
        let again = taken(&tree, &options);
        assert!(time(&again) > time(&first));
        assert_eq!(again.digest, first.digest);
        assert_ne!(again.manifest_id, first.manifest_id);
    }
}

#[test]
fn the_earliest_time_of_all_bases_counts() {
    let tree = GitTree::new();
    tree.write("a", "1");
    tree.write("folder/same", "s");
    let first = taken(&tree, &ScanOptions::default());
    let nothing: ManifestId = "0".repeat(64).parse().expect("an id");
    let second = taken(
        &tree,
        &ScanOptions {
            bases: &[nothing],
            ..ScanOptions::default()
        },
    );
    let bases = [second.manifest_id.clone(), first.manifest_id.clone()];
    let third = taken(
        &tree,
        &ScanOptions {
            bases: &bases,
            ..ScanOptions::default()
        },
    );
    assert!(third.reused);
    assert_eq!(third.dir, first.dir);
}

#[test]
fn a_folder_whose_names_change_is_new_and_others_keep_their_time() {
    let tree = GitTree::new();
    tree.write("changing/a", "1");
    tree.write("changing/b", "1");
    tree.write("constant/a", "1");
    let time = |snapshot: &Snapshot, path: &str| {
        std::fs::metadata(snapshot.dir.join(path))
            .expect("there")
            .modified()
            .expect("a time")
    };
    let first = taken(&tree, &ScanOptions::default());
    tree.write("constant/a", "2");
    std::fs::remove_file(tree.root().join("changing/b")).expect("removed");
    let second = taken(&tree, &ScanOptions::default());
    assert!(time(&second, "changing") > time(&first, "changing"));
    assert_eq!(time(&second, "constant"), time(&first, "constant"));
}

fn built(source: &Path, target: &Path) -> (String, String) {
    let output = Command::new("cargo")
        .args(["run", "--offline", "--manifest-path"])
        .arg(source.join("Cargo.toml"))
        .current_dir(source)
        .env("CARGO_TARGET_DIR", target)
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTFLAGS")
        .output()
        .expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    (
        String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        said,
    )
}

#[test]
fn cargo_builds_a_file_that_was_changed_to_an_older_time() {
    let tree = GitTree::new();
    tree.write(
        "Cargo.toml",
        "[package]\nname = \"tiny\"\nversion = \"0.1.0\"\nedition = \"2024\"\n",
    );
    tree.write(
        "Cargo.lock",
        "version = 4\n\n[[package]]\nname = \"tiny\"\nversion = \"0.1.0\"\n",
    );
    let program = |value: &str| {
        let path = tree.write(
            "src/main.rs",
            &format!("fn main() {{ println!(\"{value}\"); }}\n"),
        );
        let old = SystemTime::now() - Duration::from_secs(86_400);
        let opened = std::fs::File::options().write(true).open(&path);
        opened
            .expect("opened")
            .set_modified(old)
            .expect("set the time");
    };
    let target = tempfile::tempdir().expect("a temporary directory");
    let mounted = tempfile::tempdir().expect("a temporary directory");
    // Jobs see every snapshot at one place; cargo's fingerprint has the path in it.
    let place = mounted.path().join("snapshot");
    let build = |snapshot: &Snapshot| {
        std::fs::remove_file(&place).ok();
        std::os::unix::fs::symlink(&snapshot.dir, &place).expect("symlink");
        built(&place, target.path())
    };
    program("one");
    let first = taken(&tree, &ScanOptions::default());
    assert_eq!(build(&first).0, "one");
    let mut base = first.manifest_id.clone();
    for value in ["two", "one", "one"] {
        program(value);
        let options = ScanOptions {
            bases: std::slice::from_ref(&base),
            ..ScanOptions::default()
        };
        let snapshot = taken(&tree, &options);
        let (printed, said) = build(&snapshot);
        assert_eq!(printed, value);
        let was_built = said.contains("Compiling tiny");
        assert_eq!(was_built, snapshot.manifest_id != base, "{said}");
        base = snapshot.manifest_id.clone();
    }
}
