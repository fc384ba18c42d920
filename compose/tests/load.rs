//! The loader over every fixture, and over what is no Compose file at all.

mod fixture;

use std::{env, fs};

use compose::load::{Bundle, File, Sources, load, preview, references};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Write what is expected anew with `STERNLINE_UPDATE_FIXTURES=1 cargo test -p compose --test
/// load`, and hold every difference against the rule in its `case.toml`.
#[test]
fn every_fixture_is_read_as_its_rule_says() {
    let fixtures = fixture::all();
    assert!(fixtures.len() >= 150, "{} fixtures", fixtures.len());
    let is_update = env::var_os("STERNLINE_UPDATE_FIXTURES").is_some();

    let mut wrong = Vec::new();
    for fixture in &fixtures {
        let (kept, other, read) = match load(&fixture.sources()) {
            Ok(loaded) => {
                let warnings: Vec<String> =
                    loaded.warnings.iter().map(ToString::to_string).collect();
                let read = json!({"stack": loaded.stack, "warnings": warnings});
                let text = serde_json::to_string_pretty(&read).expect("JSON");
                ("expected.json", "expected-error.txt", format!("{text}\n"))
            }
            Err(problems) => {
                let text: String = problems
                    .iter()
                    .map(|problem| format!("{problem}\n"))
                    .collect();
                ("expected-error.txt", "expected.json", text)
            }
        };
        let path = fixture.folder.join(kept);
        if is_update {
            drop(fs::remove_file(fixture.folder.join(other)));
            fs::write(path, read).expect("a folder that can be written");
        } else if fs::read_to_string(path).ok().as_deref() != Some(&read) {
            wrong.push(format!("{}: {kept} should be:\n{read}", fixture.name));
        }
    }

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_preview_of_every_stack_is_read_by_the_loader_and_shows_no_secret() {
    for fixture in fixture::all() {
        let Ok(loaded) = load(&fixture.sources()) else {
            continue;
        };
        let text = preview(&loaded.stack);
        assert!(
            !compose::load::secret::has_mark(&text),
            "{}: {text}",
            fixture.name
        );

        let mut bundle = fixture.bundle.clone();
        bundle.insert("preview.yml".to_owned(), File::new(text.as_bytes()));
        let problems = references(&Sources::new(&bundle, "preview.yml")).problems;
        let yaml: Vec<String> = problems
            .iter()
            .map(ToString::to_string)
            .filter(|problem| problem.contains("is no YAML"))
            .collect();
        assert!(yaml.is_empty(), "{}: {yaml:?}\n{text}", fixture.name);
    }
}

/// Dollar signs doubled, as in a file.
fn as_written(value: &Value) -> Value {
    match value {
        Value::String(text) => json!(text.replace('$', "$$")),
        Value::Array(items) => items.iter().map(as_written).collect(),
        Value::Object(entries) => {
            let entries = entries.iter();
            Value::Object(
                entries
                    .map(|(key, inner)| (key.clone(), as_written(inner)))
                    .collect(),
            )
        }
        other => other.clone(),
    }
}

#[test]
fn a_preview_is_a_compose_file_of_the_same_stack() {
    let mut compared = 0;
    for fixture in fixture::all() {
        let Ok(loaded) = load(&fixture.sources()) else {
            continue;
        };
        // Files and secrets are only named in it.
        if !loaded.stack.files.is_empty() || !fixture.case.secrets.is_empty() {
            continue;
        }
        let written = as_written(&preview::compose(&loaded.stack)).to_string();
        let bundle = Bundle::from([("compose.yml".to_owned(), File::new(written.as_bytes()))]);

        let again = load(&Sources::new(&bundle, "compose.yml"));

        let again = again.map(|again| again.stack);
        assert_eq!(again, Ok(loaded.stack), "{}: {written}", fixture.name);
        compared += 1;
    }
    assert!(compared > 150, "{compared} stacks");
}

#[test]
fn references_gather_every_file_that_the_stack_consists_of() {
    for fixture in fixture::all() {
        let sources = fixture.sources();
        let Ok(loaded) = load(&sources) else {
            continue;
        };
        let gathered = references(&sources).bundle;
        let mut again = sources.clone();
        again.files = &gathered;
        assert_eq!(load(&again).as_ref(), Ok(&loaded), "{}", fixture.name);
    }
}

#[test]
fn no_secret_value_is_in_what_a_person_or_a_log_sees() {
    let bundle = Bundle::from([(
        "compose.yml".to_owned(),
        File::new(
            "name: a\nservices:\n  web:\n    image: b\n    environment: [P, 'Q=x${P}']\n"
                .as_bytes(),
        ),
    )]);
    let mut sources = Sources::new(&bundle, "compose.yml");
    let level = compose::load::Level::Given;
    sources
        .variables
        .set(level, "P", compose::load::variables::Value::Secret);

    let loaded = load(&sources).expect("a stack");
    let text = preview(&loaded.stack);

    assert!(text.contains("Q: \"x****P****\""), "{text}");
    assert!(!format!("{loaded:?}{sources:?}").contains("hunter2"));
}

#[test]
fn nobody_but_the_loader_marks_a_secret() {
    let mark = compose::load::secret::mark("P");
    let files = |compose: &str, env: &str| {
        Bundle::from([
            ("compose.yml".to_owned(), File::new(compose.as_bytes())),
            ("a.env".to_owned(), File::new(env.as_bytes())),
        ])
    };
    let service = "name: a\nservices:\n  web:\n    image: b\n    env_file: a.env\n";
    for bundle in [
        files(&format!("{service}    hostname: {mark}\n"), ""),
        files(service, &format!("A={mark}\n")),
    ] {
        let problems = load(&Sources::new(&bundle, "compose.yml")).expect_err("a mark");
        assert!(
            problems[0].to_string().contains("kept for secrets"),
            "{problems:?}"
        );
    }

    let bundle = files(&format!("{service}    labels: [\"a=${{V}}\"]\n"), "");
    let mut sources = Sources::new(&bundle, "compose.yml");
    sources
        .variables
        .plain(compose::load::Level::Given, "V", mark);
    let loaded = load(&sources).expect("a stack");
    assert_eq!(loaded.stack.services["web"].labels["a"], "****P****");
}

fn read(text: &[u8]) {
    let bundle = Bundle::from([("compose.yml".to_owned(), File::new(text))]);
    let mut sources = Sources::new(&bundle, "compose.yml");
    sources.name = Some("demo".to_owned());
    if let Ok(loaded) = load(&sources) {
        assert!(preview(&loaded.stack).starts_with("name: "));
    }
}

#[test]
fn megabytes_of_anything_are_refused_and_not_panicked_over() {
    for text in ["[", "a: {", "- ", "x", "&a ", "\n", "\"", "${"] {
        read(text.repeat(1 << 20).as_bytes());
    }
    read("a: b\n".repeat(1 << 20).as_bytes());
}

/// Words of Compose, put together as they come.
fn any_compose() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("services"),
        Just("web"),
        Just("image"),
        Just("ports"),
        Just("volumes"),
        Just("environment"),
        Just("deploy"),
        Just("resources"),
        Just("networks"),
        Just("depends_on"),
        Just("extends"),
        Just("include"),
        Just("configs"),
        Just("secrets"),
        Just("healthcheck"),
        Just("test"),
        Just("80:80"),
        Just("./x:/y"),
        Just("${A:-b}"),
        Just("1m"),
        Just("true"),
        Just("~"),
        Just("*a"),
        Just("&a"),
        Just("<<"),
        Just("!reset"),
        Just("name"),
        Just("command"),
        Just("ulimits"),
        Just("build"),
        Just("file"),
    ];
    let line = (0_usize..5, prop::collection::vec(word, 1..3), "[-:]?[:]?").prop_map(
        |(depth, words, sign)| format!("{}{}{sign}", "  ".repeat(depth), words.join(": ")),
    );
    prop::collection::vec(line, 1..20).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
        read(&bytes);
    }

    #[test]
    fn nothing_that_looks_like_a_compose_file_panics(text in any_compose()) {
        read(text.as_bytes());
    }
}

#[test]
fn what_would_be_compared_each_with_each_is_bounded() {
    let lists = ["ports", "environment", "dns", "volumes", "depends_on"];
    for list in lists {
        let items: String = (0..20_000).map(|n| format!("      - a{n}=b\n")).collect();
        let text = format!("services:\n  web:\n    image: a\n    {list}:\n{items}");
        let bundle = Bundle::from([("compose.yml".to_owned(), File::new(text.as_bytes()))]);
        let problems = load(&Sources::new(&bundle, "compose.yml")).expect_err(list);
        assert!(
            problems[0].to_string().contains("more than 4096 entries"),
            "{problems:?}"
        );
    }
}
