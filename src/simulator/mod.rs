//! A simulated OctoPrint 1.11 that speaks the real wire protocol: login, SockJS, auth, throttle,
//! subscribe, events, REST. It prints a part in a loop for the demo, and serves tests with faults
//! on request. It is light: one task an OctoPrint, one more a socket.

mod model;
mod push;
mod rest;
mod shared;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::Model;
use serde_json::{Value, json};
pub use shared::{Faults, Observed, SimulatorOptions};
use shared::{Push, Shared, locked};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

/// A running simulated OctoPrint; cheap to clone. It ends at [`Simulator::stop`], or with the
/// runtime.
#[derive(Clone)]
pub struct Simulator {
    shared: Arc<Shared>,
    address: SocketAddr,
}

/// Steps of the printer's life, before `speed`.
const STEP: Duration = Duration::from_millis(100);

impl Simulator {
    /// Starts to listen and to live.
    ///
    /// # Errors
    /// Where the address cannot be listened on.
    pub async fn start(options: SimulatorOptions) -> std::io::Result<Self> {
        let listener = TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
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
        let serve =
            axum::serve(Door { listener, shared: shared.clone() }, rest::router(shared.clone()));
        // A part of the simulated OctoPrint that panics is to the bridge an OctoPrint that is gone.
        tokio::spawn(async move {
            tokio::select! {
                _ = serve.into_future() => {}
                () = stop.cancelled() => {}
            }
        });
        tokio::spawn(live(shared.clone()));
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

    /// Ends it; its sockets end without a close frame, as a killed OctoPrint's do.
    pub fn stop(&self) {
        self.shared.stop.cancel();
        self.drop_sockets();
    }

    /// Sets what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        *locked(&self.shared.faults) = faults;
    }

    /// Changes the printer profile to so many extruders.
    pub fn set_extruders(&self, extruders: usize) {
        locked(&self.shared.model).set_extruders(extruders);
        self.event("PrinterProfileModified", json!({"identifier": "_default"}));
    }

    /// What it has seen so far.
    pub fn observed(&self) -> Observed {
        locked(&self.shared.observed).clone()
    }

    /// Ends all sockets without a close frame.
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

    /// Asks all sockets to show a login again, this many times at once.
    pub fn reauth(&self, reason: &str, copies: usize) {
        for _ in 0..copies {
            self.push(Push::Message("reauthRequired", json!({ "reason": reason })));
        }
    }

    /// Sends a frame to all sockets as it is, be it nonsense.
    pub fn raw(&self, frame: &str) {
        self.push(Push::Raw(frame.to_owned()));
    }

    fn push(&self, push: Push) {
        // Fails only when no socket is open: then nobody misses it.
        let _ = self.shared.push.send(push);
    }
}

/// The printer's life.
async fn live(shared: Arc<Shared>) {
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

/// Lets connections in, unless OctoPrint is still starting.
struct Door {
    listener: TcpListener,
    shared: Arc<Shared>,
}

impl axum::serve::Listener for Door {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((mut stream, address)) => {
                    if locked(&self.shared.faults).starting {
                        tokio::spawn(async move {
                            // OctoPrint's stand-in server answers so while it starts.
                            let _ = stream.write_all(b"Not found").await;
                        });
                        continue;
                    }
                    // Small frames go out at once, as OctoPrint's do.
                    let _ = stream.set_nodelay(true);
                    return (stream, address);
                }
                // Out of files for a moment, or a client that left before it was in.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
