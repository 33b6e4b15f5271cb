//! JSON, written by hand. It is always one line, whatever bytes a request holds.
//!
//! Bytes that are not UTF-8 are replaced. The characters that JSON requires are escaped, and so is every character that
//! some readers take for the end of a line, that controls a terminal, or that changes the direction of the text around
//! it.

use std::fmt::{self, Write as _};

/// The largest length of a value, in bytes. A longer value is cut and ends in `…`, because log collectors break lines
/// that are too long.
pub const LONGEST: usize = 2048;

/// An object that is being written.
#[derive(Debug)]
pub struct Object<'t> {
    text: &'t mut String,
    is_empty: bool,
}

impl<'t> Object<'t> {
    /// Begins an object at the end of `text`.
    pub fn begin(text: &'t mut String) -> Self {
        text.push('{');
        Self { text, is_empty: true }
    }

    /// Writes a field whose value is a text.
    // Not inlined, so that the module has one copy of this code and not one for each field.
    #[inline(never)]
    pub fn text(&mut self, name: &str, value: &[u8]) {
        self.name(name);
        string(self.text, value);
    }

    /// Writes a field whose value is a text or `null`.
    pub fn text_or_null(&mut self, name: &str, value: Option<&[u8]>) {
        match value {
            Some(value) => self.text(name, value),
            None => self.raw(name, format_args!("null")),
        }
    }

    /// Writes a field whose value is JSON already.
    pub fn raw(&mut self, name: &str, value: fmt::Arguments<'_>) {
        self.name(name);
        let _infallible = self.text.write_fmt(value);
    }

    /// Begins a field whose value is an object.
    pub fn object(&mut self, name: &str) -> Object<'_> {
        self.name(name);
        Object::begin(self.text)
    }

    /// Ends the object.
    pub fn end(self) {
        self.text.push('}');
    }

    fn name(&mut self, name: &str) {
        if !self.is_empty {
            self.text.push(',');
        }
        self.is_empty = false;
        string(self.text, name.as_bytes());
        self.text.push(':');
    }
}

/// Writes bytes as a JSON string.
pub fn string(text: &mut String, bytes: &[u8]) {
    let shown = bytes.get(..LONGEST).unwrap_or(bytes);
    text.push('"');
    for chunk in shown.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                _ if is_dangerous(character) => {
                    let _infallible = write!(text, "\\u{:04x}", u32::from(character));
                }
                _ => text.push(character),
            }
        }
        if !chunk.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    if shown.len() < bytes.len() {
        text.push('…');
    }
    text.push('"');
}

/// Whether a character must be escaped for the safety of readers. Such a character has at most sixteen bits, so four
/// hexadecimal digits are enough.
fn is_dangerous(character: char) -> bool {
    character.is_control()
        || matches!(character,
            // Direction marks and overrides, line separators, invisible joiners.
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
