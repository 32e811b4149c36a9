//! Which addresses are public (sans-I/O).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether `address` is one of the public Internet, as far as its number says: neither of this machine
/// nor of a network of its own, nor one that stands for another address.
///
/// An IPv6 address that holds an IPv4 address (mapped, compatible, NAT64, 6to4, Teredo) is never public
/// here: a translator on the way may make of it whatever it holds.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// By the registry of special addresses (RFC 6890 and what has come since).
fn is_public_v4(address: Ipv4Addr) -> bool {
    const SPECIAL: [([u8; 4], u32); 15] = [
        // "This" network, the unspecified address among them.
        ([0, 0, 0, 0], 8),
        // Private networks.
        ([10, 0, 0, 0], 8),
        ([172, 16, 0, 0], 12),
        ([192, 168, 0, 0], 16),
        // Those of carriers.
        ([100, 64, 0, 0], 10),
        // This machine.
        ([127, 0, 0, 0], 8),
        // The link: where clouds tell a machine its credentials.
        ([169, 254, 0, 0], 16),
        // Protocols, documentation, 6to4 relays, benchmarks.
        ([192, 0, 0, 0], 24),
        ([192, 0, 2, 0], 24),
        ([192, 88, 99, 0], 24),
        ([198, 18, 0, 0], 15),
        ([198, 51, 100, 0], 24),
        ([203, 0, 113, 0], 24),
        // Groups, and what is reserved, broadcast among it.
        ([224, 0, 0, 0], 4),
        ([240, 0, 0, 0], 4),
    ];
    let bits = u32::from(address);
    !SPECIAL
        .iter()
        .any(|(network, length)| (bits ^ u32::from_be_bytes(*network)) >> (32 - length) == 0)
}

/// By the same for version 6. Only 2000::/3 is given out as global unicast.
fn is_public_v6(address: Ipv6Addr) -> bool {
    const SPECIAL: [([u16; 2], u32); 4] = [
        // Protocols, Teredo among them.
        ([0x2001, 0], 23),
        // Documentation, twice.
        ([0x2001, 0x0db8], 32),
        ([0x3fff, 0], 20),
        // 6to4.
        ([0x2002, 0], 16),
    ];
    let [first, second, ..] = address.segments();
    let bits = u32::from(first) << 16 | u32::from(second);
    let is_global = first >> 13 == 1;
    is_global
        && !SPECIAL.iter().any(|([first, second], length)| {
            (bits ^ (u32::from(*first) << 16 | u32::from(*second))) >> (32 - length) == 0
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> bool {
        is_public(text.parse().expect("an address"))
    }

    #[test]
    fn addresses_of_the_internet_are_public() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00:1450:4001::1",
            "2001:4860:4860::8888",
            "2003::1",
        ] {
            assert!(of(address), "{address}");
        }
    }

    #[test]
    fn all_others_are_not() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            // Mapped and compatible, of private addresses and of public ones.
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::127.0.0.1",
            "::8.8.8.8",
            // NAT64, its local form, 6to4, Teredo.
            "64:ff9b::7f00:1",
            "64:ff9b::808:808",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:808:808::",
            "2001:0:808:808::1",
            // Discard, documentation, unique local, link, site, groups.
            "100::1",
            "2001:db8::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!of(address), "{address}");
        }
    }

    proptest! {
        /// What the standard library knows as special is never public here.
        #[test]
        fn it_is_no_laxer_than_the_standard_library(bits in any::<u32>(), wide in any::<u128>()) {
            let address = Ipv4Addr::from(bits);
            let special = address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_multicast()
                || address.is_broadcast()
                || address.is_documentation()
                || address.is_unspecified();
            prop_assert!(!(special && is_public(address.into())), "{}", address);
            prop_assert!(!is_public(address.to_ipv6_mapped().into()));
            prop_assert!(!is_public(address.to_ipv6_compatible().into()));
            let address = Ipv6Addr::from(wide);
            let special = address.is_loopback()
                || address.is_multicast()
                || address.is_unspecified()
                || address.is_unique_local()
                || address.is_unicast_link_local()
                || address.to_ipv4().is_some();
            prop_assert!(!(special && is_public(address.into())), "{}", address);
        }
    }
}
