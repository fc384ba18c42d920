//! Statements on agents and the tokens that enrol them.

use jiff::Timestamp;
use sqlx::{FromRow, SqliteConnection};
use wire::{
    id::{AgentId, InstanceId},
    key::PublicKey,
};

use super::{damaged, error, integer, number, parsed, starts::Start, time, wrote};
use crate::{
    credential::SecretHash,
    store::{AgentRecord, EnrolmentToken, NewAgent, RedeemError, StoreError},
};

#[derive(FromRow)]
struct Row {
    id: String,
    environment_id: String,
    environment: String,
    public_key: Vec<u8>,
    start_counter: i64,
    instance: Option<Vec<u8>>,
    copied_since: Option<i64>,
}

impl Row {
    fn into_record(self) -> Result<AgentRecord, StoreError> {
        let instance = self.instance.map(|bytes| {
            InstanceId::from_slice(&bytes).ok_or_else(|| damaged("an instance id", &self.id))
        });
        Ok(AgentRecord {
            agent_id: parsed("an agent id", &self.id)?,
            environment_id: parsed("an environment id", &self.environment_id)?,
            environment: self.environment,
            public_key: PublicKey::from_slice(&self.public_key)
                .ok_or_else(|| damaged("a public key", &self.id))?,
            start_counter: number(self.start_counter)?,
            instance: instance.transpose()?,
            copied_since: self.copied_since.map(time).transpose()?,
        })
    }
}

pub(super) async fn by_id(
    connection: &mut SqliteConnection,
    agent_id: AgentId,
) -> Result<Option<AgentRecord>, StoreError> {
    let row: Option<Row> = sqlx::query_as(
        "SELECT a.id, a.environment AS environment_id, e.name AS environment, a.public_key, \
                a.start_counter, a.instance, a.copied_since \
         FROM agent a JOIN environment e ON e.id = a.environment WHERE a.id = ?",
    )
    .bind(agent_id.to_string())
    .fetch_optional(connection)
    .await
    .map_err(error::from_sqlx)?;
    row.map(Row::into_record).transpose()
}

pub(super) async fn create_token(
    connection: &mut SqliteConnection,
    token: &EnrolmentToken,
) -> Result<bool, StoreError> {
    let environment = token.environment.to_string();
    sqlx::query("DELETE FROM enrolment_token WHERE environment = ? AND used_at IS NULL")
        .bind(&environment)
        .execute(&mut *connection)
        .await
        .map_err(error::from_sqlx)?;
    let inserted = sqlx::query(
        "INSERT INTO enrolment_token (hash, environment, created_at, expires_at) \
         VALUES (?, ?, ?, ?)",
    )
    .bind(token.hash.as_bytes().as_slice())
    .bind(&environment)
    .bind(token.created_at.as_millisecond())
    .bind(token.expires_at.as_millisecond())
    .execute(connection)
    .await;
    match inserted {
        Ok(_) => Ok(true),
        Err(e) if error::is_foreign_key_violation(&e) => Ok(false),
        Err(e) => Err(error::from_sqlx(e)),
    }
}

#[derive(FromRow)]
struct TokenRow {
    environment: String,
    expires_at: i64,
    used_at: Option<i64>,
    agent: Option<String>,
}

pub(super) async fn redeem(
    connection: &mut SqliteConnection,
    hash: &SecretHash,
    agent: NewAgent,
    now: Timestamp,
) -> Result<AgentRecord, RedeemError> {
    let token: TokenRow = sqlx::query_as(
        "SELECT environment, expires_at, used_at, agent FROM enrolment_token WHERE hash = ?",
    )
    .bind(hash.as_bytes().as_slice())
    .fetch_optional(&mut *connection)
    .await
    .map_err(error::from_sqlx)?
    .ok_or(RedeemError::Unknown)?;
    if token.used_at.is_some() {
        return redeemed_before(connection, &token, &agent).await;
    }
    if now >= time(token.expires_at)? {
        return Err(RedeemError::Expired);
    }
    replace_agent(connection, &token.environment, &agent, now).await?;
    sqlx::query("UPDATE enrolment_token SET used_at = ?, agent = ? WHERE hash = ?")
        .bind(now.as_millisecond())
        .bind(agent.agent_id.to_string())
        .bind(hash.as_bytes().as_slice())
        .execute(&mut *connection)
        .await
        .map_err(error::from_sqlx)?;
    let record = by_id(connection, agent.agent_id).await?;
    record.ok_or_else(|| damaged("an enrolled agent", agent.agent_id).into())
}

/// A used token is good once more for the key that used it, and for nobody else.
async fn redeemed_before(
    connection: &mut SqliteConnection,
    token: &TokenRow,
    agent: &NewAgent,
) -> Result<AgentRecord, RedeemError> {
    let user = token.agent.as_deref().ok_or(RedeemError::Used)?;
    let record = by_id(connection, parsed("an agent id", user)?).await?;
    record
        .filter(|record| record.public_key == agent.public_key)
        .ok_or(RedeemError::Used)
}

async fn replace_agent(
    connection: &mut SqliteConnection,
    environment: &str,
    agent: &NewAgent,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM agent WHERE environment = ?")
        .bind(environment)
        .execute(&mut *connection)
        .await
        .map_err(error::from_sqlx)?;
    sqlx::query(
        "INSERT INTO agent (id, environment, public_key, enrolled_at, start_counter, instance) \
         VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(agent.agent_id.to_string())
    .bind(environment)
    .bind(agent.public_key.0.as_slice())
    .bind(now.as_millisecond())
    .bind(integer(agent.start_counter))
    .bind(agent.instance.as_bytes().as_slice())
    .execute(connection)
    .await
    .map(|_| ())
    .map_err(error::from_sqlx)
}

pub(super) async fn record_start(
    connection: &mut SqliteConnection,
    start: &Start,
) -> Result<bool, StoreError> {
    let query = sqlx::query(
        "UPDATE agent SET start_counter = ?1, instance = ?2 \
         WHERE id = ?3 AND copied_since IS NULL AND (instance IS NULL OR start_counter < ?1)",
    )
    .bind(integer(start.start_counter))
    .bind(start.instance.as_bytes().as_slice())
    .bind(start.agent_id.to_string());
    wrote(connection, query).await
}

pub(super) async fn hold_copied(
    connection: &mut SqliteConnection,
    agent_id: AgentId,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE agent SET copied_since = ? WHERE id = ? AND copied_since IS NULL")
        .bind(now.as_millisecond())
        .bind(agent_id.to_string())
        .execute(connection)
        .await
        .map(|_| ())
        .map_err(error::from_sqlx)
}

pub(super) async fn release(
    connection: &mut SqliteConnection,
    agent_id: AgentId,
) -> Result<bool, StoreError> {
    let query = sqlx::query(
        "UPDATE agent SET copied_since = NULL, instance = NULL, start_counter = 0 WHERE id = ?",
    )
    .bind(agent_id.to_string());
    wrote(connection, query).await
}
