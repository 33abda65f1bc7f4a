//! The time left by the slicer's estimate (pure).

/// What the slicer's time tells about a print.
#[derive(Debug, Clone, Copy)]
pub(super) struct SlicerEstimate {
    /// The slicer's time for the whole print, in seconds.
    pub(super) total: f64,
    /// The part that is printed, from 0 to 1.
    pub(super) done: f64,
    /// How long that took, in seconds.
    pub(super) spent: f64,
}

impl SlicerEstimate {
    /// Returns the time left in seconds: the slicer's time for what is left, scaled by how much
    /// longer than its time the print took so far. The more is printed, the more that counts: at the
    /// start, most of it is heating.
    pub(super) fn left(self) -> i64 {
        let Self { total, done, spent } = self;
        let (printed, left) = (total * done, total * (1.0 - done));
        let ratio = if printed > 0.0 { (spent / printed).clamp(0.5, 2.0) } else { 1.0 };
        // Within bounds, as both factors are.
        (left * (1.0 + done * (ratio - 1.0))).round() as i64
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant, UNIX_EPOCH};

    use serde_json::{Value, json};

    use super::super::{FileId, Now, Snapshot, StateTopic};
    use super::*;

    #[test]
    fn the_slicers_time_is_scaled_by_what_the_print_took() {
        let left = |done, spent| SlicerEstimate { total: 3600.0, done, spent }.left();
        assert_eq!(left(0.0, 0.0), 3600);
        assert_eq!(left(0.0, 300.0), 3600, "heating");
        assert_eq!(left(0.01, 336.0), 3600, "heating counts little");
        assert_eq!(left(0.5, 1800.0), 1800);
        assert_eq!(left(0.5, 2700.0), 2250, "half of half as long again");
        assert_eq!(left(0.9, 4860.0), 522);
        assert_eq!(left(0.5, 1e9), 2700, "an absurd time counts twice at most");
        assert_eq!(left(1.0, 5000.0), 0);
    }

    #[test]
    fn a_guess_gives_way_to_the_slicer_and_an_analysis_does_not() {
        let mut snapshot = Snapshot::new();
        let file = || FileId { origin: "local".to_owned(), path: "a.gcode".to_owned() };
        let mut published = Value::Null;
        let mut seconds = 0;
        let mut seen =
            |snapshot: &mut Snapshot, state: &str, path: &str, left: Value, of: Value| {
                let message = json!({"state": {"text": state}, "progress": {"completion": 50.0,
                "printTime": 1800, "printTimeLeft": left, "printTimeLeftOrigin": of},
                "job": {"file": {"origin": "local", "path": path}}});
                seconds += 100;
                let instant = Instant::now() + Duration::from_secs(seconds);
                let now = Now { instant, wall: UNIX_EPOCH + Duration::from_secs(seconds) };
                for change in snapshot.apply(&message.to_string(), now).unwrap() {
                    if change.topic == StateTopic::Progress {
                        published = serde_json::from_slice(&change.payload).unwrap();
                    }
                }
                let published = &published;
                (published["print_time_left"].clone(), published["print_time_left_origin"].clone())
            };
        let linear = (json!(9999), json!("linear"));
        let slicer = (json!(1800), json!("slicer"));
        let mut case =
            |snapshot: &mut Snapshot, state: &str, path: &str, (left, of): &(Value, Value)| {
                seen(snapshot, state, path, left.clone(), of.clone())
            };
        assert_eq!(case(&mut snapshot, "Printing", "a.gcode", &linear), linear);
        snapshot.set_slicer_time(file(), Some(3600.0));
        assert_eq!(case(&mut snapshot, "Printing", "a.gcode", &linear), slicer);
        let nothing = (Value::Null, Value::Null);
        assert_eq!(case(&mut snapshot, "Printing", "a.gcode", &nothing), slicer);
        let analysis = (json!(77), json!("analysis"));
        assert_eq!(case(&mut snapshot, "Printing", "a.gcode", &analysis), analysis);
        assert_eq!(case(&mut snapshot, "Printing", "b.gcode", &linear), linear, "another file");
        assert_eq!(case(&mut snapshot, "Operational", "a.gcode", &linear), linear);
        snapshot.set_slicer_time(file(), None);
        assert_eq!(case(&mut snapshot, "Printing", "a.gcode", &linear), linear);
    }
}
