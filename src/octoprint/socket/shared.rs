//! What a socket's handles and its task share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::handlers::Handlers;
use super::status::{Counters, RateMode, Status};
use super::throttle::{Rate, Throttle};
use crate::octoprint::Socket;

/// What is called when the rate does not fit: the socket, the measured time, and the limit.
type RateHook = Arc<dyn Fn(&Socket, Duration, Duration) + Send + Sync>;

/// The throttle and who steers it.
#[derive(Debug)]
pub(in crate::octoprint) struct RateControl {
    pub(in crate::octoprint) throttle: Throttle,
    pub(in crate::octoprint) mode: RateMode,
    restarts: u64,
}

impl RateControl {
    /// Changes with everything that makes earlier messages unfit to be measured.
    pub(in crate::octoprint) fn generation(&self) -> u64 {
        self.throttle.generation() + self.restarts
    }

    pub(in crate::octoprint) fn restart(&mut self) {
        self.throttle.restart();
        self.restarts += 1;
    }

    pub(in crate::octoprint) fn set_mode(&mut self, mode: RateMode) {
        if let RateMode::Manual(factor) = mode {
            self.throttle.set_factor(factor);
        }
        self.mode = mode;
        self.restart();
        self.keep_manual();
    }

    pub(in crate::octoprint) fn step(&mut self, step: impl FnOnce(&mut Throttle)) {
        step(&mut self.throttle);
        self.keep_manual();
    }

    /// A factor set by hand shows as what is in force.
    fn keep_manual(&mut self) {
        if let RateMode::Manual(factor) = &mut self.mode {
            *factor = self.throttle.factor();
        }
    }
}

struct Hooks {
    too_low: RateHook,
    too_high: RateHook,
}

pub(in crate::octoprint) struct Shared {
    pub(in crate::octoprint) handlers: Handlers,
    pub(in crate::octoprint) status: watch::Sender<Status>,
    rate: Mutex<RateControl>,
    hooks: Mutex<Hooks>,
    messages: AtomicU64,
    decode_errors: AtomicU64,
    reconnects: AtomicU64,
}

impl Shared {
    pub(in crate::octoprint) fn new(window: usize, max_factor: u32) -> Self {
        let throttle = Throttle::new(window, max_factor);
        let hooks = Hooks {
            too_low: Arc::new(|socket, _, _| socket.increase_rate()),
            too_high: Arc::new(|socket, _, _| socket.decrease_rate()),
        };
        Self {
            handlers: Handlers::default(),
            status: watch::Sender::new(Status::default()),
            rate: Mutex::new(RateControl { throttle, mode: RateMode::Auto, restarts: 0 }),
            hooks: Mutex::new(hooks),
            messages: AtomicU64::new(0),
            decode_errors: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
        }
    }

    pub(in crate::octoprint) fn rate(&self) -> MutexGuard<'_, RateControl> {
        self.rate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the rate and shows what is in force then.
    pub(in crate::octoprint) fn change_rate(&self, change: impl FnOnce(&mut RateControl)) {
        let mut rate = self.rate();
        change(&mut rate);
        let (mode, factor) = (rate.mode, rate.throttle.factor());
        self.status.send_if_modified(|status| {
            let changed = (status.rate_mode, status.rate_factor) != (mode, factor);
            (status.rate_mode, status.rate_factor) = (mode, factor);
            changed
        });
    }

    pub(in crate::octoprint) fn set_too_low(&self, hook: RateHook) {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner).too_low = hook;
    }

    pub(in crate::octoprint) fn set_too_high(&self, hook: RateHook) {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner).too_high = hook;
    }

    /// Calls the hook that a rate asks for. No lock is held meanwhile: it may use the socket.
    pub(in crate::octoprint) fn call_hook(&self, socket: &Socket, rate: Rate) {
        let hooks = self.hooks.lock().unwrap_or_else(PoisonError::into_inner);
        let (hook, measured, limit) = match rate {
            Rate::TooLow { measured, minimum } => (Arc::clone(&hooks.too_low), measured, minimum),
            Rate::TooHigh { measured, maximum } => (Arc::clone(&hooks.too_high), measured, maximum),
        };
        drop(hooks);
        hook(socket, measured, limit);
    }

    pub(in crate::octoprint) fn count_message(&self) {
        self.messages.fetch_add(1, Ordering::Relaxed);
    }

    pub(in crate::octoprint) fn count_decode_error(&self) {
        self.decode_errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(in crate::octoprint) fn count_reconnect(&self) {
        self.reconnects.fetch_add(1, Ordering::Relaxed);
    }

    pub(in crate::octoprint) fn counters(&self) -> Counters {
        Counters {
            messages: self.messages.load(Ordering::Relaxed),
            decode_errors: self.decode_errors.load(Ordering::Relaxed),
            reconnects: self.reconnects.load(Ordering::Relaxed),
        }
    }
}
