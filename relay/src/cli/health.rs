//! `health`: whether the relay on this host takes sessions, for a container's check.
//!
//! Asks the metrics listener in plain HTTP over loopback: no certificate, no API token,
//! and no library that would look for either.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    Global, discover,
    failure::{Exit, Failure},
    human,
};

/// The relay gives its store two seconds; the rest is a busy machine's.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);
/// The answer is a head of some hundred bytes and one line.
const ANSWER_BYTES_MAX: u64 = 4 * 1024;

const REQUEST: &[u8] = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// Succeeds where the relay is ready.
///
/// # Errors
///
/// None runs here, it does not answer, or says why it is not ready.
pub async fn run(global: &Global) -> Result<(), Failure> {
    let address = discover::local_health(global)?;
    let unavailable = |message: String| Failure::new(Exit::Unavailable, message);
    let answer = match timeout(ANSWER_WITHIN, ask(address)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            return Err(
                unavailable(format!("the relay does not answer at {address}: {error}"))
                    .advise("look at its log"),
            );
        }
        Err(_) => {
            return Err(unavailable(format!(
                "the relay does not answer at {address} within {ANSWER_WITHIN:?}"
            ))
            .advise("look at its log"));
        }
    };
    match read(&answer) {
        Some((200, _)) => Ok(()),
        Some((_, why)) => Err(unavailable(format!(
            "the relay takes no sessions: {}",
            human::printable(why)
        ))),
        None => Err(Failure::new(
            Exit::Protocol,
            format!("what answers at {address} is not a relay"),
        )),
    }
}

async fn ask(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(REQUEST).await?;
    let mut answer = String::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_string(&mut answer)
        .await?;
    Ok(answer)
}

/// Status and body of an answer.
fn read(answer: &str) -> Option<(u16, &str)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.split(' ').next()?;
    Some((status.parse().ok()?, body.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_status_and_a_reason_and_anything_else_is_none() {
        let draining = "HTTP/1.1 503 Service Unavailable\r\na: b\r\n\r\ndraining\n";

        assert_eq!(read(draining), Some((503, "draining")));
        assert_eq!(read("HTTP/1.1 200 OK\r\n\r\nready\n"), Some((200, "ready")));
        assert_eq!(read("SSH-2.0-OpenSSH\r\n"), None);
    }
}
