//! Writing assignments: what is the same already is left as it is.

use tracing::info;
use zeroize::Zeroizing;

use super::{Content, Control, Deployed, Error, Placement, Principal, deploy::assigned};
use crate::{
    control::{stack::status::is_in_vain, variable::VariableTable},
    store::{AssignError, AssignmentRecord, DoneCommand, NewAssignment, VariableRecord},
};

/// What goes with assignments: variables, the asker's key with what was asked, the deadline.
pub(super) type Command = (Vec<VariableRecord>, Option<(String, String)>, u32);

/// What a placement is beside what is there.
enum Weighed {
    /// This is the very same.
    Same(Box<AssignmentRecord>),
    /// It has this fingerprint, and a number above this one.
    New(String, u64),
}

/// Where an assignment's content is sealed for.
pub(super) fn place_of(stack: &str, fingerprint: &str) -> String {
    format!("assignment:{stack}:{fingerprint}")
}

impl Control {
    /// Writes what is not the same already, and tells the agents.
    pub(super) async fn place(
        &self,
        principal: &Principal,
        mut deployed: Deployed,
        placements: Vec<Placement>,
        (variables, key, deadline_seconds): Command,
    ) -> Result<Deployed, Error> {
        // One at a time: two must not both find that nothing is there.
        let _turn = self.assigning.lock().await;
        let stack = deployed.stack.clone();
        let (mut new, mut places) = (Vec::new(), Vec::new());
        for placement in placements {
            let (fingerprint, above) = match self.weigh(&stack, &placement).await? {
                Weighed::New(fingerprint, above) => (fingerprint, above),
                Weighed::Same(same) => {
                    let same = assigned(&placement.environment, &same, false);
                    deployed.assignments.push(same);
                    continue;
                }
            };
            let text = Zeroizing::new(content_text(&placement.content)?);
            let one = NewAssignment {
                environment: placement.environment.id,
                stack: stack.clone(),
                above,
                release: placement.release,
                sealed: self.seal(&place_of(&stack, &fingerprint), text.as_bytes())?,
                fingerprint,
                author: principal.name().to_owned(),
                created_at: self.now(),
                deadline_seconds,
            };
            // The answer is written together with what it says. Nobody else assigns
            // meanwhile, so that the number is known.
            let expected = expected(&one, above + 1);
            let answer = assigned(&placement.environment, &expected, true);
            deployed.assignments.push(answer);
            new.push(one);
            places.push(placement.environment);
        }
        let mut answer = deployed;
        answer
            .assignments
            .sort_by(|a, b| a.environment.cmp(&b.environment));
        let done = key.map(|(key, fingerprint)| DoneCommand {
            customer: principal.customer().clone(),
            key,
            fingerprint,
            answer: serde_json::to_string(&answer).unwrap_or_default(),
            done_at: self.now(),
        });
        let written = self.store.assign(variables, new, done).await;
        let written = written.map_err(|e| match e {
            AssignError::EnvironmentUnknown => Error::EnvironmentUnknown {
                name: places
                    .iter()
                    .map(|one| one.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", "),
            },
            AssignError::Store(e) => e.into(),
        })?;
        for (place, record) in places.iter().zip(&written) {
            info!(
                %principal, stack, environment = place.name, number = record.number,
                release = record.release, "assigned"
            );
            self.converger.assigned(record.environment);
        }
        Ok(answer)
    }

    /// Whether a placement is what is assigned already.
    async fn weigh(&self, stack: &str, placement: &Placement) -> Result<Weighed, Error> {
        let fingerprint = self.content_fingerprint(&placement.content)?;
        let id = placement.environment.id;
        let history = self.store.assignment_history(id, stack, 1).await?;
        let newest = history.into_iter().next();
        let last = newest.as_ref().map_or(0, |newest| newest.number);
        let is_same = |had: &AssignmentRecord| {
            had.fingerprint == fingerprint
                && !placement.content.force_recreate
                && !had.outcome.as_ref().is_some_and(is_in_vain)
        };
        if let Some(same) = newest.filter(is_same) {
            return Ok(Weighed::Same(Box::new(same)));
        }
        // An agent may know of later ones than a store that was put back from a copy.
        let seen = self.converger.seen(id, stack);
        let known = seen.report.map_or(0, |report| report.assignment);
        Ok(Weighed::New(fingerprint, last.max(known)))
    }

    /// Equal for equal content. What was learnt of images is left out: it is the same stack
    /// before and after.
    fn content_fingerprint(&self, content: &Content) -> Result<String, Error> {
        let unpinned = (
            &content.desired,
            &content.secrets,
            content.remove_foreign_orphans,
        );
        let text = serde_json::to_string(&unpinned).map_err(unwritable)?;
        Ok(self.fingerprint(Zeroizing::new(text).as_bytes()))
    }
}

fn content_text(content: &Content) -> Result<String, Error> {
    serde_json::to_string(content).map_err(unwritable)
}

fn unwritable(error: serde_json::Error) -> Error {
    Error::Invalid {
        field: "stack",
        reason: error.to_string(),
    }
}

fn expected(new: &NewAssignment, number: u64) -> AssignmentRecord {
    AssignmentRecord {
        environment: new.environment,
        stack: new.stack.clone(),
        number,
        release: new.release,
        fingerprint: new.fingerprint.clone(),
        author: new.author.clone(),
        created_at: new.created_at,
        deadline_seconds: new.deadline_seconds,
        outcome: None,
    }
}

impl std::fmt::Debug for VariableTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VariableTable(****)")
    }
}
