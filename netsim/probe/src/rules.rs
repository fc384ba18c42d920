//! The exact change: as text for a ticket, as rules of nftables, and as a security group of AWS.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::{
    observe::{Flow, Target},
    verdict::{Changes, Code},
};

/// How long a firewall should remember a silent connection: agents ping every 15 s.
const IDLE_SECONDS: u32 = 60;

/// What lets these flows through.
pub fn changes(flows: &[Flow], target: &Target, addresses: &[IpAddr], cause: Code) -> Changes {
    Changes {
        ticket: ticket(flows, target, addresses, cause),
        nft: nft(flows, target, addresses),
        aws: aws(flows, target, addresses),
    }
}

/// The paragraph for a ticket.
pub fn ticket(flows: &[Flow], target: &Target, addresses: &[IpAddr], cause: Code) -> String {
    let host = &target.host;
    let list = match addresses {
        [] => String::new(),
        addresses => format!(" ({})", joined(addresses)),
    };
    let ports: Vec<String> = flows
        .iter()
        .map(|flow| format!("{}/{}", target.port(*flow), flow.protocol()))
        .collect();
    let ports = ports.join(", ");
    let allow = format!(
        "Please allow from this host outbound, with answers: {ports} to {host}{list}. Nothing \
         inbound is needed."
    );
    match cause {
        Code::TlsInterception => format!(
            "Please exempt {host}{list} on {ports} from TLS inspection: the connection is \
             authenticated by the relay's own key, and is refused where somebody ends its TLS."
        ),
        Code::Inspection => format!(
            "{allow} Please exempt it from deep packet inspection and from filters by server \
             name or application protocol."
        ),
        Code::Proxy => format!(
            "Please allow CONNECT to {host} on {ports} at the proxy, or give this host a login \
             for it. Without the proxy: {allow}"
        ),
        Code::TransparentProxy => format!(
            "Please exempt {host}{list} on {ports} from the transparent proxy, or let it pass \
             `Upgrade: websocket`."
        ),
        Code::CaptivePortal => "Please register this host with the network's portal, so that it \
             needs no click on a page."
            .to_owned(),
        Code::IdleTimer => format!(
            "Please keep idle connections to {host}{list} on {ports} for at least \
             {IDLE_SECONDS} s."
        ),
        Code::Mtu => format!(
            "Please let ICMP \"fragmentation needed\" (type 3 code 4; for IPv6 type 2) pass \
             towards this host, or clamp the MSS of TCP to the path's MTU, on the way to \
             {host}{list}."
        ),
        Code::Dns => format!(
            "Please let this host resolve {host}, with the addresses that it has in the \
             Internet."
        ),
        Code::NoRoute | Code::Ipv6 => {
            format!("Please give this host a route to {host}{list}. {allow}")
        }
        Code::HostFirewall => {
            format!("On this host itself: allow {ports} outbound to {host}{list}.")
        }
        Code::Relay => format!(
            "For the vendor: {host} is reached, and its relay does not serve {ports} there."
        ),
        Code::PortExhaustion => format!(
            "Please give the address translation towards {host}{list} more ports, or forget \
             closed connections sooner."
        ),
        Code::Rate => format!("Please do not police or throttle {ports} to {host}{list}."),
        Code::Clock => "Please set this host's clock, by NTP.".to_owned(),
        Code::FirewallDrop | Code::FirewallReject | Code::Unknown => allow,
    }
}

/// Rules for a forwarding firewall, or for the host's own with `output` in place of `forward`.
pub fn nft(flows: &[Flow], target: &Target, addresses: &[IpAddr]) -> String {
    let mut rules = String::from(
        "# Names of table and chain are those of your ruleset; on the host itself the chain is \
         `output`.\n",
    );
    let families: [(&str, Vec<&IpAddr>); 2] = [
        ("ip", addresses.iter().filter(|one| one.is_ipv4()).collect()),
        (
            "ip6",
            addresses.iter().filter(|one| one.is_ipv6()).collect(),
        ),
    ];
    for (family, addresses) in families.iter().filter(|(_, list)| !list.is_empty()) {
        let list = joined(addresses);
        for flow in flows {
            let (protocol, port) = (flow.protocol(), target.port(*flow));
            rules.push_str(&format!(
                "add rule inet filter forward {family} daddr {{ {list} }} {protocol} dport \
                 {port} accept comment \"{}\"\n",
                comment(target, *flow)
            ));
        }
    }
    if addresses.is_empty() {
        rules.push_str("# No address of the relay is known here: its name was not resolved.\n");
    }
    rules.push_str(
        "add rule inet filter forward ct state established,related accept comment \"answers\"\n",
    );
    rules
}

/// Egress rules of a security group, as `aws ec2 authorize-security-group-egress
/// --ip-permissions` takes them.
pub fn aws(flows: &[Flow], target: &Target, addresses: &[IpAddr]) -> Value {
    let permission = |flow: &Flow| {
        let described = comment(target, *flow);
        let range = |key: &str, address: &IpAddr, bits: u8| json!({ key: format!("{address}/{bits}"), "Description": described });
        let v4 = addresses.iter().filter(|address| address.is_ipv4());
        let v6 = addresses.iter().filter(|address| address.is_ipv6());
        json!({
            "IpProtocol": flow.protocol(),
            "FromPort": target.port(*flow),
            "ToPort": target.port(*flow),
            "IpRanges": v4.map(|one| range("CidrIp", one, 32)).collect::<Vec<_>>(),
            "Ipv6Ranges": v6.map(|one| range("CidrIpv6", one, 128)).collect::<Vec<_>>(),
        })
    };
    Value::Array(flows.iter().map(permission).collect())
}

/// Of names that others give, only what a comment may hold.
fn comment(target: &Target, flow: Flow) -> String {
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '_');
    let host: String = target.host.chars().filter(is_plain).take(80).collect();
    format!("sternline {} {host}", flow.name())
}

fn joined<T: ToString>(addresses: &[T]) -> String {
    let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    list.join(", ")
}
