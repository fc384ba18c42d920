//! The network of a case, as a scenario.

use netsim_core::{check::check, model::Scenario, random::Seed};
use toml::{Table, Value};

use super::{
    case::{Case, Kind},
    claim::Verdict,
};

/// The relay's name.
pub(super) const RELAY: &str = "relay.example.com";

/// The customer's host.
pub(super) const CUSTOMER: &str = "customer";

/// Where proxies are that are spoken to.
const PROXY_HOST: &str = "proxy-host";

/// Where a proxy listens of which no port is given.
const PROXY_PORT: i64 = 3128;

/// How far it is to the office's edge.
const LAN: &str = "500us";

/// Longer than any case takes: the scenario's own end is never waited for.
const DURATION: &str = "10m";

impl Case {
    /// Its network: drawn, and fit for the lab.
    ///
    /// # Errors
    ///
    /// Every mistake of it, a line each.
    pub fn scenario(&self) -> Result<Scenario, String> {
        let text = self.text();
        let scenario = check(&text).map_err(|mistakes| {
            let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            format!("case {}: {}\n{text}", self.name, lines.join("\n"))
        })?;
        Ok(scenario.drawn(Seed(1)))
    }

    fn text(&self) -> String {
        let mut whole = table([
            ("name", self.name.as_str().into()),
            ("summary", self.says.as_str().into()),
            ("observed", "a case of the probe's matrix".into()),
            ("duration", DURATION.into()),
        ]);
        let arrays = [
            ("host", self.hosts()),
            ("edge", self.edges()),
            ("cable", self.cables()),
            ("proxy", self.proxies()),
            ("expect", vec![table([("never", "corrupted".into())])]),
        ];
        for (key, tables) in arrays {
            let tables = tables.into_iter().map(Value::Table).collect();
            whole.insert(key.to_owned(), Value::Array(tables));
        }
        whole.to_string()
    }

    fn hosts(&self) -> Vec<Table> {
        let mut relay = host("relay", &self.relay);
        relay.insert("runs".to_owned(), "relay".into());
        relay.insert("names".to_owned(), RELAY.into());
        let mut dns = host("dns", &resolver_addresses(self.resolver_inside));
        dns.insert("runs".to_owned(), "resolver".into());
        if self.dnsmasq {
            dns.insert("real".to_owned(), "dnsmasq".into());
        }
        let mut customer = host(CUSTOMER, &self.customer);
        customer.insert("runs".to_owned(), "agent".into());
        customer.insert("resolver".to_owned(), "dns".into());
        let spoken = self.proxy.iter().find(|one| !is_transparent(one));
        if let Some(name) = spoken.and_then(|one| one.get("name"))
            && spoken.is_some_and(|one| self.is_told_of(one))
        {
            // Then a proxy that nothing comes to is a fault that was never there.
            customer.insert("proxy".to_owned(), name.clone());
        }
        let mut hosts = vec![relay, dns, customer];
        if spoken.is_some() {
            let addresses = ["10.1.0.8/24".to_owned()];
            let mut proxies = host(PROXY_HOST, &addresses);
            proxies.insert("resolver".to_owned(), "dns".into());
            hosts.push(proxies);
        }
        if self.impostor {
            let mut impostor = host("impostor", &["203.0.113.66/24".to_owned()]);
            impostor.insert("runs".to_owned(), "relay".into());
            impostor.insert("names".to_owned(), "other.example.com".into());
            hosts.push(impostor);
        }
        hosts
    }

    /// Whether the probe is told of this proxy, rather than of a port where nothing is.
    fn is_told_of(&self, proxy: &Table) -> bool {
        let port = proxy.get("port").and_then(Value::as_integer);
        let end = format!(":{}", port.unwrap_or(PROXY_PORT));
        let by_variable = self.variables.iter().map(|[_, value]| value);
        let mut told = self.arguments.iter().chain(by_variable);
        told.any(|one| one.ends_with(&end))
    }

