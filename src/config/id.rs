//! Ids of printers and of entities (pure).

/// Whether `id` is valid: `[a-z0-9]([a-z0-9_-]*[a-z0-9])?`, no `__`, not `bridge…`.
pub fn is_id(id: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    let outer = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    id.len() <= 64
        && id.chars().all(inner)
        && outer(id.chars().next())
        && outer(id.chars().next_back())
        && !id.contains("__")
        && !id.starts_with("bridge")
}
