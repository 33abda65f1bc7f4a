//! Old OctoPrints, which close a connection after every GET without announcing it.

mod real;

use real::bridge::{config, run};
use real::mosquitto::Mosquitto;
use real::octoprint::{KEY, OctoPrint, PASSWORD, USER};

const RUNS: usize = 10;

/// Those that are installed are tried, at least one has to be.
const VERSIONS: [(&str, bool); 5] = [
    // Whether its login page sets a CSRF cookie, without which a password is of no use.
    ("1.5.3", false),
    ("1.6.1", false),
    ("1.7.3", false),
    ("1.8.7", true),
    ("1.9.3", true),
];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and old OctoPrints: ./tests/run real"]
async fn every_login_and_every_socket_works_every_time() {
    let broker = Mosquitto::start().await;
    let mut tried = 0;
    for (version, has_csrf) in VERSIONS {
        let Some(octoprint) = OctoPrint::start_version(version).await else {
            eprintln!("OctoPrint {version} is not installed");
            continue;
        };
        tried += 1;
        let key = config(&broker.url(), &octoprint.url(), "");
        let login = format!("username = \"{USER}\"\npassword = \"{PASSWORD}\"");
        let password = key.replace(&format!("api_key = \"{KEY}\""), &login);
        for config in [Some(&key), has_csrf.then_some(&password)].into_iter().flatten() {
            for round in 0..RUNS {
                let (code, text) = run(config, &["check"]).await;
                assert_eq!(code, Some(0), "{version}, round {round}: {text}");
            }
        }
    }
    assert!(tried > 0, "no old OctoPrint is installed");
}
