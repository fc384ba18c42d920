//! A registry of images on a host of the lab, as far as a probe asks it: who it is by TLS, and
//! that it wants a login.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use super::{resident::Resident, topology::RELAY};
use crate::lab::Host;

/// Where it listens, beside the relay.
pub(super) const PORT: u16 = 5000;

/// As registries answer who has no token.
const ANSWER: &[u8] = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\
    Docker-Distribution-Api-Version: registry/2.0\r\nWWW-Authenticate: Basic realm=\"r\"\r\n\r\n";

const REQUEST_BYTES_MAX: usize = 8 * 1024;

const REQUEST_WITHIN: Duration = Duration::from_secs(10);

/// See the module. It ends when dropped.
#[derive(Debug)]
pub(super) struct Registry {
    /// Its certificate in PEM, which vouches for itself.
    pub(super) certificate: PathBuf,
    _resident: Resident,
}

impl Registry {
    /// Starts one; its certificate goes to the host's folder.
    pub(super) fn start(host: &Arc<Host>) -> io::Result<Self> {
        let made = rcgen::generate_simple_self_signed(vec![RELAY.to_owned()]);
        let made = made.map_err(io::Error::other)?;
        let certificate = host.folder().join("registry.pem");
        fs::write(&certificate, made.cert.pem())?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = tunnel::tls::provider();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                let builder = builder.with_no_client_auth();
                builder.with_single_cert(vec![made.cert.der().clone()], PrivateKeyDer::Pkcs8(key))
            })
            .map_err(io::Error::other)?;
        let tls = TlsAcceptor::from(Arc::new(config));
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PORT);
        let begin = async move || TcpListener::bind(any).await;
        let live = async move |listener| serve(&listener, &tls).await;
        Ok(Self {
            certificate,
            _resident: Resident::move_in(host, "registry", begin, live)?,
        })
    }
}

/// One after the other: a probe asks once.
async fn serve(listener: &TcpListener, tls: &TlsAcceptor) {
    while let Ok((stream, _)) = listener.accept().await {
        // Who breaks off or is slow is no reason to stop.
        tokio::time::timeout(REQUEST_WITHIN, answer(stream, tls))
            .await
            .ok();
    }
}

async fn answer(stream: TcpStream, tls: &TlsAcceptor) -> io::Result<()> {
    let mut stream = tls.accept(stream).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < REQUEST_BYTES_MAX {
        head.push(stream.read_u8().await?);
    }
    stream.write_all(ANSWER).await?;
    stream.shutdown().await
}
