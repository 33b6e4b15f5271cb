//! Turns a socket into a stream of bytes: source address, PROXY protocol, TLS.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    StreamOwned,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring::default_provider},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    sign::{CertifiedKey, SingleCertAndKey},
};
use socket2::{Domain, Socket, Type};

use crate::{Certified, Client, Tls};

/// How long a client waits for a connection, and for each read and write, unless it says otherwise.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// A connected stream, in plain text or encrypted.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// Connects as `client` says, including the TLS handshake. `default_alpn` is used if the client has no list of its
    /// own.
    pub(crate) fn open(client: &Client, default_alpn: &str) -> Result<Self> {
        let mut socket = connect(client).with_context(|| format!("connecting to {}", client.address))?;
        if let Some((source, destination)) = client.proxy_protocol {
            socket.write_all(proxy_header(source, destination).as_bytes())?;
        }
        let Some(tls) = &client.tls else {
            return Ok(Self::Plain(socket));
        };
        let mut connection = client_connection(tls, default_alpn)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket).context("the TLS handshake failed")?;
        }
        Ok(Self::Tls(Box::new(StreamOwned::new(connection, socket))))
    }

    /// Says that the client sends nothing more.
    pub(crate) fn finish(&mut self) -> Result<()> {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => {
                stream.conn.send_close_notify();
                stream.flush()?;
                &mut stream.sock
            }
        };
        Ok(socket.shutdown(Shutdown::Write)?)
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(buffer),
            Self::Tls(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

fn connect(client: &Client) -> io::Result<TcpStream> {
    let (address, timeout) = (client.address, client.timeout);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if let Some(ip) = client.source_ip {
        socket.bind(&SocketAddr::new(ip, 0).into())?;
    }
    socket.connect_timeout(&address.into(), timeout)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_read_timeout(Some(timeout))?;
    socket.set_write_timeout(Some(timeout))?;
    Ok(socket.into())
}

/// The header of the PROXY protocol, version 1. A load balancer sends it before everything else.
fn proxy_header(source: SocketAddr, destination: SocketAddr) -> String {
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    format!("PROXY {family} {} {} {} {}\r\n", source.ip(), destination.ip(), source.port(), destination.port())
}

fn client_connection(tls: &Tls, default_alpn: &str) -> Result<ClientConnection> {
    let provider = Arc::new(default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(tls.authority_pem.as_bytes()) {
        roots.add(certificate.context("reading the authority's certificate")?)?;
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .context("trusting the authority")?;
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyName(verifier)));
    let mut config = match &tls.certificate {
        None => builder.with_no_client_auth(),
        Some(certified) => {
            let key = certified_key(certified, &provider)?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
        }
    };
    config.enable_sni = tls.server_name.is_some();
    config.alpn_protocols = match &tls.alpn {
        Some(protocols) => protocols.iter().map(|name| name.clone().into()).collect(),
        None => vec![default_alpn.into()],
    };
    let name = tls.server_name.clone().unwrap_or("localhost".into());
    let name = ServerName::try_from(name).context("the server name cannot be sent")?;
    Ok(ClientConnection::new(Arc::new(config), name)?)
}

/// Pairs a certificate with its key. It does not look into the certificate, because the names in it may be odd on
/// purpose.
fn certified_key(certified: &Certified, provider: &CryptoProvider) -> Result<CertifiedKey> {
    let key =
        provider.key_provider.load_private_key(certified.private_key()).context("reading the client's private key")?;
    Ok(CertifiedKey::new(vec![certified.cert.clone()], key))
}

/// Verifies that the server's certificate comes from the authority. The name in the certificate may be any name.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext};
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
