//! The options of a REST client, which a socket shares.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::error::BuildError;
use super::http::{self, public_url};
use super::login::Credentials;
use crate::secret::Secret;

/// Options of a [`Rest`](super::client::Rest): where OctoPrint is, and how to log in.
#[derive(Clone)]
pub struct RestOptions {
    /// The base address of OctoPrint, `http` or `https`; its path ends with `/`.
    pub url: Url,
    /// How to log in.
    pub credentials: Credentials,
    /// TLS for `https` and `wss`.
    pub tls: Arc<rustls::ClientConfig>,
    /// Extra headers for each request.
    pub headers: Vec<(String, Secret)>,
    /// HTTP proxy.
    pub proxy: Option<Url>,
    /// Timeout of a call's connection, TLS included. A socket gives it to each step of connecting:
    /// TCP and TLS, the WebSocket upgrade, the first message; twice as much to the proof of the
    /// login.
    pub connect_timeout: Duration,
    /// Delay after refused credentials.
    pub refused_pause: Duration,
}

impl RestOptions {
    /// Creates options with these defaults:
    ///
    /// | option | default |
    /// | --- | --- |
    /// | `headers`, `proxy` | none; the environment is ignored |
    /// | `connect_timeout` | 5 s |
    /// | `refused_pause` | 10 min |
    pub fn new(url: Url, credentials: Credentials, tls: Arc<rustls::ClientConfig>) -> Self {
        Self {
            url,
            credentials,
            tls,
            headers: Vec::new(),
            proxy: None,
            connect_timeout: Duration::from_secs(5),
            refused_pause: Duration::from_secs(600),
        }
    }

    /// Those of an address where nothing listens.
    #[cfg(test)]
    pub(crate) fn unreachable() -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let key = Credentials::ApiKey(Secret::new("KEY"));
        Self::new(Url::parse("http://127.0.0.1:1/").unwrap(), key, Arc::new(tls))
    }

    pub(super) fn check(&self) -> Result<(), BuildError> {
        let url = &self.url;
        let web = matches!(url.scheme(), "http" | "https");
        let plain = url.query().is_none() && url.fragment().is_none();
        if !(web && plain && url.path().ends_with('/')) {
            return Err(BuildError::Url { url: public_url(url) });
        }
        let not_sendable = |name: &str| Err(BuildError::NotSendable { name: name.to_owned() });
        match &self.credentials {
            Credentials::ApiKey(key) if http::sensitive_value(key).is_none() => {
                not_sendable("API key")
            }
            // OctoPrint's `auth` message has a colon between user and session.
            Credentials::Password { username, .. } if username.contains(':') => {
                not_sendable("user name")
            }
            Credentials::ApiKey(_) | Credentials::Password { .. } => Ok(()),
        }
    }
}

impl fmt::Debug for RestOptions {
    /// Shows only the address, without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestOptions").field("url", &public_url(&self.url)).finish_non_exhaustive()
    }
}
