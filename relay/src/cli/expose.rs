//! `expose` and `unexpose`: ports on the relay's host that lead to a target.

use std::net::SocketAddr;

use clap::Args;
use serde_json::{Value, json};
use wire::target::Target;

use super::{
    api::{self, Exposure},
    client::Client,
    failure::{Exit, Failure},
    human,
    name::EnvironmentName,
    output::{self, BOLD, Format, GREEN, PLAIN, YELLOW},
    table::{Cell, Table},
};

/// A port on the relay's host that leads to a target.
#[derive(Debug, Args)]
pub struct ExposeArgs {
    /// Name of the environment
    #[arg(required_unless_present = "list", value_name = "ENV")]
    environment: Option<EnvironmentName>,
    /// What the port leads to, as the agent's host sees it: tcp:HOST:PORT
    #[arg(required_unless_present = "list", value_name = "TARGET")]
    target: Option<Target>,
    /// Address and port on the relay's host, such as 127.0.0.1:5432
    #[arg(long, value_name = "ADDRESS", required_unless_present = "list")]
    listen: Option<SocketAddr>,
    /// List the exposures there are
    #[arg(long, conflicts_with_all = ["environment", "target", "listen"])]
    list: bool,
}

/// Which exposure to end.
#[derive(Debug, Args)]
pub struct UnexposeArgs {
    /// Its id, or the address it listens at, as `expose --list` shows them
    #[arg(value_name = "ID|ADDRESS")]
    which: String,
}

/// Makes an exposure, or lists those there are.
///
/// # Errors
///
/// What the relay refused, or why it cannot be reached.
pub async fn expose(args: ExposeArgs, client: &Client, format: Format) -> Result<(), Failure> {
    match (args.environment, args.target, args.listen) {
        (Some(environment), Some(target), Some(listen)) => {
            add(client, &environment, &target, (listen, format)).await
        }
        // The parser takes the three together or `--list` alone.
        _ => list(client, format).await,
    }
}

/// Ends an exposure.
///
/// # Errors
///
/// There is no such exposure, or the relay cannot be reached.
pub async fn unexpose(args: UnexposeArgs, client: &Client, format: Format) -> Result<(), Failure> {
    let which = args.which.trim();
    let id = match which.parse::<SocketAddr>() {
        Ok(listen) => id_at(client, listen).await?,
        Err(_) => which.to_owned(),
    };
    client.delete(&["exposures", &id]).await?;
    match format {
        Format::Json => output::print_json(&json!({ "removed": id })),
        Format::Text => output::print(&format!("Exposure {BOLD}{which}{PLAIN} is ended.")),
    }
}

async fn add(
    client: &Client,
    environment: &EnvironmentName,
    target: &Target,
    (listen, format): (SocketAddr, Format),
) -> Result<(), Failure> {
    if matches!(target, Target::Docker) && !listen.ip().is_loopback() {
        output::note(&format!(
            "{YELLOW}warning:{PLAIN} whoever reaches {listen} is root on the host of `{environment}`"
        ));
    }
    let body = json!({
        "environment": environment.as_str(),
        "target": target.to_string(),
        "listen": listen.to_string(),
    });
    let answer = client.post(&["exposures"], body).await?;
    if format == Format::Json {
        return output::print_json(&answer);
    }
    let exposure: Exposure = api::read(&answer)?;
    output::print(&format!(
        "{BOLD}{}{PLAIN} on the relay's host leads to {target} at {environment}.\n\
         It is kept across restarts; end it with `sternline-relay unexpose {}`.",
        human::printable(&exposure.listen),
        human::printable(&exposure.id),
    ))
}

async fn list(client: &Client, format: Format) -> Result<(), Failure> {
    let answer = client.get(&["exposures"], &[]).await?;
    if format == Format::Json {
        return output::print_json(&answer);
    }
    let exposures = read_exposures(&answer)?;
    if exposures.is_empty() {
        output::note("Nothing is exposed.");
        return Ok(());
    }
    let mut table = Table::new(&["LISTEN", "ENVIRONMENT", "TARGET", "STATUS", "ID"]);
    for exposure in &exposures {
        table.row(vec![
            human::printable(&exposure.listen).into(),
            human::printable(&exposure.environment).into(),
            human::printable(&exposure.target).into(),
            status_cell(exposure.status.as_deref()),
            human::printable(&exposure.id).into(),
        ]);
    }
    output::print(&table.render())
}

fn status_cell(status: Option<&str>) -> Cell {
    match status {
        None => "-".into(),
        Some("listening") => Cell::styled("listening", GREEN),
        Some(other) => Cell::styled(human::printable(other), YELLOW),
    }
}

/// The id of the exposure that listens at an address.
async fn id_at(client: &Client, listen: SocketAddr) -> Result<String, Failure> {
    let exposures = read_exposures(&client.get(&["exposures"], &[]).await?)?;
    find_at(&exposures, listen)
        .map(|exposure| exposure.id.clone())
        .ok_or_else(|| {
            Failure::new(Exit::NotFound, format!("nothing is exposed at {listen}"))
                .advise("list the exposures with `sternline-relay expose --list`")
        })
}

fn find_at(exposures: &[Exposure], listen: SocketAddr) -> Option<&Exposure> {
    exposures
        .iter()
        .find(|exposure| exposure.listen.parse() == Ok(listen))
}

fn read_exposures(answer: &Value) -> Result<Vec<Exposure>, Failure> {
    api::read_list(answer, "exposures")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: ExposeArgs,
    }

    #[test]
    fn an_exposure_needs_environment_target_and_address_or_only_list() {
        let parses =
            |words: &[&str]| Line::try_parse_from(std::iter::once(&"expose").chain(words)).is_ok();

        assert!(parses(&[
            "berlin",
            "tcp:db:5432",
            "--listen",
            "127.0.0.1:5432"
        ]));
        assert!(parses(&["--list"]));
        assert!(!parses(&["berlin", "tcp:db:5432"]));
        assert!(!parses(&["berlin", "--list"]));
        assert!(!parses(&[]));
    }

    #[test]
    fn an_exposure_is_found_by_its_address_however_it_is_written() {
        let answer = json!({ "exposures": [
            { "id": "exp_a", "environment": "berlin", "target": "tcp:db:5432",
              "listen": "[::1]:5432", "status": "listening" }
        ]});
        let exposures = read_exposures(&answer).unwrap();

        let found = find_at(&exposures, "[0:0:0:0:0:0:0:1]:5432".parse().unwrap());

        assert_eq!(found.map(|exposure| exposure.id.as_str()), Some("exp_a"));
    }
}
