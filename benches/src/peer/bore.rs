//! bore: no TLS, one connection of its own for each stream, a client for each port. Its
//! control port is fixed (7835), so there can be one at a time on a machine.

use std::{path::Path, process::Command};

use super::{Site, Tunnel, free_addresses};
use crate::{failure::Failure, process::Process};

pub(super) fn start(program: &Path, site: &Site<'_>) -> Result<Tunnel, Failure> {
    let [raw, http] = free_addresses()?;
    let mut server = Command::new(program);
    server.args(["server", "--min-port", "1024", "--bind-addr", "127.0.0.1"]);
    server
        .args(["--bind-tunnels", "127.0.0.1"])
        .env("RUST_LOG", "warn");
    let server = Process::start(&mut server, &site.folder.join("server.log"), site.cores)?;
    // A client ends where the server does not listen yet.
    let control = ([127, 0, 0, 1], 7835).into();
    crate::wait::until("bore's server listens", super::READY_WITHIN, || {
        std::net::TcpStream::connect_timeout(&control, super::ATTEMPT).ok()
    })?;
    let mut clients = Vec::new();
    for (entrance, exit) in [(raw, site.backend.raw), (http, site.backend.http)] {
        let mut client = Command::new(program);
        client
            .args([
                "local",
                &exit.port().to_string(),
                "--to",
                "127.0.0.1",
                "--port",
            ])
            .arg(entrance.port().to_string())
            .env("RUST_LOG", "warn");
        let log = site.folder.join("client.log");
        clients.push(Process::start(&mut client, &log, site.cores)?);
    }
    Ok(Tunnel::new([raw, http], vec![server], clients))
}
