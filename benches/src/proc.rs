//! What Linux tells of a process and of itself: memory and processor time.
//!
//! Sizes are bytes, times are seconds. What cannot be read is `None`, and the tables
//! leave it out: slabs are for root alone.

use std::{fs, time::Duration};

/// Memory of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Resident set, in bytes.
    pub resident: u64,
    /// Of it, what is backed by no file: heap and stacks.
    pub anonymous: u64,
    /// The share of it that other processes do not use too.
    pub proportional: u64,
    /// The largest resident set that it ever had.
    pub peak: u64,
}

impl Memory {
    /// Reads it. `None` where the process has ended.
    pub fn of(pid: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        Some(Self {
            resident: kibibytes(&status, "VmRSS:")?,
            anonymous: kibibytes(&status, "RssAnon:")?,
            proportional: kibibytes(&rollup, "Pss:")?,
            peak: kibibytes(&status, "VmHWM:")?,
        })
    }
}

/// The bytes of a line such as `VmRSS:     1234 kB`.
fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    let number = line.split_whitespace().nth(1)?;
    Some(number.parse::<u64>().ok()? * 1024)
}

/// What the kernel keeps in slabs for everybody, in bytes: sockets are a part of it.
pub fn slab() -> Option<u64> {
    let text = fs::read_to_string("/proc/slabinfo").ok()?;
    Some(slab_of(&text))
}

fn slab_of(text: &str) -> u64 {
    let of_line = |line: &str| {
        let mut fields = line.split_whitespace().skip(2);
        let objects: u64 = fields.next()?.parse().ok()?;
        let bytes: u64 = fields.next()?.parse().ok()?;
        Some(objects * bytes)
    };
    text.lines().filter_map(of_line).sum()
}

/// Processor time that a process has used, user and system together.
pub fn processor_time(pid: u32) -> Option<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold anything.
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis(
        (user + system) * 1000 / TICKS_PER_SECOND,
    ))
}

/// Processor time that the whole machine has used since it started, whoever for.
pub fn machine_processor_time() -> Option<Duration> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let fields = text.lines().next()?.split_whitespace().skip(1);
    let ticks: Vec<u64> = fields.filter_map(|field| field.parse().ok()).collect();
    // What follows the first seven is time of guests and time that was stolen.
    let [user, nice, system, _idle, _waiting, irq, softirq, ..] = ticks[..] else {
        return None;
    };
    let ticks = user + nice + system + irq + softirq;
    Some(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// `USER_HZ`, which Linux has kept at this for programs on every architecture of ours.
const TICKS_PER_SECOND: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_runs_has_memory_and_one_that_does_not_has_none() {
        let own = Memory::of(std::process::id()).expect("this process runs");

        assert!(own.resident >= own.anonymous && own.peak >= own.resident);
        assert_eq!(Memory::of(u32::MAX), None);
    }

    #[test]
    fn what_one_process_has_used_is_a_part_of_what_the_machine_has() {
        let own = processor_time(std::process::id()).expect("this process runs");

        assert!(machine_processor_time().expect("Linux tells it") >= own);
    }

    #[test]
    fn slabs_are_objects_times_their_size_and_headings_count_nothing() {
        let text = "slabinfo - version: 2.1\n\
            # name <active_objs> <num_objs> <objsize> <objperslab>\n\
            TCP 5 14 2304 14 8 : tunables 0 0 0\n\
            sock_inode_cache 1 2 100 3 4 : tunables 0 0 0\n";

        assert_eq!(slab_of(text), 14 * 2304 + 200);
    }
}
