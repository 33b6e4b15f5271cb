//! Writes documents in the many forms that YAML and JSON have. Some texts come out as something else than was meant, or
//! as no YAML: what a text means is for the cluster to say.

use std::fmt::Write as _;

use fastrand::Rng;

use super::tree::Tree;

/// How a file is written. Each number says how often something happens: once in so many cases, or never if it is 0.
pub struct Style<'r> {
    rng: &'r mut Rng,
    /// Spaces for each level.
    step: usize,
    /// Whether the dashes of a list are further to the right than its key.
    has_indented_lists: bool,
    /// Lists and maps in brackets, in percent.
    flow: u32,
    /// What people seldom write: anchors, tags, merge keys, keys behind a question mark.
    seldom: u32,
    comments: u32,
    /// Scalars without quotes that may mean something else.
    unsafe_plain: u32,
    /// The lists and maps with an anchor, so that others can be an alias of them.
    anchors: Vec<(String, Tree)>,
}

impl<'r> Style<'r> {
    pub fn of(rng: &'r mut Rng) -> Self {
        let step = *rng.choice(&[2, 2, 2, 4, 3, 1]).unwrap_or(&2);
        let flow = *rng.choice(&[0, 10, 10, 30, 60, 100]).unwrap_or(&0);
        let seldom = *rng.choice(&[0, 0, 60, 20]).unwrap_or(&0);
        let comments = *rng.choice(&[0, 0, 20, 6]).unwrap_or(&0);
        let unsafe_plain = *rng.choice(&[0, 0, 0, 30, 6]).unwrap_or(&0);
        let has_indented_lists = rng.bool();
        Self { rng, step, has_indented_lists, flow, seldom, comments, unsafe_plain, anchors: Vec::new() }
    }

    fn once_in(&mut self, count: u32) -> bool {
        count > 0 && self.rng.u32(0..count) == 0
    }

    /// A file with these documents.
    pub fn file(&mut self, documents: &[Tree]) -> String {
        if self.rng.u32(0..8) == 0 {
            return self.json_file(documents);
        }
        let mut file = String::new();
        for (number, document) in documents.iter().enumerate() {
            if number > 0 || self.rng.u32(0..4) == 0 {
                file += *self
                    .rng
                    .choice(&[
                        "---\n",
                        "---\n",
                        "---\n",
                        "--- # next\n",
                        "---#next\n",
                        "---  \n",
                        "\n---\n\n",
                        "---\n---\n",
                    ])
                    .unwrap_or(&"---\n");
            }
            self.anchors.clear();
            if self.rng.u32(0..12) == 0 {
                // JSON within YAML.
                file += &self.json(document);
                file.push('\n');
            } else {
                self.document(document, &mut file);
            }
        }
        if self.once_in(30) {
            file += *self
                .rng
                .choice(&["---\n", "...\n", "# end", "\n\n", "null\n", "--- \n# nothing\n", "\t\n", "  \n"])
                .unwrap_or(&"");
        }
        if self.once_in(12) {
            file = file.replace('\n', "\r\n");
        }
        if self.once_in(40) {
            file.insert(0, '\u{feff}');
        }
        if self.once_in(20) {
            file.truncate(file.trim_end().len());
        }
        file
    }

    fn document(&mut self, document: &Tree, out: &mut String) {
        match document {
            Tree::Map(entries) if !entries.is_empty() && self.rng.u32(0..100) >= self.flow / 3 => {
                self.entries(entries, 0, out)
            }
            other => {
                let written = self.flow_value(other, 0);
                let _infallible = writeln!(out, "{written}");
            }
        }
    }

    fn comment(&mut self, indent: usize, out: &mut String) {
        if self.once_in(self.comments) {
            let line = match self.rng.u32(0..5) {
                0 => String::new(),
                1 => "# a comment".to_owned(),
                2 => format!("{}# key: value", " ".repeat(indent)),
                3 => format!("{}#", " ".repeat(indent)),
                _ => "  ".to_owned(),
            };
            *out += &line;
            out.push('\n');
        }
    }

