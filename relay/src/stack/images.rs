//! Sends an agent the image that its Engine cannot pull: the relay reads the layers from the
//! registry, and passes on those that are missing, part by part, from where the agent is.
//!
//! Only images of what is assigned to the agent are sent: it cannot have the relay fetch from
//! wherever it likes.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use compose::exchange::{
    Accepted, Assignment, BLOB_PART_BYTES_MAX, BlobState, Desired, ImageLoad, ImageLoaded,
    ImageRefused, WantedImage,
};
use futures_util::StreamExt as _;
use http::Method;
use oci_client::{
    Client, Reference,
    client::{BlobResponse, ClientConfig, ClientProtocol},
    errors::OciDistributionError,
    manifest::OciDescriptor,
    secrets::RegistryAuth,
};
use tokio::time::timeout;

use super::{
    deliver::Undelivered,
    link::{Caller, Link, body_of},
};
use crate::{
    control::{AskError, Control, registry_of},
    limits::STACK_PART_TIMEOUT,
    store::AssignmentRecord,
};

/// How long a registry may be silent.
const REGISTRY_SILENCE_MAX: Duration = Duration::from_secs(30);
/// How long an Engine may take to load an image: it unpacks all layers.
const LOAD_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// How often a layer is gone on with whose registry breaks off.
const TRIES: usize = 5;

/// Why an image was not sent.
enum NotSent {
    /// Whatever else there is to say to the agent, this is not it.
    Undelivered(Undelivered),
    /// The registry does not give it; why, for a person.
    Registry(String),
}

impl From<AskError> for NotSent {
    fn from(error: AskError) -> Self {
        Self::Undelivered(error.into())
    }
}

impl From<OciDistributionError> for NotSent {
    fn from(error: OciDistributionError) -> Self {
        Self::Registry(error.to_string())
    }
}

