//! What of the host a container would see: paths, and volumes that stand for paths.

use super::{Denied, DockerRules, Free, Json, Judged, Rule, each, image, only_if, text, walk};

fn path(rules: &DockerRules, path: &str, read_only: bool) -> Result<(), Denied> {
    only_if(
        rules.permits_mount(path, read_only),
        Rule::BindMounts,
        || {
            let how = if read_only {
                "for reading"
            } else {
                "for writing"
            };
            format!("the mount of {path:?} {how}")
        },
    )
}

/// `source:target[:options]`; a source that is no path is a volume's name.
pub(super) fn judge_bind(rules: &DockerRules, json: &Json) -> Result<(), Denied> {
    let bind = text(json, "Binds")?;
    let mut parts = bind.split(':');
    let (source, target, options) = (parts.next(), parts.next(), parts.next());
    let (source, options) = match (source, target, options) {
        // A volume without a name.
        (Some(_), None, _) => return Ok(()),
        (Some(source), Some(_), options) => (source, options.unwrap_or_default()),
        (None, ..) => return Ok(()),
    };
    if is_volume_name(source) {
        return Ok(());
    }
    path(
        rules,
        source,
        options.split(',').any(|option| option == "ro"),
    )
}

fn is_volume_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    text.bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric())
        && text.bytes().all(fits)
}

/// One of `Mounts`. Which members matter depends on its type, so that is read first.
pub(super) fn judge_mount(rules: &DockerRules, json: &Json) -> Result<(), Denied> {
    const MOUNT: (Free, Judged) = (
        &[
            "bindoptions",
            "consistency",
            "imageoptions",
            "readonly",
            "source",
            "target",
            "tmpfsoptions",
            "type",
        ],
        &[("volumeoptions", |rules, json| {
            walk(
                rules,
                json,
                "VolumeOptions",
                (
                    &["labels", "nocopy", "subpath"],
                    &[("driverconfig", |rules, json| {
                        walk(
                            rules,
                            json,
                            "DriverConfig",
                            (&[], &[("name", volume_driver), ("options", volume_options)]),
                        )
                    })],
                ),
            )
        })],
    );
    // Also says that no member is there twice.
    walk(rules, json, "Mounts", MOUNT)?;
    let Json::Object(members) = json else {
        return Ok(());
    };
    let member = |name: &str| {
        let found = members
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map_or(&Json::Null, |(_, value)| value)
    };
    let (kind, source) = (
        text(member("type"), "Type")?,
        text(member("source"), "Source")?,
    );
    match kind.to_ascii_lowercase().as_str() {
        "bind" => path(rules, source, *member("readonly") == Json::Bool(true)),
        "volume" if source.is_empty() || is_volume_name(source) => Ok(()),
        "tmpfs" if source.is_empty() => Ok(()),
        "image" => image(rules, source),
        _ => Err(Denied::new(
            Rule::BindMounts,
            format!("a mount of the type {kind:?} from {source:?}"),
        )),
    }
}

pub(super) fn volume_driver(rules: &DockerRules, json: &Json) -> Result<(), Denied> {
    match text(json, "Driver")? {
        "" | "local" => Ok(()),
        // Where a plugin's volumes lie is known to nobody here.
        _ if rules.privileged => Ok(()),
        other => Err(Denied::new(
            Rule::Privileged,
            format!("the volume driver {other:?}"),
        )),
    }
}

/// Options of the local driver: they mount what they name.
pub(super) fn volume_options(rules: &DockerRules, json: &Json) -> Result<(), Denied> {
    let Json::Object(options) = json else {
        return each(json, "DriverOpts", |_| {
            Err(Denied::new(Rule::Request, "`DriverOpts` is no object"))
        });
    };
    let (mut kind, mut flags, mut device) = ("", "", "");
    for (name, value) in options {
        let value = text(value, "DriverOpts")?;
        match name.as_str() {
            "type" => kind = value,
            "o" => flags = value,
            "device" => device = value,
            "size" => {}
            _ => {
                let why = format!("the volume option {name:?}");
                return Err(Denied::new(Rule::BindMounts, why));
            }
        }
    }
    let has = |flag: &str| flags.split(',').any(|one| one == flag);
    match (kind, device) {
        ("" | "none", "") | ("tmpfs", _) if !has("bind") && !has("rbind") => Ok(()),
        ("" | "none" | "bind", device) => path(rules, device, has("ro")),
        (kind, device) => Err(Denied::new(
            Rule::BindMounts,
            format!("a volume of the type {kind:?} from {device:?}"),
        )),
    }
}
