//! What was measured, as a table and as JSON; `chart` draws the JSON.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::calls;
use crate::chart;
use crate::figures::{least, median, most};
use crate::job::{Taken, Tool};
use crate::scenario::{Contender, Outcome};

/// The name of the file that the chart is in.
pub(crate) const CHART: &str = "chart.svg";

/// Prints a scenario's table.
pub(crate) fn print_table(outcome: &Outcome) {
    println!("\n{}: {}, {}", outcome.name, outcome.about, outcome.size);
    println!(
        "  {:<20} {:>8} {:>15} {:>10} {:>7} {:>11} {:>14} {:>12}",
        "", "median s", "min-max s", "ours/this", "cpu s", "wire bytes", "peak MiB", "calls/file"
    );
    for contender in &outcome.contenders {
        let walls = contender.walls();
        let ratio = ratio(outcome, contender).map_or("".into(), |ratio| format!("{ratio:.2}"));
        println!(
            "  {:<20} {:>8.2} {:>15} {:>10} {:>7.2} {:>11} {:>14} {:>12}",
            contender.tool.label(),
            median(&walls),
            format!("{:.2}-{:.2}", least(&walls), most(&walls)),
            ratio,
            median(&contender.cpu()),
            contender
                .wire()
                .map_or("".into(), |bytes| bytes.to_string()),
            contender.peaks(),
            contender.calls_per_file(outcome.entries),
        );
    }
    for contender in &outcome.contenders {
        if let Some(counted) = &contender.calls {
            for (side, calls) in ["near", "far"].iter().zip(counted) {
                let top = calls::top(calls, outcome.entries as u64, 8);
                if !top.is_empty() {
                    println!("  {} {side}, calls per file: {top}", contender.tool.label());
                }
            }
        }
        for wrong in &contender.wrong {
            println!("  WRONG RESULT of {}: {wrong}", contender.tool.label());
        }
    }
}

/// Writes `results.json` and [`CHART`].
pub(crate) fn write_files(dir: &Path, outcomes: &[Outcome]) {
    fs::create_dir_all(dir).unwrap();
    let all: Vec<Value> = outcomes.iter().map(outcome_json).collect();
    let text = serde_json::to_string_pretty(&all).unwrap();
    fs::write(dir.join("results.json"), text).unwrap();
    fs::write(dir.join(CHART), chart::draw(&all)).unwrap();
}

impl Contender {
    fn walls(&self) -> Vec<f64> {
        self.runs.iter().map(|run| run.near.wall_s).collect()
    }

    /// Processor time of both sides; ssh's own is in the near one's, sshd's in neither.
    fn cpu(&self) -> Vec<f64> {
        let both = |run: &Taken| run.near.cpu_s + run.far.map_or(0.0, |far| far.cpu_s);
        self.runs.iter().map(both).collect()
    }

    fn wire(&self) -> Option<u64> {
        let mut bytes: Vec<u64> = self.runs.iter().filter_map(|run| run.wire_bytes).collect();
        bytes.sort_unstable();
        bytes.get(bytes.len() / 2).copied()
    }

    /// The largest process of each side, in MiB, over all rounds.
    fn peak_mib(&self) -> (f64, Option<f64>) {
        let mib = |kib: i64| kib as f64 / 1024.0;
        let near = self.runs.iter().map(|run| run.near.peak_kib).max();
        let far = self.runs.iter().filter_map(|run| run.far);
        let far = far.map(|usage| usage.peak_kib).max();
        (near.map_or(0.0, mib), far.map(mib))
    }

    fn peaks(&self) -> String {
        match self.peak_mib() {
            (near, Some(far)) => format!("{near:.1} + {far:.1}"),
            (near, None) => format!("{near:.1}"),
        }
    }

    fn calls_per_file(&self, entries: usize) -> String {
        let Some([near, far]) = &self.calls else {
            return String::new();
        };
        let each = |calls: &calls::Calls| calls.values().sum::<u64>() as f64 / entries as f64;
        match far.is_empty() {
            true => format!("{:.2}", each(near)),
            false => format!("{:.2} + {:.2}", each(near), each(far)),
        }
    }
}

/// The median over the rounds of our time by the peer's in the same round: what the machine does
/// besides hits both alike.
fn ratio(outcome: &Outcome, peer: &Contender) -> Option<f64> {
    if !peer.tool.is_peer() {
        return None;
    }
    let is_ours = |contender: &&Contender| contender.tool == Tool::Cutover;
    let ours = outcome.contenders.iter().find(is_ours)?;
    let pairs = ours.walls().into_iter().zip(peer.walls());
    Some(median(
        &pairs.map(|(ours, peer)| ours / peer).collect::<Vec<_>>(),
    ))
}

fn outcome_json(outcome: &Outcome) -> Value {
    let contenders = outcome.contenders.iter().map(|contender| {
        let (near, far) = contender.peak_mib();
        json!({
            "tool": contender.tool.label(),
            "wall_s": contender.walls(),
            "median_s": median(&contender.walls()),
            "ours_by_this": ratio(outcome, contender),
            "cpu_s": contender.cpu(),
            "wire_bytes": contender.wire(),
            "near_peak_mib": near,
            "far_peak_mib": far,
            "calls": contender.calls,
            "wrong": contender.wrong,
        })
    });
    json!({
        "scenario": outcome.name,
        "about": outcome.about,
        "size": outcome.size,
        "files": outcome.entries,
        "contenders": contenders.collect::<Vec<_>>(),
    })
}
