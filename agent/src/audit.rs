//! The customer's own record of what the vendor did: `audit.log`, one JSON object a
//! line, appended and bounded. Principals, targets, outcomes and sizes; no payloads.
//!
//! Streams wait for room in the queue rather than run unrecorded; a disk that takes
//! no more is another matter: lines are then counted, and the count is recorded as
//! soon as a line fits again. A record [in memory](keep) counts, and keeps the newest lines.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::mpsc;

/// The file's name in the state directory; older ones end in `.1` to `.4`.
pub const AUDIT_FILE: &str = "audit.log";
/// Where a file is put aside: about 30,000 streams.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Files that are put aside and kept: together 32 MiB.
const FILES_KEPT: u32 = 4;
/// Lines that wait for the disk; beyond it streams wait.
const QUEUE_LINES_MAX: usize = 1_024;

/// Lines that come within this of each other are written together: a wake-up of the thread
/// and a write for each line cost as much as all else that the agent does for a short stream.
const GATHER: Duration = Duration::from_millis(5);

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
    /// Who asked, in the relay's words.
    pub principal: String,
    /// Ties the line to the relay's log.
    pub request_id: String,
    /// What was asked for.
    pub target: String,
}

/// What happened to a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The target was reached.
    Opened {
        /// The address that was connected to; the socket's path for Docker.
        address: String,
    },
    /// The target was not reached.
    Refused {
        /// Why, stable.
        code: &'static str,
        /// Why, for people.
        reason: String,
    },
    /// A request to the Docker Engine was judged. Those that change nothing are recorded
    /// where they are refused.
    Request {
        /// Such as `POST`; empty where it was no request.
        method: String,
        /// Without the query, where credentials may be.
        path: String,
        /// `allowed` or `refused`.
        outcome: &'static str,
        /// The policy's key that refuses.
        #[serde(skip_serializing_if = "Option::is_none")]
        rule: Option<&'static str>,
        /// Why, for people.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The vendor has changed what shall run here.
    Stack {
        /// Which stack.
        stack: String,
        /// `deploy`, `remove`, `remove_with_volumes`, `cancel` or `restart`.
        action: &'static str,
        /// What is deployed.
        #[serde(skip_serializing_if = "Option::is_none")]
        release: Option<String>,
        /// `accepted`, or why it was refused.
        outcome: String,
    },
    /// The stream has ended.
    Ended {
        /// `ok`, or why it broke.
        outcome: String,
        /// From the target to the vendor.
        sent_bytes: Option<u64>,
        /// From the vendor to the target.
        received_bytes: Option<u64>,
        /// How long it was open.
        duration_ms: u64,
    },
}

/// Where streams put their lines.
#[derive(Debug, Clone)]
pub struct Audit(To);

#[derive(Debug, Clone)]
enum To {
    Writer(mpsc::Sender<Entry>),
    Memory(Kept),
}

impl Audit {
    /// Records a line; waits while the disk is slow.
    ///
    /// Cancel safe: a line is either queued or not.
    pub async fn record(&self, entry: Entry) {
        match &self.0 {
            // The writer ends after the last handle only, so nothing is lost here.
            To::Writer(queue) => drop(queue.send(entry).await),
            To::Memory(kept) => kept.take(entry),
        }
    }
}

/// What a record in memory has: the newest lines, and how many there were in all.
#[derive(Debug, Clone)]
pub struct Kept {
    lines: Arc<Mutex<Lines>>,
    lines_max: usize,
}

#[derive(Debug, Default)]
struct Lines {
    newest: VecDeque<Entry>,
    total: u64,
}

/// A record in memory that keeps the newest `lines_max` lines, and its reader.
pub fn keep(lines_max: usize) -> (Audit, Kept) {
    let kept = Kept {
        lines: Arc::default(),
        lines_max,
    };
    (Audit(To::Memory(kept.clone())), kept)
}

impl Kept {
    /// The newest lines, oldest first.
    pub fn newest(&self) -> Vec<Entry> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.newest.iter().cloned().collect()
    }

    /// How many lines there were, those included that are no longer kept.
    pub fn total(&self) -> u64 {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .total
    }

    fn take(&self, entry: Entry) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.total += 1;
        lines.newest.push_back(entry);
        if lines.newest.len() > self.lines_max {
            lines.newest.pop_front();
        }
    }
}

/// Writes the lines; runs on a thread that may wait for the disk.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    queue: mpsc::Receiver<Entry>,
    file: Option<(File, u64)>,
    lost: u64,
}

/// A record at `path`, and its writer.
pub fn open(path: PathBuf) -> (Audit, Writer) {
    let (sender, queue) = mpsc::channel(QUEUE_LINES_MAX);
    (
        Audit(To::Writer(sender)),
        Writer {
            path,
            queue,
            file: None,
            lost: 0,
        },
    )
}

