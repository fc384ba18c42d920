//! Edges: routers, and the boxes that stand on them.

use std::{net::IpAddr, time::Duration};

use ipnet::{IpNet, Ipv6Net};

use super::preset::Preset;
use crate::term::{At, Choice, Name, PortRange, Size, Text, record, words};

record! {
    /// What forwards packets between its cables. Packets that change sides pass its
    /// boxes, in the order of this table from inside to outside, and back in the
    /// reverse; packets that stay on a side pass none. Without boxes it is a router.
    pub struct Edge {
        /// What events call it.
        "name" name: At<Name>,
        /// Lies about names.
        "dns" dns: Vec<DnsRule> = vec![],
        /// Swallows packets that are too long, and what would tell of it.
        "black-hole" black_hole: Option<BlackHole> = None,
        /// Lets no UDP through.
        "udp-block" udp_block: Option<UdpBlock> = None,
        /// Looks into connections.
        "dpi" dpi: Option<Dpi> = None,
        /// Knows flows, and lets in what belongs to one.
        "firewall" firewall: Option<Firewall> = None,
        /// Changes addresses and ports.
        "nat" nat: Option<At<Nat>> = None,
        /// Lets IPv6 reach IPv4.
        "nat64" nat64: Option<At<Nat64>> = None,
        /// When firewall and NAT forget a flow.
        "idle" idle: Idle = Idle { preset: None, tcp: None, udp: None, icmp: None, expired: None },
        /// In the lab, firewall and NAT are the kernel's own (nftables, conntrack).
        "kernel" kernel: bool = false,
    }
}

words! {
    /// What becomes of a packet.
    pub enum Ruling as "ruling" {
        /// It passes.
        "allow" Allow,
        /// It is gone, and nobody hears of it.
        "drop" Drop,
        /// TCP hears a reset, everything else as with `reject`.
        "reset" Reset,
        /// Its sender hears ICMP administratively prohibited, in the edge's name.
        "reject" Reject,
    }
}

words! {
    /// What a packet carries.
    pub enum Protocol as "protocol" {
        /// TCP.
        "tcp" Tcp,
        /// UDP.
        "udp" Udp,
        /// ICMP of either family.
        "icmp" Icmp,
    }
}

record! {
    /// A stateful firewall. Packets of a known flow pass; a new one from inside asks the
    /// rules, and the first that fits decides; a new one from outside never passes.
    pub struct Firewall {
        /// Rules for flows from inside.
        "rules" rules: Vec<Rule> = vec![],
        /// For what no rule fits.
        "otherwise" otherwise: Ruling = Ruling::Allow,
        /// What a packet from outside gets that belongs to no flow; not `allow`.
        "unsolicited" unsolicited: At<Ruling> = At::nowhere(Ruling::Drop),
        /// Whether TCP in the middle of a flow that nobody knows opens one (conntrack's
        /// `tcp_loose`). Real firewalls do not.
        "loose" loose: bool = false,
    }
}

record! {
    /// A rule of a firewall. It fits where all that it names fits.
    pub struct Rule {
        /// Sources; none is any.
        "from" from: Vec<IpNet> = vec![],
        /// Destinations; none is any.
        "to" to: Vec<IpNet> = vec![],
        /// The protocol; none is any.
        "protocol" protocol: Option<Protocol> = None,
        /// Destination ports; none is any.
        "ports" ports: Vec<PortRange> = vec![],
        /// What becomes of the packet.
        "do" ruling: Ruling,
    }
}

words! {
    /// Upon what a NAT's mapping or filter depends (RFC 4787).
    pub enum Dependence as "behaviour" {
        /// On the inner end alone.
        "endpoint-independent" Endpoint,
        /// On the outer address too.
        "address-dependent" Address,
        /// On the outer address and port too.
        "address-and-port-dependent" AddressAndPort,
    }
}

record! {
    /// Network address and port translation.
    pub struct Nat {
        /// Its outer addresses.
        "addresses" addresses: Vec<At<IpAddr>>,
        /// When two flows of an inner end share an outer one.
        "mapping" mapping: Dependence = Dependence::Endpoint,
        /// Who may answer to an outer end.
        "filtering" filtering: Dependence = Dependence::AddressAndPort,
        /// Its outer ports, of each address.
        "ports" ports: PortRange = PortRange { first: 1024, last: 65535 },
        /// Whether a flow keeps its inner port where that is free outside.
        "keep-port" keep_port: bool = true,
        /// How many outer ports of a protocol an inner host may have at once; none is all.
        "ports-per-host" ports_per_host: Option<At<u32>> = None,
        /// Whether inner hosts reach each other by their outer ends.
        "hairpin" hairpin: bool = false,
        /// What a new flow gets when no port is left; not `allow`.
        "exhausted" exhausted: At<Ruling> = At::nowhere(Ruling::Drop),
    }
}

