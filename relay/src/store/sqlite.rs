//! The store in one SQLite file.
//!
//! One connection writes, a few read (WAL lets them): a writer never waits for
//! another writer of the same process, and `BEGIN IMMEDIATE` never fails half-way
//! for the lock. Every commit reaches the disk (`synchronous = FULL`): a redeemed
//! token must not come back by a power cut.

mod agent;
mod environment;
mod error;
mod exposure;
mod probe;
mod stack;
mod stack_store;
mod starts;
mod variable;

use std::{
    fs::OpenOptions,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{
    Sqlite, SqliteConnection, SqlitePool,
    migrate::Migrator,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use wire::id::{AgentId, EnvironmentId, InstanceId};

use self::starts::{Start, Starts};
use super::{
    AddExposureError, AgentRecord, ApiTokenRecord, CreateEnvironmentError, EnrolmentToken,
    EnvironmentRecord, ExposureRecord, NewAgent, NewApiToken, NewEnvironment, ProbeReportRecord,
    RedeemError, Store, StoreError,
};
use crate::{
    credential::SecretHash,
    id::{CustomerId, ExposureId},
    limits::{STORE_ACQUIRE_TIMEOUT, STORE_BUSY_TIMEOUT, STORE_READERS},
    metrics::EnvironmentCounts,
};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Statements that one connection keeps prepared: above the number of different ones.
const STATEMENTS_CACHED: usize = 96;

/// Pages that each connection keeps beside the system's own cache, from which they come
/// in microseconds: SQLite's default of 2,000 KiB would be half of an idle relay.
const PAGES_CACHED_KIBIBYTES: u32 = 256;

/// The store in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    writer: SqlitePool,
    reader: SqlitePool,
    starts: Starts,
}

impl SqliteStore {
    /// Opens the file, makes it (mode 0600) where there is none, and brings its
    /// tables up to date.
    ///
    /// # Errors
    ///
    /// Where the file cannot be made, locked, read or written, or is no sound
    /// database, or was written by a later release.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with_patience(path, STORE_BUSY_TIMEOUT).await
    }

    async fn open_with_patience(path: &Path, patience: Duration) -> Result<Self, StoreError> {
        make_private(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(patience)
            .statement_cache_capacity(STATEMENTS_CACHED)
            .pragma("cache_size", format!("-{PAGES_CACHED_KIBIBYTES}"));
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(STORE_ACQUIRE_TIMEOUT)
                .idle_timeout(None)
                .max_lifetime(None)
        };
        let writer = pool(1)
            .connect_with(options.clone())
            .await
            .map_err(error::from_sqlx)?;
        check(&writer).await?;
        MIGRATIONS
            .run(&writer)
            .await
            .map_err(error::from_migration)?;
        let reader = pool(STORE_READERS)
            .connect_with(options)
            .await
            .map_err(error::from_sqlx)?;
        Ok(Self {
            writer,
            reader,
            starts: Starts::default(),
        })
    }

    /// Ends all connections; SQLite folds its journal into the file.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    async fn begin(&self) -> Result<Write, StoreError> {
        let connection = self.writer.acquire().await.map_err(error::from_sqlx)?;
        let mut write = Write {
            connection,
            has_ended: false,
        };
        sqlx::query("BEGIN IMMEDIATE")
            .execute(&mut *write.connection)
            .await
            .map_err(error::from_sqlx)?;
        Ok(write)
    }

    async fn read(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        self.reader.acquire().await.map_err(error::from_sqlx)
    }
}

/// Creates the file with mode 0600 before SQLite can create it with a wider one;
/// SQLite gives its journal files the mode of the database.
fn make_private(path: &Path) -> Result<(), StoreError> {
    let forbidden = |e: std::io::Error| error::from_io(&e);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(forbidden)?;
    let mode = file.metadata().map_err(forbidden)?.permissions().mode();
    if mode & 0o077 != 0 {
        file.set_permissions(std::fs::Permissions::from_mode(0o600))
            .map_err(forbidden)?;
    }
    Ok(())
}

