//! Statements on blobs, releases and assignments.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::{FromRow, SqliteConnection};
use wire::id::EnvironmentId;

use super::{error, integer, number, parsed, time};
use crate::{
    id::CustomerId,
    store::{
        AssignError, AssignmentRecord, BlobRecord, DoneCommand, KeepError, NewAssignment,
        OutcomeRecord, ReleaseRecord, StoreError,
    },
};

#[derive(FromRow)]
struct BlobRow {
    digest: String,
    size: i64,
    sealed: Vec<u8>,
    created_at: i64,
}

#[derive(FromRow)]
struct ReleaseRow {
    stack: String,
    number: i64,
    digest: String,
    manifest: String,
    author: String,
    note: String,
    created_at: i64,
}

#[derive(FromRow)]
struct AssignmentRow {
    environment: String,
    stack: String,
    number: i64,
    release: Option<i64>,
    fingerprint: String,
    author: String,
    created_at: i64,
    deadline_seconds: i64,
    phase: Option<String>,
    cause: Option<String>,
    settled_at: Option<i64>,
}

const ASSIGNMENT: &str = "a.environment, a.stack, a.number, a.release, a.fingerprint, a.author, \
     a.created_at, a.deadline_seconds, a.phase, a.cause, a.settled_at";

const IS_NEWEST: &str = "a.number = (SELECT max(b.number) FROM assignment b \
     WHERE b.environment = a.environment AND b.stack = a.stack)";

impl AssignmentRow {
    fn into_record(self) -> Result<AssignmentRecord, StoreError> {
        let outcome = match (self.phase, self.settled_at) {
            (Some(phase), Some(at)) => Some(OutcomeRecord {
                phase,
                cause: self.cause,
                at: time(at)?,
            }),
            _ => None,
        };
        Ok(AssignmentRecord {
            environment: parsed("an environment id", &self.environment)?,
            stack: self.stack,
            number: number(self.number)?,
            release: self.release.map(number).transpose()?,
            fingerprint: self.fingerprint,
            author: self.author,
            created_at: time(self.created_at)?,
            deadline_seconds: u32::try_from(self.deadline_seconds).unwrap_or(u32::MAX),
            outcome,
        })
    }
}

pub(super) async fn missing_blobs(
    connection: &mut SqliteConnection,
    customer: &CustomerId,
    digests: &[String],
) -> Result<Vec<String>, StoreError> {
    let mut missing = Vec::new();
    for digest in digests {
        let there: Option<i64> =
            sqlx::query_scalar("SELECT 1 FROM blob WHERE customer = ? AND digest = ?")
                .bind(customer.as_str())
                .bind(digest)
                .fetch_optional(&mut *connection)
                .await
                .map_err(error::from_sqlx)?;
        if there.is_none() {
            missing.push(digest.clone());
        }
    }
    Ok(missing)
}

pub(super) async fn put_blob(
    connection: &mut SqliteConnection,
    blob: &BlobRecord,
    bytes_max: u64,
) -> Result<(), KeepError> {
    let kept: i64 = sqlx::query_scalar("SELECT ifnull(sum(size), 0) FROM blob WHERE customer = ?")
        .bind(blob.customer.as_str())
        .fetch_one(&mut *connection)
        .await
        .map_err(error::from_sqlx)?;
    let digests = std::slice::from_ref(&blob.digest);
    if missing_blobs(connection, &blob.customer, digests)
        .await?
        .is_empty()
    {
        return Ok(());
    }
    if number(kept)? + blob.size > bytes_max {
        return Err(KeepError::LimitReached);
    }
    sqlx::query(
        "INSERT INTO blob (customer, digest, size, sealed, created_at) VALUES (?, ?, ?, ?, ?)",
    )
    .bind(blob.customer.as_str())
    .bind(&blob.digest)
    .bind(integer(blob.size))
    .bind(&blob.sealed)
    .bind(blob.created_at.as_millisecond())
    .execute(connection)
    .await
    .map_err(error::from_sqlx)?;
    Ok(())
}

