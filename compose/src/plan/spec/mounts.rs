//! What a container sees of volumes, of the host's files, and of what ships with the release.

use bollard_stubs::models::{
    ContainerCreateBody, ContainerInspectResponse, Mount, MountBindOptions,
    MountBindOptionsPropagationEnum, MountImageOptions, MountTmpfsOptions, MountType,
    MountVolumeOptions,
};

use super::{Context, FileInto, filled_map};
use crate::model::{FileMount, MountKind, Service, Stack};

/// Binds that the older form alone can express on every Engine: a folder that is made where it
/// is missing, and labels of SELinux.
pub(super) fn binds(service: &Service) -> Vec<String> {
    service
        .mounts
        .iter()
        .filter(|mount| is_short(mount))
        .map(short)
        .collect()
}

fn is_short(mount: &crate::model::Mount) -> bool {
    let short = mount.create_host_path || mount.selinux.is_some();
    mount.kind == MountKind::Bind && short && mount.recursive.is_none()
}

fn short(mount: &crate::model::Mount) -> String {
    let mut options = vec![if mount.read_only { "ro" } else { "rw" }];
    options.extend(mount.selinux.as_deref());
    options.extend(mount.propagation.as_deref());
    let source = mount.source.as_deref().unwrap_or_default();
    format!("{source}:{}:{}", mount.target, options.join(","))
}

/// All others, and configs and secrets of a service that files cannot be copied into.
pub(super) fn mounts(stack: &Stack, service: &Service, context: &Context) -> Vec<Mount> {
    let long = service.mounts.iter().filter(|mount| !is_short(mount));
    let mut all: Vec<_> = long.map(|mount| one(stack, mount, context)).collect();
    if service.read_only {
        all.extend(file_mounts(service).map(|file| Mount {
            typ: Some(MountType::BIND),
            source: Some(shipped(&file.source, context)),
            target: Some(file.target.clone()),
            read_only: Some(true),
            ..Mount::default()
        }));
    }
    all
}

/// What is copied into the container: nothing where its root file system is read-only, for the
/// Engine refuses that.
pub(super) fn files(service: &Service) -> Vec<FileInto> {
    let copied = file_mounts(service).filter(|_| !service.read_only);
    copied
        .map(|file| FileInto {
            source: file.source.clone(),
            target: file.target.clone(),
            uid: file.uid.unwrap_or(0),
            gid: file.gid.unwrap_or(0),
            mode: file.mode,
        })
        .collect()
}

fn file_mounts(service: &Service) -> impl Iterator<Item = &FileMount> {
    service.configs.iter().chain(&service.secrets)
}

fn shipped(key: &str, context: &Context) -> String {
    format!("{}/{key}", context.shipped_root.trim_end_matches('/'))
}

fn one(stack: &Stack, mount: &crate::model::Mount, context: &Context) -> Mount {
    let given = mount.source.clone();
    let (typ, source) = match mount.kind {
        MountKind::Volume => {
            let name = |key: String| stack.volumes.get(&key).map_or(key, |v| v.name.clone());
            (MountType::VOLUME, given.map(name))
        }
        MountKind::Bind => (MountType::BIND, given),
        MountKind::Shipped => (MountType::BIND, given.map(|key| shipped(&key, context))),
        MountKind::Tmpfs => (MountType::TMPFS, None),
        MountKind::Image => (MountType::IMAGE, given),
        MountKind::Npipe => (MountType::NPIPE, given),
        MountKind::Cluster => (MountType::CLUSTER, given),
    };
    Mount {
        typ: Some(typ),
        source,
        target: Some(mount.target.clone()),
        read_only: mount.read_only.then_some(true),
        consistency: mount.consistency.clone(),
        bind_options: bind_options(mount),
        volume_options: volume_options(mount),
        image_options: (mount.kind == MountKind::Image && mount.subpath.is_some()).then(|| {
            MountImageOptions {
                subpath: mount.subpath.clone(),
            }
        }),
        tmpfs_options: tmpfs_options(mount),
    }
}

fn bind_options(mount: &crate::model::Mount) -> Option<MountBindOptions> {
    let recursive = mount.recursive.as_deref();
    let options = MountBindOptions {
        propagation: mount.propagation.as_deref().and_then(propagation),
        create_mountpoint: mount.create_host_path.then_some(true),
        non_recursive: (recursive == Some("disabled")).then_some(true),
        read_only_non_recursive: (recursive == Some("writable")).then_some(true),
        read_only_force_recursive: (recursive == Some("readonly")).then_some(true),
    };
    (options != MountBindOptions::default()).then_some(options)
}

fn propagation(name: &str) -> Option<MountBindOptionsPropagationEnum> {
    use MountBindOptionsPropagationEnum::{PRIVATE, RPRIVATE, RSHARED, RSLAVE, SHARED, SLAVE};
    Some(match name {
        "private" => PRIVATE,
        "rprivate" => RPRIVATE,
        "shared" => SHARED,
        "rshared" => RSHARED,
        "slave" => SLAVE,
        "rslave" => RSLAVE,
        _ => return None,
    })
}

fn volume_options(mount: &crate::model::Mount) -> Option<MountVolumeOptions> {
    if mount.kind != MountKind::Volume {
        return None;
    }
    let options = MountVolumeOptions {
        no_copy: mount.nocopy.then_some(true),
        labels: filled_map(&mount.labels),
        subpath: mount.subpath.clone(),
        driver_config: None,
    };
    (options != MountVolumeOptions::default()).then_some(options)
}

fn tmpfs_options(mount: &crate::model::Mount) -> Option<MountTmpfsOptions> {
    let options = MountTmpfsOptions {
        size_bytes: mount.tmpfs_size,
        mode: mount.tmpfs_mode.map(i64::from),
        options: None,
    };
    (options != MountTmpfsOptions::default()).then_some(options)
}

/// Lets a container that is about to be made take over the anonymous volumes of its
/// predecessor: those at paths where it has one as well, by its service (`- /path`) or by its
/// image (`VOLUME`; `image_volumes` are those of the image that it is made of).
pub fn inherit(
    body: &mut ContainerCreateBody,
    predecessor: &ContainerInspectResponse,
    image_volumes: &[String],
) {
    let host = body.host_config.get_or_insert_default();
    let binds = host.binds.clone().unwrap_or_default();
    let bound = |path: &str| {
        binds
            .iter()
            .any(|bind| bind.split(':').nth(1) == Some(path))
    };
    let mut mounts = host.mounts.take().unwrap_or_default();
    for point in predecessor.mounts.iter().flatten() {
        let (Some("volume"), Some(name), Some(path)) =
            (point.typ.as_deref(), &point.name, &point.destination)
        else {
            continue;
        };
        let same_path = mounts
            .iter_mut()
            .find(|m| m.target.as_deref() == Some(path.as_str()));
        let is_anonymous =
            |mount: &Mount| mount.typ == Some(MountType::VOLUME) && mount.source.is_none();
        match same_path {
            Some(mount) if is_anonymous(mount) => mount.source = Some(name.clone()),
            None if image_volumes.contains(path) && !bound(path) => mounts.push(Mount {
                typ: Some(MountType::VOLUME),
                source: Some(name.clone()),
                target: Some(path.clone()),
                ..Mount::default()
            }),
            _ => {}
        }
    }
    host.mounts = (!mounts.is_empty()).then_some(mounts);
}
