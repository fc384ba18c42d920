//! How a box refuses: in silence, with a reset, with an ICMP error.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Cause, Touched, Verdict};
use crate::{
    model::{Ruling, Side},
    packet::{Packet, Trouble},
};

/// The addresses in whose name a box complains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgeAddress {
    /// For IPv4.
    pub ipv4: Ipv4Addr,
    /// For IPv6.
    pub ipv6: Ipv6Addr,
}

impl EdgeAddress {
    /// Those of the edge with this number: from the networks for measurements (RFC 2544,
    /// RFC 5180), which no host of a scenario should have.
    pub fn of(number: usize) -> Self {
        let number = u16::try_from(number.saturating_add(1)).unwrap_or(u16::MAX);
        let [high, low] = number.to_be_bytes();
        Self {
            ipv4: Ipv4Addr::new(198, 18, high, low),
            ipv6: Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, number),
        }
    }

    /// The one that can complain to this address.
    pub const fn toward(self, other: IpAddr) -> IpAddr {
        match other {
            IpAddr::V4(_) => IpAddr::V4(self.ipv4),
            IpAddr::V6(_) => IpAddr::V6(self.ipv6),
        }
    }
}

/// Refuses a packet that came from a side.
pub(super) fn refuse(
    (ruling, why): (Ruling, Cause),
    by: EdgeAddress,
    from: Side,
    packet: Packet,
    out: (&mut Touched, &mut Vec<Verdict>),
) {
    let (touched, verdicts) = out;
    touched.count(why);
    let complaint = || packet.error(Trouble::Prohibited, by.toward(packet.source()));
    let answer = match ruling {
        Ruling::Drop | Ruling::Allow => None,
        Ruling::Reject => complaint(),
        Ruling::Reset if packet.sequence().is_some() => packet.reset(),
        Ruling::Reset => complaint(),
    };
    if let Some(answer) = answer {
        verdicts.push(Verdict::Forward {
            to: from,
            packet: answer,
        });
    }
    verdicts.push(Verdict::Drop { packet, why });
}