pub(super) async fn blob(
    connection: &mut SqliteConnection,
    customer: &CustomerId,
    digest: &str,
) -> Result<Option<BlobRecord>, StoreError> {
    let row: Option<BlobRow> = sqlx::query_as(
        "SELECT digest, size, sealed, created_at FROM blob WHERE customer = ? AND digest = ?",
    )
    .bind(customer.as_str())
    .bind(digest)
    .fetch_optional(connection)
    .await
    .map_err(error::from_sqlx)?;
    row.map(|row| {
        Ok(BlobRecord {
            customer: customer.clone(),
            digest: row.digest,
            size: number(row.size)?,
            sealed: row.sealed,
            created_at: time(row.created_at)?,
        })
    })
    .transpose()
}

pub(super) async fn add_release(
    connection: &mut SqliteConnection,
    new: &ReleaseRecord,
    limit: u64,
) -> Result<ReleaseRecord, KeepError> {
    let same: Option<i64> = sqlx::query_scalar(
        "SELECT number FROM release WHERE customer = ? AND stack = ? AND digest = ?",
    )
    .bind(new.customer.as_str())
    .bind(&new.stack)
    .bind(&new.digest)
    .fetch_optional(&mut *connection)
    .await
    .map_err(error::from_sqlx)?;
    if let Some(same) = same {
        let there = release(connection, &new.customer, &new.stack, number(same)?).await?;
        return Ok(there.unwrap_or_else(|| new.clone()));
    }
    let (count, last): (i64, i64) = sqlx::query_as(
        "SELECT count(*), ifnull(max(number), 0) FROM release WHERE customer = ? AND stack = ?",
    )
    .bind(new.customer.as_str())
    .bind(&new.stack)
    .fetch_one(&mut *connection)
    .await
    .map_err(error::from_sqlx)?;
    if number(count)? >= limit {
        return Err(KeepError::LimitReached);
    }
    let record = ReleaseRecord {
        number: number(last)? + 1,
        pins: BTreeMap::new(),
        ..new.clone()
    };
    sqlx::query(
        "INSERT INTO release \
         (customer, stack, number, digest, manifest, author, note, created_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(record.customer.as_str())
    .bind(&record.stack)
    .bind(integer(record.number))
    .bind(&record.digest)
    .bind(&record.manifest)
    .bind(&record.author)
    .bind(&record.note)
    .bind(record.created_at.as_millisecond())
    .execute(connection)
    .await
    .map_err(error::from_sqlx)?;
    Ok(record)
}

const RELEASE: &str = "SELECT stack, number, digest, manifest, author, note, created_at \
     FROM release WHERE customer = ? AND stack = ?";

pub(super) async fn releases(
    connection: &mut SqliteConnection,
    customer: &CustomerId,
    stack: &str,
    limit: u32,
) -> Result<Vec<ReleaseRecord>, StoreError> {
    let text = format!("{RELEASE} ORDER BY number DESC LIMIT ?");
    let rows: Vec<ReleaseRow> = sqlx::query_as(sqlx::AssertSqlSafe(text))
        .bind(customer.as_str())
        .bind(stack)
        .bind(limit)
        .fetch_all(&mut *connection)
        .await
        .map_err(error::from_sqlx)?;
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        all.push(with_pins(connection, customer, row).await?);
    }
    Ok(all)
}

pub(super) async fn release(
    connection: &mut SqliteConnection,
    customer: &CustomerId,
    stack: &str,
    wanted: u64,
) -> Result<Option<ReleaseRecord>, StoreError> {
    let text = format!("{RELEASE} AND number = ?");
    let row: Option<ReleaseRow> = sqlx::query_as(sqlx::AssertSqlSafe(text))
        .bind(customer.as_str())
        .bind(stack)
        .bind(integer(wanted))
        .fetch_optional(&mut *connection)
        .await
        .map_err(error::from_sqlx)?;
    match row {
        Some(row) => with_pins(connection, customer, row).await.map(Some),
        None => Ok(None),
    }
}

