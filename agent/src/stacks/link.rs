//! The link to the Engine: connected for as long as the policy allows stacks, and told of
//! every event, so that nobody has to ask again and again.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use bollard::models::EventMessage;
use futures_util::StreamExt;
use tokio::sync::{mpsc, watch};
use tunnel::{World, world::Net};

use super::engine::{Engine, PROJECT};
use crate::{
    policy::{Access, Policy},
    policy_file::PolicyInForce,
    watched,
};

/// The first pause after the Engine was away; doubled up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What the link tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The Engine is there, whether for the first time or again: look at everything.
    Back,
    /// Something of this project has changed.
    Changed(String),
}

/// See the module.
#[derive(Debug)]
pub struct Link {
    net: Arc<dyn Net>,
    socket: PathBuf,
    policy: watch::Receiver<PolicyInForce>,
    engine: watch::Sender<Option<Engine>>,
    news: mpsc::Sender<News>,
}

/// Does the customer's policy let the vendor run stacks at all?
pub fn allows(policy: &Policy) -> bool {
    matches!(policy.docker().access, Access::Limited | Access::Full)
}

impl Link {
    /// A link, and where the Engine is found while it is there.
    pub fn new(
        world: &World,
        socket: PathBuf,
        policy: watch::Receiver<PolicyInForce>,
        news: mpsc::Sender<News>,
    ) -> (Self, watch::Receiver<Option<Engine>>) {
        let (engine, seat) = watch::channel(None);
        let link = Self {
            net: world.net.clone(),
            socket,
            policy,
            engine,
            news,
        };
        (link, seat)
    }

    /// Runs until its future is dropped, or nobody listens.
    pub async fn run(mut self) {
        let mut pause = PAUSE_MIN;
        while !self.news.is_closed() {
            if !allows(&self.policy.borrow_and_update().policy) {
                watched::changed(&mut self.policy).await;
                continue;
            }
            if let Ok(engine) = Engine::connect(&self.net, &self.socket).await {
                pause = PAUSE_MIN;
                self.follow(engine).await;
                self.engine.send_replace(None);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn follow(&mut self, engine: Engine) {
        // The events first: what happens while everything is looked at is not missed.
        let mut events = std::pin::pin!(engine.events());
        self.engine.send_replace(Some(engine.clone()));
        if self.news.send(News::Back).await.is_err() {
            return;
        }
        let mut volumes = BTreeMap::new();
        loop {
            let event = tokio::select! {
                biased;
                () = forbidden(&mut self.policy) => return,
                event = events.next() => event,
            };
            let Some(Ok(event)) = event else {
                return;
            };
            let Some(project) = project_of(&event, &mut volumes) else {
                continue;
            };
            if self.news.send(News::Changed(project)).await.is_err() {
                return;
            }
        }
    }
}

async fn forbidden(policy: &mut watch::Receiver<PolicyInForce>) {
    while allows(&policy.borrow_and_update().policy) {
        watched::changed(policy).await;
    }
}

/// Which project an event is about. Events of networks name the container alone, so the
/// project of each container is remembered from events of its own; `exec` of health checks
/// is no change.
fn project_of(event: &EventMessage, containers: &mut BTreeMap<String, String>) -> Option<String> {
    /// Containers that are remembered; beyond it, what is said of others is not understood,
    /// and their own events tell the same.
    const REMEMBERED_MAX: usize = 4_096;
    let action = event.action.as_deref().unwrap_or_default();
    if action.starts_with("exec_") {
        return None;
    }
    let actor = event.actor.as_ref()?;
    let attributes = actor.attributes.as_ref()?;
    if let Some(project) = attributes.get(PROJECT) {
        let id = actor.id.clone().unwrap_or_default();
        if action == "destroy" {
            containers.remove(&id);
        } else if containers.len() < REMEMBERED_MAX {
            containers.insert(id, project.clone());
        }
        return Some(project.clone());
    }
    let container = attributes.get("container")?;
    containers.get(container).cloned()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bollard::models::EventActor;

    use super::*;

    fn event(action: &str, id: &str, attributes: &[(&str, &str)]) -> EventMessage {
        let attributes = attributes
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()));
        EventMessage {
            action: Some(action.to_owned()),
            actor: Some(EventActor {
                id: Some(id.to_owned()),
                attributes: Some(attributes.collect::<HashMap<String, String>>()),
            }),
            ..EventMessage::default()
        }
    }

    #[test]
    fn an_event_of_a_network_is_one_of_the_project_of_its_container() {
        let mut known = BTreeMap::new();
        let started = event("start", "c1", &[(PROJECT, "shop")]);
        let left = event("disconnect", "n1", &[("container", "c1")]);

        assert_eq!(project_of(&started, &mut known).as_deref(), Some("shop"));
        assert_eq!(project_of(&left, &mut known).as_deref(), Some("shop"));
    }

    #[test]
    fn a_run_of_a_health_check_is_no_change_and_its_result_is_one() {
        let mut known = BTreeMap::new();
        let run = event("exec_start: check", "c1", &[(PROJECT, "shop")]);
        let result = event("health_status: healthy", "c1", &[(PROJECT, "shop")]);

        assert_eq!(project_of(&run, &mut known), None);
        assert_eq!(project_of(&result, &mut known).as_deref(), Some("shop"));
    }
}
