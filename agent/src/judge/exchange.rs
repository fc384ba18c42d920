//! Both directions of one connection to the Engine: requests are held until they are
//! judged, answers pass and are followed to their ends.
//!
//! No I/O: bytes of either side go in, and what is to be done with them comes out. One
//! request is with the Engine at a time; what a client sends ahead waits here, so that an
//! answer of ours never overtakes one of the Engine's, and every request is judged by the
//! rules of its own moment.

use std::{collections::VecDeque, sync::Arc};

use super::{
    Denied, Passed,
    body::{Body, content_of_chunks},
    head::{self, Framing, Malformed},
    judge_body, judge_head, may_go_on,
    operation::{Class, Look, Operation},
};
use crate::policy::{Policy, Rule};

mod refusal;

/// A body that is to be judged is held, and may be this large. The largest ones of real
/// use carry the environment of a container: tens of kilobytes.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// What is held of a client at most: a body, its head, and what it was cut together with.
const HELD_BYTES_MAX: usize = BODY_BYTES_MAX + 2 * head::HEAD_BYTES_MAX;
/// Of a refused request's body, this much is read and thrown away, so that the client
/// comes to read why. Beyond it the connection ends under it.
const DISCARD_BYTES_MAX: u64 = 1024 * 1024;
/// Verdicts that wait to be recorded; no request is judged while there are so many.
const VERDICTS_MAX: usize = 16;
/// Of a path, this much is recorded.
const PATH_CHARACTERS_MAX: usize = 512;

/// The rules of the moment, and where they stand.
#[derive(Debug, Clone)]
pub struct Law {
    /// The rules.
    pub policy: Arc<Policy>,
    /// Where a person finds them: "the policy /etc/… on the agent's host".
    pub place: String,
}

/// What came of a request, for the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// As it stood there.
    pub method: String,
    /// Without the query, where credentials may be.
    pub path: String,
    /// Why not, if not.
    pub denied: Option<Denied>,
}

/// What is to be done with a client's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// So many of them go to the Engine as they are; then say so with
    /// [`Exchange::passed`].
    Pass(usize),
    /// So many of them are held or thrown away.
    Took(usize),
    /// None can be taken before something else happens.
    Wait,
}

/// Where the client is.
#[derive(Debug)]
enum Requests {
    /// Within a head, or between two requests.
    Head,
    /// Within a body that is to be judged, behind its head.
    Held(Box<Held>),
    /// Within a body that passes.
    Passing(Body),
    /// Behind a whole request that is not yet answered.
    Waiting,
    /// Within the body of a refused request.
    Discarding(Body),
    /// Behind a refusal that ends the connection; so many bytes are still thrown away.
    Ending(u64),
    /// The connection is a pipe.
    Pipe,
}

#[derive(Debug)]
struct Held {
    request: head::Request,
    look: Look,
    operation: Option<&'static Operation>,
    head_bytes: usize,
    /// How much of what is held was walked over.
    walked: usize,
    body: Body,
}

/// Where the Engine is.
#[derive(Debug)]
enum Answers {
    /// Between two answers, or within a head.
    Head(Vec<u8>),
    /// Within a body.
    Body(Body),
    /// What comes now is not looked at.
    Pipe,
}

/// The request that the Engine has.
#[derive(Debug)]
struct Current {
    operation: Option<&'static Operation>,
    is_head: bool,
    is_answered: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Exchange {
    requests: Requests,
    answers: Answers,
    current: Option<Current>,
    /// The client's bytes that wait for a verdict.
    held: Vec<u8>,
    /// Where the end of a head was not.
    searched: usize,
    to_engine: VecDeque<u8>,
    to_client: VecDeque<u8>,
    verdicts: VecDeque<Verdict>,
}

impl Default for Exchange {
    fn default() -> Self {
        Self {
            requests: Requests::Head,
            answers: Answers::Head(Vec::new()),
            current: None,
            held: Vec::new(),
            searched: 0,
            to_engine: VecDeque::new(),
            to_client: VecDeque::new(),
            verdicts: VecDeque::new(),
        }
    }
}

impl Exchange {
    /// What is to be done with bytes of the client. Whatever [`Exchange::to_engine`] holds
    /// goes first.
    ///
    /// # Errors
    ///
    /// The connection cannot go on.
    pub fn client(&mut self, bytes: &[u8], law: &dyn Fn() -> Law) -> Result<Step, Malformed> {
        self.advance(law)?;
        if self.held.is_empty() && self.to_engine.is_empty() {
            match &self.requests {
                Requests::Pipe => return Ok(Step::Pass(bytes.len())),
                Requests::Passing(body) => return (*body).clone().walk(bytes).map(Step::Pass),
                _ => {}
            }
        }
        if let Requests::Ending(left) = &mut self.requests {
            *left = left.saturating_sub(bytes.len() as u64);
            return Ok(Step::Took(bytes.len()));
        }
        let room = HELD_BYTES_MAX
            .saturating_sub(self.held.len())
            .min(bytes.len());
        if room == 0 {
            return match (&self.requests, self.verdicts.len() < VERDICTS_MAX) {
                (Requests::Waiting, _) => {
                    Err(Malformed::Other("too much was sent ahead of an answer"))
                }
                _ => Ok(Step::Wait),
            };
        }
        self.held.extend_from_slice(&bytes[..room]);
        self.advance(law)?;
        Ok(Step::Took(room))
    }

