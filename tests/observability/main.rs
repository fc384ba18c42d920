//! What the SRE sees: the table of series, alerts, the dashboard and the runbook,
//! against a real relay and a real Prometheus.

mod page;
mod rules;
mod scrape;
mod series;
mod site;
