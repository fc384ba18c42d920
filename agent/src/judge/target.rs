//! A request's target, as the Engine's router sees it: the path in its parts, without the
//! API's version; and the query.
//!
//! The router cleans and decodes paths. Whatever it would change is refused here, so that
//! nothing is judged by another name than the one it is routed by.

/// The oldest version of the API that is judged: before it, `start` took what belongs to
/// `create`.
const VERSION_MIN: (u32, u32) = (1, 24);
/// Parts of a path.
const PARTS_MAX: usize = 16;

/// A target that is what it seems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The parts of the path, decoded, without the version.
    pub parts: Vec<String>,
    /// The query's fields in their order, decoded; a name may come more than once.
    query: Vec<(String, String)>,
}

impl Target {
    /// Reads a target.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.contains('#') {
            return Err("the target has characters that do not belong there");
        }
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let path = path.strip_prefix('/').ok_or("the target is not a path")?;
        let mut parts = Vec::new();
        for part in path.split('/') {
            if parts.len() == PARTS_MAX {
                return Err("the path has too many parts");
            }
            parts.push(path_part(part)?);
        }
        if let Some(version) = parts.first().and_then(|part| version(part)) {
            if version < VERSION_MIN {
                return Err("API versions before 1.24 are not judged");
            }
            parts.remove(0);
        }
        if parts.is_empty() {
            return Err("the path is empty");
        }
        let query = parse_query(query)?;
        Ok(Self { parts, query })
    }

    /// Every value of a field.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        let fields = self.query.iter().filter(move |(field, _)| field == name);
        fields.map(|(_, value)| value.as_str())
    }

    /// Whether the Engine takes some value of the field for true.
    pub fn is_true(&self, name: &str) -> bool {
        self.values(name).any(|value| {
            let value = value.trim().to_ascii_lowercase();
            !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
        })
    }
}

/// `v1.41`.
fn version(part: &str) -> Option<(u32, u32)> {
    let rest = part.strip_prefix('v')?;
    let is_version = !rest.is_empty()
        && rest
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
    if !is_version {
        return None;
    }
    let (major, minor) = rest.split_once('.').unwrap_or((rest, "0"));
    // One that cannot be read is older than any.
    let number = |text: &str| text.parse().unwrap_or_default();
    Some((number(major), number(minor)))
}

/// Decoded once. What would then end the part, lead elsewhere or be decoded again is
/// refused.
fn path_part(part: &str) -> Result<String, &'static str> {
    let decoded = decode(part, false)?;
    let is_odd = |byte: u8| !byte.is_ascii_graphic() || b"/\\%?#;".contains(&byte);
    let was_encoded_dot = part.to_ascii_lowercase().contains("%2e");
    match decoded.as_str() {
        "" => Err("the path has an empty part"),
        "." | ".." => Err("the path leads elsewhere"),
        _ if was_encoded_dot || decoded.bytes().any(is_odd) => {
            Err("the path has characters in disguise")
        }
        _ => Ok(decoded),
    }
}

/// As Go's `url.ParseQuery` does, without what versions of it differ about.
fn parse_query(query: &str) -> Result<Vec<(String, String)>, &'static str> {
    if query.contains(';') {
        return Err("the query has a semicolon");
    }
    let fields = query.split('&').filter(|field| !field.is_empty());
    fields
        .map(|field| {
            let (name, value) = field.split_once('=').unwrap_or((field, ""));
            Ok((decode(name, true)?, decode(value, true)?))
        })
        .collect()
}

fn decode(text: &str, is_query: bool) -> Result<String, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
                    return Err("the target has an incomplete `%`");
                };
                u8::try_from(high * 16 + low).unwrap_or_default()
            }
            b'+' if is_query => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| "the target is not text")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_is_seen_without_its_version() {
        let target =
            Target::parse("/v1.41/images/reg.example:5000/a/b@sha256:12/json?x=1").unwrap();

        assert_eq!(
            target.parts,
            ["images", "reg.example:5000", "a", "b@sha256:12", "json"]
        );
        assert_eq!(Target::parse("/info").unwrap().parts, ["info"]);
        assert_eq!(Target::parse("/vx/info").unwrap().parts, ["vx", "info"]);
    }

    #[test]
    fn tricks_with_paths_are_refused() {
        for text in [
            "/containers//json",
            "/containers/json/",
            "/containers/./json",
            "/containers/../json",
            "/containers/%2e%2e/json",
            "/containers/%2E/json",
            "/containers/a%2Fb/json",
            "/containers/a%5cb/json",
            "/containers/a%252fb/json",
            "/containers/a%3fb/json",
            "/containers/a%00/json",
            "/containers/a%/json",
            "/containers/a%zz/json",
            "/containers/\u{e9}/json",
            "/v1.23/containers/json",
            "/v1/containers/json",
            "/v./containers/json",
            "/v1.41",
            "/",
            "",
            "*",
            "http://docker/info",
            "//docker/info",
            "/info#x",
            "/info?a;b",
            "/info?a=%g0",
        ] {
            assert!(Target::parse(text).is_err(), "{text} was taken");
        }
        assert_eq!(
            Target::parse("/images/a%40b%3Ac/json").unwrap().parts[1],
            "a@b:c"
        );
    }

    #[test]
    fn every_value_of_a_query_counts() {
        let target = Target::parse("/x?stdin=0&stdin=1&a=b+c%26").unwrap();

        assert!(target.is_true("stdin") && !target.is_true("stdout"));
        assert_eq!(target.values("a").collect::<Vec<_>>(), ["b c&"]);
        for value in ["", "0", "no", "false", "FALSE", "none"] {
            assert!(
                !Target::parse(&format!("/x?a={value}"))
                    .unwrap()
                    .is_true("a")
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_target_or_an_error(text in ".{0,100}") {
            if let Ok(target) = Target::parse(&text) {
                prop_assert!(target.parts.iter().all(|part| !part.contains('/')));
            }
        }
    }
}
