//! What the tests run against, and small helpers.

use std::path::PathBuf;
use std::time::Duration;

use pika_incus::types::Config;
use pika_incus::{CaptureLimits, Client, ErrorKind, ExecOutput, ExecRequest, StateChange};
use pikahut::fake::FakeIncus;
use pikahut::stack::TestIncus;
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
    daemon: Daemon,
}

enum Daemon {
    Real(Box<TestIncus>),
    Fake(FakeIncus),
}

impl Subject {
    /// Ends the test: nothing of it may be left.
    pub(crate) async fn finish(self) {
        match &self.daemon {
            Daemon::Real(incus) => incus.assert_nothing_left().await,
            Daemon::Fake(fake) => {
                assert_eq!(fake.world().instance_count(), 0, "instances are left")
            }
        }
    }

    /// The real daemon's stack.
    pub(crate) fn incus(&self) -> &TestIncus {
        match &self.daemon {
            Daemon::Real(incus) => incus,
            Daemon::Fake(_) => panic!("this test is for a real daemon"),
        }
    }

    /// The fake daemon.
    pub(crate) fn fake(&self) -> &FakeIncus {
        match &self.daemon {
            Daemon::Fake(fake) => fake,
            Daemon::Real(_) => panic!("this test is for the fake"),
        }
    }

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

    /// A fresh container.
    pub(crate) async fn instance(&self, what: &str, start: bool) -> String {
        let name = self.name(what);
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

/// The real daemon that all tests share.
pub(crate) async fn real() -> Subject {
    on(TestIncus::shared().await).await
}

/// A real daemon of this test's own.
pub(crate) async fn on(incus: TestIncus) -> Subject {
    Subject {
        client: incus.client().clone(),
        image: incus.tiny_image().await,
        pool: pikahut::daemon::POOL.to_owned(),
        prefix: incus.name("c"),
        daemon: Daemon::Real(Box::new(incus)),
    }
}

/// A fake daemon of this test's own.
pub(crate) async fn fake() -> Subject {
    let fake = FakeIncus::start().await.expect("the fake starts");
    fake.on_exec(&["env"], |call| {
        Box::pin(async move {
            for (key, value) in &call.environment {
                call.stdout(format!("{key}={value}\n")).await;
            }
            Some(0)
        })
    });
    let pool = fake
        .world()
        .pools
        .keys()
        .next()
        .expect("the fake has a pool")
        .clone();
    Subject {
        client: Client::unix(fake.socket()),
        image: pikahut::fake::DEFAULT_ALIAS.to_owned(),
        pool,
        prefix: "conformance".to_owned(),
        daemon: Daemon::Fake(fake),
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
    write_tar(&metadata, &[("metadata.yaml", yaml.as_bytes())]);
    let rootfs = dir.join(format!("rootfs-{salt}.tar"));
    write_tar(&rootfs, &[("etc/salt", salt.as_bytes())]);
    (metadata, rootfs)
}

/// One file that Incus takes as a container image.
pub(crate) fn unified_image(dir: &std::path::Path, salt: &str) -> PathBuf {
    let path = dir.join("unified.tar");
    let yaml = format!(
        "architecture: x86_64\ncreation_date: 1700000000\nproperties:\n  description: {salt}\n"
    );
    write_tar(
        &path,
        &[
            ("metadata.yaml", yaml.as_bytes()),
            ("rootfs/etc/salt", salt.as_bytes()),
        ],
    );
    path
}

fn write_tar(path: &std::path::Path, entries: &[(&str, &[u8])]) {
    let mut builder =
        tar::Builder::new(std::fs::File::create(path).expect("a file in the test's directory"));
    for (name, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, name, *content)
            .expect("a tar entry");
    }
    builder.finish().expect("the tar's end");
}
