//! Asks an OctoPrint for an application key, which its user grants with a click.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Access;
use crate::octoprint::{AppKeys, AppKeysError, BuildError, Decision, KeyRequest, POLL_INTERVAL};
use crate::secret::Secret;
use crate::tls::{self, TlsError};

/// The name under which OctoPrint lists the key.
const APP: &str = "octoprint2mqtt";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Consecutive failed calls after which to give up; OctoPrint forgets the request after 5 s.
const MAX_FAILURES: u32 = 4;

/// A request for a key.
#[derive(Debug)]
pub struct Asking {
    /// How to reach OctoPrint.
    pub access: Access,
    /// Only this user may grant the key.
    pub user: Option<String>,
    /// Time for the user to decide.
    pub timeout: Duration,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum AuthorizeError {
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The HTTP client.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// OctoPrint or its plugin.
    #[error(transparent)]
    AppKeys(#[from] AppKeysError),
    /// The user denied the request, or OctoPrint forgot it.
    #[error("the request was denied in OctoPrint, or OctoPrint was restarted meanwhile")]
    Denied,
    /// The user did not decide in time.
    #[error("nobody allowed the request within {}", humantime::format_duration(*.0))]
    TimedOut(Duration),
}

/// Asks for a key; `asked` is called once OctoPrint asks its user.
///
/// # Errors
/// [`AuthorizeError`] if no key is granted.
pub async fn run(
    asking: &Asking,
    asked: impl FnOnce(&KeyRequest),
) -> Result<Secret, AuthorizeError> {
    let Access { url, tls, headers } = &asking.access;
    let tls = tls::client_config(tls, url.scheme() == "https")?;
    let headers: Vec<(String, Secret)> = headers.clone().into_iter().collect();
    let plugin = AppKeys::new(url.clone(), &tls, &headers, CONNECT_TIMEOUT)?;
    let request = plugin.request(APP, asking.user.as_deref()).await?;
    asked(&request);
    let deadline = Instant::now() + asking.timeout;
    let mut failures = 0;
    while Instant::now() < deadline {
        match plugin.decision(&request).await {
            Ok(Decision::Granted(key)) => return Ok(key),
            Ok(Decision::Refused) => return Err(AuthorizeError::Denied),
            Ok(Decision::Waiting) => failures = 0,
            // A network hiccup should not make the user click again.
            Err(error) => {
                failures += 1;
                if failures >= MAX_FAILURES {
                    return Err(error.into());
                }
            }
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Err(AuthorizeError::TimedOut(asking.timeout))
}
