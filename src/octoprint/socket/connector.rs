//! The task of a socket: connects, and reconnects with the delays of the list of timeouts.

use tokio::time::{Instant, timeout};

use super::backoff::Backoff;
use super::connection::{SocketConnection, Stage};
use super::dispatcher::{Dispatcher, Order};
use super::failure::{ConnectionEnd, Outage, SocketError};
use super::fallback::Fallback;
use super::options::SocketOptions;
use super::relogin::LOGIN_STEPS;
use super::status::SocketState;
use crate::causes;
use crate::octoprint::rest::client::Rest;
use crate::octoprint::rest::error::LoginError;
use crate::octoprint::rest::http::public_url;
use crate::octoprint::rest::login::Login;
use crate::octoprint::wire::received::{TransportError, WebSocketFailure};
use crate::octoprint::wire::transport::{
    Link, Transport, open_websocket, open_xhr, sockjs_is_there,
};

pub(super) struct Connector {
    options: SocketOptions,
    rest: Rest,
    url: String,
    dispatcher: Dispatcher,
    backoff: Backoff,
    fallback: Fallback,
    outage: Outage,
    connections: u64,
    connected_before: bool,
    last_failure: Option<String>,
}

impl Connector {
    pub(super) fn new(options: SocketOptions, rest: Rest, dispatcher: Dispatcher) -> Self {
        Self {
            url: public_url(&options.rest.url),
            dispatcher,
            backoff: Backoff::new(options.timeouts.clone(), options.give_up),
            fallback: Fallback::new(options.transport),
            outage: Outage::new(rest.clone(), options.rest.connect_timeout, options.knock),
            connections: 0,
            connected_before: false,
            last_failure: None,
            options,
            rest,
        }
    }

    /// Runs until ordered to close. Boxed, because a future stores its arguments twice.
    pub(super) async fn run(mut self: Box<Self>) {
        let mut order = Order::Disconnect;
        loop {
            order = match order {
                Order::Disconnect => self.idle().await,
                Order::Connect | Order::Reconnect => self.stay_connected().await,
                Order::Close => break,
            };
        }
        self.dispatcher.update_status(|status| {
            status.state = SocketState::Disconnected;
            status.transport = None;
            status.next_attempt_in = None;
        });
    }

    /// Waits for an order. A socket that has given up stays in state `failed` meanwhile.
    async fn idle(&mut self) -> Order {
        self.dispatcher.update_status(|status| {
            if status.state != SocketState::Failed {
                status.state = SocketState::Disconnected;
                status.error = None;
            }
            status.transport = None;
            status.next_attempt_in = None;
        });
        let interrupted =
            self.dispatcher.run_unless_ordered(false, std::future::pending::<()>()).await;
        let order = interrupted.err().unwrap_or(Order::Disconnect);
        if order == Order::Disconnect {
            self.dispatcher.update_status(|status| status.state = SocketState::Disconnected);
        }
        order
    }

    /// Connects and reconnects until an order comes or the attempts are given up.
    async fn stay_connected(&mut self) -> Order {
        self.backoff.reset();
        loop {
            let failure = match self.attempt().await {
                ConnectionEnd::Failed(failure) => failure,
                ConnectionEnd::Ordered(order) => {
                    match order {
                        Order::Connect | Order::Reconnect => {
                            tracing::info!(url = self.url, "reconnecting on request");
                        }
                        _ => tracing::info!(url = self.url, "disconnected on request"),
                    }
                    self.last_failure = None;
                    return order;
                }
            };
            let Some(pause) = self.failed(&failure) else { return Order::Disconnect };
            if let Err(order) = self.outage.wait(&mut self.dispatcher, pause).await {
                return order;
            }
        }
    }

    /// Makes one attempt and runs the connection, if there is one.
    async fn attempt(&mut self) -> ConnectionEnd {
        self.dispatcher.update_status(|status| {
            status.state = SocketState::Connecting;
            status.transport = None;
            status.next_attempt_in = None;
        });
        let (link, login) = match self.open().await {
            Ok(opened) => opened,
            Err(end) => return end,
        };
        self.outage.opened();
        self.connections += 1;
        let (transport, number) = (link.transport(), self.connections);
        let mut connection = SocketConnection::new(
            link,
            login,
            number,
            &self.options,
            &self.rest,
            &mut self.dispatcher,
            self.connected_before,
        );
        let end = connection.run().await;
        let SocketConnection { stage, proven, stable, .. } = connection;
        if let ConnectionEnd::Ordered(_) = end {
            connection.close().await;
        }
        if stable {
            self.backoff.reset();
        }
        if proven {
            self.connected_before = true;
            self.last_failure = None;
            self.outage.connected();
        }
        let is_silent = matches!(stage, Stage::Opening | Stage::Greeting);
        if !is_silent {
            self.fallback.greeted(transport);
        }
        match &end {
            ConnectionEnd::Failed(_) if is_silent => {
                self.handle_silent_connection(transport).await.err().unwrap_or(end)
            }
            ConnectionEnd::Failed(failure) if stage != Stage::Authenticating => {
                self.outage.lost(failure);
                end
            }
            _ => end,
        }
    }

