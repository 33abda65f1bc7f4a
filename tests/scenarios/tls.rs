//! TLS with a private CA, client certificates and `insecure`, to the broker and to OctoPrint.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::real::bridge::{Bridge, run};
use crate::real::mosquitto::Mosquitto;
use crate::real::watcher::{Seen, Watcher};
use crate::real::{free_port, within};
use octoprint2mqtt::simulator::{Simulator, SimulatorOptions};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};

/// A private CA, a server certificate for 127.0.0.1 and localhost, and a client certificate.
struct Certificates {
    dir: tempfile::TempDir,
}

impl Certificates {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let openssl = |arguments: &str| {
            let status = Command::new("openssl")
                .args(arguments.split(' '))
                .current_dir(dir.path())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .expect("openssl is installed");
            assert!(status.success(), "openssl {arguments}");
        };
        let file = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        file(
            "server.ext",
            "subjectAltName=IP:127.0.0.1,IP:::1,DNS:localhost\nbasicConstraints=CA:FALSE\n",
        );
        file("client.ext", "basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n");
        openssl(
            "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 30 -subj /CN=ca -addext basicConstraints=critical,CA:TRUE",
        );
        for name in ["server", "client"] {
            openssl(&format!(
                "req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"
            ));
            openssl(&format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem -days 30 -extfile {name}.ext"
            ));
        }
        // As people make them: one line, and what they forget.
        openssl(
            "req -x509 -newkey rsa:2048 -nodes -keyout usual.key -out usual.pem -days 30 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1",
        );
        openssl(
            "req -x509 -newkey rsa:2048 -nodes -keyout nosan.key -out nosan.pem -days 30 -subj /CN=127.0.0.1",
        );
        openssl("req -newkey rsa:2048 -nodes -keyout v1.key -out v1.csr -subj /CN=127.0.0.1");
        openssl("x509 -req -in v1.csr -signkey v1.key -out v1.pem -days 30");
        Self { dir }
    }

    /// Options of a Mosquitto listener with the certificate `name`.
    fn listener(&self, name: &str) -> String {
        format!(
            "certfile {}\nkeyfile {}\n",
            shown(&self.path(&format!("{name}.pem"))),
            shown(&self.path(&format!("{name}.key")))
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn config(broker: &str, broker_tls: &str, octoprint: &str, octoprint_tls: &str) -> String {
    format!(
        "[outbox]\nsettle = \"0s\"\n[mqtt]\nurl = \"{broker}\"\n{broker_tls}\n[printers.mk3]\nurl = \"{octoprint}\"\napi_key = \"SIMULATOR-KEY\"\n{octoprint_tls}\n[printers.mk3.socket]\ntimeouts = [1]\n"
    )
}

async fn logged(bridge: &Bridge, text: &str) {
    let patience = Duration::from_secs(20);
    within(patience, text, || async { bridge.log().contains(text).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and openssl: ./tests/run real"]
async fn the_broker_behind_tls() {
    octoprint2mqtt::tls::install_provider();
    let certificates = Certificates::new();
    let simulator = Simulator::start(SimulatorOptions::default()).await.unwrap();
    let listener = format!(
        "allow_anonymous true\ncafile {}\ncertfile {}\nkeyfile {}\n",
        shown(&certificates.path("ca.pem")),
        shown(&certificates.path("server.pem")),
        shown(&certificates.path("server.key"))
    );
    let broker = Mosquitto::with_options(&listener).await;
    let url = format!("mqtts://127.0.0.1:{}", broker.port);
    let start = |tls: &str| Bridge::start(&config(&url, tls, &simulator.url(), ""));

    let ca = shown(&certificates.path("ca.pem"));
    let bridge = start(&format!("tls = {{ ca_file = \"{ca}\" }}"));
    logged(&bridge, "connected to the broker").await;
    drop(bridge);
    let bridge = start("");
    logged(&bridge, "TLS failed").await;
    assert!(bridge.log().contains("ca_file"), "{}", bridge.log());
    drop(bridge);
    let bridge = start("tls = { insecure = true }");
    logged(&bridge, "connected to the broker").await;
    assert!(bridge.log().contains("WARN") && bridge.log().contains("insecure"), "{}", bridge.log());
    drop(bridge);

    // The broker asks for a certificate of the client's.
    let broker = Mosquitto::with_options(&format!("{listener}require_certificate true\n")).await;
    let url = format!("mqtts://127.0.0.1:{}", broker.port);
    let start = |tls: &str| Bridge::start(&config(&url, tls, &simulator.url(), ""));
    let bridge = start(&format!("tls = {{ ca_file = \"{ca}\" }}"));
    logged(&bridge, "next attempt in").await;
    drop(bridge);
    let own = format!(
        "tls = {{ ca_file = \"{ca}\", cert_file = \"{}\", key_file = \"{}\" }}",
        shown(&certificates.path("client.pem")),
        shown(&certificates.path("client.key"))
    );
    logged(&start(&own), "connected to the broker").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and openssl: ./tests/run real"]
async fn a_broker_with_a_certificate_as_people_make_it() {
    octoprint2mqtt::tls::install_provider();
    let certificates = Certificates::new();
    let simulator = Simulator::start(SimulatorOptions::default()).await.unwrap();
    for (name, trusted, telling) in
        [("usual", true, "CA"), ("nosan", false, "no subjectAltName"), ("v1", false, "version 1")]
    {
        let options = format!("allow_anonymous true\n{}", certificates.listener(name));
        let broker = Mosquitto::with_options(&options).await;
        let url = format!("mqtts://127.0.0.1:{}", broker.port);
        let check =
            async |tls: &str| run(&config(&url, tls, &simulator.url(), ""), &["check"]).await;
        let pem = shown(&certificates.path(&format!("{name}.pem")));
        let (code, output) = check(&format!("tls = {{ ca_file = \"{pem}\" }}")).await;
        assert_eq!(code == Some(0), trusted, "{name}: {output}");
        if !trusted {
            assert!(output.contains(telling), "{name}: {output}");
        }
        let (code, output) = check("").await;
        assert_eq!(code, Some(1), "{output}");
        assert!(output.contains("TLS failed") && output.contains(telling), "{name}: {output}");
        assert!(!output.contains("unexpected error"), "{output}");
        let (code, output) = check("tls = { insecure = true }").await;
        assert_eq!(code, Some(0), "{name}: {output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and openssl: ./tests/run real"]
async fn ipv6_addresses_and_websocket_behind_tls() {
    octoprint2mqtt::tls::install_provider();
    let certificates = Certificates::new();
    let simulator = Simulator::start(SimulatorOptions::default()).await.unwrap();
    let [plain6, secure6, wss6, wss] = std::array::from_fn(|_| free_port());
    let tls = certificates.listener("server");
    let options = format!(
        "allow_anonymous true\nlistener {plain6} ::1\nlistener {secure6} ::1\n{tls}\
         listener {wss6} ::1\nprotocol websockets\n{tls}listener {wss} 127.0.0.1\nprotocol websockets\n{tls}"
    );
    let _broker = Mosquitto::with_options(&options).await;
    let target = simulator.port();
    let octoprint = tls_proxy_at("[::1]:0", &certificates, target).await;
    let ca = format!("tls = {{ ca_file = \"{}\" }}", shown(&certificates.path("ca.pem")));
    for (url, tls) in [
        (format!("mqtt://[::1]:{plain6}"), ""),
        (format!("mqtts://[::1]:{secure6}"), ca.as_str()),
        (format!("wss://[::1]:{wss6}/mqtt"), &ca),
        (format!("wss://127.0.0.1:{wss}"), &ca),
        (format!("wss://localhost:{wss}/a/path?and=query"), &ca),
    ] {
        let octoprint = format!("https://[::1]:{octoprint}");
        let (code, output) = run(&config(&url, tls, &octoprint, &ca), &["check"]).await;
        assert_eq!(code, Some(0), "{url}: {output}");
        if !tls.is_empty() {
            let (code, output) = run(&config(&url, "", &octoprint, &ca), &["check"]).await;
            assert_eq!(code, Some(1), "{url}: {output}");
            assert!(output.contains("TLS failed"), "{output}");
        }
    }
}

/// Ends TLS in front of `target`, as a reverse proxy does.
async fn tls_proxy(certificates: &Certificates, target: u16) -> u16 {
    tls_proxy_at("127.0.0.1:0", certificates, target).await
}

async fn tls_proxy_at(listen: &str, certificates: &Certificates, target: u16) -> u16 {
    let chain = CertificateDer::pem_file_iter(certificates.path("server.pem")).unwrap();
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(certificates.path("server.key")).unwrap();
    let config =
        rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(listen).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut client) = acceptor.accept(client).await else { return };
                let mut server = TcpStream::connect(("127.0.0.1", target)).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and openssl: ./tests/run real"]
async fn octoprint_behind_tls() {
    octoprint2mqtt::tls::install_provider();
    let certificates = Certificates::new();
    let broker = Mosquitto::start().await;
    let simulator = Simulator::start(SimulatorOptions::default()).await.unwrap();
    let port = tls_proxy(&certificates, simulator.port()).await;
    let watcher = Watcher::start(broker.port).await;
    let start = |host: &str, tls: &str| {
        Bridge::start(&config(&broker.url(), "", &format!("https://{host}:{port}"), tls))
    };
    let socket = |state: &'static str| {
        move |seen: &Seen| {
            seen.topic == "octoprint2mqtt/mk3/socket" && seen.json()["state"] == state
        }
    };
    let ca = shown(&certificates.path("ca.pem"));
    let bridge = start("localhost", &format!("tls = {{ ca_file = \"{ca}\" }}"));
    let connected = watcher.wait("the socket", socket("connected")).await;
    assert_eq!(connected.json()["transport"], "websocket");
    let answer = watcher.command("temperature/bed", "40").await;
    assert_eq!(answer["ok"], true, "REST calls go the same way: {answer}");
    drop(bridge);

    let mark = watcher.mark();
    let bridge = start("localhost", "");
    let waiting = watcher.wait_from(mark, "the refusal", socket("waiting")).await;
    assert!(
        waiting.json()["error"].as_str().unwrap().contains("TLS failed"),
        "{}",
        waiting.payload
    );
    drop(bridge);

    let mark = watcher.mark();
    let bridge = start("127.0.0.1", "tls = { insecure = true }");
    watcher.wait_from(mark, "the socket", socket("connected")).await;
    assert!(bridge.log().contains("WARN") && bridge.log().contains("insecure"), "{}", bridge.log());
}
