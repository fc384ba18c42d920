//! The units of systemd: valid, and as closed as they are meant to be.

use std::{fs, path::Path, process::Command};

use tempfile::TempDir;
use tests::document;

use crate::{PROGRAMS, has, says};

/// Tenths of systemd's exposure level, of which 100 is the most: beyond these a unit has
/// lost one of its fences. What is left is what the programs are for: the network, the
/// Docker group, and ports below 1024.
const EXPOSURE_MAX: [(&str, &str); 2] = [("sternline-relay", "16"), ("sternline-agent", "14")];

/// A host with the units and what they name.
fn host() -> TempDir {
    let host = tempfile::tempdir().expect("a temporary folder");
    let units = host.path().join("usr/lib/systemd/system");
    let programs = host.path().join("usr/bin");
    for folder in [&units, &programs, &host.path().join("bin")] {
        fs::create_dir_all(folder).expect("a folder in a temporary one");
    }
    for program in PROGRAMS {
        let unit = format!("{program}.service");
        let text = document(&format!("packaging/systemd/{unit}"));
        fs::write(units.join(unit), text).expect("a file in a temporary folder");
        fs::copy("/bin/sh", programs.join(program)).expect("any program will do");
    }
    fs::copy("/bin/sh", host.path().join("bin/kill")).expect("any program will do");
    for target in ["network-online", "multi-user", "sysinit", "basic"] {
        let name = format!("{target}.target");
        let from = ["/usr/lib/systemd/system", "/lib/systemd/system"]
            .map(|folder| Path::new(folder).join(&name))
            .into_iter()
            .find(|path| path.exists());
        if let Some(from) = from {
            fs::copy(from, units.join(name)).expect("a file in a temporary folder");
        }
    }
    host
}

#[test]
fn systemd_takes_both_units_without_a_word() {
    if !has("systemd-analyze", "systemd") {
        return;
    }
    let host = host();

    let verified = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no", "--root"])
        .arg(host.path())
        .args(["sternline-relay.service", "sternline-agent.service"])
        .output()
        .expect("systemd-analyze runs");

    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && said.is_empty(), "{said}");
}

#[test]
fn no_unit_exposes_more_than_its_program_needs() {
    if !has("systemd-analyze", "systemd") {
        return;
    }
    let host = host();

    for (program, most) in EXPOSURE_MAX {
        says(
            Command::new("systemd-analyze")
                .args(["security", "--no-pager", "--offline=true"])
                .arg(format!("--threshold={most}"))
                .arg("--root")
                .arg(host.path())
                .arg(format!("{program}.service")),
        );
    }
}

#[test]
fn units_wait_for_words_and_a_pulse_and_the_agents_may_bind_nothing() {
    for program in PROGRAMS {
        let unit = document(&format!("packaging/systemd/{program}.service"));
        for line in ["Type=notify", "NoNewPrivileges=yes", "ProtectSystem=strict"] {
            assert!(unit.lines().any(|found| found == line), "{program}: {line}");
        }
        assert!(unit.contains("\nWatchdogSec="), "{program}");
    }
    let agent = document("packaging/systemd/sternline-agent.service");
    assert!(agent.contains("\nSocketBindDeny=any\n"));
    assert!(agent.contains("=|/var/lib/sternline-agent/identity.json\n"));
}
