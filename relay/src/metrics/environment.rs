//! The exposition by environment: for whoever must be alerted about one customer.
//!
//! Apart from the registry, because its labels are names: how many there are is
//! bounded by the caller. A row's numbers may come from an agent that lies; its texts
//! never do.

use std::fmt::Write;

use wire::{
    message::{AgentFigures, DialFigures, StreamFigures, docker::State},
    transport::Transport,
};

/// One environment at one moment.
#[derive(Debug, Clone)]
pub struct EnvironmentRow {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// An agent has enrolled.
    pub is_enrolled: bool,
    /// Its identity was seen twice.
    pub is_held: bool,
    /// When anything was last heard, in seconds since 1970.
    pub last_heard: Option<f64>,
    /// Its agent's session.
    pub session: Option<SessionRow>,
    /// What the agent told of its process.
    pub figures: Option<AgentFigures>,
}

/// The session of an environment's agent.
#[derive(Debug, Clone, Copy)]
pub struct SessionRow {
    /// What carries it.
    pub transport: Transport,
    /// The latest round trip, in seconds.
    pub round_trip: Option<f64>,
    /// When it was admitted, in seconds since 1970.
    pub began: f64,
    /// Streams open.
    pub streams_open: usize,
    /// Payload bytes sent to the agent in this session.
    pub bytes_sent: u64,
    /// Payload bytes received from the agent in this session.
    pub bytes_received: u64,
}

/// A family: its name after the prefix, its kind, its help, and what it shows of a row.
type Family = (
    &'static str,
    &'static str,
    &'static str,
    fn(&EnvironmentRow, &mut Samples<'_>),
);

/// Every family with the label `environment`.
const FAMILIES: [Family; 17] = [
    (
        "up",
        "gauge",
        "1 while the agent has a session and that a connection, else 0; none where no agent has \
         enrolled.",
        |row, out| {
            let up = f64::from(u8::from(row.session.is_some()));
            out.maybe(row.is_enrolled.then_some(up));
        },
    ),
    (
        "held",
        "gauge",
        "1 while the identity is held because it was seen twice, else 0.",
        |row, out| out.put("", f64::from(u8::from(row.is_held))),
    ),
    (
        "last_heard_timestamp_seconds",
        "gauge",
        "When anything was last heard, in seconds since 1970; none where this relay has not.",
        |row, out| out.maybe(row.last_heard),
    ),
    (
        "session_start_timestamp_seconds",
        "gauge",
        "When the session was admitted, in seconds since 1970.",
        |row, out| out.maybe(row.session.map(|session| session.began)),
    ),
    (
        "round_trip_seconds",
        "gauge",
        "The latest round trip of a heartbeat.",
        |row, out| out.maybe(row.session.and_then(|session| session.round_trip)),
    ),
    (
        "transport_info",
        "gauge",
        "Always 1; the label names what carries the session.",
        |row, out| {
            if let Some(session) = row.session {
                out.put(&label("transport", session.transport.as_str()), 1.0);
            }
        },
    ),
    (
        "streams_open",
        "gauge",
        "Streams open in the session.",
        |row, out| out.maybe(row.session.map(|session| session.streams_open as f64)),
    ),
    (
        "session_bytes_total",
        "counter",
        "Payload bytes of the session, by direction seen from the relay; begins anew with it.",
        |row, out| {
            if let Some(session) = row.session {
                out.put(&label("direction", "sent"), session.bytes_sent as f64);
                out.put(
                    &label("direction", "received"),
                    session.bytes_received as f64,
                );
            }
        },
    ),
    (
        "agent_uptime_seconds",
        "gauge",
        "How long the agent's process has run.",
        |row, out| out.figure(row, |figures| seconds(figures.uptime_ms)),
    ),
    (
        "agent_cpu_seconds_total",
        "counter",
        "Time on a processor that the agent's process has used.",
        |row, out| out.figure(row, |figures| seconds(figures.cpu_ms)),
    ),
    (
        "agent_resident_memory_bytes",
        "gauge",
        "Memory of the agent's process that is in RAM.",
        |row, out| out.figure(row, |figures| figures.resident_bytes as f64),
    ),
    (
        "agent_open_fds",
        "gauge",
        "File descriptors that the agent's process has open.",
        |row, out| out.figure(row, |figures| figures.open_files as f64),
    ),
    (
        "agent_sessions_total",
        "counter",
        "Sessions that the agent's process has opened: all but the first are reconnects.",
        |row, out| out.figure(row, |figures| figures.sessions as f64),
    ),
    (
        "agent_bytes_total",
        "counter",
        "Payload bytes of the agent's streams in all sessions, by direction seen from the agent.",
        |row, out| {
            if let Some(figures) = row.figures {
                out.put(&label("direction", "sent"), figures.bytes_sent as f64);
                out.put(
                    &label("direction", "received"),
                    figures.bytes_received as f64,
                );
            }
        },
    ),
    (
        "agent_streams_total",
        "counter",
        "Streams that the agent served, by kind of target and result.",
        |row, out| {
            if let Some(figures) = &row.figures {
                streams(out, "docker", figures.docker_streams.as_ref());
                streams(out, "tcp", figures.tcp_streams.as_ref());
            }
        },
    ),
    (
        "agent_dials_total",
        "counter",
        "Attempts of the agent to reach its relay, by transport and result: let in directly, or \
         through a proxy; `intercepted` where somebody ends TLS on the way, and may not.",
        |row, out| {
            if let Some(figures) = &row.figures {
                dials(out, Transport::Quic, figures.quic_dials.as_ref());
                dials(out, Transport::Ws, figures.ws_dials.as_ref());
                dials(out, Transport::Ws443, figures.ws_443_dials.as_ref());
            }
        },
    ),
    (
        "agent_docker_up",
        "gauge",
        "1 while the Docker Engine answers the agent, else 0; none where the policy forbids it.",
        |row, out| {
            let state = row.figures.as_ref().map(AgentFigures::docker);
            out.maybe(match state {
                None | Some(State::Unspecified | State::NotAllowed) => None,
                Some(State::Ok) => Some(1.0),
                Some(State::Missing | State::PermissionDenied | State::NotResponding) => Some(0.0),
            });
        },
    ),
];

fn streams(out: &mut Samples<'_>, target: &str, figures: Option<&StreamFigures>) {
    let figures = figures.copied().unwrap_or_default();
    for (result, count) in [
        ("broken", figures.broken),
        ("denied", figures.denied),
        ("finished", figures.finished),
        ("revoked", figures.revoked),
        ("unreachable", figures.unreachable),
    ] {
        let labels = label("target", target) + &label("result", result);
        out.put(&labels, count as f64);
    }
}

fn dials(out: &mut Samples<'_>, transport: Transport, figures: Option<&DialFigures>) {
    let figures = figures.copied().unwrap_or_default();
    for (result, count) in [
        // An agent may lie, and no count is below nothing.
        ("failed", figures.failed.saturating_sub(figures.intercepted)),
        ("intercepted", figures.intercepted),
        ("refused", figures.refused),
        ("timed_out", figures.timed_out),
        ("welcomed", figures.welcomed.saturating_sub(figures.proxied)),
        ("welcomed_by_proxy", figures.proxied),
    ] {
        let labels = label("transport", transport.as_str()) + &label("result", result);
        out.put(&labels, count as f64);
    }
}

fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1_000.0
}

