//! From what the operator configured and what was asked for to what an agent is made with.
//!
//! Owns the order (environment, config file, request; the later wins), the names of the environment and
//! the parameters that an agent keeps. Reads no environment itself.

use std::collections::BTreeMap;

use pika_cloud::RuntimeResources;
use pika_cloud::labels::recorded_guest_role;
use pika_incus_guest_role::{IncusGuestRole, UnknownGuestRole};
use serde::{Deserialize, Serialize};

use crate::{AgentProvisionRequest, Authority, IncusProvisionParams, RequestError};

/// What the names of all environment variables of this contract begin with.
pub const ENVIRONMENT_PREFIX: &str = "PIKA_AGENT_INCUS_";

/// What the operator says, in the environment or in the config file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OperatorParams {
    /// Defaults of every agent.
    pub incus: IncusProvisionParams,
    /// The daemon's client certificate, a PEM file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_cert_path: Option<String>,
    /// The key of that certificate, a PEM file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key_path: Option<String>,
    /// The certificate that the Incus server must have, a PEM file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cert_path: Option<String>,
}

/// What an agent was made with; kept with it whatever the operator configures later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvisionParams {
    /// Where and from what; the role is there only when the image is the role's own, the alias always.
    pub incus: IncusProvisionParams,
    /// Its sizes.
    pub resources: RuntimeResources,
    /// Its owner's labels.
    pub labels: BTreeMap<String, String>,
}

/// Why the operator's parameters stop the daemon.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParamsError {
    /// The role in the environment is none.
    #[error("set {ENVIRONMENT_PREFIX}GUEST_ROLE to a role, or leave it out")]
    UnknownRole(#[source] UnknownGuestRole),
    /// A switch in the environment is neither on nor off.
    #[error("`{name}` is `{}`: set it to `true` or `false`, or leave it out", .value.escape_debug())]
    NotASwitch {
        /// The variable.
        name: String,
        /// Its value.
        value: String,
    },
    /// A client certificate without its key, or the other way round.
    #[error("a client certificate needs its key: also set `{missing}`")]
    HalfAKeyPair {
        /// The missing one.
        missing: &'static str,
    },
    /// A value breaks its rule.
    #[error(
        "the defaults of agents can't be used (parameter `x` is {ENVIRONMENT_PREFIX}X in the environment)"
    )]
    Invalid(#[source] RequestError),
}

