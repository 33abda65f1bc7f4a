//! Home Assistant's presence, case by case, in simulated time.

use proptest::prelude::*;

use super::*;

const WAIT: Duration = Duration::from_secs(600);
const SEEN: PresenceRecord = PresenceRecord { seen: true, away: false, given_up: false };

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A presence and its clock.
struct World {
    presence: Presence,
    now: Instant,
    /// How often discovery and state were republished.
    republished: u32,
}

impl World {
    fn new(record: PresenceRecord) -> Self {
        let presence = Presence::new(WAIT, record);
        Self { presence, now: Instant::now(), republished: 0 }
    }

    /// With a Home Assistant that is present, and a broker that has been up for long.
    fn seen() -> Self {
        let mut world = Self::new(SEEN);
        world.connect(Some(9999), false);
        assert!(world.present());
        world
    }

    fn connect(&mut self, uptime: Option<u64>, restarted: bool) {
        let uptime = uptime.map(seconds);
        self.presence.subscribed(Subscribed { uptime, restarted }, self.now);
    }

    fn birth(&mut self) {
        self.presence.hear(LifeSign::Birth, false, self.now);
    }

    fn will(&mut self) {
        self.presence.hear(LifeSign::Will, false, self.now);
    }

    fn present(&mut self) -> bool {
        let status = self.presence.status(self.now);
        self.republished += u32::from(status.republish);
        status.present
    }

    /// Lets time pass as the broker's connection does: from one due time to the next.
    fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let due = self.presence.status(self.now);
            self.republished += u32::from(due.republish);
            match due.due.filter(|due| *due <= end) {
                Some(due) => self.now = self.now.max(due),
                None => break,
            }
        }
        self.now = end;
    }

    /// How long print events wait from now on, in seconds; `None`: longer than an hour.
    fn waits(&mut self) -> Option<u64> {
        (0..3600).find(|_| {
            let present = self.present();
            if !present {
                self.pass(seconds(1));
            }
            present
        })
    }
}

#[test]
fn a_home_assistant_that_was_never_seen_is_not_waited_for() {
    let mut world = World::new(PresenceRecord::default());
    for (uptime, restarted) in [(Some(0), true), (None, true), (Some(50), true), (Some(0), false)] {
        world.connect(uptime, restarted);
        assert!(world.present());
    }
    assert_eq!(world.presence.word(), "unknown");
    // A retained birth may be of any age.
    world.presence.hear(LifeSign::Birth, true, world.now);
    world.connect(Some(0), true);
    assert!(world.present());
    assert_eq!(world.presence.record(), PresenceRecord::default());
}

#[test]
fn a_birth_is_remembered_and_causes_one_republication() {
    let mut world = World::new(PresenceRecord::default());
    world.connect(Some(9999), false);
    world.birth();
    world.pass(seconds(1) / 10);
    world.birth();
    assert!(world.present(), "nothing waited, so nothing starts to wait");
    world.pass(seconds(5));
    assert_eq!((world.republished, world.presence.record()), (1, SEEN));
}

#[test]
fn after_its_will_it_is_awaited_until_its_birth_and_discovery() {
    let mut world = World::seen();
    world.will();
    assert_eq!((world.present(), world.presence.word()), (false, "away"));
    world.pass(seconds(300));
    assert!(!world.present());
    world.birth();
    world.pass(seconds(1));
    assert_eq!((world.present(), world.republished), (false, 1), "discovery comes first");
    world.pass(seconds(3));
    assert!(!world.present(), "the broker has not acknowledged it yet");
    world.presence.announced(world.now);
    assert_eq!(world.waits(), Some(2));
    assert_eq!(world.presence.word(), "online");
}

#[test]
fn a_birth_at_the_end_of_the_wait_still_puts_discovery_before_print_events() {
    let mut world = World::seen();
    world.will();
    world.pass(seconds(599));
    world.birth();
    world.pass(seconds(2));
    assert_eq!((world.present(), world.republished), (false, 1));
    world.pass(seconds(8));
    assert!(!world.present(), "the broker has not acknowledged discovery yet");
    world.presence.announced(world.now);
    assert_eq!(world.waits(), Some(2));
}

#[test]
fn births_merge_and_the_last_one_counts() {
    let mut world = World::seen();
    world.will();
    world.birth();
    world.pass(seconds(1));
    world.presence.announced(world.now);
    world.pass(seconds(1));
    world.birth();
    world.pass(seconds(1));
    assert!(!world.present());
    assert_eq!(world.republished, 2);
    world.presence.announced(world.now);
    assert_eq!(world.waits(), Some(2));
}

#[test]
fn after_the_start_of_the_broker_it_is_certainly_away() {
    let mut world = World::seen();
    world.connect(Some(0), true);
    assert_eq!((world.present(), world.presence.word()), (false, "away"));
    assert_eq!(world.waits(), Some(600));
}

#[test]
fn after_a_birth_a_short_disconnection_from_a_young_broker_leaves_it_perhaps_away() {
    let mut world = World::seen();
    world.connect(Some(0), true);
    world.pass(seconds(8));
    world.birth();
    world.pass(seconds(1));
    world.presence.announced(world.now);
    assert_eq!(world.waits(), Some(2));
    // The connection is lost for a moment, and the broker's uptime is ten seconds old.
    world.connect(Some(0), true);
    assert_eq!(world.presence.word(), "perhaps_away");
    assert_eq!(world.waits(), Some(120));
}

