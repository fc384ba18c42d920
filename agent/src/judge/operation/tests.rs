//! Every operation of the Engine's API against every kind of policy.

use super::*;
use crate::{
    judge::{Denied, head, judge_head},
    policy::{DockerRules, Policy, Rule},
};

fn found(method: &str, path: &str) -> Option<(&'static str, String)> {
    let parts: Vec<String> = path[1..].split('/').map(str::to_owned).collect();
    find(method, &parts).map(|(operation, name)| (operation.template, name))
}

#[test]
fn a_name_with_slashes_is_a_name() {
    assert_eq!(
        found("GET", "/images/reg.example:5000/a/b:1/json"),
        Some(("/images/{name*}/json", "reg.example:5000/a/b:1".into()))
    );
    assert_eq!(
        found("GET", "/images/json"),
        Some(("/images/json", String::new()))
    );
    assert_eq!(
        found("GET", "/images/json/json"),
        Some(("/images/{name*}/json", "json".into()))
    );
    assert_eq!(
        found("DELETE", "/images/a/b"),
        Some(("/images/{name*}", "a/b".into()))
    );
    assert_eq!(found("DELETE", "/images"), None);
}

#[test]
fn what_is_not_in_the_table_is_not_found() {
    for (method, path) in [
        ("GET", "/containers"),
        ("GET", "/containers/a/b/json"),
        ("PATCH", "/containers/json"),
        ("OPTIONS", "/containers/json"),
        ("POST", "/containers/json"),
        ("GET", "/libpod/info"),
        ("GET", "/debug/pprof"),
    ] {
        assert_eq!(found(method, path), None, "{method} {path}");
    }
}

/// A line of the list: method, path with names in it, and what is needed.
fn listed() -> Vec<(&'static str, String, &'static str)> {
    let lines = include_str!("engine-api.txt").lines();
    lines
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let mut words = line.split(' ');
            let (method, template) = (words.next().unwrap(), words.next().unwrap());
            let name = match template.starts_with("/images") || template.starts_with("/dist") {
                true => "reg.example:5000/a/b",
                false => "a1",
            };
            let path = ["{id}", "{name}", "{checkpoint}"]
                .iter()
                .fold(template.to_owned(), |path, part| path.replace(part, name));
            (method, path, words.next().unwrap())
        })
        .collect()
}

fn rules(text: &str) -> DockerRules {
    Policy::parse(&format!("[docker]\n{text}\n"))
        .unwrap()
        .docker()
        .clone()
}

#[expect(
    clippy::unwrap_in_result,
    reason = "a fixture that fails is a test that fails"
)]
fn asked(rules: &DockerRules, method: &str, path: &str) -> Result<(), Rule> {
    let query = match path {
        "/images/create" => "?fromImage=reg.example%3A5000%2Fa&tag=1",
        "/images/search" => "?term=reg.example:5000/a",
        _ => "",
    };
    let text = format!("{method} /v1.41{path}{query} HTTP/1.1\r\nContent-Length: 0\r\n\r\n");
    let request = head::request(text.as_bytes()).expect("a sound request");
    judge_head(rules, &request)
        .map(drop)
        .map_err(|Denied { rule, .. }| rule)
}

/// What each policy allows, and with which of the list's words.
const POLICIES: [(&str, &[&str]); 9] = [
    ("access = \"none\"", &[]),
    ("access = \"read-only\"", &["read"]),
    ("access = \"read-only\"\nexec = true", &["read", "exec"]),
    ("access = \"read-only\"\nfiles = true", &["read", "files"]),
    ("access = \"limited\"", &["read", "limited"]),
    (
        "access = \"limited\"\nexec = true",
        &["read", "limited", "exec"],
    ),
    (
        "access = \"limited\"\nfiles = true\nbuild = true",
        &["read", "limited", "files", "files+limited", "build"],
    ),
    (
        "access = \"limited\"\nopaque_upgrades = true\nregistries = [\"reg.example:5000\", \"docker.io\"]",
        &["read", "limited", "opaque_upgrades", "registries"],
    ),
    (
        "access = \"full\"",
        &[
            "read",
            "limited",
            "exec",
            "files",
            "files+limited",
            "build",
            "opaque_upgrades",
            "registries",
            "full",
        ],
    ),
];

