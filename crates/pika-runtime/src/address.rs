//! Owns where a runtime's guest is reached: the address that Incus gave to the instance's own interface.
//!
//! What interfaces and addresses a guest shows is its own word, and never decides where somebody connects to: an address
//! counts when a bridge of Incus's gave it to the MAC address that Incus chose for the instance, lies in that bridge's
//! subnet, and isn't the host's own. The guest's word only tells whether it took it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pika_incus::{Client, Instance, InstanceState, Network, NetworkLease};

use crate::control::ControlError;
use crate::id::RuntimeId;
use crate::observe::Power;
use crate::runtimes::Runtimes;

/// Where a guest is reached from Incus's own host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestAddress {
    /// The address.
    pub address: IpAddr,
    /// When the guest was started, as Incus tells it; another time later means another boot.
    pub started_at: Option<String>,
}

/// A guest that has no address to be reached at.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// There is no instance of ours.
    #[error("the instance can't be used")]
    Instance(#[source] ControlError),
    /// Its guest doesn't run.
    #[error("instance {instance_name} does not run")]
    NotRunning {
        /// The instance.
        instance_name: String,
    },
    /// Incus does not tell about its interfaces.
    #[error("the interfaces of instance {instance_name} can't be seen")]
    Look {
        /// The instance.
        instance_name: String,
        /// What Incus said.
        #[source]
        source: pika_incus::Error,
    },
    /// No address of it counts.
    #[error("instance {instance_name} has no address that can be used: {reason}")]
    Unusable {
        /// The instance.
        instance_name: String,
        /// Why.
        reason: String,
    },
}

impl Runtimes {
    /// The address at which a runtime's guest is reached from the host that Incus runs on.
    ///
    /// # Errors
    /// When the instance isn't there, isn't ours, doesn't run, or has no address that Incus gave it.
    pub async fn guest_address(&self, id: &RuntimeId) -> Result<GuestAddress, AddressError> {
        let ours = self.ours(id).await.map_err(AddressError::Instance)?;
        let instance_name = id.instance_name().to_owned();
        if ours.power != Power::Running {
            return Err(AddressError::NotRunning { instance_name });
        }
        let client = self.client(id.project());
        let found = look(&client, &ours.instance).await;
        let (state, found) = found.map_err(|source| AddressError::Look {
            instance_name: instance_name.clone(),
            source,
        })?;
        match found {
            Ok(address) => Ok(GuestAddress {
                address,
                started_at: state.started_at,
            }),
            Err(reason) => Err(AddressError::Unusable {
                instance_name,
                reason,
            }),
        }
    }
}

type Found = Result<IpAddr, String>;

/// The first interface, by its device's name, that has an address.
async fn look(
    client: &Client,
    instance: &Instance,
) -> Result<(InstanceState, Found), pika_incus::Error> {
    let state = client.instance_state(&instance.name).await?;
    let mut found = Err("no interface of it is on a network that Incus manages".to_owned());
    for nic in nics(instance) {
        let (network, leases) = tokio::try_join!(
            client.network(&nic.network),
            client.network_leases(&nic.network)
        )?;
        found = address_of(&nic, &state, &network.value, &leases);
        if found.is_ok() {
            break;
        }
    }
    Ok((state, found))
}

/// An interface as the host has set it up.
#[derive(Debug)]
struct Nic {
    network: String,
    /// MAC address in lower case.
    hwaddr: String,
}

fn nics(instance: &Instance) -> Vec<Nic> {
    let of_device = |(name, device): (&String, &BTreeMap<String, String>)| {
        let is_nic = device.get("type").is_some_and(|kind| kind == "nic");
        let network = device.get("network").filter(|_| is_nic)?;
        let chosen = instance.config.get(&format!("volatile.{name}.hwaddr"));
        let hwaddr = device.get("hwaddr").or(chosen)?;
        Some(Nic {
            network: network.clone(),
            hwaddr: hwaddr.to_ascii_lowercase(),
        })
    };
    let devices = instance.expanded_devices.iter();
    devices.filter_map(of_device).collect()
}

