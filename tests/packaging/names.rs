//! Names are looked up without a library of the host, whatever its `nsswitch.conf` says.

use std::{fs, path::Path};

use tests::{Process, Relay, SOON, binary, eventually, skip};

/// On a host like this nothing is found by whoever asks what the file names first: a
/// library that is not there.
const NSSWITCH: &str = "hosts: absent [UNAVAIL=return] files dns\npasswd: absent\n";

const REAL: &str = "/etc/nsswitch.conf";

/// A shell's line that shows `$1` as the host's `nsswitch.conf` to the command that
/// follows, and to nobody else.
const SHOWN: &str = "mount --bind \"$1\" /etc/nsswitch.conf && shift && exec \"$@\"";

/// The command `program arguments…` behind such a file, or none with the test skipped.
fn behind<'a>(file: &'a str, program: &'a str, arguments: &[&'a str]) -> Option<Vec<&'a str>> {
    if !rustix::process::geteuid().is_root() || !Path::new(REAL).exists() {
        skip("only root may show a program another nsswitch.conf, where there is one");
        return None;
    }
    let mut all = vec!["--mount", "sh", "-c", SHOWN, "sh", file, program];
    all.extend_from_slice(arguments);
    Some(all)
}

#[tokio::test(flavor = "multi_thread")]
async fn both_programs_find_a_name_where_nsswitch_names_a_library_first() {
    let relay = Relay::start().await;
    let token = relay.add("acme").await;
    let write = |name: &str, text: &str| {
        let path = relay.scratch(name);
        fs::write(&path, text).expect("a file in a temporary folder");
        path.display().to_string()
    };
    let (nsswitch, token) = (write("nsswitch.conf", NSSWITCH), write("token", &token));
    let (url, ca) = (
        format!("https://localhost:{}", relay.https.port()),
        relay.data_dir().join("ca.crt").display().to_string(),
    );
    let api_token = relay.data_dir().join("admin.token").display().to_string();
    let operator = binary("sternline-relay").display().to_string();
    let agent = binary("sternline-agent").display().to_string();
    let state_dir = relay.scratch("state").display().to_string();
    let run = ["run", "--state-dir", &state_dir, "--token-file", &token];
    let list = [
        "env",
        "list",
        "--relay",
        &url,
        "--ca",
        &ca,
        "--api-token-file",
        &api_token,
    ];
    let Some(run) = behind(&nsswitch, &agent, &run) else {
        return;
    };
    let Some(list) = behind(&nsswitch, &operator, &list) else {
        return;
    };

    let unshare = Path::new("unshare");
    let _running = Process::start(unshare, &run, &relay.scratch("agent.log"));
    relay.shows("acme", "online", SOON).await;
    let listed = eventually("the operator's command reaches it", SOON, async || {
        let finished = Process::run(unshare, &list, |_| ()).await;
        finished.status.success().then_some(finished.stdout)
    })
    .await;

    assert!(listed.contains("acme"), "{listed}");
}
