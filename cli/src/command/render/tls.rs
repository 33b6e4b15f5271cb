//! TLS between the peers and a standalone Envoy.

use crate::lint::Plaintexts;
use crate::render::envoy::Tls;

/// Whether the listeners use TLS, and whether peers need a certificate.
#[derive(Clone, Debug, clap::Args)]
pub struct TlsOptions {
    /// Envoy's certificate chain, in PEM.
    #[arg(long, value_name = "FILE", default_value = "certs/backend.crt")]
    certificate: String,

    /// Private key of Envoy's certificate, in PEM.
    #[arg(long, value_name = "FILE", default_value = "certs/backend.key")]
    key: String,

    /// Certificate authority of the peers, in PEM. Every peer with a certificate from this authority may connect.
    #[arg(long, value_name = "FILE", default_value = "certs/ca.crt")]
    ca: String,

    /// Listen with TLS, and ask peers for no certificate. Peers then have no identity.
    #[arg(long, conflicts_with_all = ["ca", "plaintext"])]
    server_only_tls: bool,

    /// Listen without TLS. Peers then need no certificate, and have no identity.
    #[arg(long, conflicts_with_all = ["certificate", "key", "ca"])]
    plaintext: bool,
}

impl TlsOptions {
    pub fn tls(&self) -> Tls {
        let file = |name: &String| Some(name.clone());
        let (certificate, key) = (file(&self.certificate), file(&self.key));
        match self {
            Self { plaintext: true, .. } => Tls::Plaintext,
            Self { server_only_tls: true, .. } => Tls::ServerOnly { certificate, key },
            Self { ca, .. } => Tls::Mutual { certificate, key, authority: file(ca) },
        }
    }

    /// Which peers without an identity may connect.
    pub fn plaintexts(&self) -> Plaintexts {
        if self.why_no_identity().is_some() { Plaintexts::Accepted } else { Plaintexts::Refused }
    }

    /// Why no peer has an identity. `None` if each peer has one.
    pub fn why_no_identity(&self) -> Option<&'static str> {
        match self {
            Self { plaintext: true, .. } => Some("which no peer has without TLS"),
            Self { server_only_tls: true, .. } => Some("which no peer has with --server-only-tls"),
            Self { .. } => None,
        }
    }
}
