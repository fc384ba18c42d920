//! wstunnel over WebSocket and TLS: one connection of its own for each stream.

use std::{path::Path, process::Command};

use super::{Site, Tunnel, certificates, free_addresses};
use crate::{failure::Failure, process::Process};

pub(super) fn start(program: &Path, site: &Site<'_>) -> Result<Tunnel, Failure> {
    let [control, raw, http] = free_addresses()?;
    let certificates = certificates::make(site.folder)?;
    // By address: a name cost every new connection a quarter of a second.
    let url = format!("wss://{control}");
    let mut server = Command::new(program);
    server
        .args(["--log-lvl", "WARN", "server", "--tls-certificate"])
        .arg(&certificates.certificate)
        .arg("--tls-private-key")
        .arg(&certificates.key)
        .arg(&url);
    let mut client = Command::new(program);
    client.args(["--log-lvl", "WARN", "client"]);
    for (entrance, exit) in [(raw, site.backend.raw), (http, site.backend.http)] {
        client.args(["-R", &format!("tcp://{entrance}:{exit}")]);
    }
    client.arg(&url);
    let server = Process::start(&mut server, &site.folder.join("server.log"), site.cores)?;
    let client = Process::start(&mut client, &site.folder.join("client.log"), site.cores)?;
    Ok(Tunnel::new([raw, http], vec![server], vec![client]))
}
