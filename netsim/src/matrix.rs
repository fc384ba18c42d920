//! The probe's confusion matrix: networks of which is known what is wrong with them, what the
//! probe says of each, and how often it was right.
//!
//! A [`Case`] is a network, what is told to the probe, and what is true of each flow. It runs
//! in the lab with the release programs: a relay, and the probe on the customer's host, as an
//! ordinary user ([`world`]). Every fault must have touched a packet, or the case has shown
//! nothing, and fails. [`jobs`] runs several at once, each in a sandbox of its own.

mod answer;
mod case;
mod claim;
#[cfg(target_os = "linux")]
mod crowd;
#[cfg(target_os = "linux")]
pub mod jobs;
#[cfg(target_os = "linux")]
mod registry;
#[cfg(target_os = "linux")]
mod resident;
#[cfg(target_os = "linux")]
mod rules;
mod score;
#[cfg(target_os = "linux")]
mod skewed;
pub mod table;
mod topology;
#[cfg(target_os = "linux")]
pub mod world;

pub use self::{
    answer::{Answer, Flow, Outcome},
    case::{Case, Kind, RelayIs, all},
    claim::{CAUSES, Cause, Claim, Truth, Verdict},
    score::{Mark, Said, Score, Scored},
};

#[cfg(test)]
mod tests;
