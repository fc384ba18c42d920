//! Statements on variables and logins at registries.

use sqlx::{FromRow, SqliteConnection};

use super::{error, parsed, time, wrote};
use crate::{
    id::CustomerId,
    store::{RegistryLoginRecord, StoreError, VariableRecord, VariableScope},
};

#[derive(FromRow)]
struct Row {
    environment: Option<String>,
    stack: Option<String>,
    name: String,
    kind: String,
    is_secret: bool,
    is_required: bool,
    sealed: Option<Vec<u8>>,
    updated_at: i64,
}

impl Row {
    fn into_record(self, customer: &CustomerId) -> Result<VariableRecord, StoreError> {
        let scope = match (self.environment, self.stack) {
            (Some(id), _) => VariableScope::Environment(parsed("an environment id", &id)?),
            (None, Some(stack)) => VariableScope::Stack(stack),
            (None, None) => VariableScope::Global,
        };
        Ok(VariableRecord {
            customer: customer.clone(),
            scope,
            name: self.name,
            kind: self.kind,
            is_secret: self.is_secret,
            is_required: self.is_required,
            sealed: self.sealed,
            updated_at: time(self.updated_at)?,
        })
    }
}

/// The two columns that say where a variable counts.
fn columns(scope: &VariableScope) -> (Option<String>, Option<&str>) {
    match scope {
        VariableScope::Global => (None, None),
        VariableScope::Environment(id) => (Some(id.to_string()), None),
        VariableScope::Stack(stack) => (None, Some(stack)),
    }
}

pub(super) async fn put(
    connection: &mut SqliteConnection,
    variable: &VariableRecord,
) -> Result<bool, StoreError> {
    remove(
        connection,
        &variable.customer,
        &variable.scope,
        &variable.name,
    )
    .await?;
    let (environment, stack) = columns(&variable.scope);
    let inserted = sqlx::query(
        "INSERT INTO variable (customer, environment, stack, name, kind, is_secret, \
         is_required, sealed, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(variable.customer.as_str())
    .bind(environment)
    .bind(stack)
    .bind(&variable.name)
    .bind(&variable.kind)
    .bind(variable.is_secret)
    .bind(variable.is_required)
    .bind(&variable.sealed)
    .bind(variable.updated_at.as_millisecond())
    .execute(connection)
    .await;
    match inserted {
        Ok(_) => Ok(true),
        Err(e) if error::is_foreign_key_violation(&e) => Ok(false),
        Err(e) => Err(error::from_sqlx(e)),
    }
}

pub(super) async fn list(
    connection: &mut SqliteConnection,
    customer: &CustomerId,
) -> Result<Vec<VariableRecord>, StoreError> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT environment, stack, name, kind, is_secret, is_required, sealed, updated_at \
         FROM variable WHERE customer = ? \
         ORDER BY name, stack IS NOT NULL, environment IS NOT NULL, environment, stack",
    )
    .bind(customer.as_str())
    .fetch_all(connection)
    .await
    .map_err(error::from_sqlx)?;
    let read = |row: Row| row.into_record(customer);
    rows.into_iter().map(read).collect()
}

pub(super) async fn remove(
    connection: &mut SqliteConnection,
    customer: &CustomerId,
    scope: &VariableScope,
    name: &str,
) -> Result<bool, StoreError> {
    let (environment, stack) = columns(scope);
    let query = sqlx::query(
        "DELETE FROM variable \
         WHERE customer = ? AND environment IS ? AND stack IS ? AND name = ?",
    )
    .bind(customer.as_str())
    .bind(environment)
    .bind(stack)
    .bind(name);
    wrote(connection, query).await
}

pub(super) async fn put_login(
    connection: &mut SqliteConnection,
    login: &RegistryLoginRecord,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT OR REPLACE INTO registry_login (customer, host, account, sealed, updated_at) \
         VALUES (?, ?, ?, ?, ?)",
    )
    .bind(login.customer.as_str())
    .bind(&login.host)
    .bind(&login.account)
    .bind(&login.sealed)
    .bind(login.updated_at.as_millisecond())
    .execute(connection)
    .await
    .map_err(error::from_sqlx)?;
    Ok(())
}

pub(super) async fn logins(
    connection: &mut SqliteConnection,
    customer: &CustomerId,
) -> Result<Vec<RegistryLoginRecord>, StoreError> {
    let rows: Vec<(String, String, Vec<u8>, i64)> = sqlx::query_as(
        "SELECT host, account, sealed, updated_at FROM registry_login \
         WHERE customer = ? ORDER BY host",
    )
    .bind(customer.as_str())
    .fetch_all(connection)
    .await
    .map_err(error::from_sqlx)?;
    let read = |(host, account, sealed, updated_at)| {
        Ok(RegistryLoginRecord {
            customer: customer.clone(),
            host,
            account,
            sealed,
            updated_at: time(updated_at)?,
        })
    };
    rows.into_iter().map(read).collect()
}

pub(super) async fn remove_login(
    connection: &mut SqliteConnection,
    customer: &CustomerId,
    host: &str,
) -> Result<bool, StoreError> {
    let query = sqlx::query("DELETE FROM registry_login WHERE customer = ? AND host = ?")
        .bind(customer.as_str())
        .bind(host);
    wrote(connection, query).await
}
