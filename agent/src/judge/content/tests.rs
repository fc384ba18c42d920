//! What bodies are refused for, one by one; and that what is not known is refused.

use super::*;
use crate::policy::Policy;

fn rules(keys: &str) -> DockerRules {
    let text = format!("[docker]\naccess = \"limited\"\nregistries = [\"docker.io\"]\n{keys}\n");
    Policy::parse(&text).unwrap().docker().clone()
}

#[expect(
    clippy::unwrap_in_result,
    reason = "a fixture that fails is a test that fails"
)]
fn says(keys: &str, look: Look, body: &str) -> Result<(), Rule> {
    let json = Json::parse(body.as_bytes()).expect("JSON");
    judge(&rules(keys), look, &json).map_err(|denied| denied.rule)
}

fn host_config(keys: &str, member: &str) -> Result<(), Rule> {
    let body = format!("{{\"Image\":\"nginx\",\"HostConfig\":{{{member}}}}}");
    says(keys, Look::Container, &body)
}

#[test]
fn an_ordinary_container_is_allowed() {
    // What docker run --name x -p 8080:80 -v data:/data nginx sends, shortened.
    let body = r#"{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":true,
        "AttachStderr":true,"ExposedPorts":{"80/tcp":{}},"Tty":false,"OpenStdin":false,
        "StdinOnce":false,"Env":null,"Cmd":null,"Image":"nginx:1.27","Volumes":{},"WorkingDir":"",
        "Entrypoint":null,"OnBuild":null,"Labels":{"a":"1","A":"2"},
        "HostConfig":{"Binds":["data:/data"],"ContainerIDFile":"","LogConfig":{"Type":"","Config":{}},
        "NetworkMode":"default","PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8080"}]},
        "RestartPolicy":{"Name":"no","MaximumRetryCount":0},"AutoRemove":false,"VolumeDriver":"",
        "VolumesFrom":null,"ConsoleSize":[0,0],"CapAdd":null,"CapDrop":null,"CgroupnsMode":"",
        "Dns":[],"DnsOptions":[],"DnsSearch":[],"ExtraHosts":null,"GroupAdd":null,"IpcMode":"",
        "Cgroup":"","Links":null,"OomScoreAdj":0,"PidMode":"","Privileged":false,
        "PublishAllPorts":false,"ReadonlyRootfs":false,"SecurityOpt":null,"UTSMode":"",
        "UsernsMode":"","ShmSize":0,"Isolation":"","CpuShares":0,"Memory":0,"NanoCpus":0,
        "CgroupParent":"","Devices":[],"DeviceCgroupRules":null,"DeviceRequests":null,
        "MaskedPaths":null,"ReadonlyPaths":null},
        "NetworkingConfig":{"EndpointsConfig":{"default":{"IPAMConfig":null}}}}"#;

    assert_eq!(says("ports = [\"8080\"]", Look::Container, body), Ok(()));
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn every_way_out_of_a_container_needs_its_key() {
    for (member, rule, key) in [
        (
            r#""Privileged":true"#,
            Rule::Privileged,
            "privileged = true",
        ),
        (
            r#""privileged":true"#,
            Rule::Privileged,
            "privileged = true",
        ),
        (r#""PRIVILEGED":1"#, Rule::Privileged, "privileged = true"),
        (
            r#""CapAdd":["cap_sys_admin"]"#,
            Rule::Capabilities,
            "capabilities = [\"SYS_ADMIN\"]",
        ),
        (
            r#""CapAdd":["ALL"]"#,
            Rule::Capabilities,
            "capabilities = [\"ALL\"]",
        ),
        (
            r#""NetworkMode":"host""#,
            Rule::HostNamespaces,
            "host_namespaces = [\"network\"]",
        ),
        (
            r#""NetworkMode":"container:x""#,
            Rule::HostNamespaces,
            "host_namespaces = [\"network\"]",
        ),
        (
            r#""PidMode":"host""#,
            Rule::HostNamespaces,
            "host_namespaces = [\"pid\"]",
        ),
        (
            r#""IpcMode":"host""#,
            Rule::HostNamespaces,
            "host_namespaces = [\"ipc\"]",
        ),
        (
            r#""UTSMode":"host""#,
            Rule::HostNamespaces,
            "host_namespaces = [\"uts\"]",
        ),
        (
            r#""UsernsMode":"host""#,
            Rule::HostNamespaces,
            "host_namespaces = [\"user\"]",
        ),
        (
            r#""CgroupnsMode":"host""#,
            Rule::HostNamespaces,
            "host_namespaces = [\"cgroup\"]",
        ),
        (
            r#""Binds":["/srv/app:/x"]"#,
            Rule::BindMounts,
            "bind_mounts = [\"/srv/app\"]",
        ),
        (
            r#""Binds":["/srv/app:/x:z,ro"]"#,
            Rule::BindMounts,
            "bind_mounts = [\"/srv/app:ro\"]",
        ),
        (
            r#""Mounts":[{"Type":"bind","Source":"/srv/app","Target":"/x"}]"#,
            Rule::BindMounts,
            "bind_mounts = [\"/srv/app\"]",
        ),
        (
            r#""Mounts":[{"Type":"volume","Target":"/x","VolumeOptions":{"DriverConfig":
                {"Name":"local","Options":{"type":"none","o":"bind","device":"/srv/app"}}}}]"#,
            Rule::BindMounts,
            "bind_mounts = [\"/srv/app\"]",
        ),
        (
            r#""VolumesFrom":["other"]"#,
            Rule::VolumesFrom,
            "volumes_from = true",
        ),
        (
            r#""Devices":[{"PathOnHost":"/dev/kvm"}]"#,
            Rule::Devices,
            "devices = [\"/dev/kvm\"]",
        ),
        (
            r#""DeviceRequests":[{"Driver":"nvidia","Count":-1}]"#,
            Rule::Devices,
            "devices = [\"gpu\"]",
        ),
        (
            r#""DeviceCgroupRules":["a *:* rwm"]"#,
            Rule::Privileged,
            "privileged = true",
        ),
        (
            r#""SecurityOpt":["seccomp=unconfined"]"#,
            Rule::Privileged,
            "privileged = true",
        ),
        (r#""MaskedPaths":[]"#, Rule::Privileged, "privileged = true"),
        (
            r#""ReadonlyPaths":[]"#,
            Rule::Privileged,
            "privileged = true",
        ),
        (
            r#""Runtime":"other""#,
            Rule::Privileged,
            "privileged = true",
        ),
        (
            r#""Annotations":{"a":"b"}"#,
            Rule::Privileged,
            "privileged = true",
        ),
        (
            r#""LogConfig":{"Type":"syslog"}"#,
            Rule::LogDrivers,
            "log_drivers = [\"syslog\"]",
        ),
        (
            r#""PortBindings":{"80/tcp":[{"HostPort":"80"}]}"#,
            Rule::Ports,
            "ports = [\"80\"]",
        ),
        (
            r#""PortBindings":{"80/tcp":[{"HostPort":"80-82"}]}"#,
            Rule::Ports,
            "ports = [\"80-81\", \"82\"]",
        ),
        (
            r#""PortBindings":{"80/tcp":[{}]}"#,
            Rule::Ports,
            "ports = [\"32768-60999\"]",
        ),
        (
            r#""PublishAllPorts":true"#,
            Rule::Ports,
            "ports = [\"1-65535\"]",
        ),
        (
            r#""Tomorrow":{"x":1}"#,
            Rule::Privileged,
            "privileged = true",
        ),
    ] {
        assert_eq!(host_config("", member), Err(rule), "{member}");
        assert_eq!(host_config(key, member), Ok(()), "{member} with {key}");
    }
}

