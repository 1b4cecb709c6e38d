//! The closed set of roles.
//!
//! Owns parsing and naming of roles; what a role's image is comes from the registry.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::RoleFacts;

/// What an instance is for, and thereby which image it boots from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IncusGuestRole {
    /// A managed agent: an OpenClaw gateway with its state on one volume.
    ManagedOpenclaw,
    /// One CI job in a throw-away instance.
    PikaciRunner,
    /// An operator's own machine.
    PiSandbox,
}

/// A text that names no guest role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a guest role: use one of {known}")]
pub struct UnknownGuestRole {
    /// What was given, trimmed.
    pub given: String,
    /// The roles that exist, separated by commas.
    pub known: String,
}

impl IncusGuestRole {
    /// Every role, in the order of the enum.
    pub const ALL: [IncusGuestRole; 3] = [
        IncusGuestRole::ManagedOpenclaw,
        IncusGuestRole::PikaciRunner,
        IncusGuestRole::PiSandbox,
    ];

    /// The role's name in kebab case, as in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            IncusGuestRole::ManagedOpenclaw => "managed-openclaw",
            IncusGuestRole::PikaciRunner => "pikaci-runner",
            IncusGuestRole::PiSandbox => "pi-sandbox",
        }
    }

    /// What the registry says about the role.
    #[must_use]
    pub fn facts(self) -> &'static RoleFacts {
        RoleFacts::all()
            .iter()
            .find(|facts| facts.name == self.as_str())
            .expect("a test keeps the enum and images/roles.toml together")
    }

    /// Image alias that the role boots from unless the operator says otherwise.
    #[must_use]
    pub fn default_image_alias(self) -> &'static str {
        self.facts().alias
    }

    /// Whether `alias` is the role's own: only then is the role recorded, so that a custom image is
    /// not misattributed.
    #[must_use]
    pub fn uses_default_image_alias(self, alias: &str) -> bool {
        alias == self.default_image_alias()
    }

    /// Nix flake package that builds the role's image.
    #[must_use]
    pub fn flake_package_attr(self) -> &'static str {
        self.facts().package_attr
    }

    /// Whether the agent API may provision this role.
    #[must_use]
    pub fn is_managed(self) -> bool {
        self.facts().managed
    }

    /// The role whose image a flake package builds, by its present name or an older one.
    #[must_use]
    pub fn from_flake_package_attr(attr: &str) -> Option<IncusGuestRole> {
        IncusGuestRole::ALL.into_iter().find(|role| {
            let facts = role.facts();
            facts.package_attr == attr || facts.legacy_package_attrs.contains(&attr)
        })
    }
}

impl fmt::Display for IncusGuestRole {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for IncusGuestRole {
    type Err = UnknownGuestRole;

    /// Reads a role's exact name; white space around it is ignored.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let given = text.trim();
        IncusGuestRole::ALL
            .into_iter()
            .find(|role| role.as_str() == given)
            .ok_or_else(|| UnknownGuestRole {
                given: given.to_owned(),
                known: IncusGuestRole::ALL.map(IncusGuestRole::as_str).join(", "),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_enum_and_the_registry_have_the_same_roles() {
        let mut in_enum: Vec<_> = IncusGuestRole::ALL.map(IncusGuestRole::as_str).to_vec();
        in_enum.sort_unstable();
        let in_registry: Vec<_> = RoleFacts::all().iter().map(|facts| facts.name).collect();
        assert_eq!(in_enum, in_registry);
    }

    #[test]
    fn names_in_json_are_the_names_in_text() {
        for role in IncusGuestRole::ALL {
            let json = serde_json::to_string(&role).unwrap();
            assert_eq!(json, format!("\"{role}\""));
            assert_eq!(serde_json::from_str::<IncusGuestRole>(&json).unwrap(), role);
            assert_eq!(
                format!("  {role}\n").parse::<IncusGuestRole>().unwrap(),
                role
            );
        }
    }

    #[test]
    fn parsing_is_strict_but_for_surrounding_white_space() {
        for text in [
            "",
            "pikaci",
            "PIKACI-RUNNER",
            "pikaci_runner",
            "pikaci-runner-2",
        ] {
            let error = text.parse::<IncusGuestRole>().unwrap_err();
            assert_eq!(error.given, text);
            assert!(
                error
                    .to_string()
                    .contains("managed-openclaw, pikaci-runner, pi-sandbox")
            );
        }
    }

    #[test]
    fn the_registry_holds_the_known_aliases_and_packages() {
        use IncusGuestRole::{ManagedOpenclaw, PiSandbox, PikaciRunner};
        let expected = [
            (
                ManagedOpenclaw,
                "pika-agent/dev",
                "managed-openclaw-incus-image",
                true,
            ),
            (
                PikaciRunner,
                "pikaci/dev",
                "pikaci-runner-incus-image",
                false,
            ),
            (PiSandbox, "pi-sandbox/dev", "pi-sandbox-incus-image", false),
        ];
        for (role, alias, attr, managed) in expected {
            assert_eq!(role.default_image_alias(), alias);
            assert_eq!(role.flake_package_attr(), attr);
            assert_eq!(role.is_managed(), managed);
            assert!(role.uses_default_image_alias(alias));
            assert!(!role.uses_default_image_alias("custom/image"));
            assert_eq!(IncusGuestRole::from_flake_package_attr(attr), Some(role));
        }
        let older = IncusGuestRole::from_flake_package_attr;
        assert_eq!(older("pika-agent-incus-dev-image"), Some(ManagedOpenclaw));
        assert_eq!(older("pikaci-incus-dev-image"), Some(PikaciRunner));
        assert_eq!(older("unknown"), None);
    }

    #[test]
    fn no_alias_or_package_name_belongs_to_two_roles() {
        let mut seen = std::collections::BTreeSet::new();
        for facts in RoleFacts::all() {
            let names = facts
                .legacy_package_attrs
                .iter()
                .chain([&facts.package_attr, &facts.alias]);
            for name in names {
                assert!(seen.insert(*name), "{name} is written twice");
            }
        }
    }
}
