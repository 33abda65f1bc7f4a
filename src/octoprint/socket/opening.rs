//! How a socket gets its transport, and what it learns where it gets none.

use tokio::time::Instant;

use super::actor::{Actor, Over};
use super::connection::Phase;
use super::failure::Failure;
use crate::octoprint::wire::received::{Miss, TransportError};
use crate::octoprint::wire::transport::{
    Link, Transport, open_websocket, open_xhr, sockjs_is_there,
};

impl Actor {
    /// Opens the transport that is to be tried, and the other one where that is blocked.
    pub(in crate::octoprint) async fn open_transport(&mut self) -> Result<Link, Over> {
        if self.fallback.transport(Instant::now()) == Transport::XhrStreaming {
            let opened = self.open_xhr().await?;
            return Ok(opened.inspect_err(|_| self.fallback.no_better())?);
        }
        let (rest, limit) = (self.rest.clone(), self.options.connect_timeout);
        let sizes = self.options.sizes();
        let opened = self.obeying(open_websocket(rest.http(), limit, sizes)).await?;
        let failed = match opened {
            Ok(link) => return Ok(link),
            Err(failed) => failed,
        };
        if !self.missed(failed.miss()).await? {
            return Err(failed.into());
        }
        tracing::warn!(url = self.url, "{failed}; trying XHR streaming");
        // The first failure is the one worth telling.
        let opened = self.open_xhr().await?;
        Ok(opened.map_err(|_| {
            self.fallback.no_better();
            failed
        })?)
    }

    async fn open_xhr(&mut self) -> Result<Result<Link, TransportError>, Over> {
        let (rest, limit) = (self.rest.clone(), self.options.connect_timeout);
        let sizes = self.options.sizes();
        let open = async { open_xhr(&rest, limit, sizes).await };
        self.obeying(open).await
    }

    /// A WebSocket failed. Yields whether to move to XHR streaming.
    async fn missed(&mut self, miss: Miss) -> Result<bool, Over> {
        let (rest, limit) = (self.rest.clone(), self.options.connect_timeout);
        let there =
            self.fallback.asks(miss) && self.obeying(sockjs_is_there(rest.http(), limit)).await?;
        Ok(self.fallback.missed(miss, there, Instant::now()))
    }

    /// A connection that was open has failed.
    pub(in crate::octoprint) fn ended(
        &mut self,
        transport: Transport,
        phase: Phase,
        failure: &Failure,
    ) {
        match phase {
            Phase::Opening | Phase::Greeting => self.mute = Some(transport),
            Phase::Authenticating => {}
            Phase::Live | Phase::Renewing | Phase::Reproving => {
                self.lost = true;
                self.closed_at = failure.closed_by_peer().then(Instant::now);
            }
        }
    }

    /// Draws the conclusion from a connection that carried not even `connected`.
    pub(in crate::octoprint) async fn learn_of_mute(&mut self) -> Result<(), Over> {
        match self.mute.take() {
            Some(Transport::WebSocket) => {
                let moves = self.missed(Miss::Mute).await?;
                if moves {
                    let url = &self.url;
                    tracing::warn!(url, "two WebSockets carried nothing: XHR streaming is next");
                }
            }
            Some(Transport::XhrStreaming) => self.fallback.no_better(),
            None => {}
        }
        Ok(())
    }
}
