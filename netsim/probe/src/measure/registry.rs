//! Hosts that hold images: registry, tokens and blobs, as the Docker Engine of this host would
//! reach them.

use std::{fs, sync::Arc, time::Duration};

use tokio_rustls::TlsConnector;
use tunnel::{dial::proxy::Proxy, tls::KeyShares, world::BoxIo};

use super::{
    Run,
    http::{self, Http},
    tcp::{self, Changed},
    tls,
};
use crate::observe::{Fault, FaultKind, HttpAnswer, RegistryTest};

const WITHIN: Duration = Duration::from_secs(6);

/// Where the Engine is told of a proxy.
const PLACES: [&str; 4] = [
    "/etc/docker/daemon.json",
    "/etc/systemd/system/docker.service.d",
    "/lib/systemd/system/docker.service.d",
    "/etc/default/docker",
];

/// Asks a registry, and the hosts that it names.
pub(super) async fn all(run: &Run, registry: &str) -> Vec<RegistryTest> {
    let proxy = engines_proxy();
    let (first, answer) = one(run, registry, ("/v2/", "registry"), proxy.as_ref()).await;
    let mut tests = vec![first];
    let Some(answer) = answer else {
        return tests;
    };
    let realm = answer.header("www-authenticate").and_then(realm);
    let moved = answer.header("location").and_then(host_of);
    let others = [(realm, "tokens"), (moved, "blobs")];
    for (host, role) in others {
        if let Some(host) = host.filter(|host| host != registry) {
            let (test, _) = one(run, &host, ("/", role), proxy.as_ref()).await;
            tests.push(test);
        }
    }
    tests
}

async fn one(
    run: &Run,
    host: &str,
    (path, role): (&str, &str),
    proxy: Option<&Proxy>,
) -> (RegistryTest, Option<HttpAnswer>) {
    let (name, port) = match host
        .rsplit_once(':')
        .map(|(name, port)| (name, port.parse()))
    {
        Some((name, Ok(port))) => (name, port),
        _ => (host, 443),
    };
    let shown = tls::Shown::default();
    let asking = ask(run, (name, port, path), proxy, &shown);
    let asked = tokio::time::timeout(WITHIN, asking).await;
    let asked = asked.unwrap_or_else(|_| Err(tcp::timed_out(WITHIN)));
    let chain = shown.chain();
    let test = RegistryTest {
        host: format!("{name}:{port}"),
        role: role.to_owned(),
        proxy: proxy.map(ToString::to_string),
        not_vouched: chain.and_then(|chain| chain.not_vouched),
        status: asked.as_ref().ok().map(|answer| answer.status),
        fault: asked.as_ref().err().cloned(),
    };
    (test, asked.ok())
}

async fn ask(
    run: &Run,
    (name, port, path): (&str, u16, &str),
    proxy: Option<&Proxy>,
    shown: &tls::Shown,
) -> Result<HttpAnswer, Fault> {
    let io = connect(run, (name, port), proxy).await?;
    let config = tls::client((b"http/1.1", KeyShares::Hybrid), &run.judges, shown)?;
    let (io, first) = tls::Listening::over(io);
    let connector = TlsConnector::from(Arc::new(config));
    let secured = connector.connect(tls::name(name)?, io).await;
    let secured = secured.map_err(|error| tls::failed(&error, &first))?;
    let mut http = Http::over(secured);
    http.ask(&http::get(path, &http::authority(name, port)))
        .await
}

async fn connect(
    run: &Run,
    (name, port): (&str, u16),
    proxy: Option<&Proxy>,
) -> Result<BoxIo, Fault> {
    let failed = |error: &dyn std::fmt::Display| {
        Fault::new(FaultKind::Other, tcp::bounded(&error.to_string()))
    };
    let addresses = match proxy {
        Some(proxy) => proxy
            .remotes(&run.world)
            .await
            .map_err(|error| failed(&error))?,
        None => {
            let resolved = run.world.resolver.resolve(name).await;
            let resolved = resolved.map_err(|error| failed(&error))?;
            resolved
                .into_iter()
                .map(|address| (address, port).into())
                .collect()
        }
    };
    let mut last = Fault::new(FaultKind::Other, "its name has no address");
    for address in addresses {
        match tcp::connect(address, Changed::default(), WITHIN / 2).await {
            Ok(stream) => {
                let io: BoxIo = Box::new(stream);
                let Some(proxy) = proxy else {
                    return Ok(io);
                };
                let led = proxy.lead((io, &run.world), (name, port), &run.roots).await;
                return led.map_err(|error| failed(&error));
            }
            Err(fault) => last = fault,
        }
    }
    Err(last)
}

/// `Bearer realm="https://auth.example/token",…` to its host.
fn realm(header: &str) -> Option<String> {
    let (_, rest) = header.split_once("realm=\"")?;
    host_of(rest.split('"').next()?)
}

fn host_of(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next()?;
    (!host.is_empty()).then(|| tcp::bounded(host))
}

/// The proxy that this host's Engine is told of, where it can be read.
fn engines_proxy() -> Option<Proxy> {
    let texts = PLACES.iter().flat_map(|place| match fs::read_dir(place) {
        Ok(entries) => {
            let entries = entries.filter_map(Result::ok);
            let read = entries.filter_map(|entry| fs::read_to_string(entry.path()).ok());
            read.collect::<Vec<_>>()
        }
        Err(_) => fs::read_to_string(place).into_iter().collect(),
    });
    texts.into_iter().find_map(|text| {
        let keys = ["https-proxy", "HTTPS_PROXY", "https_proxy"];
        let (_, rest) = keys.iter().find_map(|key| text.split_once(key))?;
        let rest = rest.trim_start_matches(['"', ':', '=', ' ', '\'']);
        let value = rest.split(['"', '\'', '\n', ' ', ',']).next()?;
        value.parse().ok()
    })
}
