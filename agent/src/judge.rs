//! Judges what the vendor asks of the Docker Engine, request by request. Pure: bytes in,
//! verdicts out.
//!
//! The Engine sees the very bytes that the vendor sent, or none of them. What is judged is
//! what the Engine will do: a request that two readers could understand in two ways is
//! refused, and so is one that nobody here knows.
//!
//! | module | what it is |
//! |---|---|
//! | [`head`], [`body`] | HTTP/1.1, read strictly |
//! | [`target`] | the path as the Engine's router sees it |
//! | [`operation`] | every operation of the API, and what it does |
//! | [`json`], [`content`], [`image`] | bodies, and what they ask for |
//! | [`exchange`] | both directions of a connection |

use std::fmt;

use crate::policy::{Access, DockerRules, Rule};

pub mod body;
pub mod content;
pub mod exchange;
pub mod head;
pub mod image;
pub mod json;
pub mod operation;
pub mod target;

use json::Json;
use operation::{Class, Look, Operation};
use target::Target;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// The key that would allow it.
    pub rule: Rule,
    /// What was asked for.
    pub what: String,
}

impl Denied {
    /// What is refused, by which rule.
    pub fn new(rule: Rule, what: impl Into<String>) -> Self {
        Self {
            rule,
            what: what.into(),
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, what } = self;
        match rule {
            Rule::Request => write!(f, "the request cannot be judged: {what}"),
            Rule::Access => write!(f, "`{rule}` does not allow {what}"),
            _ => write!(f, "{what} is not allowed; the key is `{rule}`"),
        }
    }
}

/// A request whose head may pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// What it asks for; `None` where nothing is looked at.
    pub operation: Option<&'static Operation>,
    /// What of the body is still to be judged.
    pub look: Option<Look>,
}

/// Judges a request's head.
///
/// # Errors
///
/// What is denied, and by which rule.
pub fn judge_head(rules: &DockerRules, request: &head::Request) -> Result<Passed, Denied> {
    let unclear = |what: &str| Denied::new(Rule::Request, what);
    let target = Target::parse(&request.target).map_err(unclear)?;
    if request.is_form {
        return Err(unclear(
            "the body is a form, whose fields mix with the query's",
        ));
    }
    let found = operation::find(&request.method, &target.parts);
    let hijacks = found
        .as_ref()
        .is_some_and(|(operation, _)| operation.hijacks);
    if request.upgrades && !hijacks {
        return Err(unclear("an upgrade where none belongs"));
    }
    let Some((operation, name)) = found else {
        return match rules.access {
            Access::Full => Ok(Passed {
                operation: None,
                look: None,
            }),
            _ => Err(Denied::new(
                Rule::Access,
                "a request that this agent does not know",
            )),
        };
    };
    let look = match rules.access {
        Access::Full => None,
        _ => {
            judge_class(rules, operation.class)?;
            judge_query(rules, operation.look, &target, &name)?;
            body_to_judge(operation, request)
        }
    };
    Ok(Passed {
        operation: Some(operation),
        look,
    })
}

/// Whether an operation that was begun may go on under these rules.
pub fn may_go_on(rules: &DockerRules, operation: Option<&Operation>) -> bool {
    match (rules.access, operation) {
        (Access::Full, _) => true,
        (Access::None, _) | (_, None) => false,
        (_, Some(operation)) => judge_class(rules, operation.class).is_ok(),
    }
}

/// Judges a body that [`judge_head`] left to be judged. It may be empty.
///
/// # Errors
///
/// What is denied, and by which rule.
pub fn judge_body(rules: &DockerRules, look: Look, content: &[u8]) -> Result<(), Denied> {
    if content.is_empty() {
        // The Engine refuses an empty body by itself where it needs one.
        return Ok(());
    }
    let json = Json::parse(content).map_err(|error| {
        Denied::new(
            Rule::Request,
            format!("the body is not plain JSON: {error}"),
        )
    })?;
    content::judge(rules, look, &json)
}

