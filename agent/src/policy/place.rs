//! One entry of `targets.tcp`: a host or a network, and its ports.

use std::{fmt, net::IpAddr, ops::RangeInclusive};

use ipnet::IpNet;

/// One entry of `tcp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) place: Place,
    pub(super) ports: RangeInclusive<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// In lower case.
    Name(String),
    Network(IpNet),
}

impl Place {
    /// Whether it is where `host` was reached at `address`.
    pub(super) fn has(&self, host: &str, address: IpAddr) -> bool {
        match self {
            Self::Network(network) => network.contains(&address.to_canonical()),
            Self::Name(name) => name == host,
        }
    }
}

impl Entry {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let expected = "expected HOST:PORT or NETWORK:PORT-RANGE, such as `db.internal:5432`, `10.0.0.0/8:8000-8100` or `[2001:db8::/32]:443`";
        let Some((place, ports)) = text.rsplit_once(':') else {
            return Err(format!("`{text}` has no port: {expected}"));
        };
        let ports = parse_ports(ports).ok_or_else(|| {
            format!("`{ports}` in `{text}` is no port or range of ports (1 to 65535)")
        })?;
        let place =
            parse_place(place).map_err(|problem| format!("`{text}`: {problem}: {expected}"))?;
        Ok(Self { place, ports })
    }
}

pub(super) fn parse_ports(text: &str) -> Option<RangeInclusive<u16>> {
    let port = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse().ok().filter(|port| *port != 0),
        false => None,
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = port(first)?..=port(last)?;
    (!range.is_empty()).then_some(range)
}

fn parse_place(text: &str) -> Result<Place, String> {
    // `[2001:db8::/32]` and `[2001:db8::]/32` are both what people write.
    let bare = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inner, prefix)) if prefix.is_empty() || prefix.starts_with('/') => {
            format!("{inner}{prefix}")
        }
        Some(_) => return Err("something stands behind the bracket".into()),
        None if text.contains(':') => return Err("an IPv6 address needs brackets".into()),
        None => text.to_owned(),
    };
    if text.starts_with('[') && !bare.contains(':') {
        return Err("only IPv6 addresses stand in brackets".into());
    }
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(Place::Network(address.to_canonical().into()));
    }
    if bare.contains('/') {
        let network: IpNet = bare
            .parse()
            .map_err(|_| format!("`{bare}` is not a network"))?;
        if network.trunc() != network {
            return Err(format!(
                "`{bare}` is an address within the network `{}`",
                network.trunc()
            ));
        }
        return Ok(Place::Network(network));
    }
    parse_name(&bare)
}

fn parse_name(text: &str) -> Result<Place, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if text.is_empty() || text.len() > 253 || !text.bytes().all(fits) {
        return Err(format!(
            "`{text}` is not a host name, an address or a network"
        ));
    }
    // `10.0.0` or `0x7f.1` would be resolved as addresses, never as names.
    let last_label = text.rsplit('.').next().unwrap_or_default();
    if last_label.bytes().all(|byte| byte.is_ascii_digit()) || last_label.starts_with("0x") {
        return Err(format!("`{text}` is an incomplete address"));
    }
    Ok(Place::Name(text.to_ascii_lowercase()))
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Name(name) => f.write_str(name)?,
            Place::Network(IpNet::V4(network)) if network.prefix_len() == 32 => {
                write!(f, "{}", network.addr())?;
            }
            Place::Network(IpNet::V4(network)) => write!(f, "{network}")?,
            Place::Network(IpNet::V6(network)) if network.prefix_len() == 128 => {
                write!(f, "[{}]", network.addr())?;
            }
            Place::Network(IpNet::V6(network)) => write!(f, "[{network}]")?,
        }
        match (self.ports.start(), self.ports.end()) {
            (first, last) if first == last => write!(f, ":{first}"),
            (first, last) => write!(f, ":{first}-{last}"),
        }
    }
}
