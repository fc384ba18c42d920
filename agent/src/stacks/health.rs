//! Is a service as it shall be? Pure.
//!
//! *Running* is not enough where there is a check, and not wanted where a service's job is to
//! end. A container that the Engine has to start again and again is not well, even while it
//! happens to run.

use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum, HealthStatusEnum};
use compose::{
    exchange::Cause,
    model::{Condition, Restart, Service, Stack},
    plan::Seen,
};

use super::fault::cause;

/// So many restarts are no accident.
const RESTARTS_MAX: i64 = 3;
/// Lines of a check's output that are told.
const OUTPUT_LINES_MAX: usize = 10;
/// Bytes of one of them.
const OUTPUT_LINE_BYTES_MAX: usize = 500;

/// How a container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// As it shall be.
    Well,
    /// On its way; why, for a person.
    Coming(String),
    /// It will not get there by itself.
    Bad(Cause),
}

/// Does this service's job end: does another one wait until it has completed?
pub fn is_one_shot(stack: &Stack, name: &str) -> bool {
    let mut dependencies = stack
        .services
        .values()
        .filter_map(|other| other.depends_on.get(name));
    dependencies.any(|dependency| dependency.condition == Condition::Completed)
}

/// How a container is, by what its service is for.
pub fn of(service: &Service, one_shot: bool, container: &ContainerInspectResponse) -> Standing {
    use ContainerStateStatusEnum::{CREATED, EXITED, PAUSED, RESTARTING, RUNNING};
    let seen = Seen(container);
    let restarts = container.restart_count.unwrap_or_default();
    let code = container
        .state
        .as_ref()
        .and_then(|state| state.exit_code)
        .unwrap_or_default();
    let name = seen.name();
    match seen.status() {
        RUNNING if one_shot => Standing::Coming(format!("{name} has not completed yet")),
        RUNNING if restarts >= RESTARTS_MAX => Standing::Bad(cause(
            "exited",
            format!("{name} ends again and again, {restarts} times so far"),
        )),
        RUNNING => checked(container, name),
        EXITED if code == 0 && (one_shot || service.restart == Restart::No) => Standing::Well,
        RESTARTING | EXITED => ended(service, one_shot, seen.status(), (name, code, restarts)),
        CREATED => Standing::Coming(format!("{name} has not been started yet")),
        PAUSED => Standing::Bad(cause("exited", format!("{name} is paused"))),
        other => Standing::Bad(cause("exited", format!("{name} is {other}"))),
    }
}

fn checked(container: &ContainerInspectResponse, name: &str) -> Standing {
    match Seen(container).health() {
        HealthStatusEnum::STARTING => {
            Standing::Coming(format!("the check of {name} has not succeeded yet"))
        }
        HealthStatusEnum::UNHEALTHY => {
            let mut why = cause("unhealthy", format!("the health check of {name} fails"));
            why.output = last_check(container);
            if let Some(last) = why.output.last() {
                why.line = format!("{}: {last}", why.line);
            }
            Standing::Bad(why)
        }
        _ => Standing::Well,
    }
}

fn ended(
    service: &Service,
    one_shot: bool,
    status: ContainerStateStatusEnum,
    (name, code, restarts): (&str, i64, i64),
) -> Standing {
    let comes_back = match service.restart {
        Restart::No => false,
        Restart::Always | Restart::UnlessStopped => !one_shot || code != 0,
        Restart::OnFailure { max_retries } => {
            code != 0 && (max_retries == 0 || restarts < i64::from(max_retries))
        }
    };
    match comes_back && restarts < RESTARTS_MAX {
        true if status == ContainerStateStatusEnum::RESTARTING => Standing::Coming(format!(
            "{name} ended with code {code} and is started again"
        )),
        // Stopped by hand, or by an Engine that was killed: those it leaves as they are.
        true => Standing::Coming(format!(
            "{name} ended with code {code}, and the Engine has not started it again"
        )),
        false => Standing::Bad(cause("exited", format!("{name} ended with code {code}"))),
    }
}

/// What the last run of a container's check printed, line by line, bounded.
pub fn last_check(container: &ContainerInspectResponse) -> Vec<String> {
    let state = container.state.as_ref();
    let log = state.and_then(|state| state.health.as_ref()?.log.as_ref()?.last());
    let output = log
        .and_then(|last| last.output.as_deref())
        .unwrap_or_default();
    lines(output)
}