    /// The Engine has taken these bytes of a [`Step::Pass`].
    pub fn passed(&mut self, bytes: &[u8]) {
        if let Requests::Passing(body) = &mut self.requests {
            // The same bytes were walked over when they were let pass.
            let _walked = body.walk(bytes);
            if body.is_done() {
                self.request_ended();
            }
        }
    }

    /// Follows bytes of the Engine, all of which go to the client.
    ///
    /// # Errors
    ///
    /// The Engine does not speak HTTP, or changes the protocol where it may not.
    pub fn engine(&mut self, mut bytes: &[u8], law: &dyn Fn() -> Law) -> Result<(), Malformed> {
        while !bytes.is_empty() {
            match &mut self.answers {
                Answers::Pipe => break,
                Answers::Body(body) => {
                    let walked = body.walk(bytes)?;
                    bytes = &bytes[walked..];
                    if body.is_done() {
                        self.answer_ended();
                    }
                }
                Answers::Head(head) => {
                    let (from, before) = (head.len(), head.len());
                    head.extend_from_slice(bytes);
                    let Some(end) = head::end_of_head(head, from) else {
                        match head.len() > head::HEAD_BYTES_MAX {
                            true => return Err(Malformed::TooLarge),
                            false => break,
                        }
                    };
                    let answer = head::answer(&head[..end])?;
                    bytes = &bytes[end - before..];
                    self.answer_began(answer)?;
                }
            }
        }
        self.advance(law)
    }

    fn answer_began(&mut self, answer: head::Answer) -> Result<(), Malformed> {
        self.answers = Answers::Head(Vec::new());
        let Some(current) = &self.current else {
            // Nobody asked: the Engine says why it closes.
            self.answers = Answers::Pipe;
            return Ok(());
        };
        let hijacks = current.operation.is_some_and(|operation| operation.hijacks);
        match (answer.status, answer.framing) {
            (101, _) | (200, Framing::UntilClose) if hijacks => {
                self.answers = Answers::Pipe;
                self.requests = Requests::Pipe;
            }
            (101, _) => return Err(Malformed::Other("the Engine changes the protocol unasked")),
            (100..=199, _) => {}
            (_, Framing::UntilClose) if !current.is_head => self.answers = Answers::Pipe,
            (_, framing) => {
                let body = if current.is_head {
                    Body::Done
                } else {
                    Body::of(framing)
                };
                match body.is_done() {
                    true => self.answer_ended(),
                    false => self.answers = Answers::Body(body),
                }
            }
        }
        Ok(())
    }

    fn answer_ended(&mut self) {
        self.answers = Answers::Head(Vec::new());
        match (&self.requests, &mut self.current) {
            (Requests::Waiting, _) => {
                self.requests = Requests::Head;
                self.current = None;
            }
            (_, Some(current)) => current.is_answered = true,
            (_, None) => {}
        }
    }

    fn request_ended(&mut self) {
        match self.current.take_if(|current| current.is_answered) {
            Some(_) => self.requests = Requests::Head,
            None => self.requests = Requests::Waiting,
        }
    }

    /// Goes on with what is held, as far as it can.
    fn advance(&mut self, law: &dyn Fn() -> Law) -> Result<(), Malformed> {
        loop {
            let before = (self.held.len(), std::mem::discriminant(&self.requests));
            match &mut self.requests {
                Requests::Head if self.verdicts.len() >= VERDICTS_MAX => return Ok(()),
                Requests::Head => self.read_head(law),
                Requests::Held(held) => {
                    let walked = held.body.walk(&self.held[held.walked..]);
                    match walked {
                        Ok(walked) => held.walked += walked,
                        Err(why) => {
                            self.refuse_malformed(&why, law);
                            continue;
                        }
                    }
                    self.judge_held(law);
                }
                Requests::Passing(body) => {
                    let walked = body.walk(&self.held)?;
                    let is_done = body.is_done();
                    self.to_engine.extend(self.held.drain(..walked));
                    if is_done {
                        self.request_ended();
                    }
                }
                Requests::Discarding(body) => {
                    // Of a known length, so nothing is malformed here.
                    let walked = body.walk(&self.held)?;
                    let is_done = body.is_done();
                    self.held.drain(..walked);
                    if is_done {
                        self.requests = Requests::Head;
                    }
                }
                Requests::Ending(left) => {
                    *left = left.saturating_sub(self.held.len() as u64);
                    self.held = Vec::new();
                }
                Requests::Pipe => self.to_engine.extend(self.held.drain(..)),
                Requests::Waiting => return Ok(()),
            }
            if before == (self.held.len(), std::mem::discriminant(&self.requests)) {
                if self.held.is_empty() {
                    // An idle connection holds no memory of what it was.
                    self.held = Vec::new();
                }
                return Ok(());
            }
        }
    }