impl OperatorParams {
    /// Reads the environment through `lookup`; white space alone counts as not set.
    pub fn from_environment(
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<OperatorParams, ParamsError> {
        let text = |suffix: &str| {
            lookup(&format!("{ENVIRONMENT_PREFIX}{suffix}"))
                .map(|value| value.trim().to_owned())
                .filter(|value| !value.is_empty())
        };
        let role = text("GUEST_ROLE")
            .map(|value| value.parse::<IncusGuestRole>())
            .transpose();
        Ok(OperatorParams {
            incus: IncusProvisionParams {
                guest_role: role.map_err(ParamsError::UnknownRole)?,
                endpoint: text("ENDPOINT"),
                project: text("PROJECT"),
                profile: text("PROFILE"),
                storage_pool: text("STORAGE_POOL"),
                image_alias: text("IMAGE_ALIAS"),
                insecure_tls: text("INSECURE_TLS").map(read_switch).transpose()?,
                openclaw_guest_ipv4_cidr: text("OPENCLAW_GUEST_IPV4_CIDR"),
                openclaw_proxy_host: text("OPENCLAW_PROXY_HOST"),
            },
            client_cert_path: text("CLIENT_CERT_PATH"),
            client_key_path: text("CLIENT_KEY_PATH"),
            server_cert_path: text("SERVER_CERT_PATH"),
        })
    }

    /// The environment with the config file over it, checked as the daemon needs it at start.
    pub fn merge(
        environment: OperatorParams,
        file: OperatorParams,
    ) -> Result<OperatorParams, ParamsError> {
        let merged = OperatorParams {
            incus: file.incus.over(environment.incus),
            client_cert_path: file.client_cert_path.or(environment.client_cert_path),
            client_key_path: file.client_key_path.or(environment.client_key_path),
            server_cert_path: file.server_cert_path.or(environment.server_cert_path),
        };
        let half = |missing| Err(ParamsError::HalfAKeyPair { missing });
        match (&merged.client_cert_path, &merged.client_key_path) {
            (Some(_), None) => return half("client_key_path"),
            (None, Some(_)) => return half("client_cert_path"),
            _ => {}
        }
        merged.incus.check().map_err(ParamsError::Invalid)?;
        merged.incus.check_group().map_err(ParamsError::Invalid)?;
        Ok(merged)
    }
}

/// What an agent is made with when `request` comes from `authority`.
pub fn materialize(
    operator: &OperatorParams,
    request: &AgentProvisionRequest,
    authority: Authority,
) -> Result<ProvisionParams, RequestError> {
    request.check(authority)?;
    let mut incus = request
        .incus
        .clone()
        .unwrap_or_default()
        .over(operator.incus.clone());
    incus.check_group()?;
    let role = incus.guest_role.unwrap_or(IncusGuestRole::ManagedOpenclaw);
    let alias = incus
        .image_alias
        .take()
        .unwrap_or_else(|| role.default_image_alias().to_owned());
    incus.guest_role = recorded_guest_role(Some(role), &alias);
    incus.image_alias = Some(alias);
    Ok(ProvisionParams {
        incus,
        resources: request.resources.clone().unwrap_or_default(),
        labels: request.labels.clone().unwrap_or_default(),
    })
}

impl ProvisionParams {
    /// The parameters that `request` gives and that differ from the kept ones: the reason for
    /// `agent_exists`. What the request leaves out never differs.
    #[must_use]
    pub fn differences(&self, request: &AgentProvisionRequest) -> Vec<&'static str> {
        let asked = request.incus.clone().unwrap_or_default();
        let kept = &self.incus;
        // Of an agent with an image of its own no role is kept, so none can differ.
        let role = kept.guest_role.is_some() && differs(&asked.guest_role, &kept.guest_role);
        let all = [
            ("guest_role", role),
            ("endpoint", differs(&asked.endpoint, &kept.endpoint)),
            ("project", differs(&asked.project, &kept.project)),
            ("profile", differs(&asked.profile, &kept.profile)),
            (
                "storage_pool",
                differs(&asked.storage_pool, &kept.storage_pool),
            ),
            (
                "image_alias",
                differs(&asked.image_alias, &kept.image_alias),
            ),
            (
                "insecure_tls",
                differs(&asked.insecure_tls, &kept.insecure_tls),
            ),
            (
                "openclaw_guest_ipv4_cidr",
                differs(
                    &asked.openclaw_guest_ipv4_cidr,
                    &kept.openclaw_guest_ipv4_cidr,
                ),
            ),
            (
                "openclaw_proxy_host",
                differs(&asked.openclaw_proxy_host, &kept.openclaw_proxy_host),
            ),
            (
                "resources",
                request
                    .resources
                    .as_ref()
                    .is_some_and(|asked| *asked != self.resources),
            ),
            (
                "labels",
                request
                    .labels
                    .as_ref()
                    .is_some_and(|asked| *asked != self.labels),
            ),
        ];
        all.into_iter()
            .filter_map(|(name, is)| is.then_some(name))
            .collect()
    }
}

fn differs<T: PartialEq>(asked: &Option<T>, kept: &Option<T>) -> bool {
    asked.is_some() && asked != kept
}

fn read_switch(value: String) -> Result<bool, ParamsError> {
    match value.as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(ParamsError::NotASwitch {
            name: format!("{ENVIRONMENT_PREFIX}INSECURE_TLS"),
            value,
        }),
    }
}