fn judge_class(rules: &DockerRules, class: Class) -> Result<(), Denied> {
    let switch = |on: bool, rule, what: &str| match on {
        true => Ok(()),
        false => Err(Denied::new(rule, what)),
    };
    match (class, rules.access) {
        (_, Access::Full) | (Class::Read, Access::ReadOnly | Access::Limited) => Ok(()),
        (Class::Files, Access::ReadOnly | Access::Limited) => {
            switch(rules.files, Rule::Files, "reading files or images")
        }
        (Class::Exec, Access::ReadOnly | Access::Limited) => {
            switch(rules.exec, Rule::Exec, "a command in a container")
        }
        (_, Access::None) => Err(Denied::new(Rule::Access, "anything")),
        (_, Access::ReadOnly) => Err(Denied::new(
            Rule::Access,
            "more than reading (it is \"read-only\")",
        )),
        (Class::FilesIn, Access::Limited) => {
            switch(rules.files, Rule::Files, "writing files into a container")
        }
        (Class::Build, Access::Limited) => switch(
            rules.build,
            Rule::Build,
            "an image that comes from no registry",
        ),
        (Class::Opaque, Access::Limited) => switch(
            rules.opaque_upgrades,
            Rule::OpaqueUpgrades,
            "a protocol that cannot be judged",
        ),
        (Class::Root, Access::Limited) => Err(Denied::new(
            Rule::Access,
            "changes to the Engine, its plugins or its swarm (it is \"limited\")",
        )),
        (Class::Attach | Class::Change | Class::Create | Class::Registry, Access::Limited) => {
            Ok(())
        }
    }
}

fn judge_query(rules: &DockerRules, look: Look, target: &Target, name: &str) -> Result<(), Denied> {
    match look {
        Look::Attach if target.is_true("stdin") && !rules.exec => {
            Err(Denied::new(Rule::Exec, "input to a container's process"))
        }
        Look::Repository => content::image(rules, name),
        Look::Search => target.values("term").try_for_each(|term| {
            let found = image::repository(&term.to_ascii_lowercase());
            let registry = found.map_or_else(|| "docker.io".to_owned(), |(registry, _)| registry);
            content::registry(rules, &registry)
        }),
        Look::Pull => judge_pull(rules, target),
        Look::Build => judge_build(rules, target),
        _ => Ok(()),
    }
}

/// `fromImage` pulls; `fromSrc` imports, from the body or from an address.
fn judge_pull(rules: &DockerRules, target: &Target) -> Result<(), Denied> {
    for source in target.values("fromSrc").filter(|source| !source.is_empty()) {
        match source {
            "-" if rules.build => {}
            "-" => return Err(Denied::new(Rule::Build, "an image that is imported")),
            _ => return Err(Denied::new(Rule::Access, "an import from an address")),
        }
    }
    let mut images = target.values("fromImage").filter(|image| !image.is_empty());
    images.try_for_each(|image| content::image(rules, image))
}

fn judge_build(rules: &DockerRules, target: &Target) -> Result<(), Denied> {
    if target
        .values("remote")
        .any(|remote| !matches!(remote, "" | "client-session"))
    {
        return Err(Denied::new(Rule::Access, "a build from an address"));
    }
    for name in ["cgroupparent", "securityopt", "outputs"] {
        let says = target
            .values(name)
            .any(|value| !matches!(value, "" | "null" | "[]"));
        if says && !rules.privileged {
            return Err(Denied::new(
                Rule::Privileged,
                format!("`{name}` of a build"),
            ));
        }
    }
    for mode in target.values("networkmode") {
        if mode.eq_ignore_ascii_case("host") || mode.to_ascii_lowercase().starts_with("container:")
        {
            let name = crate::policy::docker::Namespace::Network;
            content::needs_namespace(rules, name, &format!("a build with the network {mode:?}"))?;
        }
    }
    Ok(())
}

/// What of the body is judged, where there is one.
fn body_to_judge(operation: &Operation, request: &head::Request) -> Option<Look> {
    let is_empty = request.framing == head::Framing::Length(0);
    match operation.look {
        Look::Nothing | Look::Build => None,
        // An import's archive; a pull has no body.
        Look::Pull => None,
        _ if is_empty => None,
        look => Some(look),
    }
}
