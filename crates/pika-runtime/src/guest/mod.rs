//! Owns the look into a guest: one exec, bounded in time and size, that brings its status, its boot and its mounts.
//!
//! All of it is the guest's word: whoever is root in there can replace the shell, the files and `/proc`. It is decoded with
//! bounds and never trusted further than its effect on the guest itself. What a guest can't forge is the host's half, such
//! as the devices that its instance is configured to have. Changes nothing.

mod mounts;

use std::time::Duration;

use pika_cloud::lifecycle::decode_status;
use pika_cloud::{LifecycleState, LifecycleStatus};
use pika_incus::{CaptureLimits, Client, ErrorKind, ExecError, ExecRequest};
use serde::Serialize;

use self::mounts::{MOUNTINFO_BYTES_MAX, mount_at};
use crate::control::ControlError;
use crate::id::RuntimeId;
use crate::observe::Power;
use crate::runtimes::Runtimes;
use crate::text::{chain, tame};

pub use self::mounts::{GuestMount, MountSeen};

const STATUS_BYTES_MAX: usize = pika_cloud::lifecycle::limits::STATUS_BYTES_MAX;
const BOOT_ID_BYTES_MAX: usize = 64;
/// How long the whole look into a guest may take.
const LOOK_LIMIT: Duration = Duration::from_secs(10);
/// Longest text of the guest's that is passed on about a crash loop, in characters.
const DETAIL_CHARS_MAX: usize = 256;

const NO_STATUS: i32 = 3;
const NO_REGULAR_FILE: i32 = 4;
/// Status on standard output; the boot id and then the mounts on standard error. A pipe or a device in place of the status
/// is not opened; one that is put there in between runs into the limit.
const SCRIPT: &str = r#"{ head -c 64 /proc/sys/kernel/random/boot_id || echo
[ "$3" -eq 0 ] || head -c "$3" /proc/self/mountinfo; } >&2 2>/dev/null
[ -e "$1" ] || [ -L "$1" ] || exit 3
[ -f "$1" ] && [ ! -L "$1" ] || exit 4
exec head -c "$2" -- "$1" 2>/dev/null"#;
/// What the command is called in the guest's list of processes.
const COMMAND_NAME: &str = "pika-guest-look";

/// The guest's `status.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum GuestStatus {
    /// It is there and is one. What it says is the guest's claim.
    Said(LifecycleStatus),
    /// The guest answers and has no status yet.
    Missing,
    /// What is there was written in another boot, so that nothing is known of this one yet.
    OfAnotherBoot {
        /// The boot that it was written in.
        boot_id: String,
    },
    /// It can't be read, or is none.
    Unreadable {
        /// Why.
        why: String,
    },
}

/// What a look into a running guest showed. Guest root can forge each part of it: together with what the host itself knows
/// (the instance's power and devices) it tells how an honest guest does, and a dishonest one only harms itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GuestLook {
    /// This boot's id, by the guest's kernel; LXC gives a container a fresh one at each start.
    pub boot_id: Option<String>,
    /// The guest's status, if it is of this boot.
    pub status: GuestStatus,
    /// Why it failed, if it says that its workload crashes again and again.
    pub crash_loop: Option<CrashLoop>,
    /// What is mounted at the path that was asked for.
    pub mount: MountSeen,
}

impl GuestLook {
    /// The guest says ready in this boot, and something is mounted where its state belongs. Whether that is its volume is
    /// for the host's half to tell: [`crate::OwnedInstance::volume_device`].
    pub fn is_ready(&self) -> bool {
        let said = matches!(&self.status, GuestStatus::Said(status) if status.state == LifecycleState::Ready);
        said && matches!(self.mount, MountSeen::Mounted(_))
    }
}

/// What a guest says of a workload that crashes again and again. Texts are cut and free of control characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CrashLoop {
    /// The unit.
    pub unit: Option<String>,
    /// How often it was started again.
    pub restarts: Option<u64>,
    /// How it ended last.
    pub result: Option<String>,
}

