//! A case on the real kernel: its network, a relay, and the probe on the customer's host.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use wire::token::EnrolToken;

use super::{
    answer::{Answer, Outcome},
    case::{Case, Kind, RelayIs},
    crowd::Crowd,
    registry::{self, Registry},
    rules::{self, Of},
    skewed::SkewedRelay,
    topology::{CUSTOMER, RELAY},
};
use crate::lab::{
    Host, Lab, LabError, Namespace, Options, missing_tools,
    programs::{self, Program, Programs},
    sandbox,
};

/// The probe's program, beside the others.
const PROBE: &str = "sternline-probe";

/// How long a probe may take: more than a quick run may, and an idle ladder of seconds.
const PATIENCE: Duration = Duration::from_secs(90);

/// How often somebody looks whether the probe has ended.
const LOOK: Duration = Duration::from_millis(20);

/// How much of a probe's words is kept where it gave no report.
const WORDS_BYTES_MAX: usize = 2_000;

/// Tries a case. To be called in a sandbox.
///
/// # Errors
///
/// The lab cannot be had here at all.
pub fn run(case: &Case) -> Result<Outcome, LabError> {
    let mut outcome = Outcome::default();
    let scenario = match case.scenario() {
        Ok(scenario) => scenario,
        Err(mistakes) => {
            outcome.problems.push(mistakes);
            return Ok(outcome);
        }
    };
    let missing = missing_tools(&scenario);
    if let Some(missing) = missing.first() {
        outcome.skipped = Some(missing.to_string());
        return Ok(outcome);
    }
    let options = Options {
        is_without_agents: true,
        relay_config: case.relay_config.clone(),
        ..Options::default()
    };
    let lab = Lab::start(&scenario, netsim_core::random::Seed(1), options)?;
    if let Err(error) = try_in(case, &lab, &mut outcome) {
        outcome.problems.push(error.to_string());
    }
    let untouched = lab.vacuous().into_iter();
    outcome
        .problems
        .extend(untouched.filter(|one| is_fault(case, one)));
    let touched = lab.touched();
    let counts = touched
        .iter()
        .map(|(cause, count)| (cause.as_str().to_owned(), count));
    outcome.touched = counts.collect();
    for word in &case.touches {
        if !outcome
            .touched
            .iter()
            .any(|(one, count)| one == word && *count > 0)
        {
            outcome
                .problems
                .push(format!("no packet was touched: {word}"));
        }
    }
    let is_meant = case.relay_is == RelayIs::Stopped || case.relay_skew != 0;
    let troubles = lab.troubles().into_iter();
    let troubles = troubles.filter(|one| !is_meant || !one.contains("has ended"));
    // A narrow interface is what such a case is about.
    outcome
        .problems
        .extend(troubles.filter(|one| !one.contains("too narrow")));
    Ok(outcome)
}

fn try_in(case: &Case, lab: &Lab, outcome: &mut Outcome) -> io::Result<()> {
    let nobody = || io::Error::other("the lab has no customer, or no relay");
    let customer = lab.host(CUSTOMER).ok_or_else(nobody)?;
    let programs = lab.programs().ok_or_else(nobody)?;
    let relay = lab.relays().first().ok_or_else(nobody)?;
    let mut pin = pin(programs, relay.host())?;
    let skewed = match case.relay_skew {
        0 => None,
        seconds => {
            relay.kill();
            let host = lab.host("relay").ok_or_else(nobody)?;
            Some(SkewedRelay::start(host, seconds)?)
        }
    };
    if let Some(skewed) = &skewed {
        pin.clone_from(&skewed.pin);
    }
    match case.relay_is {
        RelayIs::Up => {}
        RelayIs::Stopped => relay.kill(),
        RelayIs::Hung => relay.signal(Signal::STOP),
    }
    let ruled = ruled(case, (lab, customer, relay.host()))?;
    for (namespace, of, rules) in &ruled {
        rules::put(namespace, *of, rules)?;
    }
    if !case.host_ip.is_empty() {
        customer.namespace().ip(&(case.host_ip.join("\n") + "\n"))?;
    }
    let crowd = case.relay_crowd.then(|| Crowd::come_to(relay.host()));
    let crowd = crowd.transpose()?;
    let registry = match (case.images, lab.host("relay")) {
        (Some(_), Some(host)) => Some(Registry::start(host)?),
        _ => None,
    };
    let authorities = authorities(case, lab, registry.as_ref())?;
    let begun = Instant::now();
    let ended = probe(case, (programs, customer), (&pin, authorities.as_deref()));
    outcome.took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    for (namespace, of, rules) in &ruled {
        outcome.problems.extend(rules::idle(namespace, *of, rules)?);
    }
    keep_relay_going(case, relay);
    drop(crowd);
    match ended? {
        Ok(answer) => {
            if case.images.is_some() && answer.images != case.images {
                let (is, said) = (case.images, answer.images);
                let problem = format!("of the registry it says {said:?}, and {is:?} is true");
                outcome.problems.push(problem);
            }
            outcome.answer = Some(answer);
        }
        Err(why) => outcome.problems.push(why),
    }
    Ok(())
}

