//! Rules that map a regularity and a block to every layer, without training (after Gong et al., arXiv 2111.11581; the numbers
//! are ours).
//!
//! Depthwise and first convolutions and tiny layers stay dense. A 3×3 convolution gets patterns on hard sets and punched
//! blocks on easy ones, where higher rates pay; other convolutions get punched blocks, linear layers blocks. Of the blocks, the
//! smallest whose layer takes at most 1 + β times what it takes with one block over all filters, at the same rate.

use graph::scheme::Regularity;

use super::MapBy;
use super::space::{Costs, DENSE, RATES, Space};

/// What the rules say of one free layer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rule {
    /// The regularity at every rate, by position.
    pub at_rate: Vec<Option<usize>>,
    /// The layer could have had patterns, and why it has none.
    pub no_pattern: Option<String>,
}

/// The rules' regularities, by free layer. `seconds` are what choices cost on the target.
pub(crate) fn rules(space: &Space, seconds: &Costs, hard: bool, beta: f64) -> Vec<Rule> {
    let mut all = Vec::new();
    for (k, f) in space.free.iter().enumerate() {
        let s = &seconds.of[k];
        let pattern = f.regularities.iter().position(|r| *r == Regularity::Pattern);
        let blocks: Vec<usize> = (0..f.regularities.len()).filter(|&r| Some(r) != pattern).collect();
        let block_at = |rate: usize| {
            // Coarse to fine; the first is one block over all filters.
            let whole = blocks.iter().copied().find(|&r| f.choice(r, rate).is_some())?;
            blocks.iter().copied().rfind(|&r| f.choice(r, rate).is_some() && s[r][rate] <= (1.0 + beta) * s[whole][rate])
        };
        let by_blocks: Vec<Option<usize>> = (0..DENSE).map(block_at).collect();
        // Patterns only help where the target gains time by them.
        let gains = |p: usize| {
            let timed = |rate: usize| Some((s[p][rate], s[by_blocks[rate]?][rate]));
            (0..DENSE).filter(|&r| f.choice(p, r).is_some()).filter_map(timed).any(|(a, b)| a <= (1.0 + beta) * b)
        };
        let rule = match pattern.filter(|_| hard) {
            Some(p) if gains(p) => Rule { at_rate: (0..DENSE).map(|r| f.choice(p, r).map(|_| p)).collect(), no_pattern: None },
            Some(_) => Rule { at_rate: by_blocks, no_pattern: Some("the target gains too little time by patterns".into()) },
            None => Rule { at_rate: by_blocks, no_pattern: None },
        };
        all.push(rule);
    }
    all
}

impl Rule {
    /// The rules let the layer have this regularity at this rate.
    pub fn allows(&self, regularity: usize, rate: usize) -> bool {
        rate == DENSE || self.at_rate[rate] == Some(regularity)
    }
}

/// What it takes to say why a layer has its scheme.
pub(crate) struct Reasons<'a> {
    pub space: &'a Space,
    pub rules: &'a [Rule],
    pub seconds: &'a Costs,
    pub beta: f64,
    pub by: MapBy,
}

impl Reasons<'_> {
    /// Why free layer `k` has this regularity and rate, in a few words.
    pub fn of(&self, k: usize, regularity: usize, rate: usize) -> String {
        let (f, seconds) = (&self.space.free[k], &self.seconds.of[k]);
        let solved = matches!(self.by, MapBy::Rules | MapBy::Knapsack);
        if rate == DENSE {
            let why = if solved { "its weights are worth more than the time they take" } else { "no rate was found that pays" };
            return why.into();
        }
        let rule = &self.rules[k];
        let mut text = match f.regularities[regularity] {
            Regularity::Pattern if rule.allows(regularity, rate) => "3x3 kernels on a hard set: patterns".to_owned(),
            _ if rule.allows(regularity, rate) => {
                let coarsest = (0..f.regularities.len()).find(|&r| f.choice(r, rate).is_some()).unwrap_or(regularity);
                let more = 100.0 * (seconds[regularity][rate] / seconds[coarsest][rate] - 1.0);
                let beta = 100.0 * self.beta;
                format!("smallest block within {beta:.0} % of one block over all filters at {}x ({more:+.1} %)", RATES[rate])
            }
            _ if solved => "worth most for its time, all layers together".to_owned(),
            _ => "found by search".to_owned(),
        };
        if let Some(why) = &rule.no_pattern {
            text.push_str(&format!("; no patterns: {why}"));
        }
        text
    }
}
