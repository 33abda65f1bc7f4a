//! The yardstick: a bare rumqttc publisher of the same payloads, in a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rumqttc::{AsyncClient, Event, EventLoop, Packet, QoS};

use crate::broker::{self, BASE};
use crate::frames::{self, Moving, Recorded, VALUES};
use crate::sent::{Latency, Sent};

/// Latency of the bare path: each of `printers` publishes every `interval` what the bridge would.
pub fn latency(
    port: u16,
    printers: usize,
    (terminal, moving): (bool, Moving),
    interval: Duration,
    span: Duration,
    sent: Arc<Sent>,
) -> Latency {
    in_a_thread(move || async move {
        let (client, events) = broker::client(port, "bare");
        tokio::spawn(acknowledged(events, Arc::default()));
        let recorded = Arc::new(Recorded::printing(terminal));
        for printer in 0..printers {
            let (client, recorded, sent) = (client.clone(), recorded.clone(), sent.clone());
            tokio::spawn(async move {
                tokio::time::sleep(interval.mul_f64(fastrand::f64())).await;
                let mut beat = tokio::time::interval(interval);
                for sequence in 1.. {
                    beat.tick().await;
                    sent.leaves(printer, sequence);
                    publish(&client, printer, &recorded, sequence, moving).await;
                }
            });
        }
        tokio::time::sleep(interval * 2).await;
        sent.measure(span).await
    })
}

/// How many publications a second the bare publisher gets acknowledged, of the same payloads.
pub fn throughput(
    port: u16,
    printers: usize,
    (terminal, moving): (bool, Moving),
    span: Duration,
) -> f64 {
    in_a_thread(move || async move {
        let (client, events) = broker::client(port, "bare");
        let acknowledgements = Arc::new(AtomicU64::new(0));
        tokio::spawn(acknowledged(events, acknowledgements.clone()));
        tokio::spawn(async move {
            let (topics, payloads) = prepared(printers, terminal, moving);
            for number in 0.. {
                let payloads = &payloads[number / printers % payloads.len()];
                for ((topic, retain), payload) in topics[number % printers].iter().zip(payloads) {
                    let (topic, payload) = (topic.as_str(), payload.as_slice());
                    let published = client.publish(topic, QoS::AtLeastOnce, *retain, payload).await;
                    published.expect("the client lives as long as its runtime");
                }
            }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (before, started) = (acknowledgements.load(Ordering::Relaxed), Instant::now());
        tokio::time::sleep(span).await;
        let count = acknowledgements.load(Ordering::Relaxed) - before;
        count as f64 / started.elapsed().as_secs_f64()
    })
}

/// The topics of each printer, with their retain flags, and the payloads of each message: they are
/// made beforehand, so that the publisher does nothing but publish.
type Prepared = (Vec<Vec<(String, bool)>>, Vec<Vec<Vec<u8>>>);

fn prepared(printers: usize, terminal: bool, moving: Moving) -> Prepared {
    let recorded = Recorded::printing(terminal);
    let topics_of = |printer| {
        let topics = moving.topics().iter();
        topics.map(|topic| (format!("{BASE}/p{printer}/{topic}"), retained(topic))).collect()
    };
    let payloads_of = |sequence| {
        let topics = moving.topics().iter();
        let payload = |topic| frames::published(topic, &recorded, sequence, moving);
        topics.map(|topic| payload(topic).into_bytes()).collect()
    };
    ((0..printers).map(topics_of).collect(), (0..VALUES).map(payloads_of).collect())
}

/// All but the message itself is state.
fn retained(topic: &str) -> bool {
    topic != "message/current"
}

async fn publish(
    client: &AsyncClient,
    printer: usize,
    recorded: &Recorded,
    sequence: u64,
    moving: Moving,
) {
    for topic in moving.topics() {
        let payload = frames::published(topic, recorded, sequence, moving);
        let retain = retained(topic);
        let topic = format!("{BASE}/p{printer}/{topic}");
        let published = client.publish(topic, QoS::AtLeastOnce, retain, payload).await;
        published.expect("the client lives as long as its runtime");
    }
}

async fn acknowledged(mut events: EventLoop, count: Arc<AtomicU64>) {
    while let Ok(event) = events.poll().await {
        if let Event::Incoming(Packet::PubAck(_)) = event {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn in_a_thread<T: Send + 'static, F: Future<Output = T>>(
    work: impl FnOnce() -> F + Send + 'static,
) -> T {
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(work())
    });
    thread.join().expect("the bare publisher does not fail")
}
