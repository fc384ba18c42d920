//! What was measured of an agent over time: round trips as points over decades, and what
//! streams carried as bars from nothing.

use std::{collections::BTreeMap, time::Duration};

use super::{
    put,
    scale::{Decades, LEFT, RIGHT, Time, round_up},
};
use crate::{
    outcome::{Reading, Run},
    report::{escape::markup, figure},
};
use netsim_core::term::Name;

/// The most agents of a picture that have plots.
pub(super) const PLOTS_MAX: usize = 4;

/// How high a plot is.
const HEIGHT: f64 = 64.0;

/// What is between a plot and what follows.
const GAP: f64 = 18.0;

/// How many points are side by side at most: one every two pixels.
const COLUMN: f64 = 2.0;

/// Draws what there is of a host from `top` on, and says where it ends.
pub(super) fn plots(into: &mut String, run: &Run, (host, time): (&Name, Time), top: f64) -> f64 {
    let mut round_trips = Vec::new();
    let mut carried = Vec::new();
    for sample in run.samples.iter().filter(|sample| sample.host == *host) {
        let at = sample.at.since_start();
        match sample.reading {
            Reading::RoundTrip(span) => round_trips.push((at, span)),
            Reading::Carried { bytes, took } => {
                let rate = figure::rate(bytes, took);
                carried.extend(rate.map(|rate| (at.saturating_sub(took), at, rate)));
            }
        }
    }
    let mut bottom = top;
    if !round_trips.is_empty() {
        draw_round_trips(into, (host, time), &round_trips, bottom);
        bottom += HEIGHT + GAP;
    }
    if !carried.is_empty() {
        draw_carried(into, (host, time), &carried, bottom);
        bottom += HEIGHT + GAP;
    }
    bottom
}

fn draw_round_trips(
    into: &mut String,
    (host, time): (&Name, Time),
    points: &[(Duration, Duration)],
    top: f64,
) {
    let mut spans: Vec<Duration> = points.iter().map(|(_, span)| *span).collect();
    spans.sort_unstable();
    let title = format!(
        "Round trips of {host}: {}, median {}, longest {}",
        figure::counted(spans.len(), "measured", "measured"),
        figure::percentile(&spans, 50).map_or_else(String::new, figure::span),
        spans.last().copied().map_or_else(String::new, figure::span),
    );
    let decades = Decades::holding(spans.iter().copied());
    let y = |span| top + HEIGHT * (1.0 - decades.share(span));
    open(into, &title, ("round trip", "log scale"), top);
    for tick in decades.ticks() {
        grid_line(into, y(tick), &figure::span(tick));
    }
    // Of many points in a column, the extremes are what matters.
    let mut columns: BTreeMap<i64, (Duration, Duration)> = BTreeMap::new();
    for (at, span) in points {
        let extremes = columns.entry(column(time.x(*at))).or_insert((*span, *span));
        *extremes = (extremes.0.min(*span), extremes.1.max(*span));
    }
    into.push_str("<path class=\"dots\" d=\"");
    for (column, (low, high)) in columns {
        let x = place(column);
        put!(into, "M{x:.0} {:.1}h0", y(high));
        if low != high {
            put!(into, "M{x:.0} {:.1}h0", y(low));
        }
    }
    into.push_str("\"/></g>\n");
}

fn draw_carried(
    into: &mut String,
    (host, time): (&Name, Time),
    spans: &[(Duration, Duration, u64)],
    top: f64,
) {
    let mut rates: Vec<u64> = spans.iter().map(|(.., rate)| *rate).collect();
    rates.sort_unstable();
    let most = rates.last().copied().unwrap_or(1);
    let title = format!(
        "Throughput of {host}: {}, median {}, highest {}",
        figure::counted(rates.len(), "stream", "streams"),
        figure::percentile(&rates, 50).map_or_else(String::new, figure::bits_per_second),
        figure::bits_per_second(most),
    );
    let ceiling = round_up(most.max(1));
    open(into, &title, ("throughput", "of streams"), top);
    let base = top + HEIGHT;
    grid_line(into, base, "0");
    grid_line(into, top, &figure::bits_per_second(ceiling));
    // Of several streams in the same columns, the fastest is seen.
    let mut columns: BTreeMap<(i64, i64), u64> = BTreeMap::new();
    for (from, until, rate) in spans {
        let (from, until) = (column(time.x(*from)), column(time.x(*until)));
        let most = columns.entry((from, until.max(from + 1))).or_insert(0);
        *most = (*most).max(*rate);
    }
    into.push_str("<path class=\"bars\" d=\"");
    for ((from, until), rate) in columns {
        let height = HEIGHT * share(rate, ceiling);
        let (from, until) = (place(from), place(until));
        put!(
            into,
            "M{from:.0} {base:.1}v-{height:.1}H{until:.0}V{base:.1}z"
        );
    }
    into.push_str("\"/></g>\n");
}

fn open(into: &mut String, title: &str, (what, unit): (&str, &str), top: f64) {
    put!(
        into,
        "<g class=\"plot\"><title>{}</title>\
         <text class=\"what\" x=\"0\" y=\"{:.0}\">{what}</text>\
         <text class=\"unit\" x=\"0\" y=\"{:.0}\">{unit}</text>\n",
        markup(title),
        top + HEIGHT / 2.0 - 2.0,
        top + HEIGHT / 2.0 + 11.0,
    );
}

fn grid_line(into: &mut String, y: f64, label: &str) {
    put!(
        into,
        "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>\
         <text class=\"tick\" x=\"{:.0}\" y=\"{:.1}\">{}</text>\n",
        LEFT - 6.0,
        y + 3.5,
        markup(label),
    );
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a picture has some hundred columns"
)]
fn column(x: f64) -> i64 {
    (x / COLUMN).round() as i64
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a picture has some hundred columns"
)]
fn place(column: i64) -> f64 {
    column as f64 * COLUMN
}

#[expect(clippy::cast_precision_loss, reason = "a share of some sixty pixels")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}
