//! Compares the sets of texts, and what is found in them, with every short text.
//!
//! The alphabets are small, and have every byte that means something: dots, colons, blanks, line feeds, bytes that are no
//! UTF-8. What is expected is said by the engine's matchers, or by a few lines that are slow and plain. The variable
//! `MESH_AUTHZ_CASES` multiplies the number of random cases.

mod finding;
mod matching;
mod oracle;
mod sets;

/// All sequences of at most `most` of the pieces. The shortest come first.
fn sequences(pieces: &[&[u8]], most: usize) -> Vec<Vec<u8>> {
    let mut all = vec![Vec::new()];
    let mut last = all.clone();
    for _ in 0..most {
        last = last.iter().flat_map(|text| pieces.iter().map(|piece| [text, *piece].concat())).collect();
        all.extend(last.iter().cloned());
    }
    all
}

/// All texts of at most `most` of these bytes.
fn texts(alphabet: &[u8], most: usize) -> Vec<Vec<u8>> {
    sequences(&alphabet.chunks(1).collect::<Vec<_>>(), most)
}

/// How many random cases to try.
fn cases(count: usize) -> usize {
    let factor = std::env::var("MESH_AUTHZ_CASES").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1);
    count * factor
}

/// For messages.
fn shown(text: &[u8]) -> String {
    text.escape_ascii().to_string()
}
