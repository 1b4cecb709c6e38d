//! The bridge of a private daemon: a subnet that nobody uses, and its removal.
//!
//! Owns the choice of the subnet and what is left of a bridge on the host (links and nftables chains). Never touches
//! a chain of another bridge, or a link that is neither the bridge nor one of its ports.

use std::net::Ipv4Addr;
use std::process::Command;

use crate::program::{self, ProgramError};

/// Families of nftables in which Incus keeps a table of its own.
const NFT_FAMILIES: [&str; 4] = ["inet", "ip", "ip6", "bridge"];
/// Beginnings of the names of a bridge's chains in the table `incus`.
const NFT_CHAINS: [&str; 7] = ["pstrt", "fwd", "in", "out", "egress", "acl", "prert"];
/// Ranges that subnets are taken from: first two bytes, in this order.
const RANGES: [[u8; 2]; 3] = [[10, 178], [172, 29], [192, 168]];

/// A network that is already routed on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Taken {
    address: u32,
    prefix: u8,
}

/// The address with prefix for a bridge, `10.178.4.1/24`, from a range that no route of this host overlaps.
pub(crate) fn free_address(start: u8) -> Result<Option<String>, ProgramError> {
    let routes = program::run(
        Command::new(program::find("ip").unwrap_or_else(|| "ip".into()))
            .args(["-4", "route", "show", "table", "all"]),
    )?;
    Ok(choose(&parse_routes(&routes), start))
}

fn choose(taken: &[Taken], start: u8) -> Option<String> {
    RANGES.iter().find_map(|[a, b]| {
        (0..=255u8).find_map(|step| {
            let third = start.wrapping_add(step);
            let network = u32::from(Ipv4Addr::new(*a, *b, third, 0));
            let free = !taken.iter().any(|other| overlaps(*other, network, 24));
            free.then(|| format!("{a}.{b}.{third}.1/24"))
        })
    })
}

fn overlaps(taken: Taken, network: u32, prefix: u8) -> bool {
    let shorter = u32::from(taken.prefix.min(prefix));
    shorter == 0 || (taken.address ^ network) >> (32 - shorter) == 0
}

/// Networks in the words of `ip -4 route show table all`; the default route stands in nobody's way.
fn parse_routes(text: &str) -> Vec<Taken> {
    text.lines()
        .filter_map(|line| {
            line.split_whitespace().take(2).find_map(|word| {
                let (address, prefix) = word.split_once('/').unwrap_or((word, "32"));
                Some(Taken {
                    address: u32::from(address.parse::<Ipv4Addr>().ok()?),
                    prefix: prefix.parse().ok().filter(|bits| *bits <= 32)?,
                })
            })
        })
        .filter(|taken| taken.prefix > 0)
        .collect()
}

/// Whether a link of this name exists.
pub(crate) fn link_exists(bridge: &str) -> bool {
    std::path::Path::new("/sys/class/net").join(bridge).exists()
}

