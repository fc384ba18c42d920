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

/// A question about a name; nothing where that is no name.
pub fn ask(id: u16, name: &str, kind: Kind) -> Option<Vec<u8>> {
    let mut message = id.to_be_bytes().to_vec();
    // Recursion is desired; one question.
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok();
        message.push(length.filter(|length| (1..=63).contains(length))?);
        message.extend(label.bytes());
    }
    message.extend(match kind {
        Kind::Ipv4 => [0, 0, 1, 0, 1],
        Kind::Ipv6 => [0, 0, 28, 0, 1],
        Kind::Other => return None,
    });
    Some(message)
}

/// The addresses in an answer to the question with this number, or why there are none;
/// nothing where the message is no such answer.
pub fn addresses(id: u16, message: &[u8]) -> Option<Result<Vec<IpAddr>, Refusal>> {
    let asked = question(message)?;
    if message.get(..2)? != id.to_be_bytes() || message.get(2)? & 0x80 == 0 {
        return None;
    }
    match message.get(3)? & 0x0f {
        0 => {}
        3 => return Some(Err(Refusal::NoSuchName)),
        5 => return Some(Err(Refusal::Refused)),
        _ => return Some(Err(Refusal::ServerFailure)),
    }
    let count = u16::from_be_bytes([*message.get(6)?, *message.get(7)?]);
    let mut rest = message.get(asked.end..)?;
    let mut found = Vec::new();
    for _ in 0..count {
        // Records as they are made here: a pointer for the name, ten bytes, the address.
        let (header, after) = rest.split_at_checked(12)?;
        let length = usize::from(u16::from_be_bytes([header[10], header[11]]));
        let (octets, after) = after.split_at_checked(length)?;
        if let Ok(octets) = <[u8; 4]>::try_from(octets) {
            found.push(octets.into());
        } else if let Ok(octets) = <[u8; 16]>::try_from(octets) {
            found.push(octets.into());
        }
        rest = after;
    }
    Some(Ok(found))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_answer_holds_the_addresses_of_the_family_that_was_asked_for() {
        let all = ["192.0.2.1", "2001:db8::1", "192.0.2.2"];
        let all = all.map(|text| text.parse().expect("an address"));
        let asked = ask(7, "relay.example.com", Kind::Ipv4).expect("a name");
        let read = question(&asked).expect("a question");

        let answered = answer(&asked, &read, &all);

        assert_eq!(addresses(7, &answered), Some(Ok(vec![all[0], all[2]])));
        assert_eq!(addresses(8, &answered), None, "another question's");
        assert_eq!(addresses(7, &asked), None, "no answer at all");
    }

    #[test]
    fn a_refusal_says_which() {
        let asked = ask(7, "relay.example.com", Kind::Ipv6).expect("a name");
        let read = question(&asked).expect("a question");

        for why in [
            Refusal::NoSuchName,
            Refusal::Refused,
            Refusal::ServerFailure,
        ] {
            assert_eq!(addresses(7, &refusal(&asked, &read, why)), Some(Err(why)));
        }
    }

    #[test]
    fn what_is_no_name_is_not_asked_for() {
        assert_eq!(ask(1, "", Kind::Ipv4), None);
        assert_eq!(ask(1, &"x".repeat(64), Kind::Ipv4), None);
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_reader_panic(
            cut in 0_usize..80,
            turned in prop::collection::vec((0_usize..80, any::<u8>()), 0..5),
        ) {
            let asked = ask(7, "relay.example.com", Kind::Ipv4).expect("a name");
            let read = question(&asked).expect("a question");
            let mut message = answer(&asked, &read, &["192.0.2.1".parse().expect("an address")]);
            for (at, byte) in turned {
                if let Some(slot) = message.get_mut(at) {
                    *slot = byte;
                }
            }
            message.truncate(cut);

            addresses(7, &message);
        }
    }
}