    async fn open(&mut self) -> Result<(Link, Login), ConnectionEnd> {
        let (limit, rest) = (self.options.rest.connect_timeout, self.rest.clone());
        if let Some(turns) = &self.options.turns {
            self.dispatcher.run_unless_ordered(true, turns.take()).await?;
        }
        let login = timeout(limit * LOGIN_STEPS, rest.login());
        let login = self
            .dispatcher
            .run_unless_ordered(true, login)
            .await?
            .map_err(|_| LoginError::Timeout)??;
        Ok((self.open_transport().await?, login))
    }

    /// Opens the preferred transport, or XHR streaming if WebSocket is blocked.
    async fn open_transport(&mut self) -> Result<Link, ConnectionEnd> {
        if self.fallback.transport(Instant::now()) == Transport::XhrStreaming {
            let opened = self.open_xhr().await?;
            return Ok(opened.inspect_err(|_| self.fallback.xhr_failed())?);
        }
        let (limit, sizes) = (self.options.rest.connect_timeout, self.options.sizes());
        let open = open_websocket(self.rest.http(), limit, sizes);
        let failed = match self.dispatcher.run_unless_ordered(true, open).await? {
            Ok(link) => return Ok(link),
            Err(failed) => failed,
        };
        if !self.websocket_failed(failed.websocket_failure()).await? {
            return Err(failed.into());
        }
        tracing::warn!(url = self.url, "{}; trying XHR streaming", causes::text(&failed));
        // If both fail, the first error is the useful one.
        let opened = self.open_xhr().await?;
        Ok(opened.map_err(|_| {
            self.fallback.xhr_failed();
            failed
        })?)
    }

    async fn open_xhr(&mut self) -> Result<Result<Link, TransportError>, Order> {
        let (limit, sizes) = (self.options.rest.connect_timeout, self.options.sizes());
        self.dispatcher.run_unless_ordered(true, open_xhr(&self.rest, limit, sizes)).await
    }

    async fn websocket_failed(&mut self, failure: WebSocketFailure) -> Result<bool, Order> {
        let asked = sockjs_is_there(self.rest.http(), self.options.rest.connect_timeout);
        let there = self.fallback.needs_sockjs_check(failure)
            && self.dispatcher.run_unless_ordered(true, asked).await?;
        Ok(self.fallback.websocket_failed(failure, there, Instant::now()))
    }

    async fn handle_silent_connection(
        &mut self,
        transport: Transport,
    ) -> Result<(), ConnectionEnd> {
        match transport {
            Transport::WebSocket => {
                let falls_back = self.websocket_failed(WebSocketFailure::Silent).await?;
                if falls_back {
                    let url = &self.url;
                    tracing::warn!(
                        url,
                        "two WebSockets carried no message; falling back to XHR streaming"
                    );
                }
            }
            Transport::XhrStreaming => self.fallback.xhr_failed(),
        }
        Ok(())
    }

    /// Logs and publishes a failure. Returns the delay before the next attempt; `None` to give up.
    fn failed(&mut self, failure: &SocketError) -> Option<std::time::Duration> {
        let text = match failure {
            SocketError::Login(error) => self.options.rest.credentials.describe_failure(error),
            other => causes::text(other),
        };
        let pause = failure.pause(self.options.rest.refused_pause);
        let pause = pause.or_else(|| self.backoff.next_timeout());
        self.outage.begin_wait(failure, pause.is_some());
        let next = match pause {
            Some(pause) => format!("next attempt in {}", humantime::format_duration(pause)),
            None => "giving up until a reconnect is requested".to_owned(),
        };
        if self.last_failure.as_ref() == Some(&text) && pause.is_some() {
            tracing::debug!(url = self.url, "{text}; {next}");
        } else {
            tracing::warn!(url = self.url, "{text}; {next}");
        }
        let attempt = self.backoff.attempts();
        self.dispatcher.update_status(|status| {
            status.state = if pause.is_some() { SocketState::Waiting } else { SocketState::Failed };
            status.transport = None;
            status.attempt = attempt;
            status.next_attempt_in = pause;
            status.error = Some(text.clone());
        });
        self.outage.report_gone(&self.dispatcher);
        self.last_failure = Some(text);
        pause
    }
}
