//! rathole over TLS (OpenSSL): one connection of its own for each stream, eight kept
//! ready for each service. Everything is left at its default.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Site, Tunnel, certificates, find, free_addresses};
use crate::{
    failure::{Context, Failure},
    process::{self, Process},
};

/// The release that figures are relative to.
const VERSION: &str = "0.5.0";

const PASSWORD: &str = "bench";

pub(super) fn find_or_install(folders: &[PathBuf]) -> Result<PathBuf, Failure> {
    let root = root_of_peers()?;
    let mut folders = folders.to_vec();
    folders.push(root.clone());
    if let Some(program) = find("rathole", &folders) {
        return Ok(program);
    }
    eprintln!(
        "installing rathole {VERSION} into {} (minutes, once)",
        root.display()
    );
    // Far from the tree, whose .cargo/config.toml links statically: OpenSSL is there for
    // dynamic linking alone.
    let outside = tempfile::tempdir().context("a temporary folder")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // Without --locked: what it locks does not build with the Rust of today.
    command
        .args(["install", "--quiet", "rathole", "--version", VERSION])
        .arg("--root")
        .arg(&root)
        .arg("--target-dir")
        .arg(outside.path().join("target"))
        .current_dir(outside.path());
    for variable in ["CARGO_BUILD_TARGET", "CARGO_TARGET_DIR", "RUSTFLAGS"] {
        command.env_remove(variable);
    }
    process::output(&mut command, process::Cores::All).context(format_args!(
        "rathole {VERSION} does not install (where OpenSSL's headers are lacking: \
         apt install libssl-dev pkg-config)"
    ))?;
    find("rathole", &folders).context("rathole was installed, and is not there")
}

/// `target/peers` of the tree that built this program.
fn root_of_peers() -> Result<PathBuf, Failure> {
    let myself = process::myself()?;
    let target = myself
        .ancestors()
        .find(|folder| folder.file_name().is_some_and(|name| name == "target"))
        .map_or_else(
            || std::env::temp_dir().join("sternline-bench"),
            Path::to_owned,
        );
    Ok(target.join("peers"))
}

pub(super) fn start(program: &Path, site: &Site<'_>) -> Result<Tunnel, Failure> {
    let [control, raw, http] = free_addresses()?;
    let certificates = certificates::make(site.folder)?;
    let identity = certificates.pkcs12(PASSWORD)?;
    let server = format!(
        "[server]\nbind_addr = \"{control}\"\ndefault_token = \"bench\"\n\
         [server.transport]\ntype = \"tls\"\n\
         [server.transport.tls]\npkcs12 = {identity:?}\npkcs12_password = \"{PASSWORD}\"\n\
         [server.services.raw]\nbind_addr = \"{raw}\"\n\
         [server.services.http]\nbind_addr = \"{http}\"\n"
    );
    let client = format!(
        "[client]\nremote_addr = \"{control}\"\ndefault_token = \"bench\"\n\
         [client.transport]\ntype = \"tls\"\n\
         [client.transport.tls]\ntrusted_root = {:?}\nhostname = \"localhost\"\n\
         [client.services.raw]\nlocal_addr = \"{}\"\n\
         [client.services.http]\nlocal_addr = \"{}\"\n",
        certificates.ca, site.backend.raw, site.backend.http
    );
    let run = |side: &str, config: String| {
        let path = site.folder.join(format!("{side}.toml"));
        fs::write(&path, config).context(path.display())?;
        let mut command = Command::new(program);
        command
            .arg(format!("--{side}"))
            .arg(&path)
            .env("RUST_LOG", "warn");
        Process::start(
            &mut command,
            &site.folder.join(format!("{side}.log")),
            site.cores,
        )
    };
    let server = run("server", server)?;
    let client = run("client", client)?;
    Ok(Tunnel::new([raw, http], vec![server], vec![client]))
}
