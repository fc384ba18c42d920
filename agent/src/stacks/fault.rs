//! What can go wrong with a stack, in words for a person: which service, what, and what to
//! do. The Engine's own words stand at the end, never alone.

use std::fmt;

use bollard::errors::Error;
use compose::exchange::Cause;

/// Something that was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Whether, and when, to try again.
    pub kind: Kind,
    /// For a person.
    pub cause: Cause,
}

/// What a fault means for what is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The Engine is not there: nothing can be decided until it is back.
    EngineAway,
    /// What is there is not what the plan was made from: look again, and plan again.
    Moved,
    /// May pass by itself: the network, a busy registry.
    Passing,
    /// Will not pass.
    Final,
}

impl Fault {
    /// One that will not pass.
    pub fn last(code: &str, line: impl Into<String>) -> Self {
        Self {
            kind: Kind::Final,
            cause: cause(code, line),
        }
    }

    /// The same fault, of this service.
    #[must_use]
    pub fn of_service(mut self, service: &str) -> Self {
        if self.cause.service.is_none() {
            self.cause.line = format!("{service}: {}", self.cause.line);
            self.cause.service = Some(service.to_owned());
        }
        self
    }

    /// The same fault, with what the check or the container said last.
    #[must_use]
    pub fn with_output(mut self, output: Vec<String>) -> Self {
        self.cause.output = output;
        self
    }

    /// What the Engine answered to an attempt to do `what`, such as `create container web-1`.
    pub fn of_engine(what: &str, error: &Error) -> Self {
        let words = words(error);
        let (kind, code, advice) = judge(error, &words);
        let line = match advice {
            "" => format!("cannot {what}: {words}"),
            advice => format!("cannot {what}: {advice} ({words})"),
        };
        Self {
            kind,
            cause: cause(code, line),
        }
    }

    /// What came of pulling `image`.
    pub fn of_pull(image: &str, error: &Error) -> Self {
        let words = words(error);
        if matches!(judge(error, &words).0, Kind::EngineAway) {
            return Self::of_engine(&format!("pull {image}"), error);
        }
        let lower = words.to_ascii_lowercase();
        let found = PULLS
            .iter()
            .find(|(signs, ..)| signs.iter().any(|sign| lower.contains(sign)));
        let unknown = (
            &[][..],
            Kind::Passing,
            "pull_failed",
            "the Engine could not pull it",
        );
        let (_, kind, code, advice) = *found.unwrap_or(&unknown);
        Self {
            kind,
            cause: cause(code, format!("cannot pull {image}: {advice} ({words})")),
        }
    }

