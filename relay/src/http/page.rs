//! The page that a customer's network administrator is sent to. Whole in itself: it asks no
//! other server for anything, and runs nothing in the browser.

use super::probe::{CHECKSUM_PATH, PROGRAM, PROGRAM_PATH};
use crate::probe::Offered;

/// What the page is about.
pub(super) struct Facts<'a> {
    pub(super) host: &'a str,
    pub(super) https_port: u16,
    pub(super) tunnel_port: u16,
    pub(super) identity: &'a str,
    pub(super) version: &'a str,
    /// `None`: the program is not here.
    pub(super) offered: Option<&'a Offered>,
    /// Whether no browser trusts the certificate.
    pub(super) is_certificate_own: bool,
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;\
    padding:0 1rem;color:#1b1f24;background:#fff}h1{font-size:1.4rem}h2{font-size:1.1rem;\
    margin-top:1.8rem}pre{background:#f3f4f6;border:1px solid #d5d9de;border-radius:4px;\
    padding:.8rem;overflow-x:auto}code{font-family:ui-monospace,monospace;font-size:.9em}\
    table{border-collapse:collapse}td,th{text-align:left;padding:.2rem 1.2rem .2rem 0;\
    vertical-align:top}.note{border-left:4px solid #b45309;padding-left:.8rem}\
    @media(prefers-color-scheme:dark){body{color:#e6e8eb;background:#15181c}\
    pre{background:#1f242a;border-color:#39414a}}";

/// The page as HTML.
pub(super) fn render(facts: &Facts<'_>) -> String {
    let host = escape(facts.host);
    let (https, tunnel) = (facts.https_port, facts.tunnel_port);
    let body = match facts.offered {
        Some(offered) => instructions(facts, offered),
        None => absent(facts),
    };
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>Sternline: what does this network let through?</title>\
         <style>{STYLE}</style></head><body>\n\
         <h1>What does this network let through to {host}?</h1>\n\
         <p>This relay is reached by an agent that dials out from your network; nothing \
         connects in. Before anything is installed, the probe tells which of its ways are open \
         from where the agent will run, what stands in between, and which rule to add. It is \
         one program, it runs as an ordinary user, it installs nothing and it sends nothing \
         to anybody unless you ask it to.</p>\n\
         <h2>What must be open, outbound</h2>\n\
         <table><tr><th>To</th><th>For</th><th></th></tr>\
         <tr><td>{host} <code>{https}/tcp</code></td><td>HTTPS</td><td>required</td></tr>\
         <tr><td>{host} <code>{tunnel}/tcp</code></td><td>WebSocket over TLS</td>\
         <td>required</td></tr>\
         <tr><td>{host} <code>{tunnel}/udp</code></td><td>QUIC</td><td>better with it</td></tr>\
         </table>\n{body}\
         <p>The relay's identity key, which the probe and the agent compare:<br>\
         <code>{identity}</code></p>\n\
         <p>Sternline relay {version}</p>\n</body></html>\n",
        identity = escape(facts.identity),
        version = escape(facts.version),
    )
}

fn instructions(facts: &Facts<'_>, offered: &Offered) -> String {
    let command = escape(&command(facts, offered));
    let sha256 = escape(&offered.sha256);
    let trust = match facts.is_certificate_own {
        true => {
            "<p class=\"note\">This relay's certificate is its own, which no browser vouches for \
             (so the command has <code>--insecure</code>). Whoever sits between could show you \
             another page with another checksum and another key: <b>take the checksum and the \
             key from your vendor's mail</b>, and compare them with these before you run \
             it.</p>\n"
        }
        false => {
            "<p>If your browser trusts this page's certificate because somebody in your network \
             has installed one, compare the checksum and the key with your vendor's mail.</p>\n"
        }
    };
    format!(
        "<h2>Run it</h2>\n<p>On Linux (x86_64 or as your vendor says), on the machine or in the \
         subnet where the agent will run:</p>\n<pre><code>{command}</code></pre>\n\
         <p>SHA-256 of the program ({size} bytes): <code>{sha256}</code><br>\
         <a href=\"{PROGRAM_PATH}\">{PROGRAM}</a>, \
         <a href=\"{CHECKSUM_PATH}\">{PROGRAM}.sha256</a></p>\n{trust}\
         <p>With <code>--full</code> it also looks for timers that cut idle connections, which \
         takes ten minutes; with <code>--report probe.html</code> it writes a page that you can \
         attach to a ticket.</p>\n",
        size = offered.size,
    )
}

fn absent(facts: &Facts<'_>) -> String {
    let command = escape(&run(facts));
    format!(
        "<h2>The program is not here yet</h2>\n<p class=\"note\">Your vendor has not put it at \
         this relay. Ask for the program <code>{PROGRAM}</code> and its SHA-256, and run \
         it:</p>\n<pre><code>{command}</code></pre>\n\
         <p>For the vendor: put <code>{PROGRAM}</code> beside the relay's own program, or name \
         it with <code>probe.program</code> in the relay's configuration \
         (<code>STERNLINE_RELAY_PROBE_PROGRAM</code>). It is handed out from then on, without \
         a restart.</p>\n"
    )
}

fn command(facts: &Facts<'_>, offered: &Offered) -> String {
    let host = match facts.host.contains(':') {
        true => format!("[{}]", facts.host),
        false => facts.host.to_owned(),
    };
    let port = match facts.https_port {
        443 => String::new(),
        port => format!(":{port}"),
    };
    let insecure = match facts.is_certificate_own {
        true => "--insecure ",
        false => "",
    };
    format!(
        "curl -fSL {insecure}-o {PROGRAM} https://{host}{port}{PROGRAM_PATH} \\\n  \
         && echo '{sha256}  {PROGRAM}' | sha256sum -c - \\\n  \
         && chmod +x {PROGRAM} \\\n  && {run}",
        sha256 = offered.sha256,
        run = run(facts),
    )
}

fn run(facts: &Facts<'_>) -> String {
    let mut run = format!("./{PROGRAM} {}", facts.host);
    if facts.https_port != 443 {
        run += &format!(" --https-port {}", facts.https_port);
    }
    if facts.tunnel_port != 8000 {
        run += &format!(" --tunnel-port {}", facts.tunnel_port);
    }
    format!("{run} --pin {}", facts.identity)
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
