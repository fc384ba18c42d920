//! Where use cases take time and chance from.

use aws_lc_rs::rand;
use jiff::Timestamp;

/// Time and chance, as arguments: a simulation puts its own in place.
pub trait Sources: Send + Sync {
    /// The time of day.
    fn now(&self) -> Timestamp;

    /// Fills the bytes with random ones that nobody can predict.
    fn fill(&self, bytes: &mut [u8]);
}

/// The system's clock and random generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemSources;

impl Sources for SystemSources {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn fill(&self, bytes: &mut [u8]) {
        rand::fill(bytes).expect("the system's random generator fails only before it is seeded");
    }
}
