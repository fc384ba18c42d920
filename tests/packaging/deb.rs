//! The Debian packages: built, installed, removed and purged by the real dpkg, in a copy
//! of this machine's files that is thrown away.

use std::{fs, path::Path, process::Command};

use tests::{binary, skip};

use crate::{has, root, says};

/// Shows the commands of standard input a root that is this machine's, whose changes go
/// to memory; `$1` is an empty folder, `$2` the folder that is `/debs` inside.
const INSIDE: &str = r#"
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/whole"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/whole"
mkdir -p "$1/whole/debs"
mount --bind "$2" "$1/whole/debs"
mount --rbind /dev "$1/whole/dev"
exec chroot "$1/whole" sh -eux
"#;

/// A life of both packages. A command that fails ends it.
const LIFE: &str = r#"
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
dpkg --force-depends --force-unsafe-io --no-triggers -i /debs/*.deb
sternline-relay -V
sternline-agent -V
getent passwd sternline-relay sternline-agent
getent group docker
test -e /etc/systemd/system/multi-user.target.wants/sternline-relay.service
test -e /etc/systemd/system/multi-user.target.wants/sternline-agent.service
sternline-relay serve --config /etc/sternline-relay/relay.toml --check-config >/dev/null
sternline-agent status --config /etc/sternline-agent/config.toml && exit 1

mkdir -p /var/lib/sternline-agent /var/lib/sternline-relay
touch /var/lib/sternline-agent/identity.json /etc/sternline-agent/token
echo '# changed' >>/etc/sternline-agent/policy.toml
dpkg --force-depends --force-unsafe-io --no-triggers -i /debs/*.deb
grep -q '# changed' /etc/sternline-agent/policy.toml

dpkg -r sternline-relay sternline-agent
test ! -e /usr/bin/sternline-agent
test -e /etc/sternline-agent/policy.toml
test -e /var/lib/sternline-agent/identity.json

dpkg -P sternline-relay sternline-agent
test ! -e /var/lib/sternline-agent
test ! -e /var/lib/sternline-relay
test ! -e /etc/sternline-agent
test ! -e /etc/sternline-relay
test ! -e /etc/systemd/system/multi-user.target.wants/sternline-agent.service
echo 'a whole life'
"#;

/// Builds both packages from the programs under test into a folder.
fn build(folder: &Path) -> Vec<String> {
    let program = binary("sternline-relay");
    let files = says(
        Command::new(root().join("packaging/deb"))
            .args(["--quick", "--programs"])
            .arg(program.parent().expect("it is in a folder"))
            .arg("--out")
            .arg(folder),
    );
    files.lines().map(str::to_owned).collect()
}

#[test]
fn a_package_needs_no_library_and_owns_what_it_installs() {
    if !has("dpkg-deb", "dpkg") || !has("objcopy", "binutils") {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");

    for file in build(folder.path()) {
        let depends = says(Command::new("dpkg-deb").args(["--field", &file, "Depends"]));
        let listed = says(Command::new("dpkg-deb").args(["--contents", &file]));
        let conffiles = says(Command::new("dpkg-deb").args(["--info", &file, "conffiles"]));
        let extracted = tempfile::tempdir().expect("a temporary folder");
        says(
            Command::new("dpkg-deb")
                .arg("-x")
                .arg(&file)
                .arg(extracted.path()),
        );
        let package = file.rsplit('/').next().expect("a name");
        let package = package.split('_').next().expect("a name");
        let program = extracted.path().join("usr/bin").join(package);

        assert!(!depends.contains("lib"), "{depends}");
        for line in listed.lines() {
            assert!(line.contains(" root/root "), "{line}");
        }
        for part in [
            format!("usr/lib/systemd/system/{package}.service"),
            format!("usr/share/man/man1/{package}.1.gz"),
            format!("usr/share/bash-completion/completions/{package}"),
            format!("usr/share/doc/{package}/copyright"),
            format!("usr/share/doc/{package}/changelog.gz"),
        ] {
            assert!(extracted.path().join(&part).exists(), "{file}: {part}");
        }
        let probe = extracted
            .path()
            .join("usr/share/man/man1/sternline-probe.1.gz");
        assert_eq!(probe.exists(), package == "sternline-relay", "{file}");
        for conffile in conffiles.lines() {
            assert!(conffile.starts_with("/etc/"), "{conffile}");
        }
        let said = says(Command::new(&program).arg("--version"));
        assert_eq!(said, says(Command::new(binary(package)).arg("--version")));
        let small = fs::metadata(&program).expect("it is there").len();
        let whole = fs::metadata(binary(package)).expect("it is there").len();
        assert!(small < whole / 2, "{package} has its line tables still");
    }
}

#[test]
fn both_packages_live_a_whole_life_on_this_machine() {
    if !has("dpkg", "dpkg") || !has("objcopy", "binutils") {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        skip("only root may install packages, even into a copy of this machine");
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (debs, inside) = (folder.path().join("debs"), folder.path().join("inside"));
    fs::create_dir(&inside).expect("a folder in a temporary one");
    build(&debs);
    fs::write(folder.path().join("life"), LIFE).expect("a file in a temporary folder");
    let life = fs::File::open(folder.path().join("life")).expect("it was written");

    let lived = Command::new("unshare")
        .args(["--mount", "sh", "-c", INSIDE, "sh"])
        .args([&inside, &debs])
        .stdin(life)
        .output()
        .expect("unshare runs");

    let (said, steps) = (
        String::from_utf8_lossy(&lived.stdout).into_owned(),
        String::from_utf8_lossy(&lived.stderr).into_owned(),
    );
    if steps.contains("mount:") && !steps.contains("+ ") {
        skip(&format!("no overlay file system: {}", steps.trim()));
        return;
    }
    assert!(said.contains("a whole life"), "{said}\n{steps}");
    assert!(!steps.contains("warning"), "{steps}");
}
