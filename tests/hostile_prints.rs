//! The whole bridge against an OctoPrint whose prints start, pause and end in every way, whose line
//! breaks, whose clock is set, and which sends noise besides: what is published of its prints is the
//! truth. Sessions are drawn from fixed seeds and run in simulated time.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test that cannot go on has failed, and nothing is above this crate"
)]

mod hostile;

use hostile::prints::run;

const SESSIONS: u64 = 120;

#[test]
fn what_is_published_of_prints_is_true() {
    let (first, count) = match std::env::var("HOSTILE_SEEDS") {
        // Others than the fixed ones: `from+count`.
        Ok(seeds) => {
            let (first, count) = seeds.split_once('+').unwrap();
            (first.parse().unwrap(), count.parse().unwrap())
        }
        Err(_) => (0, SESSIONS),
    };
    let (mut prints, mut ends, mut recovered, mut connections) = (0, 0, 0, 0);
    let (mut pushes, mut published) = (0, 0);
    for seed in first..first + count {
        let mut random = fastrand::Rng::with_seed(seed);
        let length = random.usize(20..150);
        let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
        let story = std::panic::catch_unwind(|| run(&bytes));
        let story = story.unwrap_or_else(|_| panic!("in the session of seed {seed}"));
        prints += story.prints;
        ends += story.ends;
        recovered += story.recovered;
        connections += story.connections;
        pushes += story.pushes;
        published += story.published;
    }
    println!(
        "{count} sessions: {prints} prints, {ends} ends told, {recovered} of them recovered, {connections} connections, {pushes} pushes, {published} publications"
    );
    // Much is seen.
    let sessions = usize::try_from(count).unwrap();
    assert!(prints > sessions && ends > sessions && recovered > sessions / 4);
    assert!(connections > 2 * sessions && published > 10 * sessions);
}
