//! An independent client of OctoPrint's push socket: what the bridge is compared with.

use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::octoprint::KEY;
use super::{eventually, free_port};

/// The messages, as (type, payload verbatim).
pub type Messages = Arc<Mutex<Vec<(String, String)>>>;

pub struct SockJs {
    messages: Messages,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for SockJs {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl SockJs {
    /// Logs in by key, subscribes to events and plugins, and waits for the first `history`.
    pub async fn start(url: &str) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let login: Value = http
            .post(format!("{url}/api/login"))
            .header("X-Api-Key", KEY)
            .json(&json!({"passive": true}))
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        let auth =
            format!("{}:{}", login["name"].as_str().unwrap(), login["session"].as_str().unwrap());
        let address = format!("{url}/sockjs/000/{}/websocket", free_port()).replace("http", "ws");
        let (mut socket, _) = tokio_tungstenite::connect_async(address).await.unwrap();
        for message in [
            json!({"subscribe": {"state": {"logs": false, "messages": false}, "events": true, "plugins": true}}),
            json!({ "auth": auth }),
        ] {
            let framed = json!([message.to_string()]).to_string();
            socket.send(Message::text(framed)).await.unwrap();
        }
        let messages: Messages = Arc::default();
        let keep = messages.clone();
        let task = tokio::spawn(async move {
            while let Some(Ok(message)) = socket.next().await {
                if let Message::Text(text) = message {
                    keep.lock().unwrap().extend(unpack(&text));
                }
            }
        });
        let this = Self { messages, task };
        eventually("history on the independent socket", || async {
            this.messages().iter().any(|(kind, _)| kind == "history").then_some(())
        })
        .await;
        this
    }

    pub fn messages(&self) -> Vec<(String, String)> {
        self.messages.lock().unwrap().clone()
    }
}

/// The messages of one SockJS frame.
pub fn unpack(frame: &str) -> Vec<(String, String)> {
    let Some(array) = frame.strip_prefix('a') else { return Vec::new() };
    let elements: Vec<std::collections::BTreeMap<String, Box<RawValue>>> =
        serde_json::from_str(array).unwrap_or_default();
    elements.into_iter().flatten().map(|(kind, payload)| (kind, payload.get().to_owned())).collect()
}
