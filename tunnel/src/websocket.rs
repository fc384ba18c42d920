//! The WebSocket transports: HTTP by hyper, heads of frames by tungstenite, records by
//! rustls, and between them no buffer that is not needed at the moment.
//!
//! A message is a container of whole frames, never a limit on what a stream carries.
//!
//! The dialler masks with zero. RFC 6455 §10.3 asks for random masks so that a script in
//! a browser cannot choose the bytes that a proxy between reads as HTTP. Here the
//! dialler is no browser, the bytes are inside TLS, and a mask would be one more pass
//! over every byte that an agent sends.

use std::{
    convert::Infallible,
    fmt,
    future::poll_fn,
    io::{self, IoSlice},
    sync::OnceLock,
    task::{Context, Poll},
};

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{Empty, Full};
use hyper::{body::Incoming as Body, client, server, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio_rustls::{
    TlsStream, client::TlsStream as ClientStream, server::TlsStream as ServerStream,
};
use tokio_tungstenite::tungstenite::{
    handshake::derive_accept_key,
    protocol::{
        Role,
        frame::{
            FrameHeader,
            coding::{Control, Data, OpCode},
        },
    },
};
use wire::session::{Pieces, PutMessage};

use crate::world::BoxIo;

mod assemble;
mod carrier;
mod records;

pub(crate) use assemble::{Incoming, Malformed};

use assemble::Assembler;
use carrier::Carrier;
use records::Records;

/// The path under which a relay takes WebSockets, on 8000 and on 443.
pub const TUNNEL_PATH: &str = "/tunnel";

/// The path of a WebSocket whose messages are the bytes of another TLS, where somebody on
/// the way ends the outer one.
pub const CARRIER_PATH: &str = "/tunnel/inner";

/// What a WebSocket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Its messages are frames.
    Session,
    /// Its messages are the bytes of another TLS, inside which the session's WebSocket is.
    Carrier,
}

impl Purpose {
    const fn path(self) -> &'static str {
        match self {
            Self::Session => TUNNEL_PATH,
            Self::Carrier => CARRIER_PATH,
        }
    }

    /// Of the path that is asked for; `None`: another service's.
    pub fn of_path(path: &str) -> Option<Self> {
        [Self::Session, Self::Carrier]
            .into_iter()
            .find(|purpose| purpose.path() == path)
    }
}

/// The subprotocol asked for, so that another service is told apart.
pub const SUBPROTOCOL: &str = "sternline.v1";

/// Most of a request's or an answer's head: they are ours, and a stranger's need no more
/// room.
const HTTP_HEAD_BYTES_MAX: usize = 16 * 1024;

/// The longest head of a frame that is sent: two bytes, eight of length, four of mask.
const HEAD_BYTES_MAX: usize = 14;

/// A WebSocket over TLS.
pub struct WebSocket {
    records: Records,
    assembler: Box<Assembler>,
    role: Role,
    /// What came with the other end's switch to WebSocket.
    unread: Bytes,
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket")
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// Why nothing more can be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The connection broke.
    Io(io::Error),
    /// The peer speaks something else.
    Malformed(Malformed),
}

impl WebSocket {
    fn new(tls: TlsStream<BoxIo>, role: Role, unread: Bytes) -> Self {
        let records = match tls {
            TlsStream::Client(tls) => {
                let (io, tls) = tls.into_inner();
                Records::new(io, tls)
            }
            TlsStream::Server(tls) => {
                let (io, tls) = tls.into_inner();
                Records::new(io, tls)
            }
        };
        Self {
            records,
            assembler: Box::new(Assembler::new(role)),
            role,
            unread,
        }
    }

    /// The bytes that its messages are, for a TLS inside.
    pub fn into_io(self) -> BoxIo {
        Box::new(Carrier::new(self))
    }

