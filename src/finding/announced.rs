//! What an OctoPrint announces, read without trust: anyone in the network can announce anything.

use std::net::{IpAddr, Ipv4Addr};

use url::Url;

use crate::config::octoprint_address;

/// Bounds of what is shown, in characters.
const MAX_NAME: usize = 100;
const MAX_VERSION: usize = 40;
const MAX_UUID: usize = 64;
/// Bounds of what becomes part of an address, in bytes.
const MAX_HOST: usize = 253;
const MAX_PATH: usize = 200;
/// Bounds the IP addresses that are kept of one OctoPrint.
const MAX_ADDRESSES: usize = 16;

/// An announcement as it came. The user and password that it may have (TXT `u` and `p`) stay out.
#[derive(Debug, Clone, Default)]
pub(super) struct Announcement {
    /// Such as `OctoPrint instance on octopi`.
    pub(super) instance: String,
    /// Such as `octopi.local.`.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) path: Option<String>,
    pub(super) version: Option<String>,
    pub(super) uuid: Option<String>,
    pub(super) wants_login: bool,
}

/// An OctoPrint of the local network. All texts are bounded, and without control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundOctoPrint {
    /// Its name, or that of its host, such as `octopi`.
    pub name: String,
    /// Its address with the host's name, which stays, or else with the IP address. Port and path
    /// are in it; the path ends with `/`.
    pub url: Url,
    /// Its address with an IP address, for where names in `.local` are not known. `None` if it has
    /// only addresses that are no use without a network interface.
    pub address: Option<Url>,
    /// All its IP addresses, the likeliest first.
    pub addresses: Vec<IpAddr>,
    /// Version of OctoPrint.
    pub version: Option<String>,
    /// Its id; copies of an installation have the same.
    pub uuid: Option<String>,
    /// Whether it announces that a user and password are wanted (Basic authentication), most
    /// likely by a proxy.
    pub wants_login: bool,
}

/// Reads an announcement; `None` if no valid address comes of it.
pub(super) fn read(announcement: &Announcement) -> Option<FoundOctoPrint> {
    let port = announcement.port;
    let path = path(announcement.path.as_deref().unwrap_or_default())?;
    let addresses = usable(&announcement.addresses);
    let host = local_name(&announcement.host);
    let by_name = host.as_deref().and_then(|host| address(host, port, &path));
    let by_ip = addresses.iter().find_map(|ip| match ip {
        IpAddr::V4(v4) => address(&v4.to_string(), port, &path),
        IpAddr::V6(v6) => address(&format!("[{v6}]"), port, &path),
    });
    let url = by_name.or_else(|| by_ip.clone())?;
    let short_host = host.as_deref().map(|host| host.trim_end_matches(".local"));
    let name = clean(short_name(&announcement.instance), MAX_NAME)
        .or_else(|| clean(short_host?, MAX_NAME))
        .unwrap_or_else(|| "OctoPrint".to_owned());
    Some(FoundOctoPrint {
        name,
        url,
        address: by_ip,
        addresses,
        version: announcement.version.as_deref().and_then(|text| clean(text, MAX_VERSION)),
        uuid: announcement.uuid.as_deref().and_then(|text| clean(text, MAX_UUID)),
        wants_login: announcement.wants_login,
    })
}

/// Sorts by name, and makes one of those that are the same OctoPrint. It can be announced twice:
/// after a restart with another name, because the old one was not yet forgotten.
pub(super) fn merged(mut found: Vec<FoundOctoPrint>) -> Vec<FoundOctoPrint> {
    found.sort_by_cached_key(|it| (it.name.to_lowercase(), it.url.clone(), it.uuid.clone()));
    let mut merged: Vec<FoundOctoPrint> = Vec::new();
    for one in found {
        let same = |it: &&mut FoundOctoPrint| it.url == one.url && it.uuid == one.uuid;
        match merged.iter_mut().find(same) {
            None => merged.push(one),
            Some(known) => known.addresses = usable(&[&*known.addresses, &*one.addresses].concat()),
        }
    }
    merged
}

/// Builds an address, and checks that it is read as what it was built of.
fn address(host: &str, port: u16, path: &str) -> Option<Url> {
    if port == 0 {
        return None;
    }
    // No announcement says so: the port alone does.
    let scheme = if port == 443 { "https" } else { "http" };
    let url = octoprint_address(&format!("{scheme}://{host}:{port}{path}"))?.url;
    (url.host_str() == Some(host)).then_some(url)
}

/// Returns the path with a `/` before it; `None` if it has what no path of an OctoPrint has. People
/// paste the address behind a command, so nothing in it may mean anything to a shell.
fn path(text: &str) -> Option<String> {
    let is_of_path =
        |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_' | '~' | '/' | '%');
    let fine = text.len() <= MAX_PATH && text.chars().all(is_of_path);
    fine.then(|| format!("/{}", text.trim_start_matches('/')))
}

