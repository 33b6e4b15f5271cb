//! What the columns of a line say.

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;

use super::format::{ENVOY_TEXT, FormatError, ISTIO_TEXT, Operator, Piece, pieces};
use super::json::Template;
use super::line::{Column, Splitter};

/// A format of an access log, ready to read lines.
#[derive(Debug)]
pub struct Format {
    /// Where the format is from, in words.
    pub from: String,
    shape: Shape,
    /// Whether a value that is absent leaves nothing behind. Otherwise `-` stands for it, or null.
    omits_empty: bool,
}

#[derive(Debug)]
enum Shape {
    Text(Splitter),
    Json(Template),
}

/// What a column of a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said<'l> {
    /// This value.
    Value(Cow<'l, [u8]>),
    /// This value, which is no text: a number, a boolean, a list or an object, as JSON.
    Json(Cow<'l, str>),
    /// There is no value.
    Absent,
    /// There is no value, or it is this text.
    AbsentOr(&'static [u8]),
    /// The line does not tell.
    Unknown,
}

/// A line, by the columns of its format.
#[derive(Debug)]
pub struct Record<'l> {
    /// What each column says.
    pub said: Vec<Said<'l>>,
    /// Whether the line can be split in several ways.
    pub is_ambiguous: bool,
}

impl Format {
    /// A text format.
    ///
    /// # Errors
    /// The text is no format string.
    pub fn text(from: impl Into<String>, format: &str, omits_empty: bool) -> Result<Self, FormatError> {
        let pieces = pieces(format)?;
        if !pieces.iter().any(|piece| matches!(piece, Piece::Operator(_))) {
            return Err(FormatError {
                at: 0,
                message: "there is no operator in it, such as %REQ(:METHOD)%".to_owned(),
            });
        }
        let splitter = Splitter::new(&pieces, omits_empty);
        Ok(Self { from: from.into(), shape: Shape::Text(splitter), omits_empty })
    }

    /// A JSON format.
    ///
    /// # Errors
    /// The value is no object, or a text in it is no format string.
    pub fn json(from: impl Into<String>, format: &Value, omits_empty: bool) -> Result<Self, FormatError> {
        Ok(Self { from: from.into(), shape: Shape::Json(Template::new(format)?), omits_empty })
    }

    /// The text format of Istio, of this version or an older one.
    ///
    /// # Errors
    /// None: the format is valid.
    pub fn istio_text() -> Result<Self, FormatError> {
        Self::text("Istio's text format", ISTIO_TEXT, false)
    }

    /// Istio's JSON format.
    ///
    /// # Errors
    /// None: the format is valid.
    pub fn istio_json() -> Result<Self, FormatError> {
        Self::json("Istio's JSON format", &istio_json(), false)
    }

    /// Envoy's own format.
    ///
    /// # Errors
    /// None: the format is valid.
    pub fn envoy_text() -> Result<Self, FormatError> {
        Self::text("Envoy's format", ENVOY_TEXT, false)
    }

    /// What the columns tell, in order.
    #[must_use]
    pub fn columns(&self) -> &[Operator] {
        match &self.shape {
            Shape::Text(splitter) => splitter.columns(),
            Shape::Json(template) => template.columns(),
        }
    }

    /// Whether both read the same lines in the same way.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        let shape = |format: &Self| format!("{:?}", format.shape);
        self.omits_empty == other.omits_empty && shape(self) == shape(other)
    }

    /// Whether lines are JSON objects.
    #[must_use]
    pub fn is_json(&self) -> bool {
        matches!(self.shape, Shape::Json(_))
    }

    /// Reads a line, which has no line feed at its end. `None`: it has another format.
    #[must_use]
    pub fn read<'l>(&self, line: &'l [u8]) -> Option<Record<'l>> {
        match &self.shape {
            Shape::Json(template) => {
                if line.first() != Some(&b'{') {
                    return None;
                }
                let said = template.read(line, self.omits_empty)?;
                let columns = template.columns().iter().zip(said);
                Some(Record {
                    said: columns.map(|(operator, said)| said.checked(operator)).collect(),
                    is_ambiguous: false,
                })
            }
            Shape::Text(splitter) => {
                let columns = splitter.split(line)?;
                let is_ambiguous = columns.contains(&Column::Ambiguous);
                let absent: &'static [u8] = if self.omits_empty { b"" } else { b"-" };
                let operators = splitter.columns().iter().zip(&columns);
                let said =
                    operators.map(|(operator, column)| Said::of_column(Some(column), line, absent).checked(operator));
                Some(Record { said: said.collect(), is_ambiguous })
            }
        }
    }
}

