//! Declares families in a registry, under the relay's prefix.

use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, Result, core::Collector,
};

/// Declares families under the relay's prefix.
pub(super) struct Declare<'a> {
    pub(super) registry: &'a Registry,
}

impl Declare<'_> {
    fn register<C: Collector + Clone + 'static>(&self, family: C) -> Result<C> {
        self.registry.register(Box::new(family.clone()))?;
        Ok(family)
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> Result<IntCounter> {
        self.register(IntCounter::with_opts(opts(name, help))?)
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> Result<IntGauge> {
        self.register(IntGauge::with_opts(opts(name, help))?)
    }

    pub(super) fn counters(&self, name: &str, help: &str, by: &[&str]) -> Result<IntCounterVec> {
        self.register(IntCounterVec::new(opts(name, help), by)?)
    }

    pub(super) fn gauges(&self, name: &str, help: &str, by: &[&str]) -> Result<IntGaugeVec> {
        self.register(IntGaugeVec::new(opts(name, help), by)?)
    }

    pub(super) fn histogram(&self, name: &str, help: &str, bounds: &[f64]) -> Result<Histogram> {
        let opts = HistogramOpts::from(opts(name, help)).buckets(bounds.to_vec());
        self.register(Histogram::with_opts(opts)?)
    }

    pub(super) fn histograms(
        &self,
        name: &str,
        help: &str,
        by: &[&str],
        bounds: &[f64],
    ) -> Result<HistogramVec> {
        let opts = HistogramOpts::from(opts(name, help)).buckets(bounds.to_vec());
        self.register(HistogramVec::new(opts, by)?)
    }
}

/// A family that a collector of ours fills at the scrape: the registry asks the
/// collector, and not the family.
pub(super) fn gauges_at_scrape(name: &str, help: &str, by: &[&str]) -> Result<IntGaugeVec> {
    IntGaugeVec::new(opts(name, help), by)
}

/// The same for what is no whole number.
pub(super) fn float_gauges_at_scrape(name: &str, help: &str, by: &[&str]) -> Result<GaugeVec> {
    GaugeVec::new(opts(name, help), by)
}

/// Gives every value of a label its series from the start, at 0: a rate over the
/// first event is then seen.
pub(super) fn begin(family: &IntCounterVec, values: impl IntoIterator<Item = &'static str>) {
    for value in values {
        family.with_label_values(&[value]).reset();
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("sternline_relay_{name}"), help)
}
