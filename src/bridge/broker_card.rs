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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tokio::sync::mpsc;

    use super::*;
    use crate::bridge::setup;
    use crate::config;
    use crate::mqtt::{Audiences, Bounds, Kind, OWN_LANE, Publication};
    use crate::topic::Topic;

    #[tokio::test]
    async fn the_board_follows_the_broker() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let text = format!(
            "[mqtt]\nurl = \"mqtt://127.0.0.1:{port}\"\n[printers.a]\nurl = \"http://a\"\napi_key = \"k\""
        );
        let config = config::from_toml(&text).unwrap();
        let options = setup::broker_options(&config.mqtt, None).unwrap();
        let address = options.address();
        let bounds = Bounds { max_events: 10, max_bytes: 10_000 };
        let (incoming, _commands) = mpsc::channel(1);
        let audiences = Audiences::not_awaited();
        let broker = Broker::start(options, bounds, BTreeSet::new(), incoming, None, audiences);
        let (board, _asked) = Board::new();
        let mut revision = board.revision();
        tokio::spawn(follow(board.clone(), broker.clone(), address.clone()));
        let topic = Topic::read("a/b").unwrap();
        broker.publish(Publication::new(OWN_LANE, topic, "on", Kind::State));
        loop {
            let card = board.broker();
            if card.waiting == 1 && card.error.is_some() {
                assert_eq!((card.address, card.connected), (address, false));
                break;
            }
            revision.changed().await.unwrap();
        }
    }
}
