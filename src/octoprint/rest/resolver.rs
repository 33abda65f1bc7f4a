//! Host names for requests that are made again and again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// For how long the address of a name is kept.
const KEPT: Duration = Duration::from_secs(60);

/// Looks a name up, and keeps what it found for a minute. For one name.
///
/// One look-up at a time, which goes on when nobody waits for it any more: it cannot be stopped,
/// occupies a thread, and takes seconds where a name is unknown.
#[derive(Debug, Default)]
pub(in crate::octoprint) struct Resolver {
    known: Arc<Mutex<Option<Known>>>,
}

/// When the name was looked up, and what was found.
type Known = (Instant, Vec<SocketAddr>);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let known = Arc::clone(&self.known);
        Box::pin(async move {
            let Ok(mut known) = known.try_lock_owned() else {
                return Err("the name is still being looked up".into());
            };
            if let Some((at, addresses)) = &*known
                && at.elapsed() < KEPT
            {
                return Ok(Box::new(addresses.clone().into_iter()) as Addrs);
            }
            let looked_up = tokio::spawn(async move {
                let addresses = crate::names::resolve(name.as_str(), 0).await?;
                *known = Some((Instant::now(), addresses.clone()));
                Ok::<_, std::io::Error>(addresses)
            });
            Ok(Box::new(looked_up.await??.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
impl Resolver {
    /// One that has just found these.
    pub(in crate::octoprint) fn knowing(addresses: Vec<SocketAddr>) -> Self {
        Self { known: Arc::new(Mutex::new(Some((Instant::now(), addresses)))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_is_kept_for_a_minute() {
        let resolver = Resolver::default();
        let look_up = || async { resolver.resolve("localhost".parse().unwrap()).await };
        assert!(look_up().await.unwrap().any(|address| address.ip().is_loopback()));
        // Known to nobody but this resolver: where it comes back, nobody else was asked.
        let mark: SocketAddr = "192.0.2.1:0".parse().unwrap();
        *resolver.known.lock().await = Some((Instant::now(), vec![mark]));
        assert_eq!(look_up().await.unwrap().collect::<Vec<_>>(), [mark]);
        let old = Instant::now().checked_sub(KEPT).unwrap();
        *resolver.known.lock().await = Some((old, vec![mark]));
        assert!(look_up().await.unwrap().all(|address| address != mark));
    }

    #[tokio::test]
    async fn one_look_up_at_a_time() {
        let resolver = Resolver::default();
        let _under_way = resolver.known.lock().await;
        assert!(resolver.resolve("localhost".parse().unwrap()).await.is_err());
    }
}
