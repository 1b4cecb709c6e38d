//! What the daemon tells: whether it answers, what it is, and whether profile, pool and image are there.
//!
//! Owns the order of these checks: each needs the one before it, and what can't be asked is not checked.

use pika_cloud::GUEST_CONTRACT_VERSION;
use pika_cloud::IncusGuestRole;
use pika_cloud::image_contract::IMAGE_CONTRACT_VERSION;
use pika_runtime::incus::{Client, Error, ErrorKind, Profile, Server};

use super::Finding;
use crate::config::Settings;

/// The oldest Incus whose API has what is used here.
const VERSION_MIN: (u32, u32) = (6, 0);
/// Upstream's first release with the fixes of 2026's audit; distributions carry them back into older ones.
const VERSION_FIXED: (u32, u32) = (7, 0);

/// All checks, and the daemon's process id if it told it.
pub(super) async fn check(
    settings: &Settings,
    role: IncusGuestRole,
) -> (Vec<Finding>, Option<i64>) {
    let client = settings.client();
    let mut findings = Vec::new();
    let server = match client.server().await {
        Ok(server) => server,
        Err(error) => {
            findings.push(unreachable(settings, &error));
            for check in ["access", "version", "drivers", "profile", "pool", "image"] {
                findings.push(Finding::not_checked(check, "the daemon can't be asked"));
            }
            return (findings, None);
        }
    };
    findings.push(Finding::good(
        "daemon",
        format!("answers on {}", settings.socket.display()),
    ));
    findings.push(access(&server));
    findings.push(version(&server.environment.server_version));
    findings.push(drivers(&server));
    findings.extend(profile_and_pool(&client, settings).await);
    findings.push(image(&client, settings, role).await);
    (findings, Some(server.environment.server_pid))
}

fn unreachable(settings: &Settings, error: &Error) -> Finding {
    let remedy = error.remedy().unwrap_or_else(|| {
        "name the right socket with --socket, PIKA_INCUS_SOCKET or incus.socket in the configuration".to_owned()
    });
    let what = match error.kind() {
        ErrorKind::Forbidden => "refuses this user",
        _ => "does not answer",
    };
    Finding::problem(
        "daemon",
        format!("{} {what}: {}", settings.socket.display(), told(error)),
    )
    .why("nothing can be done without Incus")
    .remedy(remedy)
}

fn access(server: &Server) -> Finding {
    if server.is_trusted() {
        return Finding::good("access", "this user may do everything");
    }
    Finding::problem("access", "the daemon does not trust this user")
        .why("instances can't be made")
        .remedy(
            "add the user to the group incus-admin (usermod -aG incus-admin USER) and log in again",
        )
}

fn version(text: &str) -> Finding {
    let check = "version";
    let mut numbers = text.split('.').map(|number| number.parse::<u32>().ok());
    let (Some(Some(major)), Some(Some(minor))) = (numbers.next(), numbers.next()) else {
        return Finding::not_checked(check, format!("Incus says it is {text}"));
    };
    if (major, minor) < VERSION_MIN {
        return Finding::problem(check, format!("Incus {text}"))
            .why("it lacks parts of the API that are used here")
            .remedy("install Incus 6.0 or newer (Debian 13, or Debian 12's backports)");
    }
    if (major, minor) < VERSION_FIXED {
        return Finding::warning(check, format!("Incus {text}"))
            .why(
                "upstream fixed critical flaws during 2026, among them exec commands readable from other projects; \
                 a distribution's older version may or may not carry the fixes",
            )
            .remedy("apt-get update && apt-get install --only-upgrade incus-base, and read its changelog");
    }
    Finding::good(check, format!("Incus {text}"))
}

fn drivers(server: &Server) -> Finding {
    let check = "drivers";
    let environment = &server.environment;
    match (
        environment.has_driver("lxc"),
        environment.has_driver("qemu"),
    ) {
        (true, true) => Finding::good(check, "containers and virtual machines"),
        (true, false) => Finding::good(check, "containers; no virtual machines"),
        (false, true) => Finding::warning(check, "virtual machines; no containers")
            .why("only images for virtual machines can be booted")
            .remedy("install the package lxc of the daemon's distribution and restart incus"),
        (false, false) => Finding::problem(check, "none")
            .why("no instance can run")
            .remedy("look for the reason in the daemon's log (journalctl -u incus)"),
    }
}

