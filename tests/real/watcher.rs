//! Another client of the broker, which sees everything.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use serde_json::Value;

use super::{PATIENCE, free_port};

#[derive(Debug, Clone)]
pub struct Seen {
    pub topic: String,
    pub payload: String,
    pub retained: bool,
    pub at: Instant,
}

impl Seen {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.payload).unwrap_or(Value::Null)
    }
}

pub struct Watcher {
    client: AsyncClient,
    seen: Arc<Mutex<Vec<Seen>>>,
    subscriptions: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watcher {
    /// Subscribes to everything, and waits until the broker has confirmed it.
    pub async fn start(port: u16) -> Self {
        Self::start_as(port, None, "#").await
    }

    /// The same at a broker that asks who it is.
    pub async fn log_in(port: u16, user: &str, password: &str) -> Self {
        Self::start_as(port, Some((user, password)), "#").await
    }

    /// Subscribes to `filter` alone.
    pub async fn of(port: u16, filter: &str) -> Self {
        Self::start_as(port, None, filter).await
    }

    async fn start_as(port: u16, login: Option<(&str, &str)>, filter: &str) -> Self {
        let filter = filter.to_owned();
        let mut options = MqttOptions::new(format!("watcher-{}", free_port()), "127.0.0.1", port);
        options.set_max_packet_size(1 << 26, 1 << 26);
        if let Some((user, password)) = login {
            options.set_credentials(user, password);
        }
        let (client, mut events) = AsyncClient::new(options, 100);
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (subscribed, confirmed) = tokio::sync::oneshot::channel();
        let (keep, again) = (seen.clone(), client.clone());
        let subscriptions: Arc<AtomicUsize> = Arc::default();
        let count = subscriptions.clone();
        let mut subscribed = Some(subscribed);
        let task = tokio::spawn(async move {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        again.try_subscribe(&filter, QoS::AtLeastOnce).unwrap();
                    }
                    Ok(Event::Incoming(Packet::SubAck(_))) => {
                        count.fetch_add(1, Ordering::Relaxed);
                        if let Some(subscribed) = subscribed.take() {
                            let _ = subscribed.send(());
                        }
                    }
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        keep.lock().unwrap().push(Seen {
                            topic: publish.topic,
                            payload: String::from_utf8_lossy(&publish.payload).into_owned(),
                            retained: publish.retain,
                            at: Instant::now(),
                        });
                    }
                    Ok(_) => {}
                    // The broker may be away for a while.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        });
        confirmed.await.unwrap();
        Self { client, seen, subscriptions, task }
    }

    pub async fn publish(&self, topic: &str, payload: &str, retain: bool) {
        self.client.publish(topic, QoS::AtLeastOnce, retain, payload).await.unwrap();
    }

    /// How often it has subscribed: once a connection.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions.load(Ordering::Relaxed)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// How many messages there are: a mark to look from.
    pub fn mark(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// The first message from `mark` on that `matches`.
    pub async fn wait_from(
        &self,
        mark: usize,
        what: &str,
        matches: impl Fn(&Seen) -> bool,
    ) -> Seen {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found =
                self.seen.lock().unwrap()[mark..].iter().find(|seen| matches(seen)).cloned();
            if let Some(found) = found {
                return found;
            }
            if Instant::now() > deadline {
                let seen = self.seen();
                let topics: Vec<_> = seen[mark..]
                    .iter()
                    .map(|s| format!("{} {:.300}", s.topic, s.payload))
                    .collect();
                panic!("waited in vain for {what}; seen:\n{}", topics.join("\n"));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn wait(&self, what: &str, matches: impl Fn(&Seen) -> bool) -> Seen {
        self.wait_from(0, what, matches).await
    }

    /// The first message on `topic` of which `matches` is true.
    pub async fn wait_json(
        &self,
        mark: usize,
        topic: &str,
        matches: impl Fn(&Value) -> bool,
    ) -> Value {
        self.wait_from(mark, topic, |seen| seen.topic == topic && matches(&seen.json()))
            .await
            .json()
    }

    /// Waits until the socket of the printer whose topics begin with `printer` was lost after
    /// `mark`, and is connected again.
    pub async fn reconnected(&self, mark: usize, printer: &str) {
        let topic = format!("{printer}/socket");
        let is = |seen: &Seen, connected: bool| {
            seen.topic == topic && (seen.json()["state"] == "connected") == connected
        };
        self.wait_from(mark, "a lost socket", |seen| is(seen, false)).await;
        let lost = self.seen()[mark..].iter().position(|seen| is(seen, false)).unwrap();
        self.wait_from(mark + lost, "a new connection", |seen| is(seen, true)).await;
    }

    /// The event types on `B/P/print` since `mark`.
    pub fn print_events(&self, mark: usize) -> Vec<String> {
        let seen = self.seen();
        let prints = seen[mark..].iter().filter(|seen| seen.topic == "octoprint2mqtt/mk3/print");
        prints.map(|seen| seen.json()["event_type"].as_str().unwrap().to_owned()).collect()
    }

    /// Sends a command and waits for its answer.
    pub async fn command(&self, command: &str, payload: &str) -> Value {
        let mark = self.mark();
        self.publish(&format!("octoprint2mqtt/mk3/set/{command}"), payload, false).await;
        self.wait_json(mark, "octoprint2mqtt/mk3/result", |result| result["command"] == *command)
            .await
    }

    /// Sends a command that is obeyed.
    pub async fn done(&self, command: &str, payload: &str) {
        let answer = self.command(command, payload).await;
        assert_eq!(answer["ok"], true, "{command} {payload}: {answer}");
    }

    /// Sends a command that is refused with this status and a text with `telling` in it.
    pub async fn refused(&self, command: &str, payload: &str, status: Value, telling: &str) {
        let answer = self.command(command, payload).await;
        assert_eq!(answer["ok"], false, "{command} {payload}: {answer}");
        assert_eq!(answer["status"], status, "{answer}");
        assert!(answer["error"].as_str().unwrap().contains(telling), "{answer}");
    }

    /// Sends a command that is obeyed, and waits until OctoPrint's terminal shows that the printer
    /// was sent `sent`, in lines that begin with `begins`.
    pub async fn sends(&self, begins: &str, command: &str, payload: &str, sent: &[&str]) {
        let mark = self.mark();
        self.done(command, payload).await;
        for sent in sent {
            let shows = |current: &Value| {
                let lines = current["logs"].as_array().into_iter().flatten();
                lines.filter_map(Value::as_str).any(|l| l.starts_with(begins) && l.contains(sent))
            };
            let topic = "octoprint2mqtt/mk3/message/current";
            self.wait_from(mark, sent, |seen| seen.topic == topic && shows(&seen.json())).await;
        }
    }
}

/// Waits until the broker reports this uptime.
pub async fn up_for(port: u16, uptime: Duration) {
    let watcher = Watcher::start_as(port, None, "$SYS/broker/uptime").await;
    let seconds = |text: &str| text.split(' ').next().unwrap().parse().map(Duration::from_secs);
    let up = async {
        let long = |seen: &Seen| seconds(&seen.payload).is_ok_and(|told| told >= uptime);
        while !watcher.seen().iter().any(long) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    // It says so every ten seconds.
    tokio::time::timeout(uptime + PATIENCE, up).await.expect("the broker tells its uptime");
}

/// What the broker holds now, by topic: asked by a client of its own.
pub async fn retained(port: u16) -> BTreeMap<String, String> {
    let watcher = Watcher::start(port).await;
    let end = format!("end/{}", free_port());
    watcher.publish(&end, "end", false).await;
    // The broker sends retained messages before anything that is published later.
    watcher.wait("the end of what is retained", |seen| seen.topic == end).await;
    let seen = watcher.seen();
    seen.into_iter().filter(|seen| seen.retained).map(|seen| (seen.topic, seen.payload)).collect()
}
