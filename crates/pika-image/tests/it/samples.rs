//! Images of a few bytes, that Incus takes as well as large ones, and a look at what they became.

use std::collections::BTreeMap;
use std::path::Path;

use pika_image::{BuiltImage, ImageKind};
use pika_incus::Client;
use pika_incus_guest_role::IncusGuestRole;
use sha2::{Digest as _, Sha256};

/// An image whose bytes are decided by `content`; its properties are those of a real one.
pub(crate) fn image(directory: &Path, content: &str) -> BuiltImage {
    let digest = hex::encode(Sha256::digest(content));
    let directory = directory.join(&digest[..12]);
    std::fs::create_dir_all(&directory).expect("the temporary directory is ours");
    let properties = BTreeMap::from([
        ("pika.kind".to_owned(), "image".to_owned()),
        ("pika.guest_role".to_owned(), "pikaci-runner".to_owned()),
        (
            "pika.contract_version".to_owned(),
            pika_cloud::GUEST_CONTRACT_VERSION.to_string(),
        ),
        ("pika.input_digest".to_owned(), digest.clone()),
    ]);
    let metadata = directory.join("metadata.tar");
    write_tar(
        &metadata,
        "metadata.yaml",
        &format!("architecture: x86_64\ncreation_date: 1\nproperties: {{content: {digest}}}\n"),
    );
    let rootfs = directory.join("rootfs.tar");
    write_tar(&rootfs, "etc/content", content);
    let bytes = [&metadata, &rootfs]
        .map(|path| std::fs::read(path).expect("it was just written"))
        .concat();
    BuiltImage {
        role: IncusGuestRole::PikaciRunner,
        kind: ImageKind::Container,
        input_digest: digest,
        fingerprint: hex::encode(Sha256::digest(bytes)),
        rootfs_bytes: std::fs::metadata(&rootfs)
            .expect("it was just written")
            .len(),
        metadata,
        rootfs,
        properties,
        reused: false,
    }
}

fn write_tar(path: &Path, name: &str, content: &str) {
    let file = std::fs::File::create(path).expect("the temporary directory is ours");
    let mut archive = tar::Builder::new(file);
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    archive
        .append_data(&mut header, name, content.as_bytes())
        .and_then(|()| archive.finish())
        .expect("the temporary directory is ours");
}

/// Fingerprint that an alias points at.
pub(crate) async fn target(client: &Client, alias: &str) -> Option<String> {
    let found = client.alias(alias).await.expect("the daemon answers");
    found.map(|alias| alias.value.target)
}

/// Whether an image is on the server.
pub(crate) async fn is_there(client: &Client, fingerprint: &str) -> bool {
    client.image(fingerprint).await.is_ok()
}

/// Deletes images that a test made.
pub(crate) async fn delete(client: &Client, images: &[&BuiltImage]) {
    for image in images {
        if let Ok(operation) = client.delete_image(&image.fingerprint).await {
            operation
                .wait(std::time::Duration::from_secs(60))
                .await
                .expect("nothing uses the image");
        }
    }
}
