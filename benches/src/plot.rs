//! Bar charts as SVG, by hand: a bar a peer, with the range of its rounds.
//!
//! Colours follow the reader's choice of dark or light, the ground stays transparent,
//! and every value is written beside its bar: nothing is told by colour alone.

use std::fmt::Write;

use crate::statistics::Spread;

/// A chart: groups of bars over one scale.
#[derive(Debug, Clone)]
pub struct Chart {
    /// Above it.
    pub title: String,
    /// What a bar's length is, and which way is better.
    pub unit: String,
    /// From the top.
    pub groups: Vec<Group>,
}

/// Bars that belong together.
#[derive(Debug, Clone)]
pub struct Group {
    /// Beside it.
    pub name: String,
    /// From the top.
    pub bars: Vec<Bar>,
}

/// One bar.
#[derive(Debug, Clone)]
pub struct Bar {
    /// Beside it.
    pub name: String,
    /// Its length is the median; a line shows the range.
    pub spread: Spread,
    /// Ours, which stand out.
    pub is_ours: bool,
}

const WIDTH: f64 = 760.0;
const LABELS: f64 = 150.0;
const VALUES: f64 = 70.0;
const BAR: f64 = 14.0;
const GAP: f64 = 5.0;
const GROUP_GAP: f64 = 26.0;
const TOP: f64 = 52.0;

const STYLE: &str = "\
    text{font:12px system-ui,sans-serif;fill:#1f2328}\
    .title{font-size:15px;font-weight:600}\
    .unit,.group{fill:#59636e}\
    .group{font-weight:600}\
    .peer{fill:#8c959f}\
    .ours{fill:#0969da}\
    .range{stroke:#1f2328;stroke-width:1.2;fill:none}\
    .axis{stroke:#d1d9e0;stroke-width:1}\
    @media(prefers-color-scheme:dark){\
    text{fill:#f0f6fc}\
    .unit,.group{fill:#9198a1}\
    .peer{fill:#656c76}\
    .ours{fill:#4493f8}\
    .range{stroke:#f0f6fc}\
    .axis{stroke:#3d444d}}";

/// Draws it.
pub fn svg(chart: &Chart) -> String {
    let bars = |group: &Group| group.bars.len() as f64 * (BAR + GAP);
    let height = TOP
        + chart
            .groups
            .iter()
            .map(|group| bars(group) + GROUP_GAP)
            .sum::<f64>();
    let all = chart.groups.iter().flat_map(|group| &group.bars);
    let most = all.map(|bar| bar.spread.most).fold(0.0, f64::max);
    let scale = if most > 0.0 {
        (WIDTH - LABELS - VALUES) / most
    } else {
        0.0
    };
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         role=\"img\" aria-label=\"{title}\">\n<style>{STYLE}</style>\n\
         <text class=\"title\" x=\"0\" y=\"18\">{title}</text>\n\
         <text class=\"unit\" x=\"0\" y=\"36\">{unit}</text>\n",
        title = escape(&chart.title),
        unit = escape(&chart.unit),
    );
    let mut y = TOP;
    for group in &chart.groups {
        put_group(&mut text, group, (y, scale));
        y += bars(group) + GROUP_GAP;
    }
    text.push_str("</svg>\n");
    text
}

fn put_group(text: &mut String, group: &Group, (top, scale): (f64, f64)) {
    let mut y = top + 14.0;
    writeln!(
        text,
        "<text class=\"group\" x=\"0\" y=\"{:.1}\">{}</text>",
        top + 8.0,
        escape(&group.name)
    )
    .expect("a String takes everything");
    for bar in &group.bars {
        let (median, least, most) = (
            bar.spread.median * scale,
            bar.spread.least * scale,
            bar.spread.most * scale,
        );
        let (middle, baseline) = (y + BAR / 2.0, y + BAR - 3.0);
        let class = if bar.is_ours { "ours" } else { "peer" };
        writeln!(
            text,
            "<text x=\"{:.1}\" y=\"{baseline:.1}\" text-anchor=\"end\">{}</text>\
             <rect class=\"{class}\" x=\"{LABELS}\" y=\"{y:.1}\" width=\"{median:.1}\" \
             height=\"{BAR}\"/>\
             <path class=\"range\" d=\"M{:.1} {middle:.1}H{:.1}\"/>\
             <text x=\"{:.1}\" y=\"{baseline:.1}\">{}</text>",
            LABELS - 8.0,
            escape(&bar.name),
            LABELS + least,
            LABELS + most,
            LABELS + most.max(median) + 6.0,
            value(bar.spread.median)
        )
        .expect("a String takes everything");
        y += BAR + GAP;
    }
    writeln!(
        text,
        "<path class=\"axis\" d=\"M{LABELS} {:.1}V{:.1}\"/>",
        top + 12.0,
        y - GAP + 2.0
    )
    .expect("a String takes everything");
}

/// Three digits, or all before the point.
fn value(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// Text as XML takes it, in elements and in attributes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Control characters are not allowed in XML, escaped or not.
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(name: &str, values: &[f64]) -> Chart {
        Chart {
            title: "Speed <of> \"all\"".to_owned(),
            unit: "MB/s".to_owned(),
            groups: vec![Group {
                name: "down".to_owned(),
                bars: values
                    .iter()
                    .map(|value| Bar {
                        name: name.to_owned(),
                        spread: Spread::of([*value]).unwrap(),
                        is_ours: false,
                    })
                    .collect(),
            }],
        }
    }

    #[test]
    fn names_cannot_break_out_of_the_picture() {
        let drawn = svg(&chart("a<b&\"c'\u{7}", &[1.0]));

        assert!(drawn.contains("a&lt;b&amp;&quot;c&#39; <"), "{drawn}");
        assert!(drawn.contains("aria-label=\"Speed &lt;of&gt; &quot;all&quot;\""));
    }

    #[test]
    fn the_longest_bar_fills_the_width_and_the_others_their_share() {
        let drawn = svg(&chart("a", &[10.0, 5.0]));

        assert!(drawn.contains("width=\"540.0\""), "{drawn}");
        assert!(drawn.contains("width=\"270.0\""), "{drawn}");
    }

    #[test]
    fn a_chart_of_nothing_is_drawn_all_the_same() {
        assert!(svg(&chart("a", &[])).ends_with("</svg>\n"));
        assert!(svg(&chart("a", &[0.0])).contains("width=\"0.0\""));
    }
}
