//! The wait for the next attempt, and what is found out in it.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::actor::{Actor, Step};
use super::knocking::Answer;
use crate::octoprint::rest::http::Http;
use crate::octoprint::rest::reach::not_up;
use crate::octoprint::wire::transport::sockjs_info;

impl Actor {
    /// Waits for `pause` at most. Where OctoPrint could not be reached, asks meanwhile whether it
    /// is back; where a connection has just been lost, asks at once whether it is still there.
    pub(in crate::octoprint) async fn wait(&mut self, pause: Duration) -> Step {
        let ends = Instant::now() + pause;
        let mut at = std::mem::take(&mut self.lost).then(Instant::now);
        loop {
            let now = Instant::now();
            let next = at.take().or_else(|| self.knocking.next(now, ends));
            let Some(http) = next.and_then(|_| self.knocker()) else {
                return self.until(sleep_until(ends)).await.err().unwrap_or(Step::Connect);
            };
            let begun = next.unwrap_or(now);
            let limit = self.options.connect_timeout;
            let knock = async {
                sleep_until(begun).await;
                timeout(limit, knock(&http)).await.unwrap_or(Answer::Away)
            };
            match self.until(timeout_at(ends, knock)).await {
                Err(step) => return step,
                Ok(Err(_)) => return Step::Connect,
                Ok(Ok(answer)) => {
                    if self.answered(answer, begun) {
                        return Step::Connect;
                    }
                }
            }
        }
    }

    /// Whether the answer to a knock ends the wait.
    fn answered(&mut self, answer: Answer, begun: Instant) -> bool {
        self.show_gone();
        if answer == Answer::Away && !self.knocking.goes_on() {
            self.knocking.unreached(fastrand::f64(), begun);
        }
        let ends = self.knocking.knocked(answer, begun);
        if ends {
            tracing::info!(url = self.url, "OctoPrint answers again: connecting");
        }
        ends
    }

    /// The client that knocks; `None` where there can be none.
    fn knocker(&mut self) -> Option<std::sync::Arc<Http>> {
        if self.knocker.is_none() {
            match self.rest.http().knocker() {
                Ok(http) => self.knocker = Some(std::sync::Arc::new(http)),
                Err(error) => tracing::debug!(url = self.url, ?error, "no client to knock with"),
            }
        }
        self.knocker.clone()
    }

    /// Shows that OctoPrint is gone, where it closed the connection and is not there any more.
    pub(in crate::octoprint) fn show_gone(&self) {
        let reach = self.rest.http().reach();
        if self.closed_at.is_some_and(|closed| reach.gone_since(closed)) {
            self.show(|status| status.gone = true);
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