async fn profile_and_pool(client: &Client, settings: &Settings) -> Vec<Finding> {
    let (project, name) = (&settings.project, &settings.profile);
    let profile = match client.profile(name).await {
        Ok(tagged) => tagged.value,
        Err(error) => {
            let found = format!("profile {name} in project {project}: {}", told(&error));
            let finding = if error.kind() == ErrorKind::NotFound {
                Finding::problem("profile", found)
                    .why("instances take their root disk and network from it")
                    .remedy(format!("incus profile create --project {project} {name}"))
            } else {
                Finding::not_checked("profile", found)
            };
            return vec![
                finding,
                Finding::not_checked("pool", "it is known from the profile"),
            ];
        }
    };
    let root = root_pool(&profile);
    let network = profile
        .devices
        .values()
        .any(|device| device.get("type").is_some_and(|t| t == "nic"));
    let found = format!("{name} in project {project}");
    let pool = match &root {
        Some(pool) => self::pool(client, pool).await,
        None => Finding::not_checked("pool", "the profile names none"),
    };
    let finding = match (root.is_some(), network) {
        (true, true) => Finding::good("profile", found),
        (false, _) => Finding::problem("profile", format!("{found} has no root disk"))
            .why("an instance without one can't be made, unless its spec names a pool")
            .remedy(format!("incus profile device add --project {project} {name} root disk path=/ pool=POOL")),
        (true, false) => Finding::warning("profile", format!("{found} has no network"))
            .why("guests can't fetch anything")
            .remedy(format!(
                "incus profile device add --project {project} {name} eth0 nic name=eth0 network=NETWORK"
            )),
    };
    vec![finding, pool]
}

fn root_pool(profile: &Profile) -> Option<String> {
    let is_root = |device: &&std::collections::BTreeMap<String, String>| {
        device.get("type").is_some_and(|t| t == "disk")
            && device.get("path").is_some_and(|path| path == "/")
    };
    profile.devices.values().find(is_root)?.get("pool").cloned()
}

async fn pool(client: &Client, name: &str) -> Finding {
    let check = "pool";
    match client.pool(name).await {
        Ok(tagged) if tagged.value.driver == "dir" => Finding::warning(check, format!("{name}, driver dir"))
            .why("every instance is a full copy (seconds instead of a fifth of one), and sizes aren't enforced")
            .remedy("make a pool with btrfs, zfs or lvm and name it in the profile's root disk"),
        Ok(tagged) => Finding::good(check, format!("{name}, driver {}", tagged.value.driver)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Finding::problem(check, format!("there is no pool {name}, which the profile names"))
                .why("no instance of the profile can be made")
                .remedy(format!("incus storage create {name} btrfs size=30GiB"))
        }
        Err(error) => Finding::not_checked(check, format!("{name}: {}", told(&error))),
    }
}

async fn image(client: &Client, settings: &Settings, role: IncusGuestRole) -> Finding {
    let check = "image";
    let alias = role.default_image_alias();
    let build = format!("pika image build-import --role {role}");
    let target = match client.alias(alias).await {
        Ok(Some(tagged)) => tagged.value.target,
        Ok(None) => {
            return Finding::problem(
                check,
                format!("there is no {alias} in project {}", settings.project),
            )
            .why(format!("instances of role {role} boot from it"))
            .remedy(build);
        }
        Err(error) => return Finding::not_checked(check, format!("{alias}: {}", told(&error))),
    };
    let image = match client.image(&target).await {
        Ok(tagged) => tagged.value,
        Err(error) => return Finding::not_checked(check, format!("{alias}: {}", told(&error))),
    };
    let short: String = target.chars().take(12).collect();
    let version = image
        .properties
        .get(IMAGE_CONTRACT_VERSION)
        .map_or("none", String::as_str);
    if version == GUEST_CONTRACT_VERSION.to_string() {
        return Finding::good(
            check,
            format!(
                "{alias} is {short}, a {}, contract version {version}",
                image.kind
            ),
        );
    }
    Finding::problem(
        check,
        format!("{alias} ({short}) has contract version {version}, not {GUEST_CONTRACT_VERSION}"),
    )
    .why("its guest binaries and this host would not understand each other, so it is refused")
    .remedy(build)
}

/// An error and its causes in one line.
fn told(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Health;

    #[test]
    fn versions_are_judged_by_number() {
        for (text, health) in [
            ("5.21.4", Health::Problem),
            ("6.0.4", Health::Warning),
            ("6.23", Health::Warning),
            ("7.0.0", Health::Good),
            ("10.1", Health::Good),
            ("unreleased", Health::NotChecked),
            ("7", Health::NotChecked),
        ] {
            assert_eq!(version(text).health, health, "{text}");
        }
    }
}
