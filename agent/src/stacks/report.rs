//! What is told of a stack: its record, and what is there. Pure.

use std::collections::{BTreeMap, BTreeSet};

use bollard::models::{ContainerInspectResponse, HealthStatusEnum};
use compose::{
    exchange::{ContainerReport, Phase, ServiceReport, ServiceState, StackReport, Usage},
    model::Stack,
    plan::{self, Seen},
};

use super::{
    health::{self, Standing},
    record::Record,
};

/// Digits of an id that people see.
const ID_DIGITS: usize = 12;

/// A stack that this agent runs.
pub fn of_record(
    record: &Record,
    observed: Option<&plan::Observed>,
    usage: &BTreeMap<String, Usage>,
) -> StackReport {
    let version = record.standing().or(record.target.as_ref());
    let mut report = StackReport {
        stack: record.stack.clone(),
        assignment: record.assignment,
        release: record
            .target
            .as_ref()
            .map(|version| version.release.clone()),
        committed: record
            .committed
            .as_ref()
            .map(|version| version.release.clone()),
        phase: record.phase,
        since_ms: record.since_ms,
        deadline_ms: record.deadline_ms,
        cause: record.cause.clone(),
        services: BTreeMap::new(),
        networks: Vec::new(),
        volumes: Vec::new(),
        drift: Vec::new(),
        digests: version
            .map(|version| version.digests.clone())
            .unwrap_or_default(),
        operations: record.operations,
        wanted_images: Vec::new(),
    };
    if let Some(observed) = observed {
        let stack = version.map(|version| &version.stack);
        fill(&mut report, stack, observed, usage);
    }
    report
}

/// A stack that another tool runs.
pub fn of_foreign(
    project: &str,
    observed: &plan::Observed,
    usage: &BTreeMap<String, Usage>,
    now_ms: u64,
) -> StackReport {
    let mut report = StackReport {
        stack: project.to_owned(),
        assignment: 0,
        release: None,
        committed: None,
        phase: Phase::Foreign,
        since_ms: now_ms,
        deadline_ms: None,
        cause: None,
        services: BTreeMap::new(),
        networks: Vec::new(),
        volumes: Vec::new(),
        drift: Vec::new(),
        digests: BTreeMap::new(),
        operations: 0,
        wanted_images: Vec::new(),
    };
    fill(&mut report, None, observed, usage);
    report
}

fn fill(
    report: &mut StackReport,
    stack: Option<&Stack>,
    observed: &plan::Observed,
    usage: &BTreeMap<String, Usage>,
) {
    let project = report.stack.clone();
    let seen: Vec<Seen<'_>> = observed.of_project(&project).collect();
    let wanted = stack
        .into_iter()
        .flat_map(|stack| stack.services.keys().map(String::as_str));
    let names: BTreeSet<&str> = wanted
        .chain(seen.iter().map(|seen| seen.service()))
        .collect();
    for name in names {
        let mut own: Vec<Seen<'_>> = seen
            .iter()
            .copied()
            .filter(|seen| seen.service() == name)
            .collect();
        own.sort_by_key(|seen| (seen.number(), seen.name()));
        let service = of_service(stack, name, &own, usage);
        report.services.insert(name.to_owned(), service);
    }
    let labelled = |labels: Option<&std::collections::HashMap<String, String>>| {
        labels.and_then(|labels| labels.get(plan::labels::PROJECT)) == Some(&project)
    };
    let networks = observed
        .networks
        .iter()
        .filter(|one| labelled(one.labels.as_ref()));
    report.networks = networks.filter_map(|one| one.name.clone()).collect();
    let volumes = observed
        .volumes
        .iter()
        .filter(|one| labelled(Some(&one.labels)));
    report.volumes = volumes.map(|one| one.name.clone()).collect();
    report.networks.sort();
    report.volumes.sort();
}

fn of_service(
    stack: Option<&Stack>,
    name: &str,
    seen: &[Seen<'_>],
    usage: &BTreeMap<String, Usage>,
) -> ServiceReport {
    let wanted = stack.and_then(|stack| stack.services.get(name));
    let inspected: Vec<&ContainerInspectResponse> = seen.iter().map(|seen| seen.0).collect();
    let (state, why) = match (stack, wanted) {
        (Some(stack), Some(_)) => match health::of_service(stack, name, &inspected) {
            Standing::Well => (ServiceState::Ok, None),
            Standing::Coming(why) => (ServiceState::Starting, Some(why)),
            Standing::Bad(why) => (ServiceState::Bad, Some(why.line)),
        },
        (Some(_), None) => (
            ServiceState::Orphan,
            Some("it is not in the release".to_owned()),
        ),
        (None, _) => foreign(seen),
    };
    ServiceReport {
        desired: wanted.map_or(0, |service| service.replicas),
        state,
        why,
        image: wanted
            .map(|service| service.image.clone())
            .unwrap_or_default(),
        containers: seen.iter().map(|seen| of_container(*seen, usage)).collect(),
    }
}

fn foreign(seen: &[Seen<'_>]) -> (ServiceState, Option<String>) {
    let bad = seen.iter().find(|seen| {
        !seen.is_running() && seen.exit_code() != Some(0)
            || seen.health() == HealthStatusEnum::UNHEALTHY
    });
    match bad {
        Some(seen) => (
            ServiceState::Bad,
            Some(format!("{} is not well", seen.name())),
        ),
        None => (ServiceState::Ok, None),
    }
}

fn of_container(seen: Seen<'_>, usage: &BTreeMap<String, Usage>) -> ContainerReport {
    let state = seen.0.state.as_ref();
    let health = match seen.health() {
        HealthStatusEnum::NONE | HealthStatusEnum::EMPTY => None,
        health => Some(health.to_string()),
    };
    let started = state
        .and_then(|state| state.started_at.as_ref())
        .map(ToString::to_string);
    let started = started.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    // The Engine's word for never is the year 1.
    let started = started.and_then(|at| u64::try_from(at.as_millisecond()).ok());
    let mut id = seen.id().to_owned();
    id.truncate(ID_DIGITS);
    ContainerReport {
        name: seen.name().to_owned(),
        id,
        number: seen.number(),
        state: seen.status().to_string(),
        health,
        exit_code: seen.exit_code(),
        restarts: seen
            .0
            .restart_count
            .and_then(|count| u64::try_from(count).ok())
            .unwrap_or(0),
        started_ms: started,
        image_id: seen.image_id().to_owned(),
        usage: usage.get(seen.id()).copied(),
    }
}
