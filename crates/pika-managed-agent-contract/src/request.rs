//! What an application asks for: one optional document, strictly read.
//!
//! Owns the request's shape, its bounds, and who may set what. Names, sizes and labels follow the rules
//! of `pika-cloud`'s runtime spec, because that is what they become.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use pika_cloud::{
    IncusRuntimeConfig, RuntimeIdentity, RuntimeResources, RuntimeSpec, RuntimeSpecError,
};
use pika_incus_guest_role::IncusGuestRole;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ErrorCode;

/// Longest request document, in bytes.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Longest endpoint or proxy host, in bytes.
const TEXT_BYTES_MAX: usize = 255;
/// Longest prefix of a guest CIDR that leaves an address besides network and broadcast.
const GUEST_CIDR_PREFIX_MAX: u8 = 30;
/// Passes every rule; stands where the request says nothing.
const PLACEHOLDER: &str = "unset";

/// A request for an agent. All of it is optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AgentProvisionRequest {
    /// Where and from what it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incus: Option<IncusProvisionParams>,
    /// Its sizes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<RuntimeResources>,
    /// Its owner's labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
}

/// Where and from what an agent is made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct IncusProvisionParams {
    /// What the instance is for; only a managed role is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub guest_role: Option<IncusGuestRole>,
    /// `https://` address of the Incus server, or the absolute path of its socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Incus project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Incus profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Pool of volume and root disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_pool: Option<String>,
    /// Image; the role's own unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_alias: Option<String>,
    /// Whether the server's certificate goes unchecked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure_tls: Option<bool>,
    /// Kept with the agent and used for nothing: Incus itself carries connections to guests on a remote host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub openclaw_guest_ipv4_cidr: Option<String>,
    /// Kept with the agent and used for nothing, as the guest CIDR.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub openclaw_proxy_host: Option<String>,
}

/// On whose behalf a request is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authority {
    /// A customer: role, sizes within quota, labels.
    Tenant,
    /// The operator: everything.
    Operator,
}

/// Why a request isn't taken. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The document is longer than [`REQUEST_BYTES_MAX`].
    #[error("the request has {bytes} bytes, more than the limit of {REQUEST_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The document is not what it should be.
    #[error("the request can't be read: {0}")]
    Unreadable(String),
    /// A value breaks a rule of the runtime spec.
    #[error(transparent)]
    Spec(#[from] RuntimeSpecError),
    /// A value of the request's own breaks its rule.
    #[error("`incus.{field}` is `{}`, which {rule}", .value.escape_debug())]
    InvalidValue {
        /// Name of the parameter.
        field: &'static str,
        /// What was given.
        value: String,
        /// The rule.
        rule: &'static str,
    },
    /// The role is not one for agents.
    #[error("`incus.guest_role` is `{given}`, which is not a managed role: use one of {managed}")]
    RoleNotManaged {
        /// What was given.
        given: IncusGuestRole,
        /// What could be.
        managed: String,
    },
    /// Parameters that belong together are given in part.
    #[error("{}", incomplete_group(.missing))]
    IncompleteGroup {
        /// Those that are missing.
        missing: Vec<&'static str>,
    },
    /// A tenant set what is the operator's.
    #[error("only an operator may set {}: leave it out", quoted(.fields))]
    OperatorOnly {
        /// The parameters.
        fields: Vec<&'static str>,
    },
}

impl RequestError {
    /// The API's code for it.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            RequestError::OperatorOnly { .. } => ErrorCode::Forbidden,
            _ => ErrorCode::InvalidRequest,
        }
    }
}

impl AgentProvisionRequest {
    /// Reads a request's body; an empty one asks for every default.
    pub fn decode(body: &[u8]) -> Result<AgentProvisionRequest, RequestError> {
        if body.len() > REQUEST_BYTES_MAX {
            return Err(RequestError::TooLong { bytes: body.len() });
        }
        if body.trim_ascii().is_empty() {
            return Ok(AgentProvisionRequest::default());
        }
        read_document(body).map_err(RequestError::Unreadable)
    }

