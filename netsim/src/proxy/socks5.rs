//! SOCKS5 (RFC 1928) with user and password (RFC 1929): the command CONNECT.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tunnel::world::BoxIo;

use super::{DialFailure, HEAD_TIMEOUT, Proxy, portal, through};

const VERSION: u8 = 5;
const LOGIN_VERSION: u8 = 1;
const NO_METHOD_FITS: u8 = 0xff;
const CONNECT: u8 = 1;

/// What a client is told of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    /// It is connected.
    Succeeded = 0,
    /// Nothing more is known.
    Failed = 1,
    /// The proxy does not connect there.
    NotAllowed = 2,
    /// There is no way to the network.
    NetworkUnreachable = 3,
    /// There is no way to the host, or no such name.
    HostUnreachable = 4,
    /// The destination refuses.
    Refused = 5,
    /// It did not answer in time; RFC 1928 has no nearer word.
    Expired = 6,
    /// A command other than CONNECT.
    NoSuchCommand = 7,
    /// An address of an unknown kind.
    NoSuchAddress = 8,
}

/// Serves one client.
pub(super) async fn serve(proxy: &Proxy, mut client: BoxIo) -> io::Result<()> {
    let login = proxy.config.login.as_ref().map(|login| login.as_str());
    let asked = tokio::time::timeout(HEAD_TIMEOUT, negotiate(&mut client, login)).await??;
    let Some(asked) = asked else {
        return client.shutdown().await;
    };
    let (host, port) = match asked {
        Ok(destination) => destination,
        Err(reply) => return refuse(&mut client, reply).await,
    };
    if (proxy.is_captive)() {
        say(&mut client, Reply::Succeeded).await?;
        return portal::hold(proxy, client).await;
    }
    match proxy.dial(&host, port).await {
        Ok(upstream) => {
            say(&mut client, Reply::Succeeded).await?;
            through::pass(proxy, client, upstream, &host).await
        }
        Err(failure) => refuse(&mut client, reply_to(&failure)).await,
    }
}

fn reply_to(failure: &DialFailure) -> Reply {
    match failure {
        DialFailure::NotAllowed => Reply::NotAllowed,
        DialFailure::NoName => Reply::HostUnreachable,
        DialFailure::NoAnswer => Reply::Expired,
        DialFailure::Network(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => Reply::Refused,
            io::ErrorKind::HostUnreachable => Reply::HostUnreachable,
            io::ErrorKind::NetworkUnreachable => Reply::NetworkUnreachable,
            _ => Reply::Failed,
        },
    }
}

/// Where a client wants to go, or what to tell it.
type Asked = Result<(String, u16), Reply>;

/// Greets, has the client log in, and reads its request; none where it was sent away.
pub(super) async fn negotiate<S>(client: &mut S, login: Option<&str>) -> io::Result<Option<Asked>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if client.read_u8().await? != VERSION {
        return Ok(None);
    }
    let offered = counted(client).await?;
    let wanted = if login.is_some() { 2 } else { 0 };
    if !offered.contains(&wanted) {
        client.write_all(&[VERSION, NO_METHOD_FITS]).await?;
        return Ok(None);
    }
    client.write_all(&[VERSION, wanted]).await?;
    if let Some(login) = login {
        let version = client.read_u8().await?;
        let (user, password) = (counted(client).await?, counted(client).await?);
        let shown = [&user[..], &password[..]].join(&b':');
        let fits = version == LOGIN_VERSION && shown == login.as_bytes();
        client.write_all(&[LOGIN_VERSION, u8::from(!fits)]).await?;
        if !fits {
            return Ok(None);
        }
    }
    request(client).await.map(Some)
}

/// Bytes that have their number, up to 255, before them.
async fn counted(client: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; client.read_u8().await?.into()];
    client.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn request(client: &mut (impl AsyncRead + Unpin)) -> io::Result<Asked> {
    let mut start = [0; 4];
    client.read_exact(&mut start).await?;
    let [version, command, _, kind] = start;
    if version != VERSION {
        return Ok(Err(Reply::Failed));
    }
    let host = match kind {
        1 => Ipv4Addr::from_bits(client.read_u32().await?).to_string(),
        4 => Ipv6Addr::from_bits(client.read_u128().await?).to_string(),
        3 => match String::from_utf8(counted(client).await?) {
            Ok(name) if !name.is_empty() => name,
            Ok(_) | Err(_) => return Ok(Err(Reply::HostUnreachable)),
        },
        _ => return Ok(Err(Reply::NoSuchAddress)),
    };
    let port = client.read_u16().await?;
    Ok(if command == CONNECT {
        Ok((host, port))
    } else {
        Err(Reply::NoSuchCommand)
    })
}

/// The address that the proxy dialled from is told to nobody: clients do not use it.
async fn say(client: &mut BoxIo, reply: Reply) -> io::Result<()> {
    let [version, reserved, ipv4] = [VERSION, 0, 1];
    let said = [version, reply as u8, reserved, ipv4, 0, 0, 0, 0, 0, 0];
    client.write_all(&said).await
}

async fn refuse(client: &mut BoxIo, reply: Reply) -> io::Result<()> {
    say(client, reply).await?;
    client.shutdown().await
}
