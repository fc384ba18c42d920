//! How many streams there may be, and how fast they may be: `[limits]`.

use std::{fmt, net::IpAddr};

use wire::target::Target;

use super::{Rate, place::Entry};

/// What is not set is not limited.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// Streams open at a time.
    pub streams: Option<u32>,
    /// Streams that are opened within a minute, refused ones included.
    pub streams_per_minute: Option<u32>,
    /// Bytes of all streams together, in either direction for itself.
    pub bytes_per_second: Option<Rate>,
    /// The same, of all streams to one kind of target together.
    pub(super) target_bytes_per_second: Vec<(Limited, Rate)>,
}

/// Which streams share a rate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Limited {
    Docker,
    Stacks,
    Tcp(Entry),
}

/// A rate that holds for a stream, and with whom it shares it: all who have the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedRate {
    /// Whose it is, in the policy's own words.
    pub key: String,
    /// How much.
    pub rate: Rate,
}

impl Limits {
    /// Every rate that holds for a stream to a target, which was reached at an address.
    pub fn rates(&self, target: &Target, address: Option<IpAddr>) -> Vec<SharedRate> {
        let all = self.bytes_per_second.map(|rate| SharedRate {
            key: String::new(),
            rate,
        });
        let theirs = self.target_bytes_per_second.iter();
        let theirs = theirs.filter(|(limited, _)| limited.has(target, address));
        let theirs = theirs.map(|(limited, rate)| SharedRate {
            key: limited.to_string(),
            rate: *rate,
        });
        all.into_iter().chain(theirs).collect()
    }

    /// In the policy's own words.
    pub fn words(&self) -> Vec<String> {
        let counts = [
            ("streams", self.streams),
            ("streams_per_minute", self.streams_per_minute),
        ];
        let counts = counts
            .into_iter()
            .filter_map(|(key, value)| Some(format!("limits.{key} = {}", value?)));
        let all = self.bytes_per_second;
        let all = all.map(|rate| format!("limits.bytes_per_second = \"{rate}\""));
        let theirs = self.target_bytes_per_second.iter();
        let theirs = theirs.map(|(limited, rate)| {
            format!("limits.target_bytes_per_second.\"{limited}\" = \"{rate}\"")
        });
        counts.chain(all).chain(theirs).collect()
    }
}

impl Limited {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "docker" => Ok(Self::Docker),
            "stacks" => Ok(Self::Stacks),
            entry => Entry::parse(entry)
                .map(Self::Tcp)
                .map_err(|problem| format!("{problem}; or `docker` or `stacks`")),
        }
    }

    fn has(&self, target: &Target, address: Option<IpAddr>) -> bool {
        match (self, target) {
            (Self::Docker, Target::Docker) | (Self::Stacks, Target::Stacks) => true,
            (Self::Tcp(entry), Target::Tcp { host, port }) => {
                entry.ports.contains(port)
                    && match address {
                        Some(address) => entry.place.has(host, address),
                        None => false,
                    }
            }
            (Self::Docker | Self::Stacks | Self::Tcp(_), _) => false,
        }
    }
}

impl fmt::Display for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Docker => f.write_str("docker"),
            Self::Stacks => f.write_str("stacks"),
            Self::Tcp(entry) => entry.fmt(f),
        }
    }
}
