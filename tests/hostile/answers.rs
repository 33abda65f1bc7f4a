//! What a hostile OctoPrint answers to a REST call.

use super::dice::Dice;
use super::wire::http;

const LOGIN: &str = r#"{"name":"admin","session":"SESSION","apikey":"APIKEY","needs":{}}"#;
const USER: &str = r#"{"name":"admin","permissions":["STATUS"],"groups":["admins"]}"#;

/// What is sent; `None`: nothing, and the connection stays.
pub type Answer = Option<String>;

pub fn login(dice: &mut Dice) -> Answer {
    if dice.chance(13) || dice.is_used_up() {
        return Some(http(200, "", LOGIN));
    }
    let guest = r#"{"needs":{"group":["guests"]},"permissions":[]}"#;
    match dice.below(12) {
        0 => Some(http(500, "", "<title>500</title>")),
        1 => Some(http(403, "", "<html>")),
        2 => Some(http(400, "", r#"{"error":"CSRF validation failed"}"#)),
        3 => Some(http(200, "", guest)),
        4 => Some(http(429, "", "")),
        5 => Some(http(401, "WWW-Authenticate: Basic realm=\"x\"\r\n", "")),
        6 => Some(http(302, "Location: https://octopi.local/login\r\n", "")),
        7 => Some(http(200, "", &LOGIN.replace("\"SESSION\"", "NaN"))),
        8 => Some("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"name\"".to_owned()),
        9 => Some("not HTTP at all".to_owned()),
        10 => Some(http(502, "", "")),
        _ => None,
    }
}

pub fn other(path: &str, dice: &mut Dice) -> Answer {
    match path {
        "/api/login" => login(dice),
        "/api/currentuser" if !dice.chance(6) => Some(http(200, "", USER)),
        "/api/currentuser" => match dice.below(4) {
            0 => Some(http(200, "", &USER.replace("STATUS", "FILES_LIST"))),
            1 => Some(http(500, "", "")),
            2 => Some(http(200, "", r#"{"name":null,"permissions":[]}"#)),
            _ => None,
        },
        "/sockjs/info" if !dice.chance(4) => Some(http(200, "", r#"{"websocket":true}"#)),
        _ => match dice.below(3) {
            0 => Some(http(404, "", "<html>")),
            1 => Some(http(500, "", "<html>")),
            _ => Some(String::new()),
        },
    }
}