    /// Checks who may set it, then every rule; says the first problem.
    pub fn check(&self, authority: Authority) -> Result<(), RequestError> {
        let incus = self.incus.clone().unwrap_or_default();
        let fields = incus.operator_only();
        if authority == Authority::Tenant && !fields.is_empty() {
            return Err(RequestError::OperatorOnly { fields });
        }
        let resources = self.resources.clone().unwrap_or_default();
        let labels = self.labels.clone().unwrap_or_default();
        incus.check_with(resources, labels)
    }
}

/// Reads a request's document. Documents of the API have no arrays, and an array in place of an object would be taken for
/// one whose fields come in order.
///
/// # Errors
/// With the reason, for whoever sent it.
pub fn read_document<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    let document: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if has(&document, &|value| value.is_array()) {
        return Err("there is an array where an object or a value belongs".to_owned());
    }
    // Not every database takes it in a text.
    if has(&document, &|value| {
        value.as_str().is_some_and(|text| text.contains('\0'))
    }) {
        return Err("there is a NUL character in a text".to_owned());
    }
    // Read again as text: the reason then has a line and a column.
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

/// Whether a value or one inside it is such a one.
fn has(value: &Value, such: &dyn Fn(&Value) -> bool) -> bool {
    such(value)
        || match value {
            Value::Object(fields) => fields.values().any(|field| has(field, such)),
            _ => false,
        }
}

impl IncusProvisionParams {
    /// Checks every value that is given, each alone.
    pub fn check(&self) -> Result<(), RequestError> {
        self.check_with(RuntimeResources::default(), BTreeMap::new())
    }

    /// The given parameters that only an operator may set.
    #[must_use]
    pub fn operator_only(&self) -> Vec<&'static str> {
        let given = [
            ("endpoint", self.endpoint.is_some()),
            ("project", self.project.is_some()),
            ("profile", self.profile.is_some()),
            ("storage_pool", self.storage_pool.is_some()),
            ("image_alias", self.image_alias.is_some()),
            ("insecure_tls", self.insecure_tls.is_some()),
            (
                "openclaw_guest_ipv4_cidr",
                self.openclaw_guest_ipv4_cidr.is_some(),
            ),
            ("openclaw_proxy_host", self.openclaw_proxy_host.is_some()),
        ];
        given
            .into_iter()
            .filter_map(|(name, is)| is.then_some(name))
            .collect()
    }

    /// These parameters, and `below`'s where these say nothing.
    #[must_use]
    pub fn over(self, below: IncusProvisionParams) -> IncusProvisionParams {
        IncusProvisionParams {
            guest_role: self.guest_role.or(below.guest_role),
            endpoint: self.endpoint.or(below.endpoint),
            project: self.project.or(below.project),
            profile: self.profile.or(below.profile),
            storage_pool: self.storage_pool.or(below.storage_pool),
            image_alias: self.image_alias.or(below.image_alias),
            insecure_tls: self.insecure_tls.or(below.insecure_tls),
            openclaw_guest_ipv4_cidr: self
                .openclaw_guest_ipv4_cidr
                .or(below.openclaw_guest_ipv4_cidr),
            openclaw_proxy_host: self.openclaw_proxy_host.or(below.openclaw_proxy_host),
        }
    }

    /// Refuses a group that is given in part: endpoint, project, profile, pool, guest CIDR and proxy host.
    pub fn check_group(&self) -> Result<(), RequestError> {
        let group = [
            ("endpoint", self.endpoint.is_some()),
            ("project", self.project.is_some()),
            ("profile", self.profile.is_some()),
            ("storage_pool", self.storage_pool.is_some()),
            (
                "openclaw_guest_ipv4_cidr",
                self.openclaw_guest_ipv4_cidr.is_some(),
            ),
            ("openclaw_proxy_host", self.openclaw_proxy_host.is_some()),
        ];
        let missing: Vec<&'static str> = group
            .into_iter()
            .filter_map(|(name, is)| (!is).then_some(name))
            .collect();
        if missing.is_empty() || missing.len() == group.len() {
            return Ok(());
        }
        Err(RequestError::IncompleteGroup { missing })
    }

    fn check_with(
        &self,
        resources: RuntimeResources,
        labels: BTreeMap<String, String>,
    ) -> Result<(), RequestError> {
        if let Some(given) = self.guest_role.filter(|role| !role.is_managed()) {
            let managed: Vec<_> = IncusGuestRole::ALL
                .into_iter()
                .filter(|role| role.is_managed())
                .map(IncusGuestRole::as_str)
                .collect();
            return Err(RequestError::RoleNotManaged {
                given,
                managed: managed.join(", "),
            });
        }
        self.as_spec(resources, labels).validate()?;
        check_value("endpoint", self.endpoint.as_deref(), endpoint_problem)?;
        let cidr = self.openclaw_guest_ipv4_cidr.as_deref();
        check_value("openclaw_guest_ipv4_cidr", cidr, cidr_problem)?;
        check_value(
            "openclaw_proxy_host",
            self.openclaw_proxy_host.as_deref(),
            host_problem,
        )
    }

    /// The runtime spec that the parameters would become, for its rules alone.
    fn as_spec(
        &self,
        resources: RuntimeResources,
        labels: BTreeMap<String, String>,
    ) -> RuntimeSpec {
        let given =
            |value: &Option<String>| value.clone().unwrap_or_else(|| PLACEHOLDER.to_owned());
        let identity = RuntimeIdentity {
            runtime_id: PLACEHOLDER.to_owned(),
            instance_name: PLACEHOLDER.to_owned(),
        };
        let incus = IncusRuntimeConfig {
            project: given(&self.project),
            profile: given(&self.profile),
            image_alias: given(&self.image_alias),
            instance_type: None,
            storage_pool: self.storage_pool.clone(),
            target: None,
        };
        RuntimeSpec {
            resources,
            labels,
            ..RuntimeSpec::new(identity, incus)
        }
    }
}

