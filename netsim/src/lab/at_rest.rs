//! What a program holds while it has nothing to do: descriptors, threads and memory, as `/proc`
//! has them. What it holds more once everything is over, it has leaked.
//!
//! The least that was held while every agent was online is what a program needs; streams and
//! dials hold more for a while. A program that was started anew is another one.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use netsim_core::term::Name;

use super::programs::Program;

/// Descriptors that come and go by themselves: a command of an operator, a dial to something
/// better. A stream that leaves one behind is seen, for workloads have more streams.
const DESCRIPTORS: u64 = 8;

/// Threads that wait for work: the runtime keeps those that have blocked for ten seconds.
const THREADS: u64 = 16;

/// Memory, in KiB, that an allocator keeps of what was freed: four times what the largest
/// workload left with either program.
const RESIDENT_KIB: u64 = 128 * 1024;

/// What a process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    descriptors: u64,
    threads: u64,
    resident_kib: u64,
}

impl Held {
    /// Of a process of this sandbox; nothing where it has ended.
    fn by(pid: u32) -> Option<Self> {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        Some(Self {
            descriptors: u64::try_from(open).ok()?,
            threads: field(&status, "Threads:")?,
            resident_kib: field(&status, "VmRSS:")?,
        })
    }

    /// The lesser of each.
    fn least(self, other: Self) -> Self {
        Self {
            descriptors: self.descriptors.min(other.descriptors),
            threads: self.threads.min(other.threads),
            resident_kib: self.resident_kib.min(other.resident_kib),
        }
    }

    /// What is more than before, beyond what comes and goes; as a person reads it.
    fn beyond(self, before: Self) -> Option<String> {
        let more = |now: u64, before: u64, slack: u64, what: &str| {
            let is_more = now > before.saturating_add(slack);
            is_more.then(|| format!("{now} {what} at rest, of {before} before"))
        };
        let (now, slack) = (self, RESIDENT_KIB);
        more(
            now.descriptors,
            before.descriptors,
            DESCRIPTORS,
            "descriptors",
        )
        .or_else(|| more(now.threads, before.threads, THREADS, "threads"))
        .or_else(|| {
            more(
                now.resident_kib,
                before.resident_kib,
                slack,
                "KiB of memory",
            )
        })
    }
}

/// A number behind a key of `/proc/PID/status`.
fn field(status: &str, key: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// What programs hold at rest; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct AtRest(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    /// By process.
    least: BTreeMap<u32, Held>,
    /// Whether every agent was online at the last look.
    is_calm: bool,
}

impl AtRest {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the programs; `is_calm` where every agent is online.
    pub(super) fn look<'a>(&self, programs: impl Iterator<Item = &'a Program>, is_calm: bool) {
        let mut seen = self.seen();
        seen.is_calm = is_calm;
        if !is_calm {
            return;
        }
        for pid in programs.filter_map(Program::pid) {
            if let Some(now) = Held::by(pid) {
                let least = seen.least.entry(pid).or_insert(now);
                *least = least.least(now);
            }
        }
    }

    /// Who holds more than is needed at rest, and what; nothing is said while an agent is
    /// away, which dials.
    pub(super) fn beyond<'a>(
        &self,
        programs: impl Iterator<Item = &'a Program>,
    ) -> Vec<(Name, String)> {
        let seen = self.seen();
        if !seen.is_calm {
            return Vec::new();
        }
        let more = programs.filter_map(|program| {
            let pid = program.pid()?;
            let said = Held::by(pid)?.beyond(*seen.least.get(&pid)?)?;
            Some((
                program.host().name.clone(),
                format!("{}: {said}", program.name()),
            ))
        });
        more.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Held = Held {
        descriptors: 14,
        threads: 5,
        resident_kib: 10_000,
    };

    #[test]
    fn a_descriptor_that_comes_and_goes_is_no_leak_and_one_for_each_stream_is() {
        let with = |descriptors: u64| Held {
            descriptors,
            ..IDLE
        };

        assert_eq!(with(14 + DESCRIPTORS).beyond(IDLE), None);
        let said = with(34).beyond(IDLE).expect("twenty more");
        assert_eq!(said, "34 descriptors at rest, of 14 before");
    }

    #[test]
    fn threads_and_memory_are_told_apart() {
        let (threads, resident_kib) = (100, 1_000_000);
        let of = |held: Held| held.beyond(IDLE).expect("more than before");

        assert!(of(Held { threads, ..IDLE }).contains("threads"));
        assert!(
            of(Held {
                resident_kib,
                ..IDLE
            })
            .contains("KiB of memory")
        );
    }

    #[test]
    fn this_very_process_holds_something() {
        let held = Held::by(std::process::id()).expect("there is procfs");

        assert!(
            held.descriptors > 0 && held.threads > 0 && held.resident_kib > 0,
            "{held:?}"
        );
        assert_eq!(Held::by(u32::MAX), None);
    }
}
