//! Who asked the bridge for something, and how the answer gets there.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::sync::oneshot;

use crate::bridge::request;
use crate::causes::{self, Cause};
use crate::mqtt::{Broker, Kind, OWN_LANE, Publication};
use crate::topics::Topic;

/// Takes the page's answer.
type PageAnswer = oneshot::Sender<Result<Value, Cause>>;

/// Who asked; cheap to clone.
#[derive(Clone)]
pub(super) enum Asker {
    /// A client of the broker.
    Mqtt {
        /// Where the answer goes.
        broker: Broker,
        /// The topic of the answer.
        response: Topic,
        /// What the answer echoes.
        transaction: Option<Value>,
    },
    /// The page, which takes one answer; further ones are for the log alone.
    Page(Arc<Mutex<Option<PageAnswer>>>),
}

impl Asker {
    pub(super) fn page(answer: PageAnswer) -> Self {
        Self::Page(Arc::new(Mutex::new(Some(answer))))
    }

    /// Whether it is a client of the broker, which has fewer rights.
    pub(super) fn is_mqtt(&self) -> bool {
        matches!(self, Self::Mqtt { .. })
    }

    pub(super) fn answer(&self, outcome: Result<Value, Cause>) {
        if let Err(error) = &outcome {
            tracing::debug!("a request to the bridge failed: {}", causes::text(&**error));
        }
        match self {
            Self::Mqtt { broker, response, transaction } => {
                let answer = request::answer(outcome, transaction.clone());
                broker.publish(Publication::new(OWN_LANE, response.clone(), answer, Kind::ANSWER));
            }
            Self::Page(answer) => {
                let answer = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(answer) = answer {
                    // The page may have been closed.
                    let _ = answer.send(outcome);
                }
            }
        }
    }
}
