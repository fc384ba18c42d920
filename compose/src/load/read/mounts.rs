//! `volumes`, `tmpfs` and `volumes_from` of a service, and the volumes of the stack.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{interpolate::Findings, node::Value, spot::Spot},
    Reader, network,
};
use crate::model::{Mount, MountKind, Service, ServiceScope, Volume};

const PROPAGATIONS: [&str; 6] = [
    "rprivate", "private", "rshared", "shared", "rslave", "slave",
];

/// `volumes` of a service; of equal targets the last, in the place of the first.
pub(super) fn mounts(spot: &Spot<'_>, reader: &mut Reader<'_, '_>) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = Vec::new();
    let Some(volumes) = spot.get("volumes") else {
        return mounts;
    };
    if !volumes.need_list(reader.out()) {
        return mounts;
    }
    for item in volumes.items() {
        let read = match item.node.value {
            Value::Map(_) => long(&item, reader),
            _ => short(&item, reader),
        };
        let Some(read) = read else {
            continue;
        };
        match mounts.iter_mut().find(|kept| kept.target == read.target) {
            Some(kept) => *kept = read,
            None => mounts.push(read),
        }
    }
    mounts
}

fn empty(kind: MountKind, source: Option<String>, target: String) -> Mount {
    Mount {
        kind,
        source,
        target,
        read_only: false,
        consistency: None,
        propagation: None,
        create_host_path: kind == MountKind::Bind,
        selinux: None,
        recursive: None,
        nocopy: false,
        subpath: None,
        labels: BTreeMap::new(),
        tmpfs_size: None,
        tmpfs_mode: None,
    }
}

fn short(spot: &Spot<'_>, reader: &mut Reader<'_, '_>) -> Option<Mount> {
    let text = spot.open_text(reader.out())?;
    let help = "Write [SOURCE:]TARGET[:ro], such as ./nginx.conf:/etc/nginx/nginx.conf:ro";
    let parts: Vec<&str> = text.split(':').collect();
    let is_windows = parts.len() > 1
        && parts[0].len() == 1
        && parts[0].chars().all(|c| c.is_ascii_alphabetic())
        && parts[1].starts_with(['\\', '/'])
        && !parts[1].is_empty();
    if text.starts_with("\\\\") || (is_windows && parts[1].starts_with('\\')) {
        let message = format!("{text:?} is a path of Windows");
        reader
            .out()
            .refuse(spot.problem(message, "Containers here are Linux's"));
        return None;
    }
    let (source, target, options) = match parts.as_slice() {
        [target] => (None, *target, ""),
        [source, target] => (Some(*source), *target, ""),
        [source, target, options] => (Some(*source), *target, *options),
        _ => {
            reader
                .out()
                .refuse(spot.problem(format!("{text:?} has too many colons"), help));
            return None;
        }
    };
    let has_hole =
        target.is_empty() || source == Some("") || (parts.len() == 3 && options.is_empty());
    if has_hole {
        let message = format!("{text:?} has nothing between two colons");
        reader.out().refuse(spot.problem(message, help));
        return None;
    }
    let target = clean(target, spot, reader.out())?;
    let mut mount = match source {
        None => empty(MountKind::Volume, None, target),
        Some(path) if path.starts_with(['.', '/', '~']) => bind(path, target, spot, reader)?,
        Some(name) => empty(MountKind::Volume, Some(name.to_owned()), target),
    };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => mount.read_only = true,
            "rw" => mount.read_only = false,
            "nocopy" if mount.kind == MountKind::Volume => mount.nocopy = true,
            "z" | "Z" => mount.selinux = Some(option.to_owned()),
            "cached" | "delegated" | "consistent" => mount.consistency = Some(option.to_owned()),
            other if PROPAGATIONS.contains(&other) => mount.propagation = Some(other.to_owned()),
            other => {
                let message = format!("{other:?} is no option of a volume");
                reader
                    .out()
                    .refuse(spot.problem(message, "Such as ro, rw, nocopy, z, rslave"));
            }
        }
    }
    Some(mount)
}

/// An absolute target without `.`, `..` and double slashes.
fn clean(target: &str, spot: &Spot<'_>, out: &mut Findings) -> Option<String> {
    if !target.starts_with('/') {
        let message = format!("the target {target:?} is not absolute");
        out.refuse(spot.problem(message, "Write the whole path in the container"));
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        let message = "nothing can be mounted over the container's root";
        out.refuse(spot.problem(message, "Write another target"));
        return None;
    }
    Some(format!("/{}", parts.join("/")))
}

