//! Hosts, and what runs on them.

use ipnet::IpNet;

use std::time::Duration;

use crate::term::{At, Choice, Name, Offset, PortRange, Text, record, words};

words! {
    /// What runs on a host.
    pub enum Role as "role" {
        /// The vendor's relay.
        "relay" Relay,
        /// The customer's agent.
        "agent" Agent,
        /// Answers questions about the names of hosts.
        "resolver" Resolver,
        /// Something else: a target, a proxy, a bystander.
        "peer" Peer,
    }
}

record! {
    /// A machine. It has one cable, and one more for each of its VPNs.
    pub struct Host {
        /// What everything else calls it. Copies are `NAME-0`, `NAME-1` and so on.
        "name" name: At<Name>,
        /// What runs on it.
        "runs" runs: Role = Role::Peer,
        /// How many copies there are; each has the next address.
        "count" count: At<u32> = At::nowhere(1),
        /// Its addresses, with the prefix of their network: one or none of each family.
        "addresses" addresses: Vec<At<IpNet>>,
        /// Names under which resolvers know it.
        "names" names: Vec<Text> = vec![],
        /// The host that it asks for names.
        "resolver" resolver: Option<At<Name>> = None,
        /// The proxy that it is configured to use.
        "proxy" proxy: Option<At<Name>> = None,
        /// The transparent proxy that may intercept its TLS: it has that one's CA.
        "trusts" trusts: Option<At<Name>> = None,
        /// How wrong its clock is.
        "skew" skew: Choice<Offset> = Choice::Fixed(Offset { nanos: 0 }),
        /// The program that answers on a resolver, in the lab; without, and in virtual time,
        /// a model does.
        "real" real: Option<At<RealResolver>> = None,
    }
}

words! {
    /// A program that answers questions about names.
    pub enum RealResolver as "program" {
        /// dnsmasq.
        "dnsmasq" Dnsmasq,
    }
}

words! {
    /// How a proxy is spoken to.
    pub enum ProxyKind as "kind of proxy" {
        /// HTTP CONNECT.
        "connect" Connect,
        /// SOCKS5.
        "socks5" Socks5,
        /// Not at all: what passes is taken in.
        "transparent" Transparent,
    }
}

record! {
    /// What ends connections on the way and makes its own.
    pub struct Proxy {
        /// What hosts and events call it.
        "name" name: At<Name>,
        /// The host it runs on; a transparent one: the edge that diverts to it.
        "on" on: At<Name>,
        /// How it is spoken to.
        "speaks" speaks: ProxyKind = ProxyKind::Connect,
        /// Its port; ports that a transparent one takes in.
        "port" port: PortRange = PortRange::one(3128),
        /// Who may use it (HTTP Basic, or SOCKS5's own): `user:password`.
        "login" login: Option<Text> = None,
        /// Destination ports that it connects to.
        "allows" allows: Vec<PortRange> = vec![PortRange::ALL],
        /// After how long it cuts every connection.
        "cut-after" cut_after: Option<Choice<Duration>> = None,
        /// Whether it takes `Upgrade` out of HTTP requests.
        "strips-upgrade" strips_upgrade: bool = false,
        /// Whether it answers everything with a page to log in, until it is released.
        "captive" captive: bool = false,
        /// The name in its own CA's certificate, where it intercepts TLS.
        "intercepts-as" intercepts_as: Option<Text> = None,
        /// The program that it is in the lab; without, and in virtual time, a model is.
        "real" real: Option<At<RealProxy>> = None,
    }
}

words! {
    /// A program that is a proxy.
    pub enum RealProxy as "program" {
        /// tinyproxy.
        "tinyproxy" Tinyproxy,
        /// Squid.
        "squid" Squid,
        /// mitmproxy.
        "mitmproxy" Mitmproxy,
    }
}

impl Proxy {
    /// Whether a captive one has something to do once it is released.
    pub const fn does_more_than_hold(&self) -> bool {
        !self.captive
            || self.strips_upgrade
            || self.intercepts_as.is_some()
            || self.cut_after.is_some()
    }
}

record! {
    /// A second way out of a host. While it is up, everything goes through it.
    pub struct Vpn {
        /// What events call it.
        "name" name: At<Name>,
        /// Whose it is.
        "host" host: At<Name>,
        /// The cable that stands for the tunnel; it ends at the host.
        "cable" cable: At<Name>,
        /// The host's address in it.
        "address" address: At<IpNet>,
        /// The longest packet in it.
        "mtu" mtu: At<Choice<u32>> = At::nowhere(Choice::Fixed(1400)),
        /// The host that is asked for names while it is up.
        "resolver" resolver: Option<At<Name>> = None,
        /// Whether nothing leaves by the other cable while the tunnel is broken.
        "kill-switch" kill_switch: bool = false,
        /// The program that the tunnel is in the lab; without, and in virtual time, it is the
        /// cable alone.
        "real" real: Option<At<RealVpn>> = None,
    }
}

words! {
    /// A program that is a tunnel.
    pub enum RealVpn as "program" {
        /// wireguard-go.
        "wireguard-go" WireguardGo,
    }
}
