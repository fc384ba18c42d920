//! Dials bulk lanes for a session, one at a time.
//!
//! A lane that cannot be dialled costs the session nothing: its streams stay where they
//! are, and the lane is asked for again after a while.

use std::{fmt, pin::Pin};

use tunnel::{Credential, DialError, DialOptions, Dialled, World};

/// A dial that is under way.
type Dial = Pin<Box<dyn Future<Output = Result<bool, DialError>> + Send>>;

/// See the module.
#[derive(Default)]
pub(super) struct BulkDial(Option<Dial>);

impl fmt::Debug for BulkDial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BulkDial").field(&self.0.is_some()).finish()
    }
}

impl BulkDial {
    /// Whether none is under way.
    pub(super) const fn is_idle(&self) -> bool {
        self.0.is_none()
    }

    /// Begins one for the session that was dialled.
    pub(super) fn begin(
        &mut self,
        world: &World,
        options: &DialOptions,
        credential: &Credential,
        dialled: &Dialled,
    ) {
        let dial = tunnel::dial_bulk(world, options, credential, dialled);
        self.0 = Some(Box::pin(dial));
    }

    /// Waits until the one under way has come to its end, or for ever.
    ///
    /// Cancel safe: it goes on with the next wait.
    pub(super) async fn done(&mut self) {
        let Some(dial) = &mut self.0 else {
            return std::future::pending().await;
        };
        match dial.await {
            Ok(true) => tracing::debug!("bulk lane opened"),
            Ok(false) => tracing::debug!("bulk lane not taken"),
            Err(error) => tracing::debug!(%error, "no bulk lane"),
        }
        self.0 = None;
    }
}