fn address_of(
    nic: &Nic,
    state: &InstanceState,
    network: &Network,
    leases: &[NetworkLease],
) -> Found {
    if !network.managed || network.kind != "bridge" {
        return Err(format!("network {} is no bridge of Incus's", nic.network));
    }
    let keys = ["ipv4.address", "ipv6.address"];
    let subnets: Vec<Subnet> = keys
        .iter()
        .filter_map(|key| Subnet::parse(network.config.get(*key)?))
        .collect();
    let held = |lease: &&NetworkLease| {
        lease.hwaddr.eq_ignore_ascii_case(&nic.hwaddr)
            && ["dynamic", "static"].contains(&&*lease.kind)
    };
    let mut given: Vec<IpAddr> = leases
        .iter()
        .filter(held)
        .filter_map(|lease| lease.address.parse().ok())
        .filter(|address| subnets.iter().any(|subnet| subnet.has_guest(*address)))
        .collect();
    // IPv4 first: a guest has it sooner, and every gateway listens on it.
    given.sort_by_key(|address| (address.is_ipv6(), *address));
    if given.is_empty() {
        return Err(format!("network {} gave it none", nic.network));
    }
    let taken = taken(nic, state);
    let both = given.iter().find(|address| taken.contains(address));
    both.copied()
        .ok_or_else(|| format!("its guest has not taken {}", given[0]))
}

/// Addresses that the guest says it has on the interface.
fn taken(nic: &Nic, state: &InstanceState) -> Vec<IpAddr> {
    let interfaces = state.network.values();
    interfaces
        .filter(|interface| interface.hwaddr.eq_ignore_ascii_case(&nic.hwaddr))
        .flat_map(|interface| &interface.addresses)
        .filter(|address| address.scope == "global")
        .filter_map(|address| address.address.parse().ok())
        .collect()
}

/// The addresses of a bridge, with the host's own among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Subnet {
    host: IpAddr,
    prefix: u32,
}

impl Subnet {
    /// Of Incus's words, such as `10.0.0.1/24`; none for `none`.
    fn parse(text: &str) -> Option<Subnet> {
        let (host, prefix) = text.split_once('/')?;
        let host: IpAddr = host.parse().ok()?;
        let prefix = prefix.parse().ok()?;
        (prefix <= width(host)).then_some(Subnet { host, prefix })
    }

    /// Whether a guest on the bridge may have the address: it is in the subnet, and neither the host's own, nor the
    /// subnet's, nor everybody's.
    fn has_guest(self, address: IpAddr) -> bool {
        let width = width(self.host);
        if address.is_ipv4() != self.host.is_ipv4() || address == self.host {
            return false;
        }
        let hosts = width - self.prefix;
        let mask = 1_u128.checked_shl(hosts).map_or(u128::MAX, |bit| bit - 1);
        let inside = bits(address) | mask == bits(self.host) | mask;
        let rest = bits(address) & mask;
        let special = hosts > 1 && (rest == 0 || (rest == mask && address.is_ipv4()));
        inside && !special
    }
}

