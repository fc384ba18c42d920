//! The machine: what passes is what came, whatever the cuts; what is refused is not seen by
//! the Engine.

use proptest::prelude::*;

use super::*;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn law(keys: &str) -> impl Fn() -> Law + use<> {
    let policy = Arc::new(Policy::parse(keys).unwrap());
    move || Law {
        policy: policy.clone(),
        place: "the policy /p.toml on the agent's host".to_owned(),
    }
}

const READ_ONLY: &str = "[docker]\naccess = \"read-only\"\n";
const LIMITED: &str = "[docker]\naccess = \"limited\"\nregistries = [\"docker.io\"]\n";

/// An Engine that answers every request that it sees with the next of its answers, and both
/// ends of a connection to it.
struct Play<'a> {
    exchange: Exchange,
    law: &'a dyn Fn() -> Law,
    seen: Vec<u8>,
    answers: VecDeque<&'static [u8]>,
    heads_seen: usize,
    read: Vec<u8>,
    verdicts: Vec<Verdict>,
    failed: Option<Malformed>,
}

impl<'a> Play<'a> {
    fn new(law: &'a dyn Fn() -> Law, answers: &[&'static [u8]]) -> Self {
        Self {
            exchange: Exchange::default(),
            law,
            seen: Vec::new(),
            answers: answers.iter().copied().collect(),
            heads_seen: 0,
            read: Vec::new(),
            verdicts: Vec::new(),
            failed: None,
        }
    }

    fn settle(&mut self) {
        loop {
            self.seen.extend(self.exchange.to_engine().drain(..));
            while let Some(verdict) = self.exchange.next_verdict() {
                self.verdicts.push(verdict);
            }
            self.read.extend(self.exchange.to_client().drain(..));
            let heads = self
                .seen
                .windows(4)
                .filter(|four| *four == b"\r\n\r\n")
                .count();
            if heads == self.heads_seen || self.failed.is_some() {
                return;
            }
            self.heads_seen += 1;
            if let Some(answer) = self.answers.pop_front() {
                self.engine(answer);
            }
        }
    }

    fn engine(&mut self, bytes: &[u8]) {
        match self.exchange.engine(bytes, self.law) {
            Ok(()) => self.read.extend(bytes),
            Err(why) => self.failed = Some(why),
        }
    }

    fn client(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.failed.is_none() {
            match self.exchange.client(bytes, self.law) {
                Ok(Step::Pass(count)) => {
                    self.exchange.passed(&bytes[..count]);
                    self.seen.extend(&bytes[..count]);
                    bytes = &bytes[count..];
                }
                Ok(Step::Took(count)) => bytes = &bytes[count..],
                Ok(Step::Wait) => return,
                Err(why) => self.failed = Some(why),
            }
            self.settle();
        }
    }

    fn read(&self) -> String {
        String::from_utf8_lossy(&self.read).into_owned()
    }
}

