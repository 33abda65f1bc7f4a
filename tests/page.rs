//! The page: who is answered, and with what. Without a network, but for what is about connections.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test that cannot go on has failed, and nothing is above this crate"
)]

#[path = "page/browser.rs"]
mod browser;
#[path = "page/connections.rs"]
mod connections;
#[path = "page/printers.rs"]
mod printers;
mod real;
#[path = "page/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use hyper::StatusCode;
use octoprint2mqtt::bridge::board::{CardPicture, PageRequest};
use octoprint2mqtt::bridge::newcomer::PairRequest;
use octoprint2mqtt::http::SUPERVISOR;
use octoprint2mqtt::secret::Secret;
use serde_json::json;
use world::{HOSTILE, PASSWORD, PEER, World, events, form, header, own_headers, password, text};

/// All that can be asked.
const CALLS: [&str; 12] = [
    "GET /",
    "GET /login",
    "GET /style.css",
    "GET /page.js",
    "GET /icon.svg",
    "GET /events",
    "GET /session",
    "GET /picture/mk3",
    "GET /picture/none",
    "POST /login",
    "POST /logout",
    "POST /ask",
];

#[tokio::test]
async fn what_is_shown_and_asked_needs_the_login() {
    let mut world = World::new(&password());
    world.be_hostile();
    for call in ["GET /events", "GET /session", "GET /picture/mk3", "POST /ask"] {
        for cookie in ["", "octoprint2mqtt_8099=", "octoprint2mqtt_8099=guess"] {
            let answer = world.own(call, cookie, r#"{"ask":"discover"}"#).await;
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{call} {cookie}");
            assert_eq!(text(answer).await, r#"{"error":"log in first"}"#, "{call}");
        }
    }
    assert!(world.asked.try_recv().is_err(), "nothing reached the bridge");
    let login = text(world.own("GET /", "", "").await).await;
    assert!(login.contains("type=\"password\"") && !login.contains("alert"), "{login}");
    let cookie = world.log_in().await;
    let session = world.own("GET /session", &cookie, "").await;
    assert_eq!(session.status(), StatusCode::NO_CONTENT);
    let page = text(world.own("GET /", &format!("other=1; {cookie}"), "").await).await;
    assert!(page.contains("alert") && page.contains("Log out"), "{page}");
    assert_eq!(events(&text(world.own("GET /events", &cookie, "").await).await).len(), 4);
    let out = world.own("POST /logout", &cookie, "").await;
    assert_eq!((out.status(), header(out.headers(), "location")), (StatusCode::SEE_OTHER, "./"));
    let ended = world.own("GET /session", &cookie, "").await;
    assert_eq!(ended.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn the_cookie_is_for_this_page_alone() {
    let world = World::new(&password());
    let login = form(PASSWORD);
    for (proto, is_secure) in [("http", false), ("https", true)] {
        let mut headers = own_headers("POST /login", "");
        headers.push(("x-forwarded-proto", proto));
        let answer = world.send("POST /login", &headers, &login).await;
        let cookie = header(answer.headers(), "set-cookie");
        let attributes: BTreeSet<&str> = cookie.split("; ").skip(1).collect();
        let mut expected = BTreeSet::from(["HttpOnly", "Max-Age=2592000", "SameSite=Strict"]);
        expected.extend(is_secure.then_some("Secure"));
        // Without a path: a browser then takes that of the login.
        assert_eq!(attributes, expected);
        assert_eq!(header(answer.headers(), "location"), "./");
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_wrong_logins_lock_nobody_out() {
    let world = World::new(&password());
    let wrong = form("wrong");
    let calls = (0..1000).map(|_| world.own("POST /login", "", &wrong));
    let answers = futures_util::future::join_all(calls).await;
    let count = |status| answers.iter().filter(|answer| answer.status() == status).count();
    let (refused, put_off) =
        (count(StatusCode::UNAUTHORIZED), count(StatusCode::TOO_MANY_REQUESTS));
    assert_eq!(refused + put_off, 1000);
    assert!((1..=9).contains(&refused), "{refused} were checked");
    let put_off = answers.iter().find(|a| a.status() == StatusCode::TOO_MANY_REQUESTS).unwrap();
    let wait: u64 = header(put_off.headers(), "retry-after").parse().unwrap();
    assert!((1..=30).contains(&wait));
    // Those who go on one after the other are slow, and so is whoever knows the password.
    let start = tokio::time::Instant::now();
    for _ in 0..1000 {
        let answer = world.own("POST /login", "", &wrong).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    }
    assert!(start.elapsed() >= Duration::from_secs(2 * 1000));
    let start = tokio::time::Instant::now();
    world.log_in().await;
    assert!(start.elapsed() <= Duration::from_secs(2));
}

#[tokio::test]
async fn forged_origins_and_foreign_names_are_refused() {
    let mut world = World::new(&format!("{}\nhosts = [\"pi.lan\"]", password()));
    let cookie = world.log_in().await;
    let body = r#"{"ask":"allow_mqtt_pairing"}"#;
    let cases = [
        // DNS rebinding: a name of the attacker's that leads here.
        ("evil.example", "http://evil.example", "same-origin", StatusCode::MISDIRECTED_REQUEST),
        ("127.0.0.1:8099", "http://evil.example", "same-origin", StatusCode::FORBIDDEN),
        ("127.0.0.1:8099", "http://127.0.0.1:5000", "same-origin", StatusCode::FORBIDDEN),
        ("127.0.0.1:8099", "null", "same-origin", StatusCode::FORBIDDEN),
        ("127.0.0.1:8099", "http://127.0.0.1:8099", "cross-site", StatusCode::FORBIDDEN),
        ("127.0.0.1:8099", "http://127.0.0.1:8099", "same-site", StatusCode::FORBIDDEN),
    ];
    for (host, origin, site, expected) in cases {
        for call in ["POST /ask", "POST /login", "POST /logout"] {
            let kind = own_headers(call, "")[3];
            let headers = [
                ("host", host),
                ("origin", origin),
                ("sec-fetch-site", site),
                kind,
                ("cookie", &cookie),
            ];
            let answer = world.send(call, &headers, body).await;
            assert_eq!(answer.status(), expected, "{call} {host} {origin} {site}");
        }
    }
    let named = world.send("GET /", &[("host", "evil.example")], "").await;
    assert_eq!(named.status(), StatusCode::MISDIRECTED_REQUEST);
    assert!(text(named).await.contains("http.hosts"));
    let named = world.send("GET /", &[("host", "Pi.lan:1234")], "").await;
    assert_eq!(named.status(), StatusCode::OK);
    // No other site includes a picture of here.
    let headers = [("host", "localhost"), ("sec-fetch-site", "cross-site"), ("cookie", &*cookie)];
    let picture = world.send("GET /picture/mk3", &headers, "").await;
    assert_eq!(picture.status(), StatusCode::FORBIDDEN);
    let without =
        world.send("POST /ask", &[("host", "localhost"), ("cookie", &cookie)], body).await;
    assert_eq!(without.status(), StatusCode::FORBIDDEN);
    assert!(world.asked.try_recv().is_err(), "nothing reached the bridge");
    let session = world.own("GET /session", &cookie, "").await;
    assert_eq!(session.status(), StatusCode::NO_CONTENT, "nobody has logged out");
}

#[tokio::test]
async fn hostile_texts_stay_texts() {
    let world = World::new("");
    world.be_hostile();
    let page = world.own("GET /", "", "").await;
    let policy = header(page.headers(), "content-security-policy").to_owned();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
    let page = text(page).await;
    assert!(!page.contains("<script>") && !page.contains("<img src=x"), "{page}");
    assert!(page.contains("alert(1)"), "it is there, escaped");
    let stream = world.own("GET /events", "", "").await;
    assert_eq!(header(stream.headers(), "content-type"), "text/event-stream");
    assert_eq!(header(stream.headers(), "cache-control"), "no-store");
    let events = events(&text(stream).await);
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["cards", "pairing", "broker", "log"]);
    assert_eq!(events[0].1["cards"][0]["file"], HOSTILE);
    assert_eq!(events[2].1["address"], HOSTILE);
    assert_eq!(events[3].1[0]["text"], HOSTILE);
    // And in the browser: nothing there makes markup of a text.
    let script = text(world.own("GET /page.js", "", "").await).await;
    let ways =
        ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("];
    assert!(ways.iter().all(|way| !script.contains(way)));
}

#[tokio::test]
async fn a_picture_is_served_as_what_it_was_decoded_to() {
    let world = World::new("");
    let bytes = || "<svg onload=alert(1)>".into();
    for (media_type, status) in [
        ("image/png", StatusCode::OK),
        ("image/jpeg", StatusCode::OK),
        ("image/svg+xml", StatusCode::NOT_FOUND),
        ("text/html", StatusCode::NOT_FOUND),
    ] {
        world.board.show_picture("mk3", Some(CardPicture { media_type, bytes: bytes() }));
        let answer = world.own("GET /picture/mk3?v=1", "", "").await;
        assert_eq!(answer.status(), status, "{media_type}");
        assert_eq!(header(answer.headers(), "x-content-type-options"), "nosniff");
        let kind = header(answer.headers(), "content-type");
        assert_eq!(kind == media_type, status == StatusCode::OK, "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_answer_has_a_secret_and_each_has_its_protection() {
    let world = World::new(&password());
    world.be_hostile();
    let cookie = world.log_in().await;
    let (_, token) = cookie.split_once('=').unwrap();
    let (right, wrong) = (form(PASSWORD), form("MARKER-wrong"));
    for call in CALLS {
        for cookie in ["", &cookie] {
            // Those that end the session come last.
            for body in [r#"{"ask":"MARKER-ask"}"#, &right, &wrong] {
                let answer = world.own(call, cookie, body).await;
                let headers = answer.headers().clone();
                for (name, expected) in [
                    ("x-content-type-options", "nosniff"),
                    ("x-frame-options", "DENY"),
                    ("referrer-policy", "same-origin"),
                    ("cross-origin-resource-policy", "same-origin"),
                ] {
                    assert_eq!(header(&headers, name), expected, "{call}");
                }
                assert!(headers.contains_key("cache-control"), "{call}");
                let mut shown = text(answer).await;
                for (name, value) in &headers {
                    if name != "set-cookie" {
                        shown += &format!("{name}: {value:?}\n");
                    }
                }
                for secret in ["MARKER", token] {
                    assert!(!shown.contains(secret), "{call}: {shown}");
                }
            }
        }
    }
    let lines = serde_json::to_string(&world.log.after(0)).unwrap();
    assert!(!lines.contains("MARKER"), "{lines}");
}

#[tokio::test]
async fn without_a_password_the_page_is_read_only_unless_configured() {
    for (http, is_read_only) in
        [("", true), ("read_only = false", false), ("read_only = true\npassword = \"p\"", true)]
    {
        let mut world = World::with_ingress(http, Some(PEER));
        // The ingress is asked for once: it has logged in its user.
        let ingress = [("x-ingress-path", "/x"), ("content-type", "application/json")];
        let changes = [
            json!({"ask": "pair", "url": "http://a"}),
            json!({"ask": "cancel_pairing"}),
            json!({"ask": "remove", "id": "a"}),
            json!({"ask": "rename", "id": "a", "name": "b"}),
            json!({"ask": "groups", "id": "a", "groups": {"gcode": true}}),
            json!({"ask": "allow_mqtt_pairing"}),
        ];
        let log_in = if http.contains("password") { form("p") } else { String::new() };
        let login = world.own("POST /login", "", &log_in).await;
        let cookie = header(login.headers(), "set-cookie").split(';').next().unwrap().to_owned();
        let page = text(world.own("GET /", &cookie, "").await).await;
        assert_eq!(page.contains("data-read-only"), is_read_only, "{http}");
        assert_eq!(page.contains("id=\"add\""), !is_read_only, "{http}");
        let answered = tokio::spawn(async move {
            let mut requests = Vec::new();
            while let Some((request, answer)) = world.asked.recv().await {
                requests.push(request);
                answer.send(Ok(json!([]))).unwrap();
            }
            requests
        });
        for body in &changes {
            let answer = world_own(&world.site, &own_headers("POST /ask", &cookie), body).await;
            let expected = if is_read_only { StatusCode::FORBIDDEN } else { StatusCode::OK };
            assert_eq!(answer, expected, "{http} {body}");
        }
        for body in [json!({"ask": "discover"}), json!({"ask": "check"})] {
            let answer = world_own(&world.site, &own_headers("POST /ask", &cookie), &body).await;
            assert_eq!(answer, StatusCode::OK, "{http} {body}");
        }
        // Through the ingress, a password is not asked for.
        let by_ingress = world_own(&world.site, &ingress, &changes[1]).await;
        let is_refused = http.contains("read_only = true");
        assert_eq!(by_ingress == StatusCode::FORBIDDEN, is_refused, "{http}");
        drop((world.site, world.board));
        let requests = answered.await.unwrap();
        assert_eq!(requests.len(), 2 + if is_read_only { 0 } else { 6 } + usize::from(!is_refused));
        let url = Secret::new("http://a");
        let pair = PageRequest::Pair(PairRequest { url, name: None, id: None });
        assert_eq!(requests[0] == pair, !is_read_only);
    }
}

async fn world_own(
    site: &octoprint2mqtt::http::Site,
    headers: &[(&str, &str)],
    body: &serde_json::Value,
) -> StatusCode {
    let mut request = hyper::Request::post("/ask");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = http_body_util::Full::<hyper::body::Bytes>::from(body.to_string());
    site.answer(request.body(body).unwrap(), PEER).await.status()
}

#[tokio::test]
async fn the_ingress_needs_neither_login_nor_name_and_shows_the_page_in_a_frame() {
    let world = World::with_ingress("listen = \"0.0.0.0:8099\"", Some(SUPERVISOR));
    let ingress = [("x-ingress-path", "/api/hassio_ingress/x"), ("host", "home.example")];
    let page = world.send_from(SUPERVISOR, "GET /", &ingress, "").await;
    assert_eq!(page.status(), StatusCode::OK);
    let policy = header(page.headers(), "content-security-policy");
    assert!(policy.ends_with("frame-ancestors 'self'"), "{policy}");
    assert_eq!(header(page.headers(), "x-frame-options"), "SAMEORIGIN");
    assert!(text(page).await.contains("id=\"add\""), "its user may change things");
    // Home Assistant leaves alone what it does not take for text.
    let stream = world.send_from(SUPERVISOR, "GET /events", &ingress, "").await;
    assert_eq!(header(stream.headers(), "content-type"), "application/octet-stream");
    for peer in [PEER, IpAddr::from([172, 30, 32, 3])] {
        let other = world.send_from(peer, "GET /", &ingress, "").await;
        assert_eq!(other.status(), StatusCode::FORBIDDEN);
        let local = world.send_from(peer, "GET /", &[("host", "localhost")], "").await;
        assert!(text(local).await.contains("http.password"));
    }
}

#[tokio::test]
async fn the_whole_page_is_small_and_its_addresses_are_relative() {
    let world = World::new("");
    let page = text(world.own("GET /", "", "").await).await;
    let mut size = page.len() + text(world.own("GET /events", "", "").await).await.len();
    let starts = ["href=\"", "src=\"", "action=\""];
    let addresses: BTreeSet<&str> = starts
        .iter()
        .flat_map(|start| page.split(start).skip(1))
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert!(addresses.len() >= 3, "{addresses:?}");
    for address in addresses {
        assert!(!address.starts_with('/') && !address.contains(':'), "{address} is relative");
        if address.starts_with('#') {
            continue;
        }
        let answer = world.own(&format!("GET /{address}"), "", "").await;
        assert_eq!(answer.status(), StatusCode::OK, "{address}");
        assert!(header(answer.headers(), "cache-control").contains("immutable"), "{address}");
        let tag = header(answer.headers(), "etag").to_owned();
        size += text(answer).await.len();
        let (path, _) = address.split_once('?').unwrap();
        let known = [("host", "localhost"), ("if-none-match", &*tag)];
        let again = world.send(&format!("GET /{path}"), &known, "").await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(header(again.headers(), "cache-control"), "no-cache");
    }
    assert!((10_000..100_000).contains(&size), "{size} bytes");
    println!("the page has {size} bytes");
}

#[tokio::test]
async fn methods_bodies_and_paths_that_are_wrong_are_refused() {
    let world = World::new("read_only = false");
    let kind = |kind| {
        let mut headers = own_headers("POST /ask", "");
        headers[3] = ("content-type", kind);
        headers
    };
    let large = format!("{{\"ask\":\"remove\",\"id\":\"{}\"}}", "x".repeat(20_000));
    for (call, kind, body, expected) in [
        ("POST /ask", kind("text/plain"), "{}", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("POST /ask", kind("application/json"), "{}", StatusCode::BAD_REQUEST),
        ("POST /ask", kind("application/json"), &*large, StatusCode::PAYLOAD_TOO_LARGE),
        ("POST /", kind("application/json"), "{}", StatusCode::METHOD_NOT_ALLOWED),
        ("GET /ask", kind("application/json"), "", StatusCode::METHOD_NOT_ALLOWED),
        ("DELETE /events", kind("application/json"), "", StatusCode::METHOD_NOT_ALLOWED),
        ("GET /picture", kind("application/json"), "", StatusCode::NOT_FOUND),
        ("GET /../config.toml", kind("application/json"), "", StatusCode::NOT_FOUND),
        ("HEAD /", kind("application/json"), "", StatusCode::OK),
    ] {
        let answer = world.send(call, &kind, body).await;
        assert_eq!(answer.status(), expected, "{call}");
        let is_method = expected == StatusCode::METHOD_NOT_ALLOWED;
        assert_eq!(answer.headers().contains_key("allow"), is_method, "{call}");
    }
    // The bridge's own error is told as it is.
    drop(world.asked);
    let gone =
        world_own(&world.site, &own_headers("POST /ask", ""), &json!({"ask": "check"})).await;
    assert_eq!(gone, StatusCode::CONFLICT);
}
