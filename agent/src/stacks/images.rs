//! Images, before anything else is touched: pulled where they are missing, and each reference
//! pinned to what it stood for.
//!
//! Layers that the Engine has are not pulled again, also where a pull was interrupted: the
//! Engine keeps each layer that was complete.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bollard::{
    auth::DockerCredentials, models::CreateImageInfo, query_parameters::CreateImageOptions,
};
use compose::{
    exchange::{Progress, RegistryLogin, WantedImage},
    model::PullPolicy,
    plan::ImageSeen,
};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{
    deliveries::Delivery,
    engine::{Engine, repository_and_tag},
    fault::{Fault, Kind},
    record::Version,
    site::Site,
};

/// Images that are pulled at the same time.
const AT_A_TIME: usize = 3;
/// The first pause before a pull is tried again; doubled up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A pull that says nothing for so long is begun again.
const SILENCE_MAX: Duration = Duration::from_secs(120);
/// How often a pull is tried at the least where the relay cannot send the image either.
const TRIES_MAX: u32 = 5;

/// An image that came through the session: its reference, its manifest's digest, its id.
type Sent = (String, String, String);

/// One image that shall be there.
#[derive(Debug, Clone)]
struct Pull {
    service: String,
    reference: String,
    platform: Option<String>,
    /// The digest of its manifest, where it is known.
    pin: Option<String>,
}

/// Makes sure of these images (by reference, with the service that wants each) until that
/// moment, and notes what each is. Gives those that came through the session: digest of a
/// manifest to id in the Engine.
///
/// # Errors
///
/// The first image that cannot be had.
pub async fn fetch(
    site: &Site,
    version: &mut Version,
    needed: &BTreeMap<String, String>,
    (logins, until): (&BTreeMap<String, RegistryLogin>, Instant),
) -> Result<BTreeMap<String, String>, Fault> {
    let pulls = needed.iter().map(|(reference, service)| Pull {
        service: service.clone(),
        reference: reference.clone(),
        platform: version
            .stack
            .services
            .get(service)
            .and_then(|s| s.platform.clone()),
        pin: version.digests.get(reference).cloned(),
    });
    let pulls: Vec<Pull> = pulls.collect();
    let stack = version.stack.name.as_str();
    let each = stream::iter(pulls).map(|pull| async move {
        let pulled = pull_patiently(site, stack, &pull, (logins, until)).await;
        pulled.map_err(|fault| fault.of_service(&pull.service))
    });
    let sent: Vec<Option<Sent>> = each.buffer_unordered(AT_A_TIME).try_collect().await?;
    let mut loaded = BTreeMap::new();
    for (reference, manifest, id) in sent.into_iter().flatten() {
        version.digests.insert(reference, manifest.clone());
        loaded.insert(manifest, id);
    }
    identify(site, version).await?;
    Ok(loaded)
}

/// Gives every reference the image that the version knows it by, where the Engine has it:
/// a tag may have come to stand for something else since.
///
/// # Errors
///
/// The Engine's.
pub async fn restore_tags(site: &Site, version: &Version) -> Result<(), Fault> {
    let engine = site.engine()?;
    for reference in version.references() {
        let pinned = version
            .digests
            .get(&reference)
            .map(|digest| pinned(&reference, digest));
        let known = version.images.get(&reference).cloned().or(pinned);
        let Some(known) = known else {
            continue;
        };
        let Some(image) = engine.image(&known).await? else {
            continue;
        };
        let now = engine.image(&reference).await?;
        if now.is_none_or(|now| now.id != image.id) && !reference.contains('@') {
            engine
                .tag(image.id.as_deref().unwrap_or_default(), &reference)
                .await?;
        }
    }
    Ok(())
}

/// Notes what each reference stands for.
async fn identify(site: &Site, version: &mut Version) -> Result<(), Fault> {
    let engine = site.engine()?;
    for reference in version.references() {
        let Some(image) = engine.image(&reference).await? else {
            continue;
        };
        let seen = ImageSeen::of(&image);
        let repository = full_name(repository_and_tag(&reference).0);
        let of_it = seen
            .repo_digests
            .iter()
            .filter_map(|entry| entry.split_once('@'));
        let digest = of_it
            .filter(|(name, _)| full_name(name) == repository)
            .map(|(_, d)| d)
            .next();
        if let Some(digest) = digest {
            version.digests.insert(reference.clone(), digest.to_owned());
        }
        version.images.insert(reference, seen.id);
    }
    Ok(())
}

