//! Text to trees: YAML with positions, tags of Compose, anchors, aliases and merge keys.

use std::{collections::BTreeMap, sync::Arc};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag as ParsedTag};

use super::{
    node::{Key, Kind, Node, Tag, Value, resolve},
    problem::{Origin, Place, Problem},
    secret,
};

/// Most nodes of a file, aliases written out. Docker's Compose stops at 100,000 visits.
pub(super) const NODES_MAX: usize = 100_000;
/// Most entries of one map or list: what follows may compare each with each.
pub(super) const ENTRIES_MAX: usize = 4096;
/// Most maps and lists in one another. Everything after this may recurse.
pub(super) const DEPTH_MAX: usize = 64;

/// Reads every document of a text.
///
/// # Errors
///
/// The first mistake: what follows it would not be understood.
pub(super) fn parse(text: &str, origin: &Arc<Origin>) -> Result<Vec<Node>, Problem> {
    let whole = Place {
        origin: Arc::clone(origin),
        line: 0,
        column: 0,
    };
    if secret::has_mark(text) {
        let message = "has characters that are kept for secrets (U+F5EC0, U+F5EC1)";
        return Err(Problem::new(&whole, "", message).help("Take them out"));
    }
    let mut builder = Builder {
        origin: Arc::clone(origin),
        open: Vec::new(),
        anchors: BTreeMap::new(),
        documents: Vec::new(),
        nodes: 0,
    };
    let mut parser = Parser::new_from_str(text.strip_prefix('\u{FEFF}').unwrap_or(text));
    while let Some(event) = parser.next_event() {
        match event {
            Ok((event, span)) => builder.event(event, span.start)?,
            Err(error) => {
                let place = builder.place(*error.marker());
                let message = format!("is no YAML: {}", error.info());
                return Err(Problem::new(&place, "", message));
            }
        }
    }
    Ok(builder.documents)
}

struct Builder {
    origin: Arc<Origin>,
    open: Vec<Open>,
    /// What an anchor stands for, how many nodes it has, and how deep it goes.
    anchors: BTreeMap<usize, (Node, usize, usize)>,
    documents: Vec<Node>,
    nodes: usize,
}

/// A list or a map whose end was not seen yet.
struct Open {
    node: Node,
    anchor: usize,
    /// In a map: the key whose value comes next.
    key: Option<Key>,
    /// In a map: keys so far, and their lines.
    keys: BTreeMap<String, u32>,
    /// In a map: what `<<` names.
    merged: Vec<Node>,
}

impl Builder {
    fn place(&self, marker: Marker) -> Place {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Place {
            origin: Arc::clone(&self.origin),
            line: number(marker.line()),
            column: number(marker.col()).saturating_add(1),
        }
    }

    fn event(&mut self, event: Event<'_>, at: Marker) -> Result<(), Problem> {
        let place = self.place(at);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_plain = style == ScalarStyle::Plain;
                let (tag, forced) = read_tag(tag.as_deref(), &place)?;
                let is_key = self.awaits_key();
                let value = match forced {
                    Some(kind) => Value::Scalar(text.into_owned(), kind),
                    None if is_plain => match resolve(&text) {
                        Some(kind) => Value::Scalar(text.into_owned(), kind),
                        None => Value::Null,
                    },
                    None => Value::Scalar(text.into_owned(), Kind::Text),
                };
                if is_key {
                    return self.key(&value, &place, is_plain);
                }
                let node = Node { place, tag, value };
                self.remember(anchor, &node);
                let (size, _) = measure(&node);
                self.add(node, size)
            }
            Event::SequenceStart(anchor, tag) => {
                self.start(Value::List(Vec::new()), anchor, tag.as_deref(), place)
            }
            Event::MappingStart(anchor, tag) => {
                self.start(Value::Map(Vec::new()), anchor, tag.as_deref(), place)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => {
                let Some((node, size, depth)) = self.anchors.get(&anchor) else {
                    let message = "is an alias of something that it is part of";
                    return Err(Problem::new(&place, "", message));
                };
                if self.open.len() + depth > DEPTH_MAX {
                    return Err(too_deep(&place));
                }
                let (mut node, size) = (node.clone(), *size);
                if self.awaits_key() {
                    return self.key(&node.value, &place, false);
                }
                // A mistake in what an alias stands for is shown where it is written.
                if node.tag != Tag::None {
                    node.place = place;
                }
                self.add(node, size)
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
        }
    }

