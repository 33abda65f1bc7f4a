//! Reading from peers that send retained messages at odd times.

use rumqttc::{Packet, PubAck, Publish, QoS};

use crate::mqtt::broker::connection::tests::{GRANTED, Peer, listen};
use crate::mqtt::broker::lost::Lost;
use crate::mqtt::publication::Incoming;
use crate::topics::Topic;

/// Reads from a broker that runs `serve` once it has acknowledged the subscription.
async fn read(serve: impl AsyncFnOnce(&mut Peer)) -> Result<Vec<Incoming>, Lost> {
    let (listener, options) = listen().await;
    let marker = Topic::from("o/bridge/marker");
    let reading = crate::mqtt::retained(&options, &["h/+/config"], &marker);
    let serving = async {
        let mut peer = Peer::accept(&listener).await;
        let asked = peer.subscribe().await;
        let filters: Vec<_> = asked.filters.iter().map(|filter| filter.path.as_str()).collect();
        assert_eq!(filters, ["h/+/config", "o/bridge/marker"]);
        peer.answer(&asked, GRANTED).await;
        serve(&mut peer).await;
        peer
    };
    tokio::pin!(reading, serving);
    tokio::select! {
        read = &mut reading => read,
        peer = &mut serving => {
            // DISCONNECT ends it.
            drop(peer);
            reading.await
        }
    }
}

/// Receives the bridge's next marker, and acknowledges it.
async fn marker(peer: &mut Peer) -> Publish {
    match peer.next().await {
        Packet::Publish(publish) => {
            assert_eq!((publish.topic.as_str(), publish.retain), ("o/bridge/marker", false));
            peer.send(Packet::PubAck(PubAck::new(publish.pkid))).await;
            publish
        }
        other => panic!("{other:?}"),
    }
}

async fn send_back(peer: &mut Peer, marker: Publish) {
    peer.send(Packet::Publish(Publish::new(marker.topic, QoS::AtMostOnce, marker.payload))).await;
}

/// Sends all further markers back.
async fn to_the_end(peer: &mut Peer) {
    while let Packet::Publish(marker) = peer.next().await {
        peer.send(Packet::PubAck(PubAck::new(marker.pkid))).await;
        send_back(peer, marker).await;
    }
}

fn topics(read: &[Incoming]) -> Vec<&str> {
    read.iter().map(|message| message.topic.as_str()).collect()
}

#[tokio::test]
async fn a_busy_broker_is_awaited() {
    let read = read(async |peer| {
        let first = marker(peer).await;
        // Only a marker ends the reading. This one is published again after a second of silence.
        let again = marker(peer).await;
        peer.retained("h/late/config", "x").await;
        send_back(peer, first).await;
        send_back(peer, again).await;
        to_the_end(peer).await;
    })
    .await;
    assert_eq!(topics(&read.unwrap()), ["h/late/config"]);
}

#[tokio::test]
async fn messages_after_the_marker_are_read_while_more_arrive() {
    let read = read(async |peer| {
        peer.retained("h/0/config", "x").await;
        for number in 1..=3 {
            let published = marker(peer).await;
            send_back(peer, published).await;
            // A broker that looks retained messages up in parallel.
            peer.retained(&format!("h/{number}/config"), "x").await;
        }
        to_the_end(peer).await;
    })
    .await;
    let expected = ["h/0/config", "h/1/config", "h/2/config", "h/3/config"];
    assert_eq!(topics(&read.unwrap()), expected);
}

#[tokio::test]
async fn only_retained_messages_with_a_payload_are_read() {
    let read = read(async |peer| {
        peer.send(Packet::Publish(Publish::new("h/live/config", QoS::AtMostOnce, "x"))).await;
        peer.retained("h/cleared/config", "").await;
        peer.retained("h/a/config", "x").await;
        let own = marker(peer).await;
        // Another client's marker is ignored.
        let other = Publish::new(
            own.topic.clone(),
            QoS::AtMostOnce,
            r#"{"client_id":"another","number":9}"#,
        );
        peer.send(Packet::Publish(other)).await;
        send_back(peer, own).await;
        to_the_end(peer).await;
    })
    .await;
    assert_eq!(topics(&read.unwrap()), ["h/a/config"]);
}

#[tokio::test]
async fn a_marker_that_is_dropped_is_published_again() {
    let read = read(async |peer| {
        let dropped = marker(peer).await;
        peer.retained("h/a/config", "x").await;
        let again = marker(peer).await;
        assert_ne!(again.payload, dropped.payload, "each has its number");
        send_back(peer, again).await;
        to_the_end(peer).await;
    })
    .await;
    assert_eq!(topics(&read.unwrap()), ["h/a/config"]);
}

#[tokio::test]
async fn markers_that_the_broker_drops_end_in_silence() {
    let mut markers = 0;
    let read = read(async |peer| {
        tokio::time::pause();
        peer.retained("h/a/config", "x").await;
        while let Packet::Publish(marker) = peer.next().await {
            peer.send(Packet::PubAck(PubAck::new(marker.pkid))).await;
            markers += 1;
        }
    })
    .await;
    assert_eq!(topics(&read.unwrap()), ["h/a/config"]);
    assert!(markers >= super::MUTE, "{markers}");
}

#[tokio::test]
async fn a_silent_broker_is_an_error() {
    let read = read(async |_| {
        tokio::time::pause();
        std::future::pending::<()>().await;
    })
    .await;
    assert!(matches!(read, Err(Lost::NotReadBack)), "{read:?}");
}
