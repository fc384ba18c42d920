//! The host's own words about itself, for the vendor to see.

use std::fs;

use tunnel::process::ProcessFigures;

/// What an agent tells of its host; nothing of it changes while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// As the kernel has it.
    pub hostname: String,
    /// Such as `Debian GNU/Linux 12 (bookworm)`.
    pub os: String,
    /// Such as `x86_64`.
    pub arch: String,
    /// Such as `6.1.0-18-amd64`.
    pub kernel: String,
}

impl Host {
    /// Looks around.
    pub fn look() -> Self {
        let uname = rustix::system::uname();
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        Self {
            hostname: uname.nodename().to_string_lossy().into_owned(),
            os: pretty_name(&release)
                .unwrap_or_else(|| uname.sysname().to_string_lossy().into_owned()),
            arch: uname.machine().to_string_lossy().into_owned(),
            kernel: uname.release().to_string_lossy().into_owned(),
        }
    }
}

/// What is told of the process itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Vitals {
    /// What the kernel says at the moment.
    OfKernel,
    /// Always the same: in a simulation many agents share a process, and what the kernel
    /// says of that is another thing at every run.
    Fixed(ProcessFigures),
}

impl Vitals {
    /// Everything.
    pub fn look(&self) -> ProcessFigures {
        match self {
            Self::OfKernel => ProcessFigures::look(),
            Self::Fixed(figures) => *figures,
        }
    }

    /// What is in memory, in bytes; 0 where it is not known. One small file.
    pub fn resident_bytes(&self) -> u64 {
        match self {
            Self::OfKernel => resident_bytes(),
            Self::Fixed(figures) => figures.resident_bytes.unwrap_or_default(),
        }
    }
}

fn resident_bytes() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm");
    let resident = pages
        .ok()
        .and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    resident.unwrap_or_default() * u64::try_from(rustix::param::page_size()).unwrap_or_default()
}

/// `PRETTY_NAME` of os-release(5).
fn pretty_name(release: &str) -> Option<String> {
    let value = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    let bare = value.trim().trim_matches(['"', '\'']);
    (!bare.is_empty()).then(|| bare.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_system_is_read_with_and_without_quotes() {
        let release = "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";

        assert_eq!(
            pretty_name(release).unwrap(),
            "Debian GNU/Linux 12 (bookworm)"
        );
        assert_eq!(pretty_name("PRETTY_NAME=Alpine\n").unwrap(), "Alpine");
        assert_eq!(pretty_name("ID=x\n"), None);
    }

    #[test]
    fn a_running_process_has_something_in_memory() {
        assert!(Vitals::OfKernel.resident_bytes() > 0);
    }
}
