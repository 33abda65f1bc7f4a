//! TLS for broker, REST and socket: one rustls configuration per trust setting.

mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::{Resumption, VerifierBuilderError, WebPkiServerVerifier};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::config::Tls;
use verify::{AcceptAny, Trusting};

/// Why a trust setting cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file cannot be read.
    #[error("cannot read {what} from {}", path.display())]
    Pem {
        /// The expected content.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::pki_types::pem::Error,
    },
    /// A file without a certificate.
    #[error("{} holds no certificate", .0.display())]
    NoCertificate(PathBuf),
    /// A certificate or key that rustls refuses.
    #[error("{}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// TLS is wanted, but there is nothing to trust.
    #[error(
        "no trusted certificate found on this system, so no certificate can be verified; install ca-certificates or set ca_file"
    )]
    NoRoots,
    /// rustls itself.
    #[error("TLS cannot be set up")]
    SetUp(#[from] rustls::Error),
    /// The verifier of certificates.
    #[error("TLS cannot be set up")]
    Verifier(#[from] VerifierBuilderError),
}

/// Makes ring the default provider, for libraries that build a client of their own. Has no effect
/// if one is installed.
pub fn install_provider() {
    // Fails if a provider is installed already.
    let _ = ring::default_provider().install_default();
}

/// Builds the client configuration for a trust setting. `wanted`: the connection will use TLS, so
/// there must be something to trust.
///
/// # Errors
/// If a file cannot be read or used, or there is nothing to trust.
pub fn client_config(tls: &Tls, wanted: bool) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let builder = if tls.insecure {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAny))
    } else {
        let mut roots = if wanted { system_roots() } else { RootCertStore::empty() };
        let own = match &tls.ca_file {
            Some(path) => add_private_ca(&mut roots, path)?,
            None => Vec::new(),
        };
        if wanted && roots.is_empty() {
            return Err(TlsError::NoRoots);
        }
        if roots.is_empty() {
            // Never used, since the connection is plain; this would refuse any certificate.
            builder.with_root_certificates(roots)
        } else {
            let verifier =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
            let verifier = Arc::new(Trusting::new(verifier, own));
            builder.dangerous().with_custom_certificate_verifier(verifier)
        }
    };
    let mut config =
        match (&tls.cert_file, &tls.key_file) {
            (Some(certificates), Some(key)) => {
                let chain = read_certificates(certificates)?;
                let key_der = PrivateKeyDer::from_pem_file(key).map_err(|source| {
                    TlsError::Pem { what: "a private key", path: key.clone(), source }
                })?;
                builder
                    .with_client_auth_cert(chain, key_der)
                    .map_err(|source| TlsError::Refused { path: certificates.clone(), source })?
            }
            _ => builder.with_no_client_auth(),
        };
    if !wanted {
        // Nothing is ever resumed; this saves 14 kB.
        config.resumption = Resumption::disabled();
    }
    Ok(Arc::new(config))
}

/// Loads the system's roots, skipping those that do not parse.
fn system_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (_, odd) = roots.add_parsable_certificates(found.certs);
    if odd > 0 || !found.errors.is_empty() {
        tracing::warn!(
            used = roots.len(),
            odd,
            unreadable = found.errors.len(),
            "some of the system's certificates could not be used"
        );
    }
    roots
}

/// Adds the certificates of `ca_file` to the roots, and returns them.
fn add_private_ca(
    roots: &mut RootCertStore,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = read_certificates(path)?;
    for certificate in &certificates {
        roots
            .add(certificate.clone())
            .map_err(|source| TlsError::Refused { path: path.to_owned(), source })?;
    }
    Ok(certificates)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |source| TlsError::Pem { what: "certificates", path: path.to_owned(), source };
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(unreadable)?
        .collect::<Result<_, _>>()
        .map_err(unreadable)?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate(path.to_owned()));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests;
