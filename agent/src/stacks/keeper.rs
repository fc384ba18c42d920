//! One stack, from assignment to assignment: does what its record says is to be done, tells
//! how it is, and gives way to whatever is asked next.
//!
//! What is under way is a future that may be dropped at any moment, as the process may be
//! killed at any moment: the record is written before each phase begins, and the next one goes
//! on from what is there.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use compose::{
    exchange::{Accepted, Assignment, Cause, Phase, Refused, RegistryLogin},
    plan::{self, Seen},
};
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use super::{
    fault::{Fault, cause},
    record::{Goal, Record},
    report,
    revive::revive,
    site::Site,
    usage::Usages,
};

/// Events of one change come together; they are looked at together.
const GATHER: Duration = Duration::from_millis(50);

mod work;

pub use work::planned;

/// What a keeper is asked for.
#[derive(Debug)]
pub enum Order {
    /// Run this from now on.
    Assign {
        /// What.
        assignment: Box<Assignment>,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Accepted, Refused>>,
    },
    /// End what is going on, and go back.
    Cancel {
        /// Where the answer goes.
        reply: oneshot::Sender<Result<(), Refused>>,
    },
    /// Start containers again.
    Restart {
        /// Of this service; of all.
        service: Option<String>,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<(), Refused>>,
    },
    /// A blob has come.
    BlobArrived,
    /// The Engine is back.
    EngineBack,
}

/// See the module.
#[derive(Debug)]
pub struct Keeper {
    orders: mpsc::Receiver<Order>,
    state: State,
}

#[derive(Debug)]
struct State {
    site: Site,
    record: Record,
    /// For pulls of the assignment at hand; nowhere else.
    logins: BTreeMap<String, RegistryLogin>,
    changed: watch::Receiver<u64>,
    usages: Usages,
    /// One write of the record at a time, also where its future was dropped.
    saving: Arc<Mutex<()>>,
    /// Something has arrived that a wait may be about.
    poked: bool,
}

impl Keeper {
    /// A keeper of this record.
    pub fn new(
        site: Site,
        record: Record,
        orders: mpsc::Receiver<Order>,
        changed: watch::Receiver<u64>,
        usages: Usages,
    ) -> Self {
        let state = State {
            site,
            record,
            logins: BTreeMap::new(),
            changed,
            usages,
            saving: Arc::default(),
            poked: false,
        };
        Self { orders, state }
    }

    /// Runs until the stack is no more, or nobody can ask for anything.
    pub async fn run(mut self) {
        let now = self.state.site.now_ms();
        self.state.record.resume(now);
        loop {
            let rests = self.state.record.goal() == Goal::Rest;
            if rests {
                self.state.show().await;
            }
            let order = tokio::select! {
                biased;
                order = self.orders.recv() => order,
                gone = self.state.go_on(rests) => match gone {
                    true => return,
                    false => continue,
                },
            };
            match order {
                Some(order) => self.state.obey(order).await,
                None => return,
            }
        }
    }
}

impl State {
    /// Waits for a change, or does what is to be done; whether the stack is no more.
    async fn go_on(&mut self, rests: bool) -> bool {
        match rests {
            true => {
                self.rest().await;
                false
            }
            false => self.work().await,
        }
    }

