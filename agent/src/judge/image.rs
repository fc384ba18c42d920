//! Names of images, made complete as the Engine does it: `nginx` is
//! `docker.io/library/nginx`.

/// Registry and repository of a reference; tag and digest are left out. `None` where it is
/// none.
pub fn repository(reference: &str) -> Option<(String, String)> {
    let name = reference.split('@').next().unwrap_or_default();
    let (first, rest) = name.split_once('/').unwrap_or(("", name));
    let is_registry = first == "localhost"
        || first.contains(['.', ':'])
        || first.bytes().any(|byte| byte.is_ascii_uppercase());
    let (registry, path) = match is_registry {
        true => (first, rest),
        false => ("docker.io", name),
    };
    let registry = match registry {
        "index.docker.io" => "docker.io",
        other => other,
    };
    let path = match path.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => path,
        _ => path,
    };
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-/".contains(&byte);
    let is_whole = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if !is_whole || !path.bytes().all(fits) {
        return None;
    }
    let path = match registry == "docker.io" && !path.contains('/') {
        true => format!("library/{path}"),
        false => path.to_owned(),
    };
    Some((registry.to_owned(), path))
}

/// Whether it names an image by its content, which is then already on the host.
pub fn is_id(reference: &str) -> bool {
    let digest = reference.strip_prefix("sha256:");
    digest.is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The registry of a server's address, as `docker login` says it.
pub fn registry_of_server(address: &str) -> String {
    let bare = address
        .strip_prefix("https://")
        .or_else(|| address.strip_prefix("http://"))
        .unwrap_or(address);
    match bare.split('/').next().unwrap_or_default() {
        "" | "index.docker.io" => "docker.io".to_owned(),
        host => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_made_complete() {
        for (reference, registry, path) in [
            ("nginx", "docker.io", "library/nginx"),
            ("nginx:1.27", "docker.io", "library/nginx"),
            ("nginx@sha256:12", "docker.io", "library/nginx"),
            ("a/b", "docker.io", "a/b"),
            ("docker.io/nginx", "docker.io", "library/nginx"),
            ("index.docker.io/a/b:c", "docker.io", "a/b"),
            ("localhost/x", "localhost", "x"),
            ("localhost:5000/x:1", "localhost:5000", "x"),
            ("reg.example/a/b/c:1@sha256:12", "reg.example", "a/b/c"),
            ("Evil/x", "Evil", "x"),
            ("[::1]:5000/x", "[::1]:5000", "x"),
        ] {
            let found = repository(reference).unwrap();
            assert_eq!(found, (registry.into(), path.into()), "{reference}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for reference in [
            "",
            "Nginx",
            "a//b",
            "a b",
            "reg.example/",
            "reg.example/A",
            ":tag",
        ] {
            assert_eq!(repository(reference), None, "{reference}");
        }
        assert!(is_id(&format!("sha256:{}", "a".repeat(64))));
        assert!(!is_id("sha256:abc") && !is_id(&"a".repeat(64)));
    }

    #[test]
    fn a_servers_address_names_its_registry() {
        assert_eq!(
            registry_of_server("https://index.docker.io/v1/"),
            "docker.io"
        );
        assert_eq!(registry_of_server(""), "docker.io");
        assert_eq!(registry_of_server("reg.example:5000"), "reg.example:5000");
    }
}