impl Writer {
    /// Writes until the last [`Audit`] is gone.
    #[expect(
        clippy::disallowed_methods,
        reason = "a thread of its own, on which no task waits"
    )]
    pub fn run(mut self) {
        while let Some(first) = self.queue.blocking_recv() {
            std::thread::sleep(GATHER);
            let mut entries = vec![first];
            while let Ok(entry) = self.queue.try_recv() {
                entries.push(entry);
                if entries.len() == QUEUE_LINES_MAX {
                    break;
                }
            }
            self.record(&entries);
        }
    }

    fn record(&mut self, entries: &[Entry]) {
        let lines: Vec<_> = entries
            .iter()
            .filter_map(|entry| serde_json::to_string(entry).ok())
            .collect();
        let result = self.append(&lines, FILE_BYTES_MAX);
        match result {
            Ok(()) => {}
            Err(error) => {
                if self.lost == 0 {
                    tracing::error!(path = %self.path.display(), %error, "cannot write the audit log; counting what is lost");
                }
                self.lost += lines.len() as u64;
                self.file = None;
            }
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "who writes to a disk is outside of every simulation"
    )]
    fn append(&mut self, lines: &[String], bytes_max: u64) -> io::Result<()> {
        let mut text = String::new();
        if self.lost > 0 {
            text = format!(
                "{{\"at\":\"{}\",\"event\":\"lost\",\"lines\":{}}}\n",
                Timestamp::now(),
                self.lost
            );
        }
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        let (mut file, size) = match self.file.take() {
            Some(opened) => opened,
            None => open_for_append(&self.path)?,
        };
        let before = size;
        if let Err(error) = file.write_all(text.as_bytes()) {
            // Half a line would spoil the next one, too.
            drop(file.set_len(before));
            return Err(error);
        }
        self.lost = 0;
        let size = before + text.len() as u64;
        if size >= bytes_max {
            drop(file);
            return put_aside(&self.path);
        }
        self.file = Some((file, size));
        Ok(())
    }
}

fn open_for_append(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

/// `audit.log` becomes `.1`, `.1` becomes `.2`, and the oldest goes.
fn put_aside(path: &Path) -> io::Result<()> {
    let numbered = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    for number in (1..FILES_KEPT).rev() {
        match fs::rename(numbered(number), numbered(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    fs::rename(path, numbered(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            at: Timestamp::UNIX_EPOCH,
            event: Event::Ended {
                outcome: "ok".into(),
                sent_bytes: Some(3),
                received_bytes: None,
                duration_ms: 7,
            },
            principal: "token:ci\n\"".into(),
            request_id: "req_x".into(),
            target: "docker".into(),
        }
    }

    #[tokio::test]
    async fn every_line_is_one_object_whatever_the_principal_calls_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(AUDIT_FILE);
        let (audit, writer) = open(path.clone());
        audit.record(entry()).await;
        audit.record(entry()).await;
        drop(audit);

        tokio::task::spawn_blocking(|| writer.run()).await.unwrap();

        let text = fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().count(), 2);
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(line["event"], "ended");
            assert_eq!(line["principal"], "token:ci\n\"");
            assert_eq!(line["sent_bytes"], 3);
        }
    }

    #[tokio::test]
    async fn a_record_in_memory_keeps_the_newest_lines_and_counts_all() {
        let (audit, kept) = keep(2);

        for number in 0..3 {
            let request_id = number.to_string();
            audit
                .record(Entry {
                    request_id,
                    ..entry()
                })
                .await;
        }

        let ids: Vec<_> = kept
            .newest()
            .into_iter()
            .map(|line| line.request_id)
            .collect();
        assert_eq!((ids, kept.total()), (vec!["1".into(), "2".into()], 3));
    }

    #[test]
    fn the_files_together_stay_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(AUDIT_FILE);
        let (_audit, mut writer) = open(path);

        for number in 0..200 {
            writer.append(&[format!("line {number:03}")], 40).unwrap();
        }

        let files: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert!(files.len() <= 1 + FILES_KEPT as usize, "{files:?}");
        assert!(
            files
                .iter()
                .all(|file| file.metadata().unwrap().len() <= 50)
        );
        let newest = folder.path().join("audit.log.1");
        assert!(fs::read_to_string(newest).unwrap().contains("line 199"));
    }

    #[test]
    fn lines_that_the_disk_did_not_take_are_counted_when_it_does_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing").join(AUDIT_FILE);
        let (_audit, mut writer) = open(path.clone());
        writer.record(&[entry(), entry()]);

        fs::create_dir(path.parent().unwrap()).unwrap();
        writer.record(&[entry()]);

        let text = fs::read_to_string(path).unwrap();
        assert!(
            text.lines()
                .next()
                .unwrap()
                .contains("\"event\":\"lost\",\"lines\":2"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 2);
    }
}
