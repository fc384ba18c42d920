//! Bounds of everything that could grow.

/// The longest scenario file: a thousand events of a hundred bytes fit ten times.
pub const SCENARIO_BYTES_MAX: usize = 1 << 20;

/// The most copies of one host: ten times the largest fleet that is simulated.
pub const COPIES_MAX: u32 = 10_000;

/// The most repetitions of one event: one a second for most of an hour.
pub const TIMES_MAX: u32 = 3_000;

/// The shortest MTU that a host must take (RFC 791 asks for 68, RFC 1122 for 576).
pub const MTU_MIN: u32 = 576;

/// The longest packet that IPv4 can say the length of.
pub const MTU_MAX: u32 = 65_535;

/// What IPv6 asks of every cable (RFC 8200).
pub const MTU_MIN_IPV6: u32 = 1280;
