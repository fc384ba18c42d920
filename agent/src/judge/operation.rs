//! Every operation of the Engine's API, and what it does to a host.
//!
//! A table and no code, so that it can be read beside the Engine's own documentation. What
//! is not in it is known to nobody here and refused.

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Changes nothing, and shows what Docker knows.
    Read,
    /// Shows files of containers, or whole images.
    Files,
    /// Puts files into a container.
    FilesIn,
    /// Runs a command in a running container, or writes to its first process.
    Exec,
    /// Shows and feeds a container's first process.
    Attach,
    /// Changes containers, images, volumes or networks that are there.
    Change,
    /// Makes something, as its body says.
    Create,
    /// Has the Engine talk to a registry.
    Registry,
    /// Makes images that come from no registry.
    Build,
    /// Becomes a protocol that cannot be judged.
    Opaque,
    /// Changes the Engine or its cluster, or shows their secrets.
    Root,
}

/// What of a request is looked at, beside its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// There is no body, or an empty object.
    NoBody,
    /// Nothing: the body may be anything.
    Nothing,
    /// `POST /containers/create`.
    Container,
    /// `POST /containers/{id}/update`.
    Update,
    /// `POST /containers/{id}/exec`.
    ExecCreate,
    /// `POST /volumes/create`.
    Volume,
    /// `POST /networks/create`.
    Network,
    /// `POST /auth`.
    Auth,
    /// The query of a pull or an import.
    Pull,
    /// The repository in the path.
    Repository,
    /// The query of a search.
    Search,
    /// The query of an attach.
    Attach,
    /// The query of a build.
    Build,
}

/// One operation.
#[derive(Debug, PartialEq, Eq)]
pub struct Operation {
    /// In upper case.
    pub method: &'static str,
    /// `{…}` is one part of a path; `{…*}` is one or more.
    pub template: &'static str,
    /// What it does.
    pub class: Class,
    /// What of it is looked at.
    pub look: Look,
    /// Whether the connection becomes a pipe once the Engine says so.
    pub hijacks: bool,
}

const fn operation(
    method: &'static str,
    template: &'static str,
    class: Class,
    look: Look,
) -> Operation {
    Operation {
        method,
        template,
        class,
        look,
        hijacks: false,
    }
}

const fn read(method: &'static str, template: &'static str) -> Operation {
    operation(method, template, Class::Read, Look::NoBody)
}

const fn change(method: &'static str, template: &'static str) -> Operation {
    operation(method, template, Class::Change, Look::NoBody)
}

const fn root(method: &'static str, template: &'static str) -> Operation {
    operation(method, template, Class::Root, Look::Nothing)
}

const fn hijack(
    method: &'static str,
    template: &'static str,
    class: Class,
    look: Look,
) -> Operation {
    Operation {
        method,
        template,
        class,
        look,
        hijacks: true,
    }
}

