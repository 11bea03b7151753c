//! The chart of `results.json`: how long ours took by how long rsync took, a bar for each scenario.
//! Apart from `report` because it needs nothing but the JSON, and so can be drawn again.

use std::fmt::Write;

use serde_json::Value;

const ROW: f64 = 22.0;
const TOP: f64 = 34.0;
const LEFT: f64 = 330.0;

/// How long rsync's time is drawn, in pixels.
const RSYNC: f64 = 300.0;

/// The longest bar, by rsync's time; longer ones are cut, and their figures tell.
const MOST: f64 = 1.25;

/// One row.
struct Bar {
    label: String,
    ours_s: f64,
    rsync_s: f64,
    ratio: f64,
}

/// Draws the results of a run as SVG.
pub(crate) fn draw(results: &[Value]) -> String {
    let bars: Vec<Bar> = results.iter().filter_map(bar).collect();
    let height = TOP + ROW * bars.len() as f64 + 12.0;
    let mut body = String::new();
    for (at, bar) in bars.iter().enumerate() {
        let y = TOP + ROW * at as f64;
        let width = bar.ratio.min(MOST) * RSYNC;
        let color = if bar.ratio <= 1.0 {
            "#1f6feb"
        } else {
            "#b35900"
        };
        writeln!(
            body,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LEFT}\" y=\"{}\" width=\"{width:.1}\" height=\"{}\" fill=\"{color}\"/>\
             <text x=\"{}\" y=\"{}\">{:.2}: {:.2} s instead of {:.2} s</text>",
            LEFT - 8.0,
            y + 14.0,
            bar.label,
            y + 3.0,
            ROW - 7.0,
            LEFT + MOST * RSYNC + 10.0,
            y + 14.0,
            bar.ratio,
            bar.ours_s,
            bar.rsync_s,
        )
        .unwrap();
    }
    let line = LEFT + RSYNC;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"920\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{line}\" y=\"20\" text-anchor=\"middle\">rsync</text>\n{body}\
         <line x1=\"{line}\" x2=\"{line}\" y1=\"26\" y2=\"{height}\" stroke=\"#333\"/>\n</svg>\n"
    )
}

fn bar(result: &Value) -> Option<Bar> {
    let contenders = result["contenders"].as_array()?;
    let find = |label: &str| contenders.iter().find(|one| one["tool"] == label);
    let (ours, rsync) = (find("cutover --fsync none")?, find("rsync")?);
    Some(Bar {
        label: format!(
            "{}, {}",
            result["about"].as_str()?,
            result["size"].as_str()?
        ),
        ours_s: ours["median_s"].as_f64()?,
        rsync_s: rsync["median_s"].as_f64()?,
        ratio: rsync["ours_by_this"].as_f64()?,
    })
}
