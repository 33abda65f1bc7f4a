//! Whether OctoPrint was reachable lately, and a resolver for the requests that probe it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::time::Instant;

use super::error::{CallError, NetError};
use crate::causes;

/// How long a failed attempt counts as evidence that OctoPrint is unreachable.
const LATELY: Duration = Duration::from_secs(2);

/// The last exchange that did not reach OctoPrint, unless a later one did. All clients of one
/// OctoPrint share it: REST calls, the socket, and knocks.
#[derive(Debug, Default)]
pub(in crate::octoprint) struct Reach(Mutex<Option<Missed>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Missed {
    at: Instant,
    reason: String,
    /// The connection was refused or reset, or a proxy reported that OctoPrint is down.
    gone: bool,
}

impl Reach {
    pub(in crate::octoprint) fn answered(&self, status: u16, now: Instant) {
        let missed = not_up(status).then(|| Missed {
            at: now,
            reason: format!("HTTP status {status}"),
            gone: is_proxy(status),
        });
        *self.lock() = missed;
    }

    pub(in crate::octoprint) fn unanswered(&self, error: &CallError, now: Instant) {
        let cause = match error {
            CallError::NotSent(cause) => cause,
            // OctoPrint is slow, but it accepted the call.
            CallError::Unanswered(NetError::Timeout) | CallError::Body { .. } => return,
            CallError::Unanswered(cause) => cause,
        };
        let gone = matches!(cause, NetError::Down(_));
        *self.lock() = Some(Missed { at: now, reason: causes::text(cause), gone });
    }

    /// Returns why OctoPrint is unreachable, if an attempt failed in the last two seconds.
    pub(in crate::octoprint) fn missed_lately(&self, now: Instant) -> Option<String> {
        let missed = self.lock();
        let lately = |missed: &&Missed| now.saturating_duration_since(missed.at) < LATELY;
        missed.as_ref().filter(lately).map(|missed| missed.reason.clone())
    }

    /// Whether OctoPrint has been found gone since `since`: nothing listens at its address, or a
    /// proxy reports it down. A timeout does not count.
    pub(in crate::octoprint) fn gone_since(&self, since: Instant) -> bool {
        self.lock().as_ref().is_some_and(|missed| missed.gone && missed.at >= since)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Missed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a status means that OctoPrint is not up. Its intermediary server answers 501 during
/// startup; the other statuses come from proxies.
pub(in crate::octoprint) fn not_up(status: u16) -> bool {
    status == 501 || is_proxy(status)
}

/// Whether a proxy answers with this status because OctoPrint is unreachable behind it.
pub(in crate::octoprint) fn is_proxy(status: u16) -> bool {
    matches!(status, 502..=504)
}

/// How long a resolved address is cached.
const CACHE_TIME: Duration = Duration::from_secs(60);

/// Resolves a single host name and caches the result for a minute.
///
/// There is one look-up at a time, and it outlives a cancelled request: a look-up cannot be stopped,
/// occupies a thread, and takes seconds if the name is unknown.
#[derive(Debug, Default)]
pub(in crate::octoprint) struct Resolver {
    cache: Arc<tokio::sync::Mutex<Option<CachedAddresses>>>,
}

type CachedAddresses = (Instant, Vec<SocketAddr>);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let cache = Arc::clone(&self.cache);
        Box::pin(async move {
            let Ok(mut cache) = cache.try_lock_owned() else {
                return Err("the name is still being looked up".into());
            };
            if let Some((at, addresses)) = &*cache
                && at.elapsed() < CACHE_TIME
            {
                return Ok(Box::new(addresses.clone().into_iter()) as Addrs);
            }
            let looked_up = tokio::spawn(async move {
                let addresses = crate::names::resolve(name.as_str(), 0).await?;
                *cache = Some((Instant::now(), addresses.clone()));
                Ok::<_, std::io::Error>(addresses)
            });
            Ok(Box::new(looked_up.await??.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
impl Resolver {
    pub(in crate::octoprint) fn with_addresses(addresses: Vec<SocketAddr>) -> Self {
        Self { cache: Arc::new(tokio::sync::Mutex::new(Some((Instant::now(), addresses)))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::octoprint::rest::error::shared;

    fn down() -> CallError {
        CallError::NotSent(NetError::Down(shared("connection refused")))
    }

    #[test]
    fn a_failure_counts_for_two_seconds_or_until_an_answer() {
        let (reach, start) = (Reach::default(), Instant::now());
        assert_eq!(reach.missed_lately(start), None);
        reach.unanswered(&down(), start);
        let later = start + Duration::from_millis(1999);
        assert_eq!(reach.missed_lately(later).as_deref(), Some("connection refused"));
        assert_eq!(reach.missed_lately(start + LATELY), None);
        reach.unanswered(&down(), start);
        reach.answered(409, start);
        assert_eq!(reach.missed_lately(start), None, "409 is OctoPrint's own answer");
        reach.answered(503, start);
        assert_eq!(reach.missed_lately(start).as_deref(), Some("HTTP status 503"));
    }

    #[test]
    fn slow_is_reachable_and_silent_is_not_gone() {
        let (reach, start) = (Reach::default(), Instant::now());
        reach.unanswered(&CallError::Unanswered(NetError::Timeout), start);
        assert_eq!(reach.missed_lately(start), None);
        reach.unanswered(&CallError::NotSent(NetError::Timeout), start);
        assert!(reach.missed_lately(start).is_some() && !reach.gone_since(start));
        let unreadable = NetError::Unreadable(shared("invalid HTTP version parsed"));
        reach.unanswered(&CallError::Unanswered(unreadable), start);
        assert!(!reach.gone_since(start));
        reach.answered(501, start);
        assert!(!reach.gone_since(start), "it is starting");
        for status in [502, 503, 504] {
            reach.answered(status, start);
            assert!(reach.gone_since(start));
        }
        reach.unanswered(&down(), start);
        assert!(reach.gone_since(start) && !reach.gone_since(start + LATELY));
    }

    #[tokio::test]
    async fn an_address_is_cached_for_a_minute() {
        let resolver = Resolver::default();
        let look_up = || async { resolver.resolve("localhost".parse().unwrap()).await };
        assert!(look_up().await.unwrap().any(|address| address.ip().is_loopback()));
        // No name server returns this address, so it can only come from the cache.
        let mark: SocketAddr = "192.0.2.1:0".parse().unwrap();
        *resolver.cache.lock().await = Some((Instant::now(), vec![mark]));
        assert_eq!(look_up().await.unwrap().collect::<Vec<_>>(), [mark]);
        let old = Instant::now().checked_sub(CACHE_TIME).unwrap();
        *resolver.cache.lock().await = Some((old, vec![mark]));
        assert!(look_up().await.unwrap().all(|address| address != mark));
    }

    #[tokio::test]
    async fn one_look_up_at_a_time() {
        let resolver = Resolver::default();
        let _under_way = resolver.cache.lock().await;
        assert!(resolver.resolve("localhost".parse().unwrap()).await.is_err());
    }
}