const fn width(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => Ipv4Addr::BITS,
        IpAddr::V6(_) => Ipv6Addr::BITS,
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MAC: &str = "10:66:6a:00:00:07";

    /// What is found where the bridge is 10.77.0.1/24, its leases are `leases`, and the guest shows `shown`.
    fn found(leases: &[(&str, &str)], shown: &[(&str, &str, &str)]) -> Found {
        let leases: Vec<NetworkLease> = leases
            .iter()
            .map(|(hwaddr, address)| NetworkLease {
                hwaddr: (*hwaddr).to_owned(),
                address: (*address).to_owned(),
                kind: "dynamic".to_owned(),
                ..NetworkLease::default()
            })
            .collect();
        let interfaces: serde_json::Map<String, serde_json::Value> = shown
            .iter()
            .enumerate()
            .map(|(number, (hwaddr, address, scope))| {
                let addresses = json!([{ "family": "inet", "address": address, "netmask": "24", "scope": scope }]);
                (format!("if{number}"), json!({ "hwaddr": hwaddr, "addresses": addresses }))
            })
            .collect();
        let state = json!({ "status_code": 103, "network": interfaces });
        let network = json!({
            "name": "br0", "type": "bridge", "managed": true, "config": { "ipv4.address": "10.77.0.1/24" },
        });
        address_of(
            &nic(),
            &serde_json::from_value(state).unwrap(),
            &serde_json::from_value(network).unwrap(),
            &leases,
        )
    }

    fn nic() -> Nic {
        Nic {
            network: "br0".to_owned(),
            hwaddr: MAC.to_owned(),
        }
    }

    #[test]
    fn the_address_is_the_one_that_was_given_and_taken() {
        let shown = [
            ("", "127.0.0.1", "local"),
            (MAC, "10.77.0.66", "global"),
            ("10:66:6A:00:00:07", "10.77.0.20", "global"),
        ];
        let leases = [("ff:00:00:00:00:01", "10.77.0.66"), (MAC, "10.77.0.20")];
        assert_eq!(found(&leases, &shown), Ok("10.77.0.20".parse().unwrap()));
    }

    #[test]
    fn what_only_a_guest_says_counts_for_nothing() {
        for claimed in [
            "127.0.0.1",
            "169.254.169.254",
            "10.77.0.1",
            "10.77.0.30",
            "192.0.2.7",
            "10.77.1.20",
        ] {
            let shown = [(MAC, claimed, "global")];
            // Another guest has 10.77.0.30.
            let leases = [("ff:00:00:00:00:01", "10.77.0.30")];
            assert_eq!(
                found(&leases, &shown),
                Err("network br0 gave it none".to_owned()),
                "{claimed}"
            );
            let leases = [(MAC, "10.77.0.20")];
            assert_eq!(
                found(&leases, &shown),
                Err("its guest has not taken 10.77.0.20".to_owned()),
                "{claimed}"
            );
        }
    }

    #[test]
    fn an_address_outside_of_the_bridge_or_of_the_host_is_none_even_with_a_lease() {
        for address in [
            "127.0.0.1",
            "10.77.0.1",
            "10.77.1.20",
            "10.77.0.0",
            "10.77.0.255",
            "::1",
            "",
        ] {
            let none = found(&[(MAC, address)], &[(MAC, address, "global")]);
            assert!(none.is_err(), "{address}");
        }
        let local = found(&[(MAC, "10.77.0.20")], &[(MAC, "10.77.0.20", "link")]);
        assert!(local.is_err());
        let other = found(&[(MAC, "10.77.0.20")], &[("", "10.77.0.20", "global")]);
        assert!(other.is_err());
    }

    #[test]
    fn only_a_bridge_of_incus_tells_what_it_gave() {
        let state: InstanceState = serde_json::from_value(json!({ "status_code": 103 })).unwrap();
        for network in [
            json!({ "type": "bridge", "managed": false }),
            json!({ "type": "physical", "managed": true }),
        ] {
            let network: Network = serde_json::from_value(network).unwrap();
            let why = address_of(&nic(), &state, &network, &[]).unwrap_err();
            assert_eq!(why, "network br0 is no bridge of Incus's");
        }
    }

    #[test]
    fn subnets_have_edges() {
        let subnet = |text| Subnet::parse(text).unwrap();
        let has = |text, address: &str| subnet(text).has_guest(address.parse().unwrap());
        assert!(has("10.0.0.1/8", "10.255.255.254") && !has("10.0.0.1/8", "11.0.0.1"));
        assert!(has("10.0.0.0/31", "10.0.0.1") && !has("10.0.0.0/32", "10.0.0.1"));
        assert!(has("0.0.0.1/0", "8.8.8.8") && !has("::1/0", "8.8.8.8"));
        assert!(has("fd00::1/64", "fd00::2") && !has("fd00::1/64", "fd00:0:0:1::2"));
        assert!(!has("fd00::1/64", "fd00::") && has("fd00::1/64", "fd00::ffff:ffff:ffff:ffff"));
        for none in ["none", "", "10.0.0.1", "10.0.0.1/33", "fd00::1/129", "x/8"] {
            assert_eq!(Subnet::parse(none), None, "{none}");
        }
    }

    #[test]
    fn interfaces_are_the_hosts_and_not_the_guests() {
        let instance: Instance = serde_json::from_value(json!({
            "name": "i", "type": "container", "status_code": 103,
            "config": { "volatile.eth0.hwaddr": "AA:00:00:00:00:01", "volatile.eth1.hwaddr": "aa:00:00:00:00:02" },
            "expanded_devices": {
                "eth0": { "type": "nic", "network": "br0" },
                "eth1": { "type": "nic", "nictype": "bridged", "parent": "lan" },
                "eth2": { "type": "nic", "network": "br2", "hwaddr": "aa:00:00:00:00:03" },
                "root": { "type": "disk", "path": "/", "network": "br0" },
            },
        }))
        .unwrap();
        let found: Vec<_> = nics(&instance)
            .into_iter()
            .map(|nic| (nic.network, nic.hwaddr))
            .collect();
        let of = |network: &str, hwaddr: &str| (network.to_owned(), hwaddr.to_owned());
        assert_eq!(
            found,
            [
                of("br0", "aa:00:00:00:00:01"),
                of("br2", "aa:00:00:00:00:03")
            ]
        );
    }
}
