//! With which identity a process starts: decided from what is on the disk and the
//! token that was given. Pure; an identity once enrolled is never given up here.

use thiserror::Error;
use wire::{
    key::Secret,
    token::{EnrolToken, RelayAddress},
};

use crate::{
    identity::{Identity, Stage},
    token::TokenError,
};

/// How a process starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// With this identity, its counter raised; to be saved before anything is dialled.
    pub identity: Identity,
    /// The token's secret, while the identity is not enrolled.
    pub secret: Option<Secret>,
    /// Another token for the same environment. Of use only if the relay no longer
    /// knows the identity: the environment was removed and added again.
    pub spare: Option<EnrolToken>,
    /// What a person should know about the token.
    pub notice: Option<String>,
}

/// Why a process cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// There is neither an identity nor a token.
    #[error(
        "this host is not enrolled: give the token that the vendor has sent, with --token-file FILE, STERNLINE_TOKEN or --token"
    )]
    NoToken,
    /// An enrolment that was begun needs its token to be finished.
    #[error(
        "enrolment in `{environment}` was begun and not finished: give the token again, with --token-file FILE, STERNLINE_TOKEN or --token"
    )]
    Unfinished {
        /// Name of the environment.
        environment: String,
    },
    /// The token belongs to another relay or environment than the identity.
    #[error("this host is enrolled in `{enrolled}` and the token is for `{given}`{relay}: name another directory with --state-dir to run both, or remove {file} to give up the former enrolment", file = crate::identity::IDENTITY_FILE, relay = if *.other_relay { " at another relay" } else { "" })]
    OtherEnvironment {
        /// Name of the identity's environment.
        enrolled: String,
        /// Name of the token's environment.
        given: String,
        /// Whether the relay's identity differs, too.
        other_relay: bool,
    },
    /// A token is needed, and the one given is not usable.
    #[error("{0}")]
    Token(#[from] TokenError),
}

/// Decides. `seed` is a fresh key, used only where one is needed; `hash` is SHA-256.
///
/// # Errors
///
/// See [`StartError`]; in each case nothing on the disk is to be changed.
pub fn decide(
    existing: Option<Identity>,
    token: Result<Option<EnrolToken>, TokenError>,
    seed: Secret,
    hash: fn(&[u8]) -> [u8; 32],
) -> Result<Start, StartError> {
    let mut start = match existing {
        Some(identity) if matches!(identity.stage, Stage::Enrolled(_)) => {
            keep(identity, token, hash)?
        }
        Some(identity) => {
            let unfinished = || StartError::Unfinished {
                environment: identity.environment.clone(),
            };
            let token = token?.ok_or_else(unfinished)?;
            if hash(token.secret.expose()) == identity.token_sha256 {
                resume(identity, token)
            } else {
                begin(token, seed, hash)
            }
        }
        None => begin(token?.ok_or(StartError::NoToken)?, seed, hash),
    };
    start.identity.start_counter = start.identity.start_counter.saturating_add(1);
    Ok(start)
}

/// A fresh identity for a token.
pub fn begin(token: EnrolToken, seed: Secret, hash: fn(&[u8]) -> [u8; 32]) -> Start {
    let identity = Identity {
        stage: Stage::Enrolling,
        environment: token.environment,
        addresses: token.addresses,
        relay_identity: token.relay_identity,
        seed,
        start_counter: 0,
        token_sha256: hash(token.secret.expose()),
    };
    Start {
        identity,
        secret: Some(token.secret),
        spare: None,
        notice: None,
    }
}

/// The relay may have taken the key already: it takes the same key again, and no other.
fn resume(mut identity: Identity, token: EnrolToken) -> Start {
    identity.addresses = token.addresses;
    let notice = Some("an enrolment that was begun is being finished".to_owned());
    Start {
        identity,
        secret: Some(token.secret),
        spare: None,
        notice,
    }
}

fn keep(
    identity: Identity,
    token: Result<Option<EnrolToken>, TokenError>,
    hash: fn(&[u8]) -> [u8; 32],
) -> Result<Start, StartError> {
    let start = |spare, notice| Start {
        identity: identity.clone(),
        secret: None,
        spare,
        notice,
    };
    let token = match token {
        Ok(None) => return Ok(start(None, None)),
        // A token file may be gone once it has served.
        Err(error) => {
            let notice = format!("this host is enrolled already; the token is not read: {error}");
            return Ok(start(None, Some(notice)));
        }
        Ok(Some(token)) => token,
    };
    let other_relay = token.relay_identity != identity.relay_identity;
    if other_relay || token.environment != identity.environment {
        let enrolled = identity.environment;
        let given = token.environment;
        return Err(StartError::OtherEnvironment {
            enrolled,
            given,
            other_relay,
        });
    }
    let is_fresh = hash(token.secret.expose()) != identity.token_sha256;
    let notice = "this host is enrolled already; the token is ignored".to_owned();
    Ok(start(is_fresh.then_some(token), Some(notice)))
}

