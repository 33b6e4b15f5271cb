//! Mistakes: in what a document says, and in its text.

use fastrand::Rng;

use super::{tree::Tree, vocabulary::SCALARS};

/// The keys that mistakes put into a document.
const KEYS: &[&str] = &[
    "rules",
    "from",
    "to",
    "when",
    "source",
    "operation",
    "values",
    "notValues",
    "key",
    "action",
    "selector",
    "matchLabels",
    "metadata",
    "spec",
    "labels",
    "namespace",
    "paths",
    "path",
    "Paths",
    "principals",
    "ipBlocks",
    "ports",
    "jwtRules",
    "issuer",
    "mode",
    "mtls",
    "kind",
    "items",
    "name",
    "status",
    "x",
    "",
    "<<",
];

/// Makes a mistake in what a document says.
pub fn tree(rng: &mut Rng, document: &mut Tree) {
    let number = rng.usize(0..document.size());
    let Some(value) = document.at(number) else { return };
    let any_scalar = |rng: &mut Rng| Tree::raw(*rng.choice(SCALARS).unwrap_or(&"null"));
    match rng.u32(0..12) {
        0 | 1 => *value = any_scalar(rng),
        2 => *value = Tree::raw(*rng.choice(&["null", "~", ""]).unwrap_or(&"null")),
        3 => *value = if rng.bool() { Tree::List(Vec::new()) } else { Tree::Map(Vec::new()) },
        4 => *value = Tree::text(""),
        5 => *value = Tree::List(vec![value.clone()]),
        6 => *value = Tree::map([(*rng.choice(KEYS).unwrap_or(&"x"), value.clone())]),
        7 => match value {
            Tree::List(items) if !items.is_empty() => {
                let at = rng.usize(0..items.len());
                if rng.bool() {
                    items.remove(at);
                } else {
                    items.insert(at, any_scalar(rng));
                }
            }
            Tree::Map(entries) if !entries.is_empty() => {
                entries.remove(rng.usize(0..entries.len()));
            }
            Tree::Text(text) => *value = Tree::Raw(std::mem::take(text)),
            _ => {}
        },
        8 => match value {
            Tree::List(items) if items.len() == 1 => *value = items.remove(0),
            Tree::List(items) if !items.is_empty() => {
                let item = items[rng.usize(0..items.len())].clone();
                items.push(item);
            }
            Tree::Map(entries) if !entries.is_empty() => {
                // The same key twice, perhaps with another value.
                let (key, mut twin) = entries[rng.usize(0..entries.len())].clone();
                if rng.bool() {
                    twin = any_scalar(rng);
                }
                entries.insert(rng.usize(0..=entries.len()), (key, twin));
            }
            _ => {}
        },
        _ => {
            if let Tree::Map(entries) = value
                && !entries.is_empty()
            {
                let at = rng.usize(0..entries.len());
                let key = renamed(rng, &entries[at].0);
                if rng.u32(0..3) > 0 {
                    entries[at].0 = key;
                } else {
                    entries.push((key, any_scalar(rng)));
                }
            } else {
                *value = any_scalar(rng);
            }
        }
    }
}

fn renamed(rng: &mut Rng, key: &str) -> String {
    let mut chars: Vec<char> = key.chars().collect();
    match rng.u32(0..5) {
        0 => return (*rng.choice(KEYS).unwrap_or(&"x")).to_owned(),
        1 => return key.to_lowercase(),
        2 => {
            return key[..key.chars().next().map_or(0, char::len_utf8)].to_uppercase()
                + &key.chars().skip(1).collect::<String>();
        }
        3 if !chars.is_empty() => {
            chars.remove(rng.usize(0..chars.len()));
        }
        _ => chars.insert(rng.usize(0..=chars.len()), rng.alphanumeric()),
    }
    chars.into_iter().collect()
}

/// What mistakes put into a text.
const FRAGMENTS: &[&str] = &[
    ":",
    " ",
    "\n",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ",",
    "\"",
    "'",
    "#",
    " #",
    "&a ",
    "*a",
    "!!str ",
    "!!int ",
    "!x ",
    "|",
    ">",
    "?",
    "%",
    "@",
    "`",
    "---\n",
    "\n---\n",
    "...\n",
    "\t",
    "\r",
    "\r\n",
    "<<: *a",
    "<<: {a: b}",
    ": ",
    "\u{0}",
    "\u{1}",
    "\u{7f}",
    "\u{85}",
    "\u{a0}",
    "\u{2028}",
    "\u{feff}",
    "\u{fffd}",
    "\u{ffff}",
    "\u{1f600}",
    "\u{e9}",
    "\\",
    "\\/",
    "\\u00e9",
    "\\ud800",
    "-",
    "a",
    "1",
    "a: b",
    "a:",
    "- a\n",
    "  ",
    "\n\n",
    "# c\n",
    "\"a\": 1",
    "{a: b}",
    "[a, b]",
    "? a\n: b",
    "|-\n  x\n",
    ">+\n  x\n\n",
    "x: &a {p: q}\n",
    "y: *a\n",
    "null",
    "~",
    "=======\n",
    "<<<<<<< a\n",
    "{{ a }}",
    "${a}",
    "%YAML 1.1\n",
    "a?b",
    "::",
    ",,",
    "''",
    "\"\"",
    "yes",
    "0x1F",
    "010",
    "1e3",
    "true",
];