/// Sends an image that an agent wants for a stack, or tells it why not.
///
/// # Errors
///
/// The agent is not reached; the registry's are told to the agent.
pub(super) async fn send_image(
    (control, caller): (&Control, Caller<'_>),
    record: &AssignmentRecord,
    wanted: &WantedImage,
) -> Result<(), Undelivered> {
    let assignment = control.assignment_for_agent(record).await?;
    let assignment = assignment.filter(|assignment| has_image(assignment, wanted));
    let Some(assignment) = assignment else {
        return Ok(());
    };
    let mut link = Link::open(caller).await?;
    let sent = send(&mut link, &assignment, wanted).await;
    let reason = match sent {
        Ok(()) => {
            tracing::info!(stack = record.stack, image = wanted.reference, "image sent");
            return Ok(());
        }
        Err(NotSent::Undelivered(Undelivered::Asked(AskError::Refused(refused)))) => refused.reason,
        Err(NotSent::Undelivered(error)) => return Err(error),
        Err(NotSent::Registry(reason)) => format!("the relay cannot read it either: {reason}"),
    };
    tracing::warn!(
        stack = record.stack,
        image = wanted.reference,
        reason,
        "image not sent"
    );
    let refused = ImageRefused {
        reference: wanted.reference.clone(),
        reason,
    };
    let body = body_of(&refused)?;
    link.done(Method::POST, "/v1/images/refused", body).await?;
    Ok(())
}

fn has_image(assignment: &Assignment, wanted: &WantedImage) -> bool {
    match &assignment.desired {
        Desired::Run { stack, .. } => stack
            .services
            .values()
            .any(|service| service.image == wanted.reference),
        Desired::Absent { .. } => false,
    }
}

async fn send(
    link: &mut Link,
    assignment: &Assignment,
    wanted: &WantedImage,
) -> Result<(), NotSent> {
    let host = registry_of(&wanted.reference);
    let login = assignment.registries.get(host);
    let auth = login.map_or(RegistryAuth::Anonymous, |login| {
        RegistryAuth::Basic(login.user.clone(), login.password.0.clone())
    });
    let unreadable = |error: oci_client::ParseError| NotSent::Registry(error.to_string());
    let reference: Reference = wanted.reference.parse().map_err(unreadable)?;
    let reference = match &wanted.pin {
        Some(pin) => reference.clone_with_digest(pin.clone()),
        None => reference,
    };
    let client = client(host, &wanted.platform);
    let pulled = client.pull_image_manifest_and_list_digest(&reference, &auth);
    let (manifest, digest, list) = within(pulled).await??;
    let image = ImageLoad {
        reference: wanted.reference.clone(),
        manifest: wanted.pin.clone().or(list).unwrap_or(digest),
        config: manifest.config.digest.clone(),
        layers: manifest
            .layers
            .iter()
            .map(|layer| layer.digest.clone())
            .collect(),
    };
    let body = body_of(&image)?;
    // First the configuration alone is missing, and by it the layers are known.
    for _ in 0..2 {
        let needed: Accepted = link
            .document(Method::POST, "/v1/images/needed", body.clone())
            .await?;
        let blobs = manifest.layers.iter().chain([&manifest.config]);
        for blob in blobs.filter(|blob| needed.missing.contains(&blob.digest)) {
            send_blob(link, (&client, &reference), blob).await?;
        }
    }
    let asked = link.document_within(Method::POST, "/v1/images", body, LOAD_TIMEOUT);
    let _loaded: ImageLoaded = asked.await?;
    Ok(())
}

/// Passes a blob on, from where the agent is; a registry that breaks off is asked again.
async fn send_blob(
    link: &mut Link,
    (client, reference): (&Client, &Reference),
    blob: &OciDescriptor,
) -> Result<(), NotSent> {
    let size = u64::try_from(blob.size).unwrap_or_default();
    let path = format!("/v1/blobs/{}", blob.digest);
    let mut tries = 0;
    loop {
        let state: BlobState = link.document(Method::GET, &path, Bytes::new()).await?;
        if state.complete {
            return Ok(());
        }
        tries += 1;
        let passed = pass(
            link,
            (client, reference),
            blob,
            (&path, state.received, size),
        )
        .await;
        match passed {
            Ok(()) => {}
            Err(NotSent::Registry(_)) if tries < TRIES => {}
            Err(error) => return Err(error),
        }
        if tries >= TRIES {
            return Err(NotSent::Registry(
                "a layer does not come to its end".to_owned(),
            ));
        }
    }
}

async fn pass(
    link: &mut Link,
    (client, reference): (&Client, &Reference),
    blob: &OciDescriptor,
    (path, mut offset, size): (&str, u64, u64),
) -> Result<(), NotSent> {
    let response = within(client.pull_blob_stream_partial(reference, blob, offset, None)).await??;
    let (mut stream, mut skip) = match response {
        BlobResponse::Partial(partial) => (partial.stream, 0),
        // This registry knows no parts: what the agent has is read past.
        BlobResponse::Full(full) => (full.stream, offset),
    };
    let mut part = BytesMut::new();
    loop {
        let chunk = within(stream.next()).await?;
        let is_end = chunk.is_none();
        if let Some(chunk) = chunk {
            let chunk = chunk.map_err(|error| NotSent::Registry(error.to_string()))?;
            let past = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
            skip -= past as u64;
            part.extend_from_slice(chunk.get(past..).unwrap_or_default());
        }
        while part.len() >= BLOB_PART_BYTES_MAX || (is_end && !part.is_empty()) {
            let next = part.split_to(part.len().min(BLOB_PART_BYTES_MAX)).freeze();
            let place = format!("{path}?offset={offset}&size={size}");
            let state: BlobState = link.part(&place, next, STACK_PART_TIMEOUT).await?;
            offset = state.received;
        }
        if is_end {
            return Ok(());
        }
    }
}

async fn within<T>(what: impl Future<Output = T>) -> Result<T, NotSent> {
    timeout(REGISTRY_SILENCE_MAX, what)
        .await
        .map_err(|_| NotSent::Registry("the registry says nothing".to_owned()))
}

/// A client of one registry. One on the relay's own host is asked without TLS, as Docker does.
fn client(host: &str, platform: &str) -> Client {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let is_local = name == "localhost"
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    let protocol = match is_local {
        true => ClientProtocol::HttpsExcept(vec![host.to_owned()]),
        false => ClientProtocol::Https,
    };
    let platform = platform.to_owned();
    Client::new(ClientConfig {
        protocol,
        platform_resolver: Some(Box::new(move |entries| {
            let mut of_it = entries.iter().filter(|entry| {
                let has = entry.platform.as_ref();
                has.is_some_and(|has| {
                    // A variant of the processor, such as arm64/v8, is more than is asked for.
                    platform.starts_with(&format!("{}/{}", has.os, has.architecture))
                })
            });
            of_it.next().map(|entry| entry.digest.clone())
        })),
        connect_timeout: Some(REGISTRY_SILENCE_MAX),
        read_timeout: Some(REGISTRY_SILENCE_MAX),
        ..ClientConfig::default()
    })
}
