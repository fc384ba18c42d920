//! Statements on environments, their tags, and API tokens.

use std::collections::BTreeMap;

use sqlx::{FromRow, SqliteConnection};
use wire::id::EnvironmentId;

use super::{error, integer, number, parsed, time, wrote};
use crate::{
    credential::SecretHash,
    id::CustomerId,
    metrics::EnvironmentCounts,
    store::{
        ApiTokenRecord, CreateEnvironmentError, EnrolledAgent, EnvironmentRecord, NewApiToken,
        NewEnvironment, StoreError,
    },
};

#[derive(FromRow)]
struct Row {
    id: String,
    customer: String,
    name: String,
    created_at: i64,
    agent: Option<String>,
    enrolled_at: Option<i64>,
    copied_since: Option<i64>,
}

impl Row {
    fn into_record(self, tags: BTreeMap<String, String>) -> Result<EnvironmentRecord, StoreError> {
        let agent = match (self.agent, self.enrolled_at) {
            (Some(agent), Some(enrolled_at)) => Some(EnrolledAgent {
                agent_id: parsed("an agent id", &agent)?,
                enrolled_at: time(enrolled_at)?,
                copied_since: self.copied_since.map(time).transpose()?,
            }),
            _ => None,
        };
        Ok(EnvironmentRecord {
            id: parsed("an environment id", &self.id)?,
            customer: CustomerId::from_store(self.customer),
            name: self.name,
            tags,
            created_at: time(self.created_at)?,
            agent,
        })
    }
}

pub(super) async fn create(
    connection: &mut SqliteConnection,
    environment: &NewEnvironment,
    limit: u64,
) -> Result<(), CreateEnvironmentError> {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM environment")
        .fetch_one(&mut *connection)
        .await
        .map_err(error::from_sqlx)?;
    if count >= integer(limit) {
        return Err(CreateEnvironmentError::LimitReached);
    }
    let id = environment.id.to_string();
    sqlx::query("INSERT INTO environment (id, customer, name, created_at) VALUES (?, ?, ?, ?)")
        .bind(&id)
        .bind(environment.customer.as_str())
        .bind(&environment.name)
        .bind(environment.created_at.as_millisecond())
        .execute(&mut *connection)
        .await
        .map_err(|e| match error::is_unique_violation(&e) {
            true => CreateEnvironmentError::NameTaken,
            false => error::from_sqlx(e).into(),
        })?;
    for (key, value) in &environment.tags {
        sqlx::query("INSERT INTO environment_tag (environment, key, value) VALUES (?, ?, ?)")
            .bind(&id)
            .bind(key)
            .bind(value)
            .execute(&mut *connection)
            .await
            .map_err(error::from_sqlx)?;
    }
    Ok(())
}

/// One pass over two indexes: 100,000 environments take some milliseconds.
pub(super) async fn count(
    connection: &mut SqliteConnection,
) -> Result<EnvironmentCounts, StoreError> {
    let (all, agents, held): (i64, i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM environment), count(*), count(copied_since) FROM agent",
    )
    .fetch_one(connection)
    .await
    .map_err(error::from_sqlx)?;
    Ok(EnvironmentCounts {
        enrolled: number(agents - held)?,
        held: number(held)?,
        never_enrolled: number(all - agents)?,
    })
}

pub(super) async fn first(
    connection: &mut SqliteConnection,
    limit: u32,
) -> Result<Vec<EnvironmentRecord>, StoreError> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT e.id, e.customer, e.name, e.created_at, \
                a.id AS agent, a.enrolled_at, a.copied_since \
         FROM environment e LEFT JOIN agent a ON a.environment = e.id \
         ORDER BY e.name, e.id LIMIT ?",
    )
    .bind(limit)
    .fetch_all(connection)
    .await
    .map_err(error::from_sqlx)?;
    rows.into_iter()
        .map(|row| row.into_record(BTreeMap::new()))
        .collect()
}

