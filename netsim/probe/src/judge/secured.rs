//! TCP came about, and the relay's proof did not: who is it?

use super::{
    finding::Finding,
    scene::{Scene, issuer, leaf_key},
};
use crate::{
    observe::{Attempt, Fault, FaultKind, Flow, HttpAnswer, Stage, Variation},
    verdict::{Cause, Code, Confidence},
};

/// Judges an attempt that ended at TLS.
pub(super) fn tls(scene: Scene<'_>, attempt: &Attempt, fault: &Fault) -> Finding {
    if let Some(portal) = portal(scene, attempt) {
        return portal;
    }
    match fault.kind {
        FaultKind::Busy => {
            let says = "the relay is there, and says that it has no time now";
            Finding::blocked(Confidence::High, Cause::new(Code::Relay, says))
        }
        FaultKind::NotTls => not_tls(scene, attempt, fault),
        _ if scene.is_busy(attempt.address) => beside_a_busy_door(scene, attempt, fault),
        _ if Scene::is_cut(fault) || fault.kind == FaultKind::Alert => cut(scene, attempt, fault),
        _ => Finding::cannot_tell(format!("TLS fails: {}", fault.says)),
    }
}

/// A relay that has no time turns everybody away, and some come in by luck: what differs between
/// attempts then says nothing about anybody between.
pub(super) fn beside_a_busy_door(scene: Scene<'_>, attempt: &Attempt, fault: &Fault) -> Finding {
    let flow = attempt.flow;
    let (port, protocol) = (scene.seen.target.port(flow), flow.protocol());
    match fault.kind {
        FaultKind::Reset | FaultKind::Ended | FaultKind::Refused => {
            let says = format!(
                "{port}/{protocol} is closed at once, and at another door the relay says that it \
                 has no time now"
            );
            Finding::blocked(Confidence::Medium, Cause::new(Code::Relay, says))
        }
        _ => Finding::cannot_tell(format!(
            "{port}/{protocol} leads to nothing ({}), and the relay says at another door that it \
             has no time now: try again when it has",
            fault.says
        )),
    }
}

fn not_tls(scene: Scene<'_>, attempt: &Attempt, fault: &Fault) -> Finding {
    let status = fault.says.split_once("HTTP/1.").and_then(|(_, rest)| {
        let status = rest.split(' ').nth(1)?;
        status.get(..3)?.parse::<u16>().ok()
    });
    if let Some(status) = status.filter(|_| scene.seen.portal.is_some()) {
        let (code, says) = match status {
            301 | 302 | 303 | 307 | 308 | 511 => (
                Code::CaptivePortal,
                "a captive portal leads elsewhere in the place of TLS: somebody has to log in",
            ),
            _ => (
                Code::TransparentProxy,
                "something on the way answers with plain HTTP in the place of TLS",
            ),
        };
        let mut cause = Cause::new(code, says);
        cause.status = Some(status);
        return Finding::blocked(Confidence::Medium, cause);
    }
    let port = scene.seen.target.port(attempt.flow);
    Finding::cannot_tell(format!(
        "what answers on port {port} is not TLS: {}",
        fault.says
    ))
}

