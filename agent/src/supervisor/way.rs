//! How the next connection is dialled, and what is remembered of the one that came about.

use tunnel::{DialOptions, Dialled, Preference};

use super::Supervisor;

impl Supervisor {
    /// For a dial of which nothing is known yet.
    pub(super) fn options(&self) -> DialOptions {
        DialOptions {
            resume: self.kept.clone(),
            quiet_max: self.quiet.max(),
            ..self.dialling.options(&self.identity, self.instance)
        }
    }

    /// What led to the relay from the network that this host is in.
    pub(super) fn preference(&self) -> Option<Preference> {
        let network = self.dialling.network(&self.world)?;
        let now = self.world.clock.unix_seconds();
        self.known.preference(&network, now)
    }

    /// Takes note of what has led to the relay from the network that this host is in.
    pub(super) fn remember(&mut self, dialled: &Dialled) {
        if let Some(network) = self.dialling.network(&self.world) {
            let led = (dialled.preference(), self.world.clock.unix_seconds());
            self.known.note(&self.state, network, led);
        }
    }
}