/// The links that are plugged into the bridge. A daemon that was killed while it started an instance leaves the pair for
/// the instance's network card: one end here, the other loose on the host. Once the bridge is gone nothing tells whose
/// they were.
fn ports(bridge: &str) -> Vec<String> {
    let folder = std::path::Path::new("/sys/class/net")
        .join(bridge)
        .join("brif");
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

fn delete_link(link: &str) -> Result<(), ProgramError> {
    let ip = program::find("ip").unwrap_or_else(|| "ip".into());
    match program::run(Command::new(ip).args(["link", "delete", link])) {
        // The kernel removes a link with the namespace that it was in, at any time.
        Err(_) if !link_exists(link) => Ok(()),
        other => other.map(drop),
    }
}

/// Removes the bridge with its ports, and its chains; done and already so are the same.
pub(crate) fn remove(bridge: &str) -> Result<(), ProgramError> {
    for link in ports(bridge).iter().map(String::as_str).chain([bridge]) {
        if link_exists(link) {
            delete_link(link)?;
        }
    }
    let Some(nft) = program::find("nft") else {
        return Ok(());
    };
    let ruleset = program::run(Command::new(&nft).args(["list", "ruleset"]))?;
    for (family, chain) in chains_of(&ruleset, bridge) {
        let transaction =
            format!("flush chain {family} incus {chain}\ndelete chain {family} incus {chain}\n");
        program::run_with_input(Command::new(&nft).args(["-f", "-"]), &transaction)?;
    }
    for family in empty_tables(&program::run(Command::new(&nft).args(["list", "ruleset"]))?) {
        program::run(Command::new(&nft).args(["delete", "table", family, "incus"]))?;
    }
    Ok(())
}

/// What is left of a bridge on this host, in words.
pub(crate) fn leftovers(bridge: &str) -> Result<Vec<String>, ProgramError> {
    let mut found = Vec::new();
    if link_exists(bridge) {
        let links = ports(bridge).into_iter().chain([bridge.to_owned()]);
        found.extend(links.map(|link| format!("network link {link}")));
    }
    if let Some(nft) = program::find("nft") {
        let ruleset = program::run(Command::new(nft).args(["list", "ruleset"]))?;
        found.extend(
            chains_of(&ruleset, bridge)
                .into_iter()
                .map(|(family, chain)| format!("nftables chain {family} incus {chain}")),
        );
    }
    Ok(found)
}

fn chains_of(ruleset: &str, bridge: &str) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let mut family = None;
    for line in ruleset.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["table", name, table, ..] => {
                family = NFT_FAMILIES
                    .into_iter()
                    .find(|known| known == name && *table == "incus");
            }
            ["chain", chain, ..] => {
                if let (Some(family), Some((kind, of))) = (family, chain.split_once('.'))
                    && NFT_CHAINS.contains(&kind)
                    && of == bridge
                {
                    found.push((family, (*chain).to_owned()));
                }
            }
            _ => {}
        }
    }
    found
}

/// Families whose table `incus` has nothing in it.
fn empty_tables(ruleset: &str) -> Vec<&'static str> {
    let lines: Vec<&str> = ruleset.lines().map(str::trim).collect();
    NFT_FAMILIES
        .into_iter()
        .filter(|family| {
            let head = format!("table {family} incus {{");
            lines
                .windows(2)
                .any(|pair| pair[0] == head && pair[1] == "}")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = "default via 192.0.2.1 dev eth0\n10.178.3.0/24 dev dev3 proto kernel\n\
        local 10.178.4.1 dev dev4 table local\nbroadcast 10.178.5.255 dev dev5 table local\n10.64.0.0/12 via 192.0.2.9";

    #[test]
    fn a_subnet_that_is_routed_in_any_way_is_passed_over() {
        let taken = parse_routes(ROUTES);
        assert_eq!(taken.len(), 4, "{taken:?}");
        assert_eq!(choose(&taken, 3).as_deref(), Some("10.178.6.1/24"));
        assert_eq!(choose(&taken, 255).as_deref(), Some("10.178.255.1/24"));
    }

    #[test]
    fn a_range_that_is_all_taken_leads_to_the_next() {
        let taken = parse_routes("10.0.0.0/8 via 192.0.2.9 dev eth0");
        assert_eq!(choose(&taken, 7).as_deref(), Some("172.29.7.1/24"));
        let all = parse_routes("0.0.0.0/1 dev tun0\n128.0.0.0/1 dev tun0");
        assert_eq!(choose(&all, 0), None);
    }

    #[test]
    fn only_chains_of_the_bridge_in_incus_own_table_are_ours() {
        let ruleset = "table inet other {\n\tchain fwd.ph1 {\n\t}\n}\ntable inet incus {\n\tchain pstrt.ph1 {\n\t\ttype nat\n\
            \t}\n\tchain fwd.ph12 {\n\t}\n\tchain in.ph1 {\n\t}\n}\ntable ip incus {\n}\n";
        assert_eq!(
            chains_of(ruleset, "ph1"),
            [
                ("inet", "pstrt.ph1".to_owned()),
                ("inet", "in.ph1".to_owned())
            ]
        );
        assert_eq!(empty_tables(ruleset), ["ip"]);
    }
}
