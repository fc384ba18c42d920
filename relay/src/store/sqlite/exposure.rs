//! Statements on exposures.

use sqlx::{FromRow, SqliteConnection};

use super::{error, parsed, time, wrote};
use crate::{
    id::ExposureId,
    store::{AddExposureError, ExposureRecord, StoreError},
};

#[derive(FromRow)]
struct Row {
    id: String,
    environment_id: String,
    environment: String,
    target: String,
    listen: String,
    created_at: i64,
}

impl Row {
    fn into_record(self) -> Result<ExposureRecord, StoreError> {
        Ok(ExposureRecord {
            id: parsed("an exposure id", &self.id)?,
            environment_id: parsed("an environment id", &self.environment_id)?,
            environment: self.environment,
            target: parsed("a target", &self.target)?,
            listen: parsed("an address", &self.listen)?,
            created_at: time(self.created_at)?,
        })
    }
}

pub(super) async fn add(
    connection: &mut SqliteConnection,
    exposure: &ExposureRecord,
) -> Result<(), AddExposureError> {
    let inserted = sqlx::query(
        "INSERT INTO exposure (id, environment, target, listen, created_at) \
         VALUES (?, ?, ?, ?, ?)",
    )
    .bind(exposure.id.to_string())
    .bind(exposure.environment_id.to_string())
    .bind(exposure.target.to_string())
    .bind(exposure.listen.to_string())
    .bind(exposure.created_at.as_millisecond())
    .execute(connection)
    .await;
    match inserted {
        Ok(_) => Ok(()),
        Err(e) if error::is_foreign_key_violation(&e) => Err(AddExposureError::EnvironmentUnknown),
        Err(e) => Err(error::from_sqlx(e).into()),
    }
}

pub(super) async fn list(
    connection: &mut SqliteConnection,
) -> Result<Vec<ExposureRecord>, StoreError> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT x.id, x.environment AS environment_id, e.name AS environment, x.target, \
                x.listen, x.created_at \
         FROM exposure x JOIN environment e ON e.id = x.environment \
         ORDER BY x.created_at, x.id",
    )
    .fetch_all(connection)
    .await
    .map_err(error::from_sqlx)?;
    rows.into_iter().map(Row::into_record).collect()
}

pub(super) async fn remove(
    connection: &mut SqliteConnection,
    id: ExposureId,
) -> Result<bool, StoreError> {
    let query = sqlx::query("DELETE FROM exposure WHERE id = ?").bind(id.to_string());
    wrote(connection, query).await
}
