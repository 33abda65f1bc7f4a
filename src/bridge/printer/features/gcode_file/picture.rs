//! Pictures of a file that OctoPrint or one of its plugins has (pure).

use serde_json::Value;

/// Where OctoPrint 2.0 serves them, below its base address.
const THUMBS: &str = "downloads/thumbs/";
/// Most pictures of a file that are tried.
const MAX_TRIES: usize = 3;

/// Returns paths of pictures, relative to OctoPrint's base address, in the answer to
/// `GET /api/files/<storage>/<path>`, the best one first: of OctoPrint 2.0, or of a plugin.
pub(super) fn sources(info: &[u8]) -> Vec<String> {
    let info: Value = serde_json::from_slice(info).unwrap_or_default();
    let mut sized: Vec<(u64, String)> = Vec::new();
    for (name, address) in info["refs"].as_object().into_iter().flatten() {
        let size = name.strip_prefix("thumbnail").map(pixels);
        // The address has the host by which OctoPrint was asked, which a proxy may have changed.
        let path = address.as_str().and_then(|text| Some(&text[text.find(THUMBS)?..]));
        sized.extend(size.zip(path.map(str::to_owned)));
    }
    sized.sort_by(|(a, _), (b, _)| b.cmp(a));
    let of_plugin = info["thumbnail"].as_str().filter(|path| !path.contains("://"));
    let of_plugin = of_plugin.map(|path| path.trim_start_matches('/').to_owned());
    sized.into_iter().map(|(_, path)| path).chain(of_plugin).take(MAX_TRIES).collect()
}

/// The size in `_64x48`; none for OctoPrint's own choice.
fn pixels(size: &str) -> u64 {
    let sides = size.strip_prefix('_').and_then(|size| size.split_once('x'));
    let number = |text: &str| text.parse::<u32>().ok().map(u64::from);
    sides.and_then(|(width, height)| Some(number(width)? * number(height)?)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::octoprint::PictureFormat;

    #[test]
    fn the_largest_picture_of_2_0_comes_first() {
        let lines = include_str!("../../../../../tests/captures/octoprint2_rest.jsonl").lines();
        let recorded = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
        let file = recorded
            .map(|line| line["response"].clone())
            .find(|answer| answer["refs"]["thumbnail"].is_string());
        let paths = sources(file.unwrap().to_string().as_bytes());
        let expected = [
            "downloads/thumbs/local/parts/thumb.gcode?size=64x48",
            "downloads/thumbs/local/parts/thumb.gcode?size=16x16",
            "downloads/thumbs/local/parts/thumb.gcode",
        ];
        assert_eq!(paths, expected);
    }

    #[test]
    fn a_plugin_names_a_path() {
        let of = |text: &str| sources(text.as_bytes());
        let path = "plugin/prusaslicerthumbnails/thumbnail/a.png?20260101";
        assert_eq!(of(&format!(r#"{{"thumbnail":"{path}","thumbnail_src":"x"}}"#)), [path]);
        assert_eq!(of(&format!(r#"{{"thumbnail":"/{path}"}}"#)), [path]);
        let none: [&str; 0] = [];
        for text in
            [r#"{"thumbnail":"http://x.example/a.png"}"#, r#"{"refs":[],"thumbnail":5}"#, "<"]
        {
            assert_eq!(of(text), none, "{text}");
        }
        assert_eq!(of(r#"{"refs":{"thumbnail":"http://x.example/a.png"}}"#), none);
    }

    #[test]
    fn a_broken_image_is_none() {
        assert!(PictureFormat::of(b"\x89PNG\r\n\x1a\n....IEND\xaeB`\x82").is_some());
        assert!(PictureFormat::of(b"\xff\xd8\xff....\xff\xd9").is_some());
        for broken in [&b"\x89PNG\r\n\x1a\n...."[..], b"\xff\xd8\xff", b"<html>", b""] {
            assert!(PictureFormat::of(broken).is_none());
        }
    }
}
