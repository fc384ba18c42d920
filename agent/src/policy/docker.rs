//! What the vendor may ask of the Docker Engine: `[docker]`.
//!
//! With `full` nothing is looked at. With `read-only` and `limited` every request is
//! judged (see [`judge`](crate::judge)), and what reaches beyond a container's own walls is
//! denied unless a key names it.

use std::{fmt, ops::RangeInclusive};

/// How far the vendor may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The Engine is not reached.
    None,
    /// Requests that change nothing.
    ReadOnly,
    /// Containers, images, volumes and networks, within the other keys.
    Limited,
    /// Whatever the Engine can do, which is whatever root can do.
    Full,
}

impl Access {
    /// All, least first.
    pub const ALL: [Self; 4] = [Self::None, Self::ReadOnly, Self::Limited, Self::Full];

    /// The word in the policy.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ReadOnly => "read-only",
            Self::Limited => "limited",
            Self::Full => "full",
        }
    }
}

/// A namespace of the host that a container may share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespace {
    /// Interfaces, addresses and ports.
    Network,
    /// Processes.
    Pid,
    /// Shared memory and semaphores.
    Ipc,
    /// Host name.
    Uts,
    /// User ids.
    User,
    /// Control groups.
    Cgroup,
}

impl Namespace {
    /// All.
    pub const ALL: [Self; 6] = [
        Self::Network,
        Self::Pid,
        Self::Ipc,
        Self::Uts,
        Self::User,
        Self::Cgroup,
    ];

    /// The word in the policy.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Pid => "pid",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::User => "user",
            Self::Cgroup => "cgroup",
        }
    }
}

/// A path of the host that may be mounted into containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindMount {
    /// Absolute, without `.`, `..` or a slash at its end.
    path: String,
    /// Whether what lies below is meant, too.
    below: bool,
    /// Whether it may be mounted for reading alone.
    read_only: bool,
}

/// The table `[docker]`, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerRules {
    /// How far the vendor may go.
    pub access: Access,
    /// Commands in running containers, and input to their first process.
    pub exec: bool,
    /// Files of containers and whole images, out and in.
    pub files: bool,
    /// Images that come from no registry: built, loaded, imported, committed.
    pub build: bool,
    /// `/session` and `/grpc`: BuildKit's protocols, which cannot be judged.
    pub opaque_upgrades: bool,
    /// Privileged containers, and whatever loosens the walls as much.
    pub privileged: bool,
    /// Volumes and mounts of other containers.
    pub volumes_from: bool,
    /// Paths of the host.
    pub bind_mounts: Vec<BindMount>,
    /// Capabilities beyond Docker's default ones, such as `NET_ADMIN`.
    pub capabilities: Vec<String>,
    /// Namespaces of the host.
    pub host_namespaces: Vec<Namespace>,
    /// Device files of the host, or `gpu`.
    pub devices: Vec<String>,
    /// Registries, with or without the beginning of a repository's path.
    pub registries: Vec<String>,
    /// Log drivers beyond those that keep logs on the host.
    pub log_drivers: Vec<String>,
    /// Ports of the host that containers may publish.
    pub ports: Vec<RangeInclusive<u16>>,
}

impl DockerRules {
    /// An access with no key beside it.
    pub const fn with(access: Access) -> Self {
        Self {
            access,
            exec: false,
            files: false,
            build: false,
            opaque_upgrades: false,
            privileged: false,
            volumes_from: false,
            bind_mounts: Vec::new(),
            capabilities: Vec::new(),
            host_namespaces: Vec::new(),
            devices: Vec::new(),
            registries: Vec::new(),
            log_drivers: Vec::new(),
            ports: Vec::new(),
        }
    }

    /// Whether requests are parsed and judged one by one.
    pub fn judges_requests(&self) -> bool {
        matches!(self.access, Access::ReadOnly | Access::Limited)
    }

    /// Whether a path of the host may be mounted like this. Exact by default, because
    /// whoever may write below a path can put a symbolic link there that leads out of it,
    /// and the Engine follows it.
    pub fn permits_mount(&self, path: &str, read_only: bool) -> bool {
        let Some(path) = absolute(path) else {
            return false;
        };
        self.bind_mounts.iter().any(|rule| {
            let lies_below = || {
                let below = path.strip_prefix(&rule.path);
                below.is_some_and(|rest| rule.path == "/" || rest.starts_with('/'))
            };
            (path == rule.path || (rule.below && lies_below())) && (read_only || !rule.read_only)
        })
    }

