//! What a mapping may choose: for every layer a regularity with its block, and a rate.

use std::collections::BTreeMap;

use graph::scheme::{Balance, Extent, Regularity, Scheme, SchemeLayer};
use search::evolution::Genome;

use crate::analysis::Analysis;
use crate::cost::{LARGEST_RATE, SchemeTable, scheme_weight};
use crate::error::{Error, Result};

/// Rates a layer may have, from the largest to none.
pub(crate) const RATES: [f64; 9] = [LARGEST_RATE, 10.0, 8.0, 6.0, 4.0, 3.0, 2.0, 1.5, 1.0];

/// Position of the rate 1 among them: all weights stay.
pub(crate) const DENSE: usize = RATES.len() - 1;

/// Filters of a block of a convolution, and outputs of a block of a linear layer.
const BLOCKS: [usize; 4] = [32, 16, 8, 4];

/// Schemes of a network's layers, by layer name; layers that stay dense are not among them.
pub type Schemes = BTreeMap<String, Scheme>;

/// One scheme that a layer may have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Choice {
    pub scheme: Scheme,
    /// Share of the sum of squared weights that it keeps.
    pub energy: f64,
    /// Weights that stay.
    pub kept: usize,
}

/// A layer that may have a scheme.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Free {
    /// Position in [`Space::layers`].
    pub layer: usize,
    /// From the coarsest to the finest.
    pub regularities: Vec<Regularity>,
    /// By regularity and rate (in the order of [`RATES`]); none where the regularity does not have the rate.
    pub choices: Vec<Vec<Option<Choice>>>,
}

impl Free {
    pub fn choice(&self, regularity: usize, rate: usize) -> Option<&Choice> {
        self.choices[regularity][rate].as_ref()
    }
}

/// What may be chosen for a whole network. A genome has two genes per free layer: regularity, then rate.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Space {
    /// All layers that schemes know, in the network's order.
    pub layers: Vec<SchemeLayer>,
    /// Those that may have one.
    pub free: Vec<Free>,
    /// Why each of the others stays dense, by position.
    pub dense: BTreeMap<usize, String>,
    arities: Vec<usize>,
}

impl Space {
    /// Opens the space of a network: every layer that is not tiny, under every regularity that is legal for it.
    ///
    /// # Errors
    /// A weight that cannot be read; nothing can have a scheme.
    pub fn new(analysis: &Analysis) -> Result<Self> {
        let layers = SchemeLayer::all(&analysis.graph, &analysis.facts);
        let (mut free, mut dense) = (Vec::new(), BTreeMap::new());
        for (l, layer) in layers.iter().enumerate() {
            let regularities = legal(layer);
            match &layer.only_dense {
                Some(why) => dense.insert(l, why.clone()),
                None if layer.is_tiny() => dense.insert(l, format!("it has only {} weights", layer.weights())),
                None if regularities.is_empty() => dense.insert(l, "no regularity fits it".into()),
                None => {
                    let values = scheme_weight(&analysis.model, &layer.tensor)?.1;
                    let choices = regularities.iter().map(|&r| choices(layer, &values, r)).collect();
                    free.push(Free { layer: l, regularities, choices });
                    None
                }
            };
        }
        if free.is_empty() {
            let name = |(l, why): (&usize, &String)| format!("  {}: {why}", layers[*l].name);
            let reasons: Vec<String> = dense.iter().map(name).collect();
            let model = analysis.model.origin();
            return Err(Error::Setting(format!("{model}: no layer can have a scheme; all stay dense:\n{}", reasons.join("\n"))));
        }
        let arities = free.iter().flat_map(|f| [f.regularities.len(), RATES.len()]).collect();
        Ok(Self { layers, free, dense, arities })
    }

    /// Regularities of every layer, for the table.
    pub fn regularities(&self) -> Vec<Vec<Regularity>> {
        let mut all = vec![Vec::new(); self.layers.len()];
        for f in &self.free {
            all[f.layer].clone_from(&f.regularities);
        }
        all
    }

    /// Nothing is pruned.
    pub fn all_dense(&self) -> Vec<usize> {
        self.free.iter().flat_map(|f| [f.regularities.len() - 1, DENSE]).collect()
    }

    /// The choice of every free layer.
    pub fn chosen<'a>(&'a self, genes: &'a [usize]) -> impl Iterator<Item = (&'a Free, Option<&'a Choice>)> {
        self.free.iter().zip(genes.as_chunks::<2>().0).map(|(f, &[regularity, rate])| (f, f.choice(regularity, rate)))
    }

    /// The scheme of every layer, dense ones included.
    pub fn all_schemes(&self, genes: &[usize]) -> Vec<Scheme> {
        let mut all = vec![Scheme::DENSE; self.layers.len()];
        for (f, choice) in self.chosen(genes) {
            all[f.layer] = choice.map_or(Scheme::DENSE, |c| c.scheme);
        }
        all
    }

    /// What a genome stands for.
    pub fn schemes(&self, genes: &[usize]) -> Schemes {
        let named = self.layers.iter().zip(self.all_schemes(genes)).filter(|(_, s)| !s.is_dense());
        named.map(|(l, s)| (l.name.clone(), s)).collect()
    }

    /// Compression of the weights of all layers.
    pub fn compression(&self, genes: &[usize]) -> f64 {
        let all: usize = self.layers.iter().map(SchemeLayer::weights).sum();
        let removed: usize = self.chosen(genes).filter_map(|(f, c)| Some(self.layers[f.layer].weights() - c?.kept)).sum();
        all as f64 / (all - removed).max(1) as f64
    }
}