record! {
    /// Stateful translation from IPv6 to IPv4 (RFC 6146).
    pub struct Nat64 {
        /// IPv4 addresses appear inside under this prefix; 96 bits long.
        "prefix" prefix: At<Ipv6Net> = At::nowhere(Nat64::WELL_KNOWN),
        /// Its outer address.
        "address" address: At<std::net::Ipv4Addr>,
        /// Its outer ports.
        "ports" ports: PortRange = PortRange { first: 1024, last: 65535 },
    }
}

impl Nat64 {
    /// 64:ff9b::/96 (RFC 6052).
    pub const WELL_KNOWN: Ipv6Net =
        Ipv6Net::new_assert(std::net::Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);
}

words! {
    /// What a packet gets that belongs to a forgotten flow.
    pub enum Expired as "answer" {
        /// Nothing.
        "silent" Silent,
        /// TCP hears a reset.
        "reset" Reset,
    }
}

record! {
    /// When a flow is forgotten in which nothing moves. What is not given is as the
    /// preset has it, and never where there is none.
    pub struct Idle {
        /// As a known device does it.
        "preset" preset: Option<Preset> = None,
        /// An established TCP connection.
        "tcp" tcp: Option<Choice<Duration>> = None,
        /// UDP.
        "udp" udp: Option<Choice<Duration>> = None,
        /// ICMP.
        "icmp" icmp: Option<Choice<Duration>> = None,
        /// What the next packet gets.
        "expired" expired: Option<Expired> = None,
    }
}

/// [`Idle`] with its preset worked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Of established TCP; none is never.
    pub tcp: Option<Duration>,
    /// Of UDP.
    pub udp: Option<Duration>,
    /// Of ICMP.
    pub icmp: Option<Duration>,
    /// What the next packet gets.
    pub expired: Expired,
}

impl Timeouts {
    /// A box that forgets nothing.
    pub const NEVER: Self = Self {
        tcp: None,
        udp: None,
        icmp: None,
        expired: Expired::Silent,
    };
}

impl Idle {
    /// What is in force.
    pub fn timeouts(&self) -> Timeouts {
        let base = self.preset.map_or(Timeouts::NEVER, Preset::timeouts);
        let own = |given: &Option<Choice<Duration>>| given.as_ref().map(Choice::get);
        Timeouts {
            tcp: own(&self.tcp).or(base.tcp),
            udp: own(&self.udp).or(base.udp),
            icmp: own(&self.icmp).or(base.icmp),
            expired: self.expired.unwrap_or(base.expired),
        }
    }
}

record! {
    /// No UDP passes.
    pub struct UdpBlock {
        /// Ports that pass all the same; DNS as a rule.
        "except" except: Vec<PortRange> = vec![PortRange::one(53)],
        /// What it gets; not `allow`.
        "do" ruling: At<Ruling> = At::nowhere(Ruling::Drop),
    }
}

record! {
    /// A path that is narrower than it admits: longer packets are gone, and so are the
    /// ICMP messages that would tell of them.
    pub struct BlackHole {
        /// The longest packet that passes.
        "mtu" mtu: At<Choice<u32>>,
    }
}

words! {
    /// A protocol that is known by its first bytes.
    pub enum Speech as "protocol" {
        /// TLS.
        "tls" Tls,
        /// HTTP in the clear.
        "http" Http,
        /// QUIC.
        "quic" Quic,
    }
}

record! {
    /// Looks at the first bytes that a client sends, and ends what it does not like.
    pub struct Dpi {
        /// Destination ports that it looks at.
        "ports" ports: Vec<PortRange> = vec![PortRange::ALL],
        /// Names in a TLS ClientHello that it does not like; `*.example.com` is any below.
        "server-names" server_names: Vec<Text> = vec![],
        /// Application protocols in a ClientHello that it does not like.
        "alpn" alpn: Vec<Text> = vec![],
        /// What alone may be spoken; none is anything.
        "only" only: Vec<Speech> = vec![],
        /// The most bytes of a ClientHello that it can take; a post-quantum key share makes
        /// one of 1,500.
        "hello-max" hello_max: Option<Choice<Size>> = None,
        /// What the packet gets; not `allow`.
        "do" ruling: At<Ruling> = At::nowhere(Ruling::Reset),
    }
}

words! {
    /// What is done to a DNS question.
    pub enum DnsTrick as "trick" {
        /// It is answered with the addresses given.
        "lie" Lie,
        /// There is no such name.
        "nxdomain" NoSuchName,
        /// The server has failed.
        "servfail" ServerFailure,
        /// The server does not want to.
        "refused" Refused,
        /// Nothing comes back.
        "silence" Silence,
        /// The true answer comes late.
        "slow" Slow,
    }
}

record! {
    /// What an edge does to DNS questions over UDP that pass it. The first rule whose
    /// names fit decides; split DNS is a lie about inner names and `nxdomain` for others.
    pub struct DnsRule {
        /// Names: `relay.example.com`, `*.corp`, `*`.
        "names" names: Vec<Text>,
        /// What is done.
        "do" trick: DnsTrick,
        /// The addresses of a lie.
        "answer" answer: Vec<At<IpAddr>> = vec![],
        /// How much later the answer is.
        "delay" delay: Choice<Duration> = Choice::Fixed(Duration::ZERO),
    }
}