/// Makes a mistake in a text.
pub fn text(rng: &mut Rng, text: &mut String) {
    let boundaries: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let place = |rng: &mut Rng| boundaries[rng.usize(0..boundaries.len())];
    match rng.u32(0..14) {
        0 | 1 => text.insert_str(place(rng), rng.choice(FRAGMENTS).unwrap_or(&" ")),
        2 => {
            let from = rng.usize(0..boundaries.len());
            let to = (from + rng.usize(1..4)).min(boundaries.len() - 1);
            text.replace_range(boundaries[from]..boundaries[to], "");
        }
        3 => {
            let from = rng.usize(0..boundaries.len());
            let to = (from + rng.usize(0..3)).min(boundaries.len() - 1);
            text.replace_range(boundaries[from]..boundaries[to], rng.choice(FRAGMENTS).unwrap_or(&" "));
        }
        4 => {
            let from = rng.usize(0..boundaries.len());
            let to = (from + rng.usize(0..40)).min(boundaries.len() - 1);
            let copied = text[boundaries[from]..boundaries[to]].to_owned();
            text.insert_str(place(rng), &copied);
        }
        5..=9 => lines(rng, text),
        10 | 11 => replace_scalar(rng, text),
        _ => change_key(rng, text),
    }
}

/// Deletes, repeats, moves or indents a line.
fn lines(rng: &mut Rng, text: &mut String) {
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    if lines.is_empty() {
        return;
    }
    let at = rng.usize(0..lines.len());
    match rng.u32(0..7) {
        0 | 1 => {
            lines.remove(at);
        }
        2 => lines.insert(at, lines[at].clone()),
        3 => {
            let line = lines.remove(at);
            lines.insert(rng.usize(0..=lines.len()), line);
        }
        4 => lines[at].insert_str(0, &" ".repeat(rng.usize(1..4))),
        5 => {
            let spaces = lines[at].len() - lines[at].trim_start_matches(' ').len();
            lines[at].replace_range(..spaces.min(rng.usize(1..4)), "");
        }
        _ => lines[at] = lines[at].replacen("  ", "\t", 1),
    }
    *text = lines.concat();
}

/// Replaces the scalar behind a colon or a dash.
fn replace_scalar(rng: &mut Rng, text: &mut String) {
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    let with_scalar: Vec<usize> =
        (0..lines.len()).filter(|at| lines[*at].contains(": ") || lines[*at].contains("- ")).collect();
    let Some(at) = rng.choice(&with_scalar) else { return };
    let line = &mut lines[*at];
    let behind = if rng.bool() { line.rfind(": ") } else { line.find("- ") };
    let Some(behind) = behind.or(line.find(": ")).or(line.find("- ")) else { return };
    let rest = line[behind + 2..].trim_end_matches(['\r', '\n']);
    // In brackets, a scalar ends before the next comma or bracket.
    let (skipped, rest) = match rest.find('[') {
        Some(bracket) => (bracket + 1, &rest[bracket + 1..]),
        None => (0, rest),
    };
    let length = if skipped > 0 { rest.find([',', ']']).unwrap_or(rest.len()) } else { rest.len() };
    let start = behind + 2 + skipped;
    line.replace_range(start..start + length, rng.choice(SCALARS).unwrap_or(&"null"));
    *text = lines.concat();
}

fn change_key(rng: &mut Rng, text: &mut String) {
    let keys: Vec<(usize, usize)> = text
        .match_indices(':')
        .filter_map(|(end, _)| {
            let start = text[..end]
                .rfind(|c: char| !c.is_alphanumeric())
                .map_or(0, |at| at + text[at..].chars().next().map_or(1, char::len_utf8));
            (start < end).then_some((start, end))
        })
        .collect();
    let Some(&(start, end)) = rng.choice(&keys) else { return };
    let key = renamed(rng, &text[start..end]);
    text.replace_range(start..end, &key);
}
