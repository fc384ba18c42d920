//! The answer to a Docker request that never reached an engine, in the engine's own
//! form, so that the docker command prints what went wrong and what to do.

use serde_json::json;
use wire::close::ResetCode;

use super::human;

/// The HTTP answer, whole, for a request that begins with `request`.
pub fn answer(request: &[u8], status: u16, message: &str) -> Vec<u8> {
    let reason = match status {
        403 => "Forbidden",
        _ => "Service Unavailable",
    };
    let body = json!({ "message": message }).to_string();
    let mut answer = format!(
        "HTTP/1.1 {status} {reason}\r\n\
         Content-Type: application/json\r\n\
         Content-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    // The length of the body that a GET would get, and no body (RFC 9110 §9.3.2).
    if !request.starts_with(b"HEAD ") {
        answer.push_str(&body);
    }
    answer.into_bytes()
}

/// The status for a reset. Never 404: to the docker command that means a missing
/// image, which it would then pull.
pub const fn status_of(code: ResetCode) -> u16 {
    match code {
        ResetCode::PolicyDenied | ResetCode::TargetForbidden => 403,
        _ => 503,
    }
}

/// What to tell a person about a stream that was reset before its target answered.
pub fn message(environment: &str, code: ResetCode, reason: &str) -> String {
    let what = match code {
        ResetCode::EnvironmentOffline => format!("environment `{environment}` is offline"),
        ResetCode::EnvironmentUnknown => format!("there is no environment `{environment}`"),
        _ => {
            let reason = if reason.is_empty() {
                code.as_str()
            } else {
                reason
            };
            format!("environment `{environment}`: {}", human::printable(reason))
        }
    };
    match code.advice() {
        "" => what,
        advice => format!("{what}: {advice}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_gets_the_message_as_the_engine_would_send_it() {
        let answer = answer(b"GET /v1.41/info HTTP/1.1\r\n", 503, "offline");

        let text = String::from_utf8(answer).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
            "{head}"
        );
        assert!(
            head.contains(&format!("Content-Length: {}", body.len())),
            "{head}"
        );
        assert_eq!(body, r#"{"message":"offline"}"#);
    }

    #[test]
    fn a_head_request_gets_no_body() {
        let answer = answer(b"HEAD /_ping HTTP/1.1\r\n", 503, "offline");

        assert!(answer.ends_with(b"\r\n\r\n"));
    }

    #[test]
    fn a_message_says_what_happened_and_what_to_do() {
        let text = message("berlin", ResetCode::EnvironmentOffline, "no session");

        assert_eq!(
            text,
            "environment `berlin` is offline: look at `sternline-relay env show` and at \
             `sternline-agent status` on the host"
        );
    }

    #[test]
    fn the_reason_of_the_far_end_is_made_safe_to_print() {
        let text = message("berlin", ResetCode::Timeout, "late\x1b[2J");

        assert_eq!(text, "environment `berlin`: late\\u{1b}[2J");
    }
}
