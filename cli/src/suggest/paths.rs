//! The parts of paths that vary: where many different segments were seen, one `{*}` stands for them.

use std::collections::{BTreeMap, BTreeSet};

/// Patterns for the paths of one peer and one method.
#[derive(Debug, Default)]
pub struct Patterns {
    of_paths: BTreeMap<String, String>,
    /// The patterns that are used, and for how many paths they stand.
    used: BTreeMap<String, usize>,
    /// Paths that stand for themselves.
    kept: BTreeSet<String>,
}

/// So many different numbers or identifiers, at one place, show that they vary.
const FEW_IDENTIFIERS: usize = 3;

/// So many different words do.
const MANY_WORDS: usize = 24;

/// A path with more segments stands for itself, so that the work depends on the length of the paths.
const MOST_SEGMENTS: usize = 32;

const ANY: &str = "{*}";

/// A path, and what comes behind the segments that were looked at. `None`: nothing.
type Rest<'p> = (&'p str, Option<&'p str>);

impl Patterns {
    /// The patterns of these paths, as far as a policy can have them.
    pub fn of<'p>(paths: impl Iterator<Item = &'p str>, is_valid: impl Fn(&str) -> bool) -> Self {
        let paths: BTreeSet<_> = paths.filter(|path| path.split('/').count() <= MOST_SEGMENTS).collect();
        let mut patterns = Self::default();
        generalize(paths.into_iter().map(|path| (path, Some(path))).collect(), &mut Vec::new(), &mut patterns.of_paths);
        let mut paths_of: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (path, pattern) in &patterns.of_paths {
            paths_of.entry(pattern).or_default().push(path);
        }
        let is_used = |(pattern, paths): &(&str, Vec<&str>)| is_shown(pattern, paths) && is_valid(pattern);
        let used = paths_of.into_iter().filter(is_used).map(|(pattern, paths)| (pattern.to_owned(), paths.len()));
        patterns.used = used.collect();
        patterns
    }

    /// The pattern of a path, or the path itself.
    #[must_use]
    pub fn pattern<'p>(&'p self, path: &'p str) -> &'p str {
        let pattern = self.of_paths.get(path).filter(|pattern| self.used.contains_key(*pattern));
        pattern.filter(|_| !self.kept.contains(path)).map_or(path, String::as_str)
    }

    /// The patterns that are used.
    pub fn used(&self) -> impl Iterator<Item = &str> {
        self.used.keys().map(String::as_str)
    }

    /// Does without this pattern.
    pub fn do_without(&mut self, pattern: &str) {
        self.used.remove(pattern);
    }

    /// Does without patterns.
    pub fn keep_all_apart(&mut self) {
        self.used.clear();
    }

    /// Lets this path stand for itself. Returns whether it did not.
    pub fn keep(&mut self, path: &str) -> bool {
        let pattern = self.pattern(path).to_owned();
        let is_new = pattern != path && self.kept.insert(path.to_owned());
        if is_new && let Some(count) = self.used.get_mut(&pattern) {
            *count = count.saturating_sub(1);
            self.used.retain(|_, count| *count >= FEW_IDENTIFIERS);
        }
        is_new
    }
}

/// Whether many values were seen at each place where the pattern has `{*}`.
fn is_shown(pattern: &str, paths: &[&str]) -> bool {
    let places = pattern.split('/').enumerate().filter(|(_, segment)| *segment == ANY).map(|(place, _)| place);
    places.into_iter().all(|place| {
        let seen: BTreeSet<&str> = paths.iter().filter_map(|path| path.split('/').nth(place)).collect();
        let identifiers = seen.iter().filter(|segment| is_identifier(segment)).count();
        let words = seen.len().saturating_sub(identifiers);
        (identifiers == 0 || identifiers >= FEW_IDENTIFIERS) && (words == 0 || words >= MANY_WORDS)
    })
}

/// Patterns that are found by the paths that match them.
#[derive(Debug, Default)]
pub struct Tree<'p> {
    children: BTreeMap<&'p str, Tree<'p>>,
    pattern: Option<&'p str>,
}

impl<'p> Tree<'p> {
    /// Of these patterns.
    pub fn of(patterns: impl Iterator<Item = &'p str>) -> Self {
        let mut root = Self::default();
        for pattern in patterns {
            let mut node = &mut root;
            for segment in pattern.split('/') {
                node = node.children.entry(segment).or_default();
            }
            node.pattern = Some(pattern);
        }
        root
    }

    /// The patterns that match this path, segment by segment. `None`: to find them takes more than so many steps.
    #[must_use]
    pub fn matching(&self, path: &str, steps: &mut usize) -> Option<Vec<&'p str>> {
        let mut nodes = vec![self];
        for segment in path.split('/') {
            let is_any = !segment.is_empty() && segment != ANY;
            *steps = steps.checked_sub(nodes.len())?;
            let mut next: Vec<&Self> = Vec::new();
            for node in nodes {
                next.extend(node.children.get(segment));
                next.extend(node.children.get(ANY).filter(|_| is_any));
            }
            nodes = next;
            if nodes.is_empty() {
                break;
            }
        }
        Some(nodes.into_iter().filter_map(|node| node.pattern).collect())
    }
}