    /// Reads once from the connection, and gives `on` what is complete; false at the
    /// end of the stream.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        on: &mut dyn FnMut(Incoming),
    ) -> Poll<Result<bool, ReadError>> {
        let Self {
            records,
            assembler,
            unread,
            ..
        } = self;
        let mut malformed = None;
        let mut take = |mut plaintext: &[u8]| {
            while malformed.is_none() {
                match assembler.next(&mut plaintext) {
                    Ok(Some(incoming)) => on(incoming),
                    Ok(None) => return,
                    Err(error) => malformed = Some(error),
                }
            }
        };
        let early = std::mem::take(unread);
        take(&early);
        // What the handshake has left is there without a read.
        let read = if records.drain(&mut take) || !early.is_empty() {
            Poll::Ready(Ok(true))
        } else {
            records.poll_read(cx, &mut take)
        };
        match (malformed, read) {
            (Some(error), _) => Poll::Ready(Err(ReadError::Malformed(error))),
            (None, read) => read.map_err(ReadError::Io),
        }
    }

    /// Encrypts one message; [`Self::poll_flush`] sends it.
    pub(crate) fn queue(&mut self, message: &Pieces) -> io::Result<()> {
        let mut head = [0; HEAD_BYTES_MAX];
        let opcode = OpCode::Data(Data::Binary);
        let head = self.head(opcode, PutMessage::len(message), &mut head)?;
        let mut slices = Vec::with_capacity(8);
        slices.push(IoSlice::new(head));
        message.slices(&mut slices);
        self.records.queue(&slices)
    }

    /// Answers a ping.
    pub(crate) fn queue_pong(&mut self, payload: &[u8]) -> io::Result<()> {
        self.queue_control(Control::Pong, payload)
    }

    fn queue_control(&mut self, control: Control, payload: &[u8]) -> io::Result<()> {
        let mut head = [0; HEAD_BYTES_MAX];
        let head = self.head(OpCode::Control(control), payload.len(), &mut head)?;
        self.records
            .queue(&[IoSlice::new(head), IoSlice::new(payload)])
    }

    fn head<'a>(
        &self,
        opcode: OpCode,
        length: usize,
        room: &'a mut [u8; HEAD_BYTES_MAX],
    ) -> io::Result<&'a [u8]> {
        let header = FrameHeader {
            opcode,
            mask: (self.role == Role::Client).then_some([0; 4]),
            ..FrameHeader::default()
        };
        let mut rest = &mut room[..];
        header
            .format(length as u64, &mut rest)
            .map_err(io::Error::other)?;
        let unused = rest.len();
        Ok(&room[..HEAD_BYTES_MAX - unused])
    }

    /// Sends all that is queued.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.records.poll_flush(cx)
    }

    /// Sends what is queued, and that nothing more will come.
    pub(crate) async fn close(&mut self) -> io::Result<()> {
        // After a broken record rustls sends its alert, and nothing else.
        let _refused = self.queue_control(Control::Close, &[]);
        self.records.queue_close();
        poll_fn(|cx| self.records.poll_shutdown(cx)).await
    }

    /// Sends one message, for use before there is a session.
    pub(crate) async fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let mut pieces = Pieces::default();
        pieces.head().put_slice(message);
        self.queue(&pieces)?;
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// The messages that have come, joined, at least one; for use before there is a
    /// session, while either end sends one message at a time.
    pub(crate) async fn recv(&mut self) -> io::Result<Bytes> {
        let mut joined = BytesMut::new();
        let mut is_over = false;
        while joined.is_empty() {
            let mut on = |incoming| match incoming {
                Incoming::Message(bytes) => joined.put(bytes),
                Incoming::Ping(_) | Incoming::Pong => {}
                Incoming::Close => is_over = true,
            };
            match poll_fn(|cx| self.poll_read(cx, &mut on)).await {
                Ok(is_open) => is_over |= !is_open,
                Err(ReadError::Io(error)) => return Err(error),
                Err(ReadError::Malformed(error)) => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
            }
            if is_over && joined.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(joined.freeze())
    }
}

/// Of the key in a request for a WebSocket (RFC 6455 §4.1).
const KEY_BYTES: usize = 16;

/// Why no WebSocket came about.
#[derive(Debug, thiserror::Error)]
pub enum WebSocketError {
    /// The other end speaks HTTP, and answered with this status.
    #[error("the relay answered {0} instead of switching to WebSocket")]
    Status(StatusCode),
    /// The other end speaks WebSocket, and another protocol in it.
    #[error("the other end does not speak `{SUBPROTOCOL}`")]
    Subprotocol,
    /// Anything else.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// HTTP that does not hold.
fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The dialler's end. `host` is for the request alone, and `key` are random bytes.
///
/// # Errors
///
/// The other end does not switch, or not to our protocol.
pub async fn connect(
    tls: ClientStream<BoxIo>,
    (host, purpose): (&str, Purpose),
    key: [u8; KEY_BYTES],
) -> Result<WebSocket, WebSocketError> {
    let key = BASE64.encode(key);
    let request = Request::builder()
        .uri(purpose.path())
        .header(header::HOST, host)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL)
        .header(header::SEC_WEBSOCKET_KEY, &key)
        .body(Empty::<Bytes>::new())
        .map_err(invalid)?;
    // Names of headers as a browser writes them, for whoever looks at them on the way.
    let (mut sender, mut http) = client::conn::http1::Builder::new()
        .title_case_headers(true)
        .max_buf_size(HTTP_HEAD_BYTES_MAX)
        .handshake(TokioIo::new(tls))
        .await
        .map_err(invalid)?;
    let response = {
        let answer = sender.send_request(request);
        let mut answer = std::pin::pin!(answer);
        poll_fn(|cx| {
            if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                return Poll::Ready(answer);
            }
            // What ends the connection ends the wait for the answer too.
            let _ended = http.poll_without_shutdown(cx);
            answer.as_mut().poll(cx)
        })
        .await
        .map_err(invalid)?
    };
    let headers = response.headers();
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(WebSocketError::Status(response.status()));
    }
    let is_ours = |name, value: &str| headers.get(name).is_some_and(|found| found == value);
    if !is_ours(
        header::SEC_WEBSOCKET_ACCEPT,
        &derive_accept_key(key.as_bytes()),
    ) {
        return Err(invalid("the answer to the WebSocket key is wrong").into());
    }
    if !is_ours(header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
        return Err(WebSocketError::Subprotocol);
    }
    let parts = http.into_parts();
    let tls = TlsStream::Client(parts.io.into_inner());
    Ok(WebSocket::new(tls, Role::Client, parts.read_buf))
}

