//! Instance type and image.
//!
//! Owns what `auto` means, and which image is refused.

use super::error::words;
use super::{ResolveError, ServerFacts};
use crate::image_contract::IMAGE_CONTRACT_VERSION;
use crate::incus::IncusRuntimePlan;
use crate::labels::Ownership;
use crate::spec::InstanceType;
use pika_incus_guest_role::IncusGuestRole;

/// What an instance boots, and as what.
pub(super) struct Platform {
    pub(super) instance_type: InstanceType,
    pub(super) image_fingerprint: String,
}

pub(super) fn choose(
    plan: &IncusRuntimePlan,
    facts: &ServerFacts,
    ownership: &Ownership,
    notes: &mut Vec<String>,
) -> Result<Platform, ResolveError> {
    let wanted = plan
        .incus
        .instance_type
        .unwrap_or(facts.default_instance_type);
    check_available(plan, facts, wanted)?;
    let alias = &plan.incus.image_alias;
    let Some(image) = &facts.image else {
        return Err(ResolveError::ImageMissing {
            alias: alias.clone(),
            project: plan.incus.project.clone(),
            role_option: role_option(ownership, alias),
        });
    };
    check_contract(plan, facts, ownership)?;
    if wanted == InstanceType::Auto {
        check_available(plan, facts, image.instance_type)?;
        notes.push(why_auto(facts, image.instance_type));
    } else if wanted != image.instance_type {
        return Err(ResolveError::ImageTypeMismatch {
            instance_name: plan.identity.instance_name.clone(),
            alias: alias.clone(),
            image_type: image.instance_type,
            instance_type: wanted,
        });
    }
    Ok(Platform {
        instance_type: image.instance_type,
        image_fingerprint: image.fingerprint.clone(),
    })
}

/// Whether the server can run the type; for `auto`, whether it can run anything.
fn check_available(
    plan: &IncusRuntimePlan,
    facts: &ServerFacts,
    wanted: InstanceType,
) -> Result<(), ResolveError> {
    let instance_name = plan.identity.instance_name.clone();
    let no_virtual_machines = || {
        let unsaid = "its Incus has no operational qemu driver";
        let problem = facts
            .virtual_machines_problem
            .clone()
            .unwrap_or_else(|| unsaid.to_owned());
        ResolveError::VirtualMachinesUnavailable {
            instance_name: instance_name.clone(),
            problem,
        }
    };
    match wanted {
        InstanceType::VirtualMachine if !facts.virtual_machines => Err(no_virtual_machines()),
        InstanceType::Container if !facts.containers => {
            Err(ResolveError::ContainersUnavailable { instance_name })
        }
        InstanceType::Auto if !facts.containers && !facts.virtual_machines => {
            Err(no_virtual_machines())
        }
        InstanceType::VirtualMachine | InstanceType::Container | InstanceType::Auto => Ok(()),
    }
}

fn why_auto(facts: &ServerFacts, chosen: InstanceType) -> String {
    let because = match (chosen, facts.virtual_machines, facts.containers) {
        (InstanceType::Container, true, _) => "the image is a container image",
        (InstanceType::Container, false, _) => "this server runs no virtual machines",
        (_, _, true) => "the server can and the image is one for virtual machines",
        (_, _, false) => "this server runs no containers",
    };
    format!("instance type `auto` became {}: {because}", words(chosen))
}

fn check_contract(
    plan: &IncusRuntimePlan,
    facts: &ServerFacts,
    ownership: &Ownership,
) -> Result<(), ResolveError> {
    let (Some(expected), Some(image)) = (facts.expected_contract_version, &facts.image) else {
        return Ok(());
    };
    let found = image.properties.get(IMAGE_CONTRACT_VERSION);
    if found.is_some_and(|found| *found == expected.to_string()) {
        return Ok(());
    }
    let alias = &plan.incus.image_alias;
    Err(ResolveError::StaleImage {
        alias: alias.clone(),
        found: found.map_or_else(|| "none".to_owned(), |found| printable(found)),
        expected,
        role_option: role_option(ownership, alias),
    })
}

/// A property's text as it may stand in an error: short and without control characters.
fn printable(text: &str) -> String {
    text.chars().take(32).flat_map(char::escape_debug).collect()
}

/// ` --role ROLE` for the command that makes the alias' image, as far as a role belongs to it.
fn role_option(ownership: &Ownership, alias: &str) -> String {
    IncusGuestRole::ALL
        .into_iter()
        .find(|role| role.uses_default_image_alias(alias))
        .map(|role| format!(" --role {role}"))
        .or_else(|| {
            ownership
                .guest_role
                .map(|role| format!(" --role {role} --alias {alias}"))
        })
        .unwrap_or_default()
}