#[test]
fn a_key_allows_what_it_names_and_nothing_beside_it() {
    for (key, member, rule) in [
        (
            "bind_mounts = [\"/srv/app:ro\"]",
            r#""Binds":["/srv/app:/x"]"#,
            Rule::BindMounts,
        ),
        (
            "bind_mounts = [\"/srv/app\"]",
            r#""Binds":["/srv/app/..:/x"]"#,
            Rule::BindMounts,
        ),
        (
            "bind_mounts = [\"/srv/app\"]",
            r#""Binds":["../x:/x"]"#,
            Rule::BindMounts,
        ),
        (
            "bind_mounts = [\"/srv/app\"]",
            r#""Mounts":[{"Type":"volume","Source":"/etc"}]"#,
            Rule::BindMounts,
        ),
        (
            "bind_mounts = [\"/srv/app\"]",
            r#""Mounts":[{"Type":"npipe","Source":"x"}]"#,
            Rule::BindMounts,
        ),
        (
            "bind_mounts = [\"/srv/app\"]",
            r#""Mounts":[{"Source":"/srv/app"}]"#,
            Rule::BindMounts,
        ),
        (
            "capabilities = [\"NET_ADMIN\"]",
            r#""CapAdd":["NET_RAW"]"#,
            Rule::Capabilities,
        ),
        (
            "host_namespaces = [\"pid\"]",
            r#""IpcMode":"host""#,
            Rule::HostNamespaces,
        ),
        (
            "devices = [\"/dev/kvm\"]",
            r#""Devices":[{"PathOnHost":"/dev/sda"}]"#,
            Rule::Devices,
        ),
        (
            "devices = [\"gpu\"]",
            r#""DeviceRequests":[{"Driver":"cdi"}]"#,
            Rule::Devices,
        ),
        (
            "ports = [\"80-81\"]",
            r#""PortBindings":{"x":[{"HostPort":"80-82"}]}"#,
            Rule::Ports,
        ),
        (
            "ports = [\"80\"]",
            r#""PortBindings":{"x":[{"HostPort":"80"},{}]}"#,
            Rule::Ports,
        ),
    ] {
        assert_eq!(host_config(key, member), Err(rule), "{member} with {key}");
    }
}