    /// Whether a registry's repository may be used, both in normal form.
    pub fn permits_repository(&self, registry: &str, path: &str) -> bool {
        let name = format!("{registry}/{path}");
        self.registries.iter().any(|rule| {
            let rest = name.strip_prefix(rule.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// Whether a registry as a whole may be talked to.
    pub fn permits_registry(&self, registry: &str) -> bool {
        let of = |rule: &String| rule.split('/').next() == Some(registry);
        self.registries.iter().any(of)
    }

    /// Whether a port of the host may be published.
    pub fn permits_port(&self, port: u16) -> bool {
        self.ports.iter().any(|range| range.contains(&port))
    }

    /// In the policy's own words: the access, and every key that allows something.
    pub fn words(&self) -> Vec<String> {
        let mut words = vec![format!("docker.access = \"{}\"", self.access.as_str())];
        let switches = [
            ("exec", self.exec),
            ("files", self.files),
            ("build", self.build),
            ("opaque_upgrades", self.opaque_upgrades),
            ("privileged", self.privileged),
            ("volumes_from", self.volumes_from),
        ];
        let switched_on = switches.into_iter().filter(|(_, on)| *on);
        words.extend(switched_on.map(|(key, _)| format!("docker.{key} = true")));
        let namespaces = self
            .host_namespaces
            .iter()
            .map(|name| name.as_str().to_owned());
        let lists = [
            (
                "bind_mounts",
                self.bind_mounts.iter().map(ToString::to_string).collect(),
            ),
            ("capabilities", self.capabilities.clone()),
            ("host_namespaces", namespaces.collect()),
            ("devices", self.devices.clone()),
            ("registries", self.registries.clone()),
            ("log_drivers", self.log_drivers.clone()),
            ("ports", self.ports.iter().map(port_words).collect()),
        ];
        for (key, entries) in lists {
            let entries: Vec<String> = entries;
            if !entries.is_empty() {
                words.push(format!("docker.{key} = {entries:?}"));
            }
        }
        words
    }
}

fn port_words(range: &RangeInclusive<u16>) -> String {
    match (range.start(), range.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    }
}

/// A path as the kernel walks it, without a slash at its end; `None` where it is not
/// absolute or goes up again. Doubled slashes and `.` mean nothing to the kernel.
fn absolute(path: &str) -> Option<String> {
    let inner = path.strip_prefix('/')?;
    let mut clean = String::new();
    for part in inner.split('/').filter(|part| !matches!(*part, "" | ".")) {
        if part == ".." || part.contains('\0') {
            return None;
        }
        clean.push('/');
        clean.push_str(part);
    }
    Some(if clean.is_empty() {
        "/".to_owned()
    } else {
        clean
    })
}

impl BindMount {
    /// Reads `/path`, `/path/**`, and either with `:ro` behind it.
    ///
    /// # Errors
    ///
    /// What was expected.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (rest, read_only) = match text.strip_suffix(":ro") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let (rest, below) = match rest.strip_suffix("/**") {
            Some("") => ("/", true),
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let fits = absolute(rest).filter(|path| path == rest && !rest.contains([':', '*']));
        match fits {
            Some(path) => Ok(Self {
                path,
                below,
                read_only,
            }),
            None => Err(format!(
                "`{text}` is not a path to mount: expected an absolute path such as `/srv/app`, `/srv/app/**` (and all below it) or `/srv/app:ro`"
            )),
        }
    }
}

impl fmt::Display for BindMount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match self.below {
            true => self.path.trim_end_matches('/'),
            false => &self.path,
        };
        write!(f, "{path}")?;
        if self.below {
            f.write_str("/**")?;
        }
        f.write_str(if self.read_only { ":ro" } else { "" })
    }
}

/// A capability's name without `CAP_`, in upper case.
///
/// # Errors
///
/// What was expected.
pub(super) fn capability(text: &str) -> Result<String, String> {
    let name = capability_name(text);
    let fits = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
    match !name.is_empty() && name.bytes().all(fits) {
        true => Ok(name),
        false => Err(format!(
            "`{text}` is not a capability: expected a name such as `NET_ADMIN`, or `ALL`"
        )),
    }
}

/// As the Engine reads a capability: any case, with or without `CAP_`.
pub fn capability_name(text: &str) -> String {
    let upper = text.trim().to_ascii_uppercase();
    upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned()
}

/// A registry, and the beginning of a path in it.
///
/// # Errors
///
/// What was expected.
pub(super) fn registry(text: &str) -> Result<String, String> {
    let expected = "expected a registry such as `docker.io`, `registry.example.com:5000` or `docker.io/library`, in lower case";
    let (host, path) = text.split_once('/').unwrap_or((text, "x"));
    let is_host = host == "localhost" || host.contains(['.', ':']);
    let host_fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-:[]".contains(&byte);
    let path_fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-/".contains(&byte);
    let path_is_whole = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    match is_host && host.bytes().all(host_fits) && path.bytes().all(path_fits) && path_is_whole {
        // One registry, two names.
        true if host == "index.docker.io" => Ok(text.replacen("index.docker.io", "docker.io", 1)),
        true => Ok(text.to_owned()),
        false => Err(format!("`{text}` is not a registry: {expected}")),
    }
}

/// A device file, or `gpu`.
///
/// # Errors
///
/// What was expected.
pub(super) fn device(text: &str) -> Result<String, String> {
    let is_file = absolute(text).is_some_and(|path| path == text && text != "/");
    match text == "gpu" || is_file {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "`{text}` is not a device: expected a path such as `/dev/ttyUSB0`, or `gpu`"
        )),
    }
}

