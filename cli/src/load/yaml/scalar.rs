//! What a scalar means: YAML 1.1, as Kubernetes reads it.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use mesh_authz::document::Value;

/// Kubernetes ignores the last bits, which are for no byte.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// The meaning of a scalar.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
}

/// The meaning of a scalar with this tag, in its long form. A scalar that is not plain and has no tag is text.
///
/// # Errors
/// The scalar is not what its tag says.
pub fn resolve(text: String, is_plain: bool, tag: Option<&str>) -> Result<Scalar, String> {
    let Some(tag) = tag else {
        return Ok(if is_plain { plain(text) } else { Scalar::Text(text) });
    };
    let Some(short) = tag.strip_prefix("tag:yaml.org,2002:") else { return Ok(Scalar::Text(text)) };
    let unlike = |text: &str| format!("`{text}` is not what its tag `!!{short}` says");
    match short {
        "binary" => {
            let bytes = BASE64.decode(text.replace(['\n', '\r'], "")).map_err(|_| unlike(&text))?;
            Ok(Scalar::Text(String::from_utf8_lossy(&bytes).into_owned()))
        }
        "null" if text.is_empty() => Ok(Scalar::Null),
        "bool" | "int" | "float" | "null" => match (plain(text.clone()), short) {
            (found @ Scalar::Bool(_), "bool")
            | (found @ Scalar::Int(_), "int")
            | (found @ Scalar::Float(_), "float")
            | (found @ Scalar::Null, "null") => Ok(found),
            (Scalar::Int(number), "float") => Ok(Scalar::Float(float(number))),
            _ => Err(unlike(&text)),
        },
        "timestamp" => Err("the tag `!!timestamp` is not supported: write the time in quotes, without it".to_owned()),
        _ => Ok(Scalar::Text(text)),
    }
}

/// The meaning of a scalar without quotes.
fn plain(text: String) -> Scalar {
    match &*text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Scalar::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Scalar::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY),
        _ => {}
    }
    number(&text).unwrap_or(Scalar::Text(text))
}

fn number(text: &str) -> Option<Scalar> {
    match text.bytes().next()? {
        b'.' => decimal(text),
        b'0'..=b'9' | b'+' | b'-' => {
            let digits = text.replace('_', "");
            int(&digits).map(Scalar::Int).or_else(|| decimal(&digits))
        }
        _ => None,
    }
}

/// An integer of 64 bits, with or without a sign: decimal, or with a prefix for another base. A leading zero is one.
fn int(text: &str) -> Option<i128> {
    let (sign, unsigned) = match text.as_bytes() {
        [b'-', ..] => (-1, text.get(1..)?),
        [b'+', ..] => (1, text.get(1..)?),
        _ => (1, text),
    };
    let lower = unsigned.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, lower.get(2..)?),
        [b'0', b'b', ..] => (2, lower.get(2..)?),
        [b'0', b'o', ..] => (8, lower.get(2..)?),
        [b'0', _, ..] => (8, lower.get(1..)?),
        _ => (10, &*lower),
    };
    // Kubernetes takes a sign behind `0b`, and nowhere else.
    let is_unsigned = unsigned.len() == text.len();
    let (sign, digits) = match digits.strip_prefix(['+', '-']) {
        Some(behind) if radix == 2 && is_unsigned => (if digits.starts_with('-') { -1 } else { 1 }, behind),
        Some(_) => return None,
        None => (sign, digits),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let number = i128::from(u64::from_str_radix(digits, radix).ok()?);
    let most = if text.starts_with('-') {
        i128::from(i64::MAX).saturating_add(1)
    } else if text.starts_with('+') {
        i128::from(i64::MAX)
    } else {
        i128::from(u64::MAX)
    };
    (number <= most).then(|| number.saturating_mul(sign))
}

/// A decimal number with a point or an exponent, or of more than 64 bits.
fn decimal(text: &str) -> Option<Scalar> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_decimal = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    let number: f64 = text.parse().ok().filter(|_| is_decimal)?;
    number.is_finite().then_some(Scalar::Float(number))
}

#[expect(clippy::cast_precision_loss, reason = "no field holds a number that large")]
fn float(number: i128) -> f64 {
    number as f64
}

impl Scalar {
    /// The value, as JSON has it. `None` for a number that JSON does not have.
    pub fn value(self) -> Option<Value> {
        Some(match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Int(number) => Value::Number(float(number)),
            Self::Float(number) if number.is_finite() => Value::Number(number),
            Self::Float(_) => return None,
            Self::Text(text) => Value::String(text),
        })
    }

    /// The key of a map, which is text. `None` for null, and for a number that Kubernetes takes for no key.
    pub fn key(self) -> Option<String> {
        Some(match self {
            Self::Null => return None,
            Self::Bool(value) => value.to_string(),
            Self::Int(number) => i64::try_from(number).ok()?.to_string(),
            Self::Float(number) => float_key(number),
            Self::Text(text) => text,
        })
    }
}

/// A number as a key: with as few digits as a number of 32 bits needs, and an exponent from a million on.
fn float_key(number: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "Kubernetes does the same")]
    let number = number as f32;
    if number.is_nan() {
        return ".nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if number == 0.0 || (-4..6).contains(&exponent) {
        return number.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}