/// Finds the patterns of paths that begin with the same segments. What is kept at one time depends on the number of paths only.
fn generalize<'p>(paths: Vec<Rest<'p>>, segments: &mut Vec<&'p str>, of_paths: &mut BTreeMap<String, String>) {
    let mut behind: BTreeMap<&str, Vec<Rest<'p>>> = BTreeMap::new();
    for (path, rest) in paths {
        let Some(rest) = rest else {
            let pattern = segments.join("/");
            if pattern != path {
                of_paths.insert(path.to_owned(), pattern);
            }
            continue;
        };
        let (segment, rest) = rest.split_once('/').map_or((rest, None), |(segment, rest)| (segment, Some(rest)));
        behind.entry(segment).or_default().push((path, rest));
    }
    let (identifiers, words): (Vec<_>, Vec<_>) =
        behind.keys().copied().filter(|segment| !segment.is_empty()).partition(|segment| is_identifier(segment));
    let mut vary = Vec::new();
    if identifiers.len() >= FEW_IDENTIFIERS {
        vary.extend(identifiers);
    }
    if words.len() >= MANY_WORDS {
        vary.extend(words);
    }
    let any: Vec<_> = vary.into_iter().filter_map(|segment| behind.remove(segment)).flatten().collect();
    if !any.is_empty() {
        behind.insert(ANY, any);
    }
    for (segment, paths) in behind {
        segments.push(segment);
        generalize(paths, segments, of_paths);
        segments.pop();
    }
}

/// Whether a segment looks like one of many: a number, an identifier in hexadecimal digits, or a long text with digits.
fn is_identifier(segment: &str) -> bool {
    const LONG: usize = 16;
    const FEW_DIGITS: usize = 4;
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    let is_hexadecimal = segment.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    digits > 0
        && (digits == segment.len()
            || (is_hexadecimal && segment.len() >= 8)
            || (segment.len() >= LONG && digits >= FEW_DIGITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(paths: &[&str]) -> Patterns {
        Patterns::of(paths.iter().copied(), |_| true)
    }

    fn patterns(paths: &[&str]) -> BTreeSet<String> {
        let patterns = all(paths);
        paths.iter().map(|path| patterns.pattern(path).to_owned()).collect()
    }

    fn set(of: &[&str]) -> BTreeSet<String> {
        of.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn what_varies_is_found() {
        assert_eq!(patterns(&["/users/1", "/users/2"]), set(&["/users/1", "/users/2"]));
        assert_eq!(patterns(&["/users/1", "/users/2", "/users/3", "/users/me"]), set(&["/users/{*}", "/users/me"]));
        let deep = ["/u/1/o/10", "/u/1/o/11", "/u/2/o/12", "/u/3/o/13", "/u/1", "/u/2", "/u/3"];
        assert_eq!(patterns(&deep), set(&["/u/{*}/o/{*}", "/u/{*}"]));
        // Each place has to show that it varies.
        assert_eq!(patterns(&["/u/1/o/10", "/u/1/o/11", "/u/1/o/12", "/u/2", "/u/3"]).len(), 5);
        assert_eq!(patterns(&["/customer-a-records-v2", "/customer-b-records-v2", "/customer-c-records-v2"]).len(), 3);
        assert_eq!(patterns(&["/u/1/a", "/u/2/b", "/u/3/c"]), set(&["/u/1/a", "/u/2/b", "/u/3/c"]));
        assert_eq!(patterns(&["/", "/a", "/a/", "//a"]), set(&["/", "/a", "/a/", "//a"]));
        let names: Vec<_> = (b'a'..=b'z').map(|letter| format!("/by/{}", char::from(letter))).collect();
        assert_eq!(patterns(&names.iter().map(String::as_str).collect::<Vec<_>>()), set(&["/by/{*}"]));
    }

    #[test]
    fn what_would_match_too_much_is_kept_apart() {
        let users = ["/users/1", "/users/2", "/users/3", "/x/1"];
        let mut patterns = all(&users);
        let tree = Tree::of(["/users/{*}", "/{*}/x", "/users/{*}/x/{*}"].into_iter());
        for other in ["/users/1/secret", "/users/", "/users", "/x/2", "", "/"] {
            assert_eq!(tree.matching(other, &mut 100), Some(Vec::new()), "{other}");
        }
        assert_eq!(tree.matching("/users/a*b", &mut 100).unwrap(), ["/users/{*}"]);
        assert_eq!(tree.matching("/users/x", &mut 100).unwrap(), ["/users/{*}", "/{*}/x"]);
        assert_eq!(tree.matching("/users/x", &mut 3), None);
        patterns.do_without("/users/{*}");
        assert_eq!(patterns.pattern("/users/2"), "/users/2");
        // If fewer are left, they do not show that they vary.
        let mut patterns = all(&users);
        assert!(patterns.keep("/users/1") && !patterns.keep("/users/1"));
        assert_eq!(patterns.pattern("/users/2"), "/users/2");
    }

    #[test]
    fn a_path_of_many_segments_stands_for_itself() {
        let long: Vec<_> = (0..3).map(|number| format!("{}/{number}", "/a".repeat(20_000))).collect();
        let long: Vec<_> = long.iter().map(String::as_str).collect();
        assert_eq!(patterns(&long), set(&long));
    }
}
