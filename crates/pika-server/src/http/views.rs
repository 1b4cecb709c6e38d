//! From rows to what the API shows.
//!
//! Owns the translation. Nothing that the API does not name gets out.

use pika_cloud::{RuntimeResources, Timestamp};
use pika_managed_agent_contract::{
    AgentView, AllowView, AuditView, BackupView, EventView, KnownAgentBody, OperationView,
    OwnerView, QuotaBody, TokenView, UsageView,
};
use pika_store::{
    Agent, AllowEntry, AuditEntry, Backup, Event, Millis, Operation, Owner, Quotas, Sizes,
    TokenInfo,
};

pub(crate) fn time(millis: Millis) -> Timestamp {
    Timestamp::from_unix_millis(millis)
}

pub(crate) fn agent(agent: &Agent, operation: Option<&Operation>) -> AgentView {
    let has_instance = agent.generation > 0 && agent.deleted_at.is_none();
    AgentView {
        known: KnownAgentBody {
            agent_id: agent.id.clone(),
            vm_id: has_instance.then(|| agent.instance_name.clone()),
            state: agent.state,
            startup_phase: agent.startup_phase,
        },
        reason: agent.reason.clone(),
        stale_since: agent.stale_since.map(time),
        guest_role: agent.params.incus.guest_role,
        generation: agent.generation,
        resources: RuntimeResources {
            vcpu_count: u8::try_from(agent.sizes.vcpu).ok(),
            memory_mib: u32::try_from(agent.sizes.memory_mib).ok(),
            root_disk_gib: u32::try_from(agent.sizes.disk_gib).ok(),
        },
        labels: agent.params.labels.clone(),
        operation: operation.map(self::operation),
        deleted_at: agent.deleted_at.map(time),
        purge_after: agent.purge_after.map(time),
        created_at: time(agent.created_at),
        updated_at: time(agent.changed_at),
    }
}

pub(crate) fn operation(operation: &Operation) -> OperationView {
    OperationView {
        operation_id: operation.id.clone(),
        agent_id: operation.agent_id.clone(),
        kind: operation.kind,
        state: operation.state,
        step: operation.step.clone(),
        error: operation.error.clone(),
        created_at: time(operation.created_at),
        deadline_at: time(operation.deadline_at),
        finished_at: operation.finished_at.map(time),
    }
}

pub(crate) fn backup(backup: &Backup) -> BackupView {
    BackupView {
        name: backup.name.clone(),
        reason: backup.reason.clone(),
        created_at: time(backup.created_at),
    }
}

pub(crate) fn event(event: &Event) -> EventView {
    EventView {
        id: u64::try_from(event.id).unwrap_or_default(),
        agent_id: event.agent_id.clone(),
        at: time(event.at),
        kind: event.kind.clone(),
        data: event.data.clone(),
    }
}

/// A count as the API shows it.
fn count(value: i64) -> u32 {
    u32::try_from(value.max(0)).unwrap_or(u32::MAX)
}

pub(crate) fn owner(owner: &Owner, allowed: bool, (agents, used): (i64, Sizes)) -> OwnerView {
    OwnerView {
        owner_id: owner.id.clone(),
        name: owner.name.clone(),
        role: owner.role,
        allowed,
        quotas: quotas(owner.quotas),
        usage: UsageView {
            agents: count(agents),
            vcpu: count(used.vcpu),
            memory_mib: count(used.memory_mib),
            disk_gib: count(used.disk_gib),
        },
        created_at: time(owner.created_at),
    }
}

fn quotas(quotas: Quotas) -> QuotaBody {
    QuotaBody {
        agents: count(quotas.agents_max),
        vcpu: count(quotas.vcpu_max),
        memory_mib: count(quotas.memory_mib_max),
        disk_gib: count(quotas.disk_gib_max),
        backups: count(quotas.backups_max),
    }
}

pub(crate) fn quotas_of(body: QuotaBody) -> Quotas {
    Quotas {
        agents_max: i64::from(body.agents),
        vcpu_max: i64::from(body.vcpu),
        memory_mib_max: i64::from(body.memory_mib),
        disk_gib_max: i64::from(body.disk_gib),
        backups_max: i64::from(body.backups),
    }
}

pub(crate) fn token(token: &TokenInfo) -> TokenView {
    TokenView {
        token_id: token.id.clone(),
        owner_id: token.owner_id.clone(),
        scope: token.scope,
        label: token.label.clone(),
        created_at: time(token.created_at),
        expires_at: token.expires_at.map(time),
        revoked_at: token.revoked_at.map(time),
        last_used_at: token.last_used_at.map(time),
    }
}

pub(crate) fn allowed(entry: &AllowEntry) -> AllowView {
    AllowView {
        owner_id: entry.owner_id.clone(),
        note: entry.note.clone(),
        added_by: entry.added_by.clone(),
        added_at: time(entry.added_at),
    }
}

pub(crate) fn audit(entry: &AuditEntry) -> AuditView {
    AuditView {
        id: u64::try_from(entry.id).unwrap_or_default(),
        at: time(entry.at),
        actor: entry.actor.clone(),
        action: entry.action.clone(),
        subject: entry.subject.clone(),
        detail: entry.detail.clone(),
    }
}
