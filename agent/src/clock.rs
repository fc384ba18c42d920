//! What time it is, as a person reads it: by the world's clock, which a simulator sets.

use jiff::Timestamp;
use tunnel::World;

/// The present moment.
pub fn timestamp(world: &World) -> Timestamp {
    // A clock that is set beyond the year 9999 shows the beginning of time instead.
    Timestamp::from_millisecond(world.clock.unix_milliseconds()).unwrap_or_default()
}
