//! Building: the same inputs give the same bytes, and are found again at once.

use std::path::{Path, PathBuf};

use pika_image::{BuildRequest, GuestBinaries, Silent, build};
use pika_incus_guest_role::IncusGuestRole;
use pikahut::stack::image_cache;

/// A directory with a static program under the names that an image asks for: what it does is of no matter here.
fn guest_binaries(directory: &Path) -> GuestBinaries {
    for name in ["pikaci-incus-run", "pika-guest-init"] {
        std::fs::copy("/sbin/ldconfig", directory.join(name))
            .expect("libc-bin is on every Debian system");
    }
    GuestBinaries::Directory(directory.to_owned())
}

fn request(binaries: &Path, cache: PathBuf) -> BuildRequest {
    BuildRequest::new(
        IncusGuestRole::PikaciRunner,
        guest_binaries(binaries),
        cache,
    )
}

#[tokio::test]
async fn two_machines_with_the_same_inputs_make_the_same_image() {
    let directory = tempfile::tempdir().unwrap();
    // The base system of the first is the one that other tests use too, if it is there.
    let (one, two) = (image_cache(), directory.path().join("two"));
    let first = build(&request(directory.path(), one.clone()), &Silent)
        .await
        .unwrap();
    // The second has the first one's lookup: the archive's indexes may have changed in between.
    std::fs::create_dir_all(two.join("packages")).unwrap();
    std::fs::copy(
        one.join("packages/pikaci-runner.json"),
        two.join("packages/pikaci-runner.json"),
    )
    .unwrap();
    let second = build(&request(directory.path(), two), &Silent)
        .await
        .unwrap();
    assert!(!second.reused);
    assert_eq!(first.input_digest, second.input_digest);
    assert_eq!(first.fingerprint, second.fingerprint);

    let again = build(&request(directory.path(), one), &Silent)
        .await
        .unwrap();
    assert!(again.reused);
    assert_eq!(again.fingerprint, first.fingerprint);
}
