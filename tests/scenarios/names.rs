//! Names that only multicast knows.

use std::net::IpAddr;

use crate::real::bridge::run;
use crate::real::mosquitto::Mosquitto;
use crate::real::{eventually, free_port};
use mdns_sd::{ServiceDaemon, ServiceInfo};
use octoprint2mqtt::names;
use octoprint2mqtt::simulator::{Simulator, SimulatorOptions};

/// An address of this machine on which multicast goes out: the one that faces the network.
fn own_address() -> IpAddr {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("224.0.0.251:5353").expect("this machine has a network with multicast");
    socket.local_addr().unwrap().ip()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and a network with multicast: ./tests/run real"]
async fn a_name_in_local_is_found_for_octoprint_and_broker() {
    octoprint2mqtt::tls::install_provider();
    let own = own_address();
    let name = format!("octoprint2mqtt-test-{}.local", free_port());
    let responder = ServiceDaemon::new().unwrap();
    let host = format!("{name}.");
    let service = ServiceInfo::new("_octoprint._tcp.local.", "test", &host, own, 80, None).unwrap();
    responder.register(service).unwrap();

    let threads = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        tasks
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
            .filter(|name| name.starts_with("mDNS"))
            .count()
    };
    // A thread takes its name only once it runs.
    eventually("the thread of the responder, else the test shows nothing", || async {
        (threads() == 1).then_some(())
    })
    .await;
    let found = names::resolve(&name, 80).await.unwrap();
    assert!(found.iter().any(|address| address.ip() == own && address.port() == 80), "{found:?}");

    let listen = std::net::SocketAddr::new(own, 0);
    let options = SimulatorOptions { listen, ..SimulatorOptions::default() };
    let simulator = Simulator::start(options).await.unwrap();
    let port = free_port();
    let options = format!("allow_anonymous true\nlistener {port} {own}\n");
    let _broker = Mosquitto::with_options(&options).await;
    let config = format!(
        "[mqtt]\nurl = \"mqtt://{name}:{port}\"\n[printers.mk3]\nurl = \"http://{name}:{}\"\napi_key = \"SIMULATOR-KEY\"\n",
        simulator.port()
    );
    let (code, output) = run(&config, &["check"]).await;
    assert_eq!(code, Some(0), "{output}");
    responder.shutdown().unwrap();
    eventually("no thread to be left that asks or answers", || async {
        (threads() == 0).then_some(())
    })
    .await;

    let unknown = config.replace(&name, &format!("unknown-{name}"));
    let (code, output) = run(&unknown, &["check"]).await;
    assert_eq!(code, Some(1), "{output}");
    for line in output.lines() {
        assert!(
            line.contains("no device answered") && line.contains("write the IP address"),
            "{line}"
        );
    }
    assert_eq!(output.lines().count(), 2, "{output}");
}
