//! Tells whoever supervises the process that it is alive, as long as it is.

use std::{convert::Infallible, sync::Arc};

use tunnel::Notifier;

use crate::{control::Drain, registry::Registry};

/// Says it again and again, each time after a look at the sessions on one of the
/// workers. So what is proven is what sessions need: that timers fire, that a worker
/// takes tasks, and that nobody keeps the registry's lock.
pub(super) async fn keep_telling(notifier: &Notifier, registry: &Arc<Registry>) -> Infallible {
    let mut pulse = notifier.pulse();
    loop {
        pulse.due().await;
        let registry = registry.clone();
        let looked = tokio::spawn(async move {
            let sessions: &dyn Drain = &*registry;
            sessions.streams_open()
        });
        if looked.await.is_ok() {
            notifier.alive();
        }
    }
}