/// The ClientHello leads to silence, to a reset or to an end: what if one thing is changed?
fn cut(scene: Scene<'_>, attempt: &Attempt, fault: &Fault) -> Finding {
    let flow = attempt.flow;
    let port = scene.seen.target.port(flow);
    // Who blocks, blocks each time.
    if scene.comes_about_at_times(attempt) {
        return Finding::cannot_tell(format!(
            "TLS on {port}/tcp came about at one time, and at another it did not ({}): packets \
             are lost on the way, and no rule does that",
            fault.says
        ));
    }
    let how = match fault.kind {
        FaultKind::TimedOut => "swallows",
        FaultKind::Alert => "answers with an alert to",
        _ => "cuts",
    };
    let answered = |wanted: fn(Variation) -> bool| {
        let mut varied = scene.varied(flow, wanted);
        varied.any(|one| one.is_answered() && !is_alert(one))
    };
    let inspected =
        |says: String| Finding::blocked(Confidence::High, Cause::new(Code::Inspection, says));
    if fault.kind == FaultKind::TimedOut
        && let Some(bytes) = scene.mtu(flow)
    {
        return mtu(bytes);
    }
    if answered(|one| one == Variation::SmallHello) {
        return inspected(format!(
            "something on the way {how} a ClientHello that takes two packets on {port}/tcp, and \
             lets a small one through"
        ));
    }
    if answered(|one| one == Variation::NeutralName) {
        return inspected(format!(
            "something on the way {how} TLS on {port}/tcp by its server name: another name gets \
             through at the same address"
        ));
    }
    if answered(|one| one == Variation::NeutralAlpn) {
        return inspected(format!(
            "something on the way {how} TLS on {port}/tcp by its application protocol: another \
             one gets through"
        ));
    }
    if fault.kind == FaultKind::Alert {
        return Finding::cannot_tell(format!("TLS ends with an alert: {}", fault.says));
    }
    if scene.is_sent_away(flow) {
        let says = "the relay saw the connection, and had no room for it";
        return Finding::blocked(Confidence::High, Cause::new(Code::Relay, says));
    }
    if answered(|one| one == Variation::Plain) {
        return inspected(format!(
            "something on the way {how} TLS on {port}/tcp: plain bytes reach the relay there"
        ));
    }
    by_witness(scene, attempt, how)
}

/// Nothing that was changed made a difference: what does the relay say?
fn by_witness(scene: Scene<'_>, attempt: &Attempt, how: &str) -> Finding {
    let port = scene.seen.target.port(attempt.flow);
    match scene.arrivals(attempt.flow) {
        Some(arrivals) if arrivals.is_empty() => {
            let says = format!(
                "something on the way takes connections to {port}/tcp in the relay's place, and \
                 {how} TLS: the relay saw none of them"
            );
            Finding::blocked(Confidence::Medium, Cause::new(Code::Inspection, says))
        }
        Some(_) if Flow::ALL.iter().any(|flow| scene.is_open(*flow)) => {
            let says = format!(
                "something on the way lets connections to {port}/tcp through and {how} the TLS \
                 in them: the relay saw them begin, and serves others"
            );
            Finding::blocked(Confidence::Medium, Cause::new(Code::Inspection, says))
        }
        _ => Finding::cannot_tell(format!(
            "{port}/tcp connects, and then nothing of TLS comes through: something that looks \
             into connections, or a relay that hangs"
        )),
    }
}

fn is_alert(attempt: &Attempt) -> bool {
    let is = |(_, fault): (Stage, &Fault)| fault.kind == FaultKind::Alert;
    // A certificate came before the alert: whoever sent it has read the ClientHello.
    attempt.chain.is_none()
        && attempt.variation != Variation::Plain
        && attempt.variation != Variation::NeutralAlpn
        && attempt.failure().is_some_and(is)
}

/// Packets above a size vanish.
pub(super) fn mtu(bytes: u32) -> Finding {
    let mut cause = Cause::new(
        Code::Mtu,
        format!(
            "packets above about {bytes} bytes vanish on the way, and nobody says so: smaller \
             segments get through"
        ),
    );
    cause.bytes = Some(bytes);
    Finding::blocked(Confidence::High, cause)
}

