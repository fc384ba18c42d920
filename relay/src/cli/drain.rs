//! `drain`: has the relay end in order, as a SIGTERM does, from wherever an operator is.

use serde_json::{Value, json};

use super::{
    client::Client,
    failure::{Exit, Failure},
    human,
    output::{self, Format},
};

/// Asks for it, and says what was there.
///
/// # Errors
///
/// The relay cannot be reached, or refuses.
pub async fn run(client: &Client, format: Format) -> Result<(), Failure> {
    let answer = client.post(&["relay", "drain"], json!({})).await?;
    match format {
        Format::Json => output::print_json(&answer),
        Format::Text => {
            let sessions = answer.get("sessions").and_then(Value::as_u64);
            let node = answer.get("node").and_then(Value::as_str);
            let (Some(sessions), Some(node)) = (sessions, node) else {
                return Err(Failure::new(
                    Exit::Protocol,
                    "what answered is not a relay this program understands",
                ));
            };
            output::print(&format!(
                "{} drains: {sessions} sessions are sent away, streams have until its deadline",
                human::printable(node)
            ))
        }
    }
}
