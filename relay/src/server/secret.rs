//! The secrets of a first start: identity key, seal key and admin token, each in its file.

use data_encoding::BASE64URL_NOPAD;
use thiserror::Error;
use tracing::info;
use tunnel::KeyPair;
use wire::key::Secret;
use zeroize::Zeroizing;

use crate::{
    control::Sources,
    credential::ApiToken,
    data_dir::{ADMIN_TOKEN, DataDir, DataDirError, IDENTITY_KEY, SEAL_KEY, STORE},
    seal::{SealError, Sealer},
};

/// Begins the identity's file.
const SEED_PREFIX: &str = "ed25519-seed:";

/// Begins the seal key's file.
const SEAL_PREFIX: &str = "aes-256-gcm-key:";

/// Why a secret cannot be read or made. Says what a person can do, never the secret.
#[derive(Debug, Error)]
pub enum SecretError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] DataDirError),
    /// The identity's file does not hold a key.
    #[error(
        "`{path}` holds no identity key: put it back from a copy; agents pin it, and with another \
         one every agent would have to enrol again"
    )]
    IdentityDamaged {
        /// Which file.
        path: String,
    },
    /// There is a store and no identity.
    #[error(
        "`{path}` is missing and the store is there: put the key back from a copy; agents pin it. \
         To begin anew, with every agent enrolling again, move `{STORE}` away"
    )]
    IdentityMissing {
        /// Which file.
        path: String,
    },
    /// The seal key's file does not hold a key.
    #[error(
        "`{path}` holds no seal key: put it back from a copy; secrets in the store open with it \
         alone. To give them up, remove it and write every secret again"
    )]
    SealDamaged {
        /// Which file.
        path: String,
    },
    /// The library of ciphers takes no key.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The token's file does not hold one.
    #[error("`{path}` holds no API token: put it back, or remove it to have another one made")]
    TokenDamaged {
        /// Which file.
        path: String,
    },
}

/// Reads the relay's identity, and makes it at the first start.
pub(super) fn identity(dir: &DataDir, sources: &dyn Sources) -> Result<KeyPair, SecretError> {
    let path = || dir.file(IDENTITY_KEY).display().to_string();
    if let Some(content) = dir.read(IDENTITY_KEY)? {
        let damaged = || SecretError::IdentityDamaged { path: path() };
        let seed = read_key(SEED_PREFIX, &content).ok_or_else(damaged)?;
        return Ok(KeyPair::from_seed(&seed));
    }
    if dir.file(STORE).exists() {
        return Err(SecretError::IdentityMissing { path: path() });
    }
    let seed = draw(sources);
    let text = Zeroizing::new(format!(
        "{SEED_PREFIX}{}\n",
        *Zeroizing::new(BASE64URL_NOPAD.encode(&seed[..]))
    ));
    dir.write(IDENTITY_KEY, text.as_bytes())?;
    info!(path = path(), "identity key made");
    Ok(KeyPair::from_seed(&Secret::from_bytes(*seed)))
}

/// Reads the key that seals secrets in the store, and makes it where there is none.
pub(super) fn sealer(dir: &DataDir, sources: &dyn Sources) -> Result<Sealer, SecretError> {
    let path = || dir.file(SEAL_KEY).display().to_string();
    if let Some(content) = dir.read(SEAL_KEY)? {
        let damaged = || SecretError::SealDamaged { path: path() };
        let key = read_key(SEAL_PREFIX, &content).ok_or_else(damaged)?;
        return Ok(Sealer::new(&key)?);
    }
    let key = draw(sources);
    let text = Zeroizing::new(format!(
        "{SEAL_PREFIX}{}\n",
        *Zeroizing::new(BASE64URL_NOPAD.encode(&key[..]))
    ));
    dir.write(SEAL_KEY, text.as_bytes())?;
    info!(path = path(), "seal key made");
    Ok(Sealer::new(&Secret::from_bytes(*key))?)
}

/// Reads the first administrator's token, and makes it where there is none.
pub(super) fn admin_token(dir: &DataDir, sources: &dyn Sources) -> Result<ApiToken, SecretError> {
    let path = || dir.file(ADMIN_TOKEN).display().to_string();
    if let Some(content) = dir.read(ADMIN_TOKEN)? {
        let text = std::str::from_utf8(&content).unwrap_or_default();
        let damaged = || SecretError::TokenDamaged { path: path() };
        return ApiToken::from_text(text).ok_or_else(damaged);
    }
    let token = ApiToken::from_random(&draw(sources));
    let text = Zeroizing::new(format!("{}\n", token.expose()));
    dir.write(ADMIN_TOKEN, text.as_bytes())?;
    info!(path = path(), "first admin token made");
    Ok(token)
}

fn read_key(prefix: &str, content: &[u8]) -> Option<Secret> {
    let text = std::str::from_utf8(content)
        .ok()?
        .trim()
        .strip_prefix(prefix)?;
    let bytes = Zeroizing::new(BASE64URL_NOPAD.decode(text.as_bytes()).ok()?);
    Secret::from_slice(&bytes)
}

fn draw(sources: &dyn Sources) -> Zeroizing<[u8; 32]> {
    let mut bytes = Zeroizing::new([0; 32]);
    sources.fill(bytes.as_mut());
    bytes
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;
    use tunnel::World;

    use super::*;

    fn dir() -> (TempDir, DataDir) {
        let root = TempDir::new().unwrap();
        let dir = DataDir::open(root.path()).unwrap();
        (root, dir)
    }

    #[test]
    fn an_identity_is_made_once() {
        let (_root, dir) = dir();

        let first = identity(&dir, &World::real()).unwrap();
        let second = identity(&dir, &World::real()).unwrap();

        assert_eq!(first.public(), second.public());
    }

    #[test]
    fn a_lost_identity_is_not_replaced_while_agents_may_pin_it() {
        let (_root, dir) = dir();
        dir.write(STORE, b"").unwrap();

        let refused = identity(&dir, &World::real());

        assert!(
            matches!(refused, Err(SecretError::IdentityMissing { .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn a_damaged_file_is_told_and_left_as_it_is() {
        let (_root, dir) = dir();
        dir.write(IDENTITY_KEY, b"ed25519-seed:AAAA").unwrap();
        dir.write(ADMIN_TOKEN, b"\xff\xfe").unwrap();

        let (key, token) = (
            identity(&dir, &World::real()),
            admin_token(&dir, &World::real()),
        );

        assert!(
            matches!(key, Err(SecretError::IdentityDamaged { .. })),
            "{key:?}"
        );
        assert!(
            matches!(token, Err(SecretError::TokenDamaged { .. })),
            "{token:?}"
        );
        assert_eq!(
            dir.read(ADMIN_TOKEN).unwrap().unwrap().as_slice(),
            b"\xff\xfe"
        );
    }

    #[test]
    fn a_seal_key_is_made_once_and_a_damaged_one_is_told() {
        let (_root, dir) = dir();

        let first = sealer(&dir, &World::real()).unwrap();
        let second = sealer(&dir, &World::real()).unwrap();
        dir.write(SEAL_KEY, b"aes-256-gcm-key:AAAA").unwrap();
        let damaged = sealer(&dir, &World::real());

        assert_eq!(first.fingerprint(b"x"), second.fingerprint(b"x"));
        assert!(matches!(damaged, Err(SecretError::SealDamaged { .. })));
    }

    #[test]
    fn an_admin_token_is_made_once() {
        let (_root, dir) = dir();

        let first = admin_token(&dir, &World::real()).unwrap();
        let second = admin_token(&dir, &World::real()).unwrap();

        assert_eq!(first.hash(), second.hash());
    }
}
