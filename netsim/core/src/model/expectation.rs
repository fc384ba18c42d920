//! Expectations: what must be true of a run, as temporal statements about what was
//! observed.

use std::{fmt, time::Duration};

use toml::Value;

use crate::term::{At, Choice, Name, Scalar, Text, record, words};

words! {
    /// Something that can be observed.
    pub enum Word as "observation" {
        /// An agent's session is welcomed; holds until `offline`. Detail: the transport.
        "online" Online,
        /// Its session has ended.
        "offline" Offline,
        /// An agent tries to connect. Detail: the transport.
        "attempt" Attempt,
        /// An agent was refused, or refuses. Detail: why.
        "refused" Refused,
        /// A stream was opened.
        "stream-opened" StreamOpened,
        /// A stream carried all its bytes.
        "stream-done" StreamDone,
        /// A stream went on over another connection.
        "stream-resumed" StreamResumed,
        /// A stream was broken off.
        "stream-reset" StreamReset,
        /// A stream's bytes came back as others, or in another order.
        "corrupted" Corrupted,
        /// A deployment was carried out. Detail: its key.
        "deployed" Deployed,
        /// A deployment was carried out a second time.
        "deployed-twice" DeployedTwice,
        /// A packet from outside opened a flow towards the host.
        "inbound-flow" InboundFlow,
        /// The host has a listening socket.
        "listening" Listening,
        /// One end has a session of which the other knows nothing; holds until `closed`.
        "half-open" HalfOpen,
        /// A half-open session is gone.
        "closed" Closed,
        /// A task, descriptor or memory is left at rest. Detail: which.
        "leaked" Leaked,
        /// A task of relay or agent panicked. Detail: where, and with which words.
        "panicked" Panicked,
        /// An event of the timeline happened. Detail: its name.
        "event" Event,
        /// An event was undone. Detail: its name.
        "undone" Undone,
    }
}

impl Word {
    /// What ends the state that this begins, where it is one.
    pub const fn ended_by(self) -> Option<Self> {
        match self {
            Self::Online => Some(Self::Offline),
            Self::HalfOpen => Some(Self::Closed),
            Self::Offline
            | Self::Attempt
            | Self::Refused
            | Self::StreamOpened
            | Self::StreamDone
            | Self::StreamResumed
            | Self::StreamReset
            | Self::Corrupted
            | Self::Deployed
            | Self::DeployedTwice
            | Self::InboundFlow
            | Self::Listening
            | Self::Closed
            | Self::Leaked
            | Self::Panicked
            | Self::Event
            | Self::Undone => None,
        }
    }

    /// Whether it is about the timeline, and not about a host.
    pub const fn is_of_timeline(self) -> bool {
        matches!(self, Self::Event | Self::Undone)
    }
}

/// Which observations are meant: a word, and a detail where it matters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern {
    /// The word.
    pub word: Word,
    /// The detail; none is any.
    pub detail: Option<String>,
}

impl Pattern {
    /// Whether an observation is one of those meant.
    pub fn fits(&self, word: Word, detail: &str) -> bool {
        self.word == word && self.detail.as_ref().is_none_or(|wanted| wanted == detail)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.detail {
            Some(detail) => write!(f, "{}:{detail}", self.word),
            None => write!(f, "{}", self.word),
        }
    }
}

impl Scalar for Pattern {
    const KIND: &'static str = "an observation such as `online` or `event:NAME`";

    fn blank() -> Self {
        Self {
            word: Word::Online,
            detail: None,
        }
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let (word, detail) = match text.split_once(':') {
            Some((_, "")) => return Err(format!("`{text}` has no detail after its colon")),
            Some((word, detail)) => (word, Some(detail.to_owned())),
            None => (text, None),
        };
        Ok(Self {
            word: Word::from_text(word)?,
            detail,
        })
    }

    fn to_value(&self) -> Value {
        Value::String(self.to_string())
    }
}

record! {
    /// Something that must be true of a run. It has one of `always`, `never`,
    /// `sometimes`, or `see` together with `within`. Of several copies of a host, each
    /// must fulfil it.
    pub struct Expectation {
        /// At every moment this holds.
        "always" always: Option<At<Pattern>> = None,
        /// This is never observed.
        "never" never: Option<At<Pattern>> = None,
        /// This is observed in at least one run of all seeds: a goal, not a duty.
        "sometimes" sometimes: Option<At<Pattern>> = None,
        /// This is observed, or holds, …
        "see" see: Option<At<Pattern>> = None,
        /// … at most this long …
        "within" within: Option<Choice<Duration>> = None,
        /// … after each time that this is observed; without it, after the start.
        "after" after: Option<At<Pattern>> = None,
        /// Of which host; without it, of every agent.
        "of" of: Option<At<Name>> = None,
        /// What is earlier does not count; for `always`, `never` and `sometimes`.
        "from" from: Option<At<Choice<Duration>>> = None,
        /// What is later does not count.
        "until" until: Option<At<Choice<Duration>>> = None,
        /// Why it fails for the time being, with a line that replays it. The run fails
        /// when the expectation starts to hold.
        "known-failing" known_failing: Option<Text> = None,
    }
}

/// What an expectation says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Operator<'a> {
    /// Holds at every moment.
    Always(&'a Pattern),
    /// Is never observed.
    Never(&'a Pattern),
    /// Is observed in at least one run.
    Sometimes(&'a Pattern),
    /// Is observed within the span after each time that the other is.
    Within {
        /// What is to be seen.
        see: &'a Pattern,
        /// How soon.
        within: Duration,
        /// After what; none is the start.
        after: Option<&'a Pattern>,
    },
}

impl Expectation {
    /// What it says.
    ///
    /// # Errors
    ///
    /// It says nothing, or several things: a sentence about what to do.
    pub fn operator(&self) -> Result<Operator<'_>, &'static str> {
        let within = self.within.as_ref().map(Choice::get);
        match (&self.always, &self.never, &self.sometimes, &self.see) {
            (None, None, None, Some(see)) => match within {
                Some(within) => Ok(Operator::Within {
                    see,
                    within,
                    after: self.after.as_deref(),
                }),
                None => Err("`see` needs `within`: how soon it must be seen"),
            },
            (None, None, None, None) => {
                Err("an expectation needs `always`, `never`, `sometimes` or `see`")
            }
            _ if within.is_some() || self.after.is_some() => {
                Err("`within` and `after` belong to `see` alone")
            }
            (Some(pattern), None, None, None) => Ok(Operator::Always(pattern)),
            (None, Some(pattern), None, None) => Ok(Operator::Never(pattern)),
            (None, None, Some(pattern), None) => Ok(Operator::Sometimes(pattern)),
            _ => Err("one expectation says one thing: split it"),
        }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.operator() {
            Ok(Operator::Always(pattern)) => write!(f, "always {pattern}")?,
            Ok(Operator::Never(pattern)) => write!(f, "never {pattern}")?,
            Ok(Operator::Sometimes(pattern)) => write!(f, "sometimes {pattern}")?,
            Ok(Operator::Within { see, within, after }) => {
                write!(f, "{see} within {within:?}")?;
                if let Some(after) = after {
                    write!(f, " after {after}")?;
                }
            }
            Err(problem) => f.write_str(problem)?,
        }
        if let Some(of) = &self.of {
            write!(f, " of {}", **of)?;
        }
        Ok(())
    }
}
