//! The emergency stop: a command that waits for nothing.

use reqwest::Method;
use serde_json::json;

use super::answer::Answer;
use super::client::{Caller, Rest};
use super::error::{BuildError, RestError, RestErrorKind};
use super::http::{Http, success};
use super::login::Credentials;

const PATH: &str = "api/printer/command";

impl Rest {
    /// Stops the printer at once with M112, after which it is disconnected.
    ///
    /// On a connection of its own, and with the key, or the login that worked last, whatever other
    /// calls and logins are under way. Where there is no such login, or OctoPrint refuses it, this
    /// logs in by itself, once and beside all else, also in the pause after a refused login.
    ///
    /// # Errors
    /// [`RestError`]; status 409 when the printer is not connected.
    pub async fn emergency_stop(&self) -> Result<(), RestError> {
        self.try_emergency_stop().await.map_err(|error| error.of(&Method::POST))
    }

    async fn try_emergency_stop(&self) -> Result<(), RestError> {
        match self.credentials() {
            // A key is all that there is to be shown.
            Credentials::ApiKey(_) => {
                let http = self.http().beside(Default::default()).map_err(not_built)?;
                success(self.stop(&http).await?, PATH).map(drop)
            }
            Credentials::Password { .. } => self.stop_with_a_session().await,
        }
    }

    async fn stop_with_a_session(&self) -> Result<(), RestError> {
        if let Some(cookies) = self.remembered() {
            let http = self.http().beside(cookies).map_err(not_built)?;
            let answer = self.stop(&http).await?;
            if !refused(&answer) {
                return success(answer, PATH).map(drop);
            }
        }
        let http = self.http().beside(Default::default()).map_err(not_built)?;
        Caller { http: &http, credentials: self.credentials() }.log_in().await?;
        self.remember(&http.cookies);
        success(self.stop(&http).await?, PATH).map(drop)
    }

    async fn stop(&self, http: &Http) -> Result<Answer, RestError> {
        let caller = Caller { http, credentials: self.credentials() };
        let body = json!({"commands": ["M112"]});
        let sent = caller.send(&Method::POST, PATH, Some(&body)).await;
        sent.map_err(|error| error.at(PATH))
    }
}

/// Whether the login behind a call is refused; it may also be that the user lacks a permission,
/// which OctoPrint does not tell apart.
fn refused(answer: &Answer) -> bool {
    match answer.status.as_u16() {
        401 | 403 => true,
        400 => answer.body.windows(4).any(|window| window == b"CSRF"),
        _ => false,
    }
}

fn not_built(error: BuildError) -> RestError {
    RestError::new(RestErrorKind::NotSent, PATH).because(error)
}
