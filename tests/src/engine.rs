//! A Docker Engine of this machine, and the image that the tests run.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{binary, skip};

/// An engine that answers.
#[derive(Debug)]
pub struct Engine {
    /// Its socket.
    pub socket: PathBuf,
}

/// The image of [`Engine::image`].
const IMAGE: &str = "sternline-test:1";

impl Engine {
    /// The engine that answers here, or none, with the test skipped by name.
    pub fn find() -> Option<Self> {
        // Says at once when the product is not built.
        drop(binary("sternline-relay"));
        let host =
            std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into());
        let Some(socket) = host.strip_prefix("unix://") else {
            skip(&format!(
                "the agent reaches Unix sockets only, and DOCKER_HOST is {host}"
            ));
            return None;
        };
        let engine = Self {
            socket: PathBuf::from(socket),
        };
        match engine
            .command(&["version", "--format", "{{.Server.Version}}"])
            .output()
        {
            Ok(output) if output.status.success() => Some(engine),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                skip(&format!("no Docker Engine: {}", said.trim()));
                None
            }
            Err(error) => {
                skip(&format!("no docker CLI: {error}"));
                None
            }
        }
    }

    /// The docker CLI against the engine itself, past the relay.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command
            .env("DOCKER_HOST", format!("unix://{}", self.socket.display()))
            .env("DOCKER_BUILDKIT", "0")
            .args(arguments);
        command
    }

    /// What the engine itself says.
    ///
    /// # Panics
    /// Where the CLI fails.
    pub fn says(&self, arguments: &[&str]) -> String {
        let output = self
            .command(arguments)
            .output()
            .expect("the docker CLI runs");
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert!(
            output.status.success(),
            "docker {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        said
    }

    /// A small image with a shell, made of this machine's static busybox.
    pub fn image(&self) -> &'static str {
        let there = self.command(&["image", "inspect", IMAGE]).output();
        if !there.is_ok_and(|output| output.status.success()) {
            let folder = tempfile::tempdir().expect("a temporary folder");
            self.build(folder.path(), IMAGE);
        }
        IMAGE
    }

    /// Builds an image of the folder's files and busybox.
    pub fn build(&self, folder: &Path, tag: &str) {
        write_context(folder);
        self.says(&[
            "build",
            "--quiet",
            "--tag",
            tag,
            &folder.display().to_string(),
        ]);
    }

    /// Removes containers, where they exist.
    pub fn remove(&self, containers: &[&str]) {
        let mut arguments = vec!["rm", "-f"];
        arguments.extend_from_slice(containers);
        drop(self.command(&arguments).output());
    }
}

/// Makes a folder what `docker build` takes: busybox, its links, and a Dockerfile
/// that adds whatever else the folder holds.
fn write_context(folder: &Path) {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .expect("busybox-static is installed (./test does it)");
    fs::copy(busybox, folder.join("busybox")).expect("a file in a temporary folder");
    let dockerfile = "FROM scratch\nCOPY busybox /bin/busybox\n\
        RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\nCOPY . /context/\nCMD [\"/bin/sh\"]\n";
    fs::write(folder.join("Dockerfile"), dockerfile).expect("a file in a temporary folder");
}
