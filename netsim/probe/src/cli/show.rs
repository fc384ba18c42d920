//! What is written where.

use std::{
    fs,
    io::{self, IsTerminal, Write},
    net::IpAddr,
    path::Path,
    process::ExitCode,
    sync::Arc,
};

use super::{EXIT_NO_INPUT, EXIT_OUTPUT, EXIT_USAGE, Language, Output, RulesArguments, settle};
use crate::{
    measure::Progress,
    observe::{Flow, Target},
    render::{diff, html, junit, redact, text},
    rules,
    verdict::{Code, REPORT_VERSION, Report, Reports, Verdict},
};

/// Lines that overwrite each other on a terminal; elsewhere one line at the start.
pub(super) fn progress(target: &Target) -> Progress {
    if !io::stderr().is_terminal() {
        return Arc::new(|_: &str| {});
    }
    let host = target.host.clone();
    Arc::new(move |doing: &str| {
        anstream::eprint!("\r\x1b[2K{host}: {doing} …");
    })
}

/// Shows reports, one an address of the relay, and gives the program's exit code.
pub(super) fn reports(reports: Vec<Report>, output: &Output) -> ExitCode {
    if io::stderr().is_terminal() {
        anstream::eprint!("\r\x1b[2K");
    }
    let reports: Result<Vec<Report>, _> = match output.redact {
        true => reports.iter().map(redact::redacted).collect(),
        false => Ok(reports),
    };
    let reports = match reports {
        Ok(reports) => reports,
        Err(error) => return unwritten(&error.to_string()),
    };
    if let Some(path) = &output.report
        && let Err(error) = fs::write(path, html::page(&reports))
    {
        return unwritten(&format!("{}: {error}", path.display()));
    }
    let verdict = Verdict::of_any(&reports);
    let shown = match (output.json, output.junit, reports.as_slice()) {
        (true, _, [one]) => serde_json::to_string_pretty(one).map(|json| format!("{json}\n")),
        (true, _, _) => {
            serde_json::to_string_pretty(&Reports::of(reports)).map(|json| format!("{json}\n"))
        }
        (_, true, _) => Ok(junit::junit(&reports)),
        _ => Ok(text::text(&reports)),
    };
    let written = shown
        .map_err(io::Error::other)
        .and_then(|text| print(&text));
    match written {
        Ok(()) => ExitCode::from(verdict.exit_code()),
        Err(error) => unwritten(&error.to_string()),
    }
}

/// Compares two reports: 0 as before or better, 10 better and worse, 20 worse.
pub(super) fn diff(before: &Path, after: &Path) -> ExitCode {
    let read = |path: &Path| -> Result<Report, String> {
        let text = fs::read_to_string(path);
        let text = text.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let report: Report = serde_json::from_str(&text).map_err(|error| {
            format!(
                "{} is no report of this probe (--json): {error}",
                path.display()
            )
        })?;
        match report.version {
            REPORT_VERSION => Ok(report),
            other => Err(format!("{}: version {other} is not known", path.display())),
        }
    };
    let (before, after) = match (read(before), read(after)) {
        (Ok(before), Ok(after)) => (before, after),
        (Err(error), _) | (_, Err(error)) => {
            anstream::eprintln!("error: {error}");
            return ExitCode::from(EXIT_NO_INPUT);
        }
    };
    let difference = diff::diff(&before, &after);
    match print(&difference.text) {
        Ok(()) => ExitCode::from(match (difference.is_worse, difference.is_better) {
            (false, _) => 0,
            (true, true) => 10,
            (true, false) => 20,
        }),
        Err(error) => unwritten(&error.to_string()),
    }
}

pub(super) fn unwritten(problem: &str) -> ExitCode {
    anstream::eprintln!("error: the result cannot be written: {problem}");
    ExitCode::from(EXIT_OUTPUT)
}

/// Writes a result. A reader that went away has seen what it wanted.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut stdout = anstream::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// The rules that a relay needs.
pub(super) fn rules(asked: &RulesArguments) -> ExitCode {
    let (host, port) = match settle::host_and_port(&asked.host) {
        Ok(found) => found,
        Err(error) => {
            anstream::eprintln!("error: {error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let target = Target {
        host,
        https_port: asked
            .https_port
            .or(port)
            .unwrap_or(wire::token::HTTPS_PORT_DEFAULT),
        tunnel_port: asked
            .tunnel_port
            .unwrap_or(wire::token::TUNNEL_PORT_DEFAULT),
        pin: None,
    };
    let addresses = match asked.address.as_slice() {
        [] => looked_up(&target.host),
        given => given.to_vec(),
    };
    if addresses.is_empty() {
        anstream::eprintln!(
            "error: {} has no address here; give one with --address",
            target.host
        );
        return ExitCode::from(EXIT_NO_INPUT);
    }
    let changes = rules::changes(&Flow::ALL, &target, &addresses, Code::FirewallDrop);
    let aws = format!("{:#}", changes.aws);
    let text = match asked.language {
        Some(Language::Nft) => changes.nft,
        Some(Language::Aws) => format!("{aws}\n"),
        Some(Language::Ticket) => format!("{}\n", changes.ticket),
        None => format!(
            "# For a ticket\n{}\n\n# nftables\n{}\n# AWS security group, egress\n{aws}\n",
            changes.ticket, changes.nft
        ),
    };
    match print(&text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => unwritten(&error.to_string()),
    }
}

fn looked_up(host: &str) -> Vec<IpAddr> {
    use std::net::ToSocketAddrs;
    let found = (host, 0).to_socket_addrs();
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in found.into_iter().flatten() {
        if !addresses.contains(&address.ip()) {
            addresses.push(address.ip());
        }
    }
    addresses
}
