//! `sternline-agent sandbox`: puts the fences up in a process of its own, tries each one,
//! and says what came of it.

use std::process::ExitCode;

use super::{Fence, Needs, apply};
use crate::config::{SandboxDemand, Settings};

/// Fences this process in as `run` would, and shows what holds. The exit code is 0 where
/// the process is outbound only.
pub fn run(settings: &Settings, as_json: bool) -> ExitCode {
    let sandbox = match apply(&Needs::of(settings), SandboxDemand::BestEffort) {
        Ok(sandbox) => sandbox,
        Err(problem) => {
            anstream::eprintln!("sternline-agent: {problem}");
            return ExitCode::FAILURE;
        }
    };
    let (fences, is_whole) = (sandbox.fences(), sandbox.is_whole());
    match as_json {
        true => anstream::println!(
            "{:#}",
            serde_json::json!({ "outbound_only": is_whole, "fences": fences })
        ),
        false => anstream::print!("{}", render(fences, is_whole)),
    }
    match is_whole {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn render(fences: &[Fence], is_whole: bool) -> String {
    let mut text = String::new();
    for fence in fences {
        let holds = if fence.in_force { "holds" } else { "does not" };
        text += &format!("{:<20} {holds:<8}  {}\n", fence.name, fence.detail);
    }
    text + match is_whole {
        true => "outbound only: nothing here can be made to listen\n",
        false => "not outbound only: the kernel does not enforce what is marked above\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_hold_is_said_with_its_reason() {
        let fence = Fence {
            name: "tcp-bind".into(),
            in_force: false,
            detail: "tried: it worked".into(),
        };

        let text = render(&[fence], false);

        assert!(
            text.contains("tcp-bind             does not  tried: it worked"),
            "{text}"
        );
        assert!(text.contains("not outbound only"), "{text}");
    }
}
