//! What a service tells systemd: that it is ready, how it is, that it ends, and that it
//! is alive (sd_notify(3)).
//!
//! The socket is opened once and connected, so that a sandbox that comes later need not
//! allow it. Outside of systemd nothing is told and nothing fails. What is told may be
//! lost: systemd's own timers decide what then happens.

use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    time::Duration,
};

use tokio::time::{Interval, MissedTickBehavior};

/// The way to whoever supervises this process.
#[derive(Debug)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// Opens what `NOTIFY_SOCKET` and `WATCHDOG_USEC` name; both may be absent.
    ///
    /// # Errors
    ///
    /// A socket is named and cannot be used.
    pub fn from_environment() -> io::Result<Self> {
        let socket = match env::var("NOTIFY_SOCKET") {
            Ok(name) if !name.is_empty() => Some(open(&name)?),
            Ok(_) | Err(_) => None,
        };
        let variable = |name| env::var(name).ok();
        let watchdog = watchdog(
            variable("WATCHDOG_USEC").as_deref(),
            variable("WATCHDOG_PID").as_deref(),
            std::process::id(),
        );
        Ok(Self { socket, watchdog })
    }

    /// One that tells nobody.
    pub const fn silent() -> Self {
        Self {
            socket: None,
            watchdog: None,
        }
    }

    /// The service does what it is for.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// How it is, in a line for a person.
    pub fn status(&self, line: &str) {
        let line = line.replace(['\n', '\r'], " ");
        self.tell(&format!("STATUS={line}"));
    }

    /// The service ends, within this time.
    pub fn stopping(&self, within: Duration) {
        let microseconds = within.as_micros();
        self.tell(&format!(
            "STOPPING=1\nEXTEND_TIMEOUT_USEC={microseconds}\nSTATUS=stopping"
        ));
    }

    /// The service is alive. To be called by what would hang if the service did.
    pub fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// When [`alive`](Self::alive) is to be called: now, and then twice in the time after
    /// which the service is taken for dead. To be made within a runtime.
    pub fn pulse(&self) -> Pulse {
        let every = self.socket.as_ref().and(self.watchdog).map(|end| end / 2);
        Pulse(every.map(|every| {
            let mut beats = tokio::time::interval(every);
            beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
            beats
        }))
    }

    fn tell(&self, words: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(words.as_bytes())
        {
            tracing::debug!(%error, "the service manager was not told");
        }
    }
}

/// The moments at which a service says that it is alive; none where nobody watches.
#[derive(Debug)]
pub struct Pulse(Option<Interval>);

impl Pulse {
    /// Waits for the next one.
    ///
    /// Cancel safe: a moment that has come stays due.
    pub async fn due(&mut self) {
        match &mut self.0 {
            Some(beats) => drop(beats.tick().await),
            None => std::future::pending().await,
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the service manager is outside of any world: it is of the process"
)]
fn open(name: &str) -> io::Result<UnixDatagram> {
    let address = match name.strip_prefix('@') {
        Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // A full queue must not hold up the service.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Reads `WATCHDOG_USEC`, where `WATCHDOG_PID` does not say that it is for another.
fn watchdog(microseconds: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(own)) {
        return None;
    }
    let microseconds = microseconds?.parse().ok().filter(|time| *time > 0)?;
    Some(Duration::from_micros(microseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_of_another_process_or_without_a_time_is_none_of_ours() {
        assert_eq!(
            watchdog(Some("3000000"), None, 7),
            Some(Duration::from_secs(3))
        );
        assert_eq!(
            watchdog(Some("3000000"), Some("7"), 7),
            Some(Duration::from_secs(3))
        );
        assert_eq!(watchdog(Some("3000000"), Some("8"), 7), None);
        assert_eq!(watchdog(Some("0"), None, 7), None);
        assert_eq!(watchdog(Some("soon"), None, 7), None);
        assert_eq!(watchdog(None, None, 7), None);
    }

    #[test]
    fn what_is_told_arrives_and_a_status_stays_one_line() {
        let name = format!("sternline-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let heard = UnixDatagram::bind_addr(&address).unwrap();
        let notifier = Notifier {
            socket: Some(open(&format!("@{name}")).unwrap()),
            watchdog: Some(Duration::from_secs(4)),
        };
        let mut buffer = [0; 200];
        let mut next = || {
            let length = heard.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };

        notifier.ready();
        notifier.status("two\nlines");
        notifier.stopping(Duration::from_secs(1));

        assert_eq!(next(), "READY=1");
        assert_eq!(next(), "STATUS=two lines");
        assert_eq!(
            next(),
            "STOPPING=1\nEXTEND_TIMEOUT_USEC=1000000\nSTATUS=stopping"
        );
    }
}
