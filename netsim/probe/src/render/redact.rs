//! A report that may leave the company: without the network's addresses, and with the relay's.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use serde_json::Value;

use crate::verdict::Report;

/// The same without addresses of this network and names of its proxies, each in its place by a
/// number: what was one address stays one. Where only an address can stand, the number is that
/// of a reserved one: `[address 3]` is 240.0.0.3 (RFC 1112), or 100::3 of IPv6 (RFC 6666).
///
/// # Errors
///
/// The report is not what it was: nothing is given then.
pub fn redacted(report: &Report) -> Result<Report, serde_json::Error> {
    let seen = &report.observations;
    let of_registries = seen.registry.iter().filter_map(|one| one.proxy.as_ref());
    let mut redacting = Redacting {
        kept: seen.addresses.clone(),
        numbers: BTreeMap::new(),
        proxies: seen.proxy.iter().chain(of_registries).cloned().collect(),
    };
    let mut value = serde_json::to_value(report)?;
    redacting.walk(&mut value);
    serde_json::from_value(value)
}

struct Redacting {
    /// The relay's.
    kept: Vec<IpAddr>,
    numbers: BTreeMap<IpAddr, u16>,
    proxies: Vec<String>,
}

impl Redacting {
    fn walk(&mut self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.typed(text).unwrap_or_else(|| self.text(text)),
            Value::Array(list) => list.iter_mut().for_each(|one| self.walk(one)),
            Value::Object(members) => members.values_mut().for_each(|one| self.walk(one)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// What is an address, or one with a port, and nothing else.
    fn typed(&mut self, text: &str) -> Option<String> {
        if let Ok(socket) = text.parse::<SocketAddr>() {
            let address = self.in_place_of(socket.ip());
            return Some(SocketAddr::new(address, socket.port()).to_string());
        }
        let address = text.parse::<IpAddr>().ok()?;
        Some(self.in_place_of(address).to_string())
    }

    fn in_place_of(&mut self, address: IpAddr) -> IpAddr {
        if self.is_kept(address) {
            return address;
        }
        let number = self.number(address);
        match address {
            IpAddr::V4(_) => {
                let [high, low] = number.to_be_bytes();
                Ipv4Addr::new(240, 0, high, low).into()
            }
            IpAddr::V6(_) => Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, number).into(),
        }
    }

    /// Of the relay, or of nobody.
    fn is_kept(&self, address: IpAddr) -> bool {
        self.kept.contains(&address) || address.is_unspecified() || address.is_loopback()
    }

    fn number(&mut self, address: IpAddr) -> u16 {
        let next = u16::try_from(self.numbers.len() + 1).unwrap_or(u16::MAX);
        *self.numbers.entry(address).or_insert(next)
    }

    fn text(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        for proxy in &self.proxies {
            text = text.replace(proxy.as_str(), "[proxy]");
        }
        let is_of_address = |c: char| c.is_ascii_hexdigit() || c == '.' || c == ':';
        let mut out = String::with_capacity(text.len());
        let mut word = String::new();
        for c in text.chars() {
            if is_of_address(c) {
                word.push(c);
            } else {
                out.push_str(&self.word(&word));
                word.clear();
                out.push(c);
            }
        }
        out.push_str(&self.word(&word));
        out
    }

    /// A word of an address' letters: an address, one with a port or a full stop behind it, or
    /// neither.
    fn word(&mut self, word: &str) -> String {
        let trimmed = word.trim_end_matches(['.', ':']);
        let (host, port) = match trimmed.parse::<IpAddr>() {
            Ok(_) => (trimmed, None),
            Err(_) => match trimmed.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (trimmed, None),
            },
        };
        let Ok(address) = host.parse::<IpAddr>() else {
            return word.to_owned();
        };
        if self.is_kept(address) {
            return word.to_owned();
        }
        let number = self.number(address);
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        let rest = &word[trimmed.len()..];
        format!("[address {number}]{port}{rest}")
    }
}