    fn awaits_key(&self) -> bool {
        let open = self.open.last();
        open.is_some_and(|open| matches!(open.node.value, Value::Map(_)) && open.key.is_none())
    }

    fn start(
        &mut self,
        value: Value,
        anchor: usize,
        tag: Option<&ParsedTag>,
        place: Place,
    ) -> Result<(), Problem> {
        if self.awaits_key() {
            return Err(Problem::new(&place, "", "a key has to be text"));
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(too_deep(&place));
        }
        let (tag, _) = read_tag(tag, &place)?;
        self.open.push(Open {
            node: Node { place, tag, value },
            anchor,
            key: None,
            keys: BTreeMap::new(),
            merged: Vec::new(),
        });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Problem> {
        let Some(mut open) = self.open.pop() else {
            return Ok(());
        };
        if let Value::Map(entries) = &mut open.node.value {
            for source in open.merged {
                let Value::Map(further) = source.value else {
                    continue;
                };
                for (key, value) in further {
                    if open.keys.insert(key.text.clone(), key.place.line).is_none() {
                        entries.push((key, value));
                    }
                }
            }
        }
        crowded(&open.node)?;
        self.remember(open.anchor, &open.node);
        self.add(open.node, 1)
    }

    fn key(&mut self, value: &Value, place: &Place, is_plain: bool) -> Result<(), Problem> {
        let Value::Scalar(text, Kind::Text) = value else {
            let shown = match value {
                Value::Scalar(text, _) => format!("the key {text} is no text"),
                _ => "a key has to be text".to_owned(),
            };
            return Err(Problem::new(place, "", shown).help("Put it in quotes"));
        };
        let Some(open) = self.open.last_mut() else {
            return Ok(());
        };
        let is_merge = is_plain && text == "<<";
        if let Some(line) = open.keys.insert(text.clone(), place.line) {
            let message = format!("the key {text} is there twice, first in line {line}");
            return Err(Problem::new(place, "", message).help("Take one of them out"));
        }
        if is_merge {
            // It is no key of the map; another in the same map is refused all the same.
            open.key = Some(Key {
                text: MERGE.to_owned(),
                place: place.clone(),
            });
            return Ok(());
        }
        open.key = Some(Key {
            text: text.clone(),
            place: place.clone(),
        });
        Ok(())
    }

    fn remember(&mut self, anchor: usize, node: &Node) {
        if anchor > 0 {
            let (size, depth) = measure(node);
            self.anchors.insert(anchor, (node.clone(), size, depth));
        }
    }

    /// Puts a finished node where it belongs.
    fn add(&mut self, node: Node, size: usize) -> Result<(), Problem> {
        self.nodes += size;
        if self.nodes > NODES_MAX {
            let message = format!("has more than {NODES_MAX} nodes, aliases written out");
            return Err(Problem::new(&node.place, "", message).help("Split the stack"));
        }
        let Some(open) = self.open.last_mut() else {
            self.documents.push(node);
            return Ok(());
        };
        crowded(&open.node)?;
        match &mut open.node.value {
            Value::List(items) => items.push(node),
            Value::Map(entries) => match open.key.take() {
                Some(key) if key.text == MERGE => merge_key(&mut open.merged, node)?,
                Some(key) => entries.push((key, node)),
                None => {}
            },
            Value::Null | Value::Scalar(..) => {}
        }
        Ok(())
    }
}

/// Stands for the plain key `<<`; no text can be it, for a mark is refused.
const MERGE: &str = "\u{F5EC0}<<\u{F5EC1}";

fn merge_key(merged: &mut Vec<Node>, node: Node) -> Result<(), Problem> {
    let place = node.place.clone();
    let refused = |place: &Place| Problem::new(place, "", "<< takes a map, or a list of maps");
    match node.value {
        Value::Map(_) => merged.push(node),
        Value::List(items) => {
            for item in items {
                if item.entries().is_none() {
                    return Err(refused(&item.place));
                }
                merged.push(item);
            }
        }
        Value::Null => {}
        Value::Scalar(..) => return Err(refused(&place)),
    }
    Ok(())
}

/// Refuses a map or a list that has more entries than anybody writes.
pub(super) fn crowded(node: &Node) -> Result<(), Problem> {
    let entries = match &node.value {
        Value::List(items) => items.len(),
        Value::Map(entries) => entries.len(),
        Value::Null | Value::Scalar(..) => 0,
    };
    if entries > ENTRIES_MAX {
        let message = format!("has more than {ENTRIES_MAX} entries");
        return Err(Problem::new(&node.place, "", message).help("Split it"));
    }
    Ok(())
}

fn too_deep(place: &Place) -> Problem {
    let message = format!("is more than {DEPTH_MAX} lists and maps deep");
    Problem::new(place, "", message)
}

fn measure(node: &Node) -> (usize, usize) {
    let of = |children: &mut dyn Iterator<Item = &Node>| {
        children.fold((1, 1), |(size, depth), child| {
            let (its, deep) = measure(child);
            (size + its, depth.max(deep + 1))
        })
    };
    match &node.value {
        Value::List(items) => of(&mut items.iter()),
        Value::Map(entries) => of(&mut entries.iter().map(|(_, value)| value)),
        Value::Null => (1, 0),
        Value::Scalar(text, _) => (weight(text), 0),
    }
}

/// Long text counts for more than one node, so that aliases of it are bounded as well.
fn weight(text: &str) -> usize {
    1 + text.len() / 256
}

/// A tag of Compose, or what kind of scalar a tag of YAML makes of it.
fn read_tag(tag: Option<&ParsedTag>, place: &Place) -> Result<(Tag, Option<Kind>), Problem> {
    let Some(tag) = tag else {
        return Ok((Tag::None, None));
    };
    let read = match (tag.is_yaml_core_schema(), tag.suffix.as_str()) {
        (true, "str" | "binary") => (Tag::None, Some(Kind::Text)),
        (true, "int") => (Tag::None, Some(Kind::Int)),
        (true, "float") => (Tag::None, Some(Kind::Float)),
        (true, "bool") => (Tag::None, Some(Kind::Bool)),
        (true, "null" | "map" | "seq" | "merge") => (Tag::None, None),
        (false, "reset") => (Tag::Reset, None),
        (false, "override") => (Tag::Override, None),
        // `!` alone is YAML for: this is text.
        (false, "") => (Tag::None, Some(Kind::Text)),
        _ => {
            let message = format!("the tag {tag} is none of Compose");
            let help = "Compose knows !reset and !override";
            return Err(Problem::new(place, "", message).help(help));
        }
    };
    Ok(read)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn origin() -> Arc<Origin> {
        Arc::new(Origin {
            file: "compose.yml".to_owned(),
            base: String::new(),
        })
    }

    fn one(text: &str) -> Node {
        parse(text, &origin()).unwrap().remove(0)
    }

    fn refused(text: &str) -> String {
        parse(text, &origin()).unwrap_err().to_string()
    }

    #[test]
    fn a_node_knows_its_line_and_column() {
        let node = one("a:\n  - b: 1\n");
        let item = &node.get("a").unwrap().items().unwrap()[0];
        let b = item.get("b").unwrap();
        assert_eq!(b.place.to_string(), "compose.yml:2:8");
    }

    #[test]
    fn an_explicit_key_wins_over_a_merged_one_and_an_earlier_merge_over_a_later() {
        let node = one("x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz:\n  <<: [*x, *y]\n  a: 0\n");
        let z = node.get("z").unwrap();
        let texts: Vec<_> = ["a", "b", "c"]
            .map(|key| z.get(key).unwrap().scalar())
            .into();
        assert_eq!(texts, ["0", "1", "2"].map(|text| Some(text.to_owned())));
    }

    #[test]
    fn a_key_that_is_there_twice_is_refused_with_both_lines() {
        let text = refused("a: 1\nb: 2\na: 3\n");
        assert!(text.contains(":3:1") && text.contains("line 1"), "{text}");
    }

    #[test]
    fn a_billion_laughs_are_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for n in 1..10 {
            let aliases = vec![format!("*a{}", n - 1); 10].join(", ");
            text.push_str(&format!("a{n}: &a{n} [{aliases}]\n"));
        }
        assert!(refused(&text).contains("nodes"));
    }

    #[test]
    fn an_alias_of_itself_is_refused() {
        assert!(refused("a: &a [*a]").contains("part of"));
    }

    #[test]
    fn too_deep_a_tree_is_refused_and_not_recursed_into() {
        let text = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        assert!(!refused(&text).is_empty());
    }

    #[test]
    fn a_key_that_is_a_number_is_refused() {
        assert!(refused("80: x").contains("quotes"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[-\\[\\]{}:,&*!|>'\"%@#a-z0-9 \\n\\t]{0,80}") {
            drop(parse(&text, &origin()));
        }

        #[test]
        fn no_text_of_any_characters_panics(text in any::<String>()) {
            drop(parse(&text, &origin()));
        }
    }
}
