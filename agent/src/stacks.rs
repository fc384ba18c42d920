//! Stacks: the compose engine. An assignment says which release shall run; the agent sees to
//! it, and goes back by itself where that is not well.
//!
//! In floor order: what is kept ([`record`], [`disk`], [`addressed`]) and told ([`board`],
//! [`report`], [`health`], [`fault`]); the Engine ([`engine`], [`link`], [`usage`], [`logs`]);
//! what all stacks share ([`site`], [`rules`]); what is done ([`images`], [`execute`],
//! [`revive`], [`keeper`]); the door ([`http`]); and a plan for the person on this host
//! ([`preview`]).

use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc};

use bytes::Bytes;
use compose::{
    exchange::{
        Accepted, Assignment, BlobState, Desired, ImageLoad, ImageLoaded, ImageRefused, LogLine,
        Phase, Refused,
    },
    plan::Plan,
};
use futures_util::Stream;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};
use tunnel::World;

pub mod addressed;
pub mod board;
pub mod deliveries;
pub mod disk;
pub mod engine;
pub mod execute;
pub mod fault;
pub mod health;
mod http;
pub mod images;
pub mod keeper;
pub mod link;
mod load;
mod logs;
pub mod preview;
pub mod record;
pub mod report;
pub mod revive;
pub mod rules;
pub mod site;
pub mod usage;

use board::Board;
use deliveries::{Deliveries, Delivery};
use disk::Disk;
use keeper::{Keeper, Order};
use link::{Link, News};
use record::{Record, Version};
use site::Site;
use usage::{Meter, Usages};

use crate::{
    audit::{Audit, Entry, Event},
    clock,
    policy_file::PolicyInForce,
    state_dir::StateDir,
};

/// Orders that wait for a keeper, and news that wait for all.
const QUEUE: usize = 64;
/// Stacks that one agent runs.
const STACKS_MAX: usize = 64;
/// Stacks of other tools that are told of.
const FOREIGN_MAX: usize = 64;

/// What stacks are made of.
#[derive(Debug)]
pub struct Parts {
    /// The seams to the world.
    pub world: World,
    /// Where they are kept.
    pub state: StateDir,
    /// The Engine's socket.
    pub docker_socket: PathBuf,
    /// What the customer allows.
    pub policy: watch::Receiver<PolicyInForce>,
    /// Where the policy comes from, for people.
    pub policy_path: PathBuf,
    /// The customer's record.
    pub audit: Audit,
}

/// Who asks, in the relay's words.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// Their name.
    pub principal: String,
    /// Ties what they ask to the relay's log.
    pub request_id: String,
}

/// The stacks of a host, as they are asked. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stacks {
    site: Site,
    orders: mpsc::Sender<(String, Order)>,
}

/// The stacks of a host, as they are run.
#[derive(Debug)]
pub struct Runner {
    site: Site,
    link: Link,
    news: mpsc::Receiver<News>,
    orders: mpsc::Receiver<(String, Order)>,
    meter: Meter,
    usages: Usages,
    kept: BTreeMap<String, Kept>,
    keepers: JoinSet<String>,
}

#[derive(Debug)]
struct Kept {
    orders: mpsc::Sender<Order>,
    changed: watch::Sender<u64>,
}

/// Stacks of this host, and what runs them. Nothing runs yet.
///
/// # Errors
///
/// The disk's: without it nothing could be gone back to.
pub fn open(parts: Parts) -> io::Result<(Stacks, Runner)> {
    let disk = Disk::open(parts.state.path())?;
    let salt = disk.salt(parts.world.random())?;
    let (news_sender, news) = mpsc::channel(QUEUE);
    let (orders_sender, orders) = mpsc::channel(QUEUE);
    let policy = parts.policy.clone();
    let (link, engine) = Link::new(&parts.world, parts.docker_socket, policy, news_sender);
    let site = Site {
        world: parts.world,
        engine,
        policy: parts.policy,
        policy_path: parts.policy_path,
        disk,
        board: Board::default(),
        salt: Arc::new(salt),
        audit: parts.audit,
        deliveries: Deliveries::default(),
    };
    let (meter, usages) = Meter::new(site.clone());
    let stacks = Stacks {
        site: site.clone(),
        orders: orders_sender,
    };
    let runner = Runner {
        site,
        link,
        news,
        orders,
        meter,
        usages,
        kept: BTreeMap::new(),
        keepers: JoinSet::new(),
    };
    Ok((stacks, runner))
}

