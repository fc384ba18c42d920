//! What the kernel says of this process, from `/proc/self`: for metrics of relay and
//! agent alike.
//!
//! A figure that cannot be read is left out and not made up: another kernel, or a
//! `/proc` that is not mounted, must not look like a process without memory.

use std::{fs, os::unix::fs::MetadataExt};

/// This process at one moment.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct ProcessFigures {
    /// Time on a processor, user and system together, in seconds.
    pub cpu_seconds: Option<f64>,
    /// Memory that is in RAM, in bytes.
    pub resident_bytes: Option<u64>,
    /// Address space, in bytes.
    pub virtual_bytes: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// When the process began, in seconds since 1970.
    pub started_unix_seconds: Option<f64>,
    /// File descriptors open.
    pub open_files: Option<u64>,
    /// File descriptors that may be open; `None` also where there is no limit.
    pub open_files_max: Option<u64>,
}

impl ProcessFigures {
    /// Looks at this process now. Three small files; no look at each descriptor on
    /// kernels from 6.2 on, which count them.
    pub fn look() -> Self {
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let page = rustix::param::page_size() as u64;
        let stat = fs::read_to_string("/proc/self/stat").ok();
        let fields = stat.as_deref().map(fields_after_name).unwrap_or_default();
        let field = |number: usize| fields.get(number - FIRST_FIELD)?.parse::<u64>().ok();
        let limits = fs::read_to_string("/proc/self/limits").ok();
        Self {
            cpu_seconds: field(14)
                .zip(field(15))
                .map(|(user, system)| (user + system) as f64 / ticks),
            resident_bytes: field(24).map(|pages| pages * page),
            virtual_bytes: field(23),
            threads: field(20),
            started_unix_seconds: field(22)
                .zip(booted_unix_seconds())
                .map(|(start, boot)| boot + start as f64 / ticks),
            open_files: open_files(),
            open_files_max: limits.as_deref().and_then(open_files_max),
        }
    }
}

/// Number of the first field after the name, as proc_pid_stat(5) counts.
const FIRST_FIELD: usize = 3;

/// The fields of `/proc/self/stat` after the name, which may hold spaces and brackets.
fn fields_after_name(stat: &str) -> Vec<&str> {
    let after = stat.rsplit_once(')').map(|(_, after)| after);
    after.unwrap_or_default().split_whitespace().collect()
}

fn booted_unix_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

/// The size of the folder is the number of descriptors from Linux 6.2 on, and 0 before.
fn open_files() -> Option<u64> {
    let counted = fs::metadata("/proc/self/fd").ok()?.size();
    if counted > 0 {
        return Some(counted);
    }
    // One of them is the folder's own.
    let listed = fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    Some(listed.saturating_sub(1))
}

fn open_files_max(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_of_a_running_process_is_there_and_plausible() {
        let before = ProcessFigures::look();
        let _held = fs::File::open("/proc/self/stat").unwrap();
        let after = ProcessFigures::look();

        assert!(before.resident_bytes.unwrap() > 100_000, "{before:?}");
        assert!(before.virtual_bytes >= before.resident_bytes, "{before:?}");
        assert!(before.threads.unwrap() >= 1, "{before:?}");
        assert!(before.started_unix_seconds.unwrap() > 1.6e9, "{before:?}");
        assert!(after.cpu_seconds >= before.cpu_seconds, "{after:?}");
        // Other tests of the process open and close files meanwhile.
        assert!(after.open_files.unwrap() >= 4, "{after:?}");
        assert!(after.open_files_max.unwrap() >= 16, "{after:?}");
    }

    #[test]
    fn a_name_with_brackets_and_spaces_shifts_no_field() {
        let fields = fields_after_name("7 (a) b) (c)) S 1 2");

        assert_eq!(fields, ["S", "1", "2"]);
    }

    #[test]
    fn a_process_without_a_limit_shows_none() {
        let limits = "Max open files            unlimited            unlimited            files\n";

        assert_eq!(open_files_max(limits), None);
        assert_eq!(
            open_files_max("Max open files  1024  524288  files\n"),
            Some(1024)
        );
    }
}
