//! Files that ship with a release, under names that say what their content is.
//!
//! A container mounts a path. Were that path the same for every release, a new release would
//! change the files of an old container under its feet, and going back could not bring them
//! back. So a key gets its content's hash in front: equal content has an equal path, and
//! a container is replaced where, and only where, a file of its has changed.

use std::collections::BTreeMap;

use compose::model::{MountKind, Shipped, Stack};
use sha2::{Digest, Sha256};

/// Hex digits of the hash that are enough to tell the files of one stack apart.
const HASH_DIGITS: usize = 16;

/// The stack with keys of that kind. `fingerprints` stand for the values of secret variables.
pub fn addressed(stack: &Stack, fingerprints: &BTreeMap<String, String>) -> Stack {
    let mut stack = stack.clone();
    let mut renamed = BTreeMap::new();
    for (key, shipped) in std::mem::take(&mut stack.files) {
        let name = key
            .rsplit('/')
            .find(|part| !part.is_empty() && !part.starts_with('.'));
        let address = format!(
            "{}/{}",
            hash(&shipped, fingerprints),
            name.unwrap_or("file")
        );
        renamed.insert(key, address.clone());
        stack.files.insert(address, shipped);
    }
    for service in stack.services.values_mut() {
        let mounts = service.mounts.iter_mut();
        let shipped = mounts.filter(|mount| mount.kind == MountKind::Shipped);
        let sources = shipped.filter_map(|mount| mount.source.as_mut());
        let files = service.configs.iter_mut().chain(&mut service.secrets);
        for source in sources.chain(files.map(|file| &mut file.source)) {
            if let Some(address) = renamed.get(source) {
                source.clone_from(address);
            }
        }
    }
    stack
}

fn hash(shipped: &Shipped, fingerprints: &BTreeMap<String, String>) -> String {
    let mut hasher = Sha256::new();
    feed(&mut hasher, shipped, fingerprints);
    let mut hex = data_encoding::HEXLOWER.encode(&hasher.finalize());
    hex.truncate(HASH_DIGITS);
    hex
}

fn feed(hasher: &mut Sha256, shipped: &Shipped, fingerprints: &BTreeMap<String, String>) {
    // Each part with its length, so that no two different things are fed alike.
    let mut part = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_be_bytes());
        hasher.update(bytes);
    };
    match shipped {
        Shipped::File { digest, mode, .. } => {
            part(b"file");
            part(digest.as_bytes());
            part(&mode.to_be_bytes());
        }
        Shipped::Text { text } => {
            part(b"text");
            part(text.as_bytes());
            for name in compose::load::secret::names(text) {
                part(fingerprints.get(name).map_or(b"", |print| print.as_bytes()));
            }
        }
        Shipped::Secret { variable } => {
            part(b"secret");
            part(variable.as_bytes());
            part(
                fingerprints
                    .get(variable)
                    .map_or(b"", |print| print.as_bytes()),
            );
        }
        Shipped::Folder { entries } => {
            part(b"folder");
            part(&(entries.len() as u64).to_be_bytes());
            for (name, entry) in entries {
                hasher.update((name.len() as u64).to_be_bytes());
                hasher.update(name.as_bytes());
                feed(hasher, entry, fingerprints);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(text: &str) -> Stack {
        let shipped = Shipped::Text {
            text: text.to_owned(),
        };
        Stack {
            name: "shop".to_owned(),
            services: BTreeMap::new(),
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
            files: BTreeMap::from([("./conf/nginx.conf".to_owned(), shipped)]),
        }
    }

    fn key(stack: &Stack, prints: &[(&str, &str)]) -> String {
        let prints = prints
            .iter()
            .map(|(name, print)| ((*name).to_owned(), (*print).to_owned()));
        let addressed = addressed(stack, &prints.collect());
        addressed.files.keys().next().unwrap().clone()
    }

    #[test]
    fn equal_content_has_an_equal_path_and_other_content_another() {
        assert_eq!(key(&stack("a"), &[]), key(&stack("a"), &[]));
        assert_ne!(key(&stack("a"), &[]), key(&stack("b"), &[]));
        assert!(key(&stack("a"), &[]).ends_with("/nginx.conf"));
    }

    #[test]
    fn a_secret_of_another_value_has_another_path() {
        let text = compose::load::secret::mark("PASSWORD");

        let one = key(&stack(&text), &[("PASSWORD", "1")]);

        assert_ne!(one, key(&stack(&text), &[("PASSWORD", "2")]));
    }
}
