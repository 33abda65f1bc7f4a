//! Adds members to a JSON object without parsing it (pure).

use bytes::{BufMut, Bytes, BytesMut};

/// Returns `object` with `members` (names, and values as JSON) appended, and the rest of the bytes
/// unchanged. Being last, they override members of the same name. `None` if `object` is not a JSON
/// object; the caller must know that it is valid JSON.
pub fn append(object: &[u8], members: &[(&str, &str)]) -> Option<Bytes> {
    let text = object.trim_ascii_end();
    let body = text.strip_suffix(b"}")?;
    let first = body.trim_ascii_start();
    let inside = first.strip_prefix(b"{")?;
    let mut separate = !inside.trim_ascii().is_empty();
    let room = members.iter().map(|(name, value)| name.len() + value.len() + 4).sum::<usize>();
    let mut spliced = BytesMut::with_capacity(text.len() + room);
    spliced.put_slice(body);
    for (name, value) in members {
        if separate {
            spliced.put_u8(b',');
        }
        separate = true;
        spliced.put_u8(b'"');
        spliced.put_slice(name.as_bytes());
        spliced.put_slice(b"\":");
        spliced.put_slice(value.as_bytes());
    }
    spliced.put_u8(b'}');
    Some(spliced.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_appended_and_the_rest_is_untouched() {
        let bytes = append(br#"{"a": 1.50, "b":{} }"#, &[("_event", "\"X\""), ("_t", "5")]);
        assert_eq!(bytes.as_deref(), Some(&br#"{"a": 1.50, "b":{} ,"_event":"X","_t":5}"#[..]));
        assert_eq!(append(b"{}", &[("_t", "5")]).as_deref(), Some(&b"{\"_t\":5}"[..]));
        assert_eq!(append(b" { } ", &[("_t", "5")]).as_deref(), Some(&b" { \"_t\":5}"[..]));
        assert_eq!(append(b"[1]", &[("_t", "5")]), None);
        assert_eq!(append(b"null", &[("_t", "5")]), None);
    }
}