/// What choices cost, by free layer, regularity and rate; and what the layers that stay dense cost.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Costs {
    pub of: Vec<Vec<Vec<f64>>>,
    pub constant: f64,
}

impl Costs {
    fn new(space: &Space, constant: f64, cost: impl Fn(&Free, &Choice) -> f64) -> Self {
        let layer =
            |f: &Free| f.choices.iter().map(|r| r.iter().map(|c| c.as_ref().map_or(f64::INFINITY, |c| cost(f, c))).collect()).collect();
        Self { of: space.free.iter().map(layer).collect(), constant }
    }

    /// Calibrated seconds.
    pub fn seconds(space: &Space, table: &SchemeTable) -> Self {
        let fixed = space.dense.keys().map(|&l| table.cost(l, &Scheme::DENSE)).sum::<f64>();
        Self::new(space, table.calibration.constant_s + fixed, |f, c| table.cost(f.layer, &c.scheme))
    }

    /// Weights that stay.
    pub fn weights(space: &Space) -> Self {
        let fixed = space.dense.keys().map(|&l| space.layers[l].weights() as f64).sum();
        Self::new(space, fixed, |_, c| c.kept as f64)
    }

    /// Cost of a whole network.
    pub fn total(&self, genes: &[usize]) -> f64 {
        let pairs = self.of.iter().zip(genes.as_chunks::<2>().0);
        self.constant + pairs.map(|(of, &[regularity, rate])| of[regularity][rate]).sum::<f64>()
    }
}

/// The space with its costs, as a search sees it.
pub(crate) struct Priced<'a> {
    pub space: &'a Space,
    pub costs: &'a Costs,
}

impl Genome for Priced<'_> {
    fn arities(&self) -> &[usize] {
        &self.space.arities
    }

    /// A rate that the regularity does not have becomes the next larger one it has; without removal there is no regularity, and
    /// the finest stands for it.
    fn canonical(&self, genes: &mut [usize]) {
        for (f, genes) in self.space.free.iter().zip(genes.as_chunks_mut::<2>().0) {
            let [regularity, rate] = genes;
            let has = |k: &usize| f.choice(*regularity, *k).is_some();
            *rate = (0..=*rate).rev().find(has).or_else(|| (*rate..RATES.len()).find(has)).unwrap_or(DENSE);
            if *rate == DENSE {
                *regularity = f.regularities.len() - 1;
            }
        }
    }

    fn cost(&self, genes: &[usize]) -> f64 {
        self.costs.total(genes)
    }

    fn legal(&self, taken: &[usize], option: usize) -> bool {
        let free = &self.space.free[taken.len() / 2];
        // After a regularity comes a rate.
        taken.len().is_multiple_of(2) || taken.last().is_some_and(|&r| free.choice(r, option).is_some())
    }
}

/// Regularities that a layer may have, from the coarsest to the finest.
fn legal(layer: &SchemeLayer) -> Vec<Regularity> {
    let outputs = layer.shape.partition_filters();
    let blocks = BLOCKS.iter().copied().filter(|&b| b < outputs);
    let mut all: Vec<Regularity> = Vec::new();
    if layer.shape.is_linear() {
        let based = |outputs: Extent| Regularity::BlockBased { outputs, inputs: Extent::All, direction: graph::scheme::Direction::Column };
        all.push(based(Extent::All));
        all.extend(blocks.filter_map(std::num::NonZeroUsize::new).map(|b| based(Extent::Of(b))));
    } else {
        all.push(Regularity::columns());
        all.extend(blocks.filter_map(|b| Regularity::block_punched(b, 1)));
        all.push(Regularity::Pattern);
    }
    all.retain(|&r| layer.legal(r).is_ok());
    all
}

/// The choices of one regularity, by rate. A rate below what the regularity has at least stands for that least one, if no other
/// rate is as near to it.
fn choices(layer: &SchemeLayer, values: &[f32], regularity: Regularity) -> Vec<Option<Choice>> {
    let energy = |v: &[f32]| v.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>();
    let all = energy(values);
    let least = regularity.least_rate();
    let choice = |k: usize| {
        let rate = RATES[k];
        let above = k.checked_sub(1).map_or(f64::INFINITY, |k| RATES[k]);
        let rate = if rate < least && least < above { least } else { rate };
        let scheme = if k == DENSE { Scheme::DENSE } else { Scheme::new(regularity, rate).ok()? };
        layer.legal_scheme(&scheme).ok()?;
        let mut kept = values.to_vec();
        let mask = scheme.project(values, &layer.shape, Balance::Layer);
        mask.apply(&mut kept);
        Some(Choice { scheme, energy: if all > 0.0 { energy(&kept) / all } else { 1.0 }, kept: mask.kept() })
    };
    (0..RATES.len()).map(choice).collect()
}