    /// Ends a line.
    fn end(&mut self, out: &mut String) {
        if self.once_in(self.comments) {
            *out += *self.rng.choice(&[" # why", " #", "  ", " # a: [b", "\t# tab"]).unwrap_or(&"");
        }
        out.push('\n');
    }

    fn entries(&mut self, entries: &[(String, Tree)], indent: usize, out: &mut String) {
        for (number, (key, value)) in entries.iter().enumerate() {
            self.comment(indent, out);
            // The first line of an item of a list stands behind its dash already.
            let is_begun = number == 0 && out.ends_with([' ', '\t']) && !out.ends_with("\n ");
            if !is_begun {
                *out += &" ".repeat(indent);
            }
            if self.once_in(self.seldom * 2) {
                let merged = self.flow_value(&Tree::Map(vec![(key.clone(), value.clone())]), indent);
                *out += &format!("<<: {merged}");
                self.end(out);
                continue;
            }
            if self.once_in(self.seldom * 2) {
                // What stands beside a merge key counts, and not what is merged.
                let merged = self.flow_value(&Tree::Map(vec![(key.clone(), Tree::text("merged"))]), indent);
                *out += &format!("<<: {merged}");
                self.end(out);
                *out += &" ".repeat(indent);
            }
            let key = self.key(key);
            if self.once_in(self.seldom * 2) {
                *out += &format!("? {key}\n{}", " ".repeat(indent));
                out.push(':');
            } else {
                *out += &key;
                out.push(':');
            }
            self.value(value, indent, false, out);
        }
    }

    /// Writes a value behind a key or a dash, and ends the line.
    fn value(&mut self, value: &Tree, indent: usize, is_item: bool, out: &mut String) {
        if let Some(alias) = self.alias(value) {
            *out += &format!(" *{alias}");
            return self.end(out);
        }
        let is_flow = self.rng.u32(0..100) < self.flow;
        match value {
            Tree::Map(entries) if !entries.is_empty() && !is_flow => {
                if is_item {
                    let space = if self.once_in(self.seldom * 3) { "\t" } else { " " };
                    let width = self.rng.usize(1..=self.step.max(1));
                    let behind = if space == "\t" { space.to_owned() } else { " ".repeat(width) };
                    *out += &behind;
                    return self.entries(entries, indent + 1 + behind.len(), out);
                }
                self.anchor(value, out);
                self.end(out);
                self.entries(entries, indent + self.step, out);
            }
            Tree::List(items) if !items.is_empty() && !is_flow && !is_item => {
                self.anchor(value, out);
                self.end(out);
                let indent = indent + if self.has_indented_lists { self.step } else { 0 };
                for item in items {
                    self.comment(indent, out);
                    *out += &" ".repeat(indent);
                    out.push('-');
                    self.value(item, indent, true, out);
                }
            }
            Tree::Map(_) | Tree::List(_) => {
                self.anchor(value, out);
                let written = self.flow_value(value, indent + self.step);
                *out += &format!(" {written}");
                self.end(out);
            }
            Tree::Raw(raw) if raw.is_empty() => self.end(out),
            Tree::Raw(raw) => {
                *out += &format!(" {raw}");
                self.end(out);
            }
            Tree::Text(text) => {
                self.properties(out);
                if self.rng.u32(0..14) == 0 && self.block(text, indent + self.step, out) {
                    return;
                }
                let written = self.scalar(text, false, indent + self.step);
                let space = if self.once_in(self.seldom * 3) { "\t" } else { " " };
                *out += &format!("{space}{written}");
                self.end(out);
            }
        }
    }