/// The first address, for people.
pub fn address_text(addresses: &[RelayAddress]) -> String {
    addresses
        .first()
        .map(|address| format!("{}:{}", address.host, address.tunnel_port))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use wire::{id::AgentId, key::PublicKey, token::ParseTokenError};

    use super::*;

    const SEED: [u8; 32] = [1; 32];

    fn token(environment: &str, secret: u8) -> EnrolToken {
        EnrolToken {
            addresses: vec![RelayAddress {
                host: "r".into(),
                tunnel_port: 8000,
                https_port: 443,
            }],
            relay_identity: PublicKey([3; 32]),
            secret: Secret::from_bytes([secret; 32]),
            expires_unix_seconds: 0,
            environment: environment.into(),
        }
    }

    fn hash(bytes: &[u8]) -> [u8; 32] {
        [bytes[0]; 32]
    }

    fn start(
        existing: Option<Identity>,
        token: Result<Option<EnrolToken>, TokenError>,
    ) -> Result<Start, StartError> {
        decide(existing, token, Secret::from_bytes(SEED), hash)
    }

    fn enrolled() -> Identity {
        let mut identity = start(None, Ok(Some(token("berlin", 7)))).unwrap().identity;
        identity.stage = Stage::Enrolled(AgentId::from_bytes([9; 16]));
        identity
    }

    #[test]
    fn a_new_host_enrols_with_a_fresh_key_and_counts_its_first_start() {
        let start = start(None, Ok(Some(token("berlin", 7)))).unwrap();

        assert_eq!(start.identity.stage, Stage::Enrolling);
        assert_eq!(start.identity.seed, Secret::from_bytes(SEED));
        assert_eq!(start.identity.start_counter, 1);
        assert_eq!(start.secret, Some(Secret::from_bytes([7; 32])));
    }

    #[test]
    fn without_identity_and_token_it_does_not_start() {
        assert!(matches!(start(None, Ok(None)), Err(StartError::NoToken)));
        let damaged = Err(ParseTokenError::Damaged.into());
        assert!(matches!(start(None, damaged), Err(StartError::Token(_))));
    }

    #[test]
    fn an_enrolment_cut_short_is_finished_with_the_same_key() {
        let mut begun = start(None, Ok(Some(token("berlin", 7)))).unwrap().identity;
        begun.seed = Secret::from_bytes([2; 32]);

        let again = start(Some(begun.clone()), Ok(Some(token("berlin", 7)))).unwrap();

        assert_eq!(again.identity.seed, begun.seed);
        assert_eq!(again.identity.start_counter, begun.start_counter + 1);
        assert!(matches!(
            start(Some(begun), Ok(None)),
            Err(StartError::Unfinished { .. })
        ));
    }

    #[test]
    fn another_token_before_enrolment_begins_anew() {
        let begun = start(None, Ok(Some(token("berlin", 7)))).unwrap().identity;

        let start = decide(
            Some(begun),
            Ok(Some(token("paris", 8))),
            Secret::from_bytes([4; 32]),
            hash,
        )
        .unwrap();

        assert_eq!(start.identity.environment, "paris");
        assert_eq!(start.identity.seed, Secret::from_bytes([4; 32]));
    }

    #[test]
    fn an_enrolled_host_keeps_its_identity_whatever_token_is_given() {
        let former = enrolled();
        let next = Identity {
            start_counter: former.start_counter + 1,
            ..former.clone()
        };
        let unreadable = TokenError::Parse(ParseTokenError::Damaged);

        let none = start(Some(former.clone()), Ok(None)).unwrap();
        let same = start(Some(former.clone()), Ok(Some(token("berlin", 7)))).unwrap();
        let newer = start(Some(former.clone()), Ok(Some(token("berlin", 8)))).unwrap();
        let gone = start(Some(former), Err(unreadable)).unwrap();

        for start in [&none, &same, &newer, &gone] {
            assert_eq!(start.identity, next);
            assert_eq!(start.secret, None);
        }
        assert!(none.notice.is_none() && same.notice.is_some() && gone.notice.is_some());
        assert_eq!((same.spare, newer.spare), (None, Some(token("berlin", 8))));
    }

    #[test]
    fn a_token_for_another_environment_or_relay_is_refused_by_an_enrolled_host() {
        let elsewhere = EnrolToken {
            relay_identity: PublicKey([4; 32]),
            ..token("berlin", 7)
        };

        for token in [token("paris", 8), elsewhere] {
            let error = start(Some(enrolled()), Ok(Some(token)))
                .unwrap_err()
                .to_string();

            assert!(
                error.contains("--state-dir") && error.contains("identity.json"),
                "{error}"
            );
        }
    }
}
