//! Owns the question whether the guest has a way out: a default route, and name servers where names are resolved by
//! systemd-resolved. Asks the kernel's tables and the guest's files, and nobody outside.

use std::time::{Duration, Instant};

use crate::wait;

const PAUSE: Duration = Duration::from_millis(5);
const RTF_UP: u64 = 1;
const RTF_REJECT: u64 = 0x200;

/// Why a wait for the network ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkWait {
    /// There is a default route, and names can be asked for.
    Route,
    /// There is not, and the time is over.
    TimedOut,
    /// Somebody asked to stop.
    Stopped,
}

/// Waits for a default route and its name servers, at most `limit`, unless `stopped` says otherwise.
#[must_use]
pub fn wait_for_default_route(limit: Duration, mut stopped: impl FnMut() -> bool) -> NetworkWait {
    let ended = wait::until(Instant::now() + limit, PAUSE, || {
        if has_default_route() && knows_name_servers() {
            Some(NetworkWait::Route)
        } else {
            stopped().then_some(NetworkWait::Stopped)
        }
    });
    ended.unwrap_or(NetworkWait::TimedOut)
}

fn has_default_route() -> bool {
    let table = |path| std::fs::read_to_string(path).unwrap_or_default();
    has_default_v4(&table("/proc/net/route")) || has_default_v6(&table("/proc/net/ipv6_route"))
}

/// Where `/etc/resolv.conf` is resolved's, resolved has to have heard of a server. Other images know theirs.
fn knows_name_servers() -> bool {
    let of_resolved = std::fs::read_link("/etc/resolv.conf")
        .is_ok_and(|target| target.to_string_lossy().contains("systemd/resolve/"));
    !of_resolved
        || has_name_server(
            &std::fs::read_to_string("/run/systemd/resolve/resolv.conf").unwrap_or_default(),
        )
}

fn has_name_server(resolv_conf: &str) -> bool {
    resolv_conf
        .lines()
        .any(|line| line.split_ascii_whitespace().next() == Some("nameserver"))
}

fn has_default_v4(table: &str) -> bool {
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let destination = fields.next();
        let flags = fields
            .nth(1)
            .and_then(|flags| u64::from_str_radix(flags, 16).ok())
            .unwrap_or_default();
        let mask = fields.nth(3);
        destination == Some("00000000")
            && mask == Some("00000000")
            && flags & RTF_UP != 0
            && flags & RTF_REJECT == 0
    })
}

fn has_default_v6(table: &str) -> bool {
    table.lines().any(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [destination, length, .., flags, device] = fields[..] else {
            return false;
        };
        let flags = u64::from_str_radix(flags, 16).unwrap_or_default();
        let any = length == "00" && destination.bytes().all(|byte| byte == b'0');
        any && device != "lo" && flags & RTF_UP != 0 && flags & RTF_REJECT == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_route_is_known_from_others() {
        let head =
            "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n";
        let link = "eth0\t0018B10A\t00000000\t0001\t0\t0\t1024\t00FFFFFF\t0\t0\t0\n";
        let default = "eth0\t00000000\t0118B10A\t0003\t0\t0\t1024\t00000000\t0\t0\t0\n";
        assert!(!has_default_v4(""));
        assert!(!has_default_v4(&format!("{head}{link}")));
        assert!(has_default_v4(&format!("{head}{link}{default}")));
    }

    #[test]
    fn a_comment_is_no_name_server() {
        assert!(!has_name_server("# No DNS servers known.\n"));
        assert!(has_name_server(
            "# managed\nnameserver 10.0.0.1\nsearch incus\n"
        ));
    }

    #[test]
    fn the_reject_route_of_the_loopback_is_no_way_out() {
        let zeros = "00000000000000000000000000000000";
        let reject =
            format!("{zeros} 00 {zeros} 00 {zeros} ffffffff 00000001 00000000 00200200       lo\n");
        let default = format!(
            "{zeros} 00 {zeros} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n"
        );
        assert!(!has_default_v6(&reject));
        assert!(has_default_v6(&format!("{reject}{default}")));
        assert!(!has_default_v6("rubbish\n"));
    }
}
