//! A page with a board that the test fills, asked without a network.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue, SET_COOKIE};
use hyper::{Request, Response, StatusCode};
use octoprint2mqtt::bridge::Hub;
use octoprint2mqtt::bridge::board::{
    AskedByPage, Board, BrokerCard, Card, CardHeater, CardPicture,
};
use octoprint2mqtt::config::{self, Config};
use octoprint2mqtt::http::{HttpBody, Page, PageChoice, PageOptions, Site};
use octoprint2mqtt::recent_log::RecentLog;
use octoprint2mqtt::tls;
use serde_json::Value;
use tokio::sync::mpsc;

pub const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub const PASSWORD: &str = "MARKER-pass word & <ü>";
/// What a file, an error or a log line may contain.
pub const HOSTILE: &str =
    "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u{2028}\n\r\ndata: x\n\n&lt;b&gt;";

pub struct World {
    pub site: Site,
    pub board: Board,
    pub asked: mpsc::Receiver<AskedByPage>,
    pub log: RecentLog,
    _hub: Hub,
}

/// A configuration with this table `[http]`.
pub fn config(http: &str) -> Config {
    let text = format!(
        "[mqtt]\nurl = \"mqtt://127.0.0.1:1\"\n[http]\n{http}\n[printers.mk3]\nurl = \"http://127.0.0.1:1\"\napi_key = \"MARKER-key\"\n"
    );
    config::from_toml(&text).unwrap()
}

/// The part of a configuration that has a password.
pub fn password() -> String {
    format!("password = '{PASSWORD}'")
}

/// A card whose every text is hostile.
pub fn hostile_card(id: &str) -> Card {
    let text = || Some(HOSTILE.to_owned());
    Card {
        id: id.to_owned(),
        name: HOSTILE.to_owned(),
        url: "javascript:alert(3)".to_owned(),
        added: true,
        online: true,
        socket: HOSTILE.to_owned(),
        error: text(),
        interval: Some(500),
        state: HOSTILE.to_owned(),
        file: text(),
        completion: Some(42.5),
        time_left: Some(4000),
        temperatures: vec![CardHeater {
            heater: HOSTILE.to_owned(),
            actual: Some(60.0),
            target: Some(60.0),
        }],
        last_event: text(),
        last_event_at: text(),
        commands: [(HOSTILE.to_owned(), true)].into(),
    }
}

impl World {
    pub fn new(http: &str) -> Self {
        Self::with_ingress(http, None)
    }

    pub fn with_ingress(http: &str, ingress: Option<IpAddr>) -> Self {
        tls::install_provider();
        let config = config(http);
        let options = PageOptions { http: config.http.clone().unwrap(), ingress };
        assert_eq!(options.choice(), PageChoice::Served);
        let hub = Hub::start(config, Arc::new(|_| Ok(()))).unwrap();
        let ((board, asked), log) = (Board::new(), RecentLog::default());
        let page = Page::new(options, board.clone(), log.clone());
        let site = Site::from(hub.vitals()).with_page(Some(page));
        Self { site, board, asked, log, _hub: hub }
    }

    /// Fills the board with hostile texts.
    pub fn be_hostile(&self) {
        self.board.show(hostile_card("mk3"));
        self.board.show_broker(BrokerCard {
            address: HOSTILE.to_owned(),
            error: Some(HOSTILE.to_owned()),
            ..BrokerCard::default()
        });
        self.log.add("ERROR", Some(HOSTILE.to_owned()), HOSTILE.to_owned());
        let bytes = Bytes::from_static(b"<script>alert(4)</script>");
        self.board.show_picture("mk3", Some(CardPicture { media_type: "image/png", bytes }));
    }

    /// Sends a request: method and path, headers, body.
    pub async fn send(
        &self,
        call: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response<HttpBody> {
        self.send_from(PEER, call, headers, body).await
    }

    pub async fn send_from(
        &self,
        peer: IpAddr,
        call: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response<HttpBody> {
        let (method, path) = call.split_once(' ').unwrap();
        let mut request = Request::new(Full::<Bytes>::from(body.to_owned()));
        *request.method_mut() = method.parse().unwrap();
        *request.uri_mut() = path.parse().unwrap();
        for (name, value) in headers {
            let (name, value) =
                (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value));
            request.headers_mut().append(name, value.unwrap());
        }
        self.site.answer(request, peer).await
    }

    /// Sends a request as the page's own script does.
    pub async fn own(&self, call: &str, cookie: &str, body: &str) -> Response<HttpBody> {
        self.send(call, &own_headers(call, cookie), body).await
    }

    /// Logs in, and returns the cookie.
    pub async fn log_in(&self) -> String {
        let form = form(PASSWORD);
        let answer = self.own("POST /login", "", &form).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        let cookie = answer.headers()[SET_COOKIE].to_str().unwrap();
        cookie.split(';').next().unwrap().to_owned()
    }
}

/// The form of a login.
pub fn form(password: &str) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("username", "octoprint2mqtt").append_pair("password", password).finish()
}

pub fn own_headers<'h>(call: &str, cookie: &'h str) -> Vec<(&'h str, &'h str)> {
    let kind = match call {
        "POST /login" | "POST /logout" => "application/x-www-form-urlencoded",
        _ => "application/json; charset=utf-8",
    };
    vec![
        ("host", "127.0.0.1:8099"),
        ("origin", "http://127.0.0.1:8099"),
        ("sec-fetch-site", "same-origin"),
        ("content-type", kind),
        ("cookie", cookie),
    ]
}

/// The whole body; of a stream, its first part.
pub async fn text(answer: Response<HttpBody>) -> String {
    let is_stream = answer.headers()["content-type"] == "text/event-stream";
    let mut body = answer.into_body();
    let bytes = if is_stream {
        body.frame().await.unwrap().unwrap().into_data().unwrap()
    } else {
        body.collect().await.unwrap().to_bytes()
    };
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The events of a part of a stream.
pub fn events(text: &str) -> Vec<(String, Value)> {
    let read = |event: &str| {
        let lines: Vec<&str> = event.split('\n').collect();
        let [name, data] = lines[..] else { panic!("an event has two lines: {event:?}") };
        let data = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        (name.strip_prefix("event: ").unwrap().to_owned(), data)
    };
    text.strip_suffix("\n\n").unwrap().split("\n\n").map(read).collect()
}

pub fn header<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}
