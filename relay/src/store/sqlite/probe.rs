//! Statements on what the probe found.

use jiff::Timestamp;
use sqlx::SqliteConnection;
use wire::id::EnvironmentId;

use super::{error, time};
use crate::{
    credential::SecretHash,
    store::{ProbeReportRecord, RedeemError, StoreError},
};

pub(super) async fn keep(
    connection: &mut SqliteConnection,
    hash: &SecretHash,
    report: &ProbeReportRecord,
    now: Timestamp,
) -> Result<String, RedeemError> {
    let token: Option<(String, String, i64, Option<i64>)> = sqlx::query_as(
        "SELECT e.id, e.name, t.expires_at, t.used_at \
         FROM enrolment_token t JOIN environment e ON e.id = t.environment WHERE t.hash = ?",
    )
    .bind(hash.as_bytes().as_slice())
    .fetch_optional(&mut *connection)
    .await
    .map_err(error::from_sqlx)?;
    let (environment, name, expires_at, used_at) = token.ok_or(RedeemError::Unknown)?;
    if used_at.is_some() {
        return Err(RedeemError::Used);
    }
    if now >= time(expires_at)? {
        return Err(RedeemError::Expired);
    }
    sqlx::query(
        "INSERT INTO probe_report (environment, received_at, summary) VALUES (?, ?, ?) \
         ON CONFLICT (environment) DO UPDATE \
         SET received_at = excluded.received_at, summary = excluded.summary",
    )
    .bind(environment)
    .bind(report.received_at.as_millisecond())
    .bind(&report.summary)
    .execute(connection)
    .await
    .map_err(error::from_sqlx)?;
    Ok(name)
}

pub(super) async fn of(
    connection: &mut SqliteConnection,
    environment: EnvironmentId,
) -> Result<Option<ProbeReportRecord>, StoreError> {
    let row: Option<(i64, String)> =
        sqlx::query_as("SELECT received_at, summary FROM probe_report WHERE environment = ?")
            .bind(environment.to_string())
            .fetch_optional(connection)
            .await
            .map_err(error::from_sqlx)?;
    row.map(|(received_at, summary)| {
        Ok(ProbeReportRecord {
            received_at: time(received_at)?,
            summary,
        })
    })
    .transpose()
}
