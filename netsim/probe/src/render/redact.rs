//! A report that may leave the company: without the network's addresses, and with the relay's.

use std::{collections::BTreeMap, net::IpAddr};

use serde_json::Value;

use crate::verdict::Report;

/// The same without addresses of this network and names of its proxies, each in its place by a
/// number: what was one address stays one.
///
/// # Errors
///
/// The report is not what it was: nothing is given then.
pub fn redacted(report: &Report) -> Result<Report, serde_json::Error> {
    let mut redacting = Redacting {
        kept: report.observations.addresses.clone(),
        seen: BTreeMap::new(),
        proxy: report.observations.proxy.clone(),
    };
    let mut value = serde_json::to_value(report)?;
    // A typed address cannot hold a number in its place: what is typed is kept apart.
    let observations = value.get_mut("observations").map(Value::take);
    redacting.walk(&mut value);
    let mut bare = report.observations.clone();
    bare.proxy = bare.proxy.map(|_| "a proxy".to_owned());
    bare.attempts.clear();
    bare.udp.clear();
    bare.hops.clear();
    bare.paces.clear();
    bare.routers.clear();
    bare.witness = None;
    bare.parallel = None;
    bare.registry.clear();
    bare.portal = None;
    if let (Some(place), Some(_)) = (value.get_mut("observations"), observations) {
        *place = serde_json::to_value(bare)?;
    }
    serde_json::from_value(value)
}

struct Redacting {
    /// The relay's.
    kept: Vec<IpAddr>,
    seen: BTreeMap<String, usize>,
    proxy: Option<String>,
}

impl Redacting {
    fn walk(&mut self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(list) => list.iter_mut().for_each(|one| self.walk(one)),
            Value::Object(members) => members.values_mut().for_each(|one| self.walk(one)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn text(&mut self, text: &str) -> String {
        let text = match &self.proxy {
            Some(proxy) => text.replace(proxy.as_str(), "a proxy"),
            None => text.to_owned(),
        };
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
        if self.kept.contains(&address) {
            return word.to_owned();
        }
        let next = self.seen.len() + 1;
        let number = *self.seen.entry(host.to_owned()).or_insert(next);
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        let rest = &word[trimmed.len()..];
        format!("[address {number}]{port}{rest}")
    }
}