async fn with_pins(
    connection: &mut SqliteConnection,
    customer: &CustomerId,
    row: ReleaseRow,
) -> Result<ReleaseRecord, StoreError> {
    let pins: Vec<(String, String)> = sqlx::query_as(
        "SELECT image, digest FROM release_pin WHERE customer = ? AND stack = ? AND number = ?",
    )
    .bind(customer.as_str())
    .bind(&row.stack)
    .bind(row.number)
    .fetch_all(connection)
    .await
    .map_err(error::from_sqlx)?;
    Ok(ReleaseRecord {
        customer: customer.clone(),
        stack: row.stack,
        number: number(row.number)?,
        digest: row.digest,
        manifest: row.manifest,
        author: row.author,
        note: row.note,
        created_at: time(row.created_at)?,
        pins: pins.into_iter().collect(),
    })
}

pub(super) async fn learn_pins(
    connection: &mut SqliteConnection,
    customer: &CustomerId,
    (stack, release): (&str, u64),
    pins: &BTreeMap<String, String>,
) -> Result<(), StoreError> {
    for (image, digest) in pins {
        let learnt = sqlx::query(
            "INSERT OR IGNORE INTO release_pin (customer, stack, number, image, digest) \
             SELECT customer, stack, number, ?, ? FROM release \
             WHERE customer = ? AND stack = ? AND number = ?",
        )
        .bind(image)
        .bind(digest)
        .bind(customer.as_str())
        .bind(stack)
        .bind(integer(release));
        learnt
            .execute(&mut *connection)
            .await
            .map_err(error::from_sqlx)?;
    }
    Ok(())
}

pub(super) async fn assign(
    connection: &mut SqliteConnection,
    new: &NewAssignment,
) -> Result<AssignmentRecord, AssignError> {
    let former = sqlx::query(
        "UPDATE assignment SET sealed = NULL \
         WHERE environment = ? AND stack = ? AND sealed IS NOT NULL",
    )
    .bind(new.environment.to_string())
    .bind(&new.stack);
    former
        .execute(&mut *connection)
        .await
        .map_err(error::from_sqlx)?;
    let last: i64 = sqlx::query_scalar(
        "SELECT ifnull(max(number), 0) FROM assignment WHERE environment = ? AND stack = ?",
    )
    .bind(new.environment.to_string())
    .bind(&new.stack)
    .fetch_one(&mut *connection)
    .await
    .map_err(error::from_sqlx)?;
    let record = AssignmentRecord::of(new, number(last)?.max(new.above) + 1);
    let inserted = sqlx::query(
        "INSERT INTO assignment (environment, stack, number, release, fingerprint, sealed, \
         author, created_at, deadline_seconds) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(record.environment.to_string())
    .bind(&record.stack)
    .bind(integer(record.number))
    .bind(record.release.map(integer))
    .bind(&record.fingerprint)
    .bind(&new.sealed)
    .bind(&record.author)
    .bind(record.created_at.as_millisecond())
    .bind(record.deadline_seconds)
    .execute(connection)
    .await;
    match inserted {
        Ok(_) => Ok(record),
        Err(e) if error::is_foreign_key_violation(&e) => Err(AssignError::EnvironmentUnknown),
        Err(e) => Err(error::from_sqlx(e).into()),
    }
}

pub(super) async fn note_done(
    connection: &mut SqliteConnection,
    done: &DoneCommand,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT OR REPLACE INTO done_command (customer, key, fingerprint, answer, done_at) \
         VALUES (?, ?, ?, ?, ?)",
    )
    .bind(done.customer.as_str())
    .bind(&done.key)
    .bind(&done.fingerprint)
    .bind(&done.answer)
    .bind(done.done_at.as_millisecond())
    .execute(connection)
    .await
    .map_err(error::from_sqlx)?;
    Ok(())
}

pub(super) async fn done_command(
    connection: &mut SqliteConnection,
    customer: &CustomerId,
    key: &str,
    since: Timestamp,
) -> Result<Option<DoneCommand>, StoreError> {
    sqlx::query("DELETE FROM done_command WHERE done_at < ?")
        .bind(since.as_millisecond())
        .execute(&mut *connection)
        .await
        .map_err(error::from_sqlx)?;
    let row: Option<(String, String, i64)> = sqlx::query_as(
        "SELECT fingerprint, answer, done_at FROM done_command WHERE customer = ? AND key = ?",
    )
    .bind(customer.as_str())
    .bind(key)
    .fetch_optional(connection)
    .await
    .map_err(error::from_sqlx)?;
    row.map(|(fingerprint, answer, done_at)| {
        Ok(DoneCommand {
            customer: customer.clone(),
            key: key.to_owned(),
            fingerprint,
            answer,
            done_at: time(done_at)?,
        })
    })
    .transpose()
}