/// Istio's JSON format, as Istio writes it.
fn istio_json() -> Value {
    const OPERATORS: [(&str, &str); 24] = [
        ("start_time", "START_TIME"),
        ("route_name", "ROUTE_NAME"),
        ("method", "REQ(:METHOD)"),
        ("path", "REQ(X-ENVOY-ORIGINAL-PATH?:PATH)"),
        ("protocol", "PROTOCOL"),
        ("response_code", "RESPONSE_CODE"),
        ("response_flags", "RESPONSE_FLAGS"),
        ("response_code_details", "RESPONSE_CODE_DETAILS"),
        ("connection_termination_details", "CONNECTION_TERMINATION_DETAILS"),
        ("bytes_received", "BYTES_RECEIVED"),
        ("bytes_sent", "BYTES_SENT"),
        ("duration", "DURATION"),
        ("upstream_service_time", "RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)"),
        ("x_forwarded_for", "REQ(X-FORWARDED-FOR)"),
        ("user_agent", "REQ(USER-AGENT)"),
        ("request_id", "REQ(X-REQUEST-ID)"),
        ("authority", "REQ(:AUTHORITY)"),
        ("upstream_host", "UPSTREAM_HOST"),
        ("upstream_cluster", "UPSTREAM_CLUSTER_RAW"),
        ("upstream_local_address", "UPSTREAM_LOCAL_ADDRESS"),
        ("downstream_local_address", "DOWNSTREAM_LOCAL_ADDRESS"),
        ("downstream_remote_address", "DOWNSTREAM_REMOTE_ADDRESS"),
        ("requested_server_name", "REQUESTED_SERVER_NAME"),
        ("upstream_transport_failure_reason", "UPSTREAM_TRANSPORT_FAILURE_REASON"),
    ];
    let fields = OPERATORS.map(|(name, operator)| (name.to_owned(), Value::String(format!("%{operator}%"))));
    Value::Object(fields.into_iter().collect())
}

impl<'l> Said<'l> {
    /// What a column of a text says, of which `absent` stands for no value.
    pub(super) fn of_column(column: Option<&Column>, text: &'l [u8], absent: &'static [u8]) -> Self {
        let Some(Column::At(range)) = column else { return Self::Unknown };
        match text.get(range.clone()) {
            Some(value) if value == absent => Self::AbsentOr(absent),
            // Of a format that a configuration changes, only an empty text is left of none.
            Some([]) => Self::AbsentOr(b""),
            Some(value) => Self::Value(Cow::Borrowed(value)),
            None => Self::Unknown,
        }
    }

    /// The same, if the value is whole: Envoy cuts it at the length that the format gives.
    fn checked(self, operator: &Operator) -> Self {
        match (&self, operator.length) {
            (Self::Value(value), Some(length)) if value.len() >= length => Self::Unknown,
            (Self::Json(value), Some(length)) if value.len() >= length => Self::Unknown,
            // Of any value, nothing is left.
            (Self::AbsentOr(b""), Some(0)) => Self::Unknown,
            _ => self,
        }
    }

    /// The same, without the line.
    #[must_use]
    pub fn into_owned<'o>(self) -> Said<'o> {
        match self {
            Self::Value(value) => Said::Value(Cow::Owned(value.into_owned())),
            Self::Json(json) => Said::Json(Cow::Owned(json.into_owned())),
            Self::Absent => Said::Absent,
            Self::AbsentOr(text) => Said::AbsentOr(text),
            Self::Unknown => Said::Unknown,
        }
    }

    /// The value as text, if there is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Value(value) => std::str::from_utf8(value).ok(),
            Self::Json(json) => Some(json),
            Self::Absent | Self::AbsentOr(_) | Self::Unknown => None,
        }
    }

    /// Whether there is no value, as far as one can tell.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent | Self::AbsentOr(_))
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.from)
    }
}