#[test]
fn after_a_restart_that_was_noticed_late_it_is_perhaps_away_for_two_minutes() {
    for uptime in [Some(10), Some(40), None] {
        let mut world = World::seen();
        world.connect(uptime, true);
        assert_eq!((world.present(), world.presence.word()), (false, "perhaps_away"));
        assert_eq!(world.waits(), Some(120));
        assert_eq!(world.presence.word(), "given_up");
    }
}

#[test]
fn a_reconnection_of_the_bridge_alone_makes_nothing_wait() {
    let mut world = World::seen();
    world.connect(Some(500), false);
    assert!(world.present());
}

#[test]
fn a_wait_that_timed_out_is_not_repeated_until_a_birth() {
    let mut world = World::seen();
    world.will();
    assert_eq!(world.waits(), Some(600));
    world.will();
    assert!(world.present());
    world.connect(Some(0), true);
    assert!(world.present());
    // Nor after a restart of the bridge.
    let mut after = World::new(world.presence.record());
    after.connect(Some(0), true);
    after.presence.hear(LifeSign::Will, true, after.now);
    assert!(after.present());
    after.birth();
    after.pass(seconds(10));
    after.will();
    assert_eq!(after.waits(), Some(600));
}

#[test]
fn a_gap_makes_an_absence_uncertain_and_does_not_extend_its_wait() {
    let mut world = World::seen();
    world.will();
    world.pass(seconds(60));
    world.connect(Some(9999), false);
    assert_eq!(world.presence.word(), "perhaps_away");
    assert_eq!(world.waits(), Some(120));
    let mut world = World::seen();
    world.will();
    world.pass(seconds(590));
    world.connect(Some(9999), false);
    assert_eq!(world.waits(), Some(10), "it counts from the will");
    // Reconnecting again and again does not extend it either.
    let mut world = World::seen();
    world.will();
    for _ in 0..12 {
        world.pass(seconds(50));
        world.connect(Some(9999), false);
    }
    assert!(world.present());
}

#[test]
fn after_a_persisted_will_it_is_awaited_for_two_minutes_at_the_start() {
    let mut world = World::new(PresenceRecord { away: true, ..SEEN });
    assert!(world.present(), "before there is a connection nothing is sent anyway");
    world.connect(Some(9999), false);
    assert_eq!(world.waits(), Some(120));
}

#[test]
fn after_a_restart_of_the_host_it_is_awaited() {
    let mut world = World::new(SEEN);
    world.connect(Some(5), true);
    assert_eq!(world.waits(), Some(600));
    let mut world = World::new(SEEN);
    world.connect(Some(60), true);
    world.pass(seconds(55));
    assert!(!world.present());
    world.birth();
    world.pass(seconds(1));
    world.presence.announced(world.now);
    assert_eq!(world.waits(), Some(2));
}

#[test]
fn a_retained_will_is_a_will_and_counts_from_the_start_of_the_wait() {
    let mut world = World::new(PresenceRecord::default());
    world.connect(Some(9999), false);
    world.presence.hear(LifeSign::Will, true, world.now);
    assert_eq!(world.presence.word(), "away");
    world.pass(seconds(100));
    world.connect(Some(9999), false);
    world.presence.hear(LifeSign::Will, true, world.now);
    assert_eq!(world.waits(), Some(500));
}

#[test]
fn a_gap_while_it_returns_starts_again_with_discovery() {
    let mut world = World::seen();
    world.will();
    world.birth();
    world.pass(seconds(1));
    world.connect(Some(9999), false);
    world.presence.announced(world.now);
    assert!(!world.present(), "the announcement from before the gap does not count");
    world.pass(seconds(1));
    assert_eq!(world.republished, 2);
    world.presence.announced(world.now);
    assert_eq!(world.waits(), Some(2));
    // A broker that never acknowledges discovery does not hold back events for ever.
    world.will();
    world.birth();
    assert_eq!(world.waits(), Some(600));
    assert!(!world.presence.record().given_up, "it was seen");
}

#[test]
fn a_wait_of_zero_disables_waiting() {
    let mut presence = Presence::new(Duration::ZERO, SEEN);
    let now = Instant::now();
    presence.hear(LifeSign::Will, false, now);
    presence.subscribed(Subscribed { uptime: Some(seconds(0)), restarted: true }, now);
    assert!(presence.status(now).present);
    presence.hear(LifeSign::Birth, false, now);
    assert!(presence.status(now + seconds(1)).republish, "everything is still republished");
}

proptest! {
    /// Print events never wait for longer than the configured time after the last loss, and due
    /// times are in the future.
    #[test]
    fn no_wait_is_endless(steps in prop::collection::vec((0u8..8, 0u64..400), 1..60)) {
        let mut world = World::new(SEEN);
        let mut waiting_since: Option<Instant> = None;
        for (step, pause) in steps {
            let awaited = matches!(world.presence.word(), "away" | "perhaps_away");
            match step {
                0 => world.birth(),
                1 => world.will(),
                2 => world.presence.hear(LifeSign::Will, true, world.now),
                3 => world.connect(Some(9999), false),
                4 => world.presence.announced(world.now),
                5 => world.presence.hear(LifeSign::Birth, true, world.now),
                _ => {}
            }
            let fresh = matches!(step, 0..=1) || (step == 2 && !awaited);
            let status = world.presence.status(world.now);
            if let Some(due) = status.due {
                prop_assert!(due > world.now || status.republish);
            }
            prop_assert!(status.present || status.due.is_some());
            if status.present {
                waiting_since = None;
            } else if fresh || waiting_since.is_none() {
                waiting_since = Some(world.now);
            }
            if let Some(since) = waiting_since {
                prop_assert!(world.now <= since + WAIT);
            }
            world.pass(seconds(pause));
        }
    }
}
