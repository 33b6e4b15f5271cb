//! The events of a YAML text, as libyaml finds them. Kubernetes' own reader is a port of libyaml too.
//!
//! This is the only file of the command with unsafe code. The library is libyaml, translated to Rust, with the same interface as
//! the original: raw pointers.

use std::ffi::CStr;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::slice;

use unsafe_libyaml as unsafe_sys;

/// What the text has at some place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    StreamStart,
    DocumentStart,
    DocumentEnd,
    StreamEnd,
    Alias(String),
    Scalar { text: String, style: Style, anchor: Option<String>, tag: Option<String> },
    ListStart { anchor: Option<String>, is_flow: bool },
    ListEnd,
    MapStart { anchor: Option<String>, is_flow: bool },
    MapEnd,
}

/// How a scalar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Plain,
    DoubleQuoted,
    /// In single quotes, or as a block.
    Other,
}

/// An event, and the bytes that it is about, counted from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    pub event: Event,
    pub start: usize,
    pub end: usize,
}

/// The text is not YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotYaml {
    pub message: String,
    /// The number of the byte, counted from 0.
    pub at: usize,
    /// The start of what was being read there.
    pub within: usize,
}

/// Reads the events of a text one after another.
pub struct Events<'t> {
    /// On the heap, and never moved, because it contains a pointer to itself. It comes from a box.
    parser: *mut MaybeUninit<unsafe_sys::yaml_parser_t>,
    text: PhantomData<&'t str>,
}

impl<'t> Events<'t> {
    /// Begins to read a text.
    pub fn of(text: &'t str) -> Self {
        let parser = Box::into_raw(Box::new(MaybeUninit::<unsafe_sys::yaml_parser_t>::uninit()));
        let pointer: *mut unsafe_sys::yaml_parser_t = parser.cast();
        // SAFETY: the pointer is valid for writes, and initializing is what the function does. It fails only without memory.
        let initialized = unsafe { unsafe_sys::yaml_parser_initialize(pointer) };
        assert!(initialized.ok, "out of memory");
        // SAFETY: the parser is initialized and does not move. The text lives longer than the parser.
        unsafe {
            unsafe_sys::yaml_parser_set_encoding(pointer, unsafe_sys::YAML_UTF8_ENCODING);
            unsafe_sys::yaml_parser_set_input_string(pointer, text.as_ptr(), text.len() as u64);
        }
        Self { parser, text: PhantomData }
    }

    /// The next event.
    ///
    /// # Errors
    /// The text is not YAML. There are no more events then.
    pub fn next(&mut self) -> Result<Located, NotYaml> {
        let parser: *mut unsafe_sys::yaml_parser_t = self.parser.cast();
        let mut event = MaybeUninit::<unsafe_sys::yaml_event_t>::uninit();
        // SAFETY: the parser is initialized, and the function initializes the event, also when it fails.
        if unsafe { unsafe_sys::yaml_parser_parse(parser, event.as_mut_ptr()) }.fail {
            // SAFETY: after a failure, these fields say what is wrong. The texts are constants of the library.
            return Err(unsafe { problem(&*parser) });
        }
        // SAFETY: the function has succeeded, so the event is complete. It is deleted once, after everything is copied out of it.
        unsafe {
            let mut event = event.assume_init();
            let located = located(&event);
            unsafe_sys::yaml_event_delete(&raw mut event);
            Ok(located)
        }
    }
}

impl Drop for Events<'_> {
    fn drop(&mut self) {
        // SAFETY: the parser is initialized, comes from a box, and is not used again.
        unsafe {
            unsafe_sys::yaml_parser_delete(self.parser.cast());
            drop(Box::from_raw(self.parser));
        }
    }
}

/// # Safety
/// The parser is initialized and has failed.
unsafe fn problem(parser: &unsafe_sys::yaml_parser_t) -> NotYaml {
    // The library has signed characters on every machine, the standard library has not.
    let text = |pointer: *const i8| {
        // SAFETY: the texts of the library end with a NUL.
        (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer.cast()) }.to_string_lossy().into_owned())
    };
    let problem = text(parser.problem).unwrap_or_else(|| "it cannot be read".to_owned());
    let message = match text(parser.context) {
        Some(context) => format!("{context}, {problem}"),
        None => problem,
    };
    // The reader, which sees bytes before the scanner does, gives only an offset.
    let at = if parser.problem_mark.index == 0 { parser.context_mark.index } else { parser.problem_mark.index };
    NotYaml { message, at: position(at), within: position(parser.context_mark.index) }
}

fn position(index: u64) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

/// # Safety
/// The event is one that the library has made, and is not deleted yet.
unsafe fn located(event: &unsafe_sys::yaml_event_t) -> Located {
    use unsafe_sys::yaml_event_type_t as kind;
    let name = |pointer: *mut u8| {
        // SAFETY: anchors and tags are null or end with a NUL.
        (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer.cast()) }.to_string_lossy().into_owned())
    };
    // SAFETY: the type of an event says which of its data is there.
    let found = unsafe {
        match event.type_ {
            kind::YAML_STREAM_START_EVENT => Event::StreamStart,
            kind::YAML_DOCUMENT_START_EVENT => Event::DocumentStart,
            kind::YAML_DOCUMENT_END_EVENT => Event::DocumentEnd,
            kind::YAML_ALIAS_EVENT => Event::Alias(name(event.data.alias.anchor).unwrap_or_default()),
            kind::YAML_SCALAR_EVENT => {
                let scalar = &event.data.scalar;
                let bytes = slice::from_raw_parts(scalar.value, position(scalar.length));
                Event::Scalar {
                    text: String::from_utf8_lossy(bytes).into_owned(),
                    style: match scalar.style {
                        unsafe_sys::YAML_PLAIN_SCALAR_STYLE => Style::Plain,
                        unsafe_sys::YAML_DOUBLE_QUOTED_SCALAR_STYLE => Style::DoubleQuoted,
                        _ => Style::Other,
                    },
                    anchor: name(scalar.anchor),
                    tag: name(scalar.tag),
                }
            }
            kind::YAML_SEQUENCE_START_EVENT => {
                let list = &event.data.sequence_start;
                Event::ListStart {
                    anchor: name(list.anchor),
                    is_flow: list.style == unsafe_sys::YAML_FLOW_SEQUENCE_STYLE,
                }
            }
            kind::YAML_SEQUENCE_END_EVENT => Event::ListEnd,
            kind::YAML_MAPPING_START_EVENT => {
                let map = &event.data.mapping_start;
                Event::MapStart { anchor: name(map.anchor), is_flow: map.style == unsafe_sys::YAML_FLOW_MAPPING_STYLE }
            }
            kind::YAML_MAPPING_END_EVENT => Event::MapEnd,
            // After the end there are only events without a type.
            _ => Event::StreamEnd,
        }
    };
    Located { event: found, start: position(event.start_mark.index), end: position(event.end_mark.index) }
}
