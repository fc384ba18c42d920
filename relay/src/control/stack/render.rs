//! From a release to what one environment shall run.

use std::collections::{BTreeMap, BTreeSet};

use compose::{
    load::{self, Bundle, File, Sources, secret},
    model::{Shipped, Stack},
};
use zeroize::Zeroizing;

use super::{Candidate, Content, Control, Error, Principal};
use crate::{
    control::{
        release::{BundleFile, Manifest, digest_of},
        variable::{SecretValues, VariableTable},
    },
    id::CustomerId,
    store::EnvironmentRecord,
};

/// A release as one environment shall run it.
pub(super) struct Rendered {
    pub(super) stack: Stack,
    pub(super) warnings: Vec<String>,
    /// Values of the secrets that stand in it, and of no others.
    pub(super) secrets: SecretValues,
    /// Files that travel apart, by digest.
    pub(super) blobs: BTreeMap<String, std::sync::Arc<[u8]>>,
}

impl Control {
    /// The bytes of everything in a bundle.
    pub(super) async fn bundle(
        &self,
        customer: &CustomerId,
        manifest: &Manifest,
    ) -> Result<Bundle, Error> {
        let mut bundle = Bundle::new();
        let mut missing = Vec::new();
        for (path, file) in &manifest.files {
            match self.open_blob(customer, &file.digest).await? {
                Some(bytes) => {
                    bundle.insert(path.clone(), shared(&bytes, file));
                }
                None => missing.push(path.as_str()),
            }
        }
        if missing.is_empty() {
            return Ok(bundle);
        }
        Err(Error::Invalid {
            field: "files",
            reason: format!("send the bytes of these first: {}", missing.join(", ")),
        })
    }

    /// Renders a candidate for environments, and tells every mistake of each.
    pub(super) async fn render_all(
        &self,
        principal: &Principal,
        candidate: &Candidate,
        environments: &[EnvironmentRecord],
    ) -> Result<Vec<Rendered>, Error> {
        let bundle = self
            .bundle(principal.customer(), &candidate.manifest)
            .await?;
        let table = self.variable_table(principal).await?;
        let (mut all, mut problems) = (Vec::new(), Vec::new());
        for environment in environments {
            match render(&bundle, candidate, (environment, &table)) {
                Ok(rendered) => all.push(rendered),
                Err(own) if environments.len() == 1 => problems.extend(own),
                Err(own) => {
                    let named = |problem| format!("{}: {problem}", environment.name);
                    problems.extend(own.into_iter().map(named));
                }
            }
        }
        if problems.is_empty() {
            return Ok(all);
        }
        Err(Error::Unrenderable {
            stack: candidate.manifest.stack.clone(),
            problems,
        })
    }
}

fn shared(bytes: &Zeroizing<Vec<u8>>, file: &BundleFile) -> File {
    File {
        bytes: bytes.as_slice().into(),
        mode: file.mode,
    }
}

fn render(
    bundle: &Bundle,
    candidate: &Candidate,
    (environment, table): (&EnvironmentRecord, &VariableTable),
) -> Result<Rendered, Vec<String>> {
    let manifest = &candidate.manifest;
    let (variables, mut secrets) = table.of(environment.id, manifest, &candidate.given);
    let sources = Sources {
        files: bundle,
        compose: manifest.compose.clone(),
        name: Some(manifest.stack.clone()),
        folder: None,
        profiles: manifest.profiles.clone(),
        variables,
    };
    let loaded = load::load(&sources).map_err(|problems| texts(&problems))?;
    let used = secret_names(&loaded.stack);
    secrets.retain(|name, _| used.contains(name));
    Ok(Rendered {
        warnings: texts(&loaded.warnings),
        blobs: loaded.blobs,
        stack: loaded.stack,
        secrets,
    })
}

fn texts(problems: &[load::Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

/// Names of secret variables that a stack has marks of, or ships.
fn secret_names(stack: &Stack) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    // What is in the model is in its JSON, wherever it stands.
    let text = serde_json::to_string(stack).unwrap_or_default();
    names.extend(secret::names(&text).map(str::to_owned));
    for shipped in stack.files.values() {
        ship_names(shipped, &mut names);
    }
    names
}

fn ship_names(shipped: &Shipped, names: &mut BTreeSet<String>) {
    match shipped {
        Shipped::Secret { variable } => {
            names.insert(variable.clone());
        }
        Shipped::Folder { entries } => {
            for entry in entries.values() {
                ship_names(entry, names);
            }
        }
        Shipped::File { .. } | Shipped::Text { .. } => {}
    }
}

impl Rendered {
    /// Files that are in no bundle, and have to be kept for the agents.
    pub(super) fn further_blobs<'a>(
        &'a self,
        manifest: &'a Manifest,
    ) -> impl Iterator<Item = (&'a String, &'a std::sync::Arc<[u8]>)> {
        let known: BTreeSet<&str> = manifest.files.values().map(|f| f.digest.as_str()).collect();
        let further = self.blobs.iter();
        further.filter(move |(digest, bytes)| {
            !known.contains(digest.as_str()) && digest_of(bytes) == **digest
        })
    }

    pub(super) fn into_content(
        self,
        release: String,
        pins: BTreeMap<String, String>,
        options: &super::DeployOptions,
    ) -> Content {
        let secrets = self.secrets.into_iter();
        let text = |value: Zeroizing<String>| super::SecretText(value.as_str().to_owned());
        let used = |image: &String| self.stack.services.values().any(|s| s.image == *image);
        let pins = pins.into_iter().filter(|(image, _)| used(image)).collect();
        Content {
            desired: super::Desired::Run {
                release,
                stack: Box::new(self.stack),
            },
            secrets: secrets.map(|(name, value)| (name, text(value))).collect(),
            pins,
            remove_foreign_orphans: options.remove_foreign_orphans,
            force_recreate: options.force_recreate,
        }
    }
}