    fn edges(&self) -> Vec<Table> {
        let mut office = table([("firewall", Value::Table(Table::new()))]);
        // Who is behind a NAT cannot be reached by IPv6, which it does not translate.
        if !self.customer.iter().any(|one| one.contains(':')) {
            let nat = table([("addresses", "198.51.100.1".into())]);
            office.insert("nat".to_owned(), Value::Table(nat));
        }
        for (key, value) in &self.office {
            match value {
                Value::Boolean(false) => office.remove(key),
                value => office.insert(key.clone(), value.clone()),
            };
        }
        office.insert("name".to_owned(), "office".into());
        let mut edges = vec![office, table([("name", "internet".into())])];
        if let Some(carrier) = &self.carrier {
            let mut carrier = carrier.clone();
            carrier.insert("name".to_owned(), "carrier".into());
            edges.push(carrier);
        }
        edges
    }

    fn cables(&self) -> Vec<Table> {
        let mut cables = vec![
            cable("lan", [CUSTOMER, "office:inside"], delay(LAN)),
            cable("relay-cable", ["internet:outside", "relay"], delay("2ms")),
        ];
        let mut uplink = table([("delay", "10ms".into())]);
        uplink.extend(self.uplink.clone());
        let far = if self.carrier.is_some() {
            let ends = ["carrier:outside", "internet:inside"];
            cables.push(cable("carrier-cable", ends, delay("2ms")));
            "carrier:inside"
        } else {
            "internet:inside"
        };
        let mut uplink = cable("uplink", ["office:outside", far], uplink);
        if let Some(back) = &self.downlink {
            uplink.insert("back".to_owned(), Value::Table(back.clone()));
        }
        cables.push(uplink);
        let dns = if self.resolver_inside {
            "office:inside"
        } else {
            "internet:outside"
        };
        cables.push(cable("dns-cable", [dns, "dns"], delay("1ms")));
        if self.proxy.iter().any(|one| !is_transparent(one)) {
            cables.push(cable(
                "proxy-cable",
                [PROXY_HOST, "office:inside"],
                delay(LAN),
            ));
        }
        if self.impostor {
            let ends = ["internet:outside", "impostor"];
            cables.push(cable("impostor-cable", ends, delay("2ms")));
        }
        cables
    }

    fn proxies(&self) -> Vec<Table> {
        let placed = self.proxy.iter().map(|proxy| {
            let on = if is_transparent(proxy) {
                "office"
            } else {
                PROXY_HOST
            };
            let mut proxy = proxy.clone();
            proxy.insert("on".to_owned(), on.into());
            proxy
        });
        placed.collect()
    }

    /// Whether what it says of itself is so: a healthy one expects nothing, every other one
    /// something.
    pub fn is_consistent(&self) -> bool {
        let truths = self
            .truths()
            .map(|(_, truth)| truth.first().cause.is_some());
        match self.kind {
            // QUIC is nobody's duty: a proxy alone leads out of many healthy networks.
            Kind::Healthy => !truths[0] && !truths[1],
            Kind::Fault | Kind::Mixed => {
                let is_unknown =
                    |truth: &super::Truth| truth.first().verdict == Verdict::CannotTell;
                let mut all = self.truths().into_iter();
                let any = truths.into_iter().any(|one| one);
                let of_images = self.images.is_some_and(|one| one != Verdict::Open);
                let of_flows = any || all.any(|(_, truth)| is_unknown(truth));
                self.has_a_fault() && (of_flows || of_images)
            }
        }
    }
}

fn table<const N: usize>(entries: [(&str, Value); N]) -> Table {
    let entries = entries.into_iter();
    entries
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

fn host(name: &str, addresses: &[String]) -> Table {
    let addresses = addresses.iter().map(|one| one.as_str().into()).collect();
    table([
        ("name", name.into()),
        ("addresses", Value::Array(addresses)),
    ])
}

fn cable(name: &str, ends: [&str; 2], line: Table) -> Table {
    table([
        ("name", name.into()),
        ("ends", Value::Array(ends.map(Value::from).to_vec())),
        ("line", Value::Table(line)),
    ])
}

fn resolver_addresses(is_inside: bool) -> [String; 2] {
    let addresses = if is_inside {
        ["10.1.0.53/24", "2001:db8:1::53/64"]
    } else {
        ["203.0.113.53/24", "2001:db8:53::53/64"]
    };
    addresses.map(str::to_owned)
}

fn delay(delay: &str) -> Table {
    table([("delay", delay.into())])
}

fn is_transparent(proxy: &Table) -> bool {
    proxy.get("speaks").and_then(Value::as_str) == Some("transparent")
}