/// Judges an attempt whose TLS came about, and whose switch to WebSocket did not.
pub(super) fn websocket(scene: Scene<'_>, attempt: &Attempt, fault: &Fault) -> Finding {
    if let Some(portal) = portal(scene, attempt) {
        return portal;
    }
    if fault.kind == FaultKind::TimedOut
        && let Some(bytes) = scene.mtu(attempt.flow)
    {
        return mtu(bytes);
    }
    if let Some(proxy) = rewritten(scene, attempt) {
        return proxy;
    }
    let (ours, relays) = (leaf_key(attempt), scene.relays_key());
    if let (Some(ours), Some(relays)) = (ours, relays) {
        if ours != relays {
            return intercepted(attempt, Confidence::High);
        }
        if let Some(status) = fault.status {
            let mut cause = Cause::new(
                Code::Relay,
                format!("the relay itself answers {status} where it should switch to WebSocket"),
            );
            cause.status = Some(status);
            return Finding::blocked(Confidence::Medium, cause);
        }
        return Finding::cannot_tell(format!(
            "the relay's own TLS comes through, and then the connection breaks: {}",
            fault.says
        ));
    }
    unvouched(scene, attempt, fault)
}

/// Signs of a proxy between: headers that this end has not sent, or that only proxies write.
fn rewritten(scene: Scene<'_>, attempt: &Attempt) -> Option<Finding> {
    let same_flow = scene.seen.attempts.iter();
    let same_flow = same_flow.filter(|one| one.flow == attempt.flow);
    let echoes = same_flow.filter_map(|one| one.echo.as_ref());
    let is_proxys = |name: &str| {
        let names = [
            "via",
            "x-forwarded-for",
            "forwarded",
            "x-proxy-id",
            "x-bluecoat-via",
        ];
        names.iter().any(|known| name.eq_ignore_ascii_case(known))
    };
    let mut headers = echoes.flat_map(|echo| &echo.headers);
    let added = headers.find(|(name, _)| is_proxys(name));
    let answer = attempt.answer.as_ref();
    let via = answer.and_then(|answer| answer.header("via"));
    let (name, value) = match (added, via) {
        (Some((name, value)), _) => (name.as_str(), value.as_str()),
        (None, Some(via)) => ("Via", via),
        (None, None) => return None,
    };
    let by = match issuer(attempt) {
        Some(issuer) => format!(", which ends the TLS with a certificate of {issuer},"),
        None => String::new(),
    };
    let mut cause = Cause::new(
        Code::TransparentProxy,
        format!(
            "a proxy that nobody configured here{by} stands between, and does not let WebSocket \
             through (it writes `{name}: {value}`)"
        ),
    );
    cause.issuer = issuer(attempt);
    cause.status = answer.map(|answer| answer.status);
    Some(Finding::blocked(Confidence::High, cause))
}

/// Somebody ends the TLS, and passes the relay's word on.
pub(super) fn between(attempt: &Attempt) -> Finding {
    let mut found = intercepted(attempt, Confidence::High);
    let is_allowed = attempt.chain.as_ref().is_some_and(|one| one.may_intercept);
    let is_the_relays = attempt.proof.as_ref().map(|proof| proof.is_pinned) != Some(Some(false));
    if !is_allowed || !is_the_relays {
        return found;
    }
    // The agent goes on inside a TLS of its own; what it needs for that has come through.
    let mut open = Finding::open(Confidence::Medium);
    for mut cause in found.causes.drain(..) {
        cause.says.push_str(
            "; the CA that was given vouches for it, and with that one as its interception_ca \
             the agent goes on inside a TLS of its own",
        );
        open.add_caveat(cause);
    }
    open
}

/// Somebody ends the TLS.
pub(super) fn intercepted(attempt: &Attempt, confidence: Confidence) -> Finding {
    let issuer = issuer(attempt).unwrap_or_else(|| "an unknown issuer".to_owned());
    let mut cause = Cause::new(
        Code::TlsInterception,
        format!("somebody on the way ends the TLS, with a certificate of {issuer}"),
    );
    cause.issuer = Some(issuer);
    Finding::blocked(confidence, cause)
}