/// One more label, after a comma.
fn label(name: &str, value: &str) -> String {
    format!(",{name}=\"{value}\"")
}

/// Where the samples of one family and row go.
struct Samples<'a> {
    text: &'a mut String,
    family: &'static str,
    /// The labels that every sample of the row has.
    of: &'a str,
}

impl Samples<'_> {
    fn put(&mut self, labels: &str, value: f64) {
        let Self { text, family, of } = self;
        // Writing into a text cannot fail.
        let _written = writeln!(text, "{PREFIX}{family}{{{of}{labels}}} {value}");
    }

    fn maybe(&mut self, value: Option<f64>) {
        if let Some(value) = value {
            self.put("", value);
        }
    }

    fn figure(&mut self, row: &EnvironmentRow, read: fn(&AgentFigures) -> f64) {
        self.maybe(row.figures.as_ref().map(read));
    }
}

/// Begins the name of every family with the label `environment`.
const PREFIX: &str = "sternline_environment_";

/// The exposition of these rows in Prometheus' text format; as many more were left out.
pub fn render_environments(rows: &[EnvironmentRow], left_out: u64) -> String {
    let of: Vec<String> = rows
        .iter()
        .map(|row| {
            let (name, id) = (escaped(&row.name), escaped(&row.id));
            format!("environment=\"{name}\",environment_id=\"{id}\"")
        })
        .collect();
    let mut text = String::new();
    for (family, kind, help, show) in FAMILIES {
        head(&mut text, &format!("{PREFIX}{family}"), kind, help);
        for (row, of) in rows.iter().zip(&of) {
            let text = &mut text;
            show(row, &mut Samples { text, family, of });
        }
    }
    for (name, help, value) in [
        (
            "sternline_environments_shown",
            "Environments that have series here.",
            rows.len() as u64,
        ),
        (
            "sternline_environments_left_out",
            "Environments that have none, because there are too many.",
            left_out,
        ),
    ] {
        head(&mut text, name, "gauge", help);
        let _written = writeln!(text, "{name} {value}");
    }
    text
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _written = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// A label's value as the format wants it.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str) -> EnvironmentRow {
        EnvironmentRow {
            name: name.to_owned(),
            id: "env_a".to_owned(),
            is_enrolled: true,
            is_held: false,
            last_heard: None,
            session: None,
            figures: None,
        }
    }

    #[test]
    fn an_environment_without_a_session_is_down_and_shows_nothing_that_is_not_known() {
        let text = render_environments(&[row("berlin")], 7);
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();

        assert_eq!(
            samples,
            [
                "sternline_environment_up{environment=\"berlin\",environment_id=\"env_a\"} 0",
                "sternline_environment_held{environment=\"berlin\",environment_id=\"env_a\"} 0",
                "sternline_environments_shown 1",
                "sternline_environments_left_out 7",
            ]
        );
    }

    #[test]
    fn what_is_known_of_a_live_environment_is_shown() {
        let live = EnvironmentRow {
            is_held: true,
            last_heard: Some(1_700_000_000.25),
            session: Some(SessionRow {
                transport: Transport::Ws443,
                round_trip: Some(0.004),
                began: 1_700_000_000.0,
                streams_open: 3,
                bytes_sent: 10,
                bytes_received: 20,
            }),
            figures: Some(AgentFigures {
                uptime_ms: 1_500,
                docker: State::Ok.into(),
                tcp_streams: Some(StreamFigures {
                    denied: 4,
                    ..StreamFigures::default()
                }),
                ws_dials: Some(DialFigures {
                    failed: 5,
                    intercepted: 2,
                    ..DialFigures::default()
                }),
                ..AgentFigures::default()
            }),
            ..row("berlin")
        };

        let text = render_environments(&[live], 0);

        let of = "environment=\"berlin\",environment_id=\"env_a\"";
        for (family, labels, value) in [
            ("up", "", "1"),
            ("held", "", "1"),
            ("last_heard_timestamp_seconds", "", "1700000000.25"),
            ("round_trip_seconds", "", "0.004"),
            ("transport_info", ",transport=\"ws-443\"", "1"),
            ("session_bytes_total", ",direction=\"received\"", "20"),
            ("agent_uptime_seconds", "", "1.5"),
            ("agent_docker_up", "", "1"),
            (
                "agent_streams_total",
                ",target=\"tcp\",result=\"denied\"",
                "4",
            ),
            (
                "agent_dials_total",
                ",transport=\"ws\",result=\"failed\"",
                "3",
            ),
            (
                "agent_dials_total",
                ",transport=\"ws\",result=\"intercepted\"",
                "2",
            ),
        ] {
            let line = format!("{PREFIX}{family}{{{of}{labels}}} {value}");
            assert!(text.lines().any(|shown| shown == line), "{line}");
        }
    }

    #[test]
    fn an_environment_that_waits_for_its_agent_is_not_down() {
        let waiting = EnvironmentRow {
            is_enrolled: false,
            ..row("oslo")
        };

        let text = render_environments(&[waiting], 0);

        assert!(!text.contains("sternline_environment_up{"), "{text}");
        assert!(text.contains("sternline_environment_held{"), "{text}");
    }

    #[test]
    fn a_name_cannot_break_out_of_its_label() {
        let text = render_environments(&[row("a\"} 1\nb\\")], 0);

        assert!(
            text.contains("up{environment=\"a\\\"} 1\\nb\\\\\",environment_id"),
            "{text}"
        );
    }

    #[test]
    fn an_agent_that_lies_adds_no_series_and_no_text() {
        let honest = AgentFigures::default();
        let liar = AgentFigures {
            uptime_ms: u64::MAX,
            resident_bytes: u64::MAX,
            docker: 99,
            ..AgentFigures::default()
        };
        let shown = |figures| {
            let figures = Some(figures);
            let text = render_environments(
                &[EnvironmentRow {
                    figures,
                    ..row("berlin")
                }],
                0,
            );
            text.lines()
                .filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned()))
                .filter(|line| !line.starts_with('#'))
                .collect::<Vec<_>>()
        };

        assert_eq!(shown(liar), shown(honest));
        assert!(shown(honest).len() > 25);
    }
}
