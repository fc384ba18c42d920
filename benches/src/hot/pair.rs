//! Two machines joined in memory by one framed connection, as over WebSocket.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use wire::{
    frame,
    id::{ConnectionId, RequestId, Side, StreamId},
    session::{ConnectionOptions, Event, OpenOptions, Read, Session},
    transport::Transport,
};

/// Both ends, in virtual time.
pub(super) struct Pair {
    pub(super) dialler: End,
    pub(super) acceptor: End,
}

/// One end.
pub(super) struct End {
    session: Session,
    on: ConnectionId,
    now: Instant,
    out: BytesMut,
}

impl Pair {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            dialler: End::new(Side::Dialler, now),
            acceptor: End::new(Side::Acceptor, now),
        }
    }

    /// A stream that both ends know and the acceptor has accepted.
    pub(super) fn open(&mut self) -> StreamId {
        let id = self.dialler.open(&Bytes::new());
        self.exchange();
        self.acceptor.accept(id);
        self.exchange();
        id
    }

    /// Delivers until neither end has anything to say.
    pub(super) fn exchange(&mut self) {
        while self.dialler.deliver(&mut self.acceptor) | self.acceptor.deliver(&mut self.dialler) {}
    }

    /// Lets time pass until what was delayed is said: acknowledgements.
    pub(super) fn settle(&mut self) {
        for end in [&mut self.dialler, &mut self.acceptor] {
            end.now += wire::limits::ACK_DELAY + Duration::from_millis(1);
            end.session.handle_timeout(end.now);
        }
        self.exchange();
    }

    pub(super) fn streams_held(&self) -> usize {
        self.dialler.session.streams_held() + self.acceptor.session.streams_held()
    }
}

impl End {
    fn new(side: Side, now: Instant) -> Self {
        let mut session = Session::new(side);
        let on = session.attach(now, ConnectionOptions::of(Transport::Ws));
        Self {
            session,
            on,
            now,
            out: BytesMut::new(),
        }
    }

    pub(super) fn open(&mut self, first_bytes: &Bytes) -> StreamId {
        let options = OpenOptions {
            environment: String::new(),
            target: "tcp:db.internal:5432".to_owned(),
            principal: "token:ci-deploy".to_owned(),
            request_id: RequestId::from_bytes([7; 16]),
            first_bytes: first_bytes.clone(),
        };
        self.session.open(options).expect("there is room for it")
    }

    pub(super) fn accept(&mut self, id: StreamId) {
        self.session.accept(id);
    }

    pub(super) fn write(&mut self, id: StreamId, bytes: &mut Bytes) {
        let written = self.session.write(id, bytes);
        written.expect("nobody has broken it off");
    }

    /// Reads all there is, and says how much.
    pub(super) fn read(&mut self, id: StreamId) -> usize {
        let mut length = 0;
        while let Read::Bytes(bytes) = self
            .session
            .read(self.now, id, usize::MAX)
            .expect("nobody has broken it off")
        {
            length += std::hint::black_box(bytes).len();
        }
        length
    }

    pub(super) fn finish(&mut self, id: StreamId) {
        self.session.finish(id);
    }

    pub(super) fn forget(&mut self, id: StreamId) {
        self.session.forget(self.now, id);
    }

    /// Hands everything that is to be sent to the other end. False: there was nothing.
    fn deliver(&mut self, to: &mut Self) -> bool {
        let mut has_any = false;
        while self.session.poll_transmit(self.now, self.on, &mut self.out) {
            has_any = true;
            let mut message = self.out.split().freeze();
            while let Some(frame) = frame::decode(&mut message).expect("it was just encoded") {
                let handled = to.session.handle_frame(to.now, to.on, frame);
                handled.expect("the other end keeps to the protocol");
            }
        }
        self.hear();
        to.hear();
        has_any
    }

    /// Takes the events; who drives a case knows by itself what to do next.
    fn hear(&mut self) {
        while let Some(event) = self.session.poll_event() {
            assert!(!matches!(event, Event::Closed(_)), "the session ended");
        }
    }
}
