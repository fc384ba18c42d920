//! How many streams there may be: the policy's limits, kept over all sessions.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use crate::policy::Limits;

/// Counts streams. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Admission(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    open: u32,
    /// Streams that may be opened at once, and when that was.
    left: Option<(f64, Instant)>,
}

/// A place among the open streams, until it is dropped.
#[derive(Debug)]
pub(super) struct Place(Admission);

impl Admission {
    /// Lets a stream in, or says by which key of the policy it is not.
    ///
    /// A minute's streams may come at once; then they are let in evenly.
    ///
    /// # Errors
    ///
    /// The limit in the policy's words.
    pub(super) fn enter(&self, limits: &Limits, now: Instant) -> Result<Place, String> {
        let mut state = self.state();
        if let Some(max) = limits.streams
            && state.open >= max
        {
            return Err(format!("limits.streams = {max}"));
        }
        match limits.streams_per_minute {
            Some(max) => state.take_one_of(max, now)?,
            None => state.left = None,
        }
        state.open += 1;
        Ok(Place(self.clone()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take_one_of(&mut self, max: u32, now: Instant) -> Result<(), String> {
        let most = f64::from(max);
        let (left, at) = self.left.unwrap_or((most, now));
        let since = now.saturating_duration_since(at).as_secs_f64();
        let left = (left + since * most / 60.0).min(most);
        let is_let_in = left >= 1.0;
        self.left = Some((if is_let_in { left - 1.0 } else { left }, now));
        match is_let_in {
            true => Ok(()),
            false => Err(format!("limits.streams_per_minute = {max}")),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.open = state.open.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::Policy;

    #[test]
    fn a_place_is_free_again_once_its_stream_has_ended() {
        let (admission, now) = (Admission::default(), tokio::time::Instant::now().into_std());
        let policy = Policy::parse("[limits]\nstreams = 1\n").unwrap();
        let limits = policy.limits();

        let place = admission.enter(limits, now).unwrap();
        let refused = admission.enter(limits, now).unwrap_err();
        drop(place);

        assert_eq!(refused, "limits.streams = 1");
        assert!(admission.enter(limits, now).is_ok());
    }

    #[test]
    fn a_minutes_streams_may_come_at_once_and_then_evenly() {
        let (admission, now) = (Admission::default(), tokio::time::Instant::now().into_std());
        let policy = Policy::parse("[limits]\nstreams_per_minute = 60\n").unwrap();
        let limits = policy.limits();
        let enter = |seconds| {
            admission
                .enter(limits, now + Duration::from_secs(seconds))
                .is_ok()
        };

        assert_eq!((0..100).filter(|_| enter(0)).count(), 60);
        assert_eq!((0..100).filter(|_| enter(2)).count(), 2);
        assert_eq!((0..100).filter(|_| enter(600)).count(), 60);
    }
}
