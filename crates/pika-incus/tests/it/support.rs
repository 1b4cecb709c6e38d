//! What the tests run against, and small helpers.

use std::path::PathBuf;
use std::time::Duration;

use pika_incus::types::Config;
use pika_incus::{CaptureLimits, Client, ErrorKind, ExecOutput, ExecRequest, StateChange};
use serde_json::json;

/// Longest time that any one step of a test may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A daemon under test.
pub(crate) struct Subject {
    /// The client.
    pub(crate) client: Client,
    /// Alias of an image whose instances have `sh`, `cat`, `sleep`.
    pub(crate) image: String,
    /// Name of a storage pool.
    pub(crate) pool: String,
    /// Start of every name that the test makes.
    pub(crate) prefix: String,
}

impl Subject {
    /// A name that belongs to this test alone.
    pub(crate) fn name(&self, what: &str) -> String {
        format!("{}-{what}", self.prefix)
    }

    /// The body of a container that carries a mark.
    pub(crate) fn body(&self, name: &str, start: bool) -> serde_json::Value {
        json!({
            "name": name,
            "type": "container",
            "start": start,
            "config": { "user.mark": self.prefix },
            "source": { "type": "image", "alias": self.image },
        })
    }

    /// A fresh container; one of that name left by an earlier run is removed first.
    pub(crate) async fn instance(&self, what: &str, start: bool) -> String {
        let name = self.name(what);
        self.remove_instance(&name).await;
        let made = self
            .client
            .create_instance(&self.body(&name, start))
            .await
            .expect("create");
        made.wait(LIMIT).await.expect("the create ends");
        name
    }

    /// Makes it so that no instance of this name is there.
    pub(crate) async fn remove_instance(&self, name: &str) {
        if let Ok(found) = self.client.instance(name).await {
            if found.value.status != pika_incus::InstanceStatus::Stopped {
                let stop = self
                    .client
                    .set_instance_state(name, &StateChange::force_stop())
                    .await;
                if let Ok(stop) = stop {
                    stop.wait(LIMIT).await.expect("a forced stop ends");
                }
            }
            let delete = self.client.delete_instance(name).await.expect("delete");
            delete.wait(LIMIT).await.expect("the delete ends");
        }
        let gone = self
            .client
            .instance(name)
            .await
            .expect_err("the instance is gone");
        assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");
    }

    /// Makes it so that no custom volume of this name is there.
    pub(crate) async fn remove_volume(&self, name: &str) {
        match self.client.delete_volume(&self.pool, name).await {
            Ok(()) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"),
        }
    }

    /// Runs a shell script and gives what it wrote.
    pub(crate) async fn sh(&self, name: &str, script: &str) -> ExecOutput {
        self.client
            .exec_capture(
                name,
                &ExecRequest::new(["sh", "-c", script]),
                CaptureLimits::default(),
                LIMIT,
            )
            .await
            .expect("the exec ends")
    }
}

/// The real daemon: the one whose directory `PIKAHUT_INCUS_DIR` names.
pub(crate) async fn real(test: &str) -> Subject {
    let dir = std::env::var_os("PIKAHUT_INCUS_DIR")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from("/run/d-client"));
    Subject {
        client: Client::unix(dir.join("unix.socket")),
        image: "base".to_owned(),
        pool: "default".to_owned(),
        prefix: format!("client-{test}").replace('_', "-"),
    }
}

/// The keys and values of a literal list.
pub(crate) fn config(pairs: &[(&str, &str)]) -> Config {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// Two files that Incus takes as a split container image; different `salt`, different fingerprint.
pub(crate) fn tiny_image(dir: &std::path::Path, salt: &str) -> (PathBuf, PathBuf) {
    let metadata = dir.join(format!("metadata-{salt}.tar"));
    let yaml = format!(
        "architecture: x86_64\ncreation_date: 1700000000\nproperties:\n  description: {salt}\n"
    );
    write_tar(&metadata, "metadata.yaml", yaml.as_bytes());
    let rootfs = dir.join(format!("rootfs-{salt}.tar"));
    write_tar(&rootfs, "etc/salt", salt.as_bytes());
    (metadata, rootfs)
}

fn write_tar(path: &std::path::Path, name: &str, content: &[u8]) {
    let mut builder =
        tar::Builder::new(std::fs::File::create(path).expect("a file in the test's directory"));
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    builder
        .append_data(&mut header, name, content)
        .expect("a tar entry");
    builder.finish().expect("the tar's end");
}
