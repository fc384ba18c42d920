//! A page of metrics, as text.

use std::collections::{BTreeMap, BTreeSet};

/// Values of labels by label.
pub(crate) type Labels = BTreeMap<String, BTreeSet<String>>;

/// A family that a page shows.
#[derive(Debug, Default)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) labels: Labels,
    pub(crate) has_moved: bool,
}

/// Every family of a page by its name.
pub(crate) fn families(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("# TYPE ") {
            let (name, kind) = head.split_once(' ').expect("a name and a kind");
            families.entry(name.to_owned()).or_default().kind = kind.to_owned();
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').expect("a series and a value");
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let name = family_of(name);
            let family = families.get_mut(name);
            let family = family.unwrap_or_else(|| panic!("{name} has no TYPE before it"));
            family.has_moved |= value != "0";
            for (label, value) in pairs(labels.trim_end_matches('}')) {
                family.labels.entry(label).or_default().insert(value);
            }
        }
    }
    families
}

/// A histogram's samples have names of their own.
fn family_of(name: &str) -> &str {
    ["_bucket", "_count", "_sum"]
        .iter()
        .find_map(|end| name.strip_suffix(end))
        .unwrap_or(name)
}

/// Labels of a sample. None of ours has a quote or a comma in its value.
fn pairs(labels: &str) -> impl Iterator<Item = (String, String)> {
    labels.split(',').filter_map(|pair| {
        let (label, value) = pair.split_once('=')?;
        Some((label.to_owned(), value.trim_matches('"').to_owned()))
    })
}
