//! An image from blobs that came through the session, where the host reaches no registry.
//!
//! The Engine gets an archive as `docker save` writes it, without the layers that it was not
//! sent: it takes those that it has by what they are. Everything was checked by its digest
//! when it arrived, and the Engine checks each layer against the image's configuration.

use std::{fs::File, io, sync::mpsc as std_mpsc};

use bollard::{models::BuildInfo, query_parameters::ImportImageOptions};
use bytes::Bytes;
use compose::exchange::{ImageLoad, ImageLoaded};
use futures_util::StreamExt;
use serde_json::json;
use tokio::sync::mpsc;

use super::{disk::Disk, engine::Engine, fault::Fault};

/// Chunks of an archive that wait for the Engine.
const CHUNKS_WAITING: usize = 8;
/// Bytes of one.
const CHUNK_BYTES: usize = 256 * 1024;

/// Puts an image into the Engine; its layers are then no longer kept here.
///
/// # Errors
///
/// A blob is missing, or the Engine takes it for something else.
pub(super) async fn image(
    engine: &Engine,
    disk: &Disk,
    image: &ImageLoad,
) -> Result<ImageLoaded, Fault> {
    let (chunks, mut archive) = mpsc::channel::<io::Result<Bytes>>(CHUNKS_WAITING);
    let (disk_of_writer, wanted) = (disk.clone(), image.clone());
    let (told, outcome) = std_mpsc::sync_channel(1);
    let writer = tokio::task::spawn_blocking(move || {
        let written = write(&disk_of_writer, &wanted, Chunks::new(chunks));
        drop(told.send(written));
    });
    let body = futures_util::stream::poll_fn(move |cx| archive.poll_recv(cx));
    let options = ImportImageOptions::default();
    let mut lines = std::pin::pin!(engine.docker().import_image_stream(options, body, None));
    let mut refused = None;
    while let Some(line) = lines.next().await {
        match line {
            Ok(BuildInfo {
                error_detail: Some(detail),
                ..
            }) => {
                refused = Some(
                    detail
                        .message
                        .unwrap_or_else(|| "no reason was given".to_owned()),
                );
            }
            Ok(_) => {}
            Err(error) => {
                return Err(Fault::of_engine(
                    &format!("load {}", image.reference),
                    &error,
                ));
            }
        }
    }
    drop(writer.await);
    if let Ok(Err(error)) = outcome.try_recv() {
        return Err(Fault::of_disk(&format!("pack {}", image.reference), &error));
    }
    if let Some(why) = refused {
        return Err(Fault::last(
            "engine",
            format!("the Engine refuses {}: {why}", image.reference),
        ));
    }
    let loaded = engine.image(&image.reference).await?;
    let id = loaded.and_then(|loaded| loaded.id).ok_or_else(|| {
        Fault::last(
            "engine",
            format!("the Engine does not have {} afterwards", image.reference),
        )
    })?;
    for digest in image.layers.iter().chain([&image.config]) {
        if let Err(error) = disk.remove_blob(digest) {
            tracing::warn!(digest, %error, "a layer is still kept");
        }
    }
    Ok(ImageLoaded { id })
}

/// The blobs of an image that have to be sent. Which layers the Engine has is known once the
/// image's configuration is here: before that, it alone is missing.
///
/// # Errors
///
/// The Engine's, the disk's, or a configuration that is none.
pub(super) async fn missing(
    engine: &Engine,
    disk: &Disk,
    image: &ImageLoad,
) -> Result<Vec<String>, Fault> {
    let unreadable = |error: &io::Error| Fault::of_disk("read an image's configuration", error);
    let config = disk.whole_blob(&image.config).map_err(|e| unreadable(&e))?;
    let Some(config) = config else {
        return Ok(vec![image.config.clone()]);
    };
    let config = std::fs::read(config).map_err(|e| unreadable(&e))?;
    let config: Config = serde_json::from_slice(&config).map_err(|error| {
        Fault::last("invalid", format!("no configuration of an image: {error}"))
    })?;
    let wanted = config.rootfs.diff_ids;
    if wanted.len() != image.layers.len() {
        return Err(Fault::last(
            "invalid",
            "the image has another number of layers than its manifest",
        ));
    }
    let there = engine.layers().await?;
    let has = |number: usize| {
        there
            .iter()
            .any(|layers| layers.get(..=number) == wanted.get(..=number))
    };
    let mut missing = Vec::new();
    for (number, digest) in image.layers.iter().enumerate() {
        let is_here = disk
            .whole_blob(digest)
            .map_err(|e| unreadable(&e))?
            .is_some();
        if !is_here && !has(number) && !missing.contains(digest) {
            missing.push(digest.clone());
        }
    }
    Ok(missing)
}

/// What is read of an image's configuration.
#[derive(serde::Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(serde::Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

fn write(disk: &Disk, image: &ImageLoad, chunks: Chunks) -> io::Result<()> {
    let mut tar = tar::Builder::new(io::BufWriter::with_capacity(CHUNK_BYTES, chunks));
    let name = |digest: &str| digest.trim_start_matches("sha256:").to_owned();
    let config = disk.whole_blob(&image.config)?;
    let config = config.ok_or_else(|| io::Error::other("the image's configuration is missing"))?;
    let config_name = format!("{}.json", name(&image.config));
    tar.append_file(&config_name, &mut File::open(config)?)?;
    let mut layers = Vec::new();
    for digest in &image.layers {
        let layer = format!("{}/layer.tar", name(digest));
        // One that was not sent is one that the Engine has.
        if let Some(path) = disk.whole_blob(digest)? {
            tar.append_file(&layer, &mut File::open(path)?)?;
        }
        layers.push(layer);
    }
    let manifest = json!([{
        "Config": config_name,
        "RepoTags": [image.reference],
        "Layers": layers,
    }]);
    let manifest = manifest.to_string();
    let mut head = tar::Header::new_gnu();
    head.set_size(manifest.len() as u64);
    head.set_mode(0o644);
    tar.append_data(&mut head, "manifest.json", manifest.as_bytes())?;
    let mut rest = tar.into_inner()?;
    io::Write::flush(&mut rest)
}

/// Writes to a channel.
#[derive(Debug)]
struct Chunks(mpsc::Sender<io::Result<Bytes>>);

impl Chunks {
    const fn new(to: mpsc::Sender<io::Result<Bytes>>) -> Self {
        Self(to)
    }
}

impl io::Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        match sent {
            Ok(()) => Ok(bytes.len()),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
