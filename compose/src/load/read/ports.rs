//! `ports` and `expose`.

use super::super::{interpolate::Findings, node::Value, spot::Spot};
use crate::model::Port;

/// Most ports of one range.
const RANGE_MAX: u32 = 4096;

const HELP: &str = "Write [ADDRESS:][HOST:]CONTAINER[/PROTOCOL], such as 8080:80 in quotes";

/// `ports`, ranges written out; of equal ports the last, in the place of the first.
pub(super) fn ports(spot: &Spot<'_>, out: &mut Findings) -> Vec<Port> {
    let mut ports: Vec<Port> = Vec::new();
    if !spot.need_list(out) {
        return ports;
    }
    for item in spot.items() {
        let read = match &item.node.value {
            Value::Map(_) => long(&item, out).into_iter().collect(),
            Value::Scalar(..) => short(&item, out),
            _ => {
                out.refuse(item.problem("is no port", HELP));
                Vec::new()
            }
        };
        if ports.len() + read.len() > RANGE_MAX as usize {
            let message = format!("more than {RANGE_MAX} ports are published");
            out.refuse(item.problem(message, "Publish fewer"));
            break;
        }
        for port in read {
            let is_same = |kept: &&mut Port| {
                let key = |p: &Port| {
                    (
                        p.host_ip.clone(),
                        p.target,
                        p.published.clone(),
                        p.protocol.clone(),
                    )
                };
                key(kept) == key(&port)
            };
            match ports.iter_mut().find(is_same) {
                Some(kept) => *kept = port,
                None => ports.push(port),
            }
        }
    }
    ports
}

fn short(spot: &Spot<'_>, out: &mut Findings) -> Vec<Port> {
    let text = spot.node.scalar().unwrap_or_default();
    if !spot.is_open(&text, out) {
        return Vec::new();
    }
    match parse(&text) {
        Ok(ports) => ports,
        Err(message) => {
            out.refuse(spot.problem(format!("{text:?} {message}"), HELP));
            Vec::new()
        }
    }
}

/// The short form.
fn parse(text: &str) -> Result<Vec<Port>, String> {
    let (numbers, protocol) = match text.rsplit_once('/') {
        Some((numbers, protocol)) => (numbers, protocol.to_ascii_lowercase()),
        None => (text, "tcp".to_owned()),
    };
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!(
            "has the protocol {protocol}, and not tcp, udp or sctp"
        ));
    }
    let (host, container) = match numbers.rsplit_once(':') {
        Some((host, container)) => (Some(host), container),
        None => (None, numbers),
    };
    let (address, host) = match host.map(|host| (host, host.rsplit_once(':'))) {
        None => (None, None),
        Some((host, None)) => (None, Some(host)),
        Some((_, Some((address, host)))) => (Some(bare(address)?), Some(host)),
    };
    let host = host.filter(|host| !host.is_empty());
    let (first, last) = range(container)?;
    let mut ports = Vec::new();
    let length = u32::from(last - first) + 1;
    let host = host
        .map(|host| range(host).map(|(a, b)| (a, u32::from(b - a) + 1)))
        .transpose()?;
    if let Some((_, hosts)) = host
        && hosts != length
        && length != 1
    {
        return Err(format!(
            "has {hosts} ports on the host and {length} in the container"
        ));
    }
    for at in 0..length {
        let offset = u16::try_from(at).map_err(|_| "has too long a range".to_owned())?;
        let published = host.map(|(begin, hosts)| {
            if hosts == length {
                (begin + offset).to_string()
            } else {
                format!("{begin}-{}", u32::from(begin) + hosts - 1)
            }
        });
        ports.push(Port {
            target: first + offset,
            protocol: protocol.clone(),
            published,
            host_ip: address.clone(),
            name: None,
            app_protocol: None,
        });
    }
    Ok(ports)
}

/// An address without its brackets.
fn bare(address: &str) -> Result<String, String> {
    let inside = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let bare = inside.unwrap_or(address);
    if bare.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("has {bare:?}, which is no IP address"));
    }
    Ok(bare.to_owned())
}

/// A port, or a range of them.
fn range(text: &str) -> Result<(u16, u16), String> {
    let port = |text: &str| match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("has {text:?}, which is no port from 1 to 65535")),
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(text)?, port(text)?),
    };
    if first > last {
        return Err(format!("has {text}, a range that ends before it begins"));
    }
    if u32::from(last - first) >= RANGE_MAX {
        return Err(format!("has a range of more than {RANGE_MAX} ports"));
    }
    Ok((first, last))
}

fn long(spot: &Spot<'_>, out: &mut Findings) -> Option<Port> {
    let Some(target) = spot.get("target") else {
        out.refuse(spot.problem("has no target", "Write target: and the container's port"));
        return None;
    };
    let target = target.int(1, 65535, out)?;
    let published = match spot.get("published") {
        Some(published) => {
            let text = published.node.scalar().unwrap_or_default();
            if !text.is_empty()
                && let Err(message) = range(&text)
            {
                let help = "Write a port, or a range such as 8000-8010";
                out.refuse(published.problem(message, help));
                return None;
            }
            Some(text).filter(|text| !text.is_empty())
        }
        None => None,
    };
    let protocol = match spot.get("protocol") {
        Some(protocol) => protocol.choice(&["tcp", "udp", "sctp"], out)?,
        None => "tcp".to_owned(),
    };
    if let Some(mode) = spot.get("mode") {
        mode.choice(&["host", "ingress"], out)?;
    }
    let host_ip = match spot.get("host_ip") {
        Some(address) => {
            let text = address.open_text(out)?;
            match bare(&text) {
                Ok(bare) => Some(bare),
                Err(message) => {
                    out.refuse(address.problem(message, "Write an address of the host"));
                    return None;
                }
            }
        }
        None => None,
    };
    Some(Port {
        target: u16::try_from(target).ok()?,
        protocol,
        published,
        host_ip,
        name: spot.get("name").and_then(|name| name.text(out)),
        app_protocol: spot
            .get("app_protocol")
            .and_then(|protocol| protocol.text(out)),
    })
}

/// `expose`: `PORT/PROTOCOL` each, ranges written out.
pub(super) fn expose(spot: &Spot<'_>, out: &mut Findings) -> Vec<String> {
    let mut exposed: Vec<String> = Vec::new();
    if !spot.need_list(out) {
        return exposed;
    }
    for item in spot.items() {
        let text = item.node.scalar().unwrap_or_default();
        match parse(&text) {
            Ok(ports) if ports.iter().all(|port| port.published.is_none()) => {
                for port in ports {
                    let shown = format!("{}/{}", port.target, port.protocol);
                    if !exposed.contains(&shown) {
                        exposed.push(shown);
                    }
                }
            }
            Ok(_) => {
                let message = format!("{text:?} publishes a port");
                out.refuse(item.problem(message, "Write it under ports"));
            }
            Err(message) => {
                let help = "Write PORT, or PORT/PROTOCOL";
                out.refuse(item.problem(format!("{text:?} {message}"), help));
            }
        }
    }
    exposed
}
