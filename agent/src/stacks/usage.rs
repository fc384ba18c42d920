//! What containers of stacks use, for as long as somebody follows. The Engine tells nobody
//! when that changes, so it is asked, seldom.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bollard::{models::ContainerStatsResponse, query_parameters::StatsOptions};
use compose::exchange::{StackReport, Usage};
use futures_util::StreamExt;
use tokio::sync::watch;

use super::site::Site;

/// How often. One request a container, which the Engine answers from counters of the kernel.
const ASK_EVERY: Duration = Duration::from_secs(30);
/// Containers that are asked about.
const CONTAINERS_MAX: usize = 200;

type Map = Arc<BTreeMap<String, Usage>>;

/// The newest figures, by container id.
#[derive(Debug, Clone)]
pub struct Usages(watch::Receiver<Map>);

impl Usages {
    /// As they are.
    pub fn now(&self) -> Map {
        self.0.borrow().clone()
    }

    /// Once there are newer ones; for ever where there will be none.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Asks again and again.
#[derive(Debug)]
pub struct Meter {
    site: Site,
    told: watch::Sender<Map>,
    before: BTreeMap<String, (u64, Instant)>,
}

impl Meter {
    /// One that has not yet asked, and where its figures are found.
    pub fn new(site: Site) -> (Self, Usages) {
        let (told, usages) = watch::channel(Map::default());
        let meter = Self {
            site,
            told,
            before: BTreeMap::new(),
        };
        (meter, Usages(usages))
    }

    /// Runs until its future is dropped.
    pub async fn run(mut self) {
        loop {
            tokio::time::sleep(ASK_EVERY).await;
            if self.site.board.is_followed() {
                self.ask().await;
            }
        }
    }

    async fn ask(&mut self) {
        let Ok(engine) = self.site.engine() else {
            return;
        };
        let reports = self.site.board.names();
        let reports = reports
            .iter()
            .filter_map(|name| self.site.board.report(name));
        let ids: Vec<String> = reports.flat_map(|report| running(&report)).collect();
        let (mut usages, mut before) = (BTreeMap::new(), BTreeMap::new());
        for id in ids.into_iter().take(CONTAINERS_MAX) {
            let options = StatsOptions {
                stream: false,
                one_shot: true,
            };
            let mut stats = std::pin::pin!(engine.docker().stats(&id, Some(options)));
            let Some(Ok(stats)) = stats.next().await else {
                continue;
            };
            let now = self.site.world.clock.now();
            let full = stats.id.clone().unwrap_or_default();
            let total = processor_nanoseconds(&stats);
            if let Some(usage) = usage(&stats, self.before.get(&full), (total, now)) {
                usages.insert(full.clone(), usage);
            }
            before.insert(full, (total, now));
        }
        self.before = before;
        self.told.send_replace(Arc::new(usages));
    }
}

fn running(report: &StackReport) -> Vec<String> {
    let containers = report
        .services
        .values()
        .flat_map(|service| &service.containers);
    let running = containers.filter(|container| container.state == "running");
    running.map(|container| container.id.clone()).collect()
}

fn processor_nanoseconds(stats: &ContainerStatsResponse) -> u64 {
    let usage = stats
        .cpu_stats
        .as_ref()
        .and_then(|cpu| cpu.cpu_usage.as_ref());
    usage
        .and_then(|usage| usage.total_usage)
        .unwrap_or_default()
}

/// Cores over the time since the figures before; nothing the first time.
fn usage(
    stats: &ContainerStatsResponse,
    before: Option<&(u64, Instant)>,
    (total, now): (u64, Instant),
) -> Option<Usage> {
    let (total_before, then) = before?;
    let nanoseconds = now.saturating_duration_since(*then).as_nanos();
    let used = total.saturating_sub(*total_before);
    #[expect(
        clippy::cast_precision_loss,
        reason = "a figure for people, of two digits"
    )]
    let cores = used as f64 / (nanoseconds.max(1) as f64);
    let memory = stats.memory_stats.as_ref()?;
    let parts = memory.stats.as_ref();
    // As the Engine's own tool does it, for cgroups of either version.
    let cache = parts.and_then(|parts| {
        let inactive = parts.get("inactive_file");
        inactive.or_else(|| parts.get("total_inactive_file"))
    });
    let cache = cache.copied().unwrap_or_default();
    Some(Usage {
        cpu_cores: (cores * 100.0).round() / 100.0,
        memory_bytes: memory.usage.unwrap_or_default().saturating_sub(cache),
        memory_limit_bytes: memory.limit,
    })
}
