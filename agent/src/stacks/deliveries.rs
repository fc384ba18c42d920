//! Images that came through the session, for whoever waits for one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use compose::exchange::WantedImage;
use tokio::sync::watch;

/// Deliveries that are remembered. What is forgotten is asked for again.
const REMEMBERED_MAX: usize = 256;

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Deliveries {
    known: Arc<Mutex<BTreeMap<String, Delivery>>>,
    changed: Arc<watch::Sender<()>>,
}

/// What became of an image that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The Engine has it.
    Loaded {
        /// Its id there.
        id: String,
        /// The digest of its manifest.
        manifest: String,
    },
    /// The relay cannot send it; why.
    Refused(String),
}

impl Default for Deliveries {
    fn default() -> Self {
        Self {
            known: Arc::default(),
            changed: Arc::new(watch::Sender::new(())),
        }
    }
}

impl Deliveries {
    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Delivery>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something has come of an image.
    pub fn note(&self, reference: &str, delivery: Delivery) {
        let mut known = self.known();
        if known.len() >= REMEMBERED_MAX {
            known.pop_first();
        }
        known.insert(reference.to_owned(), delivery);
        self.changed.send_replace(());
    }

    /// What came of an image, as it is wanted; told once.
    pub fn take(&self, wanted: &WantedImage) -> Option<Delivery> {
        let mut known = self.known();
        let delivery = known.remove(&wanted.reference)?;
        match (&delivery, &wanted.pin) {
            // It is what a tag stands for by now, and not what was wanted.
            (Delivery::Loaded { manifest, .. }, Some(pin)) if manifest != pin => None,
            _ => Some(delivery),
        }
    }

    /// Hears of changes.
    pub fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_is_not_the_pinned_one_is_no_delivery() {
        let deliveries = Deliveries::default();
        let wanted = WantedImage {
            reference: "r/app:1".to_owned(),
            pin: Some("sha256:1".to_owned()),
            platform: "linux/amd64".to_owned(),
        };
        let loaded = |manifest: &str| Delivery::Loaded {
            id: "sha256:9".to_owned(),
            manifest: manifest.to_owned(),
        };

        deliveries.note("r/app:1", loaded("sha256:2"));
        assert_eq!(deliveries.take(&wanted), None);
        deliveries.note("r/app:1", loaded("sha256:1"));
        assert_eq!(deliveries.take(&wanted), Some(loaded("sha256:1")));
        assert_eq!(deliveries.take(&wanted), None);
    }
}
