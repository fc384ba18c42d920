//! `examples/assistant`, as a vendor delivers it: from a registry, to a customer's host.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
};

use compose::{
    exchange::{Assignment, Phase, RegistryLogin, SecretText, StackReport},
    load::{self, Bundle, Level, Loaded, Problem, Sources, variables::Value},
};

use crate::site::Site;

mod adoption;
mod changes;
mod dockerd;
mod failures;
mod figures;
mod interruptions;
mod logins;
mod policy;
mod registry;

use registry::Registry;

const POLICY: &str = "[docker]\naccess = \"full\"\n";
const PASSWORD: &str = "a password, with $pecial \"characters\"";

/// The example on a host, with the registry that it comes from.
#[derive(Debug)]
struct Product {
    site: Site,
    registry: Registry,
    bundle: Bundle,
    variables: BTreeMap<String, String>,
    profiles: BTreeSet<String>,
    logins: BTreeMap<String, RegistryLogin>,
    port: u16,
}

impl Drop for Product {
    fn drop(&mut self) {
        self.site.kill();
        self.site.clean();
        // Others push to registries of their own: only what came from this one goes.
        let references = format!("reference={}/*/*", self.registry.host());
        let format = "{{.Repository}}:{{.Tag}}";
        let listed = self
            .site
            .try_docker(&["images", "--filter", &references, "--format", format]);
        let listed = listed.unwrap_or_default();
        let named = listed.lines().filter(|image| !image.ends_with("<none>"));
        let images: Vec<&str> = named.collect();
        if !images.is_empty() {
            drop(self.site.try_docker(&[vec!["rmi"], images].concat()));
        }
    }
}

/// The repository's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn read(folder: &Path, prefix: &str, bundle: &mut Bundle) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        match entry.path().is_dir() {
            true => read(&entry.path(), &format!("{name}/"), bundle),
            false => {
                let bytes = fs::read(entry.path()).unwrap();
                bundle.insert(name, load::File::new(bytes));
            }
        }
    }
}

impl Product {
    /// The example on the Engine that answers here; none, with the test skipped by name.
    fn new(project: &str) -> Option<Self> {
        let socket = Site::socket_there()?;
        let registry = Registry::start(None)?;
        Some(Self::on(&socket, project, registry))
    }

    fn on(socket: &Path, project: &str, registry: Registry) -> Self {
        let site = Site::at(socket, project, POLICY);
        let mut bundle = Bundle::new();
        let example = root().join("examples/assistant");
        for name in ["compose.yml", "nginx"] {
            let path = example.join(name);
            match path.is_dir() {
                true => read(&path, &format!("{name}/"), &mut bundle),
                false => {
                    let bytes = fs::read(path).unwrap();
                    bundle.insert(name.to_owned(), load::File::new(bytes));
                }
            }
        }
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        let variables = [
            ("TAG", "1"),
            ("REGISTRY", registry.host()),
            ("BIND", "127.0.0.1"),
            ("PORT", &port.to_string()),
            ("CHECK_INTERVAL", "1s"),
            ("START_PERIOD", "8s"),
            ("MONITOR", "1s"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            site,
            registry,
            bundle,
            variables: variables.into(),
            profiles: BTreeSet::new(),
            logins: BTreeMap::new(),
            port,
        }
    }

    /// Sets a variable for what is deployed from now on.
    fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    fn load(&self) -> Result<Loaded, Vec<Problem>> {
        let mut sources = Sources::new(&self.bundle, "compose.yml");
        sources.name = Some(self.site.project.clone());
        sources.profiles.clone_from(&self.profiles);
        for (name, value) in &self.variables {
            sources.variables.plain(Level::Given, name, value);
        }
        let secret = Value::Secret;
        sources.variables.set(Level::Given, "DB_PASSWORD", secret);
        load::load(&sources)
    }

    /// Gives the agent what is asked for now, without waiting for it.
    async fn assign(&mut self) -> Assignment {
        let loaded = self.load().unwrap();
        let mut assignment = self.site.next(loaded.stack);
        let secret = SecretText(PASSWORD.to_owned());
        assignment.secrets = BTreeMap::from([("DB_PASSWORD".to_owned(), secret)]);
        assignment.registries = self.logins.clone();
        assignment.deadline_seconds = 110;
        self.site.assign(&assignment, &loaded.blobs).await;
        assignment
    }

    async fn deploy(&mut self) -> StackReport {
        let assignment = self.assign().await;
        self.site.settled(assignment.number).await
    }

    async fn commits(&mut self) -> StackReport {
        let report = self.deploy().await;
        assert_eq!(report.phase, Phase::Committed, "{report:#?}");
        report
    }

    /// Ids of every running container, by service.
    fn ids(&self) -> BTreeMap<String, Vec<String>> {
        let project = format!("label=com.docker.compose.project={}", self.site.project);
        let format = "{{.Label \"com.docker.compose.service\"}}";
        let listed = self
            .site
            .docker(&["ps", "--filter", &project, "--format", format]);
        let services: BTreeSet<&str> = listed.lines().collect();
        let ids = services
            .into_iter()
            .map(|s| (s.to_owned(), self.site.ids(s)));
        ids.collect()
    }

    /// What PostgreSQL answers.
    fn sql(&self, statement: &str) -> String {
        let id = self.site.ids("db").remove(0);
        let arguments = [
            "exec",
            &id,
            "psql",
            "-qAt",
            "-U",
            "assistant",
            "-c",
            statement,
        ];
        self.site.docker(&arguments)
    }

    /// What somebody gets who asks the published port.
    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let request = format!("GET {path} HTTP/1.0\r\nHost: assistant\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

/// Services whose containers are not the same.
fn changed(
    before: &BTreeMap<String, Vec<String>>,
    after: &BTreeMap<String, Vec<String>>,
) -> Vec<String> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differs = |name: &&String| before.get(*name) != after.get(*name);
    names.into_iter().filter(differs).cloned().collect()
}
