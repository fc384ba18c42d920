//! What happens when.

use std::time::Duration;

use ipnet::IpNet;

use super::line::Line;
use crate::term::{At, Choice, Name, Offset, Size, record, words};

words! {
    /// What happens.
    pub enum Deed as "deed" {
        /// A cable carries nothing.
        "cut" Cut,
        /// A cable carries again.
        "mend" Mend,
        /// A cable becomes another line.
        "line" Line,
        /// An edge forgets every flow and mapping, as one that was restarted.
        "forget" Forget,
        /// An edge's NAT gives every mapping another outer port.
        "rebind" Rebind,
        /// A host is gone without a word, as with SIGKILL.
        "crash" Crash,
        /// What runs on a host is asked to end, as with SIGTERM.
        "stop" Stop,
        /// What runs on a host begins again.
        "start" Start,
        /// A host sleeps: nothing runs, and packets are lost.
        "suspend" Suspend,
        /// A host wakes.
        "resume" Resume,
        /// A host's clock is put forward or back.
        "skew" Skew,
        /// A host has another address.
        "readdress" Readdress,
        /// A VPN comes up.
        "vpn-up" VpnUp,
        /// A VPN goes down.
        "vpn-down" VpnDown,
        /// A captive portal lets through.
        "release" Release,
    }
}

/// What a deed is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// A cable.
    Cable,
    /// An edge.
    Edge,
    /// A host.
    Host,
    /// A VPN.
    Vpn,
    /// A proxy.
    Proxy,
}

impl TargetKind {
    /// For a message.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cable => "cable",
            Self::Edge => "edge",
            Self::Host => "host",
            Self::Vpn => "VPN",
            Self::Proxy => "proxy",
        }
    }

    /// For a message that speaks of one.
    pub const fn with_article(self) -> &'static str {
        match self {
            Self::Cable => "a cable",
            Self::Edge => "an edge",
            Self::Host => "a host",
            Self::Vpn => "a VPN",
            Self::Proxy => "a proxy",
        }
    }
}

impl Deed {
    /// What it is done to.
    pub const fn target(self) -> TargetKind {
        match self {
            Self::Cut | Self::Mend | Self::Line => TargetKind::Cable,
            Self::Forget | Self::Rebind => TargetKind::Edge,
            Self::Crash
            | Self::Stop
            | Self::Start
            | Self::Suspend
            | Self::Resume
            | Self::Skew
            | Self::Readdress => TargetKind::Host,
            Self::VpnUp | Self::VpnDown => TargetKind::Vpn,
            Self::Release => TargetKind::Proxy,
        }
    }

    /// Whether it can be undone after a while.
    pub const fn is_reversible(self) -> bool {
        match self {
            Self::Cut
            | Self::Line
            | Self::Crash
            | Self::Stop
            | Self::Suspend
            | Self::Skew
            | Self::Readdress
            | Self::VpnUp
            | Self::VpnDown
            | Self::Release => true,
            Self::Mend | Self::Forget | Self::Rebind | Self::Start | Self::Resume => false,
        }
    }
}

record! {
    /// Something that happens.
    pub struct Event {
        /// When, from the start.
        "time" time: At<Choice<Duration>>,
        /// What.
        "do" deed: At<Deed>,
        /// To whom: a cable, an edge, a host, a VPN or a proxy, as the deed has it. A host
        /// of several copies, or a cable to them, is meant with all of them; `NAME-3` is the
        /// fourth alone.
        "on" on: At<Name>,
        /// Undone after this long.
        "for" lasts: Option<At<Choice<Duration>>> = None,
        /// How often.
        "times" times: At<u32> = At::nowhere(1),
        /// How long after each other.
        "every" every: Option<At<Choice<Duration>>> = None,
        /// What expectations call it. Events may share a name.
        "name" name: Option<At<Name>> = None,
        /// The line that the cable becomes; for `line`.
        "line" line: Option<Line> = None,
        /// By how much; for `skew`.
        "by" by: Option<Choice<Offset>> = None,
        /// The new address; for `readdress`.
        "address" address: Option<At<IpNet>> = None,
    }
}

impl Event {
    /// Its repetitions as events of their own. The pause is the beginning of its range:
    /// each repetition draws its own time below.
    pub(crate) fn unrolled(&self) -> Vec<Self> {
        let every = self
            .every
            .as_ref()
            .map_or(Duration::ZERO, |every| every.get());
        (0..*self.times)
            .map(|turn| {
                let mut event = self.clone();
                let later = |span: &Duration| span.saturating_add(every * turn);
                let time = match &*self.time {
                    Choice::Fixed(time) => Choice::Fixed(later(time)),
                    Choice::Between(low, high) => Choice::Between(later(low), later(high)),
                    Choice::OneOf(first, others) => {
                        Choice::OneOf(later(first), others.iter().map(later).collect())
                    }
                };
                event.time = At::nowhere(time);
                event.times = At::nowhere(1);
                event.every = None;
                event
            })
            .collect()
    }

    /// When it is over and undone, where it ever is.
    pub fn undone_at(&self) -> Option<Duration> {
        let lasts = self.lasts.as_ref()?.get();
        Some(self.time.get().saturating_add(lasts))
    }
}

record! {
    /// What the vendor does meanwhile, with each agent.
    pub struct Workload {
        /// How many streams are opened in all.
        "streams" streams: Choice<u32> = Choice::Fixed(0),
        /// A stream every so often.
        "every" every: Choice<Duration> = Choice::Fixed(Duration::from_secs(1)),
        /// How many bytes there and back.
        "bytes" bytes: Choice<Size> = Choice::Fixed(Size { bytes: 1024 }),
        /// How long a stream stays open.
        "lasts" lasts: Choice<Duration> = Choice::Fixed(Duration::ZERO),
        /// How many deployments are asked for, spread over the run: containers that are created
        /// under a name. One that is not answered is asked for again.
        "deployments" deployments: Choice<u32> = Choice::Fixed(0),
    }
}
