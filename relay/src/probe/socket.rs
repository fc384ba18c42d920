//! A socket of the probe: the relay speaks first, and then answers until the asker is done or
//! has had what one socket carries.

use std::{future::pending, sync::Arc};

use ::probe::protocol::{LATER_MAX, Request, SOCKET_BYTES_MAX, SOCKET_TIME_MAX, Stage};
use bytes::Bytes;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Footprint, Opening, Place, Probe,
    line::{Ended, Heard, Line},
};
use crate::limits::{PROBE_SEND_TIMEOUT, PROBE_WAITING_MAX};

/// The answer to a [`Request::Later`].
const LATER: &[u8] = &[3];

/// A message costs at least so much of what is carried, so that empty ones end too.
const MESSAGE_BYTES_MIN: u64 = 8;

const _: () = assert!(LATER_MAX.as_secs() < SOCKET_TIME_MAX.as_secs());

/// Serves a socket until its end, and no longer than until the relay stops.
pub async fn serve<L: Line>(
    probe: Arc<Probe>,
    mut line: L,
    opening: Opening,
    (footprint, stop): (Footprint, CancellationToken),
) {
    let conversation = Conversation {
        probe: &probe,
        place: &opening.place,
        footprint,
        sent: 0,
        received: 0,
        waiting: Vec::new(),
    };
    let first = serde_json::to_vec(&opening.echo).unwrap_or_default();
    let why = tokio::select! {
        biased;
        () = stop.cancelled() => Ended::Stopping,
        why = timeout(SOCKET_TIME_MAX, conversation.hold(&mut line, first)) => {
            why.unwrap_or(Ended::Spent)
        }
    };
    line.close(why).await;
}

struct Conversation<'a> {
    probe: &'a Probe,
    place: &'a Place,
    footprint: Footprint,
    sent: u64,
    received: u64,
    /// When answers are due that were asked for later.
    waiting: Vec<Instant>,
}

impl Conversation<'_> {
    async fn hold<L: Line>(mut self, line: &mut L, first: Vec<u8>) -> Ended {
        let mut say = Some(Bytes::from(first));
        loop {
            if let Some(message) = say.take()
                && let Err(why) = self.send(line, message).await
            {
                return why;
            }
            let due = self.waiting.iter().min().copied();
            let heard = tokio::select! {
                biased;
                () = until(due) => {
                    if let Some(at) = self.waiting.iter().position(|at| Some(*at) == due) {
                        self.waiting.swap_remove(at);
                    }
                    say = Some(Bytes::from_static(LATER));
                    continue;
                }
                heard = line.recv() => heard,
            };
            match self.hear(heard) {
                Ok(answer) => say = answer,
                Err(why) => return why,
            }
        }
    }

    /// What to answer at once, if anything.
    fn hear(&mut self, heard: Heard) -> Result<Option<Bytes>, Ended> {
        let message = match heard {
            Heard::Message(message) => message,
            Heard::Overhead(bytes) => {
                self.received = self.carry(self.received, bytes)?;
                return Ok(None);
            }
            Heard::Malformed => return Err(Ended::NotARequest),
            Heard::End => return Err(Ended::Done),
        };
        self.footprint.reached(Stage::Asked);
        self.received = self.carry(self.received, message.len())?;
        match Request::decode(&message).map_err(|_| Ended::NotARequest)? {
            Request::Back(_) => Ok(Some(message)),
            Request::Send(bytes) => Ok(Some(vec![0; bytes as usize].into())),
            Request::Later(_) if self.waiting.len() >= PROBE_WAITING_MAX => Err(Ended::Spent),
            Request::Later(time) => {
                self.waiting.push(Instant::now() + time);
                Ok(None)
            }
            Request::Forget(_) => Ok(None),
        }
    }

    async fn send<L: Line>(&mut self, line: &mut L, message: Bytes) -> Result<(), Ended> {
        self.sent = self.carry(self.sent, message.len())?;
        match timeout(PROBE_SEND_TIMEOUT, line.send(message)).await {
            Ok(Ok(())) => Ok(()),
            // Nobody is there to be told.
            Ok(Err(_)) | Err(_) => Err(Ended::Done),
        }
    }

    /// What one direction has carried with so many bytes more, if it may.
    fn carry(&self, so_far: u64, bytes: usize) -> Result<u64, Ended> {
        let bytes = (bytes as u64).max(MESSAGE_BYTES_MIN);
        let carried = so_far + bytes;
        if carried > SOCKET_BYTES_MAX {
            return Err(Ended::Spent);
        }
        match self.place.take_bytes(bytes, self.probe.clock.now()) {
            true => Ok(carried),
            false => Err(Ended::Limited),
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => pending().await,
    }
}
