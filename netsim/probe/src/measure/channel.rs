//! The probe's own connection to a relay, over a WebSocket or over QUIC: requests and answers of
//! [`crate::protocol`].

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use quinn::{ClientConfig, Endpoint, TransportConfig, crypto::rustls::QuicClientConfig};
use tokio_rustls::client::TlsStream;
use tunnel::{tls::KeyShares, world::BoxIo};

use super::{
    Run,
    attempt::{self, Goal, STAGE_WITHIN, Trying, What},
    message::Frames,
    quic::of_quic,
    tcp, tls,
};
use crate::{
    observe::{Fault, FaultKind, Flow, Variation},
    protocol::{ALPN, Echo, MESSAGE_BYTES_MAX, Request, SOCKET_PATH, SOCKET_TIME_MAX, SUBPROTOCOL},
};

/// A connection.
pub(super) enum Channel {
    WebSocket(Box<Frames<TlsStream<BoxIo>>>),
    Quic(Box<Lane>),
}

pub(super) struct Lane {
    /// Lives as long as the connection.
    _endpoint: Endpoint,
    connection: quinn::Connection,
    send: quinn::SendStream,
    recv: quinn::RecvStream,
}

impl Channel {
    /// Connects, and reads what the relay says first.
    pub(super) async fn open(run: &Run, what: &What) -> Result<(Self, Echo), Fault> {
        let opening = async {
            let mut channel = match what.flow {
                Flow::Quic => Self::over_quic(run, what).await?,
                Flow::Https | Flow::Websocket => Self::over_websocket(run, what).await?,
            };
            let first = channel.receive().await?;
            let echo = serde_json::from_slice(&first).map_err(|error| {
                let says = format!("what answers does not speak the probe's protocol: {error}");
                Fault::new(FaultKind::Protocol, says)
            })?;
            Ok((channel, echo))
        };
        let within = STAGE_WITHIN * 3;
        let opened = tokio::time::timeout(within, Box::pin(opening)).await;
        opened.unwrap_or_else(|_| Err(tcp::timed_out(within)))
    }

    async fn over_websocket(run: &Run, what: &What) -> Result<Self, Fault> {
        let mut trying = Trying::new(run, what);
        let mut frames = None;
        if let Some(io) = attempt::connect(&mut trying, what).await
            && let Some(tls) = attempt::secure(&mut trying, io, what).await
        {
            let asked = (what, SOCKET_PATH, SUBPROTOCOL);
            frames = attempt::upgrade(&mut trying, tls, asked).await;
        }
        let failed = || {
            let failure = trying.seen.failure();
            let fault = failure.map(|(_, fault)| fault.clone());
            fault.unwrap_or_else(|| Fault::new(FaultKind::Other, "it was not tried"))
        };
        let frames = frames.ok_or_else(failed)?;
        Ok(Self::WebSocket(Box::new(frames)))
    }

    async fn over_quic(run: &Run, what: &What) -> Result<Self, Fault> {
        let nowhere = || Fault::new(FaultKind::Other, "no address of the relay is known");
        let to = what.to.ok_or_else(nowhere)?;
        let other = |error: &dyn std::fmt::Display| Fault::new(FaultKind::Other, error.to_string());
        let shown = tls::Shown::default();
        let config = tls::client((ALPN, KeyShares::Hybrid), &run.judges, &shown)?;
        let crypto = QuicClientConfig::try_from(Arc::new(config)).map_err(|error| other(&error))?;
        let mut transport = TransportConfig::default();
        // Silence is what is measured: nothing of ours may break it, or end it.
        transport.max_idle_timeout(SOCKET_TIME_MAX.try_into().ok());
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(transport));
        let any: SocketAddr = match to {
            SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let endpoint = Endpoint::client(any).map_err(|error| tcp::of_io(&error))?;
        let connecting = endpoint.connect_with(config, to, &run.target.host);
        let connecting = connecting.map_err(|error| other(&error))?;
        let connection = connecting.await.map_err(|error| of_quic(&error.into()))?;
        let opened = connection.open_bi().await;
        let (mut send, recv) = opened.map_err(|error| of_quic(&error.into()))?;
        // A stream is known to the other end with its first byte: a request for nothing.
        let hello = length_and(&Request::Forget(Vec::new()).encode());
        send.write_all(&hello)
            .await
            .map_err(|error| of_quic(&io::Error::from(error)))?;
        Ok(Self::Quic(Box::new(Lane {
            _endpoint: endpoint,
            connection,
            send,
            recv,
        })))
    }

    pub(super) async fn send(&mut self, request: &Request) -> Result<(), Fault> {
        let message = request.encode();
        match self {
            Self::WebSocket(frames) => frames.send(&message).await,
            Self::Quic(lane) => {
                let sent = lane.send.write_all(&length_and(&message)).await;
                sent.map_err(|error| of_quic(&io::Error::from(error)))
            }
        }
    }

    pub(super) async fn receive(&mut self) -> Result<Bytes, Fault> {
        match self {
            Self::WebSocket(frames) => frames.message().await,
            Self::Quic(lane) => {
                let broken = |error: quinn::ReadExactError| match error {
                    quinn::ReadExactError::FinishedEarly(_) => {
                        Fault::new(FaultKind::Ended, "the relay ended the stream")
                    }
                    quinn::ReadExactError::ReadError(error) => of_quic(&io::Error::from(error)),
                };
                let mut length = [0; 4];
                lane.recv.read_exact(&mut length).await.map_err(broken)?;
                let length = u32::from_be_bytes(length) as usize;
                if length > 2 * MESSAGE_BYTES_MAX {
                    return Err(Fault::new(FaultKind::Protocol, "the message is too long"));
                }
                let mut message = vec![0; length];
                lane.recv.read_exact(&mut message).await.map_err(broken)?;
                Ok(message.into())
            }
        }
    }

    /// Asks, and waits so long for the answer.
    pub(super) async fn ask(
        &mut self,
        request: &Request,
        within: Duration,
    ) -> Result<Bytes, Fault> {
        let asking = async {
            self.send(request).await?;
            self.receive().await
        };
        let asked = tokio::time::timeout(within, asking).await;
        asked.unwrap_or_else(|_| Err(tcp::timed_out(within)))
    }

    pub(super) async fn close(self) {
        match self {
            Self::WebSocket(mut frames) => {
                let goodbye = frames.close();
                let _closed = tokio::time::timeout(Duration::from_millis(200), goodbye).await;
            }
            Self::Quic(lane) => lane.connection.close(0_u32.into(), b""),
        }
    }
}

fn length_and(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    framed
}

/// To where channels are opened.
pub(super) fn to(
    flow: Flow,
    to: Option<SocketAddr>,
    proxy: Option<&tunnel::dial::proxy::Proxy>,
) -> What {
    What {
        flow,
        round: 1,
        variation: Variation::Production,
        to,
        proxy: proxy.cloned(),
        goal: Goal::Tls,
        is_hurried: false,
    }
}
