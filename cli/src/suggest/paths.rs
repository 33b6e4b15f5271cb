//! The parts of paths that vary: where many different segments were seen, one `{*}` stands for them.

use std::collections::{BTreeMap, BTreeSet};

/// Patterns for paths.
#[derive(Debug, Default)]
pub struct Patterns {
    of_paths: BTreeMap<String, String>,
    /// The patterns that stand for several paths, and how many.
    generalized: BTreeMap<String, usize>,
    /// Those of them that are not used.
    unused: BTreeSet<String>,
    /// Paths that stand for themselves.
    kept: BTreeSet<String>,
}

/// So many different numbers or identifiers, at one place, show that they vary.
const FEW_IDENTIFIERS: usize = 3;

/// So many different words do.
const MANY_WORDS: usize = 24;

const ANY: &str = "{*}";

/// Paths that begin in the same way.
#[derive(Debug, Default)]
struct Node {
    children: BTreeMap<String, Node>,
    /// The paths that end here.
    paths: Vec<String>,
}

impl Patterns {
    /// The patterns of these paths.
    pub fn of<'p>(paths: impl Iterator<Item = &'p str>) -> Self {
        let mut root = Node::default();
        for path in paths.collect::<BTreeSet<_>>() {
            let mut node = &mut root;
            for segment in path.split('/') {
                node = node.children.entry(segment.to_owned()).or_default();
            }
            node.paths.push(path.to_owned());
        }
        let mut patterns = Self::default();
        root.generalize();
        root.collect(&mut Vec::new(), &mut patterns.of_paths);
        for (_, pattern) in patterns.of_paths.iter().filter(|(path, pattern)| path != pattern) {
            let count = patterns.generalized.entry(pattern.clone()).or_default();
            *count = count.saturating_add(1);
        }
        patterns
    }

    /// The pattern of a path.
    #[must_use]
    pub fn pattern<'p>(&'p self, path: &'p str) -> &'p str {
        let pattern =
            self.of_paths.get(path).filter(|pattern| !self.unused.contains(*pattern) && !self.kept.contains(path));
        pattern.map_or(path, String::as_str)
    }

    /// Does without the patterns that this path matches. Returns those.
    pub fn keep_apart(&mut self, path: &str) -> Vec<(String, usize)> {
        let matching = self.generalized.iter().filter(|(pattern, _)| matches(pattern, path));
        let matching: Vec<_> = matching.map(|(pattern, count)| (pattern.clone(), *count)).collect();
        for (pattern, _) in &matching {
            self.generalized.remove(pattern);
            self.unused.insert(pattern.clone());
        }
        matching
    }

    /// The paths that a pattern was made of.
    pub fn paths_of(&self, pattern: &str) -> impl Iterator<Item = &str> {
        self.of_paths.iter().filter(move |(_, of)| *of == pattern).map(|(path, _)| path.as_str())
    }

    /// Lets this path stand for itself. Returns whether it did not.
    pub fn keep(&mut self, path: &str) -> bool {
        self.pattern(path) != path && self.kept.insert(path.to_owned())
    }

    /// The patterns that stand for several paths, and for how many.
    #[must_use]
    pub fn generalized(&self) -> &BTreeMap<String, usize> {
        &self.generalized
    }
}

/// Whether a pattern matches a path: segment by segment.
fn matches(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return true,
            (Some(ANY), Some(segment)) if !segment.is_empty() => {}
            (Some(wanted), Some(segment)) if wanted == segment => {}
            _ => return false,
        }
    }
}

impl Node {
    fn generalize(&mut self) {
        let (identifiers, words): (Vec<_>, Vec<_>) = self
            .children
            .keys()
            .filter(|segment| !segment.is_empty())
            .cloned()
            .partition(|segment| is_identifier(segment));
        let mut vary = Vec::new();
        if identifiers.len() >= FEW_IDENTIFIERS {
            vary.extend(identifiers);
        }
        if words.len() >= MANY_WORDS {
            vary.extend(words);
        }
        if !vary.is_empty() {
            let mut any = Self::default();
            for segment in vary {
                if let Some(child) = self.children.remove(&segment) {
                    any.merge(child);
                }
            }
            self.children.insert(ANY.to_owned(), any);
        }
        for child in self.children.values_mut() {
            child.generalize();
        }
    }

    fn merge(&mut self, other: Self) {
        self.paths.extend(other.paths);
        for (segment, child) in other.children {
            self.children.entry(segment).or_default().merge(child);
        }
    }

    fn collect(&self, segments: &mut Vec<String>, of_paths: &mut BTreeMap<String, String>) {
        for path in &self.paths {
            of_paths.insert(path.clone(), segments.join("/"));
        }
        for (segment, child) in &self.children {
            segments.push(segment.clone());
            child.collect(segments, of_paths);
            segments.pop();
        }
    }
}

/// Whether a segment looks like one of many: a number, an identifier in hexadecimal digits, or a long text with digits.
fn is_identifier(segment: &str) -> bool {
    const LONG: usize = 16;
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    let is_hexadecimal = segment.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    digits > 0 && (digits == segment.len() || (is_hexadecimal && segment.len() >= 8) || segment.len() >= LONG)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(paths: &[&str]) -> BTreeSet<String> {
        let patterns = Patterns::of(paths.iter().copied());
        paths.iter().map(|path| patterns.pattern(path).to_owned()).collect()
    }

    fn set(of: &[&str]) -> BTreeSet<String> {
        of.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn what_varies_is_found() {
        assert_eq!(patterns(&["/users/1", "/users/2"]), set(&["/users/1", "/users/2"]));
        assert_eq!(patterns(&["/users/1", "/users/2", "/users/3", "/users/me"]), set(&["/users/{*}", "/users/me"]));
        let deep = ["/u/1/o/10", "/u/1/o/11", "/u/2/o/12", "/u/3/o/13", "/u/3"];
        assert_eq!(patterns(&deep), set(&["/u/{*}/o/{*}", "/u/{*}"]));
        assert_eq!(patterns(&["/", "/a", "/a/", "//a"]), set(&["/", "/a", "/a/", "//a"]));
        let names: Vec<_> = (b'a'..=b'z').map(|letter| format!("/by/{}", char::from(letter))).collect();
        assert_eq!(patterns(&names.iter().map(String::as_str).collect::<Vec<_>>()), set(&["/by/{*}"]));
    }

    #[test]
    fn what_would_match_too_much_is_kept_apart() {
        let mut patterns = Patterns::of(["/users/1", "/users/2", "/users/3", "/x/1"].into_iter());
        assert!(patterns.keep_apart("/users/1/secret").is_empty() && patterns.keep_apart("/users/").is_empty());
        assert_eq!(patterns.keep_apart("/users/4"), [("/users/{*}".to_owned(), 3)]);
        assert_eq!(patterns.pattern("/users/2"), "/users/2");
        assert!(patterns.generalized().is_empty());
    }
}
