//! The session's handshake over a connection of either kind, and the session after.

use std::{io, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::sync::{Semaphore, SemaphorePermit};
use wire::{
    close::CloseCode,
    frame::{self, DecodeError, Frame},
    handshake::{
        AcceptorHandshake, Answer, DiallerHandshake, Exporter, HandshakeError, Hello,
        ReceivedHello, Refusal, Welcome,
    },
    id::Side,
    key::PublicKey,
    limits::{BULK_LANES_MAX, HANDSHAKE_TIMEOUT},
    session::ConnectionOptions,
    transport::Transport,
};

use crate::{
    crypto::{KeyPair, verify},
    quic::{self, QuicLink},
    session::{DriverParts, Observe, Session, SessionOptions, framed, laned},
    websocket::WebSocket,
    world::World,
};

/// A connection whose transport is up, and whose session is not yet.
#[derive(Debug)]
pub struct Connection {
    link: Link,
    exporter: Exporter,
    transport: Transport,
    /// Somebody on the way ends the TLS around this one.
    is_intercepted: bool,
}

#[derive(Debug)]
enum Link {
    WebSocket {
        websocket: Box<WebSocket>,
        unread: Bytes,
    },
    Quic(Box<QuicLink>),
}

/// When a hello may be sent. Routes and dials that go on side by side share one, as clones:
/// the relay hears one hello at a time, and none after a welcome, because a second session
/// would supersede the first.
#[derive(Debug, Clone)]
pub struct Turn {
    /// Closed by a welcome.
    one: Arc<Semaphore>,
    /// A connection must have held for so long before, at most half of
    /// [`HANDSHAKE_TIMEOUT`]: who has another one would see this one last before it moves.
    hold: Duration,
}

impl Turn {
    /// A turn that has not come yet.
    pub fn after(hold: Duration) -> Self {
        let one = Arc::new(Semaphore::new(1));
        Self { one, hold }
    }

    /// Whether somebody has sent a hello and waits for its answer, or was welcomed: whoever
    /// gave up now would leave the relay with a session that nobody has.
    pub fn is_taken(&self) -> bool {
        self.one.is_closed() || self.one.available_permits() == 0
    }

    /// Waits for it; not for ever, because a hello may have gone where nobody is any more.
    async fn come(&self) -> Option<SemaphorePermit<'_>> {
        tokio::time::sleep(self.hold.min(HANDSHAKE_TIMEOUT / 2)).await;
        match tokio::time::timeout(ANSWERED_WITHIN, self.one.acquire()).await {
            Ok(Ok(permit)) => Some(permit),
            // Another one was welcomed, and whoever shares this is about to be dropped.
            Ok(Err(_)) => std::future::pending().await,
            Err(_) => None,
        }
    }
}

/// A hello that has had no answer for so long holds up no other one.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);

