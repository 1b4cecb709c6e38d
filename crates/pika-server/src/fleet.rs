//! The way to Incus: which server an agent lives on, and what its instance and volume are to be.
//!
//! Owns the plan of an agent and one runtime library for each endpoint. Changes nothing itself: every request that does
//! goes through `pika-runtime`. An agent keeps the parameters that it was made with, whatever is configured later.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use pika_cloud::{
    Deadlines, DeploymentId, IncusRuntimeConfig, IncusRuntimePlan, InstanceType,
    OutputCollectionMode, OutputCollectionPolicy, OwnedKind, Ownership, RestartPolicy,
    RetentionPolicy, RuntimeIdentity, RuntimeMount, RuntimeMountKind, RuntimeMountMode,
    RuntimePolicies, RuntimeResources, RuntimeSpec,
};
use pika_managed_agent_contract::{OperatorParams, ProvisionParams};
use pika_runtime::incus::{Client, HttpsConfig, ServerTrust};
use pika_runtime::{RuntimeConfig, RuntimeId, Runtimes};
use pika_store::Agent;

use crate::config::Config;
use crate::trouble::{Trouble, chain};

/// Where an agent's volume is in its guest.
pub(crate) const STATE_PATH: &str = pika_cloud::paths::AGENT_STATE_GUEST_PATH;
/// Where the system keeps the authorities that it trusts.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// One Incus project that agents live in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Its server: an address or a socket; the local one when absent.
    pub(crate) endpoint: Option<String>,
    /// Its project.
    pub(crate) project: String,
}

/// All Incus servers that agents live on.
#[derive(Debug)]
pub(crate) struct Fleet {
    config: Config,
    servers: Mutex<BTreeMap<Option<String>, Runtimes>>,
}

impl Fleet {
    pub(crate) fn new(config: &Config) -> Fleet {
        Fleet {
            config: config.clone(),
            servers: Mutex::default(),
        }
    }

    /// Where a new agent with these parameters lives: project and pool.
    pub(crate) fn home(&self, params: &ProvisionParams) -> (String, String) {
        let local = &self.config.incus;
        let pick = |value: &Option<String>, default: &str| {
            value.clone().unwrap_or_else(|| default.to_owned())
        };
        (
            pick(&params.incus.project, &local.project),
            pick(&params.incus.storage_pool, &local.pool),
        )
    }

    /// The place of agents that nobody gave another one.
    pub(crate) fn local_place(&self) -> Place {
        let params = &self.config.agents.incus;
        Place {
            endpoint: params.endpoint.clone(),
            project: params
                .project
                .clone()
                .unwrap_or_else(|| self.config.incus.project.clone()),
        }
    }

    pub(crate) fn place_of(agent: &Agent) -> Place {
        Place {
            endpoint: agent.params.incus.endpoint.clone(),
            project: agent.project.clone(),
        }
    }

    /// The runtime library for an agent's server.
    pub(crate) fn runtimes_of(&self, agent: &Agent) -> Result<Runtimes, Trouble> {
        let insecure = agent.params.incus.insecure_tls.unwrap_or(false);
        self.runtimes(agent.params.incus.endpoint.as_deref(), insecure)
    }

    /// The runtime library for a place.
    pub(crate) fn runtimes_at(&self, place: &Place) -> Result<Runtimes, Trouble> {
        let insecure = self.config.agents.incus.insecure_tls.unwrap_or(false);
        self.runtimes(place.endpoint.as_deref(), insecure)
    }

    fn runtimes(&self, endpoint: Option<&str>, insecure: bool) -> Result<Runtimes, Trouble> {
        let key = endpoint.map(str::to_owned);
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = servers.get(&key) {
            return Ok(known.clone());
        }
        let client = self.client(endpoint, insecure)?;
        let mut config = RuntimeConfig::new(self.config.incus.owner.clone());
        config.default_instance_type = self.config.incus.instance_type;
        let runtimes = Runtimes::new(client, config);
        servers.insert(key, runtimes.clone());
        Ok(runtimes)
    }

    fn client(&self, endpoint: Option<&str>, insecure: bool) -> Result<Client, Trouble> {
        match endpoint {
            None => Ok(Client::unix(&self.config.incus.socket)),
            Some(socket) if socket.starts_with('/') => Ok(Client::unix(socket)),
            Some(url) => {
                let https = https_config(&self.config.agents, url, insecure)?;
                Client::https(https).map_err(|error| Trouble::Refused(chain(&error)))
            }
        }
    }

