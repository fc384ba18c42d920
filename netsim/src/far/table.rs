//! What came of all rounds: medians with their ranges, and shares of plain TCP.

use std::time::Duration;

use super::{Flow, Pings, Plan, Sample, WARM_UP, Way};

/// A sample in a line, as it is told.
pub fn line(sample: &Sample) -> String {
    let of = |flow: &Flow| {
        format!(
            "{:.1} MB/s (first {} s {:.1}), ping {:.1} / {:.1} ms",
            megabytes(flow.bytes_per_second),
            WARM_UP.as_secs(),
            megabytes(flow.bytes_per_second_at_first),
            milliseconds(flow.pings.p50),
            milliseconds(flow.pings.p99),
        )
    };
    let mut text = format!(
        "{}{}: down {}; up {}; ping alone {:.1} ms; {} packets refused by the queue, \
         line late by {:.1} ms at most\n",
        sample.way.words(),
        via(sample),
        of(&sample.down),
        of(&sample.up),
        milliseconds(sample.alone.p50),
        sample.refused,
        milliseconds(sample.late),
    );
    for trouble in &sample.troubles {
        text.push_str(&format!("  {trouble}\n"));
    }
    text
}

/// Which transport was taken, where that was open.
fn via(sample: &Sample) -> String {
    match (&sample.transport, sample.way) {
        (Some(transport), Way::Auto) => format!(" ({transport})"),
        (Some(_) | None, _) => String::new(),
    }
}

/// All of them, as a table in Markdown.
pub fn markdown(plan: &Plan, samples: &[Sample]) -> String {
    let line = &plan.line;
    let congestion = plan.congestion.as_deref().unwrap_or("the machine's own");
    let mut text = format!(
        "{} each way, {}, queue {}; congestion control of TCP: {congestion}. {} rounds; a stream \
         is measured for {} s, {} s after its start. Medians, with the range of the rounds.\n\n\
         | | down, MB/s | of plain | up, MB/s | of plain | ping alone, ms | beside down, p50, p99 \
         | beside up, p50, p99 |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n",
        line.delay,
        line.rate,
        line.queue,
        plan.rounds,
        plan.window.as_secs(),
        WARM_UP.as_secs(),
    );
    for way in &plan.ways {
        text.push_str(&row(*way, samples));
    }
    text
}

/// What a sample says in one figure.
type Figure = fn(&Sample) -> f64;

const DOWN: Figure = |sample| megabytes(sample.down.bytes_per_second);
const UP: Figure = |sample| megabytes(sample.up.bytes_per_second);

fn row(way: Way, samples: &[Sample]) -> String {
    let pings = |of: fn(&Sample) -> Pings| {
        let median = |figure: fn(&Pings) -> Duration| {
            let all = of_way(way, samples).map(|sample| milliseconds(figure(&of(sample))));
            Spread::of(all).map_or_else(|| "–".to_owned(), |all| format!("{:.1}", all.median))
        };
        [median(|pings| pings.p50), median(|pings| pings.p99)].join(", ")
    };
    let alone = pings(|sample| sample.alone);
    let (alone, _) = alone.split_once(',').unwrap_or_default();
    let taken = of_way(way, samples).map(via).next().unwrap_or_default();
    format!(
        "| {}{taken} | {} | {} | {} | {} | {alone} | {} | {} |\n",
        way.words(),
        spread(way, samples, DOWN),
        share(way, samples, DOWN),
        spread(way, samples, UP),
        share(way, samples, UP),
        pings(|sample| sample.down.pings),
        pings(|sample| sample.up.pings),
    )
}

fn of_way(way: Way, samples: &[Sample]) -> impl Iterator<Item = &Sample> {
    samples.iter().filter(move |sample| sample.way == way)
}

fn spread(way: Way, samples: &[Sample], figure: Figure) -> String {
    let spread = Spread::of(of_way(way, samples).map(figure));
    spread.map_or_else(
        || "–".to_owned(),
        |all| format!("{:.1} ({:.1}–{:.1})", all.median, all.least, all.most),
    )
}

/// A median as a share of plain TCP's in the same run.
fn share(way: Way, samples: &[Sample], figure: Figure) -> String {
    let median = |way| Spread::of(of_way(way, samples).map(figure)).map(|all| all.median);
    match (median(way), median(Way::Plain)) {
        (Some(of), Some(plain)) => format!("{:.2}", of / plain),
        (Some(_) | None, _) => "–".to_owned(),
    }
}

/// A figure of all rounds.
#[derive(Debug, Clone, Copy)]
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            1 => *sorted.get(middle)?,
            _ => f64::midpoint(*sorted.get(middle.checked_sub(1)?)?, *sorted.get(middle)?),
        };
        Some(Self {
            median,
            least: *sorted.first()?,
            most: *sorted.last()?,
        })
    }
}

const fn megabytes(bytes: f64) -> f64 {
    bytes / 1e6
}

fn milliseconds(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::far::Line;

    fn sample(way: Way, speed: f64, ping: u64) -> Sample {
        let pings = Pings {
            p50: Duration::from_millis(ping),
            p99: Duration::from_millis(ping + 5),
            count: 100,
        };
        let flow = Flow {
            bytes_per_second: speed,
            bytes_per_second_at_first: speed / 2.0,
            pings,
        };
        Sample {
            way,
            transport: None,
            alone: pings,
            down: flow,
            up: flow,
            refused: 0,
            late: Duration::ZERO,
            troubles: Vec::new(),
        }
    }

    #[test]
    fn a_share_is_that_of_plain_tcp_in_the_same_run() {
        let plan = Plan {
            line: Line {
                delay: "40ms".to_owned(),
                rate: "200Mbit".to_owned(),
                queue: "2MiB".to_owned(),
            },
            congestion: None,
            ways: vec![Way::Plain, Way::Ws],
            rounds: 2,
            window: Duration::from_secs(10),
        };
        let samples = [
            sample(Way::Plain, 22e6, 80),
            sample(Way::Ws, 20e6, 90),
            sample(Way::Plain, 18e6, 82),
            sample(Way::Ws, 10e6, 92),
        ];

        let text = markdown(&plan, &samples);

        let rows: Vec<&str> = text.lines().rev().take(2).collect();
        assert_eq!(
            rows,
            [
                "| ws | 15.0 (10.0–20.0) | 0.75 | 15.0 (10.0–20.0) | 0.75 | 91.0 | 91.0, 96.0 \
                 | 91.0, 96.0 |",
                "| plain TCP | 20.0 (18.0–22.0) | 1.00 | 20.0 (18.0–22.0) | 1.00 | 81.0 \
                 | 81.0, 86.0 | 81.0, 86.0 |",
            ]
        );
    }
}