    /// Until something of the stack has changed.
    async fn rest(&mut self) {
        let mut usages = self.usages.clone();
        let closed = tokio::select! {
            changed = self.changed.changed() => changed.is_err(),
            () = usages.changed() => false,
        };
        if closed {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(GATHER).await;
    }

    async fn obey(&mut self, order: Order) {
        match order {
            // Whoever asked may have gone.
            Order::Assign { assignment, reply } => {
                drop(reply.send(self.assign(*assignment).await));
            }
            Order::Cancel { reply } => drop(reply.send(self.cancel().await)),
            Order::Restart { service, reply } => {
                drop(reply.send(self.restart(service.as_deref()).await));
            }
            Order::BlobArrived => self.poked = true,
            Order::EngineBack => {
                let now = self.site.now_ms();
                let before = self.record.phase;
                self.record.engine_is_back(now);
                if self.record.phase != before {
                    self.save().await;
                }
                if self.record.standing().is_some()
                    && let Err(fault) = revive(&self.site, &self.record.stack).await
                {
                    tracing::warn!(stack = self.record.stack, %fault, "not all runs again");
                }
            }
        }
    }

    async fn assign(&mut self, assignment: Assignment) -> Result<Accepted, Refused> {
        if assignment.number < self.record.assignment {
            return Err(refused(
                "stale",
                format!("assignment {} is known already", self.record.assignment),
            ));
        }
        self.logins.clone_from(&assignment.registries);
        if assignment.number > self.record.assignment || self.record.target.is_none() {
            let now = self.site.now_ms();
            self.record.assign(assignment, now);
            self.try_save()
                .await
                .map_err(|fault| refused("disk_full", fault.to_string()))?;
            self.show_now(None);
        }
        self.missing()
            .map(|missing| Accepted { missing })
            .map_err(|fault| refused("internal", fault.to_string()))
    }

    fn missing(&self) -> Result<Vec<String>, Fault> {
        let Some(target) = &self.record.target else {
            return Ok(Vec::new());
        };
        let missing = self.site.disk.missing(target);
        missing.map_err(|error| Fault::of_disk("look for files of the release", &error))
    }

    async fn cancel(&mut self) -> Result<(), Refused> {
        match self.record.goal() {
            Goal::Rest => Err(refused("not_found", "nothing is going on with this stack")),
            Goal::Revert | Goal::Remove => Err(refused(
                "invalid",
                "it is going back, or away, already; that is not cancelled",
            )),
            _ => {
                let why = cause("cancelled", "it was cancelled");
                self.fail(why).await;
                Ok(())
            }
        }
    }

    async fn restart(&mut self, service: Option<&str>) -> Result<(), Refused> {
        let restarted = async {
            let engine = self.site.engine()?;
            let found = engine
                .look(&self.record.stack, &super::engine::Wanted::default())
                .await?;
            let mut any = false;
            for container in &found.containers {
                if service.is_none_or(|service| Seen(container).service() == service) {
                    any = true;
                    engine.restart(container).await?;
                }
            }
            Ok::<bool, Fault>(any)
        };
        match restarted.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(refused("not_found", "there is no such container")),
            Err(fault) => Err(refused("engine", fault.to_string())),
        }
    }

    async fn fail(&mut self, why: Cause) {
        let now = self.site.now_ms();
        self.record.fail(why, now);
        self.save().await;
        self.show_now(None);
    }

    async fn enter(&mut self, phase: Phase) -> Result<(), Fault> {
        let now = self.site.now_ms();
        self.record.enter(phase, now);
        self.try_save().await
    }

    async fn save(&self) {
        if let Err(fault) = self.try_save().await {
            tracing::error!(stack = self.record.stack, %fault, "the record is not kept");
        }
    }

    async fn try_save(&self) -> Result<(), Fault> {
        let turn = self.saving.clone().lock_owned().await;
        let (disk, record) = (self.site.disk.clone(), self.record.clone());
        let saved = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            disk.save(&record)
        });
        let saved = saved
            .await
            .unwrap_or_else(|_| Err(std::io::Error::other("it ended")));
        saved.map_err(|error| Fault::of_disk("write the stack's record", &error))
    }

    /// Looks at what is there, and tells it.
    async fn show(&mut self) {
        self.changed.mark_unchanged();
        let standing = self.record.standing().cloned();
        let looked = match standing.or_else(|| self.record.target.clone()) {
            Some(version) => self.site.prepare(&version, &self.record).await.ok(),
            None => None,
        };
        let observed = looked.as_ref().map(|prepared| &prepared.observed);
        let mut report = report::of_record(&self.record, observed, &self.usages.now());
        if let (Some(prepared), Some(_)) = (&looked, self.record.standing()) {
            report.drift = plan::drift(&prepared.stack, &prepared.observed, &prepared.options);
        }
        if looked.is_none()
            && let Some(before) = self.site.board.report(&self.record.stack)
        {
            report.services = before.services;
        }
        self.site.board.tell(report);
    }

    /// Tells what is known without looking.
    fn show_now(&self, observed: Option<&plan::Observed>) {
        let mut report = report::of_record(&self.record, observed, &self.usages.now());
        if observed.is_none()
            && let Some(before) = self.site.board.report(&self.record.stack)
        {
            report.services = before.services;
            report.networks = before.networks;
            report.volumes = before.volumes;
        }
        self.site.board.tell(report);
    }
}

fn refused(code: &str, reason: impl Into<String>) -> Refused {
    Refused {
        code: code.to_owned(),
        reason: reason.into(),
        details: Vec::new(),
    }
}