    fn anchor(&mut self, value: &Tree, out: &mut String) {
        if self.once_in(self.seldom) {
            let name = format!("x{}", self.anchors.len());
            *out += &format!(" &{name}");
            self.anchors.push((name, value.clone()));
        }
        if self.once_in(self.seldom * 3) {
            *out += if matches!(value, Tree::Map(_)) { " !!map" } else { " !!seq" };
        }
    }

    fn alias(&self, value: &Tree) -> Option<String> {
        self.anchors.iter().find(|(_, anchored)| anchored == value).map(|(name, _)| name.clone())
    }

    /// A tag or an anchor before a text.
    fn properties(&mut self, out: &mut String) {
        if self.once_in(self.seldom) {
            *out +=
                *self.rng.choice(&[" !!str", " !!str", " !own", " !", " &t", " !!str &t", " &t !!str"]).unwrap_or(&"");
        }
    }

    /// A text in lines of its own. Says whether it can be written so.
    fn block(&mut self, text: &str, indent: usize, out: &mut String) -> bool {
        if text.is_empty()
            || text.starts_with([' ', '\n', '\t'])
            || text.chars().any(|c| c.is_control() && c != '\n' && c != '\t')
        {
            return false;
        }
        let mark = *self.rng.choice(&["|", "|-", ">", ">-", "|+", ">+", "|2-"]).unwrap_or(&"|-");
        *out += &format!(" {}", if self.rng.u32(0..4) == 0 { mark } else { "|-" });
        self.end(out);
        for line in text.split('\n') {
            *out += &format!("{}{line}\n", " ".repeat(indent));
        }
        true
    }

    fn key(&mut self, key: &str) -> String {
        match self.rng.u32(0..30) {
            0 => double_quoted(self.rng, key),
            1 => single_quoted(key),
            _ if is_safe(key) || self.once_in(self.unsafe_plain) => key.to_owned(),
            _ => double_quoted(self.rng, key),
        }
    }

    fn scalar(&mut self, text: &str, is_flow: bool, indent: usize) -> String {
        let is_plain = if is_safe(text) { self.rng.u32(0..3) > 0 } else { self.once_in(self.unsafe_plain) };
        if is_plain {
            return text.to_owned();
        }
        if self.once_in(self.seldom) && text.contains(' ') {
            // A text goes on in the next line.
            let folded = text.replacen(' ', &format!("\n{}", " ".repeat(indent)), 1);
            return if is_flow {
                single_quoted(&folded)
            } else {
                double_quoted(self.rng, text).replacen(' ', &format!("\n{}", " ".repeat(indent)), 1)
            };
        }
        if self.rng.bool() && text.chars().all(|c| !c.is_control()) {
            single_quoted(text)
        } else {
            double_quoted(self.rng, text)
        }
    }

    /// A value in brackets, perhaps in several lines.
    fn flow_value(&mut self, value: &Tree, indent: usize) -> String {
        let is_spread = self.rng.u32(0..6) == 0;
        let separator = |one: &mut Self| -> String {
            if !is_spread {
                return (*one.rng.choice(&[" ", " ", "", "  "]).unwrap_or(&" ")).to_owned();
            }
            let comment = if one.once_in(one.comments) { " # c" } else { "" };
            let column = if one.rng.u32(0..5) == 0 { 0 } else { indent };
            format!("{comment}\n{}", " ".repeat(column))
        };
        let (open, close, parts) = match value {
            Tree::Raw(raw) if raw.is_empty() => return "null".to_owned(),
            Tree::Raw(raw) => return raw.clone(),
            Tree::Text(text) => {
                let mut properties = String::new();
                self.properties(&mut properties);
                let scalar = self.scalar(text, true, indent);
                return format!("{}{}{scalar}", properties.trim_start(), if properties.is_empty() { "" } else { " " });
            }
            Tree::List(items) => {
                let parts: Vec<_> = items.iter().map(|item| self.flow_value(item, indent + self.step)).collect();
                ("[", "]", parts)
            }
            Tree::Map(entries) => {
                let mut parts = Vec::new();
                for (key, value) in entries {
                    let key = self.key(key);
                    let value = self.flow_value(value, indent + self.step);
                    let colon = if key.starts_with('"') && self.rng.u32(0..6) == 0 { ":" } else { ": " };
                    parts.push(format!("{key}{colon}{value}"));
                }
                ("{", "}", parts)
            }
        };
        let mut out = open.to_owned();
        let count = parts.len();
        for (number, part) in parts.into_iter().enumerate() {
            out += &separator(self);
            out += &part;
            if number + 1 < count || self.once_in(if is_spread { 4 } else { 40 }) {
                out.push(',');
            }
        }
        if count > 0 {
            out += &separator(self);
        }
        out + close
    }

