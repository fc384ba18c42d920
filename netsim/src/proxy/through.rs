//! What passes a proxy once both ends are connected: untouched, without upgrades, or
//! through a TLS of its own.

use std::{io, sync::Arc};

use bytes::BytesMut;
use rustls::{pki_types::ServerName, server::ClientHello};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::{LazyConfigAcceptor, TlsConnector};
use tunnel::{tls::SeenCertificate, world::BoxIo};

use super::{
    Proxy,
    authority::Authority,
    http::{self, Body, Next},
    with_first,
};

/// What is held of a direction at most: what a TLS record has.
const BUFFER_BYTES: usize = 16 * 1024;

/// The first byte of TLS: a record of the handshake.
const TLS_HANDSHAKE: u8 = 22;

/// What a client's first byte tells of what it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    /// TLS.
    Tls,
    /// Something in the clear, or nothing at all.
    Clear,
}

impl First {
    /// Waits for it. The connection that comes back has it still.
    pub(super) async fn of(mut client: BoxIo) -> io::Result<(Self, BoxIo)> {
        let mut first = [0; 1];
        let read = client.read(&mut first).await?;
        Ok((
            Self::from(&first[..read]),
            with_first(first[..read].to_vec(), client),
        ))
    }
}

impl From<&[u8]> for First {
    fn from(bytes: &[u8]) -> Self {
        match bytes.first() {
            Some(&TLS_HANDSHAKE) => Self::Tls,
            Some(_) | None => Self::Clear,
        }
    }
}

/// Joins both ends until both directions are done. `name` is whom the client asked for.
pub(super) async fn pass(
    proxy: &Proxy,
    mut client: BoxIo,
    mut upstream: BoxIo,
    name: &str,
) -> io::Result<()> {
    let strips = proxy.config.strips_upgrade;
    let Some(authority) = &proxy.interceptor else {
        return join(client, upstream, strips).await;
    };
    let (mut first, mut greeting) = ([0; 1], [0; 1]);
    // Either end may be the one that speaks first, and TLS begins with the client.
    tokio::select! {
        biased;
        read = client.read(&mut first) => {
            let first = &first[..read?];
            let client = with_first(first.to_vec(), client);
            match First::from(first) {
                First::Tls => intercept((authority, strips), client, upstream, name).await,
                First::Clear => join(client, upstream, strips).await,
            }
        }
        read = upstream.read(&mut greeting) => {
            let upstream = with_first(greeting[..read?].to_vec(), upstream);
            join(client, upstream, strips).await
        }
    }
}

/// Ends the client's TLS, and begins another one towards the destination.
async fn intercept(
    (authority, strips): (&Authority, bool),
    client: BoxIo,
    upstream: BoxIo,
    name: &str,
) -> io::Result<()> {
    let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), client).await?;
    let hello = start.client_hello();
    let name = hello.server_name().unwrap_or(name).to_owned();
    // Whom a company's gateway trusts is not modelled: it takes any certificate, as the
    // product's client does.
    let mut config =
        tunnel::tls::identity_client(b"", &SeenCertificate::default(), authority.clock());
    config.alpn_protocols = offered(&hello);
    let asked = ServerName::try_from(name.clone()).map_err(io::Error::other)?;
    let connector = TlsConnector::from(Arc::new(config));
    let upstream = connector.connect(asked, upstream).await?;
    let alpn = upstream.get_ref().1.alpn_protocol();
    let alpn = alpn.map(<[u8]>::to_vec).into_iter().collect();
    let client = start.into_stream(authority.server(&name, alpn)?).await?;
    join(Box::new(client), Box::new(upstream), strips).await
}

/// The application protocols that a client offers.
pub(super) fn offered(hello: &ClientHello<'_>) -> Vec<Vec<u8>> {
    let offered = hello.alpn().into_iter().flatten();
    offered.map(<[u8]>::to_vec).collect()
}

/// Carries bytes both ways; each direction ends by itself.
async fn join(mut client: BoxIo, mut upstream: BoxIo, strips: bool) -> io::Result<()> {
    if !strips {
        let sizes = (BUFFER_BYTES, BUFFER_BYTES);
        tokio::io::copy_bidirectional_with_sizes(&mut client, &mut upstream, sizes.0, sizes.1)
            .await?;
        return Ok(());
    }
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_upstream, mut to_upstream) = tokio::io::split(upstream);
    let there = without_upgrades(&mut from_client, &mut to_upstream);
    let back = async {
        tokio::io::copy(&mut from_upstream, &mut to_client).await?;
        to_client.shutdown().await
    };
    tokio::try_join!(there, back)?;
    Ok(())
}

/// Carries what a client sends, and takes `Upgrade` out of requests. What is no HTTP/1, or
/// has a body whose end is not known beforehand, passes untouched from there on.
pub(super) async fn without_upgrades(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut held = BytesMut::new();
    while let Next::Head(head) = http::next(from, &mut held).await? {
        let body = head.body();
        to.write_all(&head.without_upgrade().to_bytes()).await?;
        let Body::Length(length) = body else {
            break;
        };
        let here = usize::try_from(length).map_or(held.len(), |length| length.min(held.len()));
        let here = held.split_to(here);
        to.write_all(&here).await?;
        let missing = length - here.len() as u64;
        let copied = tokio::io::copy(&mut from.take(missing), to).await?;
        if copied < missing {
            break;
        }
    }
    to.write_all(&held).await?;
    tokio::io::copy(from, to).await?;
    to.shutdown().await
}