/// Reads every page's structure once at start: damage is told before agents come.
async fn check(pool: &SqlitePool) -> Result<(), StoreError> {
    let verdict: String = sqlx::query_scalar("PRAGMA quick_check(1)")
        .fetch_one(pool)
        .await
        .map_err(error::from_sqlx)?;
    if verdict == "ok" {
        Ok(())
    } else {
        Err(StoreError::Corrupt { detail: verdict })
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn boot(&self, forget_before: Timestamp) -> Result<u64, StoreError> {
        let mut write = self.begin().await?;
        let generation = boot(&mut write.connection, forget_before).await;
        write.end(generation).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let mut connection = self.read().await?;
        sqlx::query("SELECT generation FROM relay")
            .execute(&mut *connection)
            .await
            .map(|_| ())
            .map_err(error::from_sqlx)
    }

    async fn create_environment(
        &self,
        environment: NewEnvironment,
        limit: u64,
    ) -> Result<(), CreateEnvironmentError> {
        let mut write = self.begin().await?;
        let outcome = create(&mut write.connection, &environment, limit).await;
        write.end(outcome).await
    }

    async fn environments(
        &self,
        customer: &CustomerId,
    ) -> Result<Vec<EnvironmentRecord>, StoreError> {
        environment::list(&mut *self.read().await?, customer).await
    }

    async fn count_environments(&self) -> Result<EnvironmentCounts, StoreError> {
        environment::count(&mut *self.read().await?).await
    }

    async fn first_environments(&self, limit: u32) -> Result<Vec<EnvironmentRecord>, StoreError> {
        environment::first(&mut *self.read().await?, limit).await
    }

    async fn environment_by_name(
        &self,
        customer: &CustomerId,
        name: &str,
    ) -> Result<Option<EnvironmentRecord>, StoreError> {
        environment::by_name(&mut *self.read().await?, customer, name).await
    }

    async fn environment_by_id(
        &self,
        id: EnvironmentId,
    ) -> Result<Option<EnvironmentRecord>, StoreError> {
        environment::by_id(&mut *self.read().await?, id).await
    }

    async fn remove_environment(&self, id: EnvironmentId) -> Result<bool, StoreError> {
        let mut write = self.begin().await?;
        let outcome = environment::remove(&mut write.connection, id).await;
        write.end(outcome).await
    }

    async fn create_enrolment_token(&self, token: EnrolmentToken) -> Result<bool, StoreError> {
        let mut write = self.begin().await?;
        let outcome = agent::create_token(&mut write.connection, &token).await;
        write.end(outcome).await
    }

    async fn redeem_token(
        &self,
        hash: &SecretHash,
        agent: NewAgent,
        now: Timestamp,
    ) -> Result<AgentRecord, RedeemError> {
        let mut write = self.begin().await?;
        let outcome = agent::redeem(&mut write.connection, hash, agent, now).await;
        write.end(outcome).await
    }

    async fn agent(&self, agent_id: AgentId) -> Result<Option<AgentRecord>, StoreError> {
        agent::by_id(&mut *self.read().await?, agent_id).await
    }

    async fn record_start(
        &self,
        agent_id: AgentId,
        start_counter: u64,
        instance: InstanceId,
    ) -> Result<bool, StoreError> {
        self.write_start(Start {
            agent_id,
            start_counter,
            instance,
        })
        .await
    }

    async fn hold_copied(&self, agent_id: AgentId, now: Timestamp) -> Result<(), StoreError> {
        let mut write = self.begin().await?;
        let outcome = agent::hold_copied(&mut write.connection, agent_id, now).await;
        write.end(outcome).await
    }

    async fn release(&self, agent_id: AgentId) -> Result<bool, StoreError> {
        let mut write = self.begin().await?;
        let outcome = agent::release(&mut write.connection, agent_id).await;
        write.end(outcome).await
    }

    async fn put_api_token(&self, token: NewApiToken) -> Result<(), StoreError> {
        let mut write = self.begin().await?;
        let outcome = environment::put_api_token(&mut write.connection, &token).await;
        write.end(outcome).await
    }

    async fn api_token(&self, hash: &SecretHash) -> Result<Option<ApiTokenRecord>, StoreError> {
        environment::api_token(&mut *self.read().await?, hash).await
    }

    async fn add_exposure(&self, exposure: ExposureRecord) -> Result<(), AddExposureError> {
        let mut write = self.begin().await?;
        let outcome = exposure::add(&mut write.connection, &exposure).await;
        write.end(outcome).await
    }

    async fn exposures(&self) -> Result<Vec<ExposureRecord>, StoreError> {
        exposure::list(&mut *self.read().await?).await
    }

    async fn remove_exposure(&self, id: ExposureId) -> Result<bool, StoreError> {
        let mut write = self.begin().await?;
        let outcome = exposure::remove(&mut write.connection, id).await;
        write.end(outcome).await
    }

    async fn keep_probe_report(
        &self,
        hash: &SecretHash,
        report: ProbeReportRecord,
        now: Timestamp,
    ) -> Result<String, RedeemError> {
        let mut write = self.begin().await?;
        let outcome = probe::keep(&mut write.connection, hash, &report, now).await;
        write.end(outcome).await
    }

    async fn probe_report(
        &self,
        id: EnvironmentId,
    ) -> Result<Option<ProbeReportRecord>, StoreError> {
        probe::of(&mut *self.read().await?, id).await
    }
}

/// A transaction that writes.
///
/// Not sqlx's own: where SQLite rolls a transaction back by itself, as it does when
/// the disk is full, sqlx goes on to count it as open and the connection is lost.
struct Write {
    connection: PoolConnection<Sqlite>,
    has_ended: bool,
}

impl Write {
    /// Commits what came out well, and takes everything else back.
    async fn end<T, E>(mut self, outcome: Result<T, E>) -> Result<T, E>
    where
        E: From<StoreError>,
    {
        let (statement, outcome) = match outcome {
            Ok(value) => ("COMMIT", Ok(value)),
            Err(e) => ("ROLLBACK", Err(e)),
        };
        let ended = sqlx::query(statement).execute(&mut *self.connection).await;
        self.has_ended = ended.is_ok();
        match (outcome, ended) {
            (Ok(_), Err(e)) => Err(error::from_sqlx(e).into()),
            (outcome, _) => outcome,
        }
    }
}

/// A connection whose transaction did not end in order, or whose user went away, is
/// closed: SQLite takes back what it left, and the pool opens another.
impl Drop for Write {
    fn drop(&mut self) {
        if !self.has_ended {
            self.connection.close_on_drop();
        }
    }
}

/// Both or neither: an environment without its token would be one that its adder
/// never heard of.
async fn create(
    connection: &mut SqliteConnection,
    environment: &NewEnvironment,
    limit: u64,
) -> Result<(), CreateEnvironmentError> {
    environment::create(connection, environment, limit).await?;
    let token = EnrolmentToken {
        hash: environment.token.hash,
        environment: environment.id,
        created_at: environment.created_at,
        expires_at: environment.token.expires_at,
    };
    agent::create_token(connection, &token).await?;
    Ok(())
}

async fn boot(
    connection: &mut SqliteConnection,
    forget_before: Timestamp,
) -> Result<u64, StoreError> {
    sqlx::query("DELETE FROM enrolment_token WHERE expires_at < ?")
        .bind(forget_before.as_millisecond())
        .execute(&mut *connection)
        .await
        .map_err(error::from_sqlx)?;
    let generation: i64 = sqlx::query_scalar(
        "UPDATE relay SET generation = generation + 1 WHERE id = 1 RETURNING generation",
    )
    .fetch_one(connection)
    .await
    .map_err(error::from_sqlx)?;
    number(generation)
}

/// Whether a statement that writes at most one row wrote it.
async fn wrote(
    connection: &mut SqliteConnection,
    query: sqlx::query::Query<'_, Sqlite, sqlx::sqlite::SqliteArguments>,
) -> Result<bool, StoreError> {
    let done = query.execute(connection).await.map_err(error::from_sqlx)?;
    Ok(done.rows_affected() > 0)
}

fn number(value: i64) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|_| damaged("a counter", value))
}

/// SQLite's integers end at 2^63 - 1; a counter that large is no honest one.
fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn time(millisecond: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(millisecond).map_err(|_| damaged("a time", millisecond))
}

fn parsed<T: std::str::FromStr>(what: &str, text: &str) -> Result<T, StoreError> {
    text.parse().map_err(|_| damaged(what, text))
}

fn damaged(what: &str, value: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt {
        detail: format!("{what} is `{value}`"),
    }
}

#[cfg(test)]
mod tests;
