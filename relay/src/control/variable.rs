//! Use cases on variables of Compose files, at three levels, and on logins at registries.

use std::{collections::BTreeMap, fmt};

use compose::load::{
    Declaration, Level, Variables,
    variables::{Kind, Value},
};
use jiff::Timestamp;
use tracing::info;
use wire::id::EnvironmentId;
use zeroize::Zeroizing;

use super::{Control, Error, Principal, release::Manifest, stack::check_stack_name};
use crate::{
    limits::{REGISTRY_LOGINS_MAX, VARIABLE_BYTES_MAX, VARIABLES_MAX},
    store::{RegistryLoginRecord, VariableRecord, VariableScope},
};

/// Where a variable counts, by names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// For every stack everywhere.
    Global,
    /// For every stack of this environment.
    Environment(String),
    /// For this stack everywhere.
    Stack(String),
}

/// What a variable's value must look like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum VariableKind {
    /// Any text.
    #[default]
    String,
    /// A whole number.
    Int,
    /// `true` or `false`.
    Bool,
}

/// A variable to be written at one level.
#[derive(Clone)]
pub struct NewVariable {
    /// Where it counts.
    pub scope: Scope,
    /// As Compose files name it.
    pub name: String,
    /// What it must look like.
    pub kind: VariableKind,
    /// Its value is shown to nobody.
    pub is_secret: bool,
    /// Without a value nothing is deployed.
    pub is_required: bool,
    /// `None`: it is declared, and has no value at this level.
    pub value: Option<Zeroizing<String>>,
}

/// A variable at one level.
#[derive(Clone)]
pub struct VariableView {
    /// Where it counts.
    pub scope: Scope,
    /// As Compose files name it.
    pub name: String,
    /// What it must look like.
    pub kind: VariableKind,
    /// Its value is shown to nobody.
    pub is_secret: bool,
    /// Without a value nothing is deployed.
    pub is_required: bool,
    /// Whether it has a value at this level.
    pub is_set: bool,
    /// Its value; never one of a secret.
    pub value: Option<String>,
    /// When it was written.
    pub updated_at: Timestamp,
}

/// A login at a registry; its password is shown to nobody.
#[derive(Debug, Clone)]
pub struct RegistryLoginView {
    /// The registry.
    pub host: String,
    /// The account.
    pub account: String,
    /// When it was written.
    pub updated_at: Timestamp,
}

/// Values of secret variables, by name.
pub(super) type SecretValues = BTreeMap<String, Zeroizing<String>>;

/// The whole table, opened: what every render takes from.
pub(super) struct VariableTable {
    records: Vec<(VariableRecord, Option<Zeroizing<String>>)>,
}

impl VariableKind {
    /// In text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Int => "int",
            Self::Bool => "bool",
        }
    }

    /// From text; `None` for what is none of the three.
    pub fn from_text(text: &str) -> Option<Self> {
        [Self::String, Self::Int, Self::Bool]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }

    fn expected(self) -> Kind {
        match self {
            Self::String => Kind::Text,
            Self::Int => Kind::Int,
            Self::Bool => Kind::Bool,
        }
    }
}

/// Where a variable's value is sealed for.
fn place_of(scope: &VariableScope, name: &str) -> String {
    match scope {
        VariableScope::Global => format!("variable:global:{name}"),
        VariableScope::Environment(id) => format!("variable:environment:{id}:{name}"),
        VariableScope::Stack(stack) => format!("variable:stack:{stack}:{name}"),
    }
}

fn login_place_of(host: &str) -> String {
    format!("registry:{host}")
}

fn check_variable_name(name: &str) -> Result<(), Error> {
    let is_start = |b: &u8| b.is_ascii_alphabetic() || *b == b'_';
    let bytes = name.as_bytes();
    let is_name = bytes.len() <= 255
        && bytes.first().is_some_and(is_start)
        && bytes.iter().all(|b| is_start(b) || b.is_ascii_digit());
    if is_name {
        return Ok(());
    }
    Err(Error::Invalid {
        field: "name",
        reason: format!(
            "`{}` is no name of a variable: letters, digits and `_`, not first a digit",
            name.chars().take(256).collect::<String>().escape_debug()
        ),
    })
}

impl Control {
    /// Writes a variable at one level, in place of an earlier one.
    ///
    /// # Errors
    ///
    /// A name, kind or value that may not be; no such environment; a full or failing store.
    pub async fn put_variable(&self, principal: &Principal, new: NewVariable) -> Result<(), Error> {
        let scope = self.stored_scope(principal, &new.scope).await?;
        let record = self.variable_record(principal, scope, &new)?;
        let had = self.store.variables(principal.customer()).await?;
        if had.len() >= VARIABLES_MAX {
            return Err(Error::LimitReached {
                what: "variables",
                limit: VARIABLES_MAX as u64,
            });
        }
        if !self.store.put_variable(record).await? {
            return Err(Error::EnvironmentUnknown {
                name: format!("{:?}", new.scope),
            });
        }
        info!(%principal, scope = ?new.scope, name = new.name, "variable written");
        Ok(())
    }

