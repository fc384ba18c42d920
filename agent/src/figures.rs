//! What this process has done since it began, for a relay that asks. Nothing is sent
//! to one that does not.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::policy::Rule;
use tunnel::{DialTally, SessionStats, Spliced, process::ProcessFigures};
use wire::{
    close::ResetCode,
    message::{
        AgentFigures, DialFigures, PolicyRefusals, RuleCount, StreamFigures, control, docker,
    },
    target::Target,
    transport::Transport,
};

/// The shortest pause between two answers: what a relay may ask of a customer's host.
const INTERVAL_MIN: Duration = Duration::from_secs(5);

/// The shortest pause between two messages about refusals.
const REFUSALS_EVERY: Duration = Duration::from_secs(30);

/// What a relay has been told of refusals.
#[derive(Debug, Default)]
struct Told {
    counts: [u64; Rule::ALL.len()],
    at: Option<Instant>,
}

/// Counts of this process. Shared by whoever counts.
#[derive(Debug)]
pub struct Figures {
    began: Instant,
    /// Attempts to reach the relay.
    pub dials: DialTally,
    sessions: AtomicU64,
    /// Bytes of sessions that have ended.
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
    docker: Counts,
    tcp: Counts,
    /// What the policy refused, in the order of [`Rule::ALL`].
    denials: [AtomicU64; Rule::ALL.len()],
    told: Mutex<Told>,
}

/// Streams to one kind of target.
#[derive(Debug, Default)]
struct Counts {
    finished: AtomicU64,
    broken: AtomicU64,
    denied: AtomicU64,
    unreachable: AtomicU64,
    revoked: AtomicU64,
}

impl Figures {
    /// Begins to count.
    pub fn new(now: Instant) -> Arc<Self> {
        Arc::new(Self {
            began: now,
            dials: DialTally::default(),
            sessions: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
            docker: Counts::default(),
            tcp: Counts::default(),
            denials: Default::default(),
            told: Mutex::default(),
        })
    }

    fn of(&self, target: &Target) -> &Counts {
        match target {
            Target::Docker | Target::Stacks => &self.docker,
            Target::Tcp { .. } => &self.tcp,
        }
    }

    /// A stream did not reach its target.
    pub fn refused(&self, target: &Target, code: ResetCode) {
        let counts = self.of(target);
        add(match code {
            ResetCode::PolicyDenied => &counts.denied,
            _ => &counts.unreachable,
        });
    }

    /// The policy refused a stream, or a request within one.
    pub fn denied(&self, rule: Rule) {
        add(&self.denials[rule as usize]);
    }

    /// What the policy has refused since this was asked last, as a message; nothing where
    /// there was nothing, or where it was told a moment ago.
    pub fn refusals(&self, now: Instant) -> Option<control::Message> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = told.at
            && now.saturating_duration_since(at) < REFUSALS_EVERY
        {
            return None;
        }
        let mut counts = Vec::new();
        for (rule, (count, told)) in Rule::ALL
            .iter()
            .zip(self.denials.iter().zip(&mut told.counts))
        {
            let count = read(count);
            let since = count - std::mem::replace(told, count);
            if since > 0 {
                let rule = rule.as_str().to_owned();
                counts.push(RuleCount { rule, count: since });
            }
        }
        if counts.is_empty() {
            return None;
        }
        told.at = Some(now);
        Some(control::Message::PolicyRefusals(PolicyRefusals { counts }))
    }

    /// A stream was carried to its end; `None`: until the policy forbade it.
    pub fn carried(&self, target: &Target, spliced: Option<&Spliced>) {
        let counts = self.of(target);
        add(match spliced.map(|spliced| &spliced.end) {
            Some(Ok(())) => &counts.finished,
            Some(Err(_)) => &counts.broken,
            None => &counts.revoked,
        });
    }

    /// A session was opened.
    pub fn session_opened(&self) {
        add(&self.sessions);
    }

    /// A session has ended, and looked like this.
    pub fn session_ended(&self, stats: &SessionStats) {
        self.bytes_sent
            .fetch_add(stats.bytes_sent, Ordering::Relaxed);
        self.bytes_received
            .fetch_add(stats.bytes_received, Ordering::Relaxed);
    }

    /// What a relay that asks `now` is told of a process that looks like this, over a
    /// session that does like that.
    pub fn compose(
        &self,
        now: Instant,
        process: &ProcessFigures,
        stats: &SessionStats,
        docker: docker::State,
    ) -> control::Message {
        let cpu = Duration::try_from_secs_f64(process.cpu_seconds.unwrap_or_default());
        let dials = |transport| {
            let counts = self.dials.counts(transport);
            Some(DialFigures {
                welcomed: counts.welcomed,
                refused: counts.refused,
                failed: counts.failed,
                timed_out: counts.timed_out,
                proxied: counts.proxied,
                intercepted: counts.intercepted,
            })
        };
        control::Message::AgentFigures(AgentFigures {
            uptime_ms: milliseconds(now.saturating_duration_since(self.began)),
            cpu_ms: milliseconds(cpu.unwrap_or_default()),
            resident_bytes: process.resident_bytes.unwrap_or_default(),
            open_files: process.open_files.unwrap_or_default(),
            sessions: read(&self.sessions),
            bytes_sent: read(&self.bytes_sent) + stats.bytes_sent,
            bytes_received: read(&self.bytes_received) + stats.bytes_received,
            docker_streams: Some(self.docker.message()),
            tcp_streams: Some(self.tcp.message()),
            quic_dials: dials(Transport::Quic),
            ws_dials: dials(Transport::Ws),
            ws_443_dials: dials(Transport::Ws443),
            docker: docker.into(),
        })
    }
}