    /// A file of the agent's that could not be read or written.
    pub fn of_disk(what: &str, error: &std::io::Error) -> Self {
        let (code, advice) = match error.kind() {
            std::io::ErrorKind::StorageFull => (
                "disk_full",
                "; the disk of the agent's state directory is full: make room",
            ),
            _ => ("internal", ""),
        };
        Self::last(code, format!("cannot {what}: {error}{advice}"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause.line)
    }
}

/// What is known of failed pulls: signs in the Engine's words, in lower case; whether it may
/// pass; its code; and what to do. The first that fits counts.
const PULLS: &[(&[&str], Kind, &str, &str)] = &[
    (
        &["no space left"],
        Kind::Final,
        "disk_full",
        "the disk of the Docker host is full; remove what is not needed, such as old images",
    ),
    (
        &[
            "unauthorized",
            "authentication required",
            "denied",
            "no basic auth",
        ],
        Kind::Final,
        "pull_failed",
        "the registry asks for a login, or refuses this one: give the relay one with \
         `sternline-relay registry login`",
    ),
    (
        &[
            "manifest unknown",
            "not found",
            "does not exist",
            "no matching manifest",
        ],
        Kind::Final,
        "pull_failed",
        "the registry has no such image for this host: check name, tag and platform",
    ),
    (
        &["invalid reference format"],
        Kind::Final,
        "pull_failed",
        "that is not the name of an image",
    ),
    (
        &[
            "no such host",
            "server misbehaving",
            "i/o timeout",
            "timeout",
            "refused",
            "reset",
            "unreachable",
            "eof",
            "toomanyrequests",
            "tls",
            "x509",
            "502",
            "503",
            "504",
        ],
        Kind::Passing,
        "pull_failed",
        "the registry is not reached from the Docker host: its firewall or proxy has to \
         allow that, or the image travels through the session",
    ),
];

/// A cause of no service in particular.
pub fn cause(code: &str, line: impl Into<String>) -> Cause {
    Cause {
        code: code.to_owned(),
        service: None,
        line: line.into(),
        output: Vec::new(),
    }
}

/// The Engine's own words, in one line.
fn words(error: &Error) -> String {
    let words = match error {
        Error::DockerResponseServerError { message, .. } => message.clone(),
        Error::DockerStreamError { error } | Error::DockerContainerWaitError { error, .. } => {
            error.clone()
        }
        other => other.to_string(),
    };
    let line: Vec<&str> = words.split_whitespace().collect();
    line.join(" ")
}

/// What follows from an error, its stable code, and what to do.
fn judge(error: &Error, words: &str) -> (Kind, &'static str, &'static str) {
    let Error::DockerResponseServerError { status_code, .. } = error else {
        return match error {
            Error::DockerStreamError { .. }
            | Error::JsonDataError { .. }
            | Error::DockerContainerWaitError { .. } => (Kind::Final, "engine", ""),
            _ => (
                Kind::EngineAway,
                "engine",
                "the Docker Engine does not answer; look at its service and its log",
            ),
        };
    };
    let has = |sign: &str| words.contains(sign);
    match status_code {
        404 if has("No such image") => (Kind::Moved, "engine", ""),
        404 | 409 => (Kind::Moved, "engine", ""),
        _ if has("port is already allocated") || has("address already in use") => (
            Kind::Final,
            "engine",
            "something else on this host has that port: free it, or publish another",
        ),
        _ if has("no space left on device") => (
            Kind::Final,
            "disk_full",
            "the disk of the Docker host is full; remove what is not needed",
        ),
        _ if has("Pool overlaps") || has("could not find an available") => (
            Kind::Final,
            "engine",
            "its addresses overlap those of another network: give it another subnet",
        ),
        _ if has("executable file not found") || has("no such file or directory") => (
            Kind::Final,
            "engine",
            "the image has no such program: check `command` and `entrypoint`",
        ),
        _ if has("could not select device driver") => (
            Kind::Final,
            "engine",
            "this host has no driver for the devices that are asked for",
        ),
        500 if has("is shutting down") || has("context canceled") => (
            Kind::EngineAway,
            "engine",
            "the Docker Engine is going away",
        ),
        _ => (Kind::Final, "engine", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status_code: u16, message: &str) -> Error {
        Error::DockerResponseServerError {
            status_code,
            message: message.to_owned(),
        }
    }

    #[test]
    fn an_error_of_the_engine_says_what_to_do_and_which_service() {
        let error = answer(
            500,
            "driver failed: Bind for 0.0.0.0:80 failed: port is already allocated",
        );

        let fault = Fault::of_engine("start container shop-web-1", &error).of_service("web");

        assert_eq!(fault.kind, Kind::Final);
        assert!(
            fault
                .cause
                .line
                .starts_with("web: cannot start container shop-web-1: something")
        );
        assert!(fault.cause.line.contains("port is already allocated"));
    }

    #[test]
    fn a_registry_that_is_away_is_asked_again_and_a_tag_that_is_not_there_is_not() {
        let away = answer(500, "Get https://r/v2/: dial tcp: lookup r: no such host");
        let missing = answer(404, "manifest for r/app:9 not found: manifest unknown");

        assert_eq!(Fault::of_pull("r/app:9", &away).kind, Kind::Passing);
        assert_eq!(Fault::of_pull("r/app:9", &missing).kind, Kind::Final);
    }

    #[test]
    fn an_engine_that_is_gone_is_waited_for() {
        let error = Error::RequestTimeoutError;

        assert_eq!(Fault::of_engine("look", &error).kind, Kind::EngineAway);
        assert_eq!(Fault::of_pull("r/app", &error).kind, Kind::EngineAway);
    }
}