/// A path of the host, or a file or folder that ships.
fn bind(path: &str, target: String, spot: &Spot<'_>, reader: &mut Reader<'_, '_>) -> Option<Mount> {
    if path.starts_with('/') {
        return Some(empty(MountKind::Bind, Some(path.to_owned()), target));
    }
    let source = reader.ship_path(path, spot)?;
    Some(empty(MountKind::Shipped, Some(source), target))
}

fn long(spot: &Spot<'_>, reader: &mut Reader<'_, '_>) -> Option<Mount> {
    let kinds = ["volume", "bind", "tmpfs", "image"];
    let Some(kind) = spot.get("type") else {
        reader
            .out()
            .refuse(spot.problem("has no type", "Write type: volume, bind, tmpfs or image"));
        return None;
    };
    let kind = match kind.node.scalar().as_deref() {
        Some(refused @ ("npipe" | "cluster")) => {
            let message = format!("{refused} is refused: a Docker Engine on Linux has none");
            reader
                .out()
                .refuse(kind.problem(message, "Write volume, bind, tmpfs or image"));
            return None;
        }
        _ => kind.choice(&kinds, reader.out())?,
    };
    let Some(target) = spot.get("target") else {
        let help = "Write target: and the path in the container";
        reader.out().refuse(spot.problem("has no target", help));
        return None;
    };
    let target = clean(&target.open_text(reader.out())?, &target, reader.out())?;
    let source = match spot.get("source") {
        Some(source) => Some((source.open_text(reader.out())?, source)),
        None => None,
    };
    let mut mount = match (kind.as_str(), source) {
        ("volume", source) => empty(MountKind::Volume, source.map(|(name, _)| name), target),
        ("bind", Some((path, at))) => bind(&path, target, &at, reader)?,
        ("image", Some((image, _))) => empty(MountKind::Image, Some(image), target),
        ("tmpfs", None) => empty(MountKind::Tmpfs, None, target),
        ("tmpfs", Some((_, at))) => {
            reader
                .out()
                .refuse(at.problem("memory has no source", "Take it out"));
            return None;
        }
        (kind, _) => {
            let message = format!("a mount of type {kind} has no source");
            reader
                .out()
                .refuse(spot.problem(message, "Write source: and what is mounted"));
            return None;
        }
    };
    options(&mut mount, spot, reader.out());
    Some(mount)
}

/// What the long form has beside type, source and target.
fn options(mount: &mut Mount, spot: &Spot<'_>, out: &mut Findings) {
    mount.read_only = network::flag(spot, "read_only", out).unwrap_or_default();
    mount.consistency = spot.get("consistency").and_then(|spot| spot.text(out));
    let kinds = match mount.kind {
        MountKind::Bind | MountKind::Shipped => "bind",
        MountKind::Volume => "volume",
        MountKind::Tmpfs => "tmpfs",
        MountKind::Image | MountKind::Npipe | MountKind::Cluster => "image",
    };
    for section in ["bind", "volume", "tmpfs", "image"] {
        if let Some(other) = spot.get(section)
            && section != kinds
        {
            let message = format!("{section} belongs to a mount of another type");
            out.refuse(other.problem(message, "Take it out, or change type"));
        }
    }
    if let Some(bind) = spot.get("bind") {
        bind.need_map(out);
        let propagation = bind.get("propagation");
        mount.propagation = propagation.and_then(|spot| spot.choice(&PROPAGATIONS, out));
        if mount.kind == MountKind::Bind {
            let create = network::flag(&bind, "create_host_path", out);
            mount.create_host_path = create.unwrap_or(true);
        }
        mount.selinux = bind
            .get("selinux")
            .and_then(|spot| spot.choice(&["z", "Z"], out));
        let recursive = ["enabled", "disabled", "writable", "readonly"];
        mount.recursive = bind
            .get("recursive")
            .and_then(|spot| spot.choice(&recursive, out));
    }
    if let Some(volume) = spot.get("volume") {
        volume.need_map(out);
        mount.nocopy = network::flag(&volume, "nocopy", out).unwrap_or_default();
        mount.subpath = volume.get("subpath").and_then(|spot| spot.text(out));
        mount.labels = volume
            .get("labels")
            .map(|s| s.filled_pairs(out))
            .unwrap_or_default();
    }
    if let Some(image) = spot.get("image") {
        mount.subpath = image.get("subpath").and_then(|spot| spot.text(out));
    }
    if let Some(tmpfs) = spot.get("tmpfs") {
        tmpfs.need_map(out);
        mount.tmpfs_size = tmpfs.get("size").and_then(|spot| spot.bytes(out));
        mount.tmpfs_mode = tmpfs.get("mode").and_then(|spot| mode(&spot, out));
    }
}

