//! Tests of the outbox's delivery guarantees.

mod bounds;

use std::time::{Duration, Instant};

use proptest::prelude::*;
use tokio::sync::mpsc;

use crate::mqtt::*;
use crate::receipt::{Receipt, Settled};
use crate::topics::Topic;

const BOUNDS: Bounds = Bounds { max_events: 10, max_bytes: 10_000 };

const EVENT: Kind =
    Kind::Event { worth: Worth::Event, audience: Audience::Subscribers, stamped: true };
const CHATTY: Kind =
    Kind::Event { worth: Worth::Chatty, audience: Audience::Subscribers, stamped: true };
const PRINT: Kind =
    Kind::Event { worth: Worth::Print, audience: Audience::HomeAssistant, stamped: true };

impl Outbox {
    /// Events not sent on this connection: after [`drain`], those held back.
    fn held(&self) -> usize {
        self.counts.for_subscribers + self.counts.for_home_assistant
    }

    fn is_empty(&self) -> bool {
        self.in_flight == 0 && self.counts.waiting == 0
    }
}

fn outbox() -> Outbox {
    let mut outbox = Outbox::new(BOUNDS);
    outbox.connected();
    outbox
}

fn publication(lane: usize, topic: &str, payload: &str, kind: Kind) -> Publication {
    Publication::new(lane, Topic::from(topic), payload.to_owned(), kind)
}

fn event(payload: &str) -> Publication {
    publication(1, "e", payload, EVENT)
}

/// Pushes a publication with a receipt.
fn push_tracked(outbox: &mut Outbox, publication: Publication) -> mpsc::UnboundedReceiver<Settled> {
    let (sender, settled) = mpsc::unbounded_channel();
    let receipt = Some(Receipt::new(1, tokio::time::Instant::now(), sender));
    outbox.push(Publication { receipt, ..publication });
    settled
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
fn a_proof_is_a_small_state_of_the_bridge_and_another_one_each_time() {
    let mut outbox = outbox();
    for (topic, payload) in
        [("health", "a long text"), ("info", "{...}"), ("state", "on"), ("gone", "")]
    {
        outbox.push(publication(0, topic, payload, Kind::State));
    }
    drain(&mut outbox);
    outbox.disconnected(Instant::now());
    for (choice, payload) in ["on", "{...}", "a long text", "on"].into_iter().enumerate() {
        outbox.connected();
        outbox.publish_proof(choice);
        let sent = outbox.next(Instant::now()).unwrap();
        assert_eq!(sent.payload, payload, "in front of all others");
        let rest = texts(&drain(&mut outbox));
        assert!(!rest.contains(&payload.to_owned()), "once: {rest:?}");
        outbox.disconnected(Instant::now());
    }
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
    outbox.disconnected(Instant::now());
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
    outbox.disconnected(Instant::now());
    outbox.connected();
    let again = drain(&mut outbox);
    assert_eq!(texts(&again), ["a "], "unacknowledged, so it is sent again");
    acknowledge(&mut outbox, &again);
    outbox.disconnected(Instant::now());
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
    outbox.disconnected(Instant::now());
    outbox.push(event("{\"n\":3}"));
    outbox.connected();
    let again = drain(&mut outbox);
    assert_eq!(
        texts(&again),
        ["e {\"n\":1,\"_delayed\":0}", "e {\"n\":2,\"_delayed\":0}", "e {\"n\":3}"],
        "those that were sent before carry `_delayed`"
    );
    acknowledge(&mut outbox, &again);
    assert!(outbox.is_empty());
}

#[test]
fn a_late_event_carries_its_delay() {
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
fn transient_messages_are_dropped_with_the_connection() {
    let mut outbox = outbox();
    for n in 0..WINDOW {
        outbox.push(publication(1, &format!("s{n}"), "x", Kind::State));
    }
    assert_eq!(drain(&mut outbox).len(), WINDOW, "the window is full");
    outbox.push(publication(1, "current", "1", Kind::Newest));
    outbox.push(publication(1, "current", "2", Kind::Newest));
    outbox.push(publication(1, "history", "h", Kind::Unacknowledged));
    assert!(drain(&mut outbox).is_empty());
    outbox.disconnected(Instant::now());
    outbox.push(publication(1, "current", "3", Kind::Newest));
    outbox.connected();
    assert!(texts(&drain(&mut outbox)).iter().all(|text| text.starts_with('s')));
}

#[test]
fn a_flooding_printer_does_not_delay_others() {
    let mut outbox = outbox();
    for n in 0..10 {
        outbox.push(publication(1, "flood", &n.to_string(), Kind::ANSWER));
    }
    outbox.push(publication(2, "quiet", "q", Kind::ANSWER));
    outbox.push(publication(0, "bridge", "b", Kind::State));
    let sent = texts(&drain(&mut outbox));
    assert_eq!(&sent[..3], ["bridge b", "flood 0", "quiet q"]);
}

#[test]
fn receipts_distinguish_acknowledged_from_lost() {
    let mut outbox = outbox();
    let mut settled = push_tracked(&mut outbox, event("{}"));
    let sent = drain(&mut outbox);
    acknowledge(&mut outbox, &sent);
    assert!(settled.try_recv().unwrap().took.is_some());

    let mut settled = push_tracked(&mut outbox, event("{}"));
    drain(&mut outbox);
    outbox.disconnected(Instant::now());
    assert_eq!(settled.try_recv().unwrap().took, None);

    let mut settled = push_tracked(&mut outbox, publication(1, "a", "1", Kind::State));
    outbox.push(publication(1, "a", "2", Kind::State));
    assert_eq!(settled.try_recv().unwrap().took, None, "superseded before it was sent");
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
                    outbox.disconnected(Instant::now());
                    owed.clear();
                    outbox.connected();
                }
            }
        }
        outbox.disconnected(Instant::now());
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
    outbox.disconnected(Instant::now());
    for kind in [Kind::State, EVENT, Kind::Newest] {
        let mut settled = push_tracked(&mut outbox, publication(1, "t", "{}", kind));
        assert_eq!(settled.try_recv().unwrap().took, None, "{kind:?}: settled at once");
    }
}