/// Whether it is a fault that has touched nothing. A NAT is none; and of a healthy network, what
/// a firewall would drop is what nobody sends.
fn is_fault(case: &Case, untouched: &str) -> bool {
    let is_unused_rule = untouched.starts_with("rule on the edge");
    let is_nat = untouched.starts_with("translated on the edge");
    !is_nat && (case.kind != Kind::Healthy || !is_unused_rule)
}

type Ruled<'a> = (&'a Namespace, Of, &'a [[String; 2]]);

/// Who has rules in words of nftables.
fn ruled<'a>(
    case: &'a Case,
    (lab, customer, relay): (&'a Lab, &'a Host, &'a Host),
) -> io::Result<Vec<Ruled<'a>>> {
    let mut all: Vec<Ruled<'a>> = vec![
        (customer.namespace(), Of::Sent, &case.host_rules),
        (relay.namespace(), Of::Received, &case.relay_rules),
    ];
    for (of, rules) in [
        (Of::Forwarded, &case.office_rules),
        (Of::Diverted, &case.office_nat),
    ] {
        if !rules.is_empty() {
            let not_the_kernels = || io::Error::other("its rules want `kernel = true`");
            let office = lab.edge("office").ok_or_else(not_the_kernels)?;
            all.push((office, of, rules));
        }
    }
    Ok(all)
}

/// The CAs that the probe is given, in a file on the customer's host.
fn authorities(case: &Case, lab: &Lab, registry: Option<&Registry>) -> io::Result<Option<PathBuf>> {
    if !case.ca {
        return Ok(None);
    }
    let mut text = lab.authorities().concat();
    if let Some(registry) = registry {
        text += &fs::read_to_string(&registry.certificate)?;
    }
    let customer = lab.host(CUSTOMER);
    let path = customer.map(|host| host.folder().join("given-ca.pem"));
    if let Some(path) = &path {
        fs::write(path, text)?;
    }
    Ok(path)
}

/// One that is stopped by a signal cannot be asked for anything.
fn keep_relay_going(case: &Case, relay: &Program) {
    if case.relay_is == RelayIs::Hung {
        relay.signal(Signal::CONT);
    }
}

/// The relay's identity key, as the vendor writes it into the command for the customer.
fn pin(programs: &Programs, relay: &Host) -> io::Result<String> {
    let token = programs::enrolment(programs, relay, "probed")?;
    let token: EnrolToken = token.parse().map_err(io::Error::other)?;
    Ok(token.relay_identity.to_string())
}

/// Runs the probe on the customer's host, and reads its report.
fn probe(
    case: &Case,
    (programs, customer): (&Programs, &Host),
    (pin, authorities): (&str, Option<&Path>),
) -> io::Result<Result<Answer, String>> {
    let path = programs.relay.with_file_name(PROBE);
    if !path.is_file() {
        let path = path.display();
        return Err(io::Error::other(format!(
            "there is no {path}: build the workspace"
        )));
    }
    let [printed, words] = ["probe.json", "probe.log"].map(|name| customer.folder().join(name));
    let mut command = programs::clean(&path);
    command.args(arguments(case, pin));
    if let Some(path) = authorities {
        command.arg("--ca").arg(path);
    }
    command.envs(case.variables.iter().map(|[name, value]| (name, value)));
    customer.settle(&mut command)?;
    // Nobody has to be root for it.
    sandbox::leave_root(&mut command);
    command.stdin(Stdio::null());
    command
        .stdout(File::create(&printed)?)
        .stderr(File::create(&words)?);
    let ended = wait(command.spawn()?)?;
    let text = fs::read_to_string(&printed)?;
    keep(case, &text);
    Ok(match ended {
        Some(code) => Answer::read(&text, code).map_err(|why| {
            let words = fs::read_to_string(&words).unwrap_or_default();
            let last: String = words.chars().take(WORDS_BYTES_MAX).collect();
            format!("{why}\n{last}")
        }),
        None => Err(format!("the probe took longer than {PATIENCE:?}")),
    })
}

fn arguments(case: &Case, pin: &str) -> Vec<String> {
    let mut arguments = vec![RELAY.to_owned(), "--json".to_owned()];
    if case.pin {
        arguments.extend(["--pin".to_owned(), pin.to_owned()]);
    }
    let is_full = case.arguments.iter().any(|one| one == "--full");
    if case.images.is_some() {
        let registry = format!("{RELAY}:{}", registry::PORT);
        arguments.extend(["--registry".to_owned(), registry]);
    }
    match &case.idle {
        Some(rungs) => arguments.extend(["--idle-rungs".to_owned(), rungs.clone()]),
        None if !is_full => arguments.push("--quick".to_owned()),
        None => {}
    }
    arguments.extend(case.arguments.iter().cloned());
    arguments
}

/// Its exit code, none of one that was killed by a signal; none at all where it took too long,
/// and was killed.
fn wait(mut child: Child) -> io::Result<Option<Option<i32>>> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.code()));
        }
        if begun.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::park_timeout(LOOK);
    }
}

/// Keeps a report where somebody wants to read it whole.
fn keep(case: &Case, text: &str) {
    if let Some(folder) = std::env::var_os(KEEP_VARIABLE) {
        let path = PathBuf::from(folder).join(format!("{}.json", case.name));
        // Without it, the summary is there all the same.
        fs::write(path, text).ok();
    }
}

/// Names a folder that every report is kept in.
pub const KEEP_VARIABLE: &str = "STERNLINE_MATRIX_KEEP";
