//! Values that others change.

use tokio::sync::watch;

/// Waits for a change; for ever, where there will be none any more.
///
/// Cancel safe: a change that was not looked at stays one.
pub async fn changed<T>(watched: &mut watch::Receiver<T>) {
    if watched.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
