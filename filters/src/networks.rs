//! A set of networks, asked for every request: sorted ranges, so that a list of thousands costs a dozen comparisons.

use std::net::IpAddr;

use ipnet::IpNet;

/// Networks of both families. IPv4-mapped ones (`::ffff:10.0.0.0/104`) are the IPv4 networks that they stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Networks {
    /// First and last address, both families apart, in order and without overlap.
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
    /// The first of them as they were written.
    shown: String,
}

/// As many are shown to people.
const SHOWN: usize = 8;

impl Networks {
    pub fn new(networks: &[IpNet]) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in IpNet::aggregate(&networks.iter().copied().map(folded).collect()) {
            match network {
                IpNet::V4(network) => v4.push((network.network().to_bits(), network.broadcast().to_bits())),
                IpNet::V6(network) => v6.push((network.network().to_bits(), network.broadcast().to_bits())),
            }
        }
        v4.sort_unstable();
        v6.sort_unstable();
        let first: Vec<String> = networks.iter().take(SHOWN).map(IpNet::to_string).collect();
        let mut shown = first.join(", ");
        if networks.len() > SHOWN {
            shown += &format!(" and {} more", networks.len() - SHOWN);
        }
        Self { v4: v4.into(), v6: v6.into(), shown }
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => holds(&self.v4, address.to_bits()),
            IpAddr::V6(address) => holds(&self.v6, address.to_bits()),
        }
    }

    /// For people: `10.0.0.0/8, fd00::/8`.
    pub fn explain(&self) -> &str {
        &self.shown
    }
}

/// The last range that does not begin behind it is the only one that can hold it.
fn holds<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
    let behind = ranges.partition_point(|(first, _)| *first <= address);
    behind > 0 && address <= ranges[behind - 1].1
}

/// Addresses of clients are folded to IPv4 where they can be; a network that was not would match none of them.
fn folded(network: IpNet) -> IpNet {
    match network {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => v6
            .addr()
            .to_ipv4_mapped()
            .and_then(|v4| ipnet::Ipv4Net::new(v4, v6.prefix_len() - 96).ok())
            .map_or(network, IpNet::V4),
        _ => network,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn networks(list: &[&str]) -> Networks {
        Networks::new(&list.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>())
    }

    #[test]
    fn both_spellings_of_an_ipv4_address_are_one() {
        for list in ["10.1.0.0/16", "::ffff:10.1.0.0/112", "10.1.2.3/16"] {
            let set = networks(&[list, "fd00::/8"]);
            for inside in ["10.1.0.0", "10.1.255.255", "::ffff:10.1.7.7", "fd12::1"] {
                assert!(set.contains(inside.parse().unwrap()), "{list} {inside}");
            }
            for outside in ["10.0.255.255", "10.2.0.0", "::ffff:10.2.0.0", "::10.1.0.0", "fc00::1", "fe00::1"] {
                assert!(!set.contains(outside.parse().unwrap()), "{list} {outside}");
            }
        }
    }

    #[test]
    fn everyone_of_one_family_is_nobody_of_the_other() {
        let set = networks(&["0.0.0.0/0"]);
        assert!(set.contains("255.255.255.255".parse().unwrap()) && set.contains("::ffff:1.2.3.4".parse().unwrap()));
        assert!(!set.contains("2001:db8::1".parse().unwrap()));
        let set = networks(&["::/0"]);
        assert!(set.contains("2001:db8::1".parse().unwrap()) && !set.contains("1.2.3.4".parse().unwrap()));
    }

    #[test]
    fn a_long_list_is_shown_by_its_beginning() {
        let many: Vec<IpNet> = (0..11_u8).map(|n| format!("10.{n}.0.0/16").parse().unwrap()).collect();
        assert!(Networks::new(&many).explain().ends_with("10.7.0.0/16 and 3 more"));
    }

    proptest! {
        #[test]
        fn it_agrees_with_asking_each(
            list in prop::collection::vec((any::<u32>(), 0..=32_u8), 1..20),
            asked in prop::collection::vec(any::<u32>(), 20),
        ) {
            let list: Vec<IpNet> =
                list.into_iter().map(|(bits, prefix)| ipnet::Ipv4Net::new(bits.into(), prefix).unwrap().into()).collect();
            let set = Networks::new(&list);
            let edges = list.iter().flat_map(|network| [network.network(), network.broadcast()]);
            for address in asked.into_iter().map(|bits| IpAddr::V4(bits.into())).chain(edges) {
                prop_assert_eq!(set.contains(address), list.iter().any(|network| network.contains(&address)));
            }
        }
    }
}
