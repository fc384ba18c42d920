//! The WebSocket transports: tokio-tungstenite over TLS, with small buffers.
//!
//! A message is a container of whole frames, never a limit on what a stream carries.

use std::{io, time::Duration};

use http::{HeaderValue, Request, Response, StatusCode, header};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async_with_config, client_async_with_config,
    tungstenite::{
        self,
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};
use wire::limits::{HANDSHAKE_TIMEOUT, MESSAGE_BYTES_MAX};

use crate::world::BoxIo;

/// The path under which a relay takes WebSockets, on 8000 and on 443.
pub const TUNNEL_PATH: &str = "/tunnel";

/// The subprotocol asked for, so that another service is told apart.
pub const SUBPROTOCOL: &str = "sternline.v1";

/// A WebSocket over whatever byte stream.
pub type WebSocket = WebSocketStream<BoxIo>;

/// The library's default of 128 KiB a connection would be most of an idle agent's
/// memory; these hold a few records.
fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(4 * MESSAGE_BYTES_MAX)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
}

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

/// The dialler's end, over TLS that is up. `host` is for the request alone.
///
/// # Errors
///
/// The other end does not switch, or not to our protocol.
pub async fn connect(io: BoxIo, host: &str) -> Result<WebSocket, WebSocketError> {
    let request = Request::builder()
        .uri(format!("wss://{host}{TUNNEL_PATH}"))
        .header(header::HOST, host)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL)
        .header(
            header::SEC_WEBSOCKET_KEY,
            tungstenite::handshake::client::generate_key(),
        )
        .body(())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let (websocket, response) = client_async_with_config(request, io, Some(config()))
        .await
        .map_err(|error| match error {
            tungstenite::Error::Http(response) => WebSocketError::Status(response.status()),
            tungstenite::Error::Io(error) => WebSocketError::Io(error),
            error => WebSocketError::Io(io::Error::new(io::ErrorKind::InvalidData, error)),
        })?;
    match response.headers().get(header::SEC_WEBSOCKET_PROTOCOL) {
        Some(protocol) if protocol == SUBPROTOCOL => Ok(websocket),
        _ => Err(WebSocketError::Subprotocol),
    }
}

/// The acceptor's end where nothing but the tunnel is served.
///
/// # Errors
///
/// The other end asks for something else, or breaks off.
pub async fn accept(io: BoxIo) -> io::Result<WebSocket> {
    type Refusal = Response<Option<String>>;
    #[expect(clippy::result_large_err, reason = "the library's signature")]
    let check = |request: &Request<()>, mut response: Response<()>| -> Result<_, Refusal> {
        if !is_tunnel(request.uri().path(), request.headers()) {
            let mut refusal = Response::new(Some("this port serves the tunnel alone\n".into()));
            *refusal.status_mut() = StatusCode::NOT_FOUND;
            return Err(refusal);
        }
        response.headers_mut().insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(SUBPROTOCOL),
        );
        Ok(response)
    };
    let accepted = accept_hdr_async_with_config(io, check, Some(config()));
    accepted
        .await
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Whether a request asks for the tunnel.
fn is_tunnel(path: &str, headers: &http::HeaderMap) -> bool {
    path == TUNNEL_PATH
        && headers
            .get_all(header::SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|protocol| protocol.trim() == SUBPROTOCOL)
}

/// The answer to an HTTP request for the tunnel, on a server that serves more: what
/// to answer, after which the connection is [`upgraded`].
///
/// # Errors
///
/// The request asks for something else; the response says so.
pub fn upgrade_response<B>(request: &Request<B>) -> Result<Response<()>, StatusCode> {
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
    let (Some(key), true, true, true) = (
        key,
        has(header::CONNECTION, "upgrade"),
        has(header::UPGRADE, "websocket"),
        is_tunnel(request.uri().path(), headers),
    ) else {
        return Err(StatusCode::UPGRADE_REQUIRED);
    };
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(
            header::SEC_WEBSOCKET_ACCEPT,
            derive_accept_key(key.as_bytes()),
        )
        .header(header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL)
        .body(())
        .map_err(|_| StatusCode::BAD_REQUEST)
}

/// The acceptor's end over a connection that was upgraded.
pub async fn upgraded(io: BoxIo) -> WebSocket {
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config())).await
}

/// How long the switch to WebSocket may take.
pub const UPGRADE_TIMEOUT: Duration = HANDSHAKE_TIMEOUT;
