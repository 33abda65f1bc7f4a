use std::io::Write;
use std::net::{Ipv4Addr, UdpSocket};

use mdns_sd::{IfKind, ServiceDaemon, ServiceInfo};

use super::*;

const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
/// How long the network is asked at a time.
const WITHIN: Duration = Duration::from_millis(500);
/// How often it is asked before a test fails: a minute.
const ATTEMPTS: usize = 120;

/// A UDP port that nothing uses, so that nobody else's announcements come there.
fn free_port() -> u16 {
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap().local_addr().unwrap().port()
}

/// Whether multicast gets from this machine to itself without any network.
fn loopback_carries_multicast() -> std::io::Result<()> {
    let receiver = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    receiver.join_multicast_v4(&GROUP, &Ipv4Addr::LOCALHOST)?;
    receiver.set_read_timeout(Some(Duration::from_secs(5)))?;
    // Its address says by which interface it sends.
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    sender.send_to(b"?", (GROUP, receiver.local_addr()?.port()))?;
    receiver.recv_from(&mut [0]).map(|_| ())
}

/// Returns a port for a stand-in, or says that the test is left out, past cargo, which shows no
/// output of tests that pass.
fn port_for(test: &str) -> Option<u16> {
    let left_out = |error: std::io::Error| {
        let line = format!("LEFT OUT: {test}: no multicast by the loopback interface: {error}\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    };
    loopback_carries_multicast().map_err(left_out).ok()?;
    Some(free_port())
}

/// A stand-in for OctoPrint's plugin Discovery, which announces by the loopback interface alone.
struct Announcer(ServiceDaemon);

impl Announcer {
    fn start(port: u16) -> Self {
        let daemon = ServiceDaemon::new_with_port(port).unwrap();
        daemon.disable_interface(IfKind::All).unwrap();
        daemon.enable_interface(IfKind::LoopbackV4).unwrap();
        Self(daemon)
    }

    fn announce(&self, instance: &str, host: &str, port: u16, txt: &[(&str, &str)]) {
        let service =
            ServiceInfo::new(SERVICE, instance, host, Ipv4Addr::LOCALHOST.to_string(), port, txt);
        self.0.register(service.unwrap()).unwrap();
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        let _ = self.0.shutdown();
    }
}

/// Asks until the answer is complete.
async fn find_until(
    port: u16,
    complete: impl Fn(&[FoundOctoPrint]) -> bool,
) -> Vec<FoundOctoPrint> {
    let mut last = Vec::new();
    for _ in 0..ATTEMPTS {
        last = find_at(port, WITHIN).await.unwrap();
        if complete(&last) {
            return last;
        }
    }
    panic!("found in vain: {last:#?}");
}

#[tokio::test]
async fn what_is_announced_is_found() {
    let Some(port) = port_for("what_is_announced_is_found") else { return };
    let announcer = Announcer::start(port);
    announcer.announce(
        "OctoPrint instance \"Work.shop\"",
        "octopi.local.",
        80,
        &[
            ("path", "/"),
            ("u", "user"),
            ("p", "correct horse"),
            ("version", "1.11.8"),
            ("api", "0.1"),
            ("uuid", "6c7f"),
        ],
    );
    announcer.announce(
        "OctoPrint instance on evil",
        "evil.local.",
        5000,
        &[("path", "/a\u{1b}"), ("version", "1")],
    );
    announcer.announce(
        "OctoPrint instance on octopi",
        "octopi.local.",
        5001,
        &[("path", "/two"), ("version", "\u{1b}[31m2.0.0rc7")],
    );
    let found =
        find_until(port, |found| found.len() == 2 && found.iter().all(|one| one.version.is_some()))
            .await;
    let shown = |one: &FoundOctoPrint| {
        let address = one.address.as_ref().unwrap().to_string();
        (one.name.clone(), one.url.to_string(), address, one.version.clone().unwrap())
    };
    let texts = |name: &str, url: &str, address: &str, version: &str| {
        (name.to_owned(), url.to_owned(), address.to_owned(), version.to_owned())
    };
    assert_eq!(
        shown(&found[0]),
        texts(
            "octopi",
            "http://octopi.local:5001/two/",
            "http://127.0.0.1:5001/two/",
            "[31m2.0.0rc7"
        )
    );
    assert_eq!(
        shown(&found[1]),
        texts("Work.shop", "http://octopi.local/", "http://127.0.0.1/", "1.11.8")
    );
    assert_eq!(found[1].uuid.as_deref(), Some("6c7f"));
    assert!(found[1].wants_login && !found[0].wants_login);
    assert!(!format!("{found:?}").contains("correct horse"));
}

#[tokio::test]
async fn one_that_ends_while_the_network_is_asked_is_not_found() {
    let test = "one_that_ends_while_the_network_is_asked_is_not_found";
    let Some(port) = port_for(test) else { return };
    let announcer = Announcer::start(port);
    announcer.announce("gone", "gone.local.", 80, &[]);
    announcer.announce("here", "here.local.", 80, &[]);
    find_until(port, |found| found.len() == 2).await;
    let name = format!("gone.{SERVICE}");
    announcer.0.unregister(&name).unwrap().recv_async().await.unwrap();
    let found = find_until(port, |found| found.len() == 1).await;
    assert_eq!(found[0].name, "here");
}

#[tokio::test]
async fn nobody_answers_and_that_is_no_error() {
    assert_eq!(find_at(free_port(), Duration::from_millis(1)).await.unwrap(), []);
}

#[test]
fn a_flood_of_announcements_is_bounded() {
    let mut found = BTreeMap::new();
    let announced = |n: usize, path: &str| {
        let (name, host) = (format!("n{n}"), format!("n{n}.local."));
        let txt = [("path", path)];
        let service = ServiceInfo::new(SERVICE, &name, &host, "192.168.1.20", 80, &txt[..]);
        ServiceEvent::ServiceResolved(Box::new(service.unwrap().as_resolved_service()))
    };
    for n in 0..MAX_FOUND * 2 {
        keep(announced(n, "/"), &mut found);
    }
    assert_eq!(found.len(), MAX_FOUND);
    // What is known can still change, and go.
    keep(announced(0, "/new"), &mut found);
    let name = format!("n0.{SERVICE}");
    assert_eq!(found[&name].url.as_str(), "http://n0.local/new/");
    keep(ServiceEvent::ServiceRemoved(SERVICE.to_owned(), name), &mut found);
    assert_eq!(found.len(), MAX_FOUND - 1);
}

#[test]
fn the_answer_is_plain_json() {
    let one = DiscoveredOctoPrint {
        name: "octopi".to_owned(),
        url: "http://octopi.local/".to_owned(),
        address: Some("http://192.168.1.20/".to_owned()),
        version: Some("1.11.8".to_owned()),
        uuid: None,
        configured: Some("mk3".to_owned()),
        login: false,
    };
    let found = Discovered { octoprints: vec![one], note: None };
    assert_eq!(
        serde_json::to_string(&found).unwrap(),
        r#"{"octoprints":[{"name":"octopi","url":"http://octopi.local/","address":"http://192.168.1.20/","version":"1.11.8","uuid":null,"configured":"mk3"}]}"#
    );
    let nothing = Discovered { octoprints: Vec::new(), note: Some("why".to_owned()) };
    assert_eq!(serde_json::to_string(&nothing).unwrap(), r#"{"octoprints":[],"note":"why"}"#);
}
