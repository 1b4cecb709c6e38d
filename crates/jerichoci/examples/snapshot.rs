//! Takes one snapshot as the engine does, and tells on stdout how long each phase took. `cargo xtask bench snapshot`
//! runs it, built for release.
//!
//! Usage: `snapshot REPOSITORY SNAPSHOTS-DIRECTORY`

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use jerichoci::git::Repository;
use jerichoci::snapshot::{Recycle, ScanOptions, SnapshotStore, scan};

#[expect(clippy::print_stdout, reason = "its result is for the bench")]
fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(repository), Some(dir), None) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("usage: snapshot REPOSITORY SNAPSHOTS-DIRECTORY".into());
    };
    let repository = Repository::discover(Path::new(&repository))?;
    let options = ScanOptions {
        recycle: Recycle::UnusedExcept(&[]),
        ..ScanOptions::default()
    };
    let begun = Instant::now();
    let scanned = scan(&repository, &SnapshotStore::at(Path::new(&dir)), &options)?;
    let scan_ms = begun.elapsed().as_secs_f64() * 1000.0;
    let snapshot = scanned.fill()?;
    let whole_ms = begun.elapsed().as_secs_f64() * 1000.0;
    let told = serde_json::json!({
        "scan_ms": scan_ms,
        "fill_ms": whole_ms - scan_ms,
        "files": snapshot.files,
        "bytes": snapshot.bytes,
        "reused": snapshot.reused,
        "dir": snapshot.dir,
    });
    println!("{told}");
    Ok(())
}
