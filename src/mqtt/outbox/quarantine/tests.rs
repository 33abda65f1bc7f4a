//! The quarantine against brokers that end connections for many reasons.

use proptest::prelude::*;

use super::*;

fn event(sequence: u64, at: Instant) -> InFlightMessage {
    let token = Token { lane: 1, slot: Slot::Event { sequence } };
    InFlightMessage { token, topic: format!("o/mk3/event/{sequence}").into(), bytes: 100, at }
}

fn state(version: u64, at: Instant) -> InFlightMessage {
    let token = Token { lane: 0, slot: Slot::State { index: 1, version } };
    InFlightMessage { token, topic: "o/bridge/info".into(), bytes: 100, at }
}

const BY_BROKER: EndCause = EndCause::ByBroker { soon: true };

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// One quarantine and its clock.
struct Bench {
    quarantine: Quarantine,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self { quarantine: Quarantine::default(), now: Instant::now() }
    }

    /// Two connections in a row have ended with these in flight.
    fn suspected(in_flight: impl Fn(Instant) -> Vec<InFlightMessage>) -> Self {
        let mut bench = Self::new();
        for _ in 0..2 {
            bench.life(&in_flight);
        }
        assert!(bench.quarantine.is_suspicious());
        bench
    }

    /// A connection on which another message is acknowledged before the broker ends it.
    fn life(&mut self, in_flight: impl Fn(Instant) -> Vec<InFlightMessage>) -> SuspectedCause {
        self.life_with(BY_BROKER, ms(10), ms(10), in_flight)
    }

    fn life_with(
        &mut self,
        end: EndCause,
        before: Duration,
        after: Duration,
        in_flight: impl Fn(Instant) -> Vec<InFlightMessage>,
    ) -> SuspectedCause {
        self.quarantine.connected();
        self.quarantine.acknowledged(|| None, self.now);
        let sent_at = self.now + before;
        self.now = sent_at + after;
        self.quarantine.ended(end, &in_flight(sent_at), self.now)
    }

    fn rejection(&mut self) -> Option<(Token, RejectAction)> {
        let rejection = self.quarantine.rejection(self.now)?;
        Some((rejection.message.token, rejection.action))
    }
}

#[test]
fn the_one_that_ends_each_connection_is_stripped_and_then_dropped() {
    let mut bench = Bench::suspected(|at| (0..50).map(|n| event(n, at)).collect());
    assert!(bench.quarantine.may_send(0) && !bench.quarantine.may_send(1));
    let token = event(7, bench.now).token;
    for action in [RejectAction::Strip, RejectAction::Drop] {
        assert_eq!(bench.life(|at| vec![event(7, at)]), SuspectedCause::Message);
        assert_eq!(bench.rejection(), None, "once is not enough");
        bench.life(|at| vec![event(7, at)]);
        assert_eq!(bench.rejection(), Some((token, action)));
        assert_eq!(bench.rejection(), None);
    }
}

#[test]
fn suspicion_ends_when_all_suspects_are_acknowledged() {
    let mut bench = Bench::suspected(|at| vec![event(1, at), event(2, at)]);
    let now = bench.now;
    bench.quarantine.connected();
    for sequence in [1, 2] {
        assert!(bench.quarantine.is_suspicious());
        let one = event(sequence, now);
        bench.quarantine.acknowledged(|| Some(Suspect::new(one.token, &one.topic)), now);
    }
    assert!(!bench.quarantine.is_suspicious() && bench.quarantine.may_send(99));
}

#[test]
fn suspicion_ends_when_a_connection_lasts_on_which_nothing_is_held_back() {
    let mut bench = Bench::suspected(|at| vec![event(1, at)]);
    bench.quarantine.connected();
    let other = event(9, bench.now);
    let suspect = || Some(Suspect::new(other.token, &other.topic));
    bench.quarantine.acknowledged(suspect, bench.now + HELD);
    assert!(bench.quarantine.is_suspicious(), "what is suspected may not have been sent yet");
    bench.quarantine.opened(bench.now);
    bench.quarantine.opened(bench.now + ms(5));
    bench.quarantine.acknowledged(suspect, bench.now + HELD - ms(1));
    assert!(bench.quarantine.is_suspicious());
    bench.quarantine.acknowledged(suspect, bench.now + HELD);
    assert!(!bench.quarantine.is_suspicious());
}

#[test]
fn each_proof_that_ends_its_connection_is_followed_by_another_one() {
    let mut bench = Bench::suspected(|at| vec![state(1, at)]);
    assert_eq!(bench.quarantine.proof(), 0);
    for failed in 1..3 {
        bench.quarantine.connected();
        bench.quarantine.ended(BY_BROKER, &[state(1, bench.now)], bench.now);
        assert_eq!(bench.quarantine.proof(), failed);
    }
    bench.quarantine.connected();
    bench.quarantine.acknowledged(|| None, bench.now);
    assert_eq!(bench.quarantine.proof(), 2, "one that is acknowledged is used again");
}

