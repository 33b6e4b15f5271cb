//! What Envoy makes of a path: the option `path_with_escaped_slashes_action`, then `normalize_path`, then
//! `merge_slashes` of its HTTP connection manager.

use std::borrow::Cow;

use super::settings::{EscapedSlashes, Settings};

/// The path and the query that the filter sees, or why Envoy itself refuses the request. `drops_parameters`: whether Envoy drops the
/// parameters of `.;x` and `..;x`, as it does from version 1.40 on.
pub fn seen(path: &str, settings: &Settings, drops_parameters: bool) -> Result<String, String> {
    let (path, query) = path.split_at(path.find('?').unwrap_or(path.len()));
    let mut seen = Cow::Borrowed(path.as_bytes());
    match settings.escaped_slashes {
        EscapedSlashes::Refuse if with_plain_slashes(&seen) != *seen => {
            return Err(format!("the path `{path}` has an escaped slash"));
        }
        EscapedSlashes::Keep | EscapedSlashes::Refuse => {}
        EscapedSlashes::Decode => seen = with_plain_slashes(&seen).into(),
    }
    if settings.normalize_path {
        if drops_parameters {
            seen = without_parameters_of_dots(&seen).into();
        }
        let Some(normalized) = normalized(&seen) else {
            return Err(format!("the path `{path}` has an escaped zero byte"));
        };
        seen = normalized.into();
    }
    if settings.merge_slashes {
        seen = with_single_slashes(&seen).into();
    }
    Ok(String::from_utf8_lossy(&seen).into_owned() + query)
}

/// Whether versions of Envoy disagree about the path: a segment is a dot or two, and has parameters.
pub fn has_parameters_of_dots(path: &str) -> bool {
    let path = path.split('?').next().unwrap_or(path);
    // An escaped slash can become one.
    let decoded = with_plain_slashes(path.as_bytes());
    without_parameters_of_dots(&decoded) != decoded
}

/// Replaces `%2F` by a slash, and `%5C` by a backslash.
fn with_plain_slashes(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    loop {
        rest = match rest {
            [b'%', b'2', b'F' | b'f', rest @ ..] => {
                plain.push(b'/');
                rest
            }
            [b'%', b'5', b'C' | b'c', rest @ ..] => {
                plain.push(b'\\');
                rest
            }
            [byte, rest @ ..] => {
                plain.push(*byte);
                rest
            }
            [] => return plain,
        };
    }
}

fn without_parameters_of_dots(path: &[u8]) -> Vec<u8> {
    let segment = |segment: &'_ [u8]| match segment {
        [b'.', b'.', b';', ..] => b"..".to_vec(),
        [b'.', b';', ..] => b".".to_vec(),
        other => other.to_vec(),
    };
    path.split(|byte| *byte == b'/').map(segment).collect::<Vec<_>>().join(&b'/')
}

/// Resolves `.` and `..`, replaces backslashes by slashes, decodes the escapes of characters that need none, and escapes
/// some others. `None` if there is an escaped zero byte.
fn normalized(path: &[u8]) -> Option<Vec<u8>> {
    let mut normal = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, after @ ..] = rest {
        let begins_a_segment = normal.last() == Some(&b'/');
        if begins_a_segment && let Some((dots, behind)) = dot_segment(rest) {
            if dots == 2 {
                normal.pop();
                let slash = normal.iter().rposition(|byte| *byte == b'/');
                normal.truncate(slash.unwrap_or_default());
                normal.push(b'/');
            }
            rest = behind;
            continue;
        }
        rest = after;
        match first {
            b'/' | b'\\' => normal.push(b'/'),
            b'%' => match escaped(after) {
                Some((0, _)) => return None,
                Some((byte, behind)) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                    normal.push(byte);
                    rest = behind;
                }
                _ => normal.push(b'%'),
            },
            0..=b' ' | b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x7f.. => {
                normal.extend(format!("%{first:02X}").bytes());
            }
            _ => normal.push(*first),
        }
    }
    Some(normal)
}

/// Whether the path begins with a segment of one or two dots. Returns their number, and the path behind the segment and
/// its slash.
fn dot_segment(path: &[u8]) -> Option<(u8, &[u8])> {
    let behind_slash = |path: &'_ [u8]| match path {
        [] => Some(path.len()),
        [b'/' | b'\\', rest @ ..] => Some(rest.len()),
        _ => None,
    };
    let one = dot(path)?;
    let (dots, length) = match behind_slash(one) {
        Some(length) => (1, length),
        None => (2, behind_slash(dot(one)?)?),
    };
    Some((dots, path.get(path.len().checked_sub(length)?..)?))
}

/// What is behind a dot, which may be escaped.
fn dot(path: &[u8]) -> Option<&[u8]> {
    match path {
        [b'.', rest @ ..] | [b'%', b'2', b'E' | b'e', rest @ ..] => Some(rest),
        _ => None,
    }
}

/// The byte of an escape, of which these are the bytes after `%`, and what is behind it.
fn escaped(digits: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, behind) = digits.split_at_checked(2)?;
    let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    Some((u8::from_str_radix(digits, 16).ok()?, behind))
}

/// Makes one slash of several. A path of slashes only becomes two of them.
fn with_single_slashes(path: &[u8]) -> Vec<u8> {
    if !path.windows(2).any(|two| two == b"//") {
        return path.to_vec();
    }
    let segments: Vec<_> = path.split(|byte| *byte == b'/').filter(|segment| !segment.is_empty()).collect();
    let slash = |is_there: bool| if is_there { &b"/"[..] } else { b"" };
    [slash(path.starts_with(b"/")), &segments.join(&b'/'), slash(path.ends_with(b"/"))].concat()
}
