//! Adds printers by the application-key flow, and changes and removes those that were added.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::asker::Asker;
use crate::bridge::authorization::{self, Asking, AuthorizeError};
use crate::bridge::board::{Board, PairingStatus};
use crate::bridge::newcomer::{Newcomer, PairRequest, check, check_name, newcomer};
use crate::causes::{self, Cause};
use crate::clock;
use crate::config::{Access, AddedError, AddedPrinters, Config, NewPrinter, Printer, Tls};
use crate::octoprint::{AppKeysError, REQUEST_LIFE};

/// How long the page lets clients of the broker discover, pair and remove.
const OPEN_FOR: Duration = Duration::from_secs(5 * 60);
/// Time limit for a changed configuration to be in force.
const IN_FORCE: Duration = Duration::from_secs(30);

/// Why a printer cannot be added, changed or removed.
#[derive(Debug, thiserror::Error)]
pub(super) enum PairingError {
    #[error(
        "pairing over MQTT is off; set pairing = true in the configuration, or allow it for five minutes on the bridge's page"
    )]
    Off,
    #[error("data_dir is not set, so that added printers cannot be kept")]
    NoDataDir,
    #[error("this bridge does not follow its configuration")]
    NotFollowed,
    #[error("another printer is being added; wait until that is allowed or denied")]
    Busy,
    /// What else was found is not for the one who asks.
    #[error("not an OctoPrint")]
    NotOctoPrint,
    #[error("the request was cancelled")]
    Cancelled,
    #[error("there is no printer {0:?}")]
    Unknown(String),
    #[error("printer {0} is of the configuration file or of variables; change it there")]
    NotAdded(String),
    #[error("there is no group of commands {0:?}")]
    NoGroup(String),
    #[error("the change is saved, but not in force; the log says why")]
    NotInForce,
}

/// Adds, changes and removes printers.
pub(super) struct PairingDesk {
    /// The configuration that is in force.
    config: watch::Receiver<Arc<Config>>,
    /// Has the configuration read again; `None`: it is not followed.
    reload: Option<mpsc::Sender<()>>,
    board: Option<Board>,
    /// Until when clients of the broker may ask.
    open_until: Option<Instant>,
    /// Held by the one pairing at a time.
    turn: Arc<Mutex<()>>,
    /// Ends the pairing that is under way.
    cancel: CancellationToken,
}

/// What a task of the desk needs.
#[derive(Clone)]
struct Work {
    asker: Asker,
    added: AddedPrinters,
    config: watch::Receiver<Arc<Config>>,
    reload: mpsc::Sender<()>,
}

impl PairingDesk {
    pub(super) fn new(config: watch::Receiver<Arc<Config>>) -> Self {
        Self {
            config,
            reload: None,
            board: None,
            open_until: None,
            turn: Arc::default(),
            cancel: CancellationToken::new(),
        }
    }

    /// Has the configuration read again through `reload`.
    pub(super) fn follow(&mut self, reload: mpsc::Sender<()>) {
        self.reload = Some(reload);
    }

    /// Shows on `board` what is being paired.
    pub(super) fn show_on(&mut self, board: Board) {
        self.board = Some(board);
    }

    /// Lets clients of the broker ask for five minutes. Returns how many seconds that is.
    pub(super) fn open(&mut self) -> u64 {
        self.open_until = Some(clock::now() + OPEN_FOR);
        OPEN_FOR.as_secs()
    }

    /// Whether who asks may discover, pair and remove.
    pub(super) fn admit(&self, asker: &Asker) -> Result<(), PairingError> {
        let is_open = self.open_until.is_some_and(|until| clock::now() < until);
        match asker.is_mqtt() && !is_open && !self.config.borrow().pairing {
            true => Err(PairingError::Off),
            false => Ok(()),
        }
    }

