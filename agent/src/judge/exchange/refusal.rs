//! What a client reads where its request is refused: the Engine's own form of an error, so
//! that every tool prints it.

use super::{
    Body, DISCARD_BYTES_MAX, Denied, Exchange, Framing, Law, Malformed, Requests, Rule, Verdict,
    head, recorded_path,
};

impl Exchange {
    /// Refuses a request whose head is read. `is_open`: its body has not been read.
    pub(super) fn refuse(
        &mut self,
        request: &head::Request,
        denied: Denied,
        law: &Law,
        is_open: bool,
    ) {
        let body = match is_open {
            true => Body::of(request.framing),
            false => Body::Done,
        };
        let is_bounded = match request.framing {
            Framing::Length(length) => length <= DISCARD_BYTES_MAX && !request.expects_continue,
            Framing::Chunked | Framing::UntilClose => false,
        };
        let goes_on = body.is_done() || is_bounded;
        self.answer(&denied, law, goes_on, request.method == "HEAD");
        self.requests = match goes_on {
            false => Requests::Ending(DISCARD_BYTES_MAX),
            true if body.is_done() => Requests::Head,
            true => Requests::Discarding(body),
        };
        self.verdicts.push_back(Verdict {
            method: request.method.clone(),
            path: recorded_path(&request.target),
            denied: Some(denied),
        });
    }

    /// Refuses what is no request. What follows it is none either.
    pub(super) fn refuse_malformed(&mut self, why: &Malformed, law: &dyn Fn() -> Law) {
        let denied = Denied::new(Rule::Request, why.to_string());
        self.answer(&denied, &law(), false, false);
        self.requests = Requests::Ending(DISCARD_BYTES_MAX);
        self.verdicts.push_back(Verdict {
            method: String::new(),
            path: String::new(),
            denied: Some(denied),
        });
    }

    fn answer(&mut self, denied: &Denied, law: &Law, goes_on: bool, is_head: bool) {
        let status = match denied.rule {
            Rule::Request => "400 Bad Request",
            _ => "403 Forbidden",
        };
        let message = format!("refused by {}: {denied}", law.place);
        let body = format!("{}\n", serde_json::json!({ "message": message }));
        let connection = if goes_on { "" } else { "Connection: close\r\n" };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{connection}\r\n",
            body.len()
        );
        self.to_client.extend(head.bytes());
        if !is_head {
            self.to_client.extend(body.bytes());
        }
    }
}
