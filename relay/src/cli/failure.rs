//! Why an operator's command did not do what it was asked: what is printed, and
//! the exit code. Messages are for people; the code is for scripts.

use std::{fmt, process::ExitCode};

use serde_json::json;

use super::output;

/// How a command ends when it does not succeed, after `sysexits.h` where that has a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The relay understood and declined: a name that is taken, a state that does not fit.
    Declined = 1,
    /// The command line is wrong.
    Usage = 64,
    /// What was named does not exist.
    NotFound = 66,
    /// The relay cannot be reached, or takes nothing at the moment.
    Unavailable = 69,
    /// The relay failed, or this program did.
    Internal = 70,
    /// The local socket or port cannot be opened.
    CannotListen = 73,
    /// What answered is not a relay this program understands.
    Protocol = 76,
    /// The credential was refused, or does not reach that far.
    Refused = 77,
    /// Address, API token or CA certificate of the relay are missing or unreadable.
    Config = 78,
    /// The local program to run is not there, as a shell says it.
    NotRunnable = 127,
}

/// The table of exit codes that `--help` shows.
pub const EXIT_CODES_HELP: &str = "\
Exit codes:
    0  done
    1  the relay declined: the name is taken, or the state does not allow it; or what was
       waited for did not come out well
   64  the command line is wrong
   66  no such environment, exposure, stack, release or variable
   69  the relay cannot be reached, or takes nothing at the moment
   70  the relay failed, or this program did
   73  the local socket or port cannot be opened
   76  what answered is not a relay this program understands
   77  the API token was refused, or does not reach that far
   78  the relay's address, API token or CA certificate are missing or unreadable
  127  the local docker command is not installed
  `docker ENV -- ARGS` ends with the docker command's own code, or 128 + N where
  signal N ended it.";

/// One failed command: what happened, what to do about it, and the exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    exit: Exit,
    message: String,
    advice: Option<String>,
    code: Option<String>,
    request_id: Option<String>,
    /// Each of several mistakes. Boxed: a failure is handed on by value.
    details: Box<[String]>,
}

impl Failure {
    /// A failure with its message: lower case, no full stop, naming the value.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            advice: None,
            code: None,
            request_id: None,
            details: Box::default(),
        }
    }

    /// Says what a person can do; an empty text says nothing, and the first advice stays.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        let advice = advice.into();
        if self.advice.is_none() && !advice.is_empty() {
            self.advice = Some(advice);
        }
        self
    }

    /// Says what a person can do, where the relay answered with the error `code`.
    #[must_use]
    pub fn advise_on(self, code: &str, advice: impl Into<String>) -> Self {
        if self.code.as_deref() == Some(code) {
            self.advise(advice)
        } else {
            self
        }
    }

    /// Keeps the relay's stable error code and the id under which its log has the request.
    #[must_use]
    pub fn answered(mut self, code: Option<String>, request_id: Option<String>) -> Self {
        self.code = code;
        self.request_id = request_id;
        self
    }

    /// Keeps each of several mistakes: a line of its own.
    #[must_use]
    pub fn detailed(mut self, details: Vec<String>) -> Self {
        self.details = details.into();
        self
    }

    /// The kind of failure.
    pub const fn exit(&self) -> Exit {
        self.exit
    }

    /// Message and advice in one line without colour, for a log or another program's error.
    pub fn in_a_line(&self) -> String {
        match &self.advice {
            Some(advice) => format!("{}: {advice}", self.message),
            None => self.message.clone(),
        }
    }

    /// Prints the failure on standard error, as text or as one line of JSON.
    pub fn report(&self, format: output::Format) -> ExitCode {
        let text = match format {
            output::Format::Text => self.to_string(),
            output::Format::Json => self.to_json().to_string(),
        };
        output::note(&text);
        ExitCode::from(self.exit as u8)
    }

    fn to_json(&self) -> serde_json::Value {
        json!({ "error": {
            "exit_code": self.exit as u8,
            "message": self.message,
            "advice": self.advice,
            "code": self.code,
            "request_id": self.request_id,
            "errors": self.details,
        }})
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}error:{} {}",
            output::RED_BOLD,
            output::PLAIN,
            self.message
        )?;
        match (&self.code, &self.request_id) {
            (Some(code), Some(id)) => write!(f, " ({code}, {id})")?,
            (Some(only), None) | (None, Some(only)) => write!(f, " ({only})")?,
            (None, None) => {}
        }
        for detail in &self.details {
            write!(f, "\n  {detail}")?;
        }
        match &self.advice {
            Some(advice) => write!(f, "\n  {advice}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_prints_what_happened_and_then_what_to_do() {
        let failure = Failure::new(Exit::NotFound, "there is no environment `berlin`")
            .answered(Some("environment_unknown".into()), Some("req_a".into()))
            .advise("list them with `sternline-relay env list`");

        let printed = output::without_colour(&failure.to_string());

        assert_eq!(
            printed,
            "error: there is no environment `berlin` (environment_unknown, req_a)\n  \
             list them with `sternline-relay env list`"
        );
    }

    #[test]
    fn the_first_advice_stays_and_advice_for_another_code_is_not_taken() {
        let failure = Failure::new(Exit::Refused, "refused")
            .answered(Some("environment_exists".into()), None)
            .advise_on("environment_unknown", "never")
            .advise("first")
            .advise("second");

        assert_eq!(failure.to_json()["error"]["advice"], "first");
    }

    #[test]
    fn every_exit_code_is_in_the_help() {
        let all = [
            Exit::Declined,
            Exit::Usage,
            Exit::NotFound,
            Exit::Unavailable,
            Exit::Internal,
            Exit::CannotListen,
            Exit::Protocol,
            Exit::Refused,
            Exit::Config,
            Exit::NotRunnable,
        ];

        for exit in all {
            let line = format!("\n{:>5}  ", exit as u8);
            assert!(EXIT_CODES_HELP.contains(&line), "{exit:?} is missing");
        }
    }
}
