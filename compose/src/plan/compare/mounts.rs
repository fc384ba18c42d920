//! What a container has mounted.

use bollard_stubs::models::MountPoint;

use super::Differences;
use crate::{
    model::{FileMount, Mount, MountKind, Service},
    plan::{
        observed::{ImageSeen, Seen},
        spec::ContainerSpec,
    },
};

/// The first mount that was asked for and is not there.
pub(crate) fn missing(service: &Service, seen: Seen<'_>) -> Option<String> {
    let gone = service
        .mounts
        .iter()
        .find(|mount| mount.kind != MountKind::Tmpfs && point(seen, &mount.target).is_none());
    gone.map(|mount| mount.target.clone())
}

pub(super) fn compare(
    found: &mut Differences,
    spec: &ContainerSpec,
    service: &Service,
    seen: Seen<'_>,
    image: Option<&ImageSeen>,
) {
    for mount in &service.mounts {
        let field = format!("volumes.{}", mount.target);
        let name = source(spec, mount);
        let wanted = wording(kind(mount.kind), name.as_deref(), mount.read_only);
        match point(seen, &mount.target) {
            Some(point) if fits(mount, name.as_deref(), point) => {}
            Some(point) => found.add(&field, &wanted, &observed(point)),
            None if mount.kind == MountKind::Tmpfs && is_tmpfs(seen, &mount.target) => {}
            None => found.add(&field, &wanted, "(not there)"),
        }
    }
    for path in service.tmpfs.keys() {
        if !is_tmpfs(seen, path) {
            found.add(&format!("tmpfs.{path}"), "tmpfs", "(not there)");
        }
    }
    if !service.volumes_from.is_empty() {
        return;
    }
    for point in seen.0.mounts.iter().flatten() {
        if !is_known(service, point, image) {
            let path = point.destination.as_deref().unwrap_or_default();
            found.add(&format!("volumes.{path}"), "(not there)", &observed(point));
        }
    }
}

fn point<'a>(seen: Seen<'a>, target: &str) -> Option<&'a MountPoint> {
    let points = seen.0.mounts.iter().flatten();
    let mut here = points.filter(|point| {
        point
            .destination
            .as_deref()
            .is_some_and(|path| same_path(path, target))
    });
    here.next()
}

fn same_path(a: &str, b: &str) -> bool {
    let plain = |path: &str| path.trim_end_matches('/').to_owned();
    a == b || plain(a) == plain(b)
}

fn is_tmpfs(seen: Seen<'_>, target: &str) -> bool {
    let host = seen.0.host_config.as_ref();
    let short = host.and_then(|host| host.tmpfs.as_ref());
    let short = short.is_some_and(|all| all.keys().any(|path| same_path(path, target)));
    let long = host
        .and_then(|host| host.mounts.as_ref())
        .into_iter()
        .flatten();
    let mut long = long.filter_map(|mount| mount.target.as_deref());
    short || long.any(|path| same_path(path, target))
}

/// The source as the Engine was asked for it.
fn source(spec: &ContainerSpec, mount: &Mount) -> Option<String> {
    let host = spec.body.host_config.as_ref();
    let long = host
        .and_then(|host| host.mounts.as_ref())
        .into_iter()
        .flatten();
    let mut here = long.filter(|long| long.target.as_deref() == Some(mount.target.as_str()));
    match here.next() {
        Some(long) => long.source.clone(),
        None => mount.source.clone(),
    }
}

fn fits(mount: &Mount, source: Option<&str>, point: &MountPoint) -> bool {
    let read_only = mount.kind == MountKind::Image || mount.read_only == (point.rw == Some(false));
    let typ = point.typ.as_deref();
    let kind = match mount.kind {
        MountKind::Volume => {
            let named = source.is_none_or(|name| point.name.as_deref() == Some(name));
            typ == Some("volume") && named
        }
        MountKind::Bind => {
            let path = point.source.as_deref().unwrap_or_default();
            typ == Some("bind") && source.is_some_and(|s| same_path(s, path))
        }
        // Where it lies depends on the tool and on the release.
        MountKind::Shipped => typ == Some("bind"),
        MountKind::Tmpfs => typ == Some("tmpfs"),
        MountKind::Image | MountKind::Npipe | MountKind::Cluster => true,
    };
    kind && read_only
}

/// Is there a reason for this mount?
fn is_known(service: &Service, point: &MountPoint, image: Option<&ImageSeen>) -> bool {
    let Some(path) = point.destination.as_deref() else {
        return true;
    };
    let files = service.configs.iter().chain(&service.secrets);
    let mut files = files.map(|file: &FileMount| file.target.as_str());
    let mut mounts = service.mounts.iter().map(|mount| mount.target.as_str());
    let mut memory = service.tmpfs.keys();
    let of_image = point.typ.as_deref() == Some("volume")
        && image.is_none_or(|image| image.volumes.iter().any(|volume| same_path(volume, path)));
    of_image
        || mounts.any(|target| same_path(target, path))
        || files.any(|target| same_path(target, path))
        || memory.any(|target| same_path(target, path))
}

const fn kind(kind: MountKind) -> &'static str {
    match kind {
        MountKind::Volume => "volume",
        MountKind::Bind | MountKind::Shipped => "bind",
        MountKind::Tmpfs => "tmpfs",
        MountKind::Image => "image",
        MountKind::Npipe => "npipe",
        MountKind::Cluster => "cluster",
    }
}

fn wording(kind: &str, source: Option<&str>, read_only: bool) -> String {
    let read_only = if read_only { " (read-only)" } else { "" };
    match source {
        Some(source) => format!("{kind} {source}{read_only}"),
        None => format!("{kind}{read_only}"),
    }
}

fn observed(point: &MountPoint) -> String {
    let source = point.name.as_deref().or(point.source.as_deref());
    let kind = point.typ.as_deref().unwrap_or_default();
    wording(kind, source, point.rw == Some(false))
}
