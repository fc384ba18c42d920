//! Starts of agents, many in one transaction: after a power cut at a customer's, or an update
//! of all agents, each of a crowd shows a start that must reach the disk before it is let in,
//! and a disk does some hundred commits a second.
//!
//! Who comes first writes at once. Whoever comes while that is on its way to the disk is
//! written with the next commit, all together: so nobody waits for others to gather, and a
//! start is on the disk before its agent hears of it, as ever.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot::{self, error::TryRecvError};
use wire::id::{AgentId, InstanceId};

use super::{SqliteStore, agent};
use crate::{limits::STARTS_AT_ONCE_MAX, store::StoreError};

/// One start, and who waits for it.
#[derive(Debug)]
struct Waiting {
    start: Start,
    written: oneshot::Sender<bool>,
}

/// What an agent shows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    pub(super) agent_id: AgentId,
    pub(super) start_counter: u64,
    pub(super) instance: InstanceId,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Starts {
    waiting: Mutex<Vec<Waiting>>,
    /// Whose turn it is to write what waits.
    turn: tokio::sync::Mutex<()>,
}

impl Starts {
    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SqliteStore {
    /// Writes a start, with those that wait at the same time. False: it was not to be.
    pub(super) async fn write_start(&self, start: Start) -> Result<bool, StoreError> {
        let (written, mut told) = oneshot::channel();
        self.starts.waiting().push(Waiting { start, written });
        let turn = tokio::select! {
            biased;
            told = &mut told => match told {
                Ok(is_recorded) => return Ok(is_recorded),
                // Who wrote it failed, or was cut off half-way: all of that is undone.
                Err(_) => return self.write_alone(start).await,
            },
            turn = self.starts.turn.lock() => turn,
        };
        loop {
            match told.try_recv() {
                Ok(is_recorded) => return Ok(is_recorded),
                Err(TryRecvError::Closed) => break,
                Err(TryRecvError::Empty) => self.write_waiting().await?,
            }
        }
        drop(turn);
        self.write_alone(start).await
    }

    /// Writes those that have waited longest, and tells them. Where that fails they are told
    /// nothing.
    async fn write_waiting(&self) -> Result<(), StoreError> {
        let mut batch = {
            let mut waiting = self.starts.waiting();
            let length = waiting.len().min(STARTS_AT_ONCE_MAX);
            waiting.drain(..length).collect::<Vec<_>>()
        };
        // Of some, the handshake has ended meanwhile.
        batch.retain(|one| !one.written.is_closed());
        let starts: Vec<Start> = batch.iter().map(|one| one.start).collect();
        let outcomes = self.write_all(&starts).await?;
        for (one, is_recorded) in batch.into_iter().zip(outcomes) {
            one.written.send(is_recorded).ok();
        }
        Ok(())
    }

    async fn write_all(&self, starts: &[Start]) -> Result<Vec<bool>, StoreError> {
        let mut write = self.begin().await?;
        let mut outcomes = Vec::with_capacity(starts.len());
        for start in starts {
            match agent::record_start(&mut write.connection, start).await {
                Ok(is_recorded) => outcomes.push(is_recorded),
                Err(error) => return write.end(Err(error)).await,
            }
        }
        write.end(Ok(outcomes)).await
    }

    async fn write_alone(&self, start: Start) -> Result<bool, StoreError> {
        let outcomes = self.write_all(&[start]).await?;
        Ok(outcomes.first().copied().unwrap_or(false))
    }
}
