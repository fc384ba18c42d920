//! What containers of a stack print, all together, as it comes.

use std::collections::BTreeMap;

use bollard::{container::LogOutput, query_parameters::LogsOptions};
use compose::{exchange::LogLine, plan::Seen};
use futures_util::{Stream, StreamExt, stream};

use super::{engine::Engine, fault::Fault};

/// Lines of each container where nothing is said.
const TAIL_DEFAULT: &str = "200";
/// A line that is longer goes in several.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Lines of a project's containers: of one service or of all, the last `tail` of each, and
/// with `follow` those that come.
///
/// # Errors
///
/// The Engine's.
pub(super) async fn lines(
    engine: Engine,
    project: &str,
    query: &BTreeMap<String, String>,
) -> Result<impl Stream<Item = LogLine> + Send + use<>, Fault> {
    let found = engine
        .look(project, &super::engine::Wanted::default())
        .await?;
    let service = query.get("service");
    let options = LogsOptions {
        follow: query.get("follow").is_some_and(|follow| follow == "true"),
        stdout: true,
        stderr: true,
        timestamps: true,
        tail: query
            .get("tail")
            .cloned()
            .unwrap_or_else(|| TAIL_DEFAULT.to_owned()),
        ..LogsOptions::default()
    };
    let wanted = found.containers.into_iter().filter(|container| {
        let seen = Seen(container);
        !seen.is_oneoff() && service.is_none_or(|service| seen.service() == service)
    });
    let streams = wanted.map(|container| {
        let seen = Seen(&container);
        let (service, name) = (seen.service().to_owned(), seen.name().to_owned());
        let lines = engine
            .docker()
            .clone()
            .logs(seen.id(), Some(options.clone()));
        let mut split = Split::new(service, name);
        lines
            .flat_map(move |part| stream::iter(part.map_or(Vec::new(), |part| split.feed(part))))
            .boxed()
    });
    Ok(stream::select_all(streams.collect::<Vec<_>>()))
}

/// Parts of output to lines; each stream of a container has an unfinished one.
#[derive(Debug)]
struct Split {
    service: String,
    container: String,
    out: Vec<u8>,
    err: Vec<u8>,
}

impl Split {
    const fn new(service: String, container: String) -> Self {
        Self {
            service,
            container,
            out: Vec::new(),
            err: Vec::new(),
        }
    }

    fn feed(&mut self, part: LogOutput) -> Vec<LogLine> {
        let (stream, message) = match part {
            LogOutput::StdErr { message } => ("stderr", message),
            LogOutput::StdOut { message }
            | LogOutput::StdIn { message }
            | LogOutput::Console { message } => ("stdout", message),
        };
        let rest = if stream == "stderr" {
            &mut self.err
        } else {
            &mut self.out
        };
        rest.extend_from_slice(&message);
        let mut lines = Vec::new();
        while let Some(end) = end_of_line(rest) {
            let line: Vec<u8> = rest.drain(..end).collect();
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches(['\n', '\r']);
            // The Engine puts the time in front.
            let (time, text) = match text.split_once(' ') {
                Some((time, text)) if time.contains('T') => (Some(time.to_owned()), text),
                _ => (None, text),
            };
            lines.push(LogLine {
                service: self.service.clone(),
                container: self.container.clone(),
                stream: stream.to_owned(),
                time,
                text: text.to_owned(),
            });
        }
        lines
    }
}

fn end_of_line(bytes: &[u8]) -> Option<usize> {
    let end = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .map(|at| at + 1);
    end.or_else(|| (bytes.len() > LINE_BYTES_MAX).then_some(bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_become_whole_lines_and_the_two_streams_are_not_mixed() {
        let mut split = Split::new("web".to_owned(), "shop-web-1".to_owned());
        let out = |text: &'static str| LogOutput::StdOut {
            message: text.into(),
        };
        let err = |text: &'static str| LogOutput::StdErr {
            message: text.into(),
        };

        assert!(split.feed(out("2026-01-01T00:00:00Z be")).is_empty());
        let failed = split.feed(err("2026-01-01T00:00:01Z no\n"));
        let lines = split.feed(out("gun\n"));

        assert_eq!(
            (failed[0].stream.as_str(), failed[0].text.as_str()),
            ("stderr", "no")
        );
        assert_eq!(lines[0].text, "begun");
        assert_eq!(lines[0].time.as_deref(), Some("2026-01-01T00:00:00Z"));
    }
}
