//! The settings of an Envoy that change what a filter sees of a request.

use std::fmt;

use crate::lint::PathNormalization;

/// Settings of an HTTP connection manager. The fields have the names of Envoy's options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are Envoy's")]
pub struct Settings {
    /// Whose settings they are.
    pub origin: Origin,
    pub normalize_path: bool,
    pub merge_slashes: bool,
    /// `path_with_escaped_slashes_action`.
    pub escaped_slashes: EscapedSlashes,
    pub strip_trailing_host_dot: bool,
    /// `strip_any_host_port` and `strip_matching_host_port`.
    pub host_port: HostPort,
    pub use_remote_address: bool,
    pub skip_xff_append: bool,
    pub preserve_external_request_id: bool,
    /// `xff_num_trusted_hops`.
    pub trusted_hops: usize,
    /// `forward_client_cert_details`.
    pub client_certificate: ClientCertificate,
}

/// What becomes of the port in a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostPort {
    Keep,
    /// Envoy removes it if it is the local port.
    StripMatching,
    StripAny,
}

/// What becomes of the header `x-forwarded-client-cert`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    /// Envoy removes it.
    Sanitize,
    /// Envoy keeps it if the peer has a certificate.
    ForwardOnly,
    /// Envoy adds to it if the peer has a certificate.
    AppendForward,
    /// Envoy writes it if the peer has a certificate.
    SanitizeSet,
    /// Envoy keeps it.
    AlwaysForwardOnly,
}

/// Whose settings they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Those of a sidecar of Istio, by default.
    Istio,
    /// Those of the bootstraps that this project renders.
    Rendered,
    /// Those of a mesh configuration in the input, counted from 1.
    Mesh(usize),
    /// Those of an HTTP connection manager in the input, counted from 1.
    Manager(usize),
}

/// What becomes of `%2F` and `%5C` in a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EscapedSlashes {
    Keep,
    Decode,
    /// Envoy answers 400, or redirects the client to the path without escapes.
    Refuse,
}

/// The protocol of a request, or of a connection that is none of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Http1,
    Http2,
    Tcp,
}

impl Protocol {
    /// All values, with their names in test files and on the command line.
    pub const NAMES: [(&'static str, Self); 3] = [("http1", Self::Http1), ("http2", Self::Http2), ("tcp", Self::Tcp)];
}

impl Settings {
    /// Those of a sidecar of Istio, unless its mesh configuration says otherwise.
    pub const ISTIO: Self = Self {
        origin: Origin::Istio,
        normalize_path: true,
        merge_slashes: false,
        escaped_slashes: EscapedSlashes::Keep,
        strip_trailing_host_dot: false,
        host_port: HostPort::Keep,
        use_remote_address: false,
        skip_xff_append: false,
        preserve_external_request_id: false,
        trusted_hops: 0,
        client_certificate: ClientCertificate::AppendForward,
    };

    /// Those of the bootstraps that this project renders.
    pub const RENDERED: Self = Self {
        origin: Origin::Rendered,
        normalize_path: true,
        merge_slashes: true,
        escaped_slashes: EscapedSlashes::Decode,
        strip_trailing_host_dot: true,
        host_port: HostPort::Keep,
        use_remote_address: true,
        skip_xff_append: false,
        preserve_external_request_id: false,
        trusted_hops: 0,
        client_certificate: ClientCertificate::Sanitize,
    };

    /// The normalization of paths that they come nearest to, and not beyond.
    #[must_use]
    pub fn path_normalization(&self) -> PathNormalization {
        match (self.normalize_path, self.merge_slashes, self.escaped_slashes) {
            (false, ..) => PathNormalization::None,
            (true, false, _) => PathNormalization::Base,
            (true, true, EscapedSlashes::Keep) => PathNormalization::MergeSlashes,
            (true, true, EscapedSlashes::Decode | EscapedSlashes::Refuse) => PathNormalization::DecodeAndMergeSlashes,
        }
    }

    /// The same settings, with another normalization of paths.
    #[must_use]
    pub fn with_paths(self, normalization: PathNormalization) -> Self {
        Self {
            normalize_path: normalization >= PathNormalization::Base,
            merge_slashes: normalization >= PathNormalization::MergeSlashes,
            escaped_slashes: match normalization {
                PathNormalization::DecodeAndMergeSlashes => EscapedSlashes::Decode,
                _ => EscapedSlashes::Keep,
            },
            ..self
        }
    }
}

/// Prints "with" the settings.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Istio => f.write_str("with Istio's default settings"),
            Self::Rendered => f.write_str("with the settings of this project's bootstraps"),
            Self::Mesh(number) => write!(f, "with mesh configuration {number} of the input"),
            Self::Manager(number) => write!(f, "with HTTP connection manager {number} of the input"),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
            Self::Tcp => "TCP",
        })
    }
}
