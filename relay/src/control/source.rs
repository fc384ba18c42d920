//! Where use cases take time and chance from.

use jiff::Timestamp;
use tunnel::World;

/// Time and chance, as arguments: a simulation puts its own in place.
pub trait Sources: Send + Sync {
    /// The time of day.
    fn now(&self) -> Timestamp;

    /// Fills the bytes with random ones that nobody can predict.
    fn fill(&self, bytes: &mut [u8]);
}

impl Sources for World {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.clock.unix_seconds()).unwrap_or(Timestamp::MAX)
    }

    fn fill(&self, bytes: &mut [u8]) {
        self.entropy.fill(bytes);
    }
}
