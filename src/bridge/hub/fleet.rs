//! Publishes `B/bridge/fleet`, from what the printers' tasks report.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::bridge::fleet::Fleet;
use crate::bridge::fleet_report::FleetReport;
use crate::clock::{self, sleep_until};
use crate::mqtt::{Broker, Kind, OWN_LANE, Publication};
use crate::topics::Topic;

/// Minimum time between two publications.
const INTERVAL: Duration = Duration::from_secs(1);

/// Counts what the printers report.
pub(crate) struct FleetTask {
    fleet: Fleet,
    reports: mpsc::UnboundedReceiver<FleetReport>,
}

impl FleetTask {
    /// Returns the task, and where it takes reports.
    pub(crate) fn new() -> (Self, mpsc::UnboundedSender<FleetReport>) {
        let (sender, reports) = mpsc::unbounded_channel();
        (Self { fleet: Fleet::default(), reports }, sender)
    }

    /// Publishes on `topic` until all reporters are gone.
    pub(crate) async fn publish(self, broker: Broker, topic: Topic) {
        self.run(move |payload| {
            broker.publish(Publication::new(OWN_LANE, topic.clone(), payload, Kind::State));
        })
        .await;
    }

    fn take(&mut self, report: FleetReport) {
        match report {
            FleetReport::Joined(number, id, name) => self.fleet.join(number, id, name),
            FleetReport::Works(number, duty) => self.fleet.apply(number, duty),
            FleetReport::Left(number) => self.fleet.leave(number),
        }
    }

    /// Passes payloads to `publish`, the first at once, then when they change, until all reporters
    /// are gone; not more than one a second, but for the last.
    async fn run(mut self, mut publish: impl FnMut(Vec<u8>)) {
        // The printers of the configuration.
        while let Ok(report) = self.reports.try_recv() {
            self.take(report);
        }
        let mut published = self.fleet.payload();
        publish(published.clone());
        let mut published_at = clock::now();
        let mut due: Option<Instant> = None;
        loop {
            let is_open = tokio::select! {
                report = self.reports.recv() => match report {
                    Some(report) => {
                        self.take(report);
                        due.get_or_insert(published_at + INTERVAL);
                        continue;
                    }
                    None => false,
                },
                () = sleep_until(due), if due.is_some() => true,
            };
            let payload = self.fleet.payload();
            if payload != published {
                published.clone_from(&payload);
                publish(payload);
                published_at = clock::now();
            }
            if !is_open {
                return;
            }
            due = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::bridge::fleet::{Duty, Occupation};
    use crate::bridge::fleet_report::FleetReporter;

    struct World {
        reporters: Vec<FleetReporter>,
        published: mpsc::UnboundedReceiver<(Duration, Value)>,
        task: tokio::task::JoinHandle<()>,
        start: Instant,
    }

    impl World {
        fn new() -> Self {
            let (task, reports) = FleetTask::new();
            let reporters = ["a", "b"].iter().enumerate().map(|(number, id)| {
                let name = id.to_uppercase();
                reports.send(FleetReport::Joined(number, (*id).to_owned(), name)).unwrap();
                FleetReporter::new(number, reports.clone())
            });
            let reporters = reporters.collect();
            let (sender, published) = mpsc::unbounded_channel();
            let start = clock::now();
            let publish = move |payload: Vec<u8>| {
                let payload = serde_json::from_slice(&payload).unwrap();
                let _ = sender.send((clock::now() - start, payload));
            };
            Self { reporters, published, task: tokio::spawn(task.run(publish)), start }
        }

        fn report(&mut self, index: usize, occupation: Occupation) {
            self.reporters[index].report(Duty { occupation, finish_time: None });
        }

        /// Milliseconds since the start and the numbers of idle and printing printers.
        async fn next(&mut self) -> (u128, u64, u64) {
            let (at, payload) = self.published.recv().await.unwrap();
            let count = |word: &str| payload[word].as_u64().unwrap();
            (at.as_millis(), count("idle"), count("printing"))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn changes_are_published_at_once_and_not_more_than_once_a_second() {
        let mut world = World::new();
        assert_eq!(world.next().await, (0, 0, 0), "at the start");
        tokio::time::sleep(Duration::from_secs(5)).await;
        world.report(0, Occupation::Idle);
        assert_eq!(world.next().await, (5_000, 1, 0), "at once");
        for _ in 0..50 {
            world.report(0, Occupation::Printing);
            tokio::time::sleep(Duration::from_millis(5)).await;
            world.report(1, Occupation::Idle);
            world.report(0, Occupation::Idle);
        }
        assert_eq!(world.next().await, (6_000, 2, 0), "together");
        // What is as it was is not published again.
        world.report(0, Occupation::Printing);
        world.report(0, Occupation::Idle);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(world.published.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn when_the_printers_have_ended_the_last_state_is_published_at_once() {
        let mut world = World::new();
        world.next().await;
        world.report(0, Occupation::Printing);
        assert_eq!(world.next().await, (1_000, 0, 1));
        world.report(0, Occupation::Offline);
        world.reporters.clear();
        assert_eq!(world.next().await, (1_000, 0, 0));
        world.task.await.unwrap();
        assert_eq!(clock::now() - world.start, Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_printer_reports_changes_alone() {
        let (mut task, reports) = FleetTask::new();
        let mut reporter = FleetReporter::new(0, reports);
        let idle = Duty { occupation: Occupation::Idle, finish_time: None };
        (0..1_000).for_each(|_| reporter.report(idle));
        assert_eq!(task.reports.try_recv(), Ok(FleetReport::Works(0, idle)));
        assert!(task.reports.try_recv().is_err());
    }
}
