//! A session on a pipe, whose other end the test reads and writes.

use futures_util::FutureExt;
use rumqttc::{ConnAck, Outgoing as Sent, PubAck, Publish};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::mqtt::broker::connection::tests::listen;

/// A link that the broker's side reads and writes by hand, and a session on it.
async fn session_on_a_pipe() -> (Session, tokio::io::DuplexStream) {
    let (_listener, options) = listen().await;
    let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
    let answering = async {
        let mut bytes = BytesMut::new();
        while Packet::read(&mut bytes, 1 << 20).is_err() {
            theirs.read_buf(&mut bytes).await.unwrap();
        }
        let mut answer = BytesMut::new();
        let connack = Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, false));
        connack.write(&mut answer, 1 << 20).unwrap();
        theirs.write_all(&answer).await.unwrap();
    };
    let link = BrokerLink::Bytes(Box::new(ours));
    let (session, ()) = tokio::join!(Session::open(link, &options), answering);
    (session.unwrap(), theirs)
}

fn state(payload: &'static [u8]) -> Request {
    Request::Publish(Publish::from_bytes("b/p/state", QoS::AtLeastOnce, payload.into()))
}

#[tokio::test]
async fn what_waits_is_sent_at_once_and_a_wait_that_is_dropped_loses_nothing() {
    let (mut session, mut theirs) = session_on_a_pipe().await;
    for payload in [b"1", b"2", b"3"] {
        session.request(state(payload)).unwrap();
    }
    // The events are known without waiting; then nothing arrives.
    for id in 1..=3 {
        assert_eq!(session.ready().unwrap(), Some(Event::Outgoing(Sent::Publish(id))));
    }
    assert!(session.next().now_or_never().is_none());
    let mut bytes = BytesMut::new();
    assert!(theirs.read_buf(&mut bytes).await.unwrap() > 0);
    for payload in [b"1", b"2", b"3"] {
        let Ok(Packet::Publish(publish)) = Packet::read(&mut bytes, 1 << 20) else {
            panic!("all three came with one write");
        };
        assert_eq!(&publish.payload[..], payload);
    }
    // An answer that arrives in pieces, with waits that are dropped in between.
    let mut answers = BytesMut::new();
    for id in 1..=2 {
        Packet::PubAck(PubAck::new(id)).write(&mut answers, 1 << 20).unwrap();
    }
    for byte in answers.iter().take(7) {
        assert!(session.next().now_or_never().is_none_or(|event| event.is_ok()));
        theirs.write_all(&[*byte]).await.unwrap();
    }
    theirs.write_all(&answers[7..]).await.unwrap();
    let second = Event::Incoming(Packet::PubAck(PubAck::new(2)));
    while session.next().await.unwrap() != second {}
}

#[tokio::test]
async fn a_broker_that_reads_nothing_gets_a_bounded_amount() {
    let (mut session, theirs) = session_on_a_pipe().await;
    let mut sent = 0;
    while !session.is_full() {
        session.request(state(&[b'x'; 1000])).unwrap();
        assert!(session.next().now_or_never().is_some_and(|event| event.is_ok()));
        sent += 1;
        assert!(sent < 200, "the pipe and the buffer have 64 kB each");
    }
    drop(theirs);
}

#[tokio::test]
async fn a_packet_id_that_is_still_in_use_is_waited_for() {
    let (mut session, mut theirs) = session_on_a_pipe().await;
    let acknowledge = |id: u16| {
        let mut bytes = BytesMut::new();
        Packet::PubAck(PubAck::new(id)).write(&mut bytes, 1 << 20).unwrap();
        bytes
    };
    // All are acknowledged but the first.
    for id in 1..=PACKET_IDS {
        session.request(state(b"x")).unwrap();
        assert_eq!(session.next().await.unwrap(), Event::Outgoing(Sent::Publish(id)));
        if id > 1 {
            theirs.write_all(&acknowledge(id)).await.unwrap();
            let answer = Event::Incoming(Packet::PubAck(PubAck::new(id)));
            assert_eq!(session.next().await.unwrap(), answer);
        }
    }
    assert!(!session.is_full());
    session.request(state(b"waits")).unwrap();
    assert!(session.is_full());
    theirs.write_all(&acknowledge(1)).await.unwrap();
    while session.next().await.unwrap() != Event::Outgoing(Sent::Publish(1)) {}
    assert!(!session.is_full());
    assert!(session.next().now_or_never().is_none());
    let mut bytes = BytesMut::new();
    let mut last = None;
    while last.as_ref().is_none_or(|publish: &Publish| publish.payload != "waits") {
        match Packet::read(&mut bytes, 1 << 20) {
            Ok(Packet::Connect(_)) => {}
            Ok(Packet::Publish(publish)) => last = Some(publish),
            Ok(other) => panic!("{other:?}"),
            Err(_) => drop(theirs.read_buf(&mut bytes).await.unwrap()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_answers_no_ping_is_gone_after_two_keep_alives() {
    let (mut session, mut theirs) = session_on_a_pipe().await;
    let started = tokio::time::Instant::now();
    let ended = loop {
        if let Err(error) = session.next().await {
            break error;
        }
    };
    assert!(matches!(ended, SessionError::Protocol(StateError::AwaitPingResp)));
    assert_eq!(started.elapsed(), Duration::from_secs(40));
    let mut bytes = BytesMut::new();
    theirs.read_buf(&mut bytes).await.unwrap();
    assert!(matches!(Packet::read(&mut bytes, 1 << 20), Ok(Packet::PingReq)));
}