/// A look into a guest that did not come about.
#[derive(Debug, thiserror::Error)]
pub enum GuestLookError {
    /// The instance is not there, not ours, or can't be looked at.
    #[error(transparent)]
    Instance(ControlError),
    /// The guest doesn't run.
    #[error("the guest of instance {instance_name} does not run ({power:?}); start it first")]
    NotRunning {
        /// The instance.
        instance_name: String,
        /// What it does instead.
        power: Power,
    },
    /// Incus went away meanwhile, which says nothing about the guest.
    #[error("Incus went away while the guest of instance {instance_name} was looked into")]
    Lost {
        /// The instance.
        instance_name: String,
        /// What the attempt ended with.
        #[source]
        source: ExecError,
    },
    /// The guest took no command, or did not answer in time.
    #[error(
        "the guest of instance {instance_name} does not answer ({why}); restart it if that stays so"
    )]
    Unanswered {
        /// The instance.
        instance_name: String,
        /// What the attempt ended with.
        why: String,
    },
}

impl Runtimes {
    /// Looks into a running guest of ours: its status, and what is mounted at `mount_path`.
    ///
    /// # Errors
    /// When the instance isn't there, isn't ours, doesn't run, its guest doesn't answer in time, or Incus goes away.
    pub async fn guest_look(
        &self,
        id: &RuntimeId,
        mount_path: &str,
    ) -> Result<GuestLook, GuestLookError> {
        let client = self.client(id.project());
        let instance_name = || id.instance_name().to_owned();
        let seen = self.look_at_running(&client, id).await;
        let instance = |error| GuestLookError::Instance(error);
        let seen = seen.map_err(|error| instance(ControlError::Look(error)))?;
        match ControlError::unless_ours(id, seen).map_err(instance)? {
            ours if ours.power == Power::Running => {}
            ours => {
                return Err(GuestLookError::NotRunning {
                    instance_name: instance_name(),
                    power: ours.power,
                });
            }
        }
        look_into(&client, id.instance_name(), Some(mount_path))
            .await
            .map_err(|error| match error.kind() {
                ErrorKind::Unreachable | ErrorKind::ShuttingDown => GuestLookError::Lost {
                    instance_name: instance_name(),
                    source: error,
                },
                _ => GuestLookError::Unanswered {
                    instance_name: instance_name(),
                    why: chain(&error),
                },
            })
    }
}

/// The status of a running guest, whatever it is.
pub(crate) async fn guest_status(client: &Client, instance: &str) -> GuestStatus {
    match look_into(client, instance, None).await {
        Ok(look) => look.status,
        Err(error) => GuestStatus::Unreadable { why: chain(&error) },
    }
}

async fn look_into(
    client: &Client,
    instance: &str,
    mount_path: Option<&str>,
) -> Result<GuestLook, ExecError> {
    let path = format!("{}/status.json", pika_cloud::paths::STATE_DIR);
    let bytes = (STATUS_BYTES_MAX + 1).to_string();
    let mounts_max = mount_path.map_or(0, |_| MOUNTINFO_BYTES_MAX + 1);
    let words = ["/bin/sh", "-c", SCRIPT, COMMAND_NAME, &path, &bytes];
    let mounts = mounts_max.to_string();
    let mut request = ExecRequest::new(words.into_iter().chain([mounts.as_str()]));
    request.cwd = Some("/".to_owned());
    let limits = CaptureLimits {
        stdout_max: STATUS_BYTES_MAX + 1,
        stderr_max: BOOT_ID_BYTES_MAX + mounts_max,
    };
    let output = client
        .exec_capture(instance, &request, limits, LOOK_LIMIT)
        .await?;
    let (boot_id, mounts) = boot_and_mounts(&output.stderr);
    let status = match output.exit_code {
        0 => status_of(&output.stdout, boot_id.as_deref()),
        NO_STATUS => GuestStatus::Missing,
        NO_REGULAR_FILE => GuestStatus::Unreadable {
            why: format!("{path} is no regular file"),
        },
        code => GuestStatus::Unreadable {
            why: format!("reading it ended with status {code}"),
        },
    };
    Ok(GuestLook {
        crash_loop: crash_loop(&status),
        boot_id,
        status,
        mount: mount_path.map_or(MountSeen::NotMounted, |path| mount_at(mounts, path)),
    })
}

