//! Bodies and queries of requests, refused in the form of all errors.

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Query, Request},
    http::request::Parts,
};
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::problem::Problem;
use crate::limits::{BODY_BYTES_MAX, BODY_DISCARDED_BYTES_MAX, STACK_BODY_BYTES_MAX};

/// A JSON body of bounded size; fields that are not known are refused by its type.
#[derive(Debug)]
pub(super) struct JsonBody<T>(pub(super) T);

impl<S, T> FromRequest<S> for JsonBody<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        json(request, BODY_BYTES_MAX).await.map(Self)
    }
}

/// A JSON body about stacks, which may be larger; what is in it may be secret, so that an
/// error does not quote it.
pub(super) struct LargeJsonBody<T>(pub(super) T);

impl<S, T> FromRequest<S> for LargeJsonBody<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let bytes = Zeroizing::new(whole(request.into_body(), STACK_BODY_BYTES_MAX).await?);
        serde_json::from_slice(&bytes).map(Self).map_err(|e| {
            let (line, column) = (e.line(), e.column());
            let what = match e.classify() {
                serde_json::error::Category::Data => "has a field that is not what it must be",
                _ => "is no JSON",
            };
            Problem::invalid(format!("the body {what}, at line {line}, column {column}"))
        })
    }
}

async fn json<T: DeserializeOwned>(request: Request, bytes_max: usize) -> Result<T, Problem> {
    let bytes = whole(request.into_body(), bytes_max).await?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Problem::invalid(format!("the body is not what it must be: {e}")))
}

/// All of a body, at most `bytes_max`.
///
/// Of a longer one some more is read, and dropped: a client that is still sending when
/// the connection is closed sees that, and not the answer.
pub(super) async fn whole(mut body: Body, bytes_max: usize) -> Result<Vec<u8>, Problem> {
    let (mut bytes, mut length) = (Vec::new(), 0);
    while length <= bytes_max.max(BODY_DISCARDED_BYTES_MAX)
        && let Some(frame) = body.frame().await
    {
        let frame = frame.map_err(|_| Problem::invalid("the body could not be read to its end"))?;
        let data = frame.into_data().unwrap_or_default();
        length += data.len();
        if length <= bytes_max {
            bytes.extend_from_slice(&data);
        }
    }
    if length > bytes_max {
        return Err(Problem::too_large(bytes_max));
    }
    Ok(bytes)
}

/// The query of a request.
#[derive(Debug)]
pub(super) struct Filter<T>(pub(super) T);

impl<S, T> FromRequestParts<S> for Filter<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        Query::try_from_uri(&parts.uri)
            .map(|Query(query)| Self(query))
            .map_err(|e| Problem::invalid(format!("the query is not what it must be: {e}")))
    }
}
