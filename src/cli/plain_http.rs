//! One plain HTTP call within the host: to the bridge itself, to a supervisor.

use std::time::Duration;

use bytes::Bytes;
use reqwest::StatusCode;

use crate::causes::HttpFault;
use crate::config::Tls;
use crate::tls::{self, TlsError};

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The call failed.
    #[error(transparent)]
    Http(#[from] HttpFault),
}

impl From<reqwest::Error> for Unanswered {
    fn from(error: reqwest::Error) -> Self {
        Self::Http(error.into())
    }
}

/// Gets `url`, with `token` as the bearer's where one is given. The environment's proxy is not asked.
///
/// # Errors
/// [`Unanswered`] where no answer came.
pub(crate) async fn get(
    url: &str,
    token: Option<&str>,
    timeout: Duration,
) -> Result<(StatusCode, Bytes), Unanswered> {
    // Without TLS it does not matter what would be trusted.
    let tls = tls::client_config(&Tls::default(), false)?;
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured((*tls).clone())
        .no_proxy()
        .timeout(timeout)
        .build()?;
    let mut request = client.get(url);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await?;
    let status = answer.status();
    let body = answer.bytes().await?;
    Ok((status, body))
}
