//! The process, under the names that every exporter gives it: dashboards for
//! processes work as they are.

use prometheus::{
    Counter, Gauge, Opts, Result,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use tunnel::process::ProcessFigures;

/// Finds a gauge's figure.
type Read = fn(&ProcessFigures) -> Option<f64>;

/// Looks at the process at each scrape. A figure that the kernel does not give has no
/// series.
pub(super) struct ProcessSeries {
    cpu: Counter,
    gauges: Vec<(Gauge, Read)>,
}

impl ProcessSeries {
    pub(super) fn new() -> Result<Self> {
        let gauge = |name: &str, help: &str| Gauge::with_opts(Opts::new(name, help));
        Ok(Self {
            cpu: Counter::with_opts(Opts::new(
                "process_cpu_seconds_total",
                "Time on a processor, user and system together.",
            ))?,
            gauges: vec![
                (
                    gauge(
                        "process_resident_memory_bytes",
                        "Memory of the process that is in RAM.",
                    )?,
                    |figures| figures.resident_bytes.map(|bytes| bytes as f64),
                ),
                (
                    gauge(
                        "process_virtual_memory_bytes",
                        "Address space of the process.",
                    )?,
                    |figures| figures.virtual_bytes.map(|bytes| bytes as f64),
                ),
                (
                    gauge("process_threads", "Threads of the process.")?,
                    |figures| figures.threads.map(|threads| threads as f64),
                ),
                (
                    gauge("process_open_fds", "File descriptors open.")?,
                    |figures| figures.open_files.map(|files| files as f64),
                ),
                (
                    gauge("process_max_fds", "File descriptors that may be open.")?,
                    |figures| figures.open_files_max.map(|files| files as f64),
                ),
                (
                    gauge(
                        "process_start_time_seconds",
                        "When the process began, in seconds since 1970.",
                    )?,
                    |figures| figures.started_unix_seconds,
                ),
            ],
        })
    }
}

impl Collector for ProcessSeries {
    fn desc(&self) -> Vec<&Desc> {
        let gauges = self.gauges.iter().flat_map(|(gauge, _)| gauge.desc());
        self.cpu.desc().into_iter().chain(gauges).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let figures = ProcessFigures::look();
        let mut families = Vec::new();
        if let Some(seconds) = figures.cpu_seconds {
            // Two scrapes at once may look in the other order: a counter never falls.
            self.cpu.inc_by((seconds - self.cpu.get()).max(0.0));
            families.extend(self.cpu.collect());
        }
        for (gauge, read) in &self.gauges {
            if let Some(value) = read(&figures) {
                gauge.set(value);
                families.extend(gauge.collect());
            }
        }
        families
    }
}
