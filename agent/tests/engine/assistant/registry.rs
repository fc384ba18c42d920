//! Registries of this machine alone: Debian's `docker-registry`, with the example's images.
//!
//! Images are built once, and kept in a folder by what they are built from; every registry
//! serves that folder, at an address of its own.

use std::{
    fmt::Write as _,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

/// Releases of the product that are built.
const TAGS: [&str; 4] = ["1", "2", "3-bad", "4-crash"];
/// The only account of a registry that asks for one; `HTPASSWD` has it.
pub(super) const USER: &str = "customer";
pub(super) const SECRET: &str = "correct horse";
const HTPASSWD: &str = "customer:$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2\n";

/// A registry that runs until it is dropped.
#[derive(Debug)]
pub(super) struct Registry {
    process: Child,
    host: String,
    _settings: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Registry {
    /// A registry with the example's images; none, with the test skipped by name. With
    /// `htpasswd`, it asks for [`USER`] and [`SECRET`].
    pub(super) fn start(htpasswd: Option<()>) -> Option<Self> {
        let missing = missing_programs();
        if !missing.is_empty() {
            let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(
                !ci,
                "{missing} is missing (CI=true: nothing may be skipped)"
            );
            println!("skipped: {missing} is not installed");
            return None;
        }
        Some(Self::serve(&store(), htpasswd.is_some()))
    }

    fn serve(store: &Path, asks: bool) -> Self {
        let settings = tempfile::tempdir().unwrap();
        let mut text = format!(
            "version: 0.1\nlog: {{level: info}}\nhttp: {{addr: \"127.0.0.1:0\", secret: any}}\n\
             storage: {{filesystem: {{rootdirectory: \"{}\"}}}}\n",
            store.display()
        );
        if asks {
            let accounts = settings.path().join("htpasswd");
            fs::write(&accounts, HTPASSWD).unwrap();
            let path = accounts.display();
            writeln!(
                text,
                "auth: {{htpasswd: {{realm: test, path: \"{path}\"}}}}"
            )
            .unwrap();
        }
        let path = settings.path().join("registry.yml");
        fs::write(&path, text).unwrap();
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap());
        let host = loop {
            let mut line = String::new();
            assert!(
                log.read_line(&mut line).unwrap() > 0,
                "the registry has ended"
            );
            let address = line.split("listening on ").nth(1);
            if let Some(address) = address.and_then(|rest| rest.split('"').next()) {
                break address.to_owned();
            }
        };
        // A pipe that nobody reads would stop it.
        thread::spawn(move || log.lines().map_while(Result::ok).for_each(drop));
        Self {
            process,
            host,
            _settings: settings,
        }
    }

    /// As it stands in references: `127.0.0.1:PORT`.
    pub(super) fn host(&self) -> &str {
        &self.host
    }
}

fn missing_programs() -> String {
    let programs = [
        ("docker-registry", "/usr/bin/docker-registry"),
        ("nginx-light", "/usr/sbin/nginx"),
        ("postgresql", "/usr/lib/postgresql/15/bin/postgres"),
    ];
    let missing = programs
        .iter()
        .filter(|(_, path)| !Path::new(path).exists());
    let names: Vec<&str> = missing.map(|(package, _)| *package).collect();
    names.join(", ")
}

/// The folder with the images, built where that has not been done.
fn store() -> PathBuf {
    let sources = super::root().join("examples/assistant/images");
    let mut hasher = DefaultHasher::new();
    TAGS.hash(&mut hasher);
    let mut bundle = compose::load::Bundle::new();
    super::read(&sources, "", &mut bundle);
    for (name, file) in &bundle {
        (name, &file.bytes).hash(&mut hasher);
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(folder).unwrap();
    let store = folder.join(format!("assistant-{:016x}", hasher.finish()));
    // Tests may be processes of their own: the first builds, the others wait.
    let lock = fs::File::create(store.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let whole = store.join("whole");
    if !whole.exists() {
        let registry = Registry::serve(&store, false);
        let built = Command::new(sources.join("build.sh"))
            .arg(registry.host())
            .args(TAGS)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "build.sh: {said}");
        // The Engine shall have to pull them.
        let images = String::from_utf8(built.stdout).unwrap();
        let mut remove = Command::new("docker");
        let removed = remove.arg("rmi").args(images.lines()).output().unwrap();
        assert!(removed.status.success(), "{removed:?}");
        fs::write(whole, "").unwrap();
    }
    store
}
