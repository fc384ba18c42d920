//! DNS messages, as far as a box that lies needs them: one question, and answers to it.
//! The same code answers for a scenario's resolvers.

use std::net::IpAddr;

/// How long an answer may be remembered, in seconds: not at all, so that a host asks
/// again after the network has changed.
const TIME_TO_LIVE: u32 = 0;

const HEADER: usize = 12;

/// Which addresses are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 (A).
    Ipv4,
    /// IPv6 (AAAA).
    Ipv6,
    /// Something else.
    Other,
}

/// The question of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The name, without the dot at its end.
    pub name: String,
    /// What is asked.
    pub kind: Kind,
    /// Where the question ends, in the message.
    end: usize,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// SERVFAIL.
    ServerFailure,
    /// NXDOMAIN.
    NoSuchName,
    /// REFUSED.
    Refused,
}

/// Reads the one question of a message; nothing where there is none, or several.
pub fn question(message: &[u8]) -> Option<Question> {
    if message.get(4..6)? != [0, 1] {
        return None;
    }
    let mut labels: Vec<String> = Vec::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        match length {
            0 => break,
            // RFC 1035: 63 letters a label; the rest are pointers, of which a question
            // has none.
            1..=63 => {
                let label = message.get(at..at + length)?;
                labels.push(String::from_utf8_lossy(label).into_owned());
                at += length;
            }
            _ => return None,
        }
        // 255 bytes a name.
        if at > HEADER + 255 {
            return None;
        }
    }
    let kind = match message.get(at..at + 4)? {
        [0, 1, 0, 1] => Kind::Ipv4,
        [0, 28, 0, 1] => Kind::Ipv6,
        _ => Kind::Other,
    };
    Some(Question {
        name: labels.join("."),
        kind,
        end: at + 4,
    })
}

/// An answer to the question of a message: those of the addresses that were asked for.
pub fn answer(message: &[u8], question: &Question, addresses: &[IpAddr]) -> Vec<u8> {
    let asked = addresses.iter().filter(|address| match question.kind {
        Kind::Ipv4 => address.is_ipv4(),
        Kind::Ipv6 => address.is_ipv6(),
        Kind::Other => false,
    });
    let records: Vec<Vec<u8>> = asked.map(|address| record(*address)).collect();
    let mut answered = begin(
        message,
        question,
        0,
        u16::try_from(records.len()).unwrap_or(0),
    );
    answered.extend(records.concat());
    answered
}

/// An answer that there is none.
pub fn refusal(message: &[u8], question: &Question, refusal: Refusal) -> Vec<u8> {
    let code = match refusal {
        Refusal::ServerFailure => 2,
        Refusal::NoSuchName => 3,
        Refusal::Refused => 5,
    };
    begin(message, question, code, 0)
}

/// Header and question of an answer: a recursive server's.
fn begin(message: &[u8], question: &Question, code: u8, records: u16) -> Vec<u8> {
    let mut begun = message[..question.end].to_vec();
    begun[2] = 0x80 | (message[2] & 0x01);
    begun[3] = 0x80 | code;
    begun[6..8].copy_from_slice(&records.to_be_bytes());
    begun[8..HEADER].fill(0);
    begun
}

fn record(address: IpAddr) -> Vec<u8> {
    let (kind, octets) = match address {
        IpAddr::V4(address) => (1, address.octets().to_vec()),
        IpAddr::V6(address) => (28, address.octets().to_vec()),
    };
    let length = u8::try_from(octets.len()).unwrap_or(0);
    // The name is a pointer to the question's.
    let mut record = vec![0xc0, 12, 0, kind, 0, 1];
    record.extend(TIME_TO_LIVE.to_be_bytes());
    record.extend([0, length]);
    record.extend(octets);
    record
}
