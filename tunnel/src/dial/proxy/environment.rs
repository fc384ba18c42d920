//! The proxy that the environment names, in the variables that everybody reads.

use std::ffi::{OsStr, OsString};

use thiserror::Error;

use super::{NoProxy, ParseProxyError, Proxy, ProxyUse};

/// In the order in which they count. `HTTP_PROXY` is not for us: the way to a relay is TLS.
const PROXY_VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

const EXCEPT_VARIABLES: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// A variable that names no proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{name} names no proxy: {problem}")]
pub struct BadVariable {
    /// Which one.
    pub name: &'static str,
    /// Why; never what it holds.
    pub problem: ParseProxyError,
}

impl ProxyUse {
    /// The proxy of the environment; `None` where it names none. This host is always
    /// reached directly.
    ///
    /// # Errors
    ///
    /// The variable that counts names no proxy.
    pub fn of_environment(
        environment: &[(OsString, OsString)],
    ) -> Result<Option<Self>, BadVariable> {
        let Some((name, text)) = first(environment, &PROXY_VARIABLES) else {
            return Ok(None);
        };
        let text = text.to_str().ok_or(ParseProxyError::Host);
        let proxy = text.and_then(str::parse::<Proxy>);
        let proxy = proxy.map_err(|problem| BadVariable { name, problem })?;
        Ok(Some(Self {
            proxy,
            except: NoProxy::of_environment(environment).and_loopback(),
        }))
    }
}

impl NoProxy {
    /// Whom the environment wants to be reached directly.
    pub fn of_environment(environment: &[(OsString, OsString)]) -> Self {
        let text = first(environment, &EXCEPT_VARIABLES);
        text.map_or_else(Self::default, |(_, text)| {
            Self::parse(&text.to_string_lossy())
        })
    }
}

/// The first of the variables that is set to something.
fn first<'a>(
    environment: &'a [(OsString, OsString)],
    names: &[&'static str],
) -> Option<(&'static str, &'a OsStr)> {
    names.iter().find_map(|name| {
        let mut variables = environment.iter();
        let found = variables.find(|(variable, value)| **variable == **name && !value.is_empty());
        found.map(|(_, value)| (*name, value.as_os_str()))
    })
}
