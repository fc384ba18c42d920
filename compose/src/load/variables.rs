//! Variables: what they are, from which level, and what is expected of them.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// Where a variable was set. A later level wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The value that its declaration gives.
    Default,
    /// For every environment of the relay.
    Global,
    /// For one environment.
    Environment,
    /// For one stack.
    Stack,
    /// `.env` or `--env-file`.
    File,
    /// `--set` or `--secret`.
    Given,
}

/// A variable's value, as far as it may be known.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// Everybody may read it.
    Plain(String),
    /// It is set, and stands nowhere: a mark takes its place, see [`secret`](super::secret).
    Secret,
}

impl fmt::Debug for Value {
    /// Values are left out: a plain one may yet be a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => write!(f, "Plain({} bytes)", text.len()),
            Self::Secret => f.write_str("Secret"),
        }
    }
}

/// What a value has to look like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Any text.
    #[default]
    Text,
    /// A whole number.
    Int,
    /// `true` or `false`.
    Bool,
    /// One of these.
    Choice(Vec<String>),
}

impl Kind {
    /// Is this text such a value?
    ///
    /// # Errors
    ///
    /// What it should be.
    pub fn check(&self, text: &str) -> Result<(), String> {
        match self {
            Self::Text => Ok(()),
            Self::Int if text.parse::<i64>().is_ok() => Ok(()),
            Self::Int => Err("a whole number".to_owned()),
            Self::Bool if matches!(text, "true" | "false") => Ok(()),
            Self::Bool => Err("true or false".to_owned()),
            Self::Choice(choices) if choices.iter().any(|choice| choice == text) => Ok(()),
            Self::Choice(choices) => Err(format!("one of {}", choices.join(", "))),
        }
    }
}

/// What is expected of a variable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Declaration {
    /// What its value looks like.
    pub kind: Kind,
    /// Without a value, nothing is deployed.
    pub required: bool,
    /// Its value has to be a secret one.
    pub secret: bool,
    /// What a person is told who has to set it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// Variables of all levels, and their declarations.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    values: BTreeMap<String, (Level, Value)>,
    declarations: BTreeMap<String, Declaration>,
}

impl Variables {
    /// Sets a variable at a level. What a later level has set stays.
    pub fn set(&mut self, level: Level, name: impl Into<String>, value: Value) {
        let name = name.into();
        let is_later = self
            .values
            .get(&name)
            .is_some_and(|(kept, _)| *kept > level);
        if !is_later {
            self.values.insert(name, (level, value));
        }
    }

    /// Sets a variable that everybody may read.
    pub fn plain(&mut self, level: Level, name: impl Into<String>, value: impl Into<String>) {
        self.set(level, name, Value::Plain(value.into()));
    }

    /// Says what is expected of a variable.
    pub fn declare(&mut self, name: impl Into<String>, declaration: Declaration) {
        self.declarations.insert(name.into(), declaration);
    }

    /// A variable's value, where it has one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name).map(|(_, value)| value)
    }

    /// From which level a variable has its value.
    #[must_use]
    pub fn level(&self, name: &str) -> Option<Level> {
        self.values.get(name).map(|(level, _)| *level)
    }

    /// Every declaration, by name.
    pub fn declarations(&self) -> impl Iterator<Item = (&str, &Declaration)> {
        let all = self.declarations.iter();
        all.map(|(name, declaration)| (name.as_str(), declaration))
    }

    /// What stands in text for a variable: its value, or a secret's mark.
    #[must_use]
    pub fn inserted(&self, name: &str) -> Option<String> {
        self.get(name).map(|value| match value {
            // What only a mark may have is taken out of a value that is none.
            Value::Plain(text) => super::secret::mask(text),
            Value::Secret => super::secret::mark(name),
        })
    }

    /// What is wrong with the value of a declared variable, in words for a person that do not
    /// give it away; with what to do.
    #[must_use]
    pub fn mistake(&self, name: &str, declaration: &Declaration) -> Option<(String, String)> {
        let about = if declaration.description.is_empty() {
            String::new()
        } else {
            format!(" ({})", declaration.description)
        };
        match self.get(name) {
            None if declaration.required && declaration.secret => Some((
                format!("the required secret {name}{about} has no value"),
                format!("Set it with --secret {name}=@FILE"),
            )),
            None if declaration.required => Some((
                format!("the required variable {name}{about} has no value"),
                format!("Set it with --set {name}=VALUE, or for the stack or environment"),
            )),
            Some(Value::Plain(_)) if declaration.secret => Some((
                format!("the variable {name}{about} is a secret, and was set for all to read"),
                format!("Set it with --secret {name}=@FILE"),
            )),
            Some(Value::Plain(text)) => {
                let expected = declaration.kind.check(text).err()?;
                let message = format!("the variable {name}{about} has to be {expected}");
                Some((message, format!("Set it with --set {name}=VALUE")))
            }
            None | Some(Value::Secret) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_level_wins_whenever_it_was_set() {
        let mut variables = Variables::default();
        variables.plain(Level::Stack, "TAG", "stack");
        variables.plain(Level::Global, "TAG", "global");
        assert_eq!(variables.inserted("TAG").as_deref(), Some("stack"));
        assert_eq!(variables.level("TAG"), Some(Level::Stack));

        variables.set(Level::Given, "TAG", Value::Secret);
        assert_eq!(
            variables.inserted("TAG"),
            Some(super::super::secret::mark("TAG"))
        );
    }

    #[test]
    fn a_declaration_judges_the_value_without_showing_it() {
        let mut variables = Variables::default();
        let port = Declaration {
            kind: Kind::Int,
            required: true,
            ..Declaration::default()
        };
        assert!(variables.mistake("PORT", &port).is_some());
        variables.plain(Level::Given, "PORT", "hunter2");
        let (message, help) = variables.mistake("PORT", &port).unwrap();
        assert!(
            !message.contains("hunter2") && !help.contains("hunter2"),
            "{message}"
        );
        variables.plain(Level::Given, "PORT", "80");
        assert_eq!(variables.mistake("PORT", &port), None);
        assert!(!format!("{variables:?}").contains("80"));
    }
}