#[test]
fn inconclusive_ends_reject_nothing() {
    type Life = fn(&mut Bench);
    let lives: [(&str, Life); 8] = [
        ("not alone", |b| {
            b.life(|at| vec![event(1, at), event(2, at)]);
        }),
        ("another one", |b| {
            b.life(|at| vec![event(2, at)]);
        }),
        ("nothing in flight", |b| {
            b.life(|_| Vec::new());
        }),
        ("long after the hand-over", |b| {
            b.life_with(BY_BROKER, ms(10), SOON + ms(1), |at| vec![event(1, at)]);
        }),
        ("long after the last acknowledgement", |b| {
            b.life_with(BY_BROKER, FRESH + ms(1), ms(10), |at| vec![event(1, at)]);
        }),
        ("not by the broker", |b| {
            b.life_with(EndCause::Otherwise, ms(10), ms(10), |at| vec![event(1, at)]);
        }),
        ("the broker was away", |b| {
            b.quarantine.ended(EndCause::Unreachable, &[], b.now);
        }),
        ("the broker was restarted", |b| b.quarantine.broker_restarted()),
    ];
    for (why, life) in lives {
        let mut bench = Bench::suspected(|at| vec![event(1, at), event(2, at)]);
        bench.life(|at| vec![event(1, at)]);
        life(&mut bench);
        assert_eq!(bench.rejection(), None, "{why}");
        bench.life(|at| vec![event(1, at)]);
        assert_eq!(bench.rejection(), None, "{why}: not twice in a row");
        bench.life(|at| vec![event(1, at)]);
        assert!(bench.rejection().is_some(), "{why}: twice in a row");
    }
}

#[test]
fn an_acknowledgement_clears_the_accused() {
    let mut bench = Bench::suspected(|at| vec![event(1, at), event(2, at)]);
    bench.life(|at| vec![event(1, at)]);
    let one = event(1, bench.now);
    bench.quarantine.acknowledged(|| Some(Suspect::new(one.token, &one.topic)), bench.now);
    bench.life(|at| vec![event(1, at)]);
    assert_eq!(bench.rejection(), None);
}

#[test]
fn different_messages_at_two_ends_are_no_suspects() {
    let mut bench = Bench::new();
    for sequence in 0..50 {
        bench.life(|at| vec![event(sequence, at)]);
        assert!(!bench.quarantine.is_suspicious());
    }
}

#[test]
fn a_topic_that_is_rejected_even_empty_is_banned_for_an_hour() {
    // Each version of a state is a new message on the same topic.
    let mut bench = Bench::suspected(|at| vec![state(1, at), event(1, at)]);
    let topic = state(1, bench.now).topic;
    for (version, action) in [(2, RejectAction::Strip), (4, RejectAction::Drop)] {
        assert!(!bench.quarantine.is_banned(&topic, bench.now));
        bench.life(|at| vec![state(version, at)]);
        bench.life(|at| vec![state(version + 1, at)]);
        assert_eq!(bench.rejection(), Some((state(version + 1, bench.now).token, action)));
    }
    assert!(bench.quarantine.is_banned(&topic, bench.now + BANNED - ms(1)));
    assert!(!bench.quarantine.is_banned(&topic, bench.now + BANNED));
}

#[test]
fn another_client_is_likely_only_after_two_ends_with_nothing_in_flight() {
    let mut bench = Bench::new();
    assert_eq!(bench.life(|_| Vec::new()), SuspectedCause::Unknown);
    assert_eq!(bench.life(|_| Vec::new()), SuspectedCause::AnotherClient);
    assert_eq!(bench.life(|at| vec![event(1, at)]), SuspectedCause::Unknown);
    assert_eq!(bench.life(|_| Vec::new()), SuspectedCause::Unknown);
    let late = EndCause::ByBroker { soon: false };
    assert_eq!(bench.life_with(late, ms(10), ms(10), |_| Vec::new()), SuspectedCause::Unknown);
    assert_eq!(bench.life(|_| Vec::new()), SuspectedCause::Unknown);
}

/// A bridge with a hundred events.
struct Simulation {
    bench: Bench,
    /// `None` for an event without its payload.
    waiting: Vec<(u64, Option<()>)>,
    delivered: Vec<u64>,
    stripped: Vec<u64>,
    dropped: Vec<u64>,
}

/// What the broker does on one connection.
#[derive(Debug, Clone, Copy)]
enum Life {
    /// It stops after that many acknowledgements, and an attempt finds it unreachable.
    Stops(usize),
    /// The same, but it is back before an attempt; its uptime shows the restart.
    Restarts(usize),
    /// It stops acknowledging until the bridge gives up.
    Freezes(usize),
    /// It stops acknowledging and is killed after that many seconds.
    FreezesAndIsKilled(usize, u64),
    /// The network breaks.
    Breaks(usize),
}