/// Again and again, as long as it may pass. Where the registry is not reached, the relay is
/// asked for the image meanwhile.
async fn pull_patiently(
    site: &Site,
    stack: &str,
    pull: &Pull,
    (logins, until): (&BTreeMap<String, RegistryLogin>, Instant),
) -> Result<Option<Sent>, Fault> {
    let (mut pause, mut tries) = (PAUSE_MIN, 0);
    let (mut asked, mut refused) = (None, None);
    let mut deliveries = site.deliveries.watch();
    loop {
        tries += 1;
        let engine = site.engine()?;
        let mut fault = match pull_once(site, &engine, (stack, pull), logins).await {
            Err(fault) if fault.kind == Kind::Passing => fault,
            outcome => return outcome.map(|()| None),
        };
        if let Some(reason) = &refused {
            fault.cause.line = format!(
                "{}; through the session neither: {reason}",
                fault.cause.line
            );
        }
        let is_last = site.world.clock.now() + pause > until;
        if is_last || (refused.is_some() && tries >= TRIES_MAX) {
            fault.kind = Kind::Final;
            return Err(fault);
        }
        site.board.progress(Progress {
            state: format!("trying again in {} s: {fault}", pause.as_secs()),
            ..progress(stack, pull)
        });
        // By its digest alone an image cannot be given a name in the Engine.
        if asked.is_none() && !pull.reference.contains('@') {
            let wanted = wanted(pull, &engine);
            asked = Some((site.board.want(stack, wanted.clone()), wanted));
        }
        let arrives = async {
            loop {
                let wanted = asked.as_ref().map(|(_, wanted)| wanted);
                if let Some(delivery) = wanted.and_then(|wanted| site.deliveries.take(wanted)) {
                    return delivery;
                }
                drop(deliveries.changed().await);
            }
        };
        match tokio::time::timeout(pause, arrives).await {
            Ok(Delivery::Loaded { id, manifest }) => {
                return Ok(Some((pull.reference.clone(), manifest, id)));
            }
            Ok(Delivery::Refused(reason)) => refused = Some(reason),
            Err(_) => {}
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn wanted(pull: &Pull, engine: &Engine) -> WantedImage {
    WantedImage {
        reference: pull.reference.clone(),
        pin: pull.pin.clone(),
        platform: pull
            .platform
            .clone()
            .unwrap_or_else(|| engine.platform.clone()),
    }
}

async fn pull_once(
    site: &Site,
    engine: &Engine,
    (stack, pull): (&str, &Pull),
    logins: &BTreeMap<String, RegistryLogin>,
) -> Result<(), Fault> {
    let (repository, tag) = repository_and_tag(&pull.reference);
    let written = pull
        .reference
        .split_once('@')
        .map(|(_, digest)| digest.to_owned());
    let pin = pull.pin.clone().or(written);
    if let Some(pin) = &pin
        && let Some(image) = engine.image(&pinned(&pull.reference, pin)).await?
    {
        return name_it(engine, pull, image.id.as_deref().unwrap_or_default()).await;
    }
    let options = CreateImageOptions {
        from_image: Some(repository.to_owned()),
        tag: Some(pin.clone().unwrap_or_else(|| tag.to_owned())),
        platform: pull.platform.clone().unwrap_or_default(),
        ..CreateImageOptions::default()
    };
    let login = logins
        .get(&registry_of(&pull.reference))
        .map(|login| DockerCredentials {
            username: Some(login.user.clone()),
            password: Some(login.password.0.clone()),
            serveraddress: Some(registry_of(&pull.reference)),
            ..DockerCredentials::default()
        });
    let mut lines = std::pin::pin!(engine.docker().create_image(Some(options), None, login));
    loop {
        let line = tokio::time::timeout(SILENCE_MAX, lines.next()).await;
        let line = line.unwrap_or_else(|_| {
            Some(Err(bollard::errors::Error::DockerStreamError {
                error: "i/o timeout: the Engine said nothing for two minutes".to_owned(),
            }))
        });
        match line {
            Some(Ok(line)) => site.board.progress(told(stack, pull, line)),
            Some(Err(error)) => return Err(Fault::of_pull(&pull.reference, &error)),
            None => break,
        }
    }
    if let Some(pin) = &pin {
        name_it(engine, pull, &pinned(&pull.reference, pin)).await?;
    }
    site.board.progress(Progress {
        state: "done".to_owned(),
        ..progress(stack, pull)
    });
    Ok(())
}

/// What was pulled by its digest gets the name that containers are made by.
async fn name_it(engine: &Engine, pull: &Pull, image: &str) -> Result<(), Fault> {
    match pull.reference.contains('@') {
        true => Ok(()),
        false => engine.tag(image, &pull.reference).await,
    }
}

fn progress(stack: &str, pull: &Pull) -> Progress {
    Progress {
        stack: stack.to_owned(),
        subject: pull.reference.clone(),
        layer: None,
        state: String::new(),
        current: None,
        total: None,
    }
}

fn told(stack: &str, pull: &Pull, line: CreateImageInfo) -> Progress {
    let detail = line.progress_detail.unwrap_or_default();
    let number = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
    Progress {
        layer: line.id,
        state: line.status.unwrap_or_default().to_lowercase(),
        current: number(detail.current),
        total: number(detail.total),
        ..progress(stack, pull)
    }
}

/// Must the image be pulled for a service, where the Engine has it?
pub fn is_stale(policy: &PullPolicy) -> bool {
    matches!(policy, PullPolicy::Always | PullPolicy::Older { .. })
}

fn pinned(reference: &str, digest: &str) -> String {
    format!("{}@{digest}", repository_and_tag(reference).0)
}

/// The registry's host, as logins are given for it.
pub fn registry_of(reference: &str) -> String {
    let (repository, _) = repository_and_tag(reference);
    match repository.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host.to_owned(),
        _ => "docker.io".to_owned(),
    }
}

/// A repository's name with the registry that is meant where none is said.
fn full_name(repository: &str) -> String {
    match registry_of(repository).as_str() {
        "docker.io" => {
            let name = repository.strip_prefix("docker.io/").unwrap_or(repository);
            let name = name.strip_prefix("library/").unwrap_or(name);
            format!("docker.io/{name}")
        }
        _ => repository.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_image_has_one_name_however_it_is_written() {
        for name in [
            "nginx",
            "library/nginx",
            "docker.io/library/nginx",
            "docker.io/nginx",
        ] {
            assert_eq!(full_name(name), "docker.io/nginx");
        }
        assert_eq!(full_name("r:5000/app"), "r:5000/app");
    }

    #[test]
    fn the_login_is_that_of_the_references_registry() {
        assert_eq!(registry_of("r.example:5000/a/b:1"), "r.example:5000");
        assert_eq!(registry_of("localhost/a"), "localhost");
        assert_eq!(registry_of("n8nio/n8n:1"), "docker.io");
    }
}