pub(super) async fn assignments(
    connection: &mut SqliteConnection,
    environment: EnvironmentId,
) -> Result<Vec<AssignmentRecord>, StoreError> {
    let text = format!(
        "SELECT {ASSIGNMENT} FROM assignment a WHERE a.environment = ? AND {IS_NEWEST} \
         ORDER BY a.stack"
    );
    let rows = sqlx::query_as(sqlx::AssertSqlSafe(text))
        .bind(environment.to_string())
        .fetch_all(connection);
    records(rows.await)
}

pub(super) async fn customer_assignments(
    connection: &mut SqliteConnection,
    customer: &CustomerId,
    stack: Option<&str>,
) -> Result<Vec<AssignmentRecord>, StoreError> {
    let text = format!(
        "SELECT {ASSIGNMENT} FROM assignment a JOIN environment e ON e.id = a.environment \
         WHERE e.customer = ? AND (? IS NULL OR a.stack = ?) AND {IS_NEWEST} \
         ORDER BY a.environment, a.stack"
    );
    let rows = sqlx::query_as(sqlx::AssertSqlSafe(text))
        .bind(customer.as_str())
        .bind(stack)
        .bind(stack)
        .fetch_all(connection);
    records(rows.await)
}

pub(super) async fn assignment_history(
    connection: &mut SqliteConnection,
    environment: EnvironmentId,
    stack: &str,
    limit: u32,
) -> Result<Vec<AssignmentRecord>, StoreError> {
    let text = format!(
        "SELECT {ASSIGNMENT} FROM assignment a WHERE a.environment = ? AND a.stack = ? \
         ORDER BY a.number DESC LIMIT ?"
    );
    let rows = sqlx::query_as(sqlx::AssertSqlSafe(text))
        .bind(environment.to_string())
        .bind(stack)
        .bind(limit)
        .fetch_all(connection);
    records(rows.await)
}

fn records(
    rows: Result<Vec<AssignmentRow>, sqlx::Error>,
) -> Result<Vec<AssignmentRecord>, StoreError> {
    let rows = rows.map_err(error::from_sqlx)?;
    rows.into_iter().map(AssignmentRow::into_record).collect()
}

pub(super) async fn assignment_content(
    connection: &mut SqliteConnection,
    environment: EnvironmentId,
    stack: &str,
    wanted: u64,
) -> Result<Option<Vec<u8>>, StoreError> {
    let content: Option<Option<Vec<u8>>> = sqlx::query_scalar(
        "SELECT sealed FROM assignment WHERE environment = ? AND stack = ? AND number = ?",
    )
    .bind(environment.to_string())
    .bind(stack)
    .bind(integer(wanted))
    .fetch_optional(connection)
    .await
    .map_err(error::from_sqlx)?;
    Ok(content.flatten())
}

pub(super) async fn settle(
    connection: &mut SqliteConnection,
    environment: EnvironmentId,
    (stack, of): (&str, u64),
    outcome: &OutcomeRecord,
) -> Result<bool, StoreError> {
    let query = sqlx::query(
        "UPDATE assignment SET phase = ?, cause = ?, settled_at = ? \
         WHERE environment = ? AND stack = ? AND number = ? \
         AND (phase IS NOT ? OR cause IS NOT ?)",
    )
    .bind(&outcome.phase)
    .bind(&outcome.cause)
    .bind(outcome.at.as_millisecond())
    .bind(environment.to_string())
    .bind(stack)
    .bind(integer(of))
    .bind(&outcome.phase)
    .bind(&outcome.cause);
    super::wrote(connection, query).await
}

pub(super) async fn assigned_environments(
    connection: &mut SqliteConnection,
) -> Result<Vec<EnvironmentId>, StoreError> {
    let rows: Vec<String> =
        sqlx::query_scalar("SELECT DISTINCT environment FROM assignment ORDER BY environment")
            .fetch_all(connection)
            .await
            .map_err(error::from_sqlx)?;
    let parse = |text: String| parsed("an environment id", &text);
    rows.into_iter().map(parse).collect()
}