impl Counts {
    fn message(&self) -> StreamFigures {
        StreamFigures {
            finished: read(&self.finished),
            broken: read(&self.broken),
            denied: read(&self.denied),
            unreachable: read(&self.unreachable),
            revoked: read(&self.revoked),
        }
    }
}

/// Says when a relay that has asked is told again.
#[derive(Debug, Default)]
pub struct Telling(Option<tokio::time::Interval>);

impl Telling {
    /// The relay asks, at once and then at every interval; 0: no more.
    pub fn ask(&mut self, interval: Duration) {
        let is_wanted = !interval.is_zero();
        self.0 = is_wanted.then(|| tokio::time::interval(interval.max(INTERVAL_MIN)));
    }

    /// Waits until it is time; for ever where nobody asks.
    ///
    /// Cancel safe.
    pub async fn due(&mut self) {
        match &mut self.0 {
            Some(interval) => {
                interval.tick().await;
            }
            None => std::future::pending().await,
        }
    }
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

fn read(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_relay_is_told_at_once_and_no_more_often_than_every_five_seconds() {
        let mut telling = Telling::default();

        telling.ask(Duration::from_millis(1));
        telling.due().await;

        let pause = telling.0.as_ref().map(tokio::time::Interval::period);
        assert_eq!(pause, Some(INTERVAL_MIN));
    }

    #[tokio::test]
    async fn a_relay_that_wants_no_more_is_told_no_more() {
        let mut telling = Telling::default();
        telling.ask(Duration::from_secs(5));
        telling.ask(Duration::ZERO);

        let told = tokio::time::timeout(Duration::ZERO, telling.due()).await;

        assert!(told.is_err());
    }

    #[test]
    fn refusals_are_told_once_and_no_more_often_than_every_half_minute() {
        let now = tokio::time::Instant::now().into_std();
        let figures = Figures::new(now);
        assert_eq!(figures.refusals(now), None);

        figures.denied(Rule::Exec);
        figures.denied(Rule::Exec);
        let Some(control::Message::PolicyRefusals(told)) = figures.refusals(now) else {
            unreachable!()
        };
        figures.denied(Rule::Access);

        assert_eq!(
            (told.counts[0].rule.as_str(), told.counts[0].count),
            ("docker.exec", 2)
        );
        assert_eq!(figures.refusals(now + Duration::from_secs(29)), None);
        assert!(figures.refusals(now + REFUSALS_EVERY).is_some());
        assert_eq!(figures.refusals(now + 3 * REFUSALS_EVERY), None);
    }

    #[test]
    fn what_became_of_streams_is_told_by_kind_of_target() {
        let figures = Figures::new(tokio::time::Instant::now().into_std());
        let tcp: Target = "tcp:db:5432".parse().unwrap();

        figures.refused(&Target::Docker, ResetCode::PolicyDenied);
        figures.refused(&tcp, ResetCode::Timeout);
        figures.carried(&tcp, None);

        assert_eq!(figures.docker.message().denied, 1);
        let tcp = figures.tcp.message();
        assert_eq!((tcp.unreachable, tcp.revoked, tcp.denied), (1, 1, 0));
    }
}
