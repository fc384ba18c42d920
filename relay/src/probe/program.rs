//! The probe's program, as the vendor's relay hands it out: one file on the relay's host.

use std::{
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::SystemTime,
};

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use thiserror::Error;
use tokio::{
    fs::File,
    io::{AsyncRead, AsyncReadExt as _, ReadBuf},
    sync::{Mutex, OwnedSemaphorePermit, Semaphore},
};

use crate::limits::{PROBE_DOWNLOADS_MAX, PROBE_PROGRAM_BYTES_MAX};

/// Read at once from the disk.
const READ_BYTES: usize = 64 * 1024;

/// Why there is no program to hand out.
#[derive(Debug, Error)]
pub enum ProgramError {
    /// Nobody has put one there.
    #[error("there is no program to hand out")]
    Missing,
    /// It is there, and of no use.
    #[error("`{}` cannot be handed out: {reason}", path.display())]
    Unusable {
        /// Where.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// As many are downloading it as may.
    #[error("too many are downloading the program: try again in a minute")]
    Busy,
}

/// What is handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// In bytes.
    pub size: u64,
    /// SHA-256 of its content, in hexadecimal.
    pub sha256: String,
    /// When it was last changed: with its size what tells one from another.
    changed_at: Option<SystemTime>,
}

/// See the module.
#[derive(Debug)]
pub struct Program {
    path: Option<PathBuf>,
    /// Of the file as it was last seen. One reads it at a time.
    last: Mutex<Option<Offered>>,
    downloads: Arc<Semaphore>,
}

/// A program on its way to somebody.
#[derive(Debug)]
pub struct Download {
    /// What it is.
    pub offered: Offered,
    file: tokio::io::Take<File>,
    _permit: OwnedSemaphorePermit,
}

impl AsyncRead for Download {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_read(cx, into)
    }
}

impl Program {
    /// The file at a path, if one was said. It may come and go.
    pub(super) fn at(path: Option<PathBuf>) -> Self {
        Self {
            path,
            last: Mutex::default(),
            downloads: Arc::new(Semaphore::new(PROBE_DOWNLOADS_MAX)),
        }
    }

    /// Where it is looked for.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// What is handed out at this moment.
    ///
    /// # Errors
    ///
    /// There is none, or it cannot be read.
    pub async fn offered(&self) -> Result<Offered, ProgramError> {
        self.open().await.map(|(_, offered)| offered)
    }

    /// Begins to hand it out.
    ///
    /// # Errors
    ///
    /// There is none, it cannot be read, or too many are at it.
    pub async fn download(&self) -> Result<Download, ProgramError> {
        let permit = Arc::clone(&self.downloads).try_acquire_owned();
        let permit = permit.map_err(|_| ProgramError::Busy)?;
        let (file, offered) = self.open().await?;
        Ok(Download {
            file: file.take(offered.size),
            offered,
            _permit: permit,
        })
    }

    async fn open(&self) -> Result<(File, Offered), ProgramError> {
        let path = self.path.as_deref().ok_or(ProgramError::Missing)?;
        let unusable = |reason: String| ProgramError::Unusable {
            path: path.to_owned(),
            reason,
        };
        let mut last = self.last.lock().await;
        let mut file = File::open(path).await.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ProgramError::Missing,
            _ => unusable(error.to_string()),
        })?;
        let about = file.metadata().await;
        let about = about.map_err(|error| unusable(error.to_string()))?;
        if !about.is_file() {
            return Err(unusable("it is no file".to_owned()));
        }
        let (size, changed_at) = (about.len(), about.modified().ok());
        if size == 0 || size > PROBE_PROGRAM_BYTES_MAX {
            return Err(unusable(format!("it has {size} bytes")));
        }
        if let Some(seen) = &*last
            && (seen.size, seen.changed_at) == (size, changed_at)
            && changed_at.is_some()
        {
            return Ok((file, seen.clone()));
        }
        let sha256 = hash(&mut file, size).await;
        let offered = Offered {
            size,
            sha256: sha256.map_err(|error| unusable(error.to_string()))?,
            changed_at,
        };
        *last = Some(offered.clone());
        // The same file again, from its beginning, whatever stands at the path by now.
        let begun = tokio::io::AsyncSeekExt::rewind(&mut file).await;
        begun.map_err(|error| unusable(error.to_string()))?;
        Ok((file, offered))
    }
}

async fn hash(file: &mut File, size: u64) -> io::Result<String> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut into = vec![0; READ_BYTES];
    let mut left = size;
    while left > 0 {
        let read = file.read(&mut into).await?;
        let used = (read as u64).min(left);
        if used == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let piece = into.get(..usize::try_from(used).unwrap_or(0));
        context.update(piece.unwrap_or_default());
        left -= used;
    }
    Ok(HEXLOWER.encode(context.finish().as_ref()))
}