    /// A variable as it is stored, checked and sealed.
    pub(super) fn variable_record(
        &self,
        principal: &Principal,
        scope: VariableScope,
        new: &NewVariable,
    ) -> Result<VariableRecord, Error> {
        check_variable_name(&new.name)?;
        if let Some(value) = &new.value {
            let expected = new.kind.expected().check(value).err();
            let too_long = value.len() > VARIABLE_BYTES_MAX;
            let wrong = too_long.then(|| format!("at most {VARIABLE_BYTES_MAX} bytes"));
            if let Some(expected) = expected.or(wrong) {
                let reason = format!("the value of `{}` must be {expected}", new.name);
                return Err(Error::Invalid {
                    field: "value",
                    reason,
                });
            }
        }
        let place = place_of(&scope, &new.name);
        let value = new.value.as_ref();
        let sealed = value.map(|value| self.seal(&place, value.as_bytes()));
        Ok(VariableRecord {
            customer: principal.customer().clone(),
            scope,
            name: new.name.clone(),
            kind: new.kind.as_str().to_owned(),
            is_secret: new.is_secret,
            is_required: new.is_required,
            sealed: sealed.transpose()?,
            updated_at: self.now(),
        })
    }

    /// All variables, by name, the more general level first.
    ///
    /// # Errors
    ///
    /// A value that cannot be unsealed; a failing store.
    pub async fn variables(&self, principal: &Principal) -> Result<Vec<VariableView>, Error> {
        let environments = self.store.environments(principal.customer()).await?;
        let names: BTreeMap<EnvironmentId, String> = environments
            .into_iter()
            .map(|record| (record.id, record.name))
            .collect();
        let table = self.variable_table(principal).await?;
        let views = table.records.into_iter().filter_map(|(record, value)| {
            Some(VariableView {
                scope: match record.scope {
                    VariableScope::Global => Scope::Global,
                    VariableScope::Environment(id) => Scope::Environment(names.get(&id)?.clone()),
                    VariableScope::Stack(stack) => Scope::Stack(stack),
                },
                name: record.name,
                kind: VariableKind::from_text(&record.kind).unwrap_or_default(),
                is_secret: record.is_secret,
                is_required: record.is_required,
                is_set: value.is_some(),
                value: value
                    .filter(|_| !record.is_secret)
                    .map(|value| value.to_string()),
                updated_at: record.updated_at,
            })
        });
        Ok(views.collect())
    }

    /// Removes a variable at one level.
    ///
    /// # Errors
    ///
    /// No such variable or environment; a failing store.
    pub async fn remove_variable(
        &self,
        principal: &Principal,
        scope: &Scope,
        name: &str,
    ) -> Result<(), Error> {
        let stored = self.stored_scope(principal, scope).await?;
        let customer = principal.customer();
        if !self.store.remove_variable(customer, &stored, name).await? {
            return Err(Error::VariableUnknown {
                name: name.to_owned(),
            });
        }
        info!(%principal, ?scope, name, "variable removed");
        Ok(())
    }

    async fn stored_scope(
        &self,
        principal: &Principal,
        scope: &Scope,
    ) -> Result<VariableScope, Error> {
        Ok(match scope {
            Scope::Global => VariableScope::Global,
            Scope::Environment(name) => {
                VariableScope::Environment(self.resolve_environment(principal, name).await?)
            }
            Scope::Stack(stack) => {
                check_stack_name(stack)?;
                VariableScope::Stack(stack.clone())
            }
        })
    }

