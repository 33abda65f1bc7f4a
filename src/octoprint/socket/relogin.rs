//! When a connection answers `reauthRequired` with a login, and the REST calls for that.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, timeout};

use crate::octoprint::rest::client::{CurrentUser, Rest};
use crate::octoprint::rest::error::{LoginError, RestError};
use crate::octoprint::rest::login::Login;
use crate::octoprint::wire::message::{Message, ReauthReason};

/// A login is several calls to a host that may be slow: it may take this many times the limit of
/// one.
pub(super) const LOGIN_STEPS: u32 = 4;

/// Time for which a burst of `reauthRequired` is collected before a login.
const BURST: Duration = Duration::from_secs(1);
/// Maximum number of times that [`BURST`] is doubled when bursts follow each other closely.
const MAX_DOUBLINGS: u32 = 6;
/// Maximum number of stale sessions in a row before the connection is dropped.
const MAX_STALE: u32 = 3;

#[derive(Debug, Default)]
pub(super) struct Relogin {
    /// End of the current burst, and the strongest reason in it.
    due: Option<(Instant, ReauthReason)>,
    /// Logins since the connection was last stable, and those that replaced a stale session.
    logins: u32,
    stale: u32,
}

/// OctoPrint reports every new session as stale.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AllStale;

impl Relogin {
    pub(super) fn requested(&mut self, reason: ReauthReason, now: Instant) {
        let pause = BURST * 2_u32.pow(self.logins.min(MAX_DOUBLINGS));
        self.due = Some(match self.due {
            // A stale session carries no messages, so it is not delayed further.
            Some((at, ReauthReason::Modified)) if reason == ReauthReason::LoginNeeded => {
                (at.min(now + BURST), reason)
            }
            Some((at, earlier)) => (at, earlier.or(reason)),
            None if reason == ReauthReason::LoginNeeded => (now + BURST, reason),
            None => (now + pause, reason),
        });
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due.map(|(at, _)| at)
    }

    /// Starts a login and returns its reason; `None` if none is pending.
    pub(super) fn begin(&mut self) -> Result<Option<ReauthReason>, AllStale> {
        let Some((_, reason)) = self.due.take() else { return Ok(None) };
        self.logins += 1;
        self.stale += u32::from(reason == ReauthReason::LoginNeeded);
        if self.stale > MAX_STALE { Err(AllStale) } else { Ok(Some(reason)) }
    }

    /// Resets the counts: the connection is stable with its current login.
    pub(super) fn stable(&mut self) {
        (self.logins, self.stale) = (0, 0);
    }
}

/// A REST call that runs beside the connection; one at a time.
#[derive(Default)]
pub(super) struct BackgroundCall(Option<BoxFuture<'static, BackgroundResult>>);

pub(super) enum BackgroundResult {
    LoggedIn(Result<Login, LoginError>),
    CurrentUser(Result<CurrentUser, RestError>),
}

impl BackgroundCall {
    pub(super) fn is_idle(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn fetch_current_user(&mut self, rest: Rest) {
        self.0 =
            Some(Box::pin(async move { BackgroundResult::CurrentUser(rest.current_user().await) }));
    }

    /// Logs in, within [`LOGIN_STEPS`] times `limit`.
    pub(super) fn log_in(&mut self, rest: Rest, reason: ReauthReason, limit: Duration) {
        self.0 = Some(Box::pin(async move {
            let login = timeout(limit * LOGIN_STEPS, async {
                match reason {
                    ReauthReason::Modified => rest.passive_login().await,
                    ReauthReason::LoginNeeded => rest.login().await,
                }
            });
            BackgroundResult::LoggedIn(login.await.unwrap_or(Err(LoginError::Timeout)))
        }));
    }

    /// Waits for the call to end; forever if there is none. Cancel-safe.
    pub(super) async fn done(&mut self) -> BackgroundResult {
        let Some(call) = &mut self.0 else { return std::future::pending().await };
        let done = call.await;
        self.0 = None;
        done
    }
}

/// Whether the OctoPrint that sent this `connected` knows `subscribe`, as 1.8 and later do. An unknown
/// version counts as new.
pub(super) fn knows_subscribe(connected: &Message) -> bool {
    #[derive(serde::Deserialize)]
    struct Connected {
        version: String,
    }
    let Ok(Connected { version }) = connected.json() else { return true };
    let mut parts = version.split('.').map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (1, 8),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use ReauthReason::{LoginNeeded, Modified};

    use super::*;

    #[test]
    fn a_burst_is_one_login() {
        let (mut relogin, now) = (Relogin::default(), Instant::now());
        assert_eq!(relogin.begin(), Ok(None));
        for _ in 0..10 {
            relogin.requested(Modified, now);
        }
        assert_eq!(relogin.due(), Some(now + BURST));
        relogin.requested(LoginNeeded, now + BURST / 2);
        assert_eq!((relogin.due(), relogin.begin()), (Some(now + BURST), Ok(Some(LoginNeeded))));
        assert_eq!(relogin.due(), None);
    }

    #[test]
    fn stale_sessions_in_a_row_end_the_connection() {
        let (mut relogin, now) = (Relogin::default(), Instant::now());
        let mut stale = |stable: bool| {
            relogin.requested(LoginNeeded, now);
            let begun = relogin.begin();
            if stable {
                relogin.stable();
            }
            begun
        };
        for _ in 0..100 {
            assert_eq!(stale(true), Ok(Some(LoginNeeded)));
        }
        for _ in 0..MAX_STALE {
            assert_eq!(stale(false), Ok(Some(LoginNeeded)));
        }
        assert_eq!(stale(false), Err(AllStale));
    }

    #[test]
    fn endless_changes_of_permissions_do_not_cause_endless_logins() {
        let (mut relogin, mut now) = (Relogin::default(), Instant::now());
        let start = now;
        let mut logins = 0;
        while now - start < Duration::from_secs(3600) {
            relogin.requested(Modified, now);
            now = relogin.due().unwrap();
            assert_eq!(relogin.begin(), Ok(Some(Modified)));
            logins += 1;
        }
        assert!(logins < 70, "{logins}");
        relogin.requested(Modified, now);
        relogin.requested(LoginNeeded, now);
        assert_eq!(relogin.due(), Some(now + BURST), "a dead session does not wait");
    }

    #[test]
    fn which_versions_know_subscribe() {
        let knows = |payload: &'static str| {
            let (payload, wall) = (payload.as_bytes().into(), std::time::SystemTime::UNIX_EPOCH);
            let message = Message::new("connected", payload, Instant::now(), wall, 1).unwrap();
            knows_subscribe(&message)
        };
        for old in ["1.5.3", "1.7.3", "1.7.0rc1", "1.4"] {
            assert!(!knows(&*format!(r#"{{"version":"{old}"}}"#).leak()), "{old}");
        }
        for new in ["1.8.0", "1.8.0rc1", "1.11.8", "2.0.0rc7", "0+unknown", "1.x", ""] {
            assert!(knows(&*format!(r#"{{"version":"{new}"}}"#).leak()), "{new}");
        }
        assert!(knows("{}") && knows("null") && knows(r#"{"version":1.5}"#));
    }
}