/// No proof came, and nothing proven to compare with.
fn unvouched(scene: Scene<'_>, attempt: &Attempt, fault: &Fault) -> Finding {
    let chain = attempt.chain.as_ref();
    let is_foreign = chain.is_some_and(|chain| !chain.names_host);
    let is_vouched = chain.is_some_and(|chain| chain.not_vouched.is_none());
    let portal = scene.seen.portal.as_ref();
    let is_catching = portal.is_some_and(|portal| portal.is_nowhere_443_open);
    let is_named = scene.seen.target.host.parse::<std::net::IpAddr>().is_err();
    let has_echo = scene.seen.attempts.iter().any(|one| one.echo.is_some());
    let shown = issuer(attempt).unwrap_or_else(|| "nobody".to_owned());
    if is_foreign && is_catching {
        let says = format!(
            "something on the way answers for every address, also where nobody is, with a \
             certificate of {shown}"
        );
        let mut cause = Cause::new(Code::TransparentProxy, says);
        cause.issuer = Some(shown);
        return Finding::blocked(Confidence::Medium, cause);
    }
    let answers = fault.kind == FaultKind::Status || fault.kind == FaultKind::Protocol;
    if is_foreign && is_named && answers && !has_echo && portal.is_some() {
        let host = &scene.seen.target.host;
        let says = format!(
            "the name {host} leads to a server that is not the relay: it shows a certificate of \
             {shown}, which does not name {host}, and knows no tunnel"
        );
        let mut cause = Cause::new(Code::Dns, says);
        cause.address = attempt.address.map(|address| address.to_string());
        return Finding::blocked(Confidence::Medium, cause);
    }
    let pin = match (scene.seen.target.pin.is_some(), is_vouched) {
        (false, false) => {
            " No public CA vouches for the certificate, and without the relay's key (--pin) a \
             private CA and an interceptor cannot be told apart."
        }
        _ => "",
    };
    Finding::cannot_tell(format!(
        "TLS came about with a certificate of {shown}, and what is behind it did not prove to be \
         the relay: {}.{pin}",
        fault.says
    ))
}

/// A page that wants a click first: it answers in everybody's place, and leads elsewhere.
fn portal(scene: Scene<'_>, attempt: &Attempt) -> Option<Finding> {
    let portal = scene.seen.portal.as_ref()?;
    let host = scene.seen.target.host.as_str();
    let leads_away = |answer: &HttpAnswer| {
        let is_redirect = matches!(answer.status, 301 | 302 | 303 | 307 | 308 | 511);
        let to = answer.header("location").unwrap_or_default();
        answer.status == 511 || is_redirect && !to.contains(host) && to.contains("://")
    };
    let is_page = |answer: &HttpAnswer| {
        let kind = answer.header("content-type").unwrap_or_default();
        (200..300).contains(&answer.status) && kind.starts_with("text/html")
    };
    // A vendor may lead plain HTTP wherever he likes: it counts where TLS was answered so, too.
    let is_not_tls = |(_, fault): (Stage, &Fault)| fault.kind == FaultKind::NotTls;
    let at_relay = portal.at_relay.as_ref();
    let at_relay = at_relay.filter(|_| attempt.failure().is_some_and(is_not_tls));
    let plain = portal.answer.as_ref().or(at_relay);
    let secured = attempt.answer.as_ref();
    let leads = plain
        .into_iter()
        .chain(secured)
        .find(|answer| leads_away(answer));
    let caught = portal.is_nowhere_80_open && plain.is_some_and(is_page);
    if leads.is_none() && !caught {
        return None;
    }
    let to = leads.and_then(|answer| answer.header("location"));
    let to = to.map_or_else(String::new, |to| format!(" at {}", bounded(to)));
    let says = format!("a captive portal{to} answers in the relay's place: somebody has to log in");
    let mut cause = Cause::new(Code::CaptivePortal, says);
    cause.status = leads.or(plain).map(|answer| answer.status);
    let confidence = match portal.is_nowhere_80_open {
        true => Confidence::High,
        false => Confidence::Medium,
    };
    Some(Finding::blocked(confidence, cause))
}

fn bounded(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect()
}