/// Returns the host in lower case if it is a name in `.local`. Announcements name no others, and
/// another could lead anywhere.
fn local_name(host: &str) -> Option<String> {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let is_label = |label: &str| !label.is_empty() && label.chars().all(is_of_name);
    let name = host.strip_suffix(".local")?;
    (host.len() <= MAX_HOST && name.split('.').all(is_label)).then_some(host)
}

/// OctoPrint calls itself `OctoPrint instance on octopi`, or `OctoPrint instance "Workshop"` if it
/// has a name; a second one of the same name gets `-2` behind it.
fn short_name(instance: &str) -> &str {
    let Some(name) = instance.strip_prefix("OctoPrint instance ") else { return instance };
    if let Some(host) = name.strip_prefix("on ") {
        return host;
    }
    let quoted = name.strip_prefix('"').and_then(|name| name.strip_suffix('"'));
    quoted.unwrap_or(name)
}

/// Removes what is not shown or changes how the rest is shown, and bounds the length in characters;
/// `None` if nothing is left.
fn clean(text: &str, max: usize) -> Option<String> {
    let shown = text.chars().filter(|c| !c.is_control() && !is_invisible(*c));
    let text: String = shown.take(max).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Formatting characters, which could turn the text around or hide a part of it.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Returns the addresses that lead to a host, each once, the likeliest to be reached first.
fn usable(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut usable: Vec<IpAddr> = addresses.iter().map(IpAddr::to_canonical).collect();
    usable.retain(|ip| match ip {
        IpAddr::V4(v4) => !v4.is_unspecified() && !v4.is_multicast() && !v4.is_broadcast(),
        // An address of a link would need the interface, which no address of a web page has.
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast() && !v6.is_unicast_link_local(),
    });
    usable.sort_by_key(|ip| (remoteness(*ip), *ip));
    usable.dedup();
    usable.truncate(MAX_ADDRESSES);
    usable
}

/// How unlikely an address is to be the one to use.
fn remoteness(ip: IpAddr) -> u8 {
    match ip {
        ip if ip.is_loopback() => 5,
        IpAddr::V6(_) => 3,
        IpAddr::V4(v4) if v4.is_link_local() => 4,
        // Most often that of Docker's bridge there.
        IpAddr::V4(v4) if is_dockers(v4) => 2,
        IpAddr::V4(_) => 1,
    }
}

/// Whether it is in 172.16.0.0/12, of which Docker takes its networks first.
pub(super) fn is_dockers(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    first == 172 && (16..32).contains(&second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced() -> Announcement {
        Announcement {
            instance: "OctoPrint instance on octopi".to_owned(),
            host: "OctoPi.local.".to_owned(),
            port: 80,
            addresses: vec!["192.168.1.20".parse().unwrap()],
            path: Some("/".to_owned()),
            version: Some("1.11.8".to_owned()),
            uuid: Some("6c7f".to_owned()),
            wants_login: false,
        }
    }

    fn url(announcement: &Announcement) -> Option<String> {
        Some(read(announcement)?.url.into())
    }

    #[test]
    fn an_announcement_becomes_two_addresses() {
        let found = read(&announced()).unwrap();
        assert_eq!(found.name, "octopi");
        assert_eq!(found.url.as_str(), "http://octopi.local/");
        assert_eq!(found.address.unwrap().as_str(), "http://192.168.1.20/");
        assert_eq!(found.version.as_deref(), Some("1.11.8"));
        assert_eq!(found.uuid.as_deref(), Some("6c7f"));

        let path = Some("octoprint".to_owned());
        let found = read(&Announcement { port: 5000, path, ..announced() }).unwrap();
        assert_eq!(found.url.as_str(), "http://octopi.local:5000/octoprint/");
        assert_eq!(found.address.unwrap().as_str(), "http://192.168.1.20:5000/octoprint/");

        let found = Announcement { port: 443, path: None, ..announced() };
        assert_eq!(url(&found).as_deref(), Some("https://octopi.local/"));
    }

    #[test]
    fn names_are_short() {
        let named = |instance: &str| {
            read(&Announcement { instance: instance.to_owned(), ..announced() }).unwrap().name
        };
        assert_eq!(named("OctoPrint instance \"Work \"shop\"\""), "Work \"shop\"");
        assert_eq!(named("OctoPrint instance on octopi-2"), "octopi-2");
        assert_eq!(named("OctoPrint instance \"Shop\"-2"), "\"Shop\"-2");
        assert_eq!(named("Printer"), "Printer");
        assert_eq!(named(""), "octopi");
        assert_eq!(named("\u{202e}\u{7}\n"), "octopi");
        assert_eq!(named("a\u{1b}[31mb\u{202e}c\r\nd\u{200b}"), "a[31mbcd");
        assert_eq!(named(&"ä".repeat(5000)), "ä".repeat(MAX_NAME));
    }

    #[test]
    fn texts_are_bounded_and_hold_no_control_characters() {
        let hostile = Some(format!("\u{1b}]0;x\u{7}{}", "9".repeat(200)));
        let found = Announcement { version: hostile.clone(), uuid: hostile, ..announced() };
        let found = read(&found).unwrap();
        assert_eq!(found.version.unwrap().len(), MAX_VERSION);
        assert!(found.uuid.unwrap().starts_with("]0;x9"));
        let empty = Announcement { version: Some(" \n".to_owned()), uuid: None, ..announced() };
        assert_eq!(read(&empty).unwrap().version, None);
    }

    #[test]
    fn a_path_cannot_make_another_address() {
        let of = |path: &str| url(&Announcement { path: Some(path.to_owned()), ..announced() });
        let at = |path: &str| Some(format!("http://octopi.local{path}"));
        for (path, expected) in [
            ("", at("/")),
            ("//evil.example", at("/evil.example/")),
            ("/a/../../b", at("/b/")),
            ("/größe%20/a~b-c_d.e", at("/gr%C3%B6%C3%9Fe%20/a~b-c_d.e/")),
            ("@evil.example/", None),
            (":1@evil.example", None),
            ("/\\evil.example", None),
            ("/a b", None),
            ("/a?key=1", None),
            ("/a#b", None),
            ("/a\nb", None),
            ("/$(id)", None),
            ("/a;id", None),
            ("/a&id", None),
            ("/`id`", None),
            ("/'", None),
        ] {
            assert_eq!(of(path), expected, "{path}");
        }
        assert_eq!(of(&"a".repeat(MAX_PATH + 1)), None);
    }

    #[test]
    fn a_host_that_is_no_name_in_local_is_named_by_its_ip_address() {
        for host in [
            "",
            ".",
            "local.",
            ".local.",
            "a..local.",
            "evil.example.",
            "127.0.0.1.",
            "user:password@octopi.local.",
            "evil.example/.local.",
            "evil.example#.local.",
            "evil.example?.local.",
            "a\n.local.",
            "a b.local.",
            "größe.local.",
        ] {
            let found = Announcement { host: host.to_owned(), ..announced() };
            assert_eq!(url(&found).as_deref(), Some("http://192.168.1.20/"), "{host}");
            assert_eq!(url(&Announcement { addresses: vec![], ..found }), None, "{host}");
        }
        let long = Announcement { host: format!("{}.local.", "a".repeat(250)), ..announced() };
        assert_eq!(url(&long).as_deref(), Some("http://192.168.1.20/"));
        assert_eq!(url(&Announcement { port: 0, ..announced() }), None);
    }

    #[test]
    fn the_likeliest_address_comes_first_and_those_of_no_use_are_left_out() {
        let given = [
            "127.0.0.1",
            "172.17.0.1",
            "0.0.0.0",
            "224.0.0.251",
            "255.255.255.255",
            "169.254.1.1",
            "fe80::1",
            "ff02::fb",
            "::",
            "fd00::2",
            "10.0.0.3",
            "10.0.0.3",
            "::ffff:10.0.0.4",
        ];
        let addresses = given.map(|ip| ip.parse().unwrap()).to_vec();
        let found = read(&Announcement { addresses, ..announced() }).unwrap();
        let shown: Vec<String> = found.addresses.iter().map(ToString::to_string).collect();
        let expected =
            ["10.0.0.3", "10.0.0.4", "172.17.0.1", "fd00::2", "169.254.1.1", "127.0.0.1"];
        assert_eq!(shown, expected);
        assert_eq!(found.address.unwrap().as_str(), "http://10.0.0.3/");

        let addresses = vec!["fd00::2".parse().unwrap()];
        let v6 = read(&Announcement { addresses, ..announced() }).unwrap();
        assert_eq!(v6.address.unwrap().as_str(), "http://[fd00::2]/");

        let many = (0..1000u32).map(|n| IpAddr::from(Ipv4Addr::from(0x0a00_0000 + n))).collect();
        let many = read(&Announcement { addresses: many, ..announced() }).unwrap();
        assert_eq!(many.addresses.len(), MAX_ADDRESSES);
    }

    #[test]
    fn one_octoprint_is_one() {
        let ip = |text: &str| vec![text.parse().unwrap()];
        let renamed = Announcement {
            instance: "OctoPrint instance on octopi-2".to_owned(),
            addresses: ip("fd00::2"),
            ..announced()
        };
        let second = Announcement { port: 5001, ..announced() };
        let copy = Announcement { uuid: Some("other".to_owned()), ..announced() };
        let workshop = Announcement {
            instance: "Atelier".to_owned(),
            host: "a.local.".to_owned(),
            ..copy.clone()
        };
        let all = [renamed, second, copy, workshop, announced()];
        let merged = merged(all.iter().filter_map(read).collect());
        let shown: Vec<(&str, &str, usize)> = merged
            .iter()
            .map(|it| (it.name.as_str(), it.url.as_str(), it.addresses.len()))
            .collect();
        assert_eq!(
            shown,
            [
                ("Atelier", "http://a.local/", 1),
                ("octopi", "http://octopi.local/", 2),
                ("octopi", "http://octopi.local/", 1),
                ("octopi", "http://octopi.local:5001/", 1),
            ]
        );
    }
}
