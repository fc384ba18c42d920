//! What this host's kernel counts: its own firewall leaves traces there.

use std::{fs, net::SocketAddr, time::Duration};

use super::tcp::{self, Changed};
use crate::observe::FaultKind;

/// Tries of a connection that is refused.
const TRIES: u8 = 4;

/// How long one may take.
const TRY_WITHIN: Duration = Duration::from_millis(500);

/// Segments that the kernel wanted to send again, and was not let: its own output rules.
pub(super) fn resends_refused() -> Option<u64> {
    let text = fs::read_to_string("/proc/net/netstat").ok()?;
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names.split(' ').position(|name| name == "TCPRetransFail")?;
    values.split(' ').nth(at)?.parse().ok()
}

/// Packets that came over the loopback so far.
fn over_loopback() -> Option<u64> {
    let text = fs::read_to_string("/proc/net/dev").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("lo:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// For how many of some refused connections something went over the loopback, as it does where
/// this host makes the rejection itself. `None`: others use the loopback all the time.
pub(super) async fn refused_over_loopback(to: SocketAddr) -> Option<(u8, u8)> {
    let before = over_loopback()?;
    tokio::time::sleep(Duration::from_millis(20)).await;
    if over_loopback()? != before {
        return None;
    }
    let (mut tries, mut over) = (0, 0);
    for _ in 0..TRIES {
        let before = over_loopback()?;
        let refused = tcp::connect(to, Changed::default(), TRY_WITHIN).await;
        let after = over_loopback()?;
        let is_refused = refused.is_err_and(|fault| {
            matches!(fault.kind, FaultKind::Refused | FaultKind::HostUnreachable)
        });
        // What this host refuses, it refuses at once: this came from elsewhere.
        if !is_refused {
            break;
        }
        tries += 1;
        over += u8::from(after > before);
    }
    Some((tries, over))
}
