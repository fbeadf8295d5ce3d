//! Which addresses and names a cluster has. Pure: a slot number decides all of them.

use std::net::Ipv4Addr;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// How many clusters a machine can hold.
const SLOTS: u8 = 32;

/// Bits of a cluster's pod network: 4,093 pods fit beside the node.
const PREFIX: u8 = 20;

/// One cluster's share of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Slot(u8);

impl Slot {
    /// The first slot that neither a known cluster nor a route of the machine uses.
    pub(crate) fn pick(taken: &[Slot], routes: &[(Ipv4Addr, u8)]) -> Result<Self> {
        let free = (0..SLOTS).map(Slot).find(|slot| {
            let (network, prefix) = slot.subnet();
            !taken.contains(slot) && !routes.iter().any(|route| overlap((network, prefix), *route))
        });
        match free {
            Some(slot) => Ok(slot),
            None => bail!("all {SLOTS} cluster networks (10.176.0.0 to 10.207.0.0) are in use: take a cluster down"),
        }
    }

    /// The network that its pods get addresses from.
    pub(crate) fn subnet(self) -> (Ipv4Addr, u8) {
        (Ipv4Addr::new(10, 176 + self.0, 0, 0), PREFIX)
    }

    /// The node's address, which is also the pods' gateway: it lives on the bridge and goes with it.
    pub(crate) fn node_address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 176 + self.0, 0, 1)
    }

    /// The network device that joins the node and its pods.
    pub(crate) fn bridge(self) -> String {
        format!("podrun{}", self.0)
    }

    /// The hardware address of that device.
    pub(crate) fn bridge_mac(self) -> String {
        let [a, b, c, d] = self.node_address().octets();
        format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
    }
}

/// Whether two networks share an address.
fn overlap(one: (Ipv4Addr, u8), other: (Ipv4Addr, u8)) -> bool {
    let shorter = one.1.min(other.1);
    let mask = u32::MAX.checked_shl(32 - u32::from(shorter)).unwrap_or(0);
    u32::from(one.0) & mask == u32::from(other.0) & mask
}

/// The destinations in the output of `ip -4 -o route show`; the default route stands for no network in particular.
pub(crate) fn routes(output: &str) -> Vec<(Ipv4Addr, u8)> {
    let destination = |line: &str| {
        let mut words = line.split_whitespace();
        let first = words.next()?;
        let word = if first.starts_with(|c: char| c.is_ascii_digit()) {
            first
        } else {
            words.next()?
        };
        let (address, prefix) = word.split_once('/').unwrap_or((word, "32"));
        Some((
            address.parse().ok()?,
            prefix.parse().ok().filter(|prefix| *prefix <= 32)?,
        ))
    };
    output.lines().filter_map(destination).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_differ_in_everything() {
        let (one, other) = (Slot(0), Slot(1));
        assert!(!overlap(one.subnet(), other.subnet()));
        assert_ne!(one.node_address(), other.node_address());
        assert_ne!(one.bridge(), other.bridge());
    }

    #[test]
    fn a_slot_is_not_given_twice_nor_over_a_network_of_the_machine() {
        let routes = routes(
            "default via 192.0.2.1 dev eth0 \n10.177.3.0/24 dev docker0 proto kernel\nblackhole 10.179.0.0/16\n",
        );
        assert_eq!(
            routes,
            [("10.177.3.0".parse().unwrap(), 24), ("10.179.0.0".parse().unwrap(), 16)]
        );
        assert_eq!(Slot::pick(&[Slot(0)], &routes).unwrap(), Slot(2));
        assert_eq!(Slot::pick(&[Slot(0), Slot(2)], &routes).unwrap(), Slot(4));
        let all: Vec<Slot> = (0..SLOTS).map(Slot).collect();
        assert!(Slot::pick(&all, &[]).is_err());
    }

    #[test]
    fn a_wide_route_covers_every_slot() {
        assert!(Slot::pick(&[], &[("10.0.0.0".parse().unwrap(), 8)]).is_err());
        assert!(overlap(("10.0.0.0".parse().unwrap(), 0), Slot(3).subnet()));
    }
}
