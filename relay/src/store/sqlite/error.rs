//! What SQLite says, in the store's own words.

use std::io;

use sqlx::migrate::MigrateError;

use crate::store::StoreError;

// Primary result codes, <https://www.sqlite.org/rescode.html>; the extended ones
// carry them in their lowest byte.
const PERM: u32 = 3;
const BUSY: u32 = 5;
const LOCKED: u32 = 6;
const READONLY: u32 = 8;
const CORRUPT: u32 = 11;
const FULL: u32 = 13;
const CANTOPEN: u32 = 14;
const NOTADB: u32 = 26;

/// Extended: `SQLITE_IOERR_SHMSIZE`, no room for the file beside the database that its
/// readers share.
const IOERR_SHMSIZE: u32 = 10 | (19 << 8);

/// Extended: `SQLITE_CONSTRAINT_UNIQUE` and `SQLITE_CONSTRAINT_PRIMARYKEY`.
const CONSTRAINT_UNIQUE: u32 = 19 | (8 << 8);
const CONSTRAINT_PRIMARYKEY: u32 = 19 | (6 << 8);
const CONSTRAINT_FOREIGNKEY: u32 = 19 | (3 << 8);

pub(super) fn from_sqlx(error: sqlx::Error) -> StoreError {
    let detail = error.to_string();
    match &error {
        sqlx::Error::PoolTimedOut => StoreError::Busy { detail },
        sqlx::Error::Io(e) => from_io(e),
        sqlx::Error::Database(_) if extended_code(&error) == Some(IOERR_SHMSIZE) => {
            StoreError::Full { detail }
        }
        sqlx::Error::Database(_) => match extended_code(&error).map(|code| code & 0xff) {
            Some(BUSY | LOCKED) => StoreError::Busy { detail },
            Some(FULL) => StoreError::Full { detail },
            Some(CORRUPT | NOTADB) => StoreError::Corrupt { detail },
            Some(PERM | READONLY | CANTOPEN) => StoreError::Forbidden { detail },
            _ => StoreError::Failed { detail },
        },
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => StoreError::Corrupt { detail },
        _ => StoreError::Failed { detail },
    }
}

pub(super) fn from_io(error: &io::Error) -> StoreError {
    let detail = error.to_string();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { detail },
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::NotFound => StoreError::Forbidden { detail },
        _ => StoreError::Failed { detail },
    }
}

pub(super) fn from_migration(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(e) | MigrateError::ExecuteMigration(e, _) => from_sqlx(e),
        MigrateError::VersionMissing(version) | MigrateError::VersionTooNew(version, _) => {
            StoreError::TooNew {
                detail: format!("migration {version} is not known"),
            }
        }
        other => StoreError::Failed {
            detail: other.to_string(),
        },
    }
}

pub(super) fn is_unique_violation(error: &sqlx::Error) -> bool {
    matches!(
        extended_code(error),
        Some(CONSTRAINT_UNIQUE | CONSTRAINT_PRIMARYKEY)
    )
}

pub(super) fn is_foreign_key_violation(error: &sqlx::Error) -> bool {
    extended_code(error) == Some(CONSTRAINT_FOREIGNKEY)
}

fn extended_code(error: &sqlx::Error) -> Option<u32> {
    error.as_database_error()?.code()?.parse().ok()
}
