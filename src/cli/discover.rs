//! `octoprint2mqtt discover`: prints the OctoPrints of the local network.

use std::time::Duration;

use url::Url;

use super::subcommand::{CommandFailure, block_on};
use crate::config::Loaded;
use crate::finding::{self, Discovered, DiscoveredOctoPrint};

/// The arguments of `octoprint2mqtt discover`.
#[derive(Debug, clap::Args)]
pub struct DiscoverArguments {
    /// How long to wait for answers
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Print JSON lines
    #[arg(long)]
    json: bool,
}

/// Needs no configuration: without one, no printer is marked.
pub(super) fn command(
    arguments: &DiscoverArguments,
    loaded: Result<Loaded, CommandFailure>,
) -> Result<(), CommandFailure> {
    let configured: Vec<(String, Url)> = match loaded {
        Ok(Loaded { config, .. }) => {
            config.printers.iter().map(|it| (it.id.clone(), it.url.clone())).collect()
        }
        Err(failure) => {
            let why = failure.text_of_error().unwrap_or_default();
            eprintln!("no printer is marked as one of the configuration: {why}");
            Vec::new()
        }
    };
    let found = block_on(async {
        Ok::<_, CommandFailure>(finding::answer(&configured, arguments.timeout).await?)
    })?;
    for one in &found.octoprints {
        match arguments.json {
            true => println!("{}", serde_json::to_string(one)?),
            false => println!("{}", line(one)),
        }
    }
    if let Some(note) = found.note {
        return Err(CommandFailure::text(note));
    }
    if let Some(next) = next(&found) {
        eprintln!("{next}");
    }
    Ok(())
}

/// Returns one found OctoPrint as a line for people.
fn line(one: &DiscoveredOctoPrint) -> String {
    let mut line = format!("{}: {}", one.name, one.url);
    if let Some(address) = one.address.as_ref().filter(|address| **address != one.url) {
        line += &format!(" or {address}");
    }
    if let Some(version) = &one.version {
        line += &format!(", OctoPrint {version}");
    }
    if one.login {
        line += ", wants a user and password in the address";
    }
    if let Some(id) = &one.configured {
        line += &format!(", is printer {id} of the configuration");
    }
    line
}

/// Says what to do with an OctoPrint that is not in the configuration, if there is one.
fn next(found: &Discovered) -> Option<String> {
    let new = found.octoprints.iter().find(|one| one.configured.is_none())?;
    Some(format!("Next, get a key for one of them: octoprint2mqtt authorize --url {}", new.url))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> DiscoveredOctoPrint {
        DiscoveredOctoPrint {
            name: "octopi".to_owned(),
            url: "http://octopi.local/".to_owned(),
            address: Some("http://192.168.1.20/".to_owned()),
            version: Some("1.11.8".to_owned()),
            uuid: Some("6c7f".to_owned()),
            configured: None,
            login: false,
        }
    }

    #[test]
    fn a_line_says_what_is_known() {
        assert_eq!(
            line(&found()),
            "octopi: http://octopi.local/ or http://192.168.1.20/, OctoPrint 1.11.8"
        );
        let url = "http://192.168.1.20/".to_owned();
        let known = DiscoveredOctoPrint {
            url,
            version: None,
            configured: Some("mk3".to_owned()),
            login: true,
            ..found()
        };
        assert_eq!(
            line(&known),
            "octopi: http://192.168.1.20/, wants a user and password in the address, is printer mk3 of the configuration"
        );
    }

    #[test]
    fn the_next_step_is_for_a_printer_that_is_not_yet_configured() {
        let known = DiscoveredOctoPrint { configured: Some("mk3".to_owned()), ..found() };
        let new = DiscoveredOctoPrint { url: "http://mini.local/".to_owned(), ..found() };
        let of = |octoprints: &[&DiscoveredOctoPrint]| {
            let octoprints = octoprints.iter().copied().cloned().collect();
            next(&Discovered { octoprints, note: None })
        };
        assert!(of(&[&known, &new]).unwrap().ends_with("authorize --url http://mini.local/"));
        assert_eq!(of(&[&known]), None);
    }
}
