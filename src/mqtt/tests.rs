//! The outbox, held to what the delivery promises.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::topics::Topic;

const BOUNDS: Bounds = Bounds { max_events: 10, max_bytes: 10_000 };

fn outbox() -> Outbox {
    let mut outbox = Outbox::new(BOUNDS);
    outbox.connected();
    outbox
}

fn publication(lane: usize, topic: &str, payload: &str, kind: Kind) -> Publication {
    Publication::new(lane, Topic::from(topic), payload.to_owned(), kind)
}

fn event(payload: &str) -> Publication {
    publication(1, "e", payload, Kind::Event { chatty: false, stamped: true })
}

fn drain(outbox: &mut Outbox) -> Vec<Outgoing> {
    let now = Instant::now();
    std::iter::from_fn(|| outbox.next(now)).collect()
}

fn texts(outgoing: &[Outgoing]) -> Vec<String> {
    outgoing
        .iter()
        .map(|o| format!("{} {}", o.topic, String::from_utf8_lossy(&o.payload)))
        .collect()
}

fn acknowledge(outbox: &mut Outbox, outgoing: &[Outgoing]) {
    outgoing.iter().filter_map(|o| o.token).for_each(|token| outbox.acknowledge(token));
}

#[test]
fn only_the_newest_state_waits_and_a_new_connection_repeats_all_in_order() {
    let mut outbox = Outbox::new(BOUNDS);
    for (topic, payload) in [("a", "1"), ("b", "1"), ("a", "2")] {
        outbox.push(publication(1, topic, payload, Kind::State));
    }
    assert!(drain(&mut outbox).is_empty(), "not connected");
    outbox.connected();
    let sent = drain(&mut outbox);
    assert_eq!(texts(&sent), ["a 2", "b 1"]);
    assert!(sent.iter().all(|o| o.retain));
    acknowledge(&mut outbox, &sent);
    assert!(outbox.is_empty());
    outbox.disconnected();
    outbox.push(publication(1, "b", "3", Kind::State));
    outbox.connected();
    assert_eq!(texts(&drain(&mut outbox)), ["a 2", "b 3"]);
}

#[test]
fn a_cleared_topic_is_forgotten_once_the_broker_knows() {
    let mut outbox = outbox();
    outbox.push(publication(1, "a", "1", Kind::State));
    outbox.push(publication(1, "a", "", Kind::State));
    let sent = drain(&mut outbox);
    assert_eq!(texts(&sent), ["a "]);
    outbox.disconnected();
    outbox.connected();
    let again = drain(&mut outbox);
    assert_eq!(texts(&again), ["a "], "unacknowledged, so it is said again");
    acknowledge(&mut outbox, &again);
    outbox.disconnected();
    outbox.connected();
    assert!(drain(&mut outbox).is_empty());
}

#[test]
fn events_leave_at_their_acknowledgement_and_are_sent_again_in_order() {
    let mut outbox = outbox();
    for n in 0..3 {
        outbox.push(event(&format!("{{\"n\":{n}}}")));
    }
    let sent = drain(&mut outbox);
    assert_eq!(texts(&sent), ["e {\"n\":0}", "e {\"n\":1}", "e {\"n\":2}"]);
    acknowledge(&mut outbox, &sent[..1]);
    outbox.disconnected();
    outbox.push(event("{\"n\":3}"));
    outbox.connected();
    let again = drain(&mut outbox);
    assert_eq!(
        texts(&again),
        ["e {\"n\":1,\"_delayed\":0}", "e {\"n\":2,\"_delayed\":0}", "e {\"n\":3}"],
        "those that were sent before say so"
    );
    acknowledge(&mut outbox, &again);
    assert!(outbox.is_empty());
}

#[test]
fn a_late_event_says_by_how_many_seconds() {
    let mut outbox = outbox();
    let start = Instant::now();
    outbox.push(Publication { received: start, ..event("{}") });
    outbox.push(Publication { received: start, ..event("{}") });
    let early = outbox.next(start + Duration::from_millis(999)).unwrap();
    assert_eq!(&early.payload[..], b"{}");
    let late = outbox.next(start + Duration::from_millis(61_999)).unwrap();
    assert_eq!(&late.payload[..], b"{\"_delayed\":61}");
}

#[test]
fn what_passes_is_dropped_with_the_connection_and_only_the_newest_current_waits() {
    let mut outbox = outbox();
    for n in 0..WINDOW {
        outbox.push(publication(1, &format!("s{n}"), "x", Kind::State));
    }
    assert_eq!(drain(&mut outbox).len(), WINDOW, "the window is full");
    outbox.push(publication(1, "current", "1", Kind::Newest));
    outbox.push(publication(1, "current", "2", Kind::Newest));
    outbox.push(publication(1, "history", "h", Kind::Unacknowledged));
    assert!(drain(&mut outbox).is_empty());
    outbox.disconnected();
    outbox.push(publication(1, "current", "3", Kind::Newest));
    outbox.connected();
    assert!(texts(&drain(&mut outbox)).iter().all(|text| text.starts_with('s')));
}

