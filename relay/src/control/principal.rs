//! Who asks.

use std::fmt;

use crate::id::CustomerId;

/// Who asks for something: named in logs here and at the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    name: String,
    customer: CustomerId,
}

impl Principal {
    /// The holder of an API token.
    pub fn of_token(token_name: &str, customer: CustomerId) -> Self {
        Self {
            name: format!("token:{token_name}"),
            customer,
        }
    }

    /// The name in logs and in the opens of streams, such as `token:admin`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whose environments the principal reaches.
    pub fn customer(&self) -> &CustomerId {
        &self.customer
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
