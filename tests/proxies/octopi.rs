//! HAProxy with the settings that it has on an OctoPi, while OctoPrint is switched off and on.

use std::path::Path;

use octoprint2mqtt::simulator::{Simulator, SimulatorOptions};
use serde_json::json;

use crate::real::bridge::Bridge;
use crate::real::free_port;
use crate::real::mosquitto::Mosquitto;
use crate::real::reverse_proxy::Program;
use crate::real::watcher::Watcher;
use crate::scene::{certify, is, topic};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs HAProxy and Mosquitto: ./tests/run proxies"]
async fn haproxy_with_the_options_of_octopi() {
    octoprint2mqtt::tls::install_provider();
    let broker = Mosquitto::start().await;
    let octoprint = free_port();
    let plain = free_port();
    let config = |port: u16, dir: &Path| {
        certify(dir);
        let dir = dir.display();
        std::fs::write(format!("{dir}/503.http"), "HTTP/1.0 503 Service Unavailable\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html>OctoPrint is not running</html>\n").unwrap();
        format!(
            "defaults\n    mode http\n    compression algo gzip\n    option dontlognull\n    option redispatch\n    option http-server-close\n    option forwardfor\n    retries 3\n    timeout connect 5s\n    timeout client 15m\n    timeout server 15m\n\
            listen octopi\n    bind 127.0.0.1:{plain}\n    bind 127.0.0.1:{port} ssl crt {dir}/printers.pem\n    http-request set-header X-Scheme https if {{ ssl_fc }}\n    errorfile 503 {dir}/503.http\n    server here 127.0.0.1:{octoprint}\n"
        )
    };
    let proxy = Program::HaProxy.start(config).await;
    let simulate = async || {
        let listen = ([127, 0, 0, 1], octoprint).into();
        let options = SimulatorOptions { listen, ..SimulatorOptions::default() };
        Simulator::start(options).await.unwrap()
    };
    let simulator = simulate().await;
    let watcher = Watcher::start(broker.port).await;
    let (broker, port) = (broker.url(), proxy.port);
    let printer = |id: &str, url: String| {
        format!(
            "[printers.{id}]\nurl = \"{url}\"\napi_key = \"SIMULATOR-KEY\"\noffline_after = \"1h\"\n"
        )
    };
    let config = format!(
        "[mqtt]\nurl = \"{broker}\"\n[outbox]\nsettle = \"0s\"\n{}{}tls = {{ insecure = true }}\n",
        printer("mk3", format!("http://127.0.0.1:{plain}")),
        printer("safe", format!("https://127.0.0.1:{port}")),
    );
    let _bridge = Bridge::start(&config);
    for id in ["mk3", "safe"] {
        watcher.wait("online", is(topic(id, "availability"), "online")).await;
    }
    let mark = watcher.mark();
    simulator.stop();
    for id in ["mk3", "safe"] {
        watcher.wait_from(mark, "offline", is(topic(id, "availability"), "offline")).await;
    }
    let mark = watcher.mark();
    let simulator = simulate().await;
    for id in ["mk3", "safe"] {
        watcher.wait_from(mark, "online", is(topic(id, "availability"), "online")).await;
    }
    simulator.event("Home", json!({}));
    for id in ["mk3", "safe"] {
        watcher.wait_json(mark, &topic(id, "event/Home"), |_| true).await;
    }
}
