//! chisel over TLS: SSH inside of WebSocket, all streams in one connection.

use std::{path::Path, process::Command};

use super::{Site, Tunnel, certificates, free_addresses};
use crate::{failure::Failure, process::Process};

pub(super) fn start(program: &Path, site: &Site<'_>) -> Result<Tunnel, Failure> {
    let [control, raw, http] = free_addresses()?;
    let certificates = certificates::make(site.folder)?;
    let mut server = Command::new(program);
    server
        .args(["server", "--reverse", "--host", "127.0.0.1", "--port"])
        .arg(control.port().to_string())
        .arg("--tls-key")
        .arg(&certificates.key)
        .arg("--tls-cert")
        .arg(&certificates.certificate);
    let mut client = Command::new(program);
    client
        .args(["client", "--tls-ca"])
        .arg(&certificates.ca)
        .arg(format!("https://localhost:{}", control.port()));
    for (entrance, exit) in [(raw, site.backend.raw), (http, site.backend.http)] {
        client.arg(format!("R:{entrance}:{exit}"));
    }
    let server = Process::start(&mut server, &site.folder.join("server.log"), site.cores)?;
    let client = Process::start(&mut client, &site.folder.join("client.log"), site.cores)?;
    Ok(Tunnel::new([raw, http], vec![server], vec![client]))
}
