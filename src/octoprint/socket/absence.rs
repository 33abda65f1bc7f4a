//! An absence of OctoPrint: the wait for the next attempt, and what is found out in it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::dispatcher::{Dispatcher, Order};
use super::failure::Failure;
use super::knocking::{Answer, Knocking};
use crate::causes;
use crate::octoprint::rest::client::Rest;
use crate::octoprint::rest::http::{Http, public_url};
use crate::octoprint::rest::reach::not_up;
use crate::octoprint::wire::transport::sockjs_info;

/// What is known of OctoPrint since a connection ended, until there is the next one.
pub(super) struct Absence {
    rest: Rest,
    /// How long a knock may take.
    limit: Duration,
    knocking: Knocking,
    /// The client that knocks, from the first knock to the absence's end.
    knocker: Option<Arc<Http>>,
    /// When OctoPrint closed the last connection that was logged in.
    closed_at: Option<Instant>,
    /// A connection that was logged in has just been lost.
    lost: bool,
}

impl Absence {
    pub(super) fn new(rest: Rest, limit: Duration, knock: bool) -> Self {
        let knocking = Knocking::new(knock);
        Self { rest, limit, knocking, knocker: None, closed_at: None, lost: false }
    }

    /// There is a connection: nobody has to knock.
    pub(super) fn opened(&mut self) {
        self.knocker = None;
    }

    /// There was a connection that was logged in: what was before is forgotten.
    pub(super) fn was_connected(&mut self) {
        self.knocking.connected();
        (self.closed_at, self.lost) = (None, false);
    }

    /// A connection that was logged in has failed.
    pub(super) fn lost(&mut self, failure: &Failure) {
        self.lost = true;
        self.closed_at = failure.closed_by_peer().then(Instant::now);
    }

    /// A wait begins after a failure, if there is to be another attempt.
    pub(super) fn begin(&mut self, failure: &Failure, waits: bool) {
        if failure.unreached() && !self.lost && waits {
            self.knocking.unreached(fastrand::f64(), Instant::now());
        } else {
            self.knocking.out_of_place();
        }
        // Whoever refuses who asks is there, and is not to be asked again soon.
        self.lost &= !failure.refused();
    }

    /// Waits for `pause` at most. Where OctoPrint could not be reached, asks meanwhile whether it
    /// is back; where a connection has just been lost, asks at once whether it is still there.
    pub(super) async fn wait(
        &mut self,
        dispatcher: &mut Dispatcher,
        pause: Duration,
    ) -> Result<(), Order> {
        let ends = Instant::now() + pause;
        let mut at = std::mem::take(&mut self.lost).then(Instant::now);
        loop {
            let now = Instant::now();
            let next = at.take().or_else(|| self.knocking.next(now, ends));
            let Some(http) = next.and_then(|_| self.knocker()) else {
                return dispatcher.until(false, sleep_until(ends)).await;
            };
            let begun = next.unwrap_or(now);
            let knock = async {
                sleep_until(begun).await;
                timeout(self.limit, knock(&http)).await.unwrap_or(Answer::Away)
            };
            let Ok(answer) = dispatcher.until(false, timeout_at(ends, knock)).await? else {
                return Ok(());
            };
            self.show_gone(dispatcher);
            if self.answered(answer, begun) {
                return Ok(());
            }
        }
    }

    /// Whether the answer to a knock ends the wait.
    fn answered(&mut self, answer: Answer, begun: Instant) -> bool {
        if answer == Answer::Away && !self.knocking.goes_on() {
            self.knocking.unreached(fastrand::f64(), begun);
        }
        let ends = self.knocking.knocked(answer, begun);
        if ends {
            let url = public_url(self.rest.http().base());
            tracing::info!(url, "OctoPrint answers again; connecting");
        }
        ends
    }

    /// The client that knocks; `None` where there can be none.
    fn knocker(&mut self) -> Option<Arc<Http>> {
        if self.knocker.is_none() {
            match self.rest.http().knocker() {
                Ok(http) => self.knocker = Some(Arc::new(http)),
                Err(error) => {
                    tracing::debug!(
                        error = causes::text(&error),
                        "cannot make a client that probes for OctoPrint"
                    );
                }
            }
        }
        self.knocker.clone()
    }

    /// Shows that OctoPrint is gone, where it closed the connection and is not there any more.
    pub(super) fn show_gone(&self, dispatcher: &Dispatcher) {
        let reach = self.rest.http().reach();
        if self.closed_at.is_some_and(|closed| reach.gone_since(closed)) {
            dispatcher.show(|status| status.gone = true);
        }
    }
}

async fn knock(http: &Http) -> Answer {
    match sockjs_info(http).await {
        Ok(200) => Answer::There,
        Ok(status) if !not_up(status) => Answer::Other,
        Ok(_) | Err(_) => Answer::Away,
    }
}
