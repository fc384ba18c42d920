//! The three paths of the probe, as HTTP.

use std::net::SocketAddr;

use ::probe::protocol::{ECHO_PATH, Echo, SOCKET_PATH, SUBPROTOCOL, WITNESS_PATH};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use serde::Serialize;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{Limited, Place, Probe};
use crate::metrics::{ProbeKind, ProbeOutcome};

/// What a relay begins a socket with.
#[derive(Debug)]
pub struct Opening {
    /// For as long as the socket is open.
    pub place: Place,
    /// What it says first.
    pub echo: Echo,
}

/// What is answered.
#[derive(Debug)]
pub struct Answer {
    /// The answer.
    pub response: Response<Bytes>,
    /// Where it switches to WebSocket.
    pub opening: Option<Opening>,
}

impl Probe {
    /// Answers a request for one of the probe's paths; `None`: it is for another.
    pub fn answer<B>(&self, request: &Request<B>, from: SocketAddr) -> Option<Answer> {
        let kind = match request.uri().path() {
            ECHO_PATH => ProbeKind::Echo,
            WITNESS_PATH => ProbeKind::Witness,
            SOCKET_PATH => ProbeKind::Socket,
            _ => return None,
        };
        let plain = |response| Answer {
            response,
            opening: None,
        };
        if request.method() != Method::GET {
            let text = "the probe asks by GET\n";
            return Some(plain(refusal(StatusCode::METHOD_NOT_ALLOWED, text)));
        }
        Some(match kind {
            ProbeKind::Echo => plain(self.answer_echo(from, request.headers())),
            ProbeKind::Witness => plain(self.answer_witness(from)),
            _ => self.answer_socket(from, request.headers()),
        })
    }

    /// Takes one of the address's requests, and counts it.
    fn is_in_quota(&self, kind: ProbeKind, from: SocketAddr) -> Result<(), Limited> {
        let taken = self.quota.request(self.clock.now(), from.ip());
        if taken.is_err() {
            self.metrics.probe_asked(kind, ProbeOutcome::Limited);
        }
        taken
    }

    fn answer_echo(&self, from: SocketAddr, headers: &HeaderMap) -> Response<Bytes> {
        if let Err(limited) = self.is_in_quota(ProbeKind::Echo, from) {
            return too_many(limited);
        }
        self.metrics
            .probe_asked(ProbeKind::Echo, ProbeOutcome::Answered);
        json(&self.echo(from, headers))
    }

    fn answer_witness(&self, from: SocketAddr) -> Response<Bytes> {
        if let Err(limited) = self.is_in_quota(ProbeKind::Witness, from) {
            return too_many(limited);
        }
        let Some(witness) = self.witness(from) else {
            self.metrics
                .probe_asked(ProbeKind::Witness, ProbeOutcome::Forgotten);
            let text = "so many come to this relay that it may have forgotten some of your \
                        arrivals: what it did not see proves nothing now\n";
            return refusal(StatusCode::SERVICE_UNAVAILABLE, text);
        };
        self.metrics
            .probe_asked(ProbeKind::Witness, ProbeOutcome::Answered);
        json(&witness)
    }

    fn answer_socket(&self, from: SocketAddr, headers: &HeaderMap) -> Answer {
        let plain = |response| Answer {
            response,
            opening: None,
        };
        let Some(accept) = accept_key(headers) else {
            self.metrics
                .probe_asked(ProbeKind::Socket, ProbeOutcome::Refused);
            let text = "this path serves a WebSocket of the probe: something on the way may have \
                        taken the request for it away\n";
            return plain(refusal(StatusCode::UPGRADE_REQUIRED, text));
        };
        let place = match self.enter(ProbeKind::Socket, from) {
            Ok(place) => place,
            Err(limited) => return plain(too_many(limited)),
        };
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().extend([
            (header::CONNECTION, HeaderValue::from_static("Upgrade")),
            (header::UPGRADE, HeaderValue::from_static("websocket")),
            (header::SEC_WEBSOCKET_ACCEPT, accept),
            (
                header::SEC_WEBSOCKET_PROTOCOL,
                HeaderValue::from_static(SUBPROTOCOL),
            ),
        ]);
        let echo = self.echo(from, headers);
        Answer {
            response,
            opening: Some(Opening { place, echo }),
        }
    }
}

/// What answers the key of a request for the probe's WebSocket; `None`: it is none.
fn accept_key(headers: &HeaderMap) -> Option<HeaderValue> {
    let has = |name: HeaderName, word: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    let is_asked = has(header::CONNECTION, "upgrade")
        && has(header::UPGRADE, "websocket")
        && has(header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL);
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .filter(|_| is_asked)?;
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()
}

fn json<T: Serialize>(value: &T) -> Response<Bytes> {
    let text = serde_json::to_vec(value).unwrap_or_default();
    with_headers(Response::new(text.into()), "application/json")
}

fn too_many(limited: Limited) -> Response<Bytes> {
    let (status, text) = match limited {
        Limited::Address => (
            StatusCode::TOO_MANY_REQUESTS,
            "your address has asked this relay's probe too often: try again in a minute\n",
        ),
        Limited::All => (
            StatusCode::SERVICE_UNAVAILABLE,
            "too many use this relay's probe at this moment: try again in a minute\n",
        ),
    };
    let mut response = refusal(status, text);
    let minute = HeaderValue::from_static("60");
    response.headers_mut().insert(header::RETRY_AFTER, minute);
    response
}

fn refusal(status: StatusCode, text: &'static str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(text.as_bytes()));
    *response.status_mut() = status;
    with_headers(response, "text/plain; charset=utf-8")
}

fn with_headers(mut response: Response<Bytes>, content_type: &'static str) -> Response<Bytes> {
    response.headers_mut().extend([
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
    ]);
    response
}
