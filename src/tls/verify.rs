//! Certificate verifiers: trusted CAs and the certificates of `ca_file`, or any certificate. Errors
//! explain in plain words what is wrong with a certificate.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use crate::timestamp;

/// Trusts the CAs, and each certificate of `ca_file` itself, as curl and OpenSSL do. A self-signed
/// certificate is usually marked as a CA, which webpki does not accept for a server.
#[derive(Debug)]
pub(super) struct Trusting {
    by_ca: Arc<WebPkiServerVerifier>,
    own: Vec<CertificateDer<'static>>,
}

impl Trusting {
    pub(super) fn new(by_ca: Arc<WebPkiServerVerifier>, own: Vec<CertificateDer<'static>>) -> Self {
        Self { by_ca, own }
    }
}

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.by_ca.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        let Err(error) = verified else { return verified };
        let name = name_fault(end_entity, server_name);
        let own = self.own.iter().any(|own| own == end_entity);
        let chain = chain_fault(&error).filter(|fault| !(own && fault.is_about_trust()));
        if own && chain.is_none() && name.is_none() {
            return Ok(ServerCertVerified::assertion());
        }
        let faults: Vec<Fault> = chain.into_iter().chain(name).collect();
        if faults.is_empty() {
            return Err(error);
        }
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        // The only variant that displays a custom text.
        Err(Error::General(format!("its certificate is refused: {}", faults.join("; and "))))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_ca.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_ca.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_ca.supported_verify_schemes()
    }
}

#[derive(Debug)]
enum Fault {
    /// webpki reads only version 3; older versions have no subjectAltName.
    Version1,
    Expired {
        now: UnixTime,
        at: UnixTime,
    },
    NotYetValid {
        now: UnixTime,
        from: UnixTime,
    },
    UnknownIssuer,
    /// For example, a certificate was renewed and `ca_file` has the old one.
    BadSignature,
    IsCa,
    NoAltName,
    WrongName {
        wanted: String,
        presented: Vec<String>,
    },
    Other(Error),
}

impl Fault {
    /// Whether the fault does not matter for a certificate of `ca_file` itself.
    fn is_about_trust(&self) -> bool {
        matches!(self, Self::UnknownIssuer | Self::BadSignature | Self::IsCa | Self::Other(_))
    }
}

/// Converts the error of webpki, which stops at the first fault. `None` if the name is at fault.
fn chain_fault(error: &Error) -> Option<Fault> {
    let Error::InvalidCertificate(what) = error else { return Some(Fault::Other(error.clone())) };
    Some(match what {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            return None;
        }
        CertificateError::ExpiredContext { time, not_after } => {
            Fault::Expired { now: *time, at: *not_after }
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            Fault::NotYetValid { now: *time, from: *not_before }
        }
        CertificateError::UnknownIssuer => Fault::UnknownIssuer,
        CertificateError::BadSignature => Fault::BadSignature,
        // rustls has no variants for these.
        CertificateError::Other(other) => match other.to_string().as_str() {
            "CaUsedAsEndEntity" => Fault::IsCa,
            "UnsupportedCertVersion" => Fault::Version1,
            _ => Fault::Other(error.clone()),
        },
        _ => Fault::Other(error.clone()),
    })
}

/// Checks the names of a certificate. `None` also if the certificate cannot be parsed, which is
/// another fault.
fn name_fault(certificate: &CertificateDer<'_>, wanted: &ServerName<'_>) -> Option<Fault> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    match verify_server_name(&parsed, wanted) {
        Ok(()) => None,
        Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            presented,
            ..
        })) => Some(match presented.is_empty() {
            true => Fault::NoAltName,
            false => Fault::WrongName { wanted: wanted.to_str().into_owned(), presented },
        }),
        Err(other) => Some(Fault::Other(other)),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version1 => f.write_str(
                "it has X.509 version 1, which cannot name a host: make a new one with a subjectAltName, or set insecure = true",
            ),
            Self::Expired { now, at } => {
                write!(f, "it expired on {}, and {}", rfc3339(*at), clock(*now))
            }
            Self::NotYetValid { now, from } => {
                write!(f, "it is not valid before {}, and {}", rfc3339(*from), clock(*now))
            }
            Self::UnknownIssuer => f.write_str(
                "it is not signed by a trusted CA (UnknownIssuer): set ca_file to the CA's certificate, or to this one if it is self-signed",
            ),
            Self::BadSignature => f.write_str(
                "it is not signed by the trusted CA of that name (BadSignature): ca_file has an older certificate, or another one",
            ),
            Self::IsCa => f.write_str(
                "it is the certificate of a CA (CaUsedAsEndEntity): set ca_file to exactly this one to trust it",
            ),
            Self::NoAltName => f.write_str(
                "it has no subjectAltName, so it is not valid for any host: make a new one with it (openssl: -addext subjectAltName=DNS:<host> or IP:<address>)",
            ),
            Self::WrongName { wanted, presented } => {
                write!(f, "it is not for {wanted} but for {}", presented.join(", "))
            }
            Self::Other(error) => write!(f, "{error}"),
        }
    }
}

/// The start of 2026, before the first release, in seconds since 1970.
const FIRST_RELEASE: u64 = 1_767_225_600;

/// Describes this machine's clock, and what to do about it.
fn clock(now: UnixTime) -> String {
    let says = format!("this machine's clock says {}", rfc3339(now));
    if now.as_secs() < FIRST_RELEASE {
        format!("{says}, which is years ago: set the clock")
    } else {
        format!("{says}: set the clock if that is wrong")
    }
}

fn rfc3339(at: UnixTime) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(at.as_secs()));
    let text = time.and_then(timestamp::rfc3339);
    text.unwrap_or_else(|| format!("a day {} s after 1970", at.as_secs()))
}

/// `insecure = true`: accepts any certificate, even an unreadable one. The handshake's signature is
/// not verified either: it would prove nothing, because an attacker can sign with their own
/// certificate, and old certificates would fail.
#[derive(Debug)]
pub(super) struct AcceptAny;

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        use SignatureScheme as S;
        // Everything that a server's key may sign with, SHA-1 included; nothing is verified.
        vec![
            S::ECDSA_NISTP256_SHA256,
            S::ECDSA_NISTP384_SHA384,
            S::ECDSA_NISTP521_SHA512,
            S::ED25519,
            S::ED448,
            S::RSA_PSS_SHA256,
            S::RSA_PSS_SHA384,
            S::RSA_PSS_SHA512,
            S::RSA_PKCS1_SHA256,
            S::RSA_PKCS1_SHA384,
            S::RSA_PKCS1_SHA512,
            S::ECDSA_SHA1_Legacy,
            S::RSA_PKCS1_SHA1,
        ]
    }
}