/// Permission bits: a number of YAML with its base, or text in base 8.
pub(super) fn mode(spot: &Spot<'_>, out: &mut Findings) -> Option<u32> {
    let read = match &spot.node.value {
        Value::Scalar(text, super::super::node::Kind::Text) => {
            let digits = text.strip_prefix("0o").unwrap_or(text);
            u32::from_str_radix(digits, 8).ok()
        }
        Value::Scalar(..) => {
            let number = spot.node.scalar().unwrap_or_default();
            number.parse::<u32>().ok()
        }
        _ => None,
    };
    let read = read.filter(|mode| *mode <= 0o7777);
    if read.is_none() {
        out.refuse(spot.problem("are no permissions", "Write them as 0440"));
    }
    read
}

/// `tmpfs`: paths, and options after a colon.
pub(super) fn tmpfs(spot: &Spot<'_>, out: &mut Findings) -> BTreeMap<String, String> {
    let mut mounted = BTreeMap::new();
    for text in spot.one_or_texts(out) {
        let (path, options) = text.split_once(':').unwrap_or((&text, ""));
        if let Some(path) = clean(path, spot, out) {
            mounted.insert(path, options.to_owned());
        }
    }
    mounted
}

/// `volumes_from`.
pub(super) fn volumes_from(spot: &Spot<'_>, out: &mut Findings) -> Vec<(ServiceScope, bool)> {
    let mut from = Vec::new();
    for text in spot.texts(out) {
        let (name, access) = match text.rsplit_once(':') {
            Some((name, access @ ("ro" | "rw"))) => (name, access),
            _ => (text.as_str(), "rw"),
        };
        let scope = match name.strip_prefix("container:") {
            Some(container) => ServiceScope::Container(container.to_owned()),
            None if name.starts_with("service:") => {
                ServiceScope::Service(name["service:".len()..].to_owned())
            }
            None if name.contains(':') => {
                let message = format!("{text:?} is neither a service nor a container");
                out.refuse(spot.problem(message, "Write SERVICE[:ro] or container:NAME[:ro]"));
                continue;
            }
            None => ServiceScope::Service(name.to_owned()),
        };
        from.push((scope, access == "ro"));
    }
    from
}

/// The volumes that a service mounts.
pub(super) fn volumes(
    top: &Spot<'_>,
    services: &BTreeMap<String, Service>,
    project: &str,
    out: &mut Findings,
) -> BTreeMap<String, Volume> {
    let named = |service: &Service| {
        let mounts = service
            .mounts
            .iter()
            .filter(|mount| mount.kind == MountKind::Volume);
        mounts
            .filter_map(|mount| mount.source.clone())
            .collect::<Vec<_>>()
    };
    let used: BTreeSet<String> = services.values().flat_map(named).collect();
    let mut volumes = BTreeMap::new();
    if let Some(all) = top.get("volumes") {
        all.need_map(out);
        for (key, spot) in all.entries() {
            spot.need_map(out);
            let (name, external) = network::identity(key, &spot, project, out);
            let volume = Volume {
                name,
                external,
                driver: spot.get("driver").and_then(|spot| spot.text(out)),
                driver_opts: spot
                    .get("driver_opts")
                    .map(|s| s.filled_pairs(out))
                    .unwrap_or_default(),
                labels: spot
                    .get("labels")
                    .map(|s| s.filled_pairs(out))
                    .unwrap_or_default(),
            };
            if used.contains(key) {
                volumes.insert(key.to_owned(), volume);
            }
        }
    }
    for key in used
        .iter()
        .filter(|key| !volumes.contains_key(*key))
        .collect::<Vec<_>>()
    {
        let user = services
            .iter()
            .find(|(_, service)| named(service).contains(key));
        let user = user.map_or("", |(name, _)| name);
        network::refuse_undefined(top, user, "volumes", key, out);
    }
    volumes
}
