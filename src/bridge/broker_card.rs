//! Shows the connection to the broker on the board.

use std::time::Duration;

use super::board::{Board, BrokerCard};
use crate::mqtt::Broker;

/// Interval between looks at the counts, which announce no change, while a page is open.
const INTERVAL: Duration = Duration::from_secs(1);

/// Keeps the board's broker up to date until the broker's task ends. `address` is the broker's,
/// without user and password.
pub async fn follow(board: Board, broker: Broker, address: String) {
    let mut status = broker.status();
    let mut held = broker.held();
    let mut look = tokio::time::interval(INTERVAL);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        board.show_broker(card(&broker, &address));
        let changed = tokio::select! {
            changed = status.changed() => changed.is_ok(),
            changed = held.changed() => changed.is_ok(),
            () = next_look(&mut look, &board) => true,
        };
        if !changed {
            return;
        }
    }
}

/// Waits for the next look at the counts; they are of no interest while no page is open.
async fn next_look(look: &mut tokio::time::Interval, board: &Board) {
    loop {
        look.tick().await;
        if board.is_watched() {
            return;
        }
    }
}

fn card(broker: &Broker, address: &str) -> BrokerCard {
    let (counts, status, held) = (broker.counts(), broker.status(), broker.held());
    let (status, held) = (status.borrow(), held.borrow());
    BrokerCard {
        address: address.to_owned(),
        connected: status.connected,
        error: status.error.clone(),
        waiting: counts.waiting,
        dropped: counts.dropped,
        for_subscribers: held.for_subscribers,
        for_home_assistant: held.for_home_assistant,
    }
}