type Disk = std::collections::BTreeMap<(usize, u64), PersistedEvent>;

fn persist(outbox: &mut Outbox, disk: &mut Disk) {
    for change in outbox.take_unpersisted() {
        let place = (change.lane, change.sequence);
        match change.event {
            Some(event) => disk.insert(place, event),
            None => disk.remove(&place),
        };
    }
}

#[test]
fn waiting_events_are_persisted_and_acknowledged_ones_removed() {
    let (mut outbox, mut disk) = (outbox(), Default::default());
    outbox.persist_events();
    let start = Instant::now();
    outbox.push(event("1"));
    outbox.persist_late(start);
    persist(&mut outbox, &mut disk);
    assert!(disk.is_empty(), "a quick broker costs no disk");
    let sent = drain(&mut outbox);
    outbox.persist_late(start + Duration::from_secs(2));
    persist(&mut outbox, &mut disk);
    assert_eq!(disk.len(), 1, "a second without an acknowledgement");
    acknowledge(&mut outbox, &sent);
    persist(&mut outbox, &mut disk);
    assert!(disk.is_empty());
    // With data along, it is persisted at once, in one change.
    outbox.push(Publication { along: Some("record".into()), ..event("2") });
    let changes = outbox.take_unpersisted();
    assert_eq!((changes.len(), changes[0].along.as_deref()), (1, Some(&b"record"[..])));
    outbox.push(event("after"));
    assert!(drain(&mut outbox).is_empty(), "not before it is on disk, nor what comes after");
    outbox.release(changes[0].lane, changes[0].sequence);
    assert_eq!(drain(&mut outbox).len(), 2);
    outbox.disconnected(Instant::now());
    outbox.push(event("3"));
    let changes = outbox.take_unpersisted();
    assert_eq!(changes.len(), 2, "the other one is persisted already: {changes:?}");
}

#[test]
fn after_a_restart_persisted_events_come_first_and_carry_their_delay() {
    let (mut first, mut disk) = (Outbox::new(BOUNDS), Default::default());
    first.persist_events();
    (0..5).for_each(|n| first.push(event(&format!("{{\"n\":{n}}}"))));
    persist(&mut first, &mut disk);
    let mut second = Outbox::new(BOUNDS);
    second.persist_events();
    let now = Instant::now();
    for ((lane, sequence), event) in disk.clone() {
        let event = PersistedEvent { age: event.age + Duration::from_secs(60), ..event };
        second.restore(lane, sequence, event, now);
    }
    second.push(event("{\"n\":5}"));
    second.connected();
    let sent = drain(&mut second);
    let expected: Vec<String> = (0..6)
        .map(|n| {
            if n < 5 {
                format!("e {{\"n\":{n},\"_delayed\":60}}")
            } else {
                "e {\"n\":5}".to_owned()
            }
        })
        .collect();
    assert_eq!(texts(&sent), expected);
    acknowledge(&mut second, &sent);
    persist(&mut second, &mut disk);
    assert!(disk.is_empty(), "{disk:?}");
}

#[test]
fn events_wait_for_their_audience_and_answers_do_not() {
    let mut outbox = outbox();
    outbox.open_to(Audience::Asker);
    let mut settled = push_tracked(&mut outbox, event("{\"n\":1}"));
    assert_eq!(settled.try_recv().unwrap().took, None, "held back on purpose: no measurement");
    outbox.push(publication(1, "print", "{\"n\":2}", PRINT));
    outbox.push(publication(1, "result", "ok", Kind::ANSWER));
    outbox.push(publication(1, "state", "s", Kind::State));
    assert_eq!(texts(&drain(&mut outbox)), ["state s", "result ok"]);
    assert_eq!(outbox.held(), 2);
    assert!(!outbox.is_empty());
    outbox.open_to(Audience::Subscribers);
    assert_eq!(texts(&drain(&mut outbox)), ["e {\"n\":1}"]);
    outbox.push(event("{\"n\":3}"));
    assert_eq!(texts(&drain(&mut outbox)), ["e {\"n\":3}"], "the print event does not block it");
    assert_eq!(outbox.held(), 1);
    outbox.open_to(Audience::HomeAssistant);
    assert_eq!(texts(&drain(&mut outbox)), ["print {\"n\":2}"]);
    assert_eq!((outbox.held(), outbox.is_flushed()), (0, false));
}

#[test]
fn an_unacknowledged_event_is_held_back_too() {
    let mut outbox = outbox();
    let mut settled = push_tracked(&mut outbox, publication(1, "print", "{}", PRINT));
    outbox.open_to(Audience::Subscribers);
    assert_eq!(settled.try_recv().unwrap().took, None);
    assert!(drain(&mut outbox).is_empty());
    outbox.open_to(Audience::HomeAssistant);
    drain(&mut outbox);
    outbox.disconnected(Instant::now());
    outbox.open_to(Audience::Asker);
    outbox.connected();
    assert!(drain(&mut outbox).is_empty(), "unacknowledged, so it waits again");
    outbox.open_to(Audience::HomeAssistant);
    assert_eq!(texts(&drain(&mut outbox)), ["print {\"_delayed\":0}"]);
}
