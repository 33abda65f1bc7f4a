//! A simulated OctoPrint 1.11 that speaks the real wire protocol: login, SockJS, auth, throttle,
//! subscribe, events, REST. It prints a part in a loop for the demo, and injects faults for tests. It
//! is light: one task per OctoPrint, and one per socket.

mod gcode;
mod model;
mod push;
mod rest;
mod shared;
mod webcam;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::Model;
use serde_json::{Value, json};
pub use shared::{Faults, Observed, SimulatorOptions};
use shared::{Push, ServerState, locked};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

/// A running simulated OctoPrint; cheap to clone. It runs until [`Simulator::stop`], or the end of the
/// runtime.
#[derive(Clone)]
pub struct Simulator {
    shared: Arc<ServerState>,
    address: SocketAddr,
}

/// Interval between steps of the printer's simulation, before `speed`.
const STEP: Duration = Duration::from_millis(100);

impl Simulator {
    /// Starts the server and the printer.
    ///
    /// # Errors
    /// If it cannot listen on the address.
    pub async fn start(options: SimulatorOptions) -> std::io::Result<Self> {
        let listener = TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(ServerState {
            model: Mutex::new(Model::new(options.extruders, options.print_loop)),
            options,
            faults: Mutex::default(),
            observed: Mutex::default(),
            sessions: Mutex::default(),
            sockets: Mutex::default(),
            stop: CancellationToken::new(),
            push: broadcast::channel(1024).0,
        });
        let stop = shared.stop.clone();
        let serve = axum::serve(
            Acceptor { listener, shared: shared.clone() },
            rest::router(shared.clone()),
        );
        // If a part of the simulated OctoPrint panics, the bridge sees an OctoPrint that is down.
        tokio::spawn(async move {
            tokio::select! {
                _ = serve.into_future() => {}
                () = stop.cancelled() => {}
            }
        });
        tokio::spawn(run_printer(shared.clone()));
        Ok(Self { shared, address })
    }

    /// Its address, with a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Stops it. Its sockets close without a close frame, like those of a killed OctoPrint.
    pub fn stop(&self) {
        self.shared.stop.cancel();
        self.drop_sockets();
    }

    /// Sets the faults from now on.
    pub fn set_faults(&self, faults: Faults) {
        *locked(&self.shared.faults) = faults;
    }

    /// Changes the number of extruders in the printer profile.
    pub fn set_extruders(&self, extruders: usize) {
        locked(&self.shared.model).set_extruders(extruders);
        self.event("PrinterProfileModified", json!({"identifier": "_default"}));
    }

    /// Returns the requests received so far.
    pub fn observed(&self) -> Observed {
        locked(&self.shared.observed).clone()
    }

    /// Closes all sockets without a close frame.
    pub fn drop_sockets(&self) {
        let mut sockets = locked(&self.shared.sockets);
        sockets.cancel();
        *sockets = CancellationToken::new();
    }

    /// Forgets all sessions, as a restart does.
    pub fn forget_sessions(&self) {
        locked(&self.shared.sessions).clear();
    }

    /// Fires an event.
    pub fn event(&self, kind: &str, payload: Value) {
        self.push(Push::Event(kind.to_owned(), payload));
    }

    /// Sends a plugin's message.
    pub fn plugin(&self, id: &str, data: Value) {
        self.push(Push::Plugin(id.to_owned(), data));
    }

    /// Asks all sockets to authenticate again, this many times at once.
    pub fn reauth(&self, reason: &str, copies: usize) {
        for _ in 0..copies {
            self.push(Push::Message("reauthRequired", json!({ "reason": reason })));
        }
    }

    /// Sends a frame to all sockets unchanged, even an invalid one.
    pub fn raw(&self, frame: &str) {
        self.push(Push::Raw(frame.to_owned()));
    }

    fn push(&self, push: Push) {
        // Fails only when no socket is open, which does not matter.
        let _ = self.shared.push.send(push);
    }
}

/// Runs the printer.
async fn run_printer(shared: Arc<ServerState>) {
    let mut steps = tokio::time::interval(STEP);
    steps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = steps.tick() => {}
            () = shared.stop.cancelled() => return,
        }
        let events = {
            let mut model = locked(&shared.model);
            model.step(STEP.as_secs_f64() * shared.options.speed);
            model.take_events()
        };
        for (kind, payload) in events {
            let _ = shared.push.send(Push::Event(kind, payload));
        }
    }
}

/// Accepts connections, unless OctoPrint is still starting.
struct Acceptor {
    listener: TcpListener,
    shared: Arc<ServerState>,
}

impl axum::serve::Listener for Acceptor {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((mut stream, address)) => {
                    if locked(&self.shared.faults).starting {
                        tokio::spawn(async move {
                            // The answer of OctoPrint's stand-in server during its start.
                            let _ = stream.write_all(b"Not found").await;
                        });
                        continue;
                    }
                    // Sends small frames immediately, as OctoPrint does.
                    let _ = stream.set_nodelay(true);
                    return (stream, address);
                }
                // Out of file descriptors for a moment, or the client disconnected already.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
