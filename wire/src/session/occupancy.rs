//! How full a session is, from sums that it keeps: whoever looks at ten thousand
//! sessions touches no stream.

use super::Session;

/// How full a session is at the moment, over all its streams. In bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Occupancy {
    /// Written by the application and not yet sent.
    pub unsent: u64,
    /// Sent, and kept until the peer has acknowledged them.
    pub unacknowledged: u64,
    /// Received, and not yet read by the application.
    pub unread: u64,
    /// What the peer lets this end send on.
    pub send_credit: u64,
    /// What this end lets the peer send on.
    pub receive_credit: u64,
}

impl Occupancy {
    /// Whether bytes wait for the peer's credit and for nothing else.
    pub const fn is_stalled(&self) -> bool {
        self.unsent > 0 && self.send_credit == 0
    }
}

impl Session {
    /// How full the session is. Costs the same however many streams are open.
    pub const fn occupancy(&self) -> Occupancy {
        Occupancy {
            unsent: self.backlog,
            unacknowledged: self.retained.saturating_sub(self.backlog),
            unread: self.window.unread(),
            send_credit: self.session_credit(),
            receive_credit: self.window.credit_left(),
        }
    }
}
