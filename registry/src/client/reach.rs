//! How far inside of a network an address is. A registry may send its readers elsewhere, but never further inside than it is
//! itself: who asks a public registry isn't made to ask something of their own network for it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Who can reach an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Reach {
    /// Everybody.
    Public,
    /// Who is in the same network.
    Private,
    /// This machine.
    Loopback,
    /// Nobody should be sent there: link-local addresses, where clouds have their metadata servers, and what is reserved.
    Never,
}

impl Reach {
    /// That of an address.
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => of_v4(address),
            IpAddr::V6(address) => of_v6(address),
        }
    }

    /// Whether who is there may send its readers to such an address.
    pub(super) fn may_lead_to(self, other: Self) -> bool {
        other != Self::Never && (other == Self::Public || other == self)
    }
}

fn of_v4(address: Ipv4Addr) -> Reach {
    match address.octets() {
        [127, ..] => Reach::Loopback,
        [10, ..] | [192, 168, ..] => Reach::Private,
        [172, second, ..] if second & 0xf0 == 16 => Reach::Private,
        // RFC 6598: behind a provider's translation.
        [100, second, ..] if second & 0xc0 == 64 => Reach::Private,
        [0 | 224..=255, ..] | [169, 254, ..] | [192, 0, 0, _] | [198, 18..=19, ..] => Reach::Never,
        _ => Reach::Public,
    }
}

fn of_v6(address: Ipv6Addr) -> Reach {
    let [first, second, third, _, _, _, high, low] = address.segments();
    let embedded = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
        of_v4(Ipv4Addr::new(a, b, c, d))
    };
    match first {
        _ if address == Ipv6Addr::LOCALHOST => Reach::Loopback,
        // NAT64 (RFC 6052) and 6to4 (RFC 3056) have an IPv4 address in them.
        0x0064 if second == 0xff9b => embedded(high, low),
        0x2002 => embedded(second, third),
        // Teredo, RFC 4380.
        0x2001 if second == 0 => Reach::Never,
        0x2000..=0x3fff => Reach::Public,
        0xfc00..=0xfdff => Reach::Private,
        _ => Reach::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_led_further_inside() {
        let reach = |text: &str| Reach::of(text.parse().unwrap());
        let [public, private, loopback] = ["8.8.8.8", "10.0.0.5", "127.0.0.1"].map(reach);
        for (address, from_public, from_private, from_loopback) in [
            ("8.8.4.4", true, true, true),
            ("2600::1", true, true, true),
            ("10.9.9.9", false, true, false),
            ("172.31.0.1", false, true, false),
            ("192.168.1.1", false, true, false),
            ("100.64.0.1", false, true, false),
            ("fd00::1", false, true, false),
            ("::ffff:10.0.0.1", false, true, false),
            ("64:ff9b::10.0.0.1", false, true, false),
            ("2002:a00:1::", false, true, false),
            ("127.9.9.9", false, false, true),
            ("::1", false, false, true),
            ("::ffff:127.0.0.1", false, false, true),
            ("169.254.169.254", false, false, false),
            ("::ffff:169.254.169.254", false, false, false),
            ("64:ff9b::169.254.169.254", false, false, false),
            ("fe80::1", false, false, false),
            ("0.0.0.0", false, false, false),
            ("::", false, false, false),
            ("224.0.0.1", false, false, false),
            ("255.255.255.255", false, false, false),
            ("2001::1", false, false, false),
        ] {
            let leads = [public, private, loopback].map(|from| from.may_lead_to(reach(address)));
            assert_eq!(leads, [from_public, from_private, from_loopback], "{address}");
        }
    }
}
