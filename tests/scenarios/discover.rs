//! `octoprint2mqtt discover` with the announcement of a real OctoPrint.

use crate::real::bridge::{config, run_alone};
use crate::real::eventually;
use crate::real::octoprint::OctoPrint;
use serde_json::Value;

/// Enables the plugin, and lets it announce a login.
const LOGIN: &str = "  discovery: {httpUsername: user, httpPassword: correct horse}\nappearance: {name: Workshop}\n";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs OctoPrint and a network with multicast: ./tests/run real"]
async fn an_octoprint_is_found_and_known_as_the_printer_that_it_is() {
    let octoprint = OctoPrint::start_with(|config| config.replace(" discovery,", "") + LOGIN).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    let file = file.to_str().unwrap();
    let port = format!(":{}/", octoprint.port);

    let json = ["--config", file, "discover", "--json", "--timeout", "1s"];
    // Others in the network, or none: the exit code says whether there is one at all.
    let found = || async {
        let (code, out, told) = run_alone(&json).await;
        let lines = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let lines: Vec<Value> = lines.collect();
        assert_eq!(code, Some(i32::from(lines.is_empty())), "{told}");
        assert!(lines.is_empty() != told.contains("authorize --url"), "{told}");
        assert!(told.contains("no printer is marked"), "{told}");
        lines.into_iter().find(|line| line["url"].as_str().unwrap().ends_with(&port))
    };
    let one = eventually("OctoPrint's announcement", found).await;
    assert_eq!(one["name"], "Workshop");
    assert_eq!(one["version"], octoprint.version().await);
    assert_eq!(one["configured"], Value::Null);
    assert_eq!(one["login"], true);
    assert!(one["url"].as_str().unwrap().contains(".local:"), "{one}");
    let address: url::Url = one["address"].as_str().unwrap().parse().unwrap();
    assert!(matches!(address.host(), Some(url::Host::Ipv4(_))), "{one}");
    let written = octoprint.read("config.yaml");
    assert!(written.contains(one["uuid"].as_str().unwrap()), "{written}");
    assert!(!one.to_string().contains("correct horse"), "{one}");

    // By the address at which it listens here, by that which it announces, and by its name.
    for url in [octoprint.url().as_str(), address.as_str(), one["url"].as_str().unwrap()] {
        std::fs::write(file, config("mqtt://127.0.0.1", url, "")).unwrap();
        let arguments = ["--config", file, "discover", "--timeout", "1s"];
        let lines = eventually("the announcement again", || async {
            let (_, out, told) = run_alone(&arguments).await;
            assert!(!told.contains("marked"), "{told}");
            out.contains(&port).then_some(out)
        })
        .await;
        let line = lines.lines().find(|line| line.contains(&port)).unwrap();
        assert!(line.starts_with("Workshop: http://"), "{line}");
        assert!(line.contains("is printer mk3 of the configuration"), "{url}: {line}");
    }
}