impl Simulation {
    fn new() -> Self {
        Self {
            bench: Bench::new(),
            waiting: (0..100).map(|sequence| (sequence, Some(()))).collect(),
            delivered: Vec::new(),
            stripped: Vec::new(),
            dropped: Vec::new(),
        }
    }

    /// One connection: acknowledges until the broker refuses a message or has had `most`. Returns
    /// the messages then in flight.
    fn serve(&mut self, most: usize, refuses: impl Fn(u64, bool) -> bool) -> Vec<InFlightMessage> {
        let bench = &mut self.bench;
        bench.quarantine.connected();
        if let Some(rejection) = bench.quarantine.rejection(bench.now) {
            let Slot::Event { sequence } = rejection.message.token.slot else { unreachable!() };
            let place = self.waiting.iter().position(|(n, _)| *n == sequence).unwrap();
            match rejection.action {
                RejectAction::Strip => {
                    self.waiting[place].1 = None;
                    self.stripped.push(sequence);
                }
                RejectAction::Drop => {
                    self.waiting.remove(place);
                    self.dropped.push(sequence);
                }
            }
        }
        // The bridge's own state comes first.
        bench.quarantine.acknowledged(|| None, bench.now);
        let window = if bench.quarantine.is_suspicious() { 1 } else { 10 };
        for _ in 0..most {
            let Some(&(sequence, payload)) = self.waiting.first() else { break };
            if refuses(sequence, payload.is_some()) {
                break;
            }
            bench.now += ms(1);
            let one = event(sequence, bench.now);
            bench.quarantine.acknowledged(|| Some(Suspect::new(one.token, &one.topic)), bench.now);
            self.waiting.remove(0);
            self.delivered.push(sequence);
        }
        let now = bench.now;
        self.waiting.iter().take(window).map(|(sequence, _)| event(*sequence, now)).collect()
    }

    fn live(&mut self, life: Life) {
        let (most, end, after) = match life {
            Life::Stops(most) | Life::Restarts(most) => (most, BY_BROKER, ms(1)),
            Life::Freezes(most) => (most, EndCause::Otherwise, Duration::from_secs(30)),
            Life::FreezesAndIsKilled(most, seconds) => {
                (most, BY_BROKER, SOON + Duration::from_secs(seconds))
            }
            Life::Breaks(most) => (most, EndCause::Otherwise, ms(1)),
        };
        let in_flight = self.serve(most, |_, _| false);
        self.bench.now += after;
        self.bench.quarantine.ended(end, &in_flight, self.bench.now);
        match life {
            Life::Stops(_) => {
                self.bench.quarantine.ended(EndCause::Unreachable, &[], self.bench.now);
            }
            Life::Restarts(_) => self.bench.quarantine.broker_restarted(),
            _ => {}
        }
    }
}

fn lives() -> impl Strategy<Value = Life> {
    // Mostly 0, so that the same messages are in flight again and again.
    let most = prop_oneof![3 => Just(0_usize), 1 => 0..5_usize];
    (0..5_u8, most, 1..20_u64).prop_map(|(kind, most, seconds)| match kind {
        0 => Life::Stops(most),
        1 => Life::Restarts(most),
        2 => Life::Freezes(most),
        3 => Life::FreezesAndIsKilled(most, seconds),
        _ => Life::Breaks(most),
    })
}

proptest! {
    #[test]
    fn a_broker_that_is_restarted_or_freezes_costs_no_message(
        lives in prop::collection::vec(lives(), 50),
    ) {
        let mut simulation = Simulation::new();
        for life in lives {
            simulation.live(life);
        }
        prop_assert!(simulation.stripped.is_empty() && simulation.dropped.is_empty());
        let rest = simulation.serve(usize::MAX, |_, _| false);
        prop_assert!(rest.is_empty());
        prop_assert_eq!(simulation.delivered, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn bad_messages_cost_themselves_alone(
        bad in prop::collection::btree_map(0..100_u64, any::<bool>(), 1..5),
        lives in prop::collection::vec(lives(), 0..5),
    ) {
        let mut simulation = Simulation::new();
        for life in lives {
            simulation.live(life);
        }
        // `true`: the broker accepts it without its payload.
        let refuses = |sequence, whole| bad.get(&sequence).is_some_and(|empty| whole || !empty);
        let mut connections = 0;
        while !simulation.waiting.is_empty() {
            let in_flight = simulation.serve(usize::MAX, refuses);
            if !in_flight.is_empty() {
                simulation.bench.now += ms(1);
                simulation.bench.quarantine.ended(BY_BROKER, &in_flight, simulation.bench.now);
            }
            connections += 1;
            prop_assert!(connections <= 7 * bad.len() + 3, "{} left", simulation.waiting.len());
        }
        // An earlier life may have delivered a bad one.
        for sequence in simulation.stripped.iter().chain(&simulation.dropped) {
            prop_assert!(bad.contains_key(sequence));
        }
        let mut all = [simulation.delivered, simulation.dropped].concat();
        all.sort_unstable();
        prop_assert_eq!(all, (0..100).collect::<Vec<_>>());
    }
}