    pub(super) async fn variable_table(
        &self,
        principal: &Principal,
    ) -> Result<VariableTable, Error> {
        let records = self.store.variables(principal.customer()).await?;
        let open = |record: VariableRecord| {
            let place = place_of(&record.scope, &record.name);
            let sealed = record.sealed.as_ref();
            let bytes = sealed
                .map(|sealed| self.unseal(&place, sealed))
                .transpose()?;
            let text = |bytes: Zeroizing<Vec<u8>>| {
                Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned())
            };
            Ok((record, bytes.map(text)))
        };
        let records = records
            .into_iter()
            .map(open)
            .collect::<Result<_, Error>>()?;
        Ok(VariableTable { records })
    }

    /// Writes a login at a registry, in place of an earlier one for its host.
    ///
    /// # Errors
    ///
    /// A host or account that may not be; a full or failing store.
    pub async fn put_registry_login(
        &self,
        principal: &Principal,
        (host, account): (&str, &str),
        password: &str,
    ) -> Result<(), Error> {
        let is_word = |text: &str| {
            (1..=255).contains(&text.len()) && !text.contains(|c: char| c.is_control() || c == ' ')
        };
        if !is_word(host) || host.contains('/') {
            return Err(Error::Invalid {
                field: "host",
                reason: "name the registry as images do, such as registry.example:5000".to_owned(),
            });
        }
        if !is_word(account) || password.is_empty() || password.len() > VARIABLE_BYTES_MAX {
            return Err(Error::Invalid {
                field: "user",
                reason: "a user and a password are needed".to_owned(),
            });
        }
        let had = self.store.registry_logins(principal.customer()).await?;
        if had.len() >= REGISTRY_LOGINS_MAX && had.iter().all(|login| login.host != host) {
            return Err(Error::LimitReached {
                what: "logins at registries",
                limit: REGISTRY_LOGINS_MAX as u64,
            });
        }
        let login = RegistryLoginRecord {
            customer: principal.customer().clone(),
            host: host.to_owned(),
            account: account.to_owned(),
            sealed: self.seal(&login_place_of(host), password.as_bytes())?,
            updated_at: self.now(),
        };
        self.store.put_registry_login(login).await?;
        info!(%principal, host, account, "login at a registry written");
        Ok(())
    }

    /// Logins at registries, by host.
    ///
    /// # Errors
    ///
    /// A failing store.
    pub async fn registry_logins(
        &self,
        principal: &Principal,
    ) -> Result<Vec<RegistryLoginView>, Error> {
        let records = self.store.registry_logins(principal.customer()).await?;
        let view = |record: RegistryLoginRecord| RegistryLoginView {
            host: record.host,
            account: record.account,
            updated_at: record.updated_at,
        };
        Ok(records.into_iter().map(view).collect())
    }

    /// Removes a login at a registry.
    ///
    /// # Errors
    ///
    /// No such login; a failing store.
    pub async fn remove_registry_login(
        &self,
        principal: &Principal,
        host: &str,
    ) -> Result<(), Error> {
        let customer = principal.customer();
        if !self.store.remove_registry_login(customer, host).await? {
            return Err(Error::RegistryLoginUnknown {
                host: host.to_owned(),
            });
        }
        info!(%principal, host, "login at a registry removed");
        Ok(())
    }

    /// The password of a login.
    pub(super) fn registry_password(
        &self,
        login: &RegistryLoginRecord,
    ) -> Result<Zeroizing<String>, Error> {
        let bytes = self.unseal(&login_place_of(&login.host), &login.sealed)?;
        Ok(Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned()))
    }
}

impl VariableTable {
    /// What counts for a release at an environment, and the values of its secrets. Secrets
    /// that come with the release are set already, for its stack.
    pub(super) fn of(
        &self,
        environment: EnvironmentId,
        manifest: &Manifest,
        given: &SecretValues,
    ) -> (Variables, SecretValues) {
        let mut variables = Variables::default();
        let mut secrets = SecretValues::new();
        let mut declared: BTreeMap<&str, Declaration> = BTreeMap::new();
        for wanted in [Level::Global, Level::Environment, Level::Stack] {
            for (record, value) in &self.records {
                if level_of(&record.scope, environment, &manifest.stack) != Some(wanted) {
                    continue;
                }
                let kind = VariableKind::from_text(&record.kind).unwrap_or_default();
                let declaration = declared.entry(&record.name).or_default();
                declaration.required |= record.is_required;
                declaration.secret |= record.is_secret;
                if kind != VariableKind::String {
                    declaration.kind = kind.expected();
                }
                match value {
                    Some(value) if record.is_secret => {
                        variables.set(wanted, &record.name, Value::Secret);
                        secrets.insert(record.name.clone(), value.clone());
                    }
                    Some(value) => {
                        variables.plain(wanted, &record.name, value.as_str());
                        secrets.remove(&record.name);
                    }
                    None => {}
                }
            }
        }
        for (name, declaration) in declared {
            variables.declare(name, declaration);
        }
        for (name, value) in given {
            variables.set(Level::Stack, name, Value::Secret);
            secrets.insert(name.clone(), value.clone());
        }
        for (name, value) in &manifest.variables {
            variables.plain(Level::Given, name, value);
            secrets.remove(name);
        }
        (variables, secrets)
    }
}

/// At which level a variable counts there, if it does.
fn level_of(scope: &VariableScope, environment: EnvironmentId, stack: &str) -> Option<Level> {
    match scope {
        VariableScope::Global => Some(Level::Global),
        VariableScope::Environment(id) => (*id == environment).then_some(Level::Environment),
        VariableScope::Stack(name) => (name == stack).then_some(Level::Stack),
    }
}

impl fmt::Debug for NewVariable {
    /// The value is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NewVariable({} of {:?})", self.name, self.scope)
    }
}

impl fmt::Debug for VariableView {
    /// The value is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VariableView({} of {:?})", self.name, self.scope)
    }
}