fn check_value(
    field: &'static str,
    value: Option<&str>,
    problem: fn(&str) -> Option<&'static str>,
) -> Result<(), RequestError> {
    let Some(value) = value else { return Ok(()) };
    match problem(value) {
        None => Ok(()),
        Some(rule) => Err(RequestError::InvalidValue {
            field,
            value: value.chars().take(TEXT_BYTES_MAX).collect(),
            rule,
        }),
    }
}

fn endpoint_problem(value: &str) -> Option<&'static str> {
    if value.len() > TEXT_BYTES_MAX {
        return Some("must not be longer than 255 bytes");
    }
    if value.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Some("must not contain white space or control characters");
    }
    let authority = value.strip_prefix("https://").is_some_and(|rest| {
        !rest.trim_end_matches('/').is_empty() && !rest.starts_with('/') && !rest.contains('@')
    });
    let socket = value.len() > 1 && value.starts_with('/');
    (!authority && !socket).then_some("must be an `https://` address or a socket's absolute path")
}

fn cidr_problem(value: &str) -> Option<&'static str> {
    let shape = Some("must be an IPv4 network such as `10.77.0.0/24`");
    let Some((address, prefix)) = value.split_once('/') else {
        return shape;
    };
    let (Ok(address), Ok(bits)) = (address.parse::<Ipv4Addr>(), prefix.parse::<u8>()) else {
        return shape;
    };
    // One spelling for one network: `u8` would also take `+24` and `024`.
    if bits.to_string() != prefix || bits == 0 || bits > 32 {
        return shape;
    }
    if bits > GUEST_CIDR_PREFIX_MAX {
        return Some("must have a prefix of at most 30, or no guest has room");
    }
    let host_bits = u32::MAX >> bits;
    (address.to_bits() & host_bits != 0).then_some("must have no bits set beyond its prefix")
}

fn host_problem(value: &str) -> Option<&'static str> {
    if value.is_empty() || value.len() > TEXT_BYTES_MAX {
        return Some("must have 1 to 255 bytes");
    }
    let is_address = value.parse::<std::net::IpAddr>().is_ok();
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (!is_address && !value.split('.').all(is_label)).then_some("must be a host name or an address")
}

fn quoted(names: &[&str]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn incomplete_group(missing: &[&str]) -> String {
    format!(
        "endpoint, project, profile, storage pool, guest CIDR and proxy host belong together: also set {}",
        quoted(missing)
    )
}