    /// Begins to add a printer; the asker is answered when OctoPrint asks its user, and at the end.
    /// Returns the task.
    pub(super) fn pair(
        &mut self,
        request: &PairRequest,
        asker: &Asker,
    ) -> Result<impl Future<Output = ()> + use<>, Cause> {
        let work = self.work(asker)?;
        let new = newcomer(request, &self.config.borrow())?;
        let turn = self.turn.clone().try_lock_owned().map_err(|_| PairingError::Busy)?;
        self.cancel = CancellationToken::new();
        Ok(pair(work, new, turn, self.board.clone(), self.cancel.clone()))
    }

    /// Ends the pairing that is under way.
    pub(super) fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Removes a printer that was added. Returns the task.
    pub(super) fn remove(
        &self,
        id: String,
        asker: &Asker,
    ) -> Result<impl Future<Output = ()> + use<>, Cause> {
        let work = self.work(asker)?;
        self.added(&id)?;
        let change = {
            let id = id.clone();
            move |added: &AddedPrinters| added.remove(&id)
        };
        let answer = json!({ "id": id });
        Ok(work.change(change, move |config| printer(config, &id).is_none(), answer))
    }

    /// Renames a printer that was added. Returns the task.
    pub(super) fn rename(
        &self,
        id: String,
        name: &str,
        asker: &Asker,
    ) -> Result<impl Future<Output = ()> + use<>, Cause> {
        let work = self.work(asker)?;
        self.added(&id)?;
        let name = name.trim().to_owned();
        check_name(&name, Some(&id), &self.config.borrow())?;
        let change = {
            let (id, name) = (id.clone(), name.clone());
            move |added: &AddedPrinters| added.rename(&id, &name)
        };
        let answer = json!({"id": id, "name": name});
        let is = move |config: &Config| printer(config, &id).is_some_and(|it| it.name == name);
        Ok(work.change(change, is, answer))
    }

    /// Chooses the groups of commands of a printer that was added. Returns the task.
    pub(super) fn set_groups(
        &self,
        id: String,
        groups: BTreeMap<String, bool>,
        asker: &Asker,
    ) -> Result<impl Future<Output = ()> + use<>, Cause> {
        let work = self.work(asker)?;
        let known = self.added(&id)?.commands.by_name();
        let is_known = |group: &str| known.iter().any(|(name, _)| *name == group);
        if let Some(unknown) = groups.keys().find(|group| !is_known(group)) {
            return Err(PairingError::NoGroup(unknown.clone()).into());
        }
        let answer = json!({"id": id, "groups": groups});
        let change = {
            let (id, groups) = (id.clone(), groups.clone());
            move |added: &AddedPrinters| added.set_groups(&id, &groups)
        };
        let is = move |config: &Config| {
            let commands = printer(config, &id).map(|it| it.commands.by_name());
            let has = |(name, on): (&str, bool)| groups.get(name).is_none_or(|want| *want == on);
            commands.is_some_and(|commands| commands.into_iter().all(has))
        };
        Ok(work.change(change, is, answer))
    }

    fn work(&self, asker: &Asker) -> Result<Work, PairingError> {
        let reload = self.reload.clone().ok_or(PairingError::NotFollowed)?;
        let config = self.config.borrow();
        let dir: &Path = config.data_dir.as_deref().ok_or(PairingError::NoDataDir)?;
        let added = AddedPrinters::in_dir(dir);
        Ok(Work { asker: asker.clone(), added, config: self.config.clone(), reload })
    }

    /// Returns a printer that was added, and is not of the file.
    fn added(&self, id: &str) -> Result<Arc<Printer>, PairingError> {
        match printer(&self.config.borrow(), id) {
            None => Err(PairingError::Unknown(id.to_owned())),
            Some(printer) if !printer.added => Err(PairingError::NotAdded(id.to_owned())),
            Some(printer) => Ok(printer.clone()),
        }
    }
}

fn printer<'c>(config: &'c Config, id: &str) -> Option<&'c Arc<Printer>> {
    config.printers.iter().find(|printer| printer.id == id)
}

