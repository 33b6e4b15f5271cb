//! Versions of Envoy, as far as the rendered configuration depends on them.

use std::fmt;
use std::str::FromStr;

/// A version of Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EnvoyVersion {
    major: u32,
    minor: u32,
}

impl EnvoyVersion {
    /// The oldest version that the filter runs in.
    const OLDEST: Self = Self { major: 1, minor: 36 };
    /// The newest version that is tested.
    const NEWEST: Self = Self { major: 1, minor: 40 };
    /// The first version whose network filter `set_filter_state` has the field `on_downstream_tls_handshake`.
    const TELLS_ONCE: Self = Self { major: 1, minor: 37 };

    /// Whether a network filter can tell what is known of the peer, once a connection.
    #[must_use]
    pub fn tells_once_a_connection(self) -> bool {
        self >= Self::TELLS_ONCE
    }
}

impl Default for EnvoyVersion {
    fn default() -> Self {
        Self::NEWEST
    }
}

impl FromStr for EnvoyVersion {
    type Err = String;

    /// Reads `1.40` or `1.40.0`.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| {
            let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            if is_number { part.parse().ok() } else { None }
        };
        let numbers: Option<Vec<u32>> = text.split('.').map(number).collect();
        let version = match numbers.as_deref() {
            Some([major, minor] | [major, minor, _]) => Self { major: *major, minor: *minor },
            _ => return Err(format!("is no version of Envoy: write it as {} or {}.0", Self::NEWEST, Self::NEWEST)),
        };
        if version < Self::OLDEST {
            return Err(format!("the filter needs Envoy {} or later", Self::OLDEST));
        }
        Ok(version)
    }
}

impl fmt::Display for EnvoyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}
