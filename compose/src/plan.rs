//! From what shall be and what is, to what to do. Pure.
//!
//! A plan depends on the stack and on what is there, and on no history: so an apply that was
//! interrupted anywhere is gone on with by making the plan again. Containers in the middle of a
//! replacement are known by their number and by their temporary names.
//!
//! Images come first: after the [`Operation::Pull`]s of a plan, look again at what is there, and
//! make the plan again with [`Options::pulled`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub mod labels;
#[doc(hidden)]
pub mod simulate;
pub mod spec;

mod build;
mod compare;
mod decide;
mod drift;
mod graph;
pub mod hash;
mod observed;
mod obstacle;
mod operation;
mod remove;
mod topology;

pub use drift::drift;
pub use observed::{ImageSeen, Observed, Seen};
pub use obstacle::Obstacle;
pub use operation::{ContainerRef, Operation};
pub use remove::remove;
pub use spec::{Context, Unsupported};

use crate::model::Stack;

/// The most containers that one service may have: with 50 services, 50,000 steps.
pub const REPLICAS_MAX: u32 = 1_000;

/// What to do, in an order that is right: every step after those it has in
/// [`Step::after`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The operations. Empty: all is as it shall be.
    pub steps: Vec<Step>,
    /// What a person should know of, and nobody has to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Containers of another tool that are as they shall be: id to hash. Keep it, and give it
    /// back in [`Options::adopted`]: for what was copied into a container cannot be seen.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub adopts: BTreeMap<String, String>,
}

/// One operation: one request to the Engine, or one wait.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its place in the plan, from 0.
    pub id: usize,
    /// Steps that have to be done before it, all with lower ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<usize>,
    /// What is done.
    pub operation: Operation,
    /// Why, for a person. Empty where it follows from the step before.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

impl Plan {
    /// All is as it shall be.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// How many operations change something: neither pulls nor waits.
    #[must_use]
    pub fn changes(&self) -> usize {
        self.steps
            .iter()
            .filter(|step| !step.operation.is_passive())
            .count()
    }
}

/// What a plan depends on beside the stack and what is there.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// For the requests that make containers.
    pub context: Context,
    /// Also remove containers of this project that another tool made for services which are not
    /// in the stack.
    pub remove_foreign_orphans: bool,
    /// Replace every container whose label has another [`Context::assignment`].
    pub force_recreate: bool,
    /// The images were pulled for this deployment: no more pulls of those that are there.
    pub pulled: bool,
    /// Seconds since 1970, for images that are pulled when they are old. Absent: none is old.
    pub now_seconds: Option<i64>,
    /// Containers of another tool that were taken as they were: see [`Plan::adopts`].
    pub adopted: BTreeMap<String, String>,
    /// Go by `deploy.rollback_config` in place of `deploy.update_config`.
    pub rollback: bool,
}

/// What to do so that the stack runs.
///
/// # Errors
///
/// Every reason why it cannot. Nothing has to be undone then.
pub fn plan(stack: &Stack, observed: &Observed, options: &Options) -> Result<Plan, Vec<Obstacle>> {
    build::plan(stack, observed, options)
}