impl Stacks {
    /// Serves the requests of one stream until it ends.
    ///
    /// # Errors
    ///
    /// In words, for the record.
    pub async fn serve(
        self,
        stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
        caller: Caller,
    ) -> Result<(), String> {
        http::serve(self, stream, caller)
            .await
            .map_err(|error| error.to_string())
    }

    const fn site(&self) -> &Site {
        &self.site
    }

    async fn order<T>(
        &self,
        stack: &str,
        order: impl FnOnce(oneshot::Sender<Result<T, Refused>>) -> Order,
    ) -> Result<T, Refused> {
        let (reply, answer) = oneshot::channel();
        let gone = || Refused {
            code: "not_found".to_owned(),
            reason: format!("there is no stack `{stack}` here that this agent runs"),
            details: Vec::new(),
        };
        let sent = self.orders.send((stack.to_owned(), order(reply))).await;
        sent.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Notes in the customer's record what the vendor has changed.
    async fn record<T>(
        &self,
        (caller, author): (&Caller, &str),
        (stack, action, release): (&str, &'static str, Option<String>),
        outcome: &Result<T, Refused>,
    ) {
        let outcome = match outcome {
            Ok(_) => "accepted".to_owned(),
            Err(refused) => refused.reason.clone(),
        };
        let event = Event::Stack {
            stack: stack.to_owned(),
            action,
            release,
            outcome,
        };
        let principal = match author {
            "" => caller.principal.clone(),
            author => author.to_owned(),
        };
        let entry = Entry {
            at: clock::timestamp(&self.site.world),
            event,
            principal,
            request_id: caller.request_id.clone(),
            target: "stacks".to_owned(),
        };
        self.site.audit.record(entry).await;
    }

    /// Takes an assignment, and notes it where it is a new one.
    async fn assign(&self, assignment: Assignment, caller: &Caller) -> Result<Accepted, Refused> {
        let known = self.site.board.report(&assignment.stack);
        let is_new = known.is_none_or(|known| known.assignment < assignment.number);
        let (stack, author) = (assignment.stack.clone(), assignment.author.clone());
        let (action, release) = match &assignment.desired {
            Desired::Run { release, .. } => ("deploy", Some(release.clone())),
            Desired::Absent { volumes: false } => ("remove", None),
            Desired::Absent { volumes: true } => ("remove_with_volumes", None),
        };
        let outcome = self.take(assignment).await;
        if is_new || outcome.is_err() {
            let what = (stack.as_str(), action, release);
            self.record((caller, &author), what, &outcome).await;
        }
        outcome
    }

    /// Takes an assignment. One that is known changes nothing.
    async fn take(&self, assignment: Assignment) -> Result<Accepted, Refused> {
        check_name(&assignment.stack)?;
        if let Desired::Run { stack, .. } = &assignment.desired
            && stack.name != assignment.stack
        {
            return Err(http::invalid("the release is of another stack"));
        }
        let known = self.site.board.report(&assignment.stack);
        let is_under_way = known.is_some_and(|known| {
            known.assignment == assignment.number
                && !matches!(known.phase, Phase::Receiving | Phase::Pulling)
        });
        if is_under_way {
            return Ok(Accepted::default());
        }
        let name = assignment.stack.clone();
        let assignment = Box::new(assignment);
        self.order(&name, |reply| Order::Assign { assignment, reply })
            .await
    }

    async fn cancel(&self, stack: &str, caller: &Caller) -> Result<(), Refused> {
        let outcome = self.order(stack, |reply| Order::Cancel { reply }).await;
        self.record((caller, ""), (stack, "cancel", None), &outcome)
            .await;
        outcome
    }

    async fn restart(
        &self,
        stack: &str,
        service: Option<String>,
        caller: &Caller,
    ) -> Result<(), Refused> {
        let outcome = self
            .order(stack, |reply| Order::Restart { service, reply })
            .await;
        self.record((caller, ""), (stack, "restart", None), &outcome)
            .await;
        outcome
    }

    /// What an assignment would do.
    async fn plan(&self, assignment: Assignment) -> Result<Plan, Refused> {
        check_name(&assignment.stack)?;
        let record = Record::new(assignment, self.site.now_ms());
        let Some(target) = &record.target else {
            let engine = self.site.engine_soon().await.map_err(http::of_fault)?;
            let found = engine.look(&record.stack, &engine::Wanted::default()).await;
            let found = found.map_err(http::of_fault)?;
            let observed = site::observed(&engine, found)
                .await
                .map_err(http::of_fault)?;
            return Ok(compose::plan::remove(
                &record.stack,
                &observed,
                record.remove_volumes,
            ));
        };
        self.plan_of(target, &record).await
    }

    async fn plan_of(&self, target: &Version, record: &Record) -> Result<Plan, Refused> {
        self.site.engine_soon().await.map_err(http::of_fault)?;
        let prepared = self
            .site
            .prepare(target, record)
            .await
            .map_err(http::of_fault)?;
        let in_force = self.site.policy.borrow().clone();
        let refusals = rules::refusals(&in_force.policy, &prepared);
        if !refusals.is_empty() {
            let place = in_force.place(&self.site.policy_path);
            return Err(Refused {
                code: "policy".to_owned(),
                reason: format!("{place} refuses it"),
                details: refusals,
            });
        }
        keeper::planned(&prepared).map_err(http::of_fault)
    }

    async fn logs(
        &self,
        stack: &str,
        query: &BTreeMap<String, String>,
    ) -> Result<impl Stream<Item = LogLine> + Send + use<>, Refused> {
        let engine = self.site.engine_soon().await.map_err(http::of_fault)?;
        logs::lines(engine, stack, query)
            .await
            .map_err(http::of_fault)
    }

    async fn append_blob(
        &self,
        digest: &str,
        place: (u64, u64),
        bytes: Bytes,
    ) -> Result<BlobState, Refused> {
        let (disk, digest) = (self.site.disk.clone(), digest.to_owned());
        let appended =
            tokio::task::spawn_blocking(move || disk.append_blob(&digest, place, &bytes)).await;
        let appended = appended.unwrap_or_else(|_| Err(io::Error::other("it ended")));
        let state = appended.map_err(|error| http::of_disk(&error))?;
        if state.complete {
            for stack in self.site.board.names() {
                let report = self.site.board.report(&stack);
                if report.is_some_and(|report| report.phase == Phase::Receiving) {
                    drop(self.orders.send((stack, Order::BlobArrived)).await);
                }
            }
        }
        Ok(state)
    }

    /// Which blobs of an image have to be sent: what is neither here nor in the Engine.
    async fn needed(&self, image: &ImageLoad) -> Result<Accepted, Refused> {
        self.may_load(image)?;
        let engine = self.site.engine_soon().await.map_err(http::of_fault)?;
        let missing = load::missing(&engine, &self.site.disk, image).await;
        let missing = missing.map_err(http::of_fault)?;
        Ok(Accepted { missing })
    }

    fn may_load(&self, image: &ImageLoad) -> Result<(), Refused> {
        let in_force = self.site.policy.borrow().clone();
        let docker = in_force.policy.docker();
        if docker.access == crate::policy::Access::Full {
            return Ok(());
        }
        crate::judge::content::image(docker, &image.reference).map_err(|denied| Refused {
            code: "policy".to_owned(),
            reason: format!("{}: {denied}", in_force.place(&self.site.policy_path)),
            details: Vec::new(),
        })
    }

    async fn load_image(&self, image: ImageLoad) -> Result<ImageLoaded, Refused> {
        self.may_load(&image)?;
        let engine = self.site.engine_soon().await.map_err(http::of_fault)?;
        let loaded = load::image(&engine, &self.site.disk, &image).await;
        let loaded = loaded.map_err(http::of_fault)?;
        let delivery = Delivery::Loaded {
            id: loaded.id.clone(),
            manifest: image.manifest,
        };
        self.site.deliveries.note(&image.reference, delivery);
        Ok(loaded)
    }

    /// The relay cannot send an image.
    fn image_refused(&self, refused: ImageRefused) {
        let delivery = Delivery::Refused(refused.reason);
        self.site.deliveries.note(&refused.reference, delivery);
    }
}

/// A name that is a project's, and a file's.
fn check_name(name: &str) -> Result<(), Refused> {
    let is_head = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let is_name = name.bytes().next().is_some_and(is_head)
        && name.bytes().all(|b| is_head(b) || matches!(b, b'-' | b'_'))
        && name.len() <= 63;
    match is_name {
        true => Ok(()),
        false => Err(http::invalid(
            "the name of a stack is up to 63 lower case letters, digits, `-` and `_`",
        )),
    }
}

impl Runner {
    /// Where it tells how every stack is.
    pub const fn board(&self) -> &Board {
        &self.site.board
    }

    /// Runs until its future is dropped.
    pub async fn run(self) {
        let Self {
            site,
            link,
            mut news,
            mut orders,
            meter,
            usages,
            kept,
            keepers,
        } = self;
        let mut beside = JoinSet::new();
        beside.spawn(link.run());
        beside.spawn(meter.run());
        let mut stacks = Running {
            site,
            usages,
            kept,
            keepers,
        };
        stacks.load();
        loop {
            tokio::select! {
                Some((stack, order)) = orders.recv() => stacks.pass(stack, order).await,
                Some(news) = news.recv() => stacks.hear(news).await,
                Some(ended) = stacks.keepers.join_next(), if !stacks.keepers.is_empty() => {
                    if let Ok(stack) = ended {
                        stacks.kept.remove(&stack);
                    }
                }
                else => return,
            }
        }
    }
}

/// What a runner has while it runs.
#[derive(Debug)]
struct Running {
    site: Site,
    usages: Usages,
    kept: BTreeMap<String, Kept>,
    keepers: JoinSet<String>,
}

impl Running {
    fn load(&mut self) {
        match self.site.disk.records() {
            Ok((records, broken)) => {
                for (path, error) in broken {
                    tracing::error!(
                        path, %error,
                        "a stack's record cannot be read; its containers run on as they are, \
                         and the next deployment takes them over"
                    );
                }
                let none = std::collections::BTreeSet::new();
                if let Err(error) = self.site.disk.sweep(&records, &none) {
                    tracing::warn!(%error, "files of old releases are still there");
                }
                records.into_iter().for_each(|record| self.keep(record));
            }
            Err(error) => tracing::error!(%error, "records of stacks cannot be read"),
        }
    }

    fn keep(&mut self, record: Record) {
        let (orders_sender, orders) = mpsc::channel(QUEUE);
        let (changed_sender, changed) = watch::channel(0);
        let name = record.stack.clone();
        let kept = Kept {
            orders: orders_sender,
            changed: changed_sender,
        };
        let site = self.site.clone();
        let keeper = Keeper::new(site, record, orders, changed, self.usages.clone());
        self.kept.insert(name.clone(), kept);
        self.keepers.spawn(async move {
            keeper.run().await;
            name
        });
    }

    async fn pass(&mut self, stack: String, order: Order) {
        if let Some(kept) = self.kept.get(&stack) {
            // Where it has just ended, whoever asked hears that it is not there.
            drop(kept.orders.send(order).await);
            return;
        }
        let Order::Assign { assignment, reply } = order else {
            return;
        };
        if self.kept.len() >= STACKS_MAX {
            let refused = http::invalid(&format!("an agent runs no more than {STACKS_MAX} stacks"));
            drop(reply.send(Err(refused)));
            return;
        }
        if matches!(assignment.desired, Desired::Absent { .. })
            && self.site.board.report(&stack).is_none()
        {
            // What is not there is away already.
            drop(reply.send(Ok(Accepted::default())));
            return;
        }
        let mut record = Record::new((*assignment).clone(), self.site.now_ms());
        // The keeper takes the assignment itself, and writes it down before it answers.
        record.assignment = record.assignment.saturating_sub(1);
        self.keep(record);
        if let Some(kept) = self.kept.get(&stack) {
            drop(kept.orders.send(Order::Assign { assignment, reply }).await);
        }
    }

    async fn hear(&mut self, news: News) {
        match news {
            News::Changed(project) => self.look(&project).await,
            News::Back => {
                for (name, kept) in &self.kept {
                    // Before the stack is looked at again: what it was is about to be compared.
                    let report = self.site.board.report(name);
                    if report.is_some_and(|report| report.phase.is_settled()) {
                        drop(kept.orders.send(Order::EngineBack).await);
                    }
                    kept.changed.send_modify(|count| *count += 1);
                }
                let Ok(engine) = self.site.engine() else {
                    return;
                };
                let projects = engine.projects().await.unwrap_or_default();
                let foreign = projects
                    .into_iter()
                    .filter(|name| !self.kept.contains_key(name));
                let foreign: Vec<String> = foreign.take(FOREIGN_MAX).collect();
                for project in foreign {
                    self.look(&project).await;
                }
            }
        }
    }

    async fn look(&mut self, project: &str) {
        if let Some(kept) = self.kept.get(project) {
            kept.changed.send_modify(|count| *count += 1);
            return;
        }
        if let Err(fault) = self.look_at_foreign(project).await {
            tracing::debug!(project, %fault, "a stack of another tool");
        }
    }

    async fn look_at_foreign(&self, project: &str) -> Result<(), fault::Fault> {
        let engine = self.site.engine()?;
        let found = engine.look(project, &engine::Wanted::default()).await?;
        let observed = site::observed(&engine, found).await?;
        if observed.containers.is_empty() {
            self.site.board.forget(project);
            return Ok(());
        }
        let known = self.site.board.report(project).map(|known| known.since_ms);
        let since = known.unwrap_or_else(|| self.site.now_ms());
        let usages = self.usages.now();
        self.site
            .board
            .tell(report::of_foreign(project, &observed, &usages, since));
        Ok(())
    }
}
