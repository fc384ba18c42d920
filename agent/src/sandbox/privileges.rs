//! Privileges: none to be gained, and none held that are not needed.
//!
//! Capabilities belong to threads, so this too comes before any thread starts.

use std::{fmt, fs, os::unix::fs::MetadataExt, path::Path};

use rustix::thread::{self, CapabilitySet, CapabilitySets};

use super::Needs;

/// Capabilities that Linux has numbers for.
const BITS: u32 = 64;

/// What became of the process's privileges, as the kernel reads them back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enforced {
    /// Whether no program that is run could gain any.
    pub none_to_gain: bool,
    /// What is still held, by name; nothing where all is well.
    pub held: Vec<&'static str>,
    /// Why something is kept on purpose.
    pub kept_for: Option<String>,
    /// Whether the bounding set is empty, but for what is kept.
    pub bounded: bool,
}

impl Enforced {
    /// Whether nothing is held but what is kept on purpose.
    pub fn is_dropped(&self) -> bool {
        self.held.is_empty()
    }
}

impl fmt::Display for Enforced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.kept_for, self.held.as_slice()) {
            (_, [_, ..]) => write!(f, "still held: {}", self.held.join(", "))?,
            (Some(why), _) => write!(f, "all dropped but DAC_OVERRIDE ({why})")?,
            (None, _) => f.write_str("all dropped")?,
        }
        match self.bounded {
            true => Ok(()),
            false => f.write_str("; the bounding set stays, and nothing can be gained from it"),
        }
    }
}

/// Gives up what is not needed, in the calling thread and all that it starts.
pub fn apply(needs: &Needs) -> Enforced {
    // What fails shows in what is read back.
    let _refused = thread::set_no_new_privs(true);
    let kept_for = foreign(needs);
    let keep = match kept_for {
        Some(_) => CapabilitySet::DAC_OVERRIDE,
        None => CapabilitySet::empty(),
    };
    for bit in (0..BITS).map(|bit| CapabilitySet::from_bits_retain(1 << bit)) {
        if !keep.contains(bit) {
            let _refused = thread::remove_capability_from_bounding_set(bit);
        }
    }
    let _refused = thread::clear_ambient_capability_set();
    let held = thread::capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.permitted);
    let sets = CapabilitySets {
        effective: held & keep,
        permitted: held & keep,
        inheritable: CapabilitySet::empty(),
    };
    let _refused = thread::set_capabilities(None, sets);
    read_back(keep, kept_for.filter(|_| held.contains(keep)))
}

fn read_back(keep: CapabilitySet, kept_for: Option<String>) -> Enforced {
    let all = CapabilitySets {
        effective: CapabilitySet::all(),
        permitted: CapabilitySet::all(),
        inheritable: CapabilitySet::all(),
    };
    let sets = thread::capabilities(None).unwrap_or(all);
    let held = (sets.effective | sets.permitted | sets.inheritable) - keep;
    let names = held.iter_names().map(|(name, _)| name);
    let in_bounding_set = (0..BITS)
        .map(|bit| CapabilitySet::from_bits_retain(1 << bit))
        .filter(|bit| !keep.contains(*bit))
        .any(|bit| thread::capability_is_in_bounding_set(bit).unwrap_or(false));
    Enforced {
        none_to_gain: thread::no_new_privs().unwrap_or(false),
        held: names.collect(),
        kept_for,
        bounded: !in_bounding_set,
    }
}

/// Root without capabilities is bound by the modes of files. Something that is needed and
/// belongs to another user, or lies in such a user's folder, if there is any.
fn foreign(needs: &Needs) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let paths = needs
        .read
        .iter()
        .chain([&needs.state_dir, &needs.docker_socket]);
    let mut all = paths.flat_map(|path| path.ancestors());
    let is_foreign = |path: &&Path| fs::metadata(path).is_ok_and(|found| found.uid() != 0);
    let found = all.find(is_foreign)?;
    Some(format!("{} is not root's", found.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_and_why_is_said() {
        let mut enforced = Enforced {
            none_to_gain: true,
            held: Vec::new(),
            kept_for: None,
            bounded: true,
        };
        assert_eq!(enforced.to_string(), "all dropped");

        enforced.bounded = false;
        assert!(enforced.to_string().contains("the bounding set stays"));
        enforced.kept_for = Some("/x is not root's".into());
        assert!(enforced.is_dropped() && enforced.to_string().contains("/x is not root's"));
        enforced.held = vec!["NET_RAW"];
        assert!(!enforced.is_dropped() && enforced.to_string().contains("NET_RAW"));
    }
}
