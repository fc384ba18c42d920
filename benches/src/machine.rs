//! What machine it was, in the words of its kernel: a figure without it says nothing.

use std::fs;

use serde::{Deserialize, Serialize};

/// The machine that measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    /// Model of the processor.
    pub processor: String,
    /// How many of them may be used.
    pub processors: usize,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Name and release.
    pub kernel: String,
    /// When, in UTC.
    pub time: String,
}

impl Machine {
    /// This one, now.
    pub fn this() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let line_of = |text: &str, name: &str| {
            text.lines()
                .find(|line| line.starts_with(name))
                .and_then(|line| line.split_once(':'))
                .map_or_else(|| "unknown".to_owned(), |(_, rest)| rest.trim().to_owned())
        };
        let memory = line_of(&read("/proc/meminfo"), "MemTotal");
        let kibibytes: u64 = memory
            .split(' ')
            .next()
            .and_then(|number| number.parse().ok())
            .unwrap_or_default();
        Self {
            processor: line_of(&read("/proc/cpuinfo"), "model name"),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: kibibytes * 1024,
            kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
            time: jiff::Timestamp::now()
                .strftime("%Y-%m-%d %H:%M UTC")
                .to_string(),
        }
    }

    /// One line for a person.
    pub fn words(&self) -> String {
        format!(
            "{} × {}, {:.0} GiB, {}, {}",
            self.processors,
            self.processor,
            self.memory_bytes as f64 / f64::from(1 << 30),
            self.kernel,
            self.time
        )
    }
}
