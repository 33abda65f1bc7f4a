//! `octoprint2mqtt check`: tries everything that the bridge needs, with one line for each.

use std::time::Duration;

use serde_json::{Value, json};

use super::subcommand::{CommandFailure, block_on};
use crate::bridge::hub::identity::{Identity, Owners, conflict};
use crate::bridge::setup::{self, SetupError};
use crate::causes;
use crate::config::{Config, Loaded, Mqtt, Printer};
use crate::mqtt::{self, Lost};
use crate::octoprint::{Credentials, CurrentUser, LoginError, Rest, RestError, SocketState};
use crate::store::Known;
use crate::topics::BridgeTopics;

/// Timeout for opening one socket, including its fallbacks.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) fn command(loaded: &Loaded) -> Result<(), CommandFailure> {
    let Loaded { config, warnings } = loaded;
    warnings.iter().for_each(|warning| eprintln!("{warning}"));
    block_on(async {
        match run(config, |finding| println!("{finding}")).await {
            true => Ok(()),
            false => Err(CommandFailure::Printed),
        }
    })
}

/// What is wrong, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Wrong {
    /// The settings of the broker, or of a printer.
    #[error(transparent)]
    SetUp(#[from] SetupError),
    /// The connection to the broker.
    #[error(transparent)]
    Broker(#[from] Lost),
    /// Another bridge runs below the same base topic.
    #[error("{0}")]
    OtherBridge(String),
    /// The login.
    #[error("{text}")]
    Login {
        /// The login's error, and the number of characters sent.
        text: String,
        /// Why.
        source: LoginError,
    },
    /// The request for the current user.
    #[error(transparent)]
    User(#[from] RestError),
    /// The user lacks the permission to see the state.
    #[error(
        "user {0} lacks the permission STATUS, so no message would ever arrive; give it to the user in OctoPrint's settings, Access Control"
    )]
    NoPermission(String),
    /// The push socket failed.
    #[error("{0}")]
    Socket(String),
    /// The push socket did not open in time.
    #[error("no answer within {} s", SOCKET_TIMEOUT.as_secs())]
    NoAnswer,
    /// The push socket gave no reason.
    #[error("not connected, and OctoPrint did not say why")]
    Unknown,
    /// The check panicked.
    #[error("this check failed by a fault of the program")]
    Fault,
}

/// One line of the report.
#[derive(Debug)]
pub struct Finding {
    /// What was tried, and its address.
    pub what: String,
    /// The result; the error says what to do.
    pub outcome: Result<String, Wrong>,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.outcome {
            Ok(found) => write!(f, "✓ {}: {found}", self.what),
            Err(wrong) => write!(f, "✗ {}: {}", self.what, causes::text(wrong)),
        }
    }
}

impl Finding {
    /// Returns the line as the page takes it: `{"what", "ok", "text"}`.
    pub fn to_json(&self) -> Value {
        let text = match &self.outcome {
            Ok(found) => found.clone(),
            Err(wrong) => causes::text(wrong),
        };
        json!({"what": self.what, "ok": self.outcome.is_ok(), "text": text})
    }
}

/// Tries the broker and every printer concurrently; `report` gets each line as soon as it is known.
/// Returns whether everything works.
pub async fn run(config: &Config, mut report: impl FnMut(Finding)) -> bool {
    let mut tries = tokio::task::JoinSet::new();
    let broker = config.mqtt.clone();
    tries.spawn(async move { vec![check_broker(&broker).await] });
    for printer in config.printers.clone() {
        tries.spawn(async move { check_printer(&printer).await });
    }
    let mut all_well = true;
    while let Some(findings) = tries.join_next().await {
        match findings {
            Ok(findings) => {
                for finding in findings {
                    all_well &= finding.outcome.is_ok();
                    report(finding);
                }
            }
            // The panic is already on stderr.
            Err(_) => {
                all_well = false;
                report(Finding { what: "check".to_owned(), outcome: Err(Wrong::Fault) });
            }
        }
    }
    all_well
}

async fn check_broker(mqtt: &Mqtt) -> Finding {
    let outcome = try_broker(mqtt).await.map(|()| "connected".to_owned());
    Finding { what: format!("broker {}:{}", mqtt.host, mqtt.port), outcome }
}

/// Connects, and checks whether another bridge runs below the same base topic.
async fn try_broker(mqtt: &Mqtt) -> Result<(), Wrong> {
    let options = setup::broker_options(mqtt, None)?;
    let base = &mqtt.base_topic;
    let filters = [BridgeTopics::info_filter(base), BridgeTopics::state_filter(base)];
    let filters = filters.each_ref().map(String::as_str);
    let retained = mqtt::retained(&options, &filters, &BridgeTopics::marker(base)).await?;
    // Without earlier identities: a bridge that uses one of them now is another bridge.
    let identity = Identity::recall(&mqtt.identity, &Known::default());
    match Owners::read(identity, base, &retained).others().first() {
        None => Ok(()),
        Some(other) => Err(Wrong::OtherBridge(conflict(other, base))),
    }
}

async fn check_printer(printer: &Printer) -> Vec<Finding> {
    let what = |part: &str| format!("{} {} {part}", printer.id, printer.url);
    let rest = match setup::rest(printer) {
        Ok(rest) => rest,
        Err(error) => {
            return vec![Finding { what: what("set-up"), outcome: Err(error.into()) }];
        }
    };
    let login = check_login(&rest, &printer.credentials).await;
    let logged_in = login.is_ok();
    let mut findings = vec![Finding { what: what("login"), outcome: login }];
    if logged_in {
        let outcome = check_socket(printer).await;
        findings.push(Finding { what: what("push socket"), outcome });
    }
    findings
}

async fn check_login(rest: &Rest, credentials: &Credentials) -> Result<String, Wrong> {
    let login = rest.login().await;
    login.map_err(|source| Wrong::Login { text: credentials.describe_failure(&source), source })?;
    let CurrentUser { name, permissions, .. } = rest.current_user().await?;
    let name = name.unwrap_or_else(|| "nobody".to_owned());
    let has =
        |wanted: &str| permissions.iter().any(|granted| granted == wanted || granted == "ADMIN");
    if !has("STATUS") {
        return Err(Wrong::NoPermission(name));
    }
    let lacking: Vec<&str> =
        ["PRINT", "CONTROL", "CONNECTION", "FILES_LIST"].into_iter().filter(|p| !has(p)).collect();
    Ok(if lacking.is_empty() {
        format!("logged in as {name}")
    } else {
        format!(
            "logged in as {name}; without {}, some commands will be refused",
            lacking.join(", ")
        )
    })
}

async fn check_socket(printer: &Printer) -> Result<String, Wrong> {
    // Dropped at the end, which ends its task.
    let socket = setup::socket(printer)?;
    let mut status = socket.status();
    socket.connect();
    let opened = status.wait_for(|status| {
        matches!(status.state, SocketState::Connected | SocketState::Waiting | SocketState::Failed)
    });
    let status = match tokio::time::timeout(SOCKET_TIMEOUT, opened).await {
        Ok(Ok(status)) => status.clone(),
        Ok(Err(_)) | Err(_) => return Err(Wrong::NoAnswer),
    };
    match (status.state, status.error) {
        (SocketState::Connected, _) => {
            let transport = status.transport.map_or("unknown", |transport| transport.as_str());
            Ok(format!("connected over {transport}"))
        }
        (_, Some(error)) => Err(Wrong::Socket(error)),
        (_, None) => Err(Wrong::Unknown),
    }
}