/// The last lines of an output, each bounded.
pub fn lines(output: &str) -> Vec<String> {
    let lines: Vec<&str> = output
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let first = lines.len().saturating_sub(OUTPUT_LINES_MAX);
    let last = lines.get(first..).unwrap_or_default();
    last.iter().map(|line| bounded(line)).collect()
}

fn bounded(line: &str) -> String {
    match line
        .char_indices()
        .find(|(at, _)| *at >= OUTPUT_LINE_BYTES_MAX)
    {
        Some((at, _)) => format!("{}…", line.get(..at).unwrap_or_default()),
        None => line.to_owned(),
    }
}

/// How a service is: by its containers, and by how many there shall be.
pub fn of_service(stack: &Stack, name: &str, containers: &[&ContainerInspectResponse]) -> Standing {
    let Some(service) = stack.services.get(name) else {
        return Standing::Well;
    };
    let one_shot = is_one_shot(stack, name);
    let (mut coming, mut bad, mut well) = (None, None, 0_u32);
    let mut failed = 0_u32;
    for container in containers {
        match of(service, one_shot, container) {
            Standing::Well => well += 1,
            Standing::Coming(why) => coming = coming.or(Some(why)),
            Standing::Bad(why) => {
                failed += 1;
                bad = bad.or(Some(why));
            }
        }
    }
    let update = service.deploy.update.as_ref();
    let borne = update
        .and_then(|update| update.max_failure_ratio)
        .unwrap_or(0.0);
    if let Some(why) = bad
        && f64::from(failed) > borne * f64::from(service.replicas)
    {
        return Standing::Bad(why);
    }
    match coming {
        Some(why) => Standing::Coming(why),
        None if well + failed < service.replicas => Standing::Coming(format!(
            "{well} of {} containers of {name} are there",
            service.replicas
        )),
        None => Standing::Well,
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::{ContainerState, Health, HealthcheckResult};

    use super::*;

    fn container(
        status: ContainerStateStatusEnum,
        code: i64,
        restarts: i64,
        health: Option<(HealthStatusEnum, &str)>,
    ) -> ContainerInspectResponse {
        let health = health.map(|(status, output)| Health {
            status: Some(status),
            log: Some(vec![HealthcheckResult {
                output: Some(output.to_owned()),
                ..HealthcheckResult::default()
            }]),
            ..Health::default()
        });
        ContainerInspectResponse {
            name: Some("/shop-web-1".to_owned()),
            restart_count: Some(restarts),
            state: Some(ContainerState {
                status: Some(status),
                exit_code: Some(code),
                health,
                ..ContainerState::default()
            }),
            ..ContainerInspectResponse::default()
        }
    }

    fn service(restart: Restart) -> Service {
        Service {
            restart,
            replicas: 1,
            ..Service::default()
        }
    }

    #[test]
    fn a_container_that_runs_and_fails_its_check_is_not_well_and_says_what_the_check_said() {
        use ContainerStateStatusEnum::RUNNING;
        let seen = container(
            RUNNING,
            0,
            0,
            Some((HealthStatusEnum::UNHEALTHY, "no\nrefused\n")),
        );

        let Standing::Bad(why) = of(&service(Restart::Always), false, &seen) else {
            panic!("it is well");
        };

        assert_eq!(why.output, ["no", "refused"]);
        assert!(why.line.ends_with("refused"), "{}", why.line);
    }

    #[test]
    fn a_job_is_well_once_it_has_ended_with_zero_and_a_service_that_ends_is_not() {
        use ContainerStateStatusEnum::EXITED;
        let done = container(EXITED, 0, 0, None);

        assert_eq!(of(&service(Restart::No), true, &done), Standing::Well);
        assert!(matches!(
            of(&service(Restart::Always), false, &done),
            Standing::Coming(_)
        ));
        let failed = container(EXITED, 1, 0, None);
        assert!(matches!(
            of(&service(Restart::No), true, &failed),
            Standing::Bad(_)
        ));
    }

    #[test]
    fn a_container_that_is_started_again_and_again_is_bad_even_while_it_runs() {
        use ContainerStateStatusEnum::RUNNING;
        let seen = container(RUNNING, 0, 3, None);

        assert!(matches!(
            of(&service(Restart::Always), false, &seen),
            Standing::Bad(_)
        ));
    }

    #[test]
    fn output_of_a_check_is_bounded() {
        let long = "é".repeat(1_000);
        let told = lines(&format!("{long}\n").repeat(50));

        assert_eq!(told.len(), OUTPUT_LINES_MAX);
        assert!(
            told.iter()
                .all(|line| line.len() <= OUTPUT_LINE_BYTES_MAX + 4)
        );
    }
}
