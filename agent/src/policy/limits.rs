//! How many streams there may be: `[limits]`.

/// What is not set is not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Streams open at a time.
    pub streams: Option<u32>,
    /// Streams that are opened within a minute, refused ones included.
    pub streams_per_minute: Option<u32>,
}

impl Limits {
    /// In the policy's own words.
    pub fn words(&self) -> Vec<String> {
        let keys = [
            ("streams", self.streams),
            ("streams_per_minute", self.streams_per_minute),
        ];
        keys.into_iter()
            .filter_map(|(key, value)| Some(format!("limits.{key} = {}", value?)))
            .collect()
    }
}
