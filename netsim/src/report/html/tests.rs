//! The page as a parser sees it: well-formed, bounded, and alone.

use netsim_core::{expect::Outcome, model::World, random::Seed};
use proptest::prelude::*;
use roxmltree::{Document, Node, ParsingOptions};

use super::{super::fixture, *};
use crate::outcome::Run;

fn parsed(page: &str) -> Document<'_> {
    let options = ParsingOptions {
        allow_dtd: true,
        ..ParsingOptions::default()
    };
    Document::parse_with_options(page, options).expect("the page is well-formed")
}

fn of(runs: Vec<Run>) -> String {
    let suite = Suite {
        runs,
        ..Suite::default()
    };
    page(&suite, &fixture::about())
}

fn with_class<'a>(document: &'a Document<'_>, class: &'a str) -> Vec<Node<'a, 'a>> {
    let all = document.descendants();
    all.filter(|node| {
        let classes = node.attribute("class").unwrap_or_default();
        classes.split(' ').any(|one| one == class)
    })
    .collect()
}

#[test]
fn the_page_is_one_file_that_loads_nothing() {
    let page = page(&fixture::suite(), &fixture::about());
    let document = parsed(&page);

    for node in document.descendants() {
        for attribute in node.attributes() {
            let is_link = ["href", "src", "action"].contains(&attribute.name());
            let value = attribute.value();
            assert!(
                !is_link || value.starts_with('#') || value == "data:,",
                "{value}"
            );
        }
    }
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("@import"));
    assert!(!STYLE.contains("url("));
}

#[test]
fn every_link_of_the_page_leads_somewhere_and_no_place_is_there_twice() {
    let page = page(&fixture::suite(), &fixture::about());
    let document = parsed(&page);
    let mut ids: Vec<&str> = document
        .descendants()
        .filter_map(|node| node.attribute("id"))
        .collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);

    let links = document.descendants();
    let links = links.filter_map(|node| node.attribute("href"));
    for link in links.filter_map(|link| link.strip_prefix('#')) {
        assert!(ids.contains(&link), "{link}");
    }
}

#[test]
fn a_run_is_drawn_with_its_sessions_marks_plots_and_failures() {
    let page = of(vec![fixture::failed_run(3)]);
    let document = parsed(&page);

    assert_eq!(with_class(&document, "picture").len(), 1);
    // One session each, and one key each in the legend.
    assert_eq!(with_class(&document, "quic").len(), 2);
    assert_eq!(with_class(&document, "ws").len(), 2);
    assert_eq!(with_class(&document, "event").len(), 1);
    assert_eq!(with_class(&document, "failure").len(), 1);
    assert_eq!(with_class(&document, "plot").len(), 2);
    assert_eq!(with_class(&document, "chip").len(), 2);
    for told in [
        "<title>stream resumed, 31.5 s: 4</title>",
        "refused, 28.0 s: captive &lt;portal&gt; &amp; &quot;friends&quot;",
        "online over ws from 31.4 s to 60.0 s, 28.6 s",
        "sternline-netsim replay report/failures/udp-blocked-sim-3.toml",
        "<title>cut at 20.0 s, for 10.0 s</title>",
    ] {
        assert!(page.contains(told), "{told}");
    }
}

#[test]
fn the_picture_of_a_thousand_agents_is_bounded_and_says_so() {
    let page = of(vec![fixture::fleet(1_000)]);
    let document = parsed(&page);

    assert_eq!(with_class(&document, "lane").len(), lane::LANES_MAX);
    assert_eq!(with_class(&document, "fleet").len(), 1);
    assert!(page.contains("20 of 1,000 hosts are drawn"));
    assert!(page.len() < 150_000, "{} bytes", page.len());
}

#[test]
fn a_run_that_does_the_same_all_day_has_a_picture_of_the_same_size() {
    let mut run = fixture::run("open", World::Sim, 1);
    let lasted = run.lasted;
    let times = 2_000_u32;
    let once = (run.observations.clone(), run.samples.clone());
    run.observations.clear();
    run.samples.clear();
    for turn in 0..times {
        run.observations
            .extend(once.0.iter().cloned().map(|mut one| {
                one.at = one.at + lasted * turn;
                one
            }));
        run.samples.extend(once.1.iter().cloned().map(|mut one| {
            one.at = one.at + lasted * turn;
            one
        }));
    }
    run.lasted = lasted * times;

    let page = of(vec![run]);

    parsed(&page);
    assert!(page.len() < 1_000_000, "{} bytes", page.len());
}

#[test]
fn many_failures_are_drawn_no_more_than_a_few_times() {
    let runs = (0..500).map(fixture::failed_run).collect();

    let page = of(runs);

    let document = parsed(&page);
    assert_eq!(
        with_class(&document, "run").len(),
        summary::FAILED_IN_DETAIL_MAX
    );
    assert!(page.contains("497 more, of which 47; all are in report.json"));
}

#[test]
fn nothing_at_all_is_a_page_too() {
    assert!(of(Vec::new()).contains("nothing was run"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_of_others_breaks_out_of_its_place(text in any::<String>()) {
        let mut run = fixture::run("open", World::Sim, 1);
        run.checks[0].outcome = Outcome::Vacuous { why: text.clone() };
        run.checks[0].says.clone_from(&text);
        run.vacuous = vec![text.clone()];
        run.repro = Some(text.clone());
        for one in &mut run.observations {
            one.detail.clone_from(&text);
            one.host = one.host.as_ref().map(|_| Name::of(text.clone()));
        }
        run.seed = Seed(u64::MAX);

        let page = of(vec![run]);

        let document = parsed(&page);
        prop_assert_eq!(with_class(&document, "run").len(), 1);
    }
}