/// All of them. Where two match, the first one is meant.
pub static OPERATIONS: &[Operation] = &[
    // Containers.
    read("GET", "/containers/json"),
    operation("POST", "/containers/create", Class::Create, Look::Container),
    change("POST", "/containers/prune"),
    read("GET", "/containers/{id}/json"),
    read("GET", "/containers/{id}/top"),
    read("GET", "/containers/{id}/logs"),
    read("GET", "/containers/{id}/changes"),
    read("GET", "/containers/{id}/stats"),
    // Waits for an end; causes none.
    read("POST", "/containers/{id}/wait"),
    operation("GET", "/containers/{id}/export", Class::Files, Look::NoBody),
    operation(
        "HEAD",
        "/containers/{id}/archive",
        Class::Files,
        Look::NoBody,
    ),
    operation(
        "GET",
        "/containers/{id}/archive",
        Class::Files,
        Look::NoBody,
    ),
    operation(
        "PUT",
        "/containers/{id}/archive",
        Class::FilesIn,
        Look::Nothing,
    ),
    change("POST", "/containers/{id}/resize"),
    change("POST", "/containers/{id}/start"),
    change("POST", "/containers/{id}/stop"),
    change("POST", "/containers/{id}/restart"),
    change("POST", "/containers/{id}/kill"),
    change("POST", "/containers/{id}/rename"),
    change("POST", "/containers/{id}/pause"),
    change("POST", "/containers/{id}/unpause"),
    change("DELETE", "/containers/{id}"),
    operation(
        "POST",
        "/containers/{id}/update",
        Class::Create,
        Look::Update,
    ),
    hijack(
        "POST",
        "/containers/{id}/attach",
        Class::Attach,
        Look::Attach,
    ),
    hijack(
        "GET",
        "/containers/{id}/attach/ws",
        Class::Exec,
        Look::NoBody,
    ),
    operation(
        "POST",
        "/containers/{id}/exec",
        Class::Exec,
        Look::ExecCreate,
    ),
    hijack("POST", "/exec/{id}/start", Class::Exec, Look::Nothing),
    operation("POST", "/exec/{id}/resize", Class::Exec, Look::NoBody),
    read("GET", "/exec/{id}/json"),
    // State of processes in files of the host.
    root("GET", "/containers/{id}/checkpoints"),
    root("POST", "/containers/{id}/checkpoints"),
    root("DELETE", "/containers/{id}/checkpoints/{checkpoint}"),
    // Images.
    read("GET", "/images/json"),
    operation("GET", "/images/search", Class::Registry, Look::Search),
    operation("GET", "/images/get", Class::Files, Look::NoBody),
    operation("POST", "/images/create", Class::Registry, Look::Pull),
    operation("POST", "/images/load", Class::Build, Look::Nothing),
    change("POST", "/images/prune"),
    read("GET", "/images/{name*}/json"),
    read("GET", "/images/{name*}/history"),
    operation("GET", "/images/{name*}/get", Class::Files, Look::NoBody),
    operation(
        "POST",
        "/images/{name*}/push",
        Class::Registry,
        Look::Repository,
    ),
    change("POST", "/images/{name*}/tag"),
    change("DELETE", "/images/{name*}"),
    operation(
        "GET",
        "/distribution/{name*}/json",
        Class::Registry,
        Look::Repository,
    ),
    operation("POST", "/build", Class::Build, Look::Build),
    change("POST", "/build/prune"),
    change("POST", "/build/cancel"),
    operation("POST", "/commit", Class::Build, Look::Nothing),
    // Networks.
    read("GET", "/networks"),
    read("GET", "/networks/{id}"),
    operation("POST", "/networks/create", Class::Create, Look::Network),
    change("POST", "/networks/prune"),
    operation(
        "POST",
        "/networks/{id}/connect",
        Class::Change,
        Look::Nothing,
    ),
    operation(
        "POST",
        "/networks/{id}/disconnect",
        Class::Change,
        Look::Nothing,
    ),
    change("DELETE", "/networks/{id}"),
    // Volumes. What PUT changes belongs to a cluster.
    read("GET", "/volumes"),
    read("GET", "/volumes/{name}"),
    operation("POST", "/volumes/create", Class::Create, Look::Volume),
    change("POST", "/volumes/prune"),
    change("DELETE", "/volumes/{name}"),
    root("PUT", "/volumes/{name}"),
    // The Engine.
    read("GET", "/_ping"),
    read("HEAD", "/_ping"),
    read("GET", "/info"),
    read("GET", "/version"),
    read("GET", "/events"),
    read("GET", "/system/df"),
    operation("POST", "/auth", Class::Registry, Look::Auth),
    hijack("POST", "/session", Class::Opaque, Look::NoBody),
    hijack("POST", "/grpc", Class::Opaque, Look::NoBody),
    // The cluster. Inspecting a swarm shows the tokens that join it, and a config its
    // content; a secret's content is never shown.
    root("GET", "/swarm"),
    root("POST", "/swarm/init"),
    root("POST", "/swarm/join"),
    root("POST", "/swarm/leave"),
    root("POST", "/swarm/update"),
    root("GET", "/swarm/unlockkey"),
    root("POST", "/swarm/unlock"),
    read("GET", "/nodes"),
    read("GET", "/nodes/{id}"),
    root("DELETE", "/nodes/{id}"),
    root("POST", "/nodes/{id}/update"),
    read("GET", "/services"),
    root("POST", "/services/create"),
    read("GET", "/services/{id}"),
    root("DELETE", "/services/{id}"),
    root("POST", "/services/{id}/update"),
    read("GET", "/services/{id}/logs"),
    read("GET", "/tasks"),
    read("GET", "/tasks/{id}"),
    read("GET", "/tasks/{id}/logs"),
    read("GET", "/secrets"),
    root("POST", "/secrets/create"),
    read("GET", "/secrets/{id}"),
    root("DELETE", "/secrets/{id}"),
    root("POST", "/secrets/{id}/update"),
    root("GET", "/configs"),
    root("POST", "/configs/create"),
    root("GET", "/configs/{id}"),
    root("DELETE", "/configs/{id}"),
    root("POST", "/configs/{id}/update"),
    // Plugins run as root.
    read("GET", "/plugins"),
    root("GET", "/plugins/privileges"),
    root("POST", "/plugins/pull"),
    root("POST", "/plugins/create"),
    read("GET", "/plugins/{name*}/json"),
    root("POST", "/plugins/{name*}/enable"),
    root("POST", "/plugins/{name*}/disable"),
    root("POST", "/plugins/{name*}/upgrade"),
    root("POST", "/plugins/{name*}/push"),
    root("POST", "/plugins/{name*}/set"),
    root("DELETE", "/plugins/{name*}"),
];

/// The operation of a request, and what stands for `{…*}` in it.
pub fn find(method: &str, parts: &[String]) -> Option<(&'static Operation, String)> {
    let mut of_method = OPERATIONS
        .iter()
        .filter(|operation| operation.method == method);
    of_method.find_map(|operation| Some((operation, fits(operation.template, parts)?)))
}

/// Whether the parts are as the template says; what stands for its `{…*}`.
fn fits(template: &str, parts: &[String]) -> Option<String> {
    let wanted: Vec<&str> = template.trim_start_matches('/').split('/').collect();
    let same = |wanted: &[&str], parts: &[String]| {
        let pairs = wanted.iter().zip(parts);
        wanted.len() == parts.len()
            && pairs
                .into_iter()
                .all(|(wanted, part)| wanted.starts_with('{') || wanted == part)
    };
    let Some(star) = wanted.iter().position(|part| part.ends_with("*}")) else {
        return same(&wanted, parts).then(String::new);
    };
    let behind = wanted.len() - star - 1;
    let name_ends = parts.len().checked_sub(behind).filter(|end| *end > star)?;
    let fits =
        same(&wanted[..star], &parts[..star]) && same(&wanted[star + 1..], &parts[name_ends..]);
    fits.then(|| parts[star..name_ends].join("/"))
}

#[cfg(test)]
mod tests;