pub(super) async fn list(
    connection: &mut SqliteConnection,
    customer: &CustomerId,
) -> Result<Vec<EnvironmentRecord>, StoreError> {
    // Two statements see one state only inside a transaction; a tag of an
    // environment added in between finds no row here and is left out.
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT e.id, e.customer, e.name, e.created_at, \
                a.id AS agent, a.enrolled_at, a.copied_since \
         FROM environment e LEFT JOIN agent a ON a.environment = e.id \
         WHERE e.customer = ? ORDER BY e.name",
    )
    .bind(customer.as_str())
    .fetch_all(&mut *connection)
    .await
    .map_err(error::from_sqlx)?;
    let pairs: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT t.environment, t.key, t.value FROM environment_tag t \
         JOIN environment e ON e.id = t.environment WHERE e.customer = ?",
    )
    .bind(customer.as_str())
    .fetch_all(&mut *connection)
    .await
    .map_err(error::from_sqlx)?;
    let mut tags: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for (environment, key, value) in pairs {
        tags.entry(environment).or_default().insert(key, value);
    }
    rows.into_iter()
        .map(|row| {
            let tags = tags.remove(&row.id).unwrap_or_default();
            row.into_record(tags)
        })
        .collect()
}

pub(super) async fn by_name(
    connection: &mut SqliteConnection,
    customer: &CustomerId,
    name: &str,
) -> Result<Option<EnvironmentRecord>, StoreError> {
    let row: Option<Row> = sqlx::query_as(
        "SELECT e.id, e.customer, e.name, e.created_at, \
                a.id AS agent, a.enrolled_at, a.copied_since \
         FROM environment e LEFT JOIN agent a ON a.environment = e.id \
         WHERE e.customer = ? AND e.name = ?",
    )
    .bind(customer.as_str())
    .bind(name)
    .fetch_optional(&mut *connection)
    .await
    .map_err(error::from_sqlx)?;
    with_tags(connection, row).await
}

pub(super) async fn by_id(
    connection: &mut SqliteConnection,
    id: EnvironmentId,
) -> Result<Option<EnvironmentRecord>, StoreError> {
    let row: Option<Row> = sqlx::query_as(
        "SELECT e.id, e.customer, e.name, e.created_at, \
                a.id AS agent, a.enrolled_at, a.copied_since \
         FROM environment e LEFT JOIN agent a ON a.environment = e.id \
         WHERE e.id = ?",
    )
    .bind(id.to_string())
    .fetch_optional(&mut *connection)
    .await
    .map_err(error::from_sqlx)?;
    with_tags(connection, row).await
}

async fn with_tags(
    connection: &mut SqliteConnection,
    row: Option<Row>,
) -> Result<Option<EnvironmentRecord>, StoreError> {
    let Some(row) = row else { return Ok(None) };
    let tags: Vec<(String, String)> =
        sqlx::query_as("SELECT key, value FROM environment_tag WHERE environment = ?")
            .bind(&row.id)
            .fetch_all(connection)
            .await
            .map_err(error::from_sqlx)?;
    row.into_record(tags.into_iter().collect()).map(Some)
}

pub(super) async fn remove(
    connection: &mut SqliteConnection,
    id: EnvironmentId,
) -> Result<bool, StoreError> {
    let query = sqlx::query("DELETE FROM environment WHERE id = ?").bind(id.to_string());
    wrote(connection, query).await
}

pub(super) async fn put_api_token(
    connection: &mut SqliteConnection,
    token: &NewApiToken,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM api_token WHERE name = ? AND hash <> ?")
        .bind(&token.name)
        .bind(token.hash.as_bytes().as_slice())
        .execute(&mut *connection)
        .await
        .map_err(error::from_sqlx)?;
    sqlx::query(
        "INSERT INTO api_token (hash, customer, name, created_at) VALUES (?, ?, ?, ?) \
         ON CONFLICT (hash) DO NOTHING",
    )
    .bind(token.hash.as_bytes().as_slice())
    .bind(token.customer.as_str())
    .bind(&token.name)
    .bind(token.created_at.as_millisecond())
    .execute(connection)
    .await
    .map(|_| ())
    .map_err(error::from_sqlx)
}

pub(super) async fn api_token(
    connection: &mut SqliteConnection,
    hash: &SecretHash,
) -> Result<Option<ApiTokenRecord>, StoreError> {
    let row: Option<(String, String)> =
        sqlx::query_as("SELECT customer, name FROM api_token WHERE hash = ?")
            .bind(hash.as_bytes().as_slice())
            .fetch_optional(connection)
            .await
            .map_err(error::from_sqlx)?;
    Ok(row.map(|(customer, name)| ApiTokenRecord {
        customer: CustomerId::from_store(customer),
        name,
    }))
}
