//! A report that is left at the relay, where the vendor's token was given.

use std::net::SocketAddr;

use thiserror::Error;

use super::{
    Plan, Run,
    attempt::{self, STAGE_WITHIN, Trying, What},
    channel,
    http::{self, Http},
    proxy_of,
};
use crate::{
    observe::{Flow, Stage},
    protocol::REPORT_PATH,
    verdict::Report,
};

/// The longest report that a relay takes.
const REPORT_BYTES_MAX: usize = 256 * 1024;

/// Why a report was not left.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotLeft {
    /// Nobody has proven to be the relay that the token names.
    #[error("no connection here was proven to be the relay that the token names")]
    NotProven,
    /// It is too long.
    #[error("it has more than {REPORT_BYTES_MAX} bytes")]
    TooLong,
    /// The relay did not take it.
    #[error("the relay answered {0}")]
    Answered(u16),
    /// It was not reached.
    #[error("{0}")]
    Failed(String),
}

/// Leaves a report at the relay. The token goes only over a way whose TLS the relay has proven,
/// by the key that the token names, to end itself.
///
/// # Errors
///
/// See [`NotLeft`].
pub async fn leave(plan: &Plan, report: &Report, token: &str) -> Result<(), NotLeft> {
    let body = serde_json::to_vec(report).map_err(|error| NotLeft::Failed(error.to_string()))?;
    if body.len() > REPORT_BYTES_MAX {
        return Err(NotLeft::TooLong);
    }
    let seen = &report.observations;
    let mut proven = seen.production(Flow::Https).filter(|one| {
        one.proof
            .as_ref()
            .is_some_and(|proof| proof.is_proven && proof.is_pinned == Some(true))
    });
    let works = proven.next().ok_or(NotLeft::NotProven)?;
    let key = leaf_key(works).ok_or(NotLeft::NotProven)?;
    let run = Run::of(plan);
    let to = works
        .address
        .map(|ip| SocketAddr::new(ip, plan.target.https_port));
    let proxy = proxy_of(plan, Flow::Https).filter(|_| works.is_through_proxy);
    let what: What = channel::to(Flow::Https, to, proxy);
    let mut trying = Trying::new(&run, &what);
    let unreached = || NotLeft::Failed("the relay was not reached again".to_owned());
    let io = attempt::connect(&mut trying, &what)
        .await
        .ok_or_else(unreached)?;
    let tls = attempt::secure(&mut trying, io, &what)
        .await
        .ok_or_else(unreached)?;
    // The very key whose connection the relay has proven: nobody came between since.
    if leaf_key(&trying.seen) != Some(key) {
        return Err(NotLeft::NotProven);
    }
    let host = http::authority(&run.target.host, run.target.https_port);
    let lines = vec![
        format!("POST {REPORT_PATH} HTTP/1.1"),
        format!("Host: {host}"),
        format!("User-Agent: {}", http::USER_AGENT),
        format!("Authorization: Bearer {token}"),
        "Content-Type: application/json".to_owned(),
        format!("Content-Length: {}", body.len()),
        "Connection: close".to_owned(),
    ];
    let mut http = Http::over(tls);
    let asking = async {
        http.send(&lines, &body).await?;
        http.answer().await
    };
    let answered = trying.stage((Stage::Http, STAGE_WITHIN), asking).await;
    let (answer, _) = answered.ok_or_else(unreached)?;
    match answer.status {
        200..300 => Ok(()),
        status => Err(NotLeft::Answered(status)),
    }
}

fn leaf_key(attempt: &crate::observe::Attempt) -> Option<&str> {
    let leaf = attempt.chain.as_ref()?.certificates.first()?;
    Some(&leaf.spki_sha256)
}
