//! The picture of a run: events above, a lane for each host below, what was measured
//! under its lane, and one axis of time through all of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use netsim_core::expect::Outcome;

use super::{
    event::{self, Event, Naming},
    fleet,
    lane::{self, Lane, Mark},
    plot, put,
    scale::{LEFT, RIGHT, Time, WIDTH},
};
use crate::{
    outcome::Run,
    report::{escape::markup, figure},
};

/// Heights of what is drawn.
const AXIS: f64 = 30.0;
const EVENT_ROW: f64 = 20.0;
const LANE: f64 = 48.0;

/// How near to each other marks of a kind are one mark.
const NEAR: f64 = 6.0;

/// How many marks are told of one by one in the title of theirs.
const TOLD_MAX: usize = 6;

/// The longest name of a host that has room, in letters.
const NAME_MAX: usize = 17;

/// A picture, and what its reader should know beside it.
pub(super) struct Picture {
    /// An SVG element.
    pub(super) svg: String,
    /// Which transports are in it.
    pub(super) transports: BTreeSet<String>,
    /// Which marks are.
    pub(super) marks: BTreeSet<Mark>,
    /// What was left out, as sentences.
    pub(super) left_out: Vec<String>,
}

/// Draws a run. `id` is unique on the page.
pub(super) fn of(run: &Run, id: &str) -> Picture {
    let time = Time::of(run.lasted);
    let lanes = lane::lanes(run);
    let shown = lane::shown(&lanes, run);
    let events = event::events(run, time);
    let mut below = String::new();
    let mut y = AXIS;
    let events_top = y;
    let rows = events.iter().filter_map(|event| event.place);
    let rows = rows.map(|(row, _)| row + 1).max().unwrap_or(0);
    y += EVENT_ROW * f64::from(u32::try_from(rows).unwrap_or(0)) + 8.0;
    if shown.len() < lanes.len() {
        y = fleet::draw(&mut below, &lanes, time, y);
    }
    let mut plotted = 0;
    for lane in &shown {
        draw_lane(&mut below, lane, time, y);
        y += LANE;
        if plotted < plot::PLOTS_MAX {
            let bottom = plot::plots(&mut below, run, (lane.host, time), y);
            if bottom > y {
                plotted += 1;
                y = bottom;
            }
        }
    }
    let mut svg = String::new();
    open(&mut svg, run, id, y);
    draw_shades(&mut svg, &events, time, (events_top, y));
    draw_axis(&mut svg, time, y);
    svg.push_str(&below);
    draw_events(&mut svg, &events, time, events_top);
    draw_failures(&mut svg, run, time, y);
    svg.push_str("</svg>\n");
    Picture {
        svg,
        transports: transports(&shown),
        marks: shown.iter().flat_map(|lane| kinds(lane)).collect(),
        left_out: left_out(run, (&lanes, &shown), &events),
    }
}

