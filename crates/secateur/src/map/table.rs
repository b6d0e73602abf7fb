//! The latency table of a network's layers under schemes, calibrated to whole networks.

use latency::Protocol;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use search::evolution::Genome;

use super::Genes;
use super::scorer::project;
use super::space::{Costs, DENSE, Priced, Space};
use crate::cost::{Calibration, Features, SchemeTable};
use crate::error::Result;
use crate::events::Event;
use crate::session::Session;

/// Networks in one round of measuring.
const BATCH: usize = 4;

/// Times every layer under the schemes of `space` and fits the table to whole networks.
///
/// # Errors
/// The runtime refuses a layer; the device is busy; the user stops.
pub(super) fn timed(session: &mut Session, space: &Space) -> Result<SchemeTable> {
    session.stage("latency table of the layers under schemes")?;
    let mut table = match session.run.journal.recall("scheme table")? {
        Some(table) => table,
        None => {
            let (dense, regularities) = (session.dense.clone(), space.regularities());
            let (bench, observer) = session.bench_and_observer();
            let timed = SchemeTable::profile(&dense, &space.layers, &regularities, &mut |models| {
                bench.layers(models, &Protocol::table(), &mut |done, total| {
                    observer.event(Event::Progress { done, total, note: "layers timed".into() })
                })
            })?;
            session.run.journal.record("scheme table", &timed, 0.0)?;
            timed
        }
    };
    table.calibration = calibrate(session, space, &table)?;
    Ok(table)
}

/// Measures networks under random schemes and fits the table to them.
fn calibrate(session: &mut Session, space: &Space, table: &SchemeTable) -> Result<Calibration> {
    let count = session.settings.calibration_networks;
    session.stage(&format!("calibrating the table on {count} networks under random schemes"))?;
    let costs = Costs::weights(space);
    let genome = Priced { space, costs: &costs };
    let mut rng = ChaCha8Rng::seed_from_u64(session.settings.seed ^ 0x5c4e);
    let mut points: Vec<(Features, f64)> = vec![(table.features(&space.all_schemes(&space.all_dense())), session.dense_s)];
    let networks: Vec<Genes> = (0..count)
        .map(|k| {
            // From lightly to heavily pruned.
            let pruned = (k + 1) as f64 / count as f64;
            let mut genes: Genes = Vec::new();
            for f in &space.free {
                let rate = if rng.random::<f64>() < pruned { rng.random_range(0..DENSE) } else { DENSE };
                genes.extend([rng.random_range(0..f.regularities.len()), rate]);
            }
            genome.canonical(&mut genes);
            genes
        })
        .collect();
    let protocol = Protocol { precision: 0.015, time_limit_s: 1.5, ..Protocol::default() };
    for (k, batch) in networks.chunks(BATCH).enumerate() {
        session.heed_stop()?;
        let models = batch.iter().map(|g| project(&session.dense.model, &space.layers, &space.schemes(g))).collect::<Result<Vec<_>>>()?;
        let measured = session.bench.relative(&session.run.journal, &session.dense.model, &models, &protocol, 0.1)?;
        for (genes, m) in batch.iter().zip(measured) {
            points.push((table.features(&space.all_schemes(genes)), m.ratio * session.dense_s));
        }
        session.tell(Event::Progress { done: (k * BATCH + batch.len()).min(count), total: count, note: "networks".into() });
    }
    let fit = Calibration::fit(&points);
    let text = format!("table calibrated on {} networks: relative error {:.1} %", fit.points, 100.0 * fit.relative_error);
    session.tell(Event::Note { text });
    Ok(fit)
}