#[test]
fn a_full_outbox_drops_chatty_events_first_then_the_oldest() {
    let mut outbox = Outbox::new(BOUNDS);
    let chatty = Kind::Event { chatty: true, stamped: true };
    outbox.push(event("{\"n\":0}"));
    outbox.push(publication(1, "e", "{\"chatty\":1}", chatty));
    for n in 1..=10 {
        outbox.push(event(&format!("{{\"n\":{n}}}")));
    }
    assert_eq!(outbox.counts().dropped, 2);
    outbox.connected();
    let sent = texts(&drain(&mut outbox));
    assert_eq!(sent.len(), 10);
    assert!(sent[0].contains("\"n\":1"), "{sent:?}");
}

#[test]
fn one_flooding_printer_costs_no_other_its_turn() {
    let mut outbox = outbox();
    for n in 0..10 {
        outbox.push(publication(
            1,
            "flood",
            &n.to_string(),
            Kind::Event { chatty: false, stamped: false },
        ));
    }
    outbox.push(publication(2, "quiet", "q", Kind::Event { chatty: false, stamped: false }));
    outbox.push(publication(0, "bridge", "b", Kind::State));
    let sent = texts(&drain(&mut outbox));
    assert_eq!(&sent[..3], ["bridge b", "flood 0", "quiet q"]);
}

#[test]
fn receipts_tell_acknowledged_from_lost() {
    let mut outbox = outbox();
    let (receipt, mut told) = Receipt::new();
    outbox.push(Publication { receipt: Some(receipt), ..event("{}") });
    let sent = drain(&mut outbox);
    acknowledge(&mut outbox, &sent);
    assert_eq!(told.try_recv(), Ok(Settled::Acknowledged));

    let (receipt, mut told) = Receipt::new();
    outbox.push(Publication { receipt: Some(receipt), ..event("{}") });
    drain(&mut outbox);
    outbox.disconnected();
    assert_eq!(told.try_recv(), Ok(Settled::Unmeasured));

    let (receipt, mut told) = Receipt::new();
    let state = publication(1, "a", "1", Kind::State);
    outbox.push(Publication { receipt: Some(receipt), ..state });
    outbox.push(publication(1, "a", "2", Kind::State));
    assert_eq!(told.try_recv(), Ok(Settled::Unmeasured), "superseded before it was handed over");
}

proptest! {
    /// Whatever connections and acknowledgements do, every event arrives, in order, and all is
    /// settled in the end.
    #[test]
    fn no_event_is_lost(steps in prop::collection::vec(0u8..5, 1..200)) {
        let mut outbox = Outbox::new(Bounds { max_events: 1000, max_bytes: 1 << 20 });
        let (mut pushed, mut owed, mut seen) = (0u32, Vec::new(), Vec::new());
        let take = |outbox: &mut Outbox, owed: &mut Vec<Token>, seen: &mut Vec<u32>| {
            while let Some(outgoing) = outbox.next(Instant::now()) {
                let value: serde_json::Value = serde_json::from_slice(&outgoing.payload).unwrap();
                seen.push(value["n"].as_u64().unwrap() as u32);
                owed.extend(outgoing.token);
            }
        };
        for step in steps {
            match step {
                0 | 1 => {
                    outbox.push(event(&format!("{{\"n\":{pushed}}}")));
                    pushed += 1;
                }
                2 => take(&mut outbox, &mut owed, &mut seen),
                3 if !owed.is_empty() => outbox.acknowledge(owed.remove(0)),
                3 => {}
                _ => {
                    outbox.disconnected();
                    owed.clear();
                    outbox.connected();
                }
            }
        }
        outbox.disconnected();
        owed.clear();
        outbox.connected();
        loop {
            take(&mut outbox, &mut owed, &mut seen);
            if owed.is_empty() {
                break;
            }
            owed.drain(..).for_each(|token| outbox.acknowledge(token));
        }
        prop_assert!(outbox.is_empty());
        let mut first_seen = Vec::new();
        for n in seen {
            if !first_seen.contains(&n) {
                first_seen.push(n);
            }
        }
        prop_assert_eq!(first_seen, (0..pushed).collect::<Vec<_>>());
    }
}

#[test]
fn an_absent_broker_is_not_measured() {
    let mut outbox = outbox();
    outbox.disconnected();
    for kind in [Kind::State, Kind::Event { chatty: false, stamped: true }, Kind::Newest] {
        let (receipt, mut told) = Receipt::new();
        let waiting = publication(1, "t", "{}", kind);
        outbox.push(Publication { receipt: Some(receipt), ..waiting });
        assert_eq!(told.try_recv(), Ok(Settled::Unmeasured), "{kind:?}: told at once");
    }
}
