//! The probe for a person: a page with the exact command, the program, its checksum, and the
//! report of a run with a token.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use futures_util::StreamExt as _;
use tokio::time::sleep;
use tokio_util::io::ReaderStream;
use tracing::warn;

use super::{ApiState, auth::bearer, body::whole, page, problem::Problem};
use crate::{
    control::ProbeReportError,
    limits::{PROBE_DOWNLOAD_TIMEOUT, PROBE_REPORT_BYTES_MAX},
    metrics::{ProbeKind, ProbeOutcome},
    probe::{Offered, Probe, ProgramError},
    tunnel_path::RemoteAddr,
};

/// Read from the disk, and sent, at once.
const PIECE_BYTES: usize = 64 * 1024;

/// File name of the program, as the page tells to save it.
pub(super) const PROGRAM: &str = "sternline-probe";

/// Where each of these is.
pub(super) const PAGE_PATH: &str = "/probe";
pub(super) const PROGRAM_PATH: &str = "/probe/sternline-probe";
pub(super) const CHECKSUM_PATH: &str = "/probe/sternline-probe.sha256";

/// The page, the program, its checksum, and where reports go.
pub(super) fn routes() -> [(&'static str, MethodRouter<ApiState>); 4] {
    [
        (PAGE_PATH, get(show)),
        (PROGRAM_PATH, get(program)),
        (CHECKSUM_PATH, get(checksum)),
        (::probe::protocol::REPORT_PATH, post(report)),
    ]
}

/// Somebody who may ask the probe.
fn asker(state: &ApiState, request: &Request, kind: ProbeKind) -> Result<Arc<Probe>, Problem> {
    let probe = state.probe.clone().ok_or_else(nothing_here)?;
    let from = request.extensions().get::<RemoteAddr>();
    if from.is_some_and(|RemoteAddr(from)| !probe.may_ask(kind, *from)) {
        return Err(Problem::limited());
    }
    Ok(probe)
}

fn nothing_here() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "not_found",
        "there is nothing at this path",
    )
}

async fn show(State(state): State<ApiState>, request: Request) -> Result<Response, Problem> {
    let probe = asker(&state, &request, ProbeKind::Download)?;
    let offered = match probe.program().offered().await {
        Ok(offered) => Some(offered),
        Err(error) => {
            if !matches!(error, ProgramError::Missing) {
                warn!(%error, "the probe's program is not handed out");
            }
            None
        }
    };
    let facts = state.control.facts();
    let html = page::render(&page::Facts {
        host: &facts.address.host,
        https_port: facts.address.https_port,
        tunnel_port: facts.address.tunnel_port,
        identity: &facts.identity.to_string(),
        version: facts.version,
        offered: offered.as_ref(),
        is_certificate_own: probe.is_certificate_own(),
    });
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; \
                  base-uri 'none'; form-action 'none'";
    state
        .metrics
        .probe_asked(ProbeKind::Download, ProbeOutcome::Answered);
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    Ok((headers, html).into_response())
}

async fn program(State(state): State<ApiState>, request: Request) -> Result<Response, Problem> {
    let probe = asker(&state, &request, ProbeKind::Download)?;
    let refused = |error| refuse(&state, &error);
    let download = probe.program().download().await.map_err(refused)?;
    state
        .metrics
        .probe_asked(ProbeKind::Download, ProbeOutcome::Answered);
    let tag = tag(&download.offered);
    if request.headers().get(header::IF_NONE_MATCH) == Some(&tag) {
        return Ok(StatusCode::NOT_MODIFIED.into_response());
    }
    let mut headers = HeaderMap::new();
    headers.insert(header::ETAG, tag);
    headers.insert(header::CONTENT_LENGTH, download.offered.size.into());
    headers.extend([
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        ),
        (
            header::CONTENT_DISPOSITION,
            HeaderValue::from_static("attachment; filename=\"sternline-probe\""),
        ),
    ]);
    // Who takes longer gets less than was promised, and so knows that it is not whole.
    let pieces = ReaderStream::with_capacity(download, PIECE_BYTES);
    let pieces = pieces.take_until(sleep(PROBE_DOWNLOAD_TIMEOUT));
    Ok((headers, Body::from_stream(pieces)).into_response())
}

async fn checksum(State(state): State<ApiState>, request: Request) -> Result<Response, Problem> {
    let probe = asker(&state, &request, ProbeKind::Download)?;
    let refused = |error| refuse(&state, &error);
    let offered = probe.program().offered().await.map_err(refused)?;
    state
        .metrics
        .probe_asked(ProbeKind::Download, ProbeOutcome::Answered);
    let text = format!("{}  {PROGRAM}\n", offered.sha256);
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    Ok((headers, text).into_response())
}

fn tag(offered: &Offered) -> HeaderValue {
    let tag = HeaderValue::from_str(&format!("\"{}\"", offered.sha256));
    tag.unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

fn refuse(state: &ApiState, error: &ProgramError) -> Problem {
    let outcome = match error {
        ProgramError::Busy => ProbeOutcome::Limited,
        ProgramError::Missing | ProgramError::Unusable { .. } => ProbeOutcome::Refused,
    };
    state.metrics.probe_asked(ProbeKind::Download, outcome);
    match error {
        ProgramError::Busy => Problem::limited(),
        ProgramError::Missing => Problem::new(
            StatusCode::NOT_FOUND,
            "probe_program_missing",
            "the vendor has not put the program at this relay: /probe says how",
        ),
        ProgramError::Unusable { .. } => Problem::internal(error),
    }
}

/// Keeps what a run with a token found.
async fn report(State(state): State<ApiState>, request: Request) -> Result<StatusCode, Problem> {
    asker(&state, &request, ProbeKind::Report)?;
    let (parts, body) = request.into_parts();
    let outcome = match bearer(&parts) {
        Some(token) => {
            let body = Bytes::from(whole(body, PROBE_REPORT_BYTES_MAX).await?);
            let (control, token) = (
                state.control.clone(),
                zeroize::Zeroizing::new(token.to_owned()),
            );
            let keep = async move { Ok(control.keep_probe_report(&token, &body).await) };
            state.complete(keep).await?
        }
        None => Err(ProbeReportError::TokenUnknown),
    };
    let counted = match outcome {
        Ok(()) => ProbeOutcome::Answered,
        Err(_) => ProbeOutcome::Refused,
    };
    state.metrics.probe_asked(ProbeKind::Report, counted);
    let error = match outcome {
        Ok(()) => return Ok(StatusCode::NO_CONTENT),
        Err(error) => error,
    };
    let code = match error {
        ProbeReportError::Other(error) => return Err(error.into()),
        ProbeReportError::TokenUnknown => "token_unknown",
        ProbeReportError::TokenUsed => "token_used",
        ProbeReportError::TokenExpired => "token_expired",
    };
    state.slow_failures()?;
    Err(Problem::unauthorized(code, error.to_string()))
}
