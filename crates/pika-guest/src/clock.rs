//! Owns the guest's clock and the names that the kernel gives: time, boot id, random ids.

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use pika_cloud::Timestamp;

/// The time now.
#[must_use]
pub fn now() -> Timestamp {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_unix_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

/// This boot's id. In a container it is the container's own: LXC puts a fresh one there at each start.
pub fn boot_id() -> io::Result<String> {
    kernel_uuid("/proc/sys/kernel/random/boot_id")
}

/// A new random id.
pub fn random_id() -> io::Result<String> {
    kernel_uuid("/proc/sys/kernel/random/uuid")
}

fn kernel_uuid(path: &str) -> io::Result<String> {
    let text = std::fs::read_to_string(path)?;
    let uuid = text.trim_ascii();
    let shaped = uuid.len() == 36
        && uuid
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if shaped {
        Ok(uuid.to_owned())
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{path} holds no uuid"),
        ))
    }
}
