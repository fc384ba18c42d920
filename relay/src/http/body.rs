//! Bodies and queries of requests, refused in the form of all errors.

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Query, Request},
    http::request::Parts,
};
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;

use super::problem::Problem;
use crate::limits::{BODY_BYTES_MAX, BODY_DISCARDED_BYTES_MAX};

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
        let bytes = whole(request.into_body()).await?;
        serde_json::from_slice(&bytes)
            .map(Self)
            .map_err(|e| Problem::invalid(format!("the body is not what it must be: {e}")))
    }
}

/// All of a body, at most [`BODY_BYTES_MAX`].
///
/// Of a longer one some more is read, and dropped: a client that is still sending when
/// the connection is closed sees that, and not the answer.
async fn whole(mut body: Body) -> Result<Vec<u8>, Problem> {
    let (mut bytes, mut length) = (Vec::new(), 0);
    while length <= BODY_DISCARDED_BYTES_MAX
        && let Some(frame) = body.frame().await
    {
        let frame = frame.map_err(|_| Problem::invalid("the body could not be read to its end"))?;
        let data = frame.into_data().unwrap_or_default();
        length += data.len();
        if length <= BODY_BYTES_MAX {
            bytes.extend_from_slice(&data);
        }
    }
    if length > BODY_BYTES_MAX {
        return Err(Problem::too_large(BODY_BYTES_MAX));
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
