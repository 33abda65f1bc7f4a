//! Numbers and texts of states (pure).

use serde_json::Value;

/// Decimals that are kept of a number, as a factor.
const DECIMALS: f64 = 1e6;
/// Largest number that is written as a whole one.
const LARGEST_WHOLE: f64 = 1e15;

/// Returns a number without noise in its last digits: 120 and not 120.0, 0.3 and not
/// 0.30000000000000004.
pub fn number(value: f64) -> Value {
    let rounded = (value * DECIMALS).round() / DECIMALS;
    // Large numbers have no decimals to round.
    let value = if rounded.is_finite() { rounded } else { value };
    match value.fract() == 0.0 && value.abs() < LARGEST_WHOLE {
        // Whole and in range, so the conversion is exact.
        true => Value::from(value as i64),
        false => Value::from(value),
    }
}

/// Returns a scalar as text.
pub fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        // Without an exponent, which firmware misreads.
        Value::Number(number) if number.is_f64() => {
            number.as_f64().map(|number| number.to_string())
        }
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}
