//! Verification of certificates: by CA, by the exact certificates of `ca_file`, or none at all.
//! Errors explain what is wrong with a certificate.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use crate::timestamp;

/// Trusts certificates signed by the CAs, and each certificate of `ca_file` itself, as curl and
/// OpenSSL do. Most self-signed certificates are marked as a CA, which webpki refuses for a server.
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
        let chain = chain_fault(&error).filter(|fault| !(own && fault.is_of_trust()));
        if own && chain.is_none() && name.is_none() {
            return Ok(ServerCertVerified::assertion());
        }
        let faults: Vec<Fault> = chain.into_iter().chain(name).collect();
        if faults.is_empty() {
            return Err(error);
        }
        // The only variant that shows a custom text.
        Err(Error::General(format!("its certificate is refused: {}", listed(&faults))))
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
    /// webpki supports only version 3; older ones have no subjectAltName anyway.
    Version1,
    /// By this machine's clock.
    Expired {
        now: UnixTime,
        at: UnixTime,
    },
    /// By this machine's clock.
    NotYet {
        now: UnixTime,
        from: UnixTime,
    },
    NobodyTrusted,
    /// For example, a certificate was renewed and `ca_file` has the old one.
    OtherKey,
    IsCa,
    NoAltName,
    WrongName {
        wanted: String,
        has: Vec<String>,
    },
    Other(Error),
}

impl Fault {
    /// Whether it does not matter for a certificate that is itself in `ca_file`.
    fn is_of_trust(&self) -> bool {
        matches!(self, Self::NobodyTrusted | Self::OtherKey | Self::IsCa | Self::Other(_))
    }
}

/// Translates the error of webpki, which stops at the first fault; `None` for a wrong name.
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
            Fault::NotYet { now: *time, from: *not_before }
        }
        CertificateError::UnknownIssuer => Fault::NobodyTrusted,
        CertificateError::BadSignature => Fault::OtherKey,
        // rustls has no variants for these.
        CertificateError::Other(other) => match other.to_string().as_str() {
            "CaUsedAsEndEntity" => Fault::IsCa,
            "UnsupportedCertVersion" => Fault::Version1,
            _ => Fault::Other(error.clone()),
        },
        _ => Fault::Other(error.clone()),
    })
}

/// Checks the names of a certificate; also `None` if it cannot be parsed, which is another fault.
fn name_fault(certificate: &CertificateDer<'_>, wanted: &ServerName<'_>) -> Option<Fault> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    match verify_server_name(&parsed, wanted) {
        Ok(()) => None,
        Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            presented,
            ..
        })) if presented.is_empty() => Some(Fault::NoAltName),
        Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            presented,
            ..
        })) => {
            let wanted = wanted.to_str().into_owned();
            Some(Fault::WrongName { wanted, has: presented })
        }
        Err(other) => Some(Fault::Other(other)),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version1 => f.write_str(
                "it is of X.509 version 1, which names no host: make a new one with a subjectAltName, or set insecure = true",
            ),
            Self::Expired { now, at } => write!(
                f,
                "it expired on {}, and {}",
                day(*at),
                clock(*now)
            ),
            Self::NotYet { now, from } => write!(
                f,
                "it is not valid before {}, and {}",
                day(*from),
                clock(*now)
            ),
            Self::NobodyTrusted => f.write_str(
                "nobody that is trusted here has signed it (UnknownIssuer): set ca_file to the CA's certificate, or to this one if it is self-signed",
            ),
            Self::OtherKey => f.write_str(
                "the CA of that name which is trusted here has not signed it (BadSignature): ca_file is an older certificate, or another one",
            ),
            Self::IsCa => f.write_str(
                "it is the certificate of a CA (CaUsedAsEndEntity): set ca_file to exactly this one to trust it",
            ),
            Self::NoAltName => f.write_str(
                "it has no subjectAltName, so it is for no host: make a new one with it (openssl: -addext subjectAltName=DNS:<host> or IP:<address>)",
            ),
            Self::WrongName { wanted, has } => {
                write!(f, "it is not for {wanted} but for {}", has.join(", "))
            }
            Self::Other(error) => write!(f, "{error}"),
        }
    }
}

fn listed(faults: &[Fault]) -> String {
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    faults.join("; and ")
}

/// Start of 2026 in Unix seconds, before which this program did not exist.
const FIRST_RELEASE: u64 = 1_767_225_600;

/// Returns the time of this machine's clock, and what to do about it.
fn clock(now: UnixTime) -> String {
    let says = format!("this machine's clock says {}", day(now));
    if now.as_secs() < FIRST_RELEASE {
        format!("{says}, which is years ago: set the clock")
    } else {
        format!("{says}: set the clock if that is wrong")
    }
}

fn day(at: UnixTime) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(at.as_secs()));
    let text = time.and_then(timestamp::rfc3339);
    text.unwrap_or_else(|| format!("a day {} s after 1970", at.as_secs()))
}

/// `insecure = true`: accepts any certificate, even one that cannot be parsed. The handshake's
/// signature is not verified either: it would prove nothing, since an attacker could sign with a
/// certificate of their own, and old certificates would fail.
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

    /// All schemes that a server may use; none is verified.
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        use SignatureScheme as S;
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
