//! Kept saliency of the three solvers on one network, table and saliency, at many latency budgets.
//!
//! `cargo run --release -p secateur --example kept_saliency -- MODEL.onnx TARGET [TABLE.sqlite]`
//!
//! Saliency is the magnitude of the weights, so no data are needed. `exact` solves the linearised problem that `published`
//! approximates; both are one step from the dense network. `joint` sees the true cost of every pair of widths.

use secateur::{Criterion, Event, Observer, Settings};

struct Stderr;

impl Observer for Stderr {
    fn event(&mut self, event: Event) {
        if let Event::Stage { what } = event {
            eprintln!("{what}");
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(model), Some(target)) = (arguments.next(), arguments.next()) else {
        return Err("usage: kept_saliency MODEL.onnx TARGET [TABLE.sqlite]".into());
    };
    let settings = Settings {
        model: model.into(),
        target,
        criterion: Criterion::Magnitude,
        table: arguments.next().map(Into::into),
        recipe: train::Recipe { epochs: 0.0, ..Default::default() },
        ..Settings::default()
    };
    let rows = secateur::compare_solvers(settings, &[0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4], &mut Stderr)?;
    println!("| budget | published | exact | joint | joint with depth |\n|---|---|---|---|---|");
    for row in rows {
        let cell = |s: Option<f64>| s.map_or("–".to_owned(), |v| format!("{v:.4}"));
        println!("| {:.2} | {} | {} | {} | {} |", row.share, cell(row.published), cell(row.exact), cell(row.joint), cell(row.joint_depth));
    }
    Ok(())
}