/// Why a handshake failed at this end.
#[derive(Debug, Error)]
pub enum ConnectionError {
    /// The transport broke.
    #[error("the connection broke during the handshake: {0}")]
    Io(#[from] io::Error),
    /// What arrived is no frame.
    #[error("the other end does not speak the protocol: {0}")]
    Decode(#[from] DecodeError),
    /// The frames are not those of a handshake that holds.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
}

impl Connection {
    /// Over a WebSocket, `transport` being one of the two kinds.
    pub fn over_websocket(websocket: WebSocket, exporter: Exporter, transport: Transport) -> Self {
        let link = Link::WebSocket {
            websocket: Box::new(websocket),
            unread: Bytes::new(),
        };
        Self {
            link,
            exporter,
            transport,
            is_intercepted: false,
        }
    }

    /// The same, where its TLS is inside another one, which somebody on the way ends.
    #[must_use]
    pub fn inside_another_tls(mut self) -> Self {
        self.is_intercepted = true;
        self
    }

    /// Whether somebody on the way ends the TLS around this one.
    pub const fn is_intercepted(&self) -> bool {
        self.is_intercepted
    }

    /// Over QUIC that the other end dialled.
    ///
    /// # Errors
    ///
    /// The connection broke.
    pub async fn over_accepted_quic(connection: quinn::Connection) -> io::Result<Self> {
        let exporter = quic::exporter(&connection)?;
        let link = Link::Quic(Box::new(quic::accepted(connection).await?));
        Ok(Self {
            link,
            exporter,
            transport: Transport::Quic,
            is_intercepted: false,
        })
    }

    /// Over QUIC that this end dialled.
    ///
    /// # Errors
    ///
    /// The connection broke.
    pub async fn over_dialled_quic(connection: quinn::Connection) -> io::Result<Self> {
        let exporter = quic::exporter(&connection)?;
        let link = Link::Quic(Box::new(quic::dialled(connection).await?));
        Ok(Self {
            link,
            exporter,
            transport: Transport::Quic,
            is_intercepted: false,
        })
    }

    /// What carries it.
    pub const fn transport(&self) -> Transport {
        self.transport
    }

    /// The dialler's half: who the other end is, then who this one is.
    ///
    /// The hello waits for its [`Turn`].
    ///
    /// # Errors
    ///
    /// See [`ConnectionError`]. A refusal is an answer.
    pub async fn introduce(
        &mut self,
        relay: Option<PublicKey>,
        hello: Hello,
        key: Option<&KeyPair>,
        turn: &Turn,
    ) -> Result<Answer, ConnectionError> {
        let handshake = DiallerHandshake::new(self.exporter, relay, hello);
        let challenge = self.recv().await?;
        let sign = key.map(|key| |message: &[u8]| key.sign(message));
        let sign = sign.as_ref().map(|sign| sign as wire::handshake::Sign<'_>);
        let hello = handshake.handle_challenge(&challenge, &verify, sign)?;
        let _permit = turn.come().await;
        self.send(&hello).await?;
        let answer = handshake.handle_answer(&self.recv().await?)?;
        if matches!(answer, Answer::Welcome(_)) {
            turn.one.close();
        }
        Ok(answer)
    }

    /// The acceptor's half, up to the hello: judge it, then [`welcome`](Self::welcome)
    /// or [`refuse`](Self::refuse).
    ///
    /// # Errors
    ///
    /// See [`ConnectionError`].
    pub async fn challenge(
        &mut self,
        identity: &KeyPair,
        node: &str,
        nonce: [u8; 32],
    ) -> Result<ReceivedHello, ConnectionError> {
        let sign = |message: &[u8]| identity.sign(message);
        let (handshake, challenge) =
            AcceptorHandshake::start(self.exporter, identity.public(), node, nonce, &sign);
        self.send(&challenge).await?;
        let hello = self.recv().await?;
        Ok(handshake.handle_hello(&hello)?)
    }

    /// Says why not, and ends the connection.
    pub async fn refuse(mut self, refusal: &Refusal) {
        // The other end may have gone already; then nobody is left to be told.
        let _sent = self.send(&refusal.to_frame()).await;
        match self.link {
            Link::WebSocket { mut websocket, .. } => {
                let _closed = websocket.close().await;
            }
            Link::Quic(mut link) => {
                let _finished = link.send.finish();
                let _read = tokio::time::timeout(REFUSAL_TIMEOUT, link.send.stopped()).await;
                link.connection
                    .close(quic::error_code(CloseCode::Refused), b"");
            }
        }
    }

    /// Says welcome, and begins the session.
    ///
    /// # Errors
    ///
    /// The transport broke.
    pub async fn welcome(
        mut self,
        world: &World,
        welcome: &Welcome,
        observer: Arc<dyn Observe>,
    ) -> io::Result<(Session, Driver)> {
        self.send(&welcome.to_frame()).await?;
        Ok(self.begin(world, welcome, Side::Acceptor, observer))
    }

    /// Begins the session that the other end has welcomed.
    pub fn begin(
        self,
        world: &World,
        welcome: &Welcome,
        side: Side,
        observer: Arc<dyn Observe>,
    ) -> (Session, Driver) {
        let options = SessionOptions {
            id: welcome.session_id,
            side,
            transport: self.transport,
            heartbeat_idle: clamp_idle(welcome.heartbeat_idle, self.transport),
            bulk_lanes_max: welcome.bulk_lanes_max.min(BULK_LANES_MAX),
            resume_window: welcome.resume_window,
            clock: Arc::clone(&world.clock),
            observer,
        };
        let (session, parts) = Session::new(&options);
        (session, self.link.driver(parts, welcome))
    }

    /// Says that the session goes on over this connection, and has it do so. `None`: it
    /// ended meanwhile.
    ///
    /// # Errors
    ///
    /// The transport broke; the session is as it was.
    pub async fn welcome_back(
        mut self,
        session: &Session,
        welcome: &Welcome,
    ) -> io::Result<Option<Driver>> {
        self.send(&welcome.to_frame()).await?;
        Ok(self.resume(session, welcome))
    }

    /// Has a session go on over this connection, after a welcome to it. The connection that
    /// it had, if there still is one, is left. `None`: it is over.
    pub fn resume(self, session: &Session, welcome: &Welcome) -> Option<Driver> {
        let options = ConnectionOptions {
            transport: self.transport,
            heartbeat_idle: clamp_idle(welcome.heartbeat_idle, self.transport),
        };
        let parts = session.attach(options, welcome.bulk_lanes_max.min(BULK_LANES_MAX))?;
        Some(self.link.driver(parts, welcome))
    }

    /// Says welcome to a bulk lane of a session, and adds it there.
    ///
    /// # Errors
    ///
    /// The transport broke.
    pub async fn welcome_to(
        mut self,
        session: &Session,
        welcome: &Welcome,
    ) -> io::Result<Option<Driver>> {
        self.send(&welcome.to_frame()).await?;
        Ok(self.join(session))
    }

    /// Makes the connection a bulk lane of a session, after a welcome to it. `None`: it
    /// takes none, and the connection is dropped.
    pub fn join(self, session: &Session) -> Option<Driver> {
        let Link::WebSocket { websocket, unread } = self.link else {
            return None;
        };
        let parts = session.attach_bulk(self.transport)?;
        Some(Box::pin(framed::drive(parts, *websocket, unread)))
    }

    async fn send(&mut self, frame: &Frame) -> io::Result<()> {
        let mut out = BytesMut::new();
        frame::encode(frame, &mut out);
        match &mut self.link {
            Link::WebSocket { websocket, .. } => websocket.send(&out).await,
            Link::Quic(link) => Ok(link.send.write_chunk(out.freeze()).await?),
        }
    }

    async fn recv(&mut self) -> Result<Frame, ConnectionError> {
        match &mut self.link {
            Link::WebSocket { websocket, unread } => loop {
                if let Some(frame) = frame::decode(unread)? {
                    return Ok(frame);
                }
                if !unread.is_empty() {
                    let error = "a frame is cut off by the end of its message";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error).into());
                }
                *unread = websocket.recv().await?;
            },
            Link::Quic(link) => loop {
                if let Some(length) = frame::codec::frame_len(&link.unread)?
                    && link.unread.len() >= length
                    && let Some(frame) = frame::decode(&mut link.unread.split_to(length).freeze())?
                {
                    return Ok(frame);
                }
                match link.recv.read_chunk(4 * 1024, true).await {
                    Ok(Some(chunk)) => link.unread.extend_from_slice(&chunk.bytes),
                    Ok(None) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                    Err(error) => return Err(io::Error::from(error).into()),
                }
            },
        }
    }
}

impl Link {
    fn driver(self, parts: DriverParts, welcome: &Welcome) -> Driver {
        match self {
            Self::WebSocket { websocket, unread } => {
                Box::pin(framed::drive(parts, *websocket, unread))
            }
            Self::Quic(link) => Box::pin(laned::drive(parts, *link, welcome.agent_id.is_some())),
        }
    }
}

/// How long a refusal over QUIC may take to arrive before the connection is closed.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs a session until it is over; the caller spawns it, and so owns it.
pub type Driver = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// A peer may ask for a shorter silence than the transport's, not for none at all.
fn clamp_idle(asked: Duration, transport: Transport) -> Duration {
    let own = transport.heartbeat_idle();
    if asked.is_zero() {
        own
    } else {
        asked.clamp(Duration::from_secs(1), own)
    }
}
