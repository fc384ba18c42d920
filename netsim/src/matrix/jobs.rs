//! Several cases at once, each in a process and a sandbox of its own.

use std::{
    collections::VecDeque,
    io,
    num::NonZeroUsize,
    process::{Command, Stdio},
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, channel},
    },
    thread,
};

use super::{answer::Outcome, case::Case, score::Scored};
use crate::lab::sandbox;

/// How many at once: they wait most of the time.
pub const JOBS: NonZeroUsize = NonZeroUsize::new(6).expect("six");

/// What the program is asked for that runs one case in its sandbox.
pub const ALONE: [&str; 2] = ["matrix", "--alone"];

/// Runs cases, and tells of each as it ends. In the order of the cases.
pub fn run(cases: &[Case], jobs: NonZeroUsize, mut done: impl FnMut(&Scored)) -> Vec<Scored> {
    let waiting: Mutex<VecDeque<(usize, Case)>> =
        Mutex::new(cases.iter().cloned().enumerate().collect());
    let (ended, told) = channel();
    thread::scope(|scope| {
        for _ in 0..jobs.get().min(cases.len()) {
            let (ended, waiting) = (ended.clone(), &waiting);
            scope.spawn(move || {
                while let Some((number, case)) = next(waiting) {
                    let outcome = alone(&case).unwrap_or_else(|error| Outcome {
                        problems: vec![format!("it was not run: {error}")],
                        ..Outcome::default()
                    });
                    // Whoever asked has gone where this fails.
                    ended.send((number, Scored { case, outcome })).ok();
                }
            });
        }
        drop(ended);
        gathered(&told, &mut done)
    })
}

fn next(waiting: &Mutex<VecDeque<(usize, Case)>>) -> Option<(usize, Case)> {
    let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    waiting.pop_front()
}

fn gathered(told: &Receiver<(usize, Scored)>, done: &mut impl FnMut(&Scored)) -> Vec<Scored> {
    let mut all = Vec::new();
    for (number, scored) in told {
        done(&scored);
        all.push((number, scored));
    }
    all.sort_by_key(|(number, _)| *number);
    all.into_iter().map(|(_, scored)| scored).collect()
}

/// Runs a case in a sandbox. It ends with the thread that waits for it.
fn alone(case: &Case) -> io::Result<Outcome> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(ALONE).arg(&case.name);
    sandbox::enclose(&mut command)?;
    let output = command.stdin(Stdio::null()).output()?;
    serde_json::from_slice(&output.stdout).map_err(|_| {
        let said = String::from_utf8_lossy(&output.stderr);
        let status = output.status;
        io::Error::other(format!("{status}: {}", said.trim()))
    })
}