#[test]
fn what_is_allowed_reaches_the_engine_as_it_was_sent() {
    let law = law(LIMITED);
    let mut play = Play::new(&law, &[OK, OK, OK]);
    let sent = b"GET /v1.41/containers/json?all=1 HTTP/1.1\r\nhost:  x \r\nX-A: \tb\r\n\r\n\
        POST /containers/create HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
        11\r\n{\"Image\":\"nginx\"}\r\n0\r\n\r\n\
        DELETE /containers/x HTTP/1.1\r\nHost: x\r\n\r\n";

    play.client(sent);

    assert_eq!(
        String::from_utf8_lossy(&play.seen),
        String::from_utf8_lossy(sent)
    );
    assert_eq!(play.read, [OK, OK, OK].concat());
    let recorded: Vec<_> = play
        .verdicts
        .iter()
        .map(|verdict| &verdict.method[..])
        .collect();
    assert_eq!(recorded, ["POST", "DELETE"]);
}

#[test]
fn a_refusal_is_dockers_own_error_and_the_connection_goes_on() {
    let law = law(READ_ONLY);
    let mut play = Play::new(&law, &[OK, OK]);

    play.client(
        b"GET /info HTTP/1.1\r\nHost: x\r\n\r\n\
        POST /containers/create?name=x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}\
        GET /version HTTP/1.1\r\nHost: x\r\n\r\n",
    );

    assert!(!play.seen.windows(6).any(|six| six == b"create"));
    let read = play.read();
    let refusal = "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\n";
    assert_eq!(read.matches(refusal).count(), 1, "{read}");
    assert!(read.contains("refused by the policy /p.toml on the agent's host: `docker.access`"));
    assert!(
        read.ends_with("\r\n\r\nok") && read.matches("200 OK").count() == 2,
        "{read}"
    );
    let denied = play.verdicts[0].denied.as_ref().unwrap();
    assert_eq!(
        (denied.rule, &play.verdicts[0].path[..]),
        (Rule::Access, "/containers/create")
    );
}

#[test]
fn a_body_that_is_judged_is_seen_by_the_engine_only_when_it_is_allowed() {
    let law = law(LIMITED);
    let mut play = Play::new(&law, &[OK]);
    let head = b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 34\r\n\r\n";

    play.client(head);
    assert!(play.seen.is_empty());
    play.client(b"{\"HostConfig\":{\"Privileged\":true}}");

    assert!(play.seen.is_empty());
    assert!(
        play.read().contains("`docker.privileged`"),
        "{}",
        play.read()
    );
    assert!(!play.exchange.has_ended());
}

#[test]
fn a_client_that_waits_for_a_word_before_its_body_gets_it() {
    let law = law(LIMITED);
    let mut play = Play::new(
        &law,
        &[
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
            OK,
        ],
    );

    play.client(
        b"POST /volumes/create HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
    );
    assert_eq!(play.read(), "HTTP/1.1 100 Continue\r\n\r\n");
    play.client(b"{}GET /info HTTP/1.1\r\n\r\n");

    assert!(play.read().ends_with("ok"), "{}", play.read());
}

#[test]
fn a_connection_becomes_a_pipe_only_when_the_engine_says_so() {
    let law = law("[docker]\naccess = \"limited\"\nexec = true\n");
    let start: &[u8] = b"POST /exec/1/start HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\
        Content-Length: 2\r\n\r\n{}";
    for (answer, piped) in [
        (
            &b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nhello"[..],
            true,
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n",
            true,
        ),
        (
            b"HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\n{}",
            false,
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false),
    ] {
        let answer: &'static [u8] = answer;
        let mut play = Play::new(&law, &[answer]);
        play.client(start);
        play.client(b"POST /swarm/leave HTTP/1.1\r\n\r\n");

        let reached = play.seen.windows(5).any(|five| five == b"swarm");
        assert_eq!(reached, piped, "{}", String::from_utf8_lossy(answer));
    }
}

#[test]
fn what_is_under_way_ends_when_the_rules_no_longer_allow_it() {
    let law = law("[docker]\naccess = \"limited\"\nexec = true\n");
    let mut play = Play::new(&law, &[b"HTTP/1.1 101 UPGRADED\r\n\r\n"]);
    play.client(b"POST /exec/1/start HTTP/1.1\r\nUpgrade: tcp\r\n\r\n");

    let goes_on = |text: &str| play.exchange.may_go_on(&Policy::parse(text).unwrap());

    assert!(goes_on("[docker]\naccess = \"read-only\"\nexec = true\n"));
    assert!(!goes_on(READ_ONLY));
    assert!(Exchange::default().may_go_on(&Policy::parse(READ_ONLY).unwrap()));
}

#[test]
fn what_is_no_request_ends_the_connection_with_a_word() {
    for bytes in [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00",
        b"GET /info HTTP/1.1\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /info HTTP/1.0\r\n\r\n",
        b"GET //info HTTP/1.1\r\n\r\n",
        b"GET /info HTTP/1.1\r\nUpgrade: h2c\r\n\r\n",
        b"POST /containers/x/attach HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n",
    ] {
        let law = law(READ_ONLY);
        let mut play = Play::new(&law, &[OK]);

        play.client(bytes);

        assert!(play.seen.is_empty(), "{bytes:?}");
        assert!(play.read().starts_with("HTTP/1.1 400 Bad Request\r\n"), "{}", play.read());
        assert_eq!(play.verdicts.len(), 1);
    }
}

#[test]
fn a_large_refused_body_is_not_read_for_ever() {
    let law = law(READ_ONLY);
    let mut play = Play::new(&law, &[]);

    play.client(b"POST /images/load HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert!(play.exchange.has_ended() && !play.exchange.is_deaf());
    for _ in 0..17 {
        play.client(&[b'x'; 64 * 1024]);
    }

    assert!(play.exchange.is_deaf());
    assert!(play.seen.is_empty() && play.read().contains("Connection: close"));
}

#[test]
fn a_body_too_large_to_be_judged_is_refused() {
    let law = law(LIMITED);
    let mut play = Play::new(&law, &[]);
    let head = format!(
        "POST /containers/create HTTP/1.1\r\nContent-Length: {}\r\n\r\n",
        8 << 20
    );

    play.client(head.as_bytes());
    for _ in 0..17 {
        play.client(&[b' '; 64 * 1024]);
    }

    assert!(play.seen.is_empty() && play.read().contains("a body of more than"));
}

#[test]
fn what_is_sent_ahead_of_an_answer_waits_and_is_bounded() {
    let law = law(READ_ONLY);
    let mut play = Play::new(&law, &[]);
    play.client(b"GET /events HTTP/1.1\r\n\r\n");

    for _ in 0..20 {
        play.client(&[b'G'; 64 * 1024]);
    }

    assert!(play.failed.is_some());
    assert!(play.exchange.held.len() <= HELD_BYTES_MAX);
}

#[test]
fn verdicts_that_nobody_records_hold_up_the_next_request() {
    let law = law(READ_ONLY);
    let mut exchange = Exchange::default();
    let request = b"DELETE /containers/x HTTP/1.1\r\n\r\n";

    for _ in 0..40 {
        exchange.client(request, &law).unwrap();
    }

    assert_eq!(exchange.verdicts.len(), VERDICTS_MAX);
    exchange.next_verdict().unwrap();
    exchange.engine(b"", &law).unwrap();
    assert_eq!(exchange.verdicts.len(), VERDICTS_MAX);
}

/// Requests of one connection, and whether the Engine is to see them under [`LIMITED`].
fn request() -> impl Strategy<Value = (Vec<u8>, bool)> {
    let chunked = |body: &str| {
        format!(
            "POST /containers/create HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        )
    };
    let of_length = |target: &str, body: &str| {
        format!(
            "POST {target} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let choices = [
        ("GET /info HTTP/1.1\r\n\r\n".to_owned(), true),
        ("HEAD /_ping HTTP/1.1\r\n\r\n".to_owned(), true),
        (
            of_length("/networks/x/connect", "GET /swarm HTTP/1.1\r\n\r\n"),
            true,
        ),
        (
            of_length("/containers/create", "{\"Image\":\"nginx\"}"),
            true,
        ),
        (chunked("{\"Image\":\"nginx\"}"), true),
        (
            of_length(
                "/containers/create",
                "{\"HostConfig\":{\"Privileged\":true}}",
            ),
            false,
        ),
        (chunked("{\"HostConfig\":{\"PidMode\":\"host\"}}"), false),
        (of_length("/images/load", "tar tar tar"), false),
        ("GET /swarm HTTP/1.1\r\n\r\n".to_owned(), false),
    ];
    let choices: Vec<_> = choices
        .into_iter()
        .map(|(text, seen)| (text.into_bytes(), seen))
        .collect();
    prop::sample::select(choices)
}

proptest! {
    #[test]
    fn however_requests_are_cut_the_same_ones_pass_and_unchanged(
        requests in prop::collection::vec(request(), 1..8),
        cuts in prop::collection::vec(1_usize..60, 0..60),
    ) {
        let law = law(LIMITED);
        let bytes: Vec<u8> = requests.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let expected: Vec<u8> = requests
            .iter()
            .filter(|(_, seen)| *seen)
            .flat_map(|(bytes, _)| bytes.clone())
            .collect();
        // One of them is a HEAD, so no answer has a body.
        let answer: &'static [u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
        let mut play = Play::new(&law, &[]);
        let mut at = 0_usize;
        for cut in cuts.into_iter().chain([usize::MAX]) {
            let next = at.saturating_add(cut).min(bytes.len());
            play.client(&bytes[at..next]);
            at = next;
            // The Engine answers whenever it has a whole request.
            while matches!(play.exchange.requests, Requests::Waiting) {
                play.engine(answer);
                play.settle();
            }
        }

        prop_assert_eq!(play.failed, None);
        prop_assert_eq!(String::from_utf8_lossy(&play.seen), String::from_utf8_lossy(&expected));
        let refused = requests.iter().filter(|(_, seen)| !seen).count();
        prop_assert_eq!(String::from_utf8_lossy(&play.read).matches("403 Forbidden").count(), refused);
    }

    #[test]
    fn hostile_bytes_of_either_side_never_panic(
        client in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..8),
        engine in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..8),
        head in prop::sample::select(vec!["", "GET /info HTTP/1.1\r\n\r\n", "POST /containers/create HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "POST /build HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"]),
        access in prop::sample::select(vec!["read-only", "limited", "full"]),
    ) {
        let law = law(&format!("[docker]\naccess = \"{access}\"\n"));
        let mut play = Play::new(&law, &[]);
        play.client(head.as_bytes());
        for bytes in client {
            play.client(&bytes);
        }
        for bytes in engine {
            play.engine(&bytes);
            play.settle();
        }
    }
}
