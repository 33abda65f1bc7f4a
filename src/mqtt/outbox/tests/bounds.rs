//! The bounds of what waits, and which events are dropped first.

use super::*;

#[test]
fn a_full_outbox_drops_chatty_events_first_then_the_oldest() {
    let mut outbox = Outbox::new(BOUNDS);
    outbox.push(event("{\"n\":0}"));
    outbox.push(publication(1, "e", "{\"chatty\":1}", CHATTY));
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
fn a_day_without_a_broker_costs_bounded_memory_and_drops_the_oldest() {
    let bounds = Bounds { max_events: 10_000, max_bytes: 16 << 20 };
    let mut outbox = Outbox::new(bounds);
    outbox.persist_events();
    let mut disk = Disk::new();
    let start = Instant::now();
    // A day of prints: every second a chatty event and state, every ten seconds another event.
    for second in 0..86_400u64 {
        let received = start + Duration::from_secs(second);
        let at = |kind, name: &str| Publication {
            received,
            ..publication(1, name, &format!("{{\"at\":{second}}}"), kind)
        };
        outbox.push(at(CHATTY, "event/ZChange"));
        outbox.push(at(Kind::State, "progress"));
        if second % 10 == 0 {
            outbox.push(at(EVENT, "event/PrintPaused"));
        }
        persist(&mut outbox, &mut disk);
        assert!(disk.len() <= bounds.max_events);
    }
    let counts = outbox.counts();
    assert_eq!(counts.waiting, bounds.max_events + 1, "and the one state");
    assert_eq!(counts.dropped, 86_400 + 8640 - 10_000, "counted");
    outbox.connected();
    let end = start + Duration::from_secs(86_400);
    let mut sent = Vec::new();
    while let Some(outgoing) = outbox.next(end) {
        if let Some(token) = outgoing.token {
            outbox.acknowledge(token);
        }
        sent.push(outgoing);
    }
    let paused = sent.iter().filter(|sent| &*sent.topic == "event/PrintPaused").count();
    assert_eq!(paused, 8640, "the chatty ones were dropped first");
    let progress: Vec<_> = sent.iter().filter(|sent| &*sent.topic == "progress").collect();
    assert_eq!(progress.len(), 1, "one message per topic");
    assert_eq!(&progress[0].payload[..], b"{\"at\":86399}", "the newest");
    persist(&mut outbox, &mut disk);
    assert!(disk.is_empty());
}

#[test]
fn chatty_events_do_not_evict_the_end_of_a_print() {
    let mut outbox = Outbox::new(Bounds { max_events: 4, ..BOUNDS });
    outbox.push(publication(1, "end", "{}", PRINT));
    for n in 0..20 {
        outbox.push(publication(1, "plugin", &n.to_string(), Kind::MESSAGE));
        outbox.push(publication(1, "chatty", &n.to_string(), CHATTY));
    }
    outbox.push(event("{}"));
    assert_eq!(outbox.counts().dropped, 42 - 4);
    outbox.connected();
    let sent = texts(&drain(&mut outbox));
    assert_eq!(sent, ["end {}", "chatty 18", "chatty 19", "e {}"], "the lowest worth went first");
}

#[test]
fn an_event_over_the_bound_is_dropped_alone() {
    let mut outbox = Outbox::new(Bounds { max_events: 10, max_bytes: 100 });
    outbox.push(event("{\"n\":1}"));
    outbox.push(publication(1, "print", &"x".repeat(200), PRINT));
    // It evicts what is worth less, and leaves no room for the last one.
    outbox.push(publication(1, "print", &"x".repeat(95), PRINT));
    outbox.push(event("{\"n\":2}"));
    assert_eq!(outbox.counts().dropped, 3);
    outbox.connected();
    let sent = drain(&mut outbox);
    assert_eq!((sent.len(), &*sent[0].topic, sent[0].payload.len()), (1, "print", 95));
}

#[test]
fn a_lane_whose_only_event_was_dropped_does_not_block_others() {
    let mut outbox = Outbox::new(Bounds { max_events: 1, ..BOUNDS });
    outbox.persist_events();
    outbox.connected();
    outbox.push(publication(1, "plugin", "1", Kind::MESSAGE));
    outbox.push(publication(2, "e", "2", EVENT));
    // It evicts the plugin's message, and waits for the disk.
    outbox.push(Publication { along: Some("x".into()), ..publication(1, "end", "3", PRINT) });
    assert_eq!(texts(&drain(&mut outbox)), ["e 2"]);
}
