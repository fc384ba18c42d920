//! What Docker's own Compose tool makes of the fixtures, against what we make of them.
//!
//! The tool is Debian's `docker-compose` 1.29, which needs no Engine for it. Fixtures whose rule
//! it does not know say so in their `case.toml`.

mod fixture;
#[path = "fixture/flat.rs"]
mod flat;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
};

use compose::load::{load, preview::compose};
use fixture::Fixture;
use flat::flat;
use serde_json::{Value, json};

/// Where the two differ, and why it stays so. What is not here fails the test.
const DIFFERENCES: &[Difference] = &[
    (
        "interpolation-nested",
        "services.*.environment",
        "the tool does not look into `${A:-${B}}`; the specification does",
    ),
    (
        "extends-other-file",
        "services.*.volumes",
        "a relative path ships with the release; the tool makes it one of the author's machine",
    ),
    (
        "profiles-both",
        "services.*.profiles",
        "a stack has the services of active profiles alone, and profiles no more",
    ),
];

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/compose.md");
const MARK: &str = "<!-- differential -->\n";
const END: &str = "<!-- end of differential -->\n";

/// The tool, and the interpreter that its first line names.
fn tool() -> Option<String> {
    let path = env::var_os("PATH")?;
    let tool: PathBuf = env::split_paths(&path)
        .map(|at| at.join("docker-compose"))
        .find(|at| at.is_file())?;
    let text = fs::read_to_string(tool).ok()?;
    let interpreter = text.lines().next()?.strip_prefix("#!")?.trim().to_owned();
    interpreter.contains("python").then_some(interpreter)
}

/// What the tool prints for each of these, in one run.
fn ask(interpreter: &str, fixtures: &[&Fixture]) -> Vec<Value> {
    let script = include_str!("fixture/docker_compose.py");
    let mut child = Command::new(interpreter)
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the tool's interpreter");
    let mut input = child.stdin.take().expect("its input");
    let mut output = BufReader::new(child.stdout.take().expect("its output")).lines();
    let answers = fixtures
        .iter()
        .map(|fixture| {
            let mut arguments = vec!["-p".to_owned(), fixture.project().unwrap_or_default()];
            for profile in &fixture.case.profiles {
                arguments.extend(["--profile".to_owned(), profile.clone()]);
            }
            for file in fixture.files() {
                arguments.extend(["-f".to_owned(), file]);
            }
            let case = json!({
                "folder": fixture.folder, "arguments": arguments,
                "variables": fixture.case.variables,
            });
            writeln!(input, "{case}").expect("the tool reads");
            let line = output.next().expect("an answer").expect("text");
            serde_json::from_str(&line).expect("JSON")
        })
        .collect();
    drop(input);
    child.wait().expect("its end");
    answers
}

/// Of one attribute: how often it was compared, and how often it was the same.
#[derive(Default)]
struct Tally {
    compared: u32,
    same: u32,
}