#[test]
fn what_go_could_read_in_two_ways_is_refused() {
    for body in [
        r#"{"HostConfig":{"Memory":1},"hostconfig":{}}"#,
        r#"{"HostConfig":{"Privileged":false,"privileged":true}}"#,
        r#"{"HostConfig":[]}"#,
        r#"{"HostConfig":{"Binds":{}}}"#,
        r#"{"HostConfig":{"Binds":[1]}}"#,
        r#"{"HostConfig":{"Mounts":[{"Type":"volume","type":"bind","Source":"x"}]}}"#,
        "[]",
        "1",
    ] {
        assert_eq!(
            says("", Look::Container, body),
            Err(Rule::Request),
            "{body}"
        );
    }
    // Names that Go folds and we do not are not known.
    assert!(
        says(
            "",
            Look::Container,
            "{\"Ho\u{17f}tConfig\":{\"Privileged\":true}}"
        )
        .is_err()
    );
    // Old Engines read these at the top, too.
    assert!(says("", Look::Container, r#"{"Privileged":true}"#).is_err());
    assert!(says("", Look::Container, r#"{"Binds":["/:/x"]}"#).is_err());
    assert!(says("", Look::Container, r#"{"MaskedPaths":[]}"#).is_err());
}

#[test]
fn an_image_is_judged_by_its_registry() {
    let create = |image: &str| {
        let body = format!("{{\"Image\":{image:?}}}");
        says("", Look::Container, &body)
    };

    assert_eq!(create("nginx"), Ok(()));
    assert_eq!(create("docker.io/a/b@sha256:12"), Ok(()));
    assert_eq!(create(&format!("sha256:{}", "0".repeat(64))), Ok(()));
    assert_eq!(create("ghcr.io/a/b"), Err(Rule::Registries));
    assert_eq!(create("127.0.0.1:5000/a"), Err(Rule::Registries));
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn commands_updates_volumes_networks_and_credentials_are_judged() {
    for (look, body, expected) in [
        (Look::ExecCreate, r#"{"Cmd":["sh"],"Tty":true}"#, Ok(())),
        (
            Look::ExecCreate,
            r#"{"Cmd":["sh"],"Privileged":true}"#,
            Err(Rule::Privileged),
        ),
        (
            Look::Update,
            r#"{"Memory":1,"RestartPolicy":{"Name":"always"}}"#,
            Ok(()),
        ),
        (
            Look::Update,
            r#"{"Devices":[{"PathOnHost":"/dev/sda"}]}"#,
            Err(Rule::Devices),
        ),
        (
            Look::Volume,
            r#"{"Name":"x","Driver":"local","DriverOpts":{}}"#,
            Ok(()),
        ),
        (
            Look::Volume,
            r#"{"DriverOpts":{"type":"tmpfs","device":"tmpfs","o":"size=1m"}}"#,
            Ok(()),
        ),
        (
            Look::Volume,
            r#"{"DriverOpts":{"type":"none","o":"bind","device":"/"}}"#,
            Err(Rule::BindMounts),
        ),
        (
            Look::Volume,
            r#"{"DriverOpts":{"type":"tmpfs","o":"bind","device":"/"}}"#,
            Err(Rule::BindMounts),
        ),
        (
            Look::Volume,
            r#"{"DriverOpts":{"type":"ext4","device":"/dev/sda1"}}"#,
            Err(Rule::BindMounts),
        ),
        (
            Look::Volume,
            r#"{"DriverOpts":{"type":"nfs","o":"addr=x","device":":/"}}"#,
            Err(Rule::BindMounts),
        ),
        (
            Look::Volume,
            r#"{"Driver":"plugin"}"#,
            Err(Rule::Privileged),
        ),
        (
            Look::Network,
            r#"{"Name":"x","Driver":"bridge","Labels":{}}"#,
            Ok(()),
        ),
        (
            Look::Network,
            r#"{"Name":"x","Driver":"macvlan"}"#,
            Err(Rule::HostNamespaces),
        ),
        (
            Look::Auth,
            r#"{"username":"u","serveraddress":"https://index.docker.io/v1/"}"#,
            Ok(()),
        ),
        (
            Look::Auth,
            r#"{"username":"u","serveraddress":"evil.example"}"#,
            Err(Rule::Registries),
        ),
        (Look::NoBody, "{}", Ok(())),
        (Look::NoBody, "null", Ok(())),
        (Look::NoBody, r#"{"Binds":["/:/x"]}"#, Err(Rule::Request)),
    ] {
        assert_eq!(says("", look, body), expected, "{body}");
    }
}

#[test]
fn a_body_of_as_many_members_as_it_may_have_is_judged_and_a_second_spelling_is_found() {
    let mut members: String = (0..100_000)
        .map(|number| format!("\"m{number}\":0,"))
        .collect();
    members.insert_str(0, "\"Image\":\"nginx\",");
    let body = |last: &str| format!("{{{members}{last}}}");

    assert_eq!(says("", Look::Container, &body("\"z\":0")), Ok(()));
    assert_eq!(
        says("", Look::Container, &body("\"M99999\":0")),
        Err(Rule::Request)
    );
}