/// The first line and the rest.
fn boot_and_mounts(facts: &[u8]) -> (Option<String>, &[u8]) {
    let end = facts.iter().position(|byte| *byte == b'\n');
    let (first, rest) = match end {
        Some(end) => (&facts[..end], &facts[end + 1..]),
        None => (facts, &[][..]),
    };
    let boot_id = std::str::from_utf8(first).ok().filter(|id| is_boot_id(id));
    (boot_id.map(str::to_owned), rest)
}

/// Whether a text has the shape of a boot's id, so that it can be part of a path.
pub(crate) fn is_boot_id(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

/// A status that names no boot counts as this one's: its directory is made anew at each boot.
fn status_of(bytes: &[u8], boot_id: Option<&str>) -> GuestStatus {
    match decode_status("status.json", bytes) {
        Err(error) => GuestStatus::Unreadable { why: chain(&error) },
        Ok(status) => match (&status.boot_id, boot_id) {
            (Some(written), Some(now)) if written != now => GuestStatus::OfAnotherBoot {
                boot_id: written.clone(),
            },
            _ => GuestStatus::Said(status),
        },
    }
}

fn crash_loop(status: &GuestStatus) -> Option<CrashLoop> {
    let GuestStatus::Said(status) = status else {
        return None;
    };
    let details = status.details.as_ref()?;
    if status.state != LifecycleState::Failed || details.get("crash_loop")?.as_bool() != Some(true)
    {
        return None;
    }
    let text = |key: &str| Some(tame(details.get(key)?.as_str()?, DETAIL_CHARS_MAX));
    Some(CrashLoop {
        unit: text("unit"),
        restarts: details.get("restarts").and_then(serde_json::Value::as_u64),
        result: text("result"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(boot_id: Option<&str>, state: &str, details: serde_json::Value) -> Vec<u8> {
        let mut status = json!({
            "schema_version": 1, "state": state, "updated_at": "2026-11-26T10:00:00.000Z", "message": "m", "details": details,
        });
        if let Some(boot_id) = boot_id {
            status["boot_id"] = json!(boot_id);
        }
        serde_json::to_vec(&status).unwrap()
    }

    #[test]
    fn a_status_of_another_boot_is_dropped() {
        let of = |written, now| status_of(&status(written, "ready", json!(null)), now);
        assert!(matches!(of(Some("b-1"), Some("b-1")), GuestStatus::Said(_)));
        assert!(matches!(of(None, Some("b-1")), GuestStatus::Said(_)));
        let stale = GuestStatus::OfAnotherBoot {
            boot_id: "b-0".to_owned(),
        };
        assert_eq!(of(Some("b-0"), Some("b-1")), stale);
        let huge = vec![b' '; STATUS_BYTES_MAX + 1];
        assert!(matches!(
            status_of(&huge, None),
            GuestStatus::Unreadable { .. }
        ));
    }

    #[test]
    fn only_a_failed_guest_tells_of_a_crash_loop() {
        let details = json!({ "crash_loop": true, "unit": "a\u{1b}[31m.service", "restarts": 4, "result": "x".repeat(900) });
        let said = |state| status_of(&status(None, state, details.clone()), None);
        let found = crash_loop(&said("failed")).unwrap();
        assert_eq!(
            (found.unit.as_deref(), found.restarts),
            (Some("a[31m.service"), Some(4))
        );
        assert_eq!(found.result.unwrap().len(), DETAIL_CHARS_MAX);
        assert_eq!(crash_loop(&said("ready")), None);
        let plain = status_of(
            &status(None, "failed", json!({ "crash_loop": "yes" })),
            None,
        );
        assert_eq!(crash_loop(&plain), None);
    }

    #[test]
    fn what_is_no_boot_id_is_none() {
        assert_eq!(
            boot_and_mounts(b"0a-1\nrest\nmore"),
            (Some("0a-1".to_owned()), &b"rest\nmore"[..])
        );
        for hostile in [&b"\nrest"[..], b"../..\n", b"", b"\xff\n"] {
            assert_eq!(boot_and_mounts(hostile).0, None, "{hostile:?}");
        }
    }
}
