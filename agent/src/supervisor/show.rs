//! What a person is shown of the supervisor's doings.

use std::time::Duration;

use jiff::SignedDuration;
use tunnel::Session;
use wire::{backoff::Backoff, close::Retry};

use super::{Supervisor, ended::Ended};
use crate::{
    clock,
    identity::Stage,
    status::{LastError, State},
};

impl Supervisor {
    pub(super) fn show_dialling(&self) {
        let state = match self.identity.stage {
            Stage::Enrolling => State::Enrolling,
            Stage::Enrolled(_) if self.kept.is_some() => State::Reconnecting,
            Stage::Enrolled(_) => State::Connecting,
        };
        self.board.update(|status| {
            status.state = state;
            status.next_attempt_at = None;
        });
    }

    pub(super) fn show_waiting(&self, ended: &Ended, pause: Option<Duration>, backoff: &Backoff) {
        let LastError {
            code,
            message,
            advice,
            ..
        } = &ended.error;
        tracing::warn!(
            code, error = message, advice, attempt = backoff.attempt(), retry_in = ?pause,
            "no session"
        );
        self.notifier.status(&match advice.is_empty() {
            true => format!("no session: {message}"),
            false => format!("no session: {message}; {advice}"),
        });
        let is_refused = ended.refusal && ended.retry != Retry::Backoff;
        let next = pause.and_then(|pause| {
            let pause = SignedDuration::try_from(pause).ok()?;
            clock::timestamp(&self.world).checked_add(pause).ok()
        });
        self.board.update(|status| {
            status.state = match &self.kept {
                _ if is_refused => State::Refused,
                Some(_) => State::Reconnecting,
                None => State::BackingOff,
            };
            status.session_id = self.kept.as_ref().map(|session| session.id().to_string());
            status.streams_open = self
                .kept
                .as_ref()
                .map_or(0, |session| session.stats().streams_open);
            status.transport = None;
            status.proxy = None;
            status.intercepted_by = None;
            status.rtt_ms = None;
            status.connected_since = None;
            status.last_error = Some(ended.error.clone());
            status.attempt = backoff.attempt();
            status.next_attempt_at = next;
        });
    }

    pub(super) fn show_figures(&self, session: &Session) {
        let stats = session.stats();
        let now = self.world.clock.now();
        let silent = now.saturating_duration_since(stats.last_heard);
        let silent = SignedDuration::try_from(silent).unwrap_or_default();
        let heard = clock::timestamp(&self.world).checked_sub(silent).ok();
        self.board.update(|status| {
            // Tenths suffice, and a figure that stands still is not written again.
            status.rtt_ms = stats
                .rtt
                .map(|rtt| (rtt.as_secs_f64() * 10_000.0).round() / 10.0);
            status.last_heard = heard;
            status.streams_open = stats.streams_open;
        });
    }
}
