//! The results as a bar chart.

use std::fmt::Write;

use crate::report::{Results, megabytes};

const WIDTH: f64 = 760.0;
const LABELS: f64 = 250.0;
const ROW: f64 = 22.0;
const BARE: &str = "#9aa5b1";
const WORST_BARE: &str = "#d3d9de";
const BRIDGE: &str = "#1f77b4";
const WORST: &str = "#8fc1e3";

struct Bar {
    label: String,
    value: f64,
    color: &'static str,
}

/// The picture as SVG.
pub fn draw(results: &Results) -> String {
    let bar = |label: String, value, color| Bar { label, value, color };
    let mut latency = Vec::new();
    let mut memory = Vec::new();
    for load in results
        .load
        .iter()
        .filter(|load| !load.name.contains("terminal") && !load.name.contains("discovery"))
    {
        let name = load.name;
        latency.push(bar(format!("{name}: bare, p50"), load.bare.p50_ms, BARE));
        latency.push(bar(format!("{name}: bare, p99"), load.bare.p99_ms, WORST_BARE));
        latency.push(bar(format!("{name}: bridge, p50"), load.bridge.p50_ms, BRIDGE));
        latency.push(bar(format!("{name}: bridge, p99"), load.bridge.p99_ms, WORST));
        memory.push(bar(format!("{name}: idle"), megabytes(load.memory_idle), WORST));
        memory.push(bar(format!("{name}: printing"), megabytes(load.memory_printing), BRIDGE));
    }
    let mut throughput = Vec::new();
    for through in &results.throughput {
        throughput.push(bar(format!("{}: bare", through.name), through.bare_per_second, BARE));
        throughput.push(bar(
            format!("{}: bridge", through.name),
            through.bridge_per_second,
            BRIDGE,
        ));
    }
    let charts = [
        ("Latency at 2 messages/s and printer, ms", latency, 2),
        ("Resident memory, MB", memory, 1),
        ("QoS 1 publications/s", throughput, 0),
    ];
    let mut body = String::new();
    let mut y = 10.0;
    for (title, bars, digits) in charts {
        y = chart(&mut body, y, title, &bars, digits).expect("a string can be written to");
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y}\" viewBox=\"0 0 {WIDTH} {y}\" \
         font-family=\"sans-serif\" font-size=\"13\" fill=\"#24292f\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    )
}

/// Draws one chart from `y` on, and yields where it ends.
fn chart(
    svg: &mut String,
    y: f64,
    title: &str,
    bars: &[Bar],
    digits: usize,
) -> Result<f64, std::fmt::Error> {
    writeln!(
        svg,
        "<text x=\"10\" y=\"{:.0}\" font-weight=\"bold\" font-size=\"15\">{title}</text>",
        y + 18.0
    )?;
    let most = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
    let room = WIDTH - LABELS - 90.0;
    let mut y = y + 30.0;
    for Bar { label, value, color } in bars {
        // A number that could not be measured has no bar.
        let length = if most > 0.0 && value.is_finite() { room * value / most } else { 0.0 };
        writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{label}</text>\
             <rect x=\"{LABELS}\" y=\"{:.0}\" width=\"{length:.1}\" height=\"14\" fill=\"{color}\"/>\
             <text x=\"{:.1}\" y=\"{:.0}\">{value:.digits$}</text>",
            LABELS - 8.0,
            y + 14.0,
            y + 3.0,
            LABELS + length + 6.0,
            y + 14.0
        )?;
        y += ROW;
    }
    Ok(y + 14.0)
}
