//! What is not one short question and its answer: files, answers that go on, requests that may
//! be asked twice.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tokio::time::timeout;

use super::{Client, Problem};
use crate::cli::failure::{Exit, Failure};

/// From the request to the answer of a file's upload, and of what an agent is asked for.
const LONG_TIMEOUT: Duration = Duration::from_secs(300);
/// A stream of lines has no end of its own.
const NO_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Longest line of a stream.
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// An answer that goes on, line by line.
#[derive(Debug)]
pub struct Lines {
    response: reqwest::Response,
    buffer: Vec<u8>,
    relay: String,
    /// How long nothing may come.
    patience: Option<Duration>,
}

impl Client {
    /// Writes what `path` names.
    ///
    /// # Errors
    ///
    /// The relay cannot be reached, or answers with an error.
    pub async fn put(&self, path: &[&str], body: Value) -> Result<Value, Failure> {
        self.request(Method::PUT, self.url(path, &[]), Some(body))
            .await
    }

    /// Removes what `path` and `query` name.
    ///
    /// # Errors
    ///
    /// As [`Self::put`].
    pub async fn delete_where(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<Value, Failure> {
        self.request(Method::DELETE, self.url(path, query), None)
            .await
    }

    /// Asks for something to be done once, under a key: where the connection breaks before the
    /// answer is there, it is asked again, and done once all the same.
    ///
    /// # Errors
    ///
    /// As [`Self::put`].
    pub async fn post_once(
        &self,
        path: &[&str],
        body: &Value,
        key: &str,
    ) -> Result<Value, Failure> {
        let mut is_first = true;
        loop {
            let request = self
                .http
                .post(self.url(path, &[]))
                .timeout(LONG_TIMEOUT)
                .bearer_auth(self.api_token.as_str())
                .header("idempotency-key", key)
                .json(body);
            match request.send().await {
                Ok(response) => return self.answer(response).await,
                Err(error) if is_first && !error.is_timeout() => {
                    is_first = false;
                    tokio::time::sleep(super::TRY_AGAIN).await;
                }
                Err(error) => return Err(self.unreachable(&error)),
            }
        }
    }

    /// Sends a file.
    ///
    /// # Errors
    ///
    /// As [`Self::put`].
    pub async fn put_bytes(&self, path: &[&str], bytes: Vec<u8>) -> Result<(), Failure> {
        let request = self
            .http
            .put(self.url(path, &[]))
            .timeout(LONG_TIMEOUT)
            .bearer_auth(self.api_token.as_str())
            .header("content-type", "application/octet-stream")
            .body(bytes);
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
        self.answer(response).await.map(|_| ())
    }

    /// Asks for lines; with a patience, something comes within it each time.
    ///
    /// # Errors
    ///
    /// As [`Self::put`].
    pub async fn lines(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        patience: Option<Duration>,
    ) -> Result<Lines, Failure> {
        let request = self
            .http
            .get(self.url(path, query))
            .timeout(NO_TIMEOUT)
            .bearer_auth(self.api_token.as_str());
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
        if !response.status().is_success() {
            return Err(match self.answer(response).await {
                Err(failure) => failure,
                Ok(_) => Failure::new(Exit::Protocol, "the relay's answer is not understood"),
            });
        }
        Ok(Lines {
            response,
            buffer: Vec::new(),
            relay: self.shown().to_owned(),
            patience,
        })
    }

    async fn answer(&self, response: reqwest::Response) -> Result<Value, Failure> {
        let status = response.status();
        let bytes = self.read(response).await?;
        if status.is_success() {
            if bytes.is_empty() {
                return Ok(Value::Null);
            }
            return serde_json::from_slice(&bytes).map_err(|_| self.not_a_relay(status));
        }
        match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) if problem.code.is_some() => Err(self.refused(status, problem)),
            Ok(_) | Err(_) => Err(self.not_a_relay(status)),
        }
    }
}

impl Lines {
    /// The next line; `None` once the relay ends them.
    ///
    /// # Errors
    ///
    /// The connection broke, or what came is no line of JSON.
    pub async fn next(&mut self) -> Result<Option<Value>, Failure> {
        loop {
            if let Some(at) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=at).collect();
                return serde_json::from_slice(&line).map(Some).map_err(|_| {
                    Failure::new(Exit::Protocol, "a line of the relay's is not understood")
                });
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(Failure::new(
                    Exit::Protocol,
                    "a line of the relay's is too long",
                ));
            }
            let broke = || {
                let message = format!("the connection to {} broke", self.relay);
                Failure::new(Exit::Unavailable, message)
                    .advise("ask again: what was assigned goes on without this command")
            };
            let patience = self.patience.unwrap_or(NO_TIMEOUT);
            let chunk = timeout(patience, self.response.chunk()).await;
            match chunk.map_err(|_| broke())?.map_err(|_| broke())? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }
}
