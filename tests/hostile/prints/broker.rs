//! A broker that takes all, and remembers what was published.

use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use rumqttc::{
    ConnAck, ConnectReturnCode, Packet, PubAck, QoS, SubAck, SubscribeReasonCode as Code,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Larger than any packet here.
const LARGE: usize = 8 << 20;

/// What was published, in order.
pub type Published = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// Starts one on a free port, which it yields; it ends with the runtime.
pub async fn start() -> (u16, Published) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let published = Published::default();
    let seen = Arc::clone(&published);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            tokio::spawn(serve(stream, Arc::clone(&seen)));
        }
    });
    (port, published)
}

async fn serve(mut stream: TcpStream, published: Published) {
    let mut buffer = BytesMut::new();
    loop {
        let mut answers = BytesMut::new();
        while let Ok(packet) = Packet::read(&mut buffer, LARGE) {
            for answer in answer(packet, &published) {
                answer.write(&mut answers, LARGE).unwrap();
            }
        }
        if stream.write_all(&answers).await.is_err() {
            return;
        }
        if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
            return;
        }
    }
}

fn answer(packet: Packet, published: &Published) -> Vec<Packet> {
    match packet {
        Packet::Connect(_) => {
            vec![Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, false))]
        }
        Packet::Subscribe(subscribe) => {
            let codes = vec![Code::Success(QoS::AtLeastOnce); subscribe.filters.len()];
            vec![Packet::SubAck(SubAck::new(subscribe.pkid, codes))]
        }
        Packet::PingReq => vec![Packet::PingResp],
        Packet::Publish(publish) => {
            // The bridge receives its own publications about itself, and those to itself.
            let own = ["/bridge/state", "/bridge/marker"];
            let echo = own.iter().any(|own| publish.topic.ends_with(own)).then(|| {
                let mut echo = publish.clone();
                (echo.qos, echo.retain, echo.pkid) = (QoS::AtMostOnce, false, 0);
                Packet::Publish(echo)
            });
            let taken =
                (publish.qos != QoS::AtMostOnce).then(|| Packet::PubAck(PubAck::new(publish.pkid)));
            published.lock().unwrap().push((publish.topic, publish.payload.to_vec()));
            taken.into_iter().chain(echo).collect()
        }
        _ => Vec::new(),
    }
}
