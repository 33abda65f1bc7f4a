//! One plain HTTP call within the host: to the bridge itself, to a supervisor.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use reqwest::StatusCode;

use crate::config::Tls;

/// Gets `url`, with `token` as the bearer's where one is given. The environment's proxy is not asked.
///
/// # Errors
/// The cause, in words, where no answer came.
pub(crate) async fn get(
    url: &str,
    token: Option<&str>,
    timeout: Duration,
) -> Result<(StatusCode, Bytes), String> {
    // Without TLS it does not matter what would be trusted.
    let tls = crate::tls::client_config(&Tls::default(), false).map_err(|e| e.to_string())?;
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured((*tls).clone())
        .no_proxy()
        .timeout(timeout)
        .build()
        .map_err(|error| cause(&error))?;
    let mut request = client.get(url);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.map_err(|error| cause(&error))?;
    let status = answer.status();
    let body = answer.bytes().await.map_err(|error| cause(&error))?;
    Ok((status, body))
}

/// What is at the bottom of an error: the layers above say no more than that something failed.
fn cause(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| Error::source(*error));
    causes.last().map(ToString::to_string).unwrap_or_default()
}