fn transports(shown: &[&Lane<'_>]) -> BTreeSet<String> {
    let bands = shown.iter().flat_map(|lane| &lane.bands);
    bands.map(|band| band.transport.to_owned()).collect()
}

fn kinds<'l>(lane: &'l Lane<'_>) -> impl Iterator<Item = Mark> + 'l {
    lane.marks.iter().map(|(_, mark, _)| *mark)
}

fn left_out(
    run: &Run,
    (lanes, shown): (&[Lane<'_>], &[&Lane<'_>]),
    events: &[Event<'_>],
) -> Vec<String> {
    let mut sentences = Vec::new();
    if shown.len() < lanes.len() {
        sentences.push(format!(
            "{} of {} hosts are drawn: those that failures name, then those with the most \
             trouble and the least time online.",
            shown.len(),
            figure::count(lanes.len()),
        ));
    }
    let measured: BTreeSet<_> = run.samples.iter().map(|sample| &sample.host).collect();
    if measured.len() > plot::PLOTS_MAX {
        sentences.push(format!(
            "Plots are drawn for the first {} of {} hosts that were measured.",
            plot::PLOTS_MAX,
            figure::count(measured.len())
        ));
    }
    if events.len() == event::EVENTS_MAX {
        sentences.push(format!("The first {} events are drawn.", event::EVENTS_MAX));
    }
    let nameless = events.iter().filter(|event| event.place.is_none()).count();
    if nameless > 0 {
        let have = figure::counted(nameless, "event has", "events have");
        sentences.push(format!("{have} no room for a name."));
    }
    sentences
}

fn open(svg: &mut String, run: &Run, id: &str, height: f64) {
    let height = height + 6.0;
    put!(
        svg,
        "<svg class=\"picture\" viewBox=\"0 0 {WIDTH} {height:.0}\" width=\"{WIDTH}\" \
         height=\"{height:.0}\" role=\"img\" aria-labelledby=\"{id}-title {id}-about\">\
         <title id=\"{id}-title\">Timeline of {} in {}, seed {}</title>\
         <desc id=\"{id}-about\">Events, then a lane for each host: when it was online and over \
         which transport, and what happened to it. The same is in the list of observations \
         below.</desc>\n",
        markup(run.scenario.as_str()),
        run.world,
        run.seed.0,
    );
}

/// Faults last through all lanes.
fn draw_shades(svg: &mut String, events: &[Event<'_>], time: Time, (top, bottom): (f64, f64)) {
    for event in events {
        let (from, until) = event.ends(time);
        let class = if event.until.is_some() {
            "shade"
        } else {
            "instant"
        };
        put!(
            svg,
            "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{top:.0}\" width=\"{:.1}\" \
             height=\"{:.0}\"/>\n",
            if event.until.is_some() {
                until - from
            } else {
                1.0
            },
            bottom - top,
        );
    }
}

fn draw_axis(svg: &mut String, time: Time, bottom: f64) {
    svg.push_str("<g class=\"axis\">");
    for tick in time.ticks() {
        let x = time.x(tick);
        put!(
            svg,
            "<path d=\"M{x:.1} {}V{bottom:.0}\"/><text x=\"{x:.1}\" y=\"14\">{}</text>\n",
            AXIS - 10.0,
            figure::moment(tick),
        );
    }
    svg.push_str("</g>\n");
}

fn draw_events(svg: &mut String, events: &[Event<'_>], time: Time, top: f64) {
    if events.is_empty() {
        return;
    }
    put!(
        svg,
        "<text class=\"what\" x=\"0\" y=\"{:.0}\">events</text>\n",
        top + 12.0
    );
    for event in events {
        let Some((row, naming)) = event.place else {
            continue;
        };
        let y = top + EVENT_ROW * f64::from(u32::try_from(row).unwrap_or(0));
        let (from, until) = event.ends(time);
        let (x, anchor) = match naming {
            Naming::Inside => (from + 5.0, "start"),
            Naming::After => (until + 4.0, "start"),
            Naming::Before => (from - 4.0, "end"),
        };
        let lasted = event.until.map_or_else(String::new, |until| {
            format!(", for {}", figure::span(until.saturating_sub(event.from)))
        });
        put!(
            svg,
            "<g class=\"event\"><title>{0} at {1}{lasted}</title>\
             <rect x=\"{from:.1}\" y=\"{y:.0}\" width=\"{2:.1}\" height=\"16\" rx=\"2\"/>\
             <text x=\"{x:.1}\" y=\"{3:.0}\" text-anchor=\"{anchor}\">{0}</text></g>\n",
            markup(event.name),
            figure::span(event.from),
            until - from,
            y + 12.0,
        );
    }
}

fn draw_lane(into: &mut String, lane: &Lane<'_>, time: Time, top: f64) {
    let host = lane.host.as_str();
    let share = 100.0 * lane.online().as_secs_f64() / time.end().as_secs_f64();
    // What is almost whole is not whole.
    let share = (share * 10.0).floor() / 10.0;
    let name = if host.chars().count() > NAME_MAX {
        format!("{}…", host.chars().take(NAME_MAX - 1).collect::<String>())
    } else {
        host.to_owned()
    };
    put!(
        into,
        "<g class=\"lane\"><text class=\"host\" x=\"0\" y=\"{:.0}\">{}<title>{}</title></text>\
         <text class=\"unit\" x=\"0\" y=\"{:.0}\">online {share} %</text>\
         <path class=\"offline\" d=\"M{LEFT} {:.1}H{RIGHT}\"/>\n",
        top + 14.0,
        markup(&name),
        markup(host),
        top + 27.0,
        top + 11.0,
    );
    draw_bands(into, lane, time, top);
    draw_marks(into, lane, time, top);
    into.push_str("</g>\n");
}

fn draw_bands(into: &mut String, lane: &Lane<'_>, time: Time, top: f64) {
    for band in &lane.bands {
        let (from, until) = (time.x(band.from), time.x(band.until));
        let width = (until - from).max(1.5);
        let known = ["quic", "ws", "ws-443"];
        let class = known.iter().find(|known| **known == band.transport);
        let transport = markup(band.transport);
        put!(
            into,
            "<g class=\"band {}\"><title>online over {transport} from {} to {}, {}</title>\
             <rect x=\"{from:.1}\" y=\"{:.0}\" width=\"{width:.1}\" height=\"16\" rx=\"2\"/>",
            class.unwrap_or(&"other"),
            figure::span(band.from),
            figure::span(band.until),
            figure::span(band.until.saturating_sub(band.from)),
            top + 3.0,
        );
        // Where there is room, the transport is written and need not be guessed.
        if width > 46.0 {
            put!(
                into,
                "<text x=\"{:.1}\" y=\"{:.0}\">{transport}</text>",
                from + 6.0,
                top + 15.0
            );
        }
        into.push_str("</g>\n");
    }
    for (from, until) in &lane.half_open {
        let (x, end) = (time.x(*from), time.x(*until));
        put!(
            into,
            "<rect class=\"half-open\" x=\"{x:.1}\" y=\"{:.0}\" width=\"{:.1}\" height=\"20\">\
             <title>half-open for {}</title></rect>\n",
            top + 1.0,
            (end - x).max(2.0),
            figure::span(until.saturating_sub(*from)),
        );
    }
}

/// Marks in two rows: of connections, and of what they carry. What is of one kind and
/// near together is one mark that tells of all.
fn draw_marks(into: &mut String, lane: &Lane<'_>, time: Time, top: f64) {
    let mut near: BTreeMap<(Mark, u64), Vec<(Duration, &str)>> = BTreeMap::new();
    for (at, mark, detail) in &lane.marks {
        let place = near.entry((*mark, column(time.x(*at)))).or_default();
        place.push((*at, detail));
    }
    for ((mark, _), those) in near {
        let Some((first, _)) = those.first() else {
            continue;
        };
        let y = top + if mark.is_of_connection() { 27.0 } else { 39.0 };
        let told = those.iter().take(TOLD_MAX).map(|(at, detail)| {
            let colon = if detail.is_empty() { "" } else { ": " };
            format!("{}{colon}{detail}", figure::span(*at))
        });
        let mut told: Vec<String> = told.collect();
        if those.len() > TOLD_MAX {
            told.push("…".to_owned());
        }
        let times = match those.len() {
            1 => String::new(),
            number => format!(" ×{}", figure::count(number)),
        };
        put!(
            into,
            "<use href=\"#mark-{}\" x=\"{:.1}\" y=\"{y:.0}\"><title>{}{times}, {}</title></use>\n",
            mark.symbol(),
            time.x(*first),
            mark.says(),
            markup(&told.join("; ")),
        );
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "places are inside of the picture"
)]
fn column(x: f64) -> u64 {
    (x / NEAR) as u64
}

/// From when on expectations failed.
fn draw_failures(svg: &mut String, run: &Run, time: Time, bottom: f64) {
    let mut failures: BTreeMap<Duration, Vec<&str>> = BTreeMap::new();
    for check in &run.checks {
        if let Outcome::Failed { at, .. } = &check.outcome {
            let says = failures.entry(at.since_start()).or_default();
            says.push(&check.says);
        }
    }
    for (at, says) in failures {
        let x = time.x(at);
        put!(
            svg,
            "<g class=\"failure\"><title>failed at {}: {}</title>\
             <path d=\"M{x:.1} 24V{bottom:.0}\"/>\
             <circle cx=\"{x:.1}\" cy=\"24\" r=\"6\"/>\
             <path class=\"sign\" d=\"M{2:.1} 21.6l4.8 4.8m0 -4.8l-4.8 4.8\"/></g>\n",
            figure::span(at),
            markup(&says.join("; ")),
            x - 2.4,
        );
    }
}
