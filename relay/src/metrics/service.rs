//! The API, the certificate, the store, exposures, and the process's own mistakes.

use std::time::Duration;

use prometheus::{HistogramVec, IntCounter, IntCounterVec, IntGauge, Result};

use super::{
    Metrics,
    declare::{Declare, begin},
};

/// Bounds of API requests: a look-up, a write that reaches the disk, trouble.
const REQUEST_SECONDS: [f64; 7] = [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0];

/// Bounds of the store: a cached look-up, a commit on flash, on a disk, a lock, trouble.
const STORE_SECONDS: [f64; 8] = [0.000_25, 0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0];

/// Why the store fails.
const STORE_CAUSES: [&str; 6] = ["busy", "corrupt", "failed", "forbidden", "full", "too_new"];

/// What became of a look at the certificate files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// They cannot be used; the former certificate stays.
    Failed,
    /// A different certificate is in use from then on.
    Reloaded,
}

/// Everything beside sessions and streams.
#[derive(Debug)]
pub(super) struct ServiceSeries {
    api_requests: HistogramVec,
    api_auth_failures: IntCounter,
    certificate_expiry: IntGauge,
    certificate_reloads: IntCounterVec,
    exposure_connections: IntCounter,
    exposure_connections_open: IntGauge,
    panics: IntCounter,
    store_operations: HistogramVec,
    store_failures: IntCounterVec,
}

impl ServiceSeries {
    pub(super) fn declare(declare: &Declare<'_>) -> Result<Self> {
        let series = Self {
            api_requests: declare.histograms(
                "api_request_duration_seconds",
                "Requests to the API, by method and status class of the answer.",
                &["method", "status"],
                &REQUEST_SECONDS,
            )?,
            api_auth_failures: declare.counter(
                "api_auth_failures_total",
                "Requests to the API without a valid token.",
            )?,
            certificate_expiry: declare.gauge(
                "certificate_expiry_timestamp_seconds",
                "When the certificate in use ends, in seconds since 1970.",
            )?,
            certificate_reloads: declare.counters(
                "certificate_reloads_total",
                "Changed certificate files, by outcome: `reloaded`, or `failed` with the \
                 former certificate kept.",
                &["outcome"],
            )?,
            exposure_connections: declare.counter(
                "exposure_connections_total",
                "Connections taken by exposures.",
            )?,
            exposure_connections_open: declare.gauge(
                "exposure_connections_open",
                "Connections through exposures at this moment.",
            )?,
            panics: declare.counter(
                "panics_total",
                "Panics of tasks: each is a bug of the relay; its log says where.",
            )?,
            store_operations: declare.histograms(
                "store_operation_duration_seconds",
                "Operations of the store, the wait for their turn included, by operation.",
                &["operation"],
                &STORE_SECONDS,
            )?,
            store_failures: declare.counters(
                "store_failures_total",
                "Operations of the store that failed, by cause.",
                &["cause"],
            )?,
        };
        begin(&series.certificate_reloads, ["failed", "reloaded"]);
        begin(&series.store_failures, STORE_CAUSES);
        Ok(series)
    }
}

impl Metrics {
    /// A request to the API was answered.
    pub fn api_request(&self, method: &str, status: u16, duration: Duration) {
        let method = match method {
            "GET" | "POST" | "DELETE" | "PUT" | "PATCH" | "HEAD" | "OPTIONS" => method,
            _ => "other",
        };
        let class = match status {
            100..=199 => "1xx",
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        self.service
            .api_requests
            .with_label_values(&[method, class])
            .observe(duration.as_secs_f64());
    }

    /// A request to the API had no valid token.
    pub fn api_auth_failed(&self) {
        self.service.api_auth_failures.inc();
    }

    /// The certificate in use ends at this second.
    pub fn certificate_expires(&self, unix_seconds: i64) {
        self.service.certificate_expiry.set(unix_seconds);
    }

    /// Changed certificate files were looked at.
    pub fn certificate_reloaded(&self, outcome: ReloadOutcome) {
        let outcome = match outcome {
            ReloadOutcome::Failed => "failed",
            ReloadOutcome::Reloaded => "reloaded",
        };
        self.service
            .certificate_reloads
            .with_label_values(&[outcome])
            .inc();
    }

    /// An exposure took a connection; it counts until the guard is dropped.
    pub fn exposure_connected(&self) -> ExposureGuard {
        self.service.exposure_connections.inc();
        self.service.exposure_connections_open.inc();
        ExposureGuard {
            open: self.service.exposure_connections_open.clone(),
        }
    }

    /// A task panicked.
    pub fn panicked(&self) {
        self.service.panics.inc();
    }

    /// The store has done this, or failed at it.
    pub fn store_operation(&self, operation: &'static str, duration: Duration) {
        self.service
            .store_operations
            .with_label_values(&[operation])
            .observe(duration.as_secs_f64());
    }

    /// The store failed.
    pub fn store_failed(&self, cause: &'static str) {
        debug_assert!(
            STORE_CAUSES.contains(&cause),
            "a cause without a series: {cause}"
        );
        self.service
            .store_failures
            .with_label_values(&[cause])
            .inc();
    }
}

/// Counts a connection through an exposure for as long as it lives.
#[derive(Debug)]
pub struct ExposureGuard {
    open: IntGauge,
}

impl Drop for ExposureGuard {
    fn drop(&mut self) {
        self.open.dec();
    }
}