/// The acceptor's end where nothing but the tunnel is served, and what it is for.
///
/// # Errors
///
/// The other end asks for something else, or breaks off.
pub async fn accept(tls: ServerStream<BoxIo>) -> io::Result<(WebSocket, Purpose)> {
    match accept_beside(tls, |_| None::<(_, Infallible)>).await? {
        Accepted::Tunnel(websocket, purpose) => Ok((websocket, purpose)),
        Accepted::Beside(never, ..) => match never {},
    }
}

/// What came to where the tunnel is served.
#[derive(Debug)]
pub enum Accepted<T> {
    /// The tunnel, and what it is for.
    Tunnel(WebSocket, Purpose),
    /// Something else that was answered: what was made of it, the connection, and what has
    /// been read of it since.
    Beside(T, Box<ServerStream<BoxIo>>, Bytes),
}

/// The same where something else is served beside the tunnel: what `beside` answers, and what
/// it makes of it. The answer must end HTTP on the connection, by a switch or by saying so.
///
/// # Errors
///
/// The other end asks for what is neither, or breaks off.
pub async fn accept_beside<T>(
    tls: ServerStream<BoxIo>,
    beside: impl Fn(&Request<Body>) -> Option<(Response<Bytes>, T)>,
) -> io::Result<Accepted<T>> {
    let asked = OnceLock::new();
    let service = service_fn(|request: Request<Body>| {
        let response = match upgrade_response(&request) {
            Ok((response, purpose)) => {
                // hyper answers nothing more on a connection that it has switched.
                let _first = asked.set(Ok(purpose));
                response.map(|()| Bytes::new())
            }
            Err(_) => match beside(&request) {
                Some((response, made)) => {
                    let _first = asked.set(Err(made));
                    response
                }
                None => not_here(),
            },
        };
        std::future::ready(Ok::<_, Infallible>(response.map(Full::new)))
    });
    let mut http = server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), service);
    poll_fn(|cx| http.poll_without_shutdown(cx))
        .await
        .map_err(invalid)?;
    let server::conn::http1::Parts { io, read_buf, .. } = http.into_parts();
    let tls = io.into_inner();
    match asked.into_inner() {
        Some(Ok(purpose)) => {
            let tls = TlsStream::Server(tls);
            let websocket = WebSocket::new(tls, Role::Server, read_buf);
            Ok(Accepted::Tunnel(websocket, purpose))
        }
        Some(Err(made)) => Ok(Accepted::Beside(made, Box::new(tls), read_buf)),
        None => Err(invalid("no request for the tunnel came")),
    }
}

fn not_here() -> Response<Bytes> {
    let mut response = Response::new("this port serves the tunnel alone\n".into());
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// What a request asks for, if it is the tunnel.
fn purpose(path: &str, headers: &http::HeaderMap) -> Option<Purpose> {
    let is_ours = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|protocol| protocol.trim() == SUBPROTOCOL);
    Purpose::of_path(path).filter(|_| is_ours)
}

/// The answer to an HTTP request for the tunnel, on a server that serves more: what
/// to answer, after which the connection is [`upgraded`], and what that is for.
///
/// # Errors
///
/// The request asks for something else; the response says so.
pub fn upgrade_response<B>(request: &Request<B>) -> Result<(Response<()>, Purpose), StatusCode> {
    let headers = request.headers();
    let has = |name: header::HeaderName, word: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| {
                value
                    .split(',')
                    .any(|part| part.trim().eq_ignore_ascii_case(word))
            })
    };
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    let (Some(key), true, true, Some(purpose)) = (
        key,
        has(header::CONNECTION, "upgrade"),
        has(header::UPGRADE, "websocket"),
        purpose(request.uri().path(), headers),
    ) else {
        return Err(StatusCode::UPGRADE_REQUIRED);
    };
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(
            header::SEC_WEBSOCKET_ACCEPT,
            derive_accept_key(key.as_bytes()),
        )
        .header(header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL)
        .body(())
        .map_err(|_| StatusCode::BAD_REQUEST)?;
    Ok((response, purpose))
}

/// The acceptor's end over a connection that was upgraded, by a server that is handed
/// its connections as this module's `accept` is.
///
/// # Errors
///
/// The connection is of another kind.
pub fn upgraded(upgraded: hyper::upgrade::Upgraded) -> io::Result<WebSocket> {
    let parts = upgraded
        .downcast::<TokioIo<ServerStream<BoxIo>>>()
        .map_err(|_| invalid("the connection is none of TLS over a socket"))?;
    let tls = TlsStream::Server(parts.io.into_inner());
    Ok(WebSocket::new(tls, Role::Server, parts.read_buf))
}