    /// Whose everything is.
    pub(crate) fn owner(&self) -> &DeploymentId {
        &self.config.incus.owner
    }

    /// What an agent's instance is to be, and whose, in a generation.
    pub(crate) fn plan(
        &self,
        agent: &Agent,
        generation: u64,
    ) -> Result<(IncusRuntimePlan, Ownership), Trouble> {
        let spec = self.spec(agent);
        let plan = spec
            .build_incus_plan()
            .map_err(|error| Trouble::Refused(chain(&error)))?;
        Ok((plan, self.ownership(agent, generation)))
    }

    /// Whose an agent's things are.
    pub(crate) fn ownership(&self, agent: &Agent, generation: u64) -> Ownership {
        Ownership {
            owner: self.config.incus.owner.clone(),
            kind: OwnedKind::Agent,
            generation,
            guest_role: agent.params.incus.guest_role,
            deadline: None,
        }
    }

    fn spec(&self, agent: &Agent) -> RuntimeSpec {
        let params = &agent.params;
        let local = &self.config.incus;
        let identity = RuntimeIdentity {
            runtime_id: agent.id.clone(),
            instance_name: agent.instance_name.clone(),
        };
        let incus = IncusRuntimeConfig {
            project: agent.project.clone(),
            profile: params
                .incus
                .profile
                .clone()
                .unwrap_or_else(|| local.profile.clone()),
            image_alias: params.incus.image_alias.clone().unwrap_or_default(),
            instance_type: (local.instance_type != InstanceType::Auto)
                .then_some(local.instance_type),
            storage_pool: Some(agent.pool.clone()),
            target: None,
        };
        let volume = RuntimeMount {
            kind: RuntimeMountKind::PersistentVolume,
            guest_path: STATE_PATH.to_owned(),
            source: agent.volume_name.clone(),
            mode: RuntimeMountMode::ReadWrite,
            required: true,
        };
        RuntimeSpec {
            resources: RuntimeResources {
                vcpu_count: u8::try_from(agent.sizes.vcpu).ok(),
                memory_mib: u32::try_from(agent.sizes.memory_mib).ok(),
                root_disk_gib: u32::try_from(agent.sizes.disk_gib).ok(),
            },
            mounts: vec![volume],
            policies: RuntimePolicies {
                restart_policy: RestartPolicy::Always,
                retention_policy: RetentionPolicy::KeepUntilStopped,
                output_collection: OutputCollectionPolicy {
                    mode: OutputCollectionMode::None,
                    ..OutputCollectionPolicy::default()
                },
                deadlines: Deadlines {
                    ready_secs: Some(self.config.times.ready.as_secs()),
                    ..Deadlines::default()
                },
            },
            labels: params.labels.clone(),
            ..RuntimeSpec::new(identity, incus)
        }
    }
}

/// What names an agent's instance to the runtime library.
pub(crate) fn runtime_id(agent: &Agent) -> RuntimeId {
    RuntimeId::new(&agent.id, &agent.instance_name, &agent.project)
}

fn https_config(
    params: &OperatorParams,
    url: &str,
    insecure: bool,
) -> Result<HttpsConfig, Trouble> {
    if insecure {
        return Err(Trouble::Refused(
            "insecure_tls is not taken: give the server's certificate as server_cert_path, which pins it".to_owned(),
        ));
    }
    let (Some(cert), Some(key)) = (&params.client_cert_path, &params.client_key_path) else {
        return Err(Trouble::Refused(format!(
            "{url} needs a client certificate: set client_cert_path and client_key_path"
        )));
    };
    let server = match &params.server_cert_path {
        Some(path) => ServerTrust::Pinned(read(path)?),
        None => ServerTrust::Authorities(read(SYSTEM_AUTHORITIES)?),
    };
    Ok(HttpsConfig {
        url: url.to_owned(),
        client_cert_pem: read(cert)?,
        client_key_pem: read(key)?,
        server,
    })
}

fn read(path: &str) -> Result<String, Trouble> {
    std::fs::read_to_string(Path::new(path))
        .map_err(|error| Trouble::Refused(format!("can't read {path}: {error}")))
}
