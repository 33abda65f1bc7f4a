//! `octoprint2mqtt authorize`: asks OctoPrint for an application key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::subcommand::{self, CommandFailure, block_on};
use crate::bridge::authorization::{self, Asking};
use crate::config::{self, Access};
use crate::octoprint::KeyRequest;
use crate::secret_file::SecretFile;

/// The arguments of `octoprint2mqtt authorize`.
#[derive(Debug, clap::Args)]
#[allow(rustdoc::bare_urls, reason = "clap prints these texts")]
pub struct AuthorizeArguments {
    /// Address of OctoPrint, such as http://octopi.local
    #[arg(long, value_name = "URL", required_unless_present = "printer")]
    url: Option<String>,
    /// The printer of the configuration whose address, TLS and headers are used instead
    #[arg(long, value_name = "ID", conflicts_with_all = ["url", "ca_file", "insecure"])]
    printer: Option<String>,
    /// An extra request header, "Name: value", for a proxy that wants it; may be given several
    /// times
    #[arg(long, value_name = "HEADER")]
    header: Vec<String>,
    /// Write the key to FILE, which only you can read, instead of printing it
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Let only this user of OctoPrint allow the request
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// How long to wait for the click
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// PEM file of a private CA to trust
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Accept any certificate
    #[arg(long)]
    insecure: bool,
}

pub(super) fn command(
    arguments: AuthorizeArguments,
    config_file: Option<&Path>,
) -> Result<(), CommandFailure> {
    let access = access(&arguments, config_file)?;
    let AuthorizeArguments { save, user, timeout, .. } = arguments;
    let draft = save.as_deref().map(|path| {
        let cannot =
            |error| CommandFailure::at(format!("{} cannot be written", path.display()), error);
        SecretFile::create(path).map_err(cannot)
    });
    let draft = draft.transpose()?;
    let asking = Asking { access, user, timeout };
    let key = block_on(async {
        let stop = subcommand::stop()?;
        tokio::select! {
            answer = authorization::run(&asking, |request| instruct(&asking, request)) => Ok(answer?),
            () = stop => Err(CommandFailure::text("stopped before the request was decided")),
        }
    })?;
    match draft {
        None => println!("{}", key.expose()),
        Some(draft) => {
            let path = draft.path().to_owned();
            let cannot = |error| CommandFailure::at(path.display().to_string(), error);
            draft.save(&format!("{}\n", key.expose())).map_err(cannot)?;
            eprintln!("The key is in {}", path.display());
        }
    }
    Ok(())
}

fn instruct(asking: &Asking, request: &KeyRequest) {
    let (url, dialog) = (&asking.access.url, request.dialog());
    eprintln!(
        "Click Allow in OctoPrint, {url}\n(or, where no page of OctoPrint is open, at {dialog})"
    );
}

/// Returns how to reach OctoPrint, from the configuration or the arguments. Both may hold secrets,
/// so errors do not show them.
fn access(arguments: &AuthorizeArguments, file: Option<&Path>) -> Result<Access, CommandFailure> {
    let AuthorizeArguments { url, printer, header, ca_file, insecure, .. } = arguments;
    let wrong = |what: &str| CommandFailure::Configuration(what.into());
    let mut access = match (printer, url) {
        (Some(id), _) => {
            let read = config::read_access(file, id);
            let (access, warnings) =
                read.map_err(|errors| CommandFailure::Configuration(errors.into()))?;
            warnings.iter().for_each(|warning| eprintln!("{warning}"));
            access
        }
        (None, url) => {
            let address = url.as_deref().and_then(config::octoprint_address).ok_or_else(|| wrong("--url: expected the address of OctoPrint such as http://octopi.local, without query or fragment"))?;
            let mut headers = BTreeMap::new();
            headers.extend(address.authorization.map(|login| ("authorization".to_owned(), login)));
            let tls = config::Tls {
                ca_file: ca_file.clone(),
                insecure: *insecure,
                ..config::Tls::default()
            };
            Access { url: address.url, tls, headers }
        }
    };
    for line in header {
        let header = config::header_line(line);
        access.headers.extend([header.ok_or_else(|| wrong("--header: expected \"Name: value\""))?]);
    }
    Ok(access)
}