#[test]
fn every_operation_is_allowed_by_what_it_needs_and_by_nothing_else() {
    for (text, allowed) in POLICIES {
        let rules = rules(text);
        for (method, path, needs) in listed() {
            let mut expected = allowed.contains(&needs);
            // A registry is named by what follows: alone, these say nothing of one.
            expected |= path == "/auth" && allowed.contains(&"limited");
            let verdict = asked(&rules, method, &path);
            assert_eq!(
                verdict.is_ok(),
                expected,
                "{method} {path} with {text}: {verdict:?}"
            );
        }
    }
}

#[test]
fn what_refuses_an_operation_is_the_key_that_it_needs() {
    let rules = rules("access = \"limited\"");
    for (method, path, needs) in listed() {
        let expected = match needs {
            "exec" => Rule::Exec,
            "files" | "files+limited" => Rule::Files,
            "build" => Rule::Build,
            "opaque_upgrades" => Rule::OpaqueUpgrades,
            "registries" if path != "/auth" => Rule::Registries,
            "full" => Rule::Access,
            _ => continue,
        };
        assert_eq!(
            asked(&rules, method, &path),
            Err(expected),
            "{method} {path}"
        );
    }
}

#[test]
fn the_table_and_the_list_have_the_same_operations() {
    let listed: Vec<_> = listed()
        .into_iter()
        .map(|(method, path, _)| {
            found(method, &path).unwrap_or_else(|| panic!("{method} {path} is not in the table"));
            let parts: Vec<String> = path[1..].split('/').map(str::to_owned).collect();
            std::ptr::from_ref(find(method, &parts).unwrap().0)
        })
        .collect();

    for operation in OPERATIONS {
        let times = listed
            .iter()
            .filter(|one| std::ptr::eq(**one, operation))
            .count();
        assert_eq!(times, 1, "{} {}", operation.method, operation.template);
    }
}

#[test]
fn what_is_unknown_is_allowed_by_full_alone() {
    for (method, path) in [
        ("GET", "/tomorrow"),
        ("PATCH", "/info"),
        ("GET", "/libpod/info"),
    ] {
        for (text, _) in POLICIES {
            let is_full = text.contains("full");
            assert_eq!(
                asked(&rules(text), method, path).is_ok(),
                is_full,
                "{path} {text}"
            );
        }
    }
}

#[test]
fn queries_that_reach_further_need_their_keys() {
    for (request, text, expected) in [
        ("POST /containers/x/attach?stdin=1", "", Err(Rule::Exec)),
        ("POST /containers/x/attach?stdin=0&stdout=1", "", Ok(())),
        (
            "POST /containers/x/attach?stdin=0&stdin=true",
            "",
            Err(Rule::Exec),
        ),
        ("POST /containers/x/attach?stdin=1", "exec = true", Ok(())),
        (
            "POST /images/create?fromSrc=http://evil/x",
            "build = true",
            Err(Rule::Access),
        ),
        ("POST /images/create?fromSrc=-", "", Err(Rule::Build)),
        ("POST /images/create?fromSrc=-", "build = true", Ok(())),
        (
            "POST /images/create?fromImage=nginx",
            "",
            Err(Rule::Registries),
        ),
        (
            "POST /images/create?fromImage=nginx",
            "registries = [\"docker.io/library\"]",
            Ok(()),
        ),
        (
            "POST /images/create?fromImage=nginx&fromImage=evil/x",
            "registries = [\"docker.io/library\"]",
            Err(Rule::Registries),
        ),
        (
            "POST /build?networkmode=host",
            "build = true",
            Err(Rule::HostNamespaces),
        ),
        (
            "POST /build?remote=http://evil/x",
            "build = true",
            Err(Rule::Access),
        ),
        (
            "POST /build?securityopt=seccomp=unconfined",
            "build = true",
            Err(Rule::Privileged),
        ),
        ("POST /build?t=x", "build = true", Ok(())),
    ] {
        let rules = rules(&format!("access = \"limited\"\n{text}"));
        let text = format!("{request} HTTP/1.1\r\n\r\n");
        let head = head::request(text.as_bytes()).unwrap();
        let verdict = judge_head(&rules, &head)
            .map(drop)
            .map_err(|denied| denied.rule);
        assert_eq!(verdict, expected, "{request}");
    }
}