/// A fixture's name, an attribute, and why the two differ there.
type Difference = (&'static str, &'static str, &'static str);

/// What came of all comparisons.
#[derive(Default)]
struct Comparison {
    tallies: BTreeMap<String, Tally>,
    known: Vec<Difference>,
    wrong: Vec<String>,
}

impl Comparison {
    fn add(&mut self, fixture: &str, ours: &Value, answer: &Value) {
        if !answer["error"].is_null() {
            let said = &answer["error"];
            self.wrong
                .push(format!("{fixture}: docker-compose says {said}"));
            return;
        }
        let (ours, theirs) = (flat(ours), flat(&answer["project"]));
        let paths: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        for path in paths {
            let attribute = attribute_of(path);
            let tally = self.tallies.entry(attribute.clone()).or_default();
            tally.compared += 1;
            let (ours, theirs) = (ours.get(path), theirs.get(path));
            if ours == theirs {
                tally.same += 1;
                continue;
            }
            let is_known =
                |(name, at, _): &&Difference| fixture.ends_with(name) && *at == attribute;
            match DIFFERENCES.iter().find(is_known) {
                Some(difference) if self.known.contains(difference) => {}
                Some(difference) => self.known.push(*difference),
                None => {
                    let show = |value: Option<&Value>| {
                        value.map_or_else(|| "nothing".to_owned(), Value::to_string)
                    };
                    let (ours, theirs) = (show(ours), show(theirs));
                    self.wrong
                        .push(format!("{fixture}: {path}: ours {ours}, theirs {theirs}"));
                }
            }
        }
    }
}

/// `services.web.ports` is about `services.*.ports`.
fn attribute_of(path: &str) -> String {
    let mut steps = path.splitn(3, '.');
    let (section, _, rest) = (steps.next(), steps.next(), steps.next());
    format!(
        "{}.*.{}",
        section.unwrap_or_default(),
        rest.unwrap_or_default()
    )
}

#[test]
fn attributes_are_what_dockers_own_tool_makes_of_them() {
    let Some(interpreter) = tool() else {
        let is_ci = env::var_os("CI").is_some();
        assert!(
            !is_ci,
            "docker-compose is missing: install Debian's package docker-compose"
        );
        eprintln!("skipped: attributes_are_what_dockers_own_tool_makes_of_them: no docker-compose");
        return;
    };
    let all = fixture::all();
    let compared: Vec<(&Fixture, Value)> = all
        .iter()
        .filter(|fixture| fixture.case.without_docker_compose.is_none())
        .filter_map(|fixture| {
            let loaded = load(&fixture.sources()).ok()?;
            Some((fixture, compose(&loaded.stack)))
        })
        .collect();
    assert!(
        compared.len() >= 60,
        "{} projects are compared",
        compared.len()
    );
    let fixtures: Vec<&Fixture> = compared.iter().map(|(fixture, _)| *fixture).collect();
    let answers = ask(&interpreter, &fixtures);

    let mut comparison = Comparison::default();
    for ((fixture, ours), answer) in compared.iter().zip(&answers) {
        comparison.add(&fixture.name, ours, answer);
    }

    assert!(
        comparison.wrong.is_empty(),
        "{}",
        comparison.wrong.join("\n")
    );
    let gone = DIFFERENCES
        .iter()
        .find(|difference| !comparison.known.contains(difference));
    assert_eq!(gone, None, "is no difference any more");
    document(&report(compared.len(), all.len(), &comparison));
}

fn report(compared: usize, all: usize, comparison: &Comparison) -> String {
    let Comparison { tallies, known, .. } = comparison;
    let sum = tallies
        .values()
        .fold((0, 0), |(c, s), tally| (c + tally.compared, s + tally.same));
    let mut page = format!(
        "\nOf {all} fixtures, {compared} are compared with `docker-compose config` of Debian's \
         docker-compose 1.29; the others quote or state the rule that they test. {} of {} values \
         are the same.\n\n| attribute | compared | same |\n|---|---|---|\n",
        sum.1, sum.0
    );
    for (attribute, tally) in tallies {
        page.push_str(&format!(
            "| `{attribute}` | {} | {} |\n",
            tally.compared, tally.same
        ));
    }
    if !known.is_empty() {
        page.push_str("\n| fixture | attribute | where they differ, and why |\n|---|---|---|\n");
        for (fixture, attribute, why) in known {
            page.push_str(&format!("| {fixture} | `{attribute}` | {why} |\n"));
        }
    }
    page.push('\n');
    page
}

/// Write it anew with `STERNLINE_UPDATE_REFERENCE=1 cargo test -p compose --test
/// differential`, and have the difference reviewed.
fn document(report: &str) {
    let kept = fs::read_to_string(DOCUMENT).expect("the document");
    let (above, rest) = kept.split_once(MARK).expect("the mark");
    let (between, below) = rest.split_once(END).expect("the end");
    if env::var_os("STERNLINE_UPDATE_REFERENCE").is_some() {
        fs::write(DOCUMENT, format!("{above}{MARK}{report}{END}{below}")).expect("the document");
        return;
    }
    assert!(
        between == report,
        "docs/compose.md differs from what was compared: \
         STERNLINE_UPDATE_REFERENCE=1 cargo test -p compose --test differential"
    );
}