impl Work {
    /// Changes the file of added printers, waits until the configuration `is` so, and answers.
    async fn change(
        self,
        change: impl FnOnce(&AddedPrinters) -> Result<(), AddedError> + Send + 'static,
        is: impl Fn(&Config) -> bool,
        answer: Value,
    ) {
        let outcome = self.put_in_force(change, is).await;
        self.asker.answer(outcome.map(|()| answer));
    }

    async fn put_in_force(
        &self,
        change: impl FnOnce(&AddedPrinters) -> Result<(), AddedError> + Send + 'static,
        is: impl Fn(&Config) -> bool,
    ) -> Result<(), Cause> {
        let added = self.added.clone();
        tokio::task::spawn_blocking(move || change(&added)).await??;
        // Fails only when the bridge stops.
        let _ = self.reload.send(()).await;
        let mut config = self.config.clone();
        let in_force = config.wait_for(|config| is(config));
        match tokio::time::timeout(IN_FORCE, in_force).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(PairingError::NotInForce.into()),
        }
    }
}

/// Asks OctoPrint for a key, and adds the printer.
async fn pair(
    work: Work,
    new: Newcomer,
    turn: OwnedMutexGuard<()>,
    board: Option<Board>,
    cancel: CancellationToken,
) {
    let data = |state: &str| json!({"id": new.id, "name": new.name, "url": new.url.as_str(), "state": state});
    let show = |outcome: &str| {
        if let Some(board) = &board {
            board.show_pairing(Some(PairingStatus {
                url: new.url.to_string(),
                id: new.id.clone(),
                name: new.name.clone(),
                dialog: Some(new.url.to_string()),
                outcome: outcome.to_owned(),
            }));
        }
    };
    let asked = || {
        tracing::info!(printer = new.id, url = %new.url, "waiting for the click on Allow in OctoPrint");
        show("waiting");
        work.asker.answer(Ok(data("waiting")));
    };
    let outcome = add(&work, &new, asked, &cancel).await;
    drop(turn);
    match outcome {
        Ok(()) => {
            tracing::info!(printer = new.id, "added a printer that was allowed in OctoPrint");
            show("allowed");
            work.asker.answer(Ok(data("allowed")));
        }
        Err(error) => {
            show(&causes::text(&*error));
            work.asker.answer(Err(error));
        }
    }
}

async fn add(
    work: &Work,
    new: &Newcomer,
    asked: impl FnOnce(),
    cancel: &CancellationToken,
) -> Result<(), Cause> {
    let added = work.added.clone();
    // Nobody shall click for nothing.
    tokio::task::spawn_blocking(move || added.check()).await??;
    let headers = new.authorization.clone().map(|value| ("authorization".to_owned(), value));
    let access = Access {
        url: new.url.clone(),
        tls: Tls::default(),
        headers: headers.into_iter().collect(),
    };
    let asking = Asking { access, user: None, timeout: REQUEST_LIFE };
    // Once there is a key, there is no way back.
    let key = tokio::select! {
        key = authorization::run(&asking, |_| asked()) => key.map_err(told)?,
        () = cancel.cancelled() => return Err(PairingError::Cancelled.into()),
    };
    // Much may have changed while somebody was on the way to OctoPrint.
    check(new, &work.config.borrow())?;
    let Newcomer { id, name, url, authorization } = new.clone();
    let (printer_id, address) = (id.clone(), url.clone());
    let new = NewPrinter { id, name, url, authorization, api_key: key };
    let change = move |added: &AddedPrinters| added.add(&new);
    let is_it = |it: &Arc<Printer>| it.added && it.url == address;
    work.put_in_force(change, |config| printer(config, &printer_id).is_some_and(is_it)).await
}

/// Returns what the one who asks is told. What answers at an address that is no OctoPrint's is not
/// their business: they may be looking around in a network that they cannot reach.
fn told(error: AuthorizeError) -> Cause {
    match error {
        AuthorizeError::AppKeys(AppKeysError::TooMany)
        | AuthorizeError::Denied
        | AuthorizeError::TimedOut(_) => error.into(),
        other => {
            tracing::info!("cannot pair: {}", causes::text(&other));
            PairingError::NotOctoPrint.into()
        }
    }
}
