//! Certificates for both sides of mutual TLS, made when a test needs them.
//!
//! The subject alternative names are encoded here, because the certificate library refuses to write some of them. A
//! filter reads names, so a test must be able to present names that no honest authority issues: with a NUL, with a
//! newline, with bytes from 0x80, or two URIs.

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};

/// A certificate authority.
///
/// All authorities have the same name. So only the signature shows which authority issued a certificate.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// One subject alternative name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum San {
    /// A URI, which may be any text.
    Uri(String),
    /// A DNS name, which may be any text.
    Dns(String),
    /// A URI as bytes, which need not be text.
    UriBytes(Vec<u8>),
}

/// A certificate with its private key.
#[derive(Debug)]
pub struct Certified {
    /// The certificate as PEM, for an Envoy configuration.
    pub cert_pem: String,
    /// The private key (PKCS #8) as PEM, for an Envoy configuration.
    pub key_pem: String,
    pub(crate) cert: CertificateDer<'static>,
    pub(crate) key: PrivatePkcs8KeyDer<'static>,
}

impl Clone for Certified {
    fn clone(&self) -> Self {
        Self {
            cert_pem: self.cert_pem.clone(),
            key_pem: self.key_pem.clone(),
            cert: self.cert.clone(),
            key: self.key.clone_key(),
        }
    }
}

impl Certified {
    /// A certificate and its private key that something else has made.
    pub fn read(cert_pem: &str, key_pem: &str) -> Result<Self> {
        Ok(Self {
            cert: CertificateDer::from_pem_slice(cert_pem.as_bytes())?,
            key: PrivatePkcs8KeyDer::from_pem_slice(key_pem.as_bytes())?,
            cert_pem: cert_pem.to_owned(),
            key_pem: key_pem.to_owned(),
        })
    }

    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.clone_key())
    }
}

impl Authority {
    /// A new authority with its own key.
    pub fn new() -> Result<Self> {
        let key = new_key()?;
        let mut params = params(Some("testbed authority"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).context("signing the authority's certificate")?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// The authority's certificate, for `trusted_ca` and for [`Tls`](crate::Tls).
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The authority's private key (PKCS #8) as PEM, for another program that issues certificates in its name.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Issues a certificate with these names, in this order. It is valid for a client and for a server.
    ///
    /// Without names, the certificate does not have the extension for them. Then its subject is the only name.
    pub fn issue(&self, names: &[San], subject_cn: Option<&str>) -> Result<Certified> {
        let key = new_key()?;
        let mut params = params(subject_cn);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        if !names.is_empty() {
            params.custom_extensions.push(subject_alternative_names(names));
        }
        let certificate = params.signed_by(&key, &self.issuer).context("signing a certificate")?;
        Ok(Certified {
            cert_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            cert: certificate.der().clone(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()),
        })
    }

    /// A workload's certificate. It has one URI: `spiffe://` and `id`, for example
    /// `cluster.local/ns/default/sa/frontend`.
    pub fn spiffe(&self, id: &str) -> Result<Certified> {
        self.issue(&[San::Uri(format!("spiffe://{id}"))], None)
    }

    /// A sidecar's certificate. It has the DNS name `localhost` and an identity as in [`Authority::spiffe`].
    pub fn server(&self, id: &str) -> Result<Certified> {
        let names = [San::Dns("localhost".into()), San::Uri(format!("spiffe://{id}"))];
        self.issue(&names, None)
    }
}

fn new_key() -> Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("generating a key")
}

/// Parameters for a certificate that is valid from yesterday to tomorrow, so that it works with a clock that is slow.
fn params(subject_cn: Option<&str>) -> CertificateParams {
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    params.not_before = now - Duration::days(1);
    params.not_after = now + Duration::days(1);
    params.distinguished_name = DistinguishedName::new();
    if let Some(name) = subject_cn {
        params.distinguished_name.push(DnType::CommonName, name);
    }
    params
}

/// The extension of RFC 5280, section 4.2.1.6: a DER sequence of names, each with its context tag.
fn subject_alternative_names(names: &[San]) -> CustomExtension {
    const OID: &[u64] = &[2, 5, 29, 17];
    const SEQUENCE: u8 = 0x30;
    const DNS_NAME: u8 = 0x82;
    const URI: u8 = 0x86;
    let encoded: Vec<u8> = names
        .iter()
        .flat_map(|name| match name {
            San::Uri(uri) => der(URI, uri.as_bytes()),
            San::UriBytes(uri) => der(URI, uri),
            San::Dns(dns) => der(DNS_NAME, dns.as_bytes()),
        })
        .collect();
    CustomExtension::from_oid_content(OID, der(SEQUENCE, &encoded))
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut encoded = vec![tag];
    match content.len() {
        short @ 0..=0x7f => encoded.push(short as u8),
        long => {
            let length = long.to_be_bytes();
            let significant = &length[length.iter().take_while(|&&byte| byte == 0).count()..];
            encoded.push(0x80 | significant.len() as u8);
            encoded.extend_from_slice(significant);
        }
    }
    encoded.extend_from_slice(content);
    encoded
}
