//! The password of the page, and who has given it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, error, hmac};

use crate::clock;
use crate::secret::Secret;

/// How long a session lasts that is not used.
pub(super) const IDLE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Most sessions; the one that was unused for the longest time ends for a new one.
const MOST: usize = 64;

/// The password, which is compared in a time that tells nothing of it.
pub(super) struct PagePassword {
    key: hmac::Key,
    tag: hmac::Tag,
}

impl PagePassword {
    pub(super) fn new(password: &Secret) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"octoprint2mqtt: password of the page");
        let tag = hmac::sign(&key, password.expose().as_bytes());
        Self { key, tag }
    }

    pub(super) fn is(&self, candidate: &str) -> bool {
        hmac::verify(&self.key, candidate.as_bytes(), self.tag.as_ref()).is_ok()
    }
}

/// The hash of a session's token, by which the session is known: the token itself is the browser's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TokenHash([u8; 32]);

impl TokenHash {
    pub(super) fn of(token: &str) -> Self {
        let mut hash = [0; 32];
        let digest = digest::digest(&digest::SHA256, token.as_bytes());
        hash.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
        Self(hash)
    }
}

/// The sessions, with the time of their last use.
#[derive(Debug, Default)]
pub(super) struct PageSessions(Mutex<BTreeMap<TokenHash, Instant>>);

impl PageSessions {
    fn open_ones(&self) -> MutexGuard<'_, BTreeMap<TokenHash, Instant>> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::now();
        sessions.retain(|_, used| now.saturating_duration_since(*used) < IDLE);
        sessions
    }

    /// Opens a session, and returns its token.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub(super) fn open(&self) -> Result<Secret, error::Unspecified> {
        let mut random = [0; 32];
        SystemRandom::new().fill(&mut random)?;
        let mut token = String::new();
        for byte in random {
            // Writing to a text does not fail.
            let _ = write!(token, "{byte:02x}");
        }
        let mut sessions = self.open_ones();
        while sessions.len() >= MOST {
            let oldest = sessions.iter().min_by_key(|(_, used)| **used).map(|(hash, _)| *hash);
            oldest.and_then(|oldest| sessions.remove(&oldest));
        }
        sessions.insert(TokenHash::of(&token), clock::now());
        Ok(Secret::new(token))
    }

    /// Whether the session is open; it is then used.
    pub(super) fn renew(&self, hash: TokenHash) -> bool {
        let mut sessions = self.open_ones();
        let Some(used) = sessions.get_mut(&hash) else { return false };
        *used = clock::now();
        true
    }

    /// Whether the session is open.
    pub(super) fn is_open(&self, hash: TokenHash) -> bool {
        self.open_ones().contains_key(&hash)
    }

    /// Ends a session.
    pub(super) fn close(&self, hash: TokenHash) {
        self.open_ones().remove(&hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_alone_is_the_password() {
        let password = PagePassword::new(&Secret::new("grün <3"));
        assert!(password.is("grün <3"));
        for wrong in ["", "grün <", "grün <3 ", "Grün <3"] {
            assert!(!password.is(wrong), "{wrong:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_when_it_is_closed_or_unused_for_a_month() {
        let sessions = PageSessions::default();
        let [a, b] = [(); 2].map(|()| sessions.open().unwrap());
        assert_ne!(a, b);
        assert_eq!(a.characters(), 64);
        let [a, b] = [a, b].map(|token| TokenHash::of(token.expose()));
        assert!(sessions.renew(a) && sessions.is_open(b));
        assert!(!sessions.renew(TokenHash::of("")) && !sessions.renew(TokenHash::of("guess")));
        tokio::time::advance(IDLE - Duration::from_secs(1)).await;
        assert!(sessions.renew(a));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(sessions.is_open(a) && !sessions.is_open(b) && !sessions.renew(b));
        sessions.close(a);
        assert!(!sessions.is_open(a));
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_sessions_end_the_oldest() {
        let sessions = PageSessions::default();
        let mut opened = Vec::new();
        for _ in 0..MOST {
            opened.push(TokenHash::of(sessions.open().unwrap().expose()));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!(sessions.renew(opened[0]));
        sessions.open().unwrap();
        let open: Vec<bool> = opened.iter().map(|hash| sessions.is_open(*hash)).collect();
        assert_eq!(open.iter().filter(|open| !**open).count(), 1);
        assert!(!open[1]);
    }
}
