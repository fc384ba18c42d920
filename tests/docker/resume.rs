//! What the Docker CLI does while the line is cut under it: it goes on.

use tests::{Cable, SOON, eventually};
use tokio::io::AsyncWriteExt;

use crate::{bulk::write_noise, site::Site};

const MEBIBYTE: u64 = 1024 * 1024;

/// Cuts the line, and mends it once the relay has noticed.
async fn cut(site: &Site, cable: &Cable) {
    cable.cut();
    site.relay.shows("acme", "reconnecting", SOON * 2).await;
    cable.heal();
    site.relay.shows("acme", "online", SOON * 2).await;
}

async fn a_followed_log_has_every_line_over(transport: &'static str) {
    let Some((mut site, cable)) = Site::through_cable(transport).await else {
        return;
    };
    let name = site.runs("i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.05; done");
    let follow = site.docker_stays(&["logs", "-f", &name], "logs");
    follow.says("tick 1\n", SOON).await;

    for _ in 0..3 {
        cut(&site, &cable).await;
    }

    let so_far = follow.log().lines().count();
    eventually("the log goes on", SOON, async || {
        (follow.log().lines().count() > so_far + 20).then_some(())
    })
    .await;
    let log = follow.log();
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    for (number, line) in (1..).zip(whole.lines()) {
        assert_eq!(line, format!("tick {number}"), "over {transport}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_followed_log_loses_and_repeats_no_line_over_quic() {
    a_followed_log_has_every_line_over("quic").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_followed_log_loses_and_repeats_no_line_over_websocket() {
    a_followed_log_has_every_line_over("ws").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_typed_while_the_line_is_cut_arrives_once_and_in_order() {
    let Some((mut site, cable)) = Site::through_cable("ws").await else {
        return;
    };
    let name = site.runs("sleep 600");
    let inside = "echo ready; while read word; do echo got $word; done; echo done";
    let exec = ["exec", "-it", &name, "sh", "-c", inside];
    let mut terminal = site.docker_on_a_terminal(&exec, "terminal");
    let mut keyboard = terminal.keyboard();
    terminal.says("ready", SOON).await;

    let mut typed = Vec::new();
    for number in 0..3 {
        cable.cut();
        for part in ["at-once", "later"] {
            let word = format!("{part}-{number}");
            let line = format!("{word}\n");
            keyboard
                .write_all(line.as_bytes())
                .await
                .expect("a keyboard");
            typed.push(word);
            site.relay.shows("acme", "reconnecting", SOON * 2).await;
        }
        cable.heal();
        let last = format!("got {}", typed[typed.len() - 1]);
        terminal.says(&last, SOON * 2).await;
    }
    // Ctrl-D, on a line of its own, is the end.
    keyboard.write_all(b"\x04").await.expect("a keyboard");

    let status = terminal.ended(SOON).await;
    let shown = terminal.log();
    assert!(status.success(), "{status}: {shown}");
    let lines = shown.lines().map(str::trim_end);
    let got: Vec<&str> = lines.filter_map(|line| line.strip_prefix("got ")).collect();
    assert_eq!(got, typed, "{shown}");
    assert!(shown.trim_end().ends_with("done"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_loaded_whole_while_the_line_is_cut_again_and_again() {
    let Some((site, cable)) = Site::through_cable("ws").await else {
        return;
    };
    let tag = "sternline-test-resumed:1";
    let context = tempfile::tempdir().expect("a temporary folder");
    write_noise(&context.path().join("noise"), 256);
    site.engine.build(context.path(), tag);
    let file = site.scratch("image.tar").display().to_string();
    site.engine.says(&["save", "-o", &file, tag]);
    site.engine.says(&["image", "rm", "-f", tag]);

    let mut load = site.docker_stays(&["load", "-i", &file], "load");
    let mut cuts = 0;
    while load.is_running() && cuts < 5 {
        cut(&site, &cable).await;
        cuts += 1;
    }

    let status = load.ended(SOON * 6).await;
    assert!(status.success(), "{}", load.log());
    assert!(cuts > 0, "the line was never cut");
    let loaded = site
        .engine
        .says(&["run", "--rm", tag, "wc", "-c", "/context/noise"]);
    assert!(
        loaded.starts_with(&(256 * MEBIBYTE).to_string()),
        "{loaded}"
    );
    site.engine.says(&["image", "rm", "-f", tag]);
}