/// A namespace of the host.
///
/// # Errors
///
/// What was expected.
pub(super) fn namespace(text: &str) -> Result<Namespace, String> {
    let found = Namespace::ALL
        .into_iter()
        .find(|name| name.as_str() == text);
    found.ok_or_else(|| {
        let names = Namespace::ALL.map(Namespace::as_str);
        let expected = crate::strict_toml::alternatives(&names);
        format!("`{text}` is not a namespace: expected {expected}")
    })
}

/// A log driver's name.
///
/// # Errors
///
/// What was expected.
pub(super) fn log_driver(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:".contains(&byte);
    match !text.is_empty() && text.bytes().all(fits) {
        true => Ok(text.to_owned()),
        false => Err(format!("`{text}` is not the name of a log driver")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounting(entries: &[&str]) -> DockerRules {
        let mounts = entries.iter().map(|entry| BindMount::parse(entry).unwrap());
        DockerRules {
            bind_mounts: mounts.collect(),
            ..DockerRules::with(Access::Limited)
        }
    }

    #[test]
    fn a_path_is_meant_alone_unless_it_says_what_is_below() {
        let rules = mounting(&["/srv/app", "/data/**", "/etc/app:ro"]);

        for (path, read_only, permitted) in [
            ("/srv/app", false, true),
            ("/srv/app/", false, true),
            ("//srv/./app", false, true),
            ("/srv/app/x", false, false),
            ("/srv/application", false, false),
            ("/srv/app/../..", false, false),
            ("srv/app", false, false),
            ("/data", false, true),
            ("/data/x/y", false, true),
            ("/database", false, false),
            ("/data/../etc", false, false),
            ("/etc/app", false, false),
            ("/etc/app", true, true),
            ("/", true, false),
        ] {
            assert_eq!(rules.permits_mount(path, read_only), permitted, "{path}");
        }
        assert!(mounting(&["/**"]).permits_mount("/etc", false));
        assert!(!mounting(&["/"]).permits_mount("/etc", false));
    }

    #[test]
    fn mounts_read_back_from_their_words() {
        for text in [
            "/srv/app",
            "/srv/app/**",
            "/srv/app:ro",
            "/srv/app/**:ro",
            "/**",
            "/",
        ] {
            assert_eq!(BindMount::parse(text).unwrap().to_string(), text);
        }
        for text in ["srv", "/srv/", "/srv/../etc", "/a//b", "/a:rw", "/a/*", ""] {
            assert!(BindMount::parse(text).is_err(), "{text} was taken");
        }
    }

    #[test]
    fn a_registry_is_meant_with_its_paths_by_whole_parts() {
        let rules = DockerRules {
            registries: vec!["docker.io/library".into(), "reg.example:5000".into()],
            ..DockerRules::with(Access::Limited)
        };

        assert!(rules.permits_repository("docker.io", "library/nginx"));
        assert!(!rules.permits_repository("docker.io", "libraryx/nginx"));
        assert!(!rules.permits_repository("docker.io", "evil/nginx"));
        assert!(rules.permits_repository("reg.example:5000", "a/b"));
        assert!(!rules.permits_repository("reg.example:50001", "a/b"));
        assert!(rules.permits_registry("docker.io") && !rules.permits_registry("ghcr.io"));
    }

    #[test]
    fn entries_that_could_mean_something_else_are_refused() {
        assert_eq!(registry("index.docker.io").unwrap(), "docker.io");
        for text in [
            "library",
            "Docker.io",
            "https://docker.io",
            "docker.io/",
            "docker.io/../x",
        ] {
            assert!(registry(text).is_err(), "{text} was taken");
        }
        assert_eq!(capability("cap_net_admin").unwrap(), "NET_ADMIN");
        assert!(capability("net admin").is_err());
        assert!(device("/dev/kvm").is_ok() && device("gpu").is_ok() && device("kvm").is_err());
        assert!(namespace("pid").is_ok() && namespace("mount").is_err());
    }
}