    fn read_head(&mut self, law: &dyn Fn() -> Law) {
        let Some(end) = head::end_of_head(&self.held, self.searched) else {
            self.searched = self.held.len();
            if let Err(why) = head::check_beginning(&self.held) {
                self.refuse_malformed(&why, law);
            }
            return;
        };
        self.searched = 0;
        let request = match head::check_beginning(&self.held[..end])
            .and_then(|()| head::request(&self.held[..end]))
        {
            Ok(request) => request,
            Err(why) => return self.refuse_malformed(&why, law),
        };
        let law = law();
        match judge_head(law.policy.docker(), &request) {
            Ok(Passed {
                operation,
                look: Some(look),
            }) => {
                if request.expects_continue {
                    // The client waits for this word, and the Engine has not heard of it.
                    self.to_client.extend(b"HTTP/1.1 100 Continue\r\n\r\n");
                }
                self.requests = Requests::Held(Box::new(Held {
                    body: Body::of(request.framing),
                    request,
                    look,
                    operation,
                    head_bytes: end,
                    walked: end,
                }));
            }
            Ok(Passed {
                operation,
                look: None,
            }) => {
                self.to_engine.extend(self.held.drain(..end));
                self.pass(&request, operation, Body::of(request.framing));
            }
            Err(denied) => {
                self.held.drain(..end);
                self.refuse(&request, denied, &law, true);
            }
        }
    }

    /// Judges a held body once it is whole.
    fn judge_held(&mut self, law: &dyn Fn() -> Law) {
        let Requests::Held(held) = &self.requests else {
            return;
        };
        let is_too_large = held.walked - held.head_bytes > BODY_BYTES_MAX;
        if !held.body.is_done() && !is_too_large {
            return;
        }
        let Requests::Held(held) = std::mem::replace(&mut self.requests, Requests::Head) else {
            return;
        };
        let law = law();
        let verdict = match is_too_large {
            true => Err(Denied::new(
                Rule::Request,
                format!("a body of more than {BODY_BYTES_MAX} bytes"),
            )),
            false => {
                let raw = &self.held[held.head_bytes..held.walked];
                let rules = law.policy.docker();
                match held.request.framing {
                    Framing::Chunked => judge_body(rules, held.look, &content_of_chunks(raw)),
                    _ => judge_body(rules, held.look, raw),
                }
            }
        };
        match verdict {
            Ok(()) => {
                self.to_engine.extend(self.held.drain(..held.walked));
                self.pass(&held.request, held.operation, Body::Done);
            }
            Err(denied) => {
                self.held.drain(..held.walked);
                self.refuse(&held.request, denied, &law, is_too_large);
            }
        }
    }

    /// The Engine has the request's head, or all of it.
    fn pass(&mut self, request: &head::Request, operation: Option<&'static Operation>, body: Body) {
        self.current = Some(Current {
            operation,
            is_head: request.method == "HEAD",
            is_answered: false,
        });
        self.requests = match body.is_done() {
            true => Requests::Waiting,
            false => Requests::Passing(body),
        };
        // Who looks is many, and of little interest; who changes is neither.
        if operation.is_none_or(|operation| operation.class != Class::Read) {
            self.verdicts.push_back(Verdict {
                method: request.method.clone(),
                path: recorded_path(&request.target),
                denied: None,
            });
        }
    }

    /// The client sends no more. What it has sent ahead goes nowhere: the Engine takes the
    /// end for a client that has gone.
    pub fn client_finished(&mut self) {
        self.held = Vec::new();
        self.searched = 0;
    }

    /// Bytes for the Engine, before all others of the client.
    pub const fn to_engine(&mut self) -> &mut VecDeque<u8> {
        &mut self.to_engine
    }

    /// Answers of ours for the client. There are none while an answer of the Engine's is
    /// under way.
    pub const fn to_client(&mut self) -> &mut VecDeque<u8> {
        &mut self.to_client
    }

    /// Whether nothing more goes to the client but [`Exchange::to_client`].
    pub const fn has_ended(&self) -> bool {
        matches!(self.requests, Requests::Ending(_))
    }

    /// Whether the client has been heard long enough after a refusal.
    pub const fn is_deaf(&self) -> bool {
        matches!(self.requests, Requests::Ending(0))
    }

    /// The oldest verdict that is not recorded.
    pub fn next_verdict(&mut self) -> Option<Verdict> {
        self.verdicts.pop_front()
    }

    /// Whether what the Engine does for this client may go on under other rules.
    pub fn may_go_on(&self, policy: &Policy) -> bool {
        let current = self.current.as_ref();
        current.is_none_or(|current| may_go_on(policy.docker(), current.operation))
    }
}

fn recorded_path(target: &str) -> String {
    let path = target.split('?').next().unwrap_or_default();
    path.chars().take(PATH_CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests;