    /// Documents as JSON: one after the other, or in a list.
    fn json_file(&mut self, documents: &[Tree]) -> String {
        let texts: Vec<_> = documents.iter().map(|document| self.json(document)).collect();
        match self.rng.u32(0..8) {
            0 if texts.len() > 1 => format!("[{}]\n", texts.join(",")),
            1 => texts.join("\n---\n"),
            2 => texts.concat(),
            _ => texts.join("\n") + "\n",
        }
    }

    fn json(&mut self, tree: &Tree) -> String {
        let break_line = *self.rng.choice(&["", "", "\n  ", "\t"]).unwrap_or(&"");
        let mut out = String::new();
        self.write_json(tree, break_line, &mut out);
        out
    }

    fn write_json(&mut self, tree: &Tree, space: &str, out: &mut String) {
        match tree {
            Tree::Raw(raw) if raw.is_empty() => *out += "null",
            Tree::Raw(raw) if serde_json::from_str::<serde_json::Value>(raw).is_ok() => *out += raw,
            Tree::Raw(text) | Tree::Text(text) => *out += &self.json_text(text),
            Tree::List(items) => {
                out.push('[');
                for (number, item) in items.iter().enumerate() {
                    if number > 0 {
                        out.push(',');
                    }
                    *out += space;
                    self.write_json(item, space, out);
                }
                out.push(']');
            }
            Tree::Map(entries) => {
                out.push('{');
                for (number, (key, value)) in entries.iter().enumerate() {
                    if number > 0 {
                        out.push(',');
                    }
                    *out += &format!("{space}{}:{}", self.json_text(key), if space.is_empty() { "" } else { " " });
                    self.write_json(value, space, out);
                }
                out.push('}');
            }
        }
    }

    fn json_text(&mut self, text: &str) -> String {
        let escapes = self.rng.u32(0..10) == 0;
        let mut out = String::from("\"");
        for c in text.chars() {
            match c {
                '"' => out += "\\\"",
                '\\' => out += "\\\\",
                '/' if escapes => out += "\\/",
                c if c.is_control() || escapes && self.rng.bool() => {
                    let mut units = [0; 2];
                    for unit in c.encode_utf16(&mut units) {
                        let _infallible = write!(out, "\\u{unit:04x}");
                    }
                }
                c => out.push(c),
            }
        }
        out + "\""
    }
}

/// Whether a text without quotes is that text, in most places.
fn is_safe(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "-_./@".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(is_word)
        && !["y", "n", "yes", "no", "on", "off", "true", "false", "null"].contains(&text.to_lowercase().as_str())
}

fn single_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn double_quoted(rng: &mut Rng, text: &str) -> String {
    let escapes = rng.u32(0..20) == 0;
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out += "\\\"",
            '\\' => out += "\\\\",
            '\n' => out += "\\n",
            '\t' if rng.bool() => out += "\\t",
            c if escapes && rng.bool() && u32::from(c) < 0x100 => {
                let _infallible = write!(out, "\\x{:02x}", u32::from(c));
            }
            c if c.is_control() && c != '\t' || escapes && rng.bool() => {
                let _infallible = write!(out, "\\U{:08x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out + "\""
}
