//! Protocol versions: one variant a change that older peers cannot ignore.

/// A version of the protocol, agreed in the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtocolVersion {
    /// The first: frames, handshake and messages as `PROTOCOL.md` describes them.
    V1,
}

impl ProtocolVersion {
    /// Every version that this build speaks, best first.
    pub const ALL: &[Self] = &[Self::V1];

    /// The number on the wire.
    pub const fn as_u32(self) -> u32 {
        match self {
            Self::V1 => 1,
        }
    }

    /// Reads the number from the wire; `None` for a version this build does not speak.
    pub fn from_u32(number: u32) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|version| version.as_u32() == number)
    }

    /// The best version that both ends speak, from what the peer offers.
    pub fn best_of(offered: &[u32]) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|version| offered.contains(&version.as_u32()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_common_version_is_chosen_and_none_where_there_is_none() {
        assert_eq!(ProtocolVersion::best_of(&[7, 1]), Some(ProtocolVersion::V1));
        assert_eq!(ProtocolVersion::best_of(&[7]), None);
    }
}
