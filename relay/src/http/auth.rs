//! Who asks: `Authorization: Bearer sta_…`.
//!
//! Tokens cannot be guessed, so nobody with a valid one is ever slowed down; those
//! without are, so that they fill neither the log nor the store's time.

use std::time::Duration;

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};
use tokio::time::Instant;
use tracing::warn;

use super::{ApiState, problem::Problem};
use crate::{
    control::{Error, Principal},
    limits::{AUTH_FAILURES_BURST, AUTH_FAILURES_INTERVAL},
};

/// The principal of a request.
#[derive(Debug, Clone)]
pub(super) struct Authenticated(pub(super) Principal);

impl FromRequestParts<ApiState> for Authenticated {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let outcome = match bearer(parts) {
            Some(token) => state.control.authenticate(token).await,
            None => Err(Error::Unauthenticated),
        };
        let error = match outcome {
            Ok(principal) => return Ok(Self(principal)),
            Err(error) => error,
        };
        if !matches!(error, Error::Unauthenticated) {
            return Err(error.into());
        }
        state.metrics.api_auth_failed();
        state.slow_failures()?;
        warn!(path = parts.uri.path(), "request without a valid API token");
        Err(error.into())
    }
}

pub(super) fn bearer(parts: &Parts) -> Option<&str> {
    let value = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A bucket of refusals that refills with time.
#[derive(Debug)]
pub(super) struct Bucket {
    left: u32,
    refilled_at: Instant,
}

impl Bucket {
    pub(super) const fn full(now: Instant) -> Self {
        Self {
            left: AUTH_FAILURES_BURST,
            refilled_at: now,
        }
    }

    /// Takes one, if one is left.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.refilled_at);
        let grown = passed.as_nanos() / AUTH_FAILURES_INTERVAL.as_nanos();
        if grown >= u128::from(AUTH_FAILURES_BURST - self.left) {
            *self = Self::full(now);
        } else {
            let grown = u32::try_from(grown).unwrap_or(AUTH_FAILURES_BURST);
            self.left += grown;
            self.refilled_at += AUTH_FAILURES_INTERVAL.saturating_mul(grown);
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

/// Time until one more is there; a compile-time check that refilling never divides by 0.
const _: () = assert!(!Duration::is_zero(&AUTH_FAILURES_INTERVAL));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_one_at_every_interval() {
        let start = Instant::now();
        let mut bucket = Bucket::full(start);

        let burst = (0..100).filter(|_| bucket.take(start)).count();
        let soon = bucket.take(start + AUTH_FAILURES_INTERVAL / 2);
        let later = bucket.take(start + AUTH_FAILURES_INTERVAL);
        let at_once_again = bucket.take(start + AUTH_FAILURES_INTERVAL);

        assert_eq!(burst, usize::try_from(AUTH_FAILURES_BURST).unwrap());
        assert_eq!((soon, later, at_once_again), (false, true, false));
    }

    #[test]
    fn a_bucket_is_never_more_than_full() {
        let start = Instant::now();
        let mut bucket = Bucket::full(start);
        let much_later = start + AUTH_FAILURES_INTERVAL * 1_000;

        let burst = (0..100).filter(|_| bucket.take(much_later)).count();

        assert_eq!(burst, usize::try_from(AUTH_FAILURES_BURST).unwrap());
    }
}
