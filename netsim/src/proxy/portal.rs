//! A captive portal (RFC 8952) that nobody has logged in to: everything in the clear is
//! sent to its page, and TLS meets its certificate, whoever was asked for.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::LazyConfigAcceptor;
use tunnel::world::BoxIo;

use super::{
    HEAD_TIMEOUT, Proxy,
    http::{self, Answer, Next},
    through::{First, offered},
};

/// The name in the certificate of who signs for it.
pub(super) const NAME: &str = "Captive Portal CA";

/// What it is called.
const HOST: &str = "login.portal.example";

const GO_THERE: Answer = Answer {
    status: "302 Found",
    header: "Location: http://login.portal.example/\r\nCache-Control: no-store\r\n",
    body: "Log in first.\n",
    stays: false,
};

const PAGE: Answer = Answer {
    status: "200 OK",
    header: "Cache-Control: no-store\r\n",
    body: "Log in here.\n",
    stays: false,
};

/// Answers a connection in the place of whom it was meant for, and ends it.
pub(super) async fn hold(proxy: &Proxy, client: BoxIo) -> io::Result<()> {
    tokio::time::timeout(HEAD_TIMEOUT, answer(proxy, client)).await?
}

async fn answer(proxy: &Proxy, client: BoxIo) -> io::Result<()> {
    let (first, mut client) = First::of(client).await?;
    let Some(authority) = proxy.portal.as_ref().filter(|_| first == First::Tls) else {
        return redirect(&mut client).await;
    };
    let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), client).await?;
    let alpn = offered(&start.client_hello()).into_iter();
    let alpn = alpn.filter(|one| one == tunnel::tls::ALPN_HTTP).collect();
    let mut tls = start.into_stream(authority.server(HOST, alpn)?).await?;
    redirect(&mut tls).await
}

async fn redirect(client: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    match http::next(client, &mut BytesMut::new()).await? {
        Next::Head(head) if head.header("host") == Some(HOST) => PAGE.say(client).await,
        Next::Head(_) => GO_THERE.say(client).await,
        Next::NotHttp | Next::End => Ok(()),
    }
}
