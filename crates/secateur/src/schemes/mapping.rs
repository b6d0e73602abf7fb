//! Which layer has which scheme, as a value and as a TOML file.

use std::collections::BTreeMap;
use std::path::Path;

use graph::scheme::{Scheme, SchemeLayer};
use serde::{Deserialize, Serialize};

use crate::analysis::Analysis;
use crate::error::{Error, Result};
use crate::scope::Keep;

/// Schemes by layer name, and one for the layers that are not named:
///
/// ```toml
/// [default]
/// regularity = "block-punched:16x1"
/// rate = 4
///
/// [layers."layer3.0/conv1"]
/// regularity = "pattern"
/// rate = 3
///
/// [layers.classifier]
/// regularity = "dense"
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// The scheme of every layer that is not named and can have it (tiny layers stay dense); dense where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Scheme>,
    /// Schemes by the layer's name, or that of its weight tensor.
    #[serde(default)]
    pub layers: BTreeMap<String, Scheme>,
}

/// A layer with its scheme.
#[derive(Debug, Clone, PartialEq)]
pub struct Assigned {
    /// The layer.
    pub layer: SchemeLayer,
    /// What it gets.
    pub scheme: Scheme,
    /// Why it stays dense where the default is not.
    pub dense_because: Option<String>,
}

impl Mapping {
    /// One scheme for all layers that can have it.
    pub fn everywhere(scheme: Scheme) -> Self {
        Self { default: Some(scheme), layers: BTreeMap::new() }
    }

    /// Reads a TOML file.
    ///
    /// # Errors
    /// It cannot be read, or is no mapping.
    pub fn read(path: &Path) -> Result<Self> {
        let error = |cause: String| Error::File { path: path.to_owned(), cause };
        let text = std::fs::read_to_string(path).map_err(|e| error(e.to_string()))?;
        Self::from_toml(&text).map_err(|e| error(format!("it is no mapping of layers to schemes: {e}")))
    }

    /// Reads the TOML form.
    ///
    /// # Errors
    /// Where the text is no mapping.
    pub fn from_toml(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|e| Error::Setting(e.to_string().trim_end().to_owned()))
    }

    /// The TOML form.
    ///
    /// # Errors
    /// A defect of the serialiser.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string_pretty(self).map_err(|e| Error::Setting(e.to_string()))
    }

    /// The scheme of every layer of `analysis`, in its order; those of `keep` stay dense.
    ///
    /// # Errors
    /// A name that no layer has, a scheme that its layer cannot have or is not to have, and a mapping that leaves everything
    /// dense.
    pub fn assign(&self, analysis: &Analysis, keep: &[Keep]) -> Result<Vec<Assigned>> {
        let layers = SchemeLayer::all(&analysis.graph, &analysis.facts);
        let called = |l: &SchemeLayer, name: &str| l.name == name || l.tensor == name;
        let kept: Vec<String> = keep.iter().map(ToString::to_string).collect();
        for (who, names) in [("the mapping", self.layers.keys().collect::<Vec<_>>()), ("--keep", kept.iter().collect())] {
            let Some(unknown) = names.into_iter().find(|name| !layers.iter().any(|l| called(l, name))) else { continue };
            let names: Vec<&str> = layers.iter().map(|l| l.name.as_str()).collect();
            return Err(Error::Setting(format!(
                "{who} names layer `{unknown}`, which is none of those that schemes know; there are {}",
                names.join(", ")
            )));
        }
        let default = self.default.unwrap_or(Scheme::DENSE);
        let mut assigned = Vec::with_capacity(layers.len());
        for layer in layers {
            let named = self.layers.iter().find(|(name, _)| called(&layer, name)).map(|(_, s)| *s);
            let stays = kept.iter().find(|name| called(&layer, name));
            let (scheme, dense_because) = match (named, stays) {
                (Some(scheme), Some(_)) if !scheme.is_dense() => {
                    return Err(Error::Setting(format!(
                        "the mapping gives layer `{}` a scheme, and --keep leaves it as it is",
                        layer.name
                    )));
                }
                (_, Some(name)) => (Scheme::DENSE, Some(format!("it is kept by --keep {name}"))),
                (Some(scheme), None) => {
                    layer.legal_scheme(&scheme)?;
                    (scheme, None)
                }
                (None, None) if default.is_dense() => (default, None),
                (None, None) => match unfit(&layer, &default) {
                    None => (default, None),
                    Some(why) => (Scheme::DENSE, Some(why)),
                },
            };
            assigned.push(Assigned { layer, scheme, dense_because });
        }
        if assigned.iter().all(|a| a.scheme.is_dense()) {
            let line = |a: &Assigned| format!("  {}: {}", a.layer.name, a.dense_because.as_deref().unwrap_or("the mapping says so"));
            let reasons: Vec<String> = assigned.iter().map(line).collect();
            return Err(Error::Setting(format!(
                "the mapping leaves every layer dense, so there is nothing to remove:\n{}",
                reasons.join("\n")
            )));
        }
        Ok(assigned)
    }
}

/// Why a layer does not get the default.
fn unfit(layer: &SchemeLayer, scheme: &Scheme) -> Option<String> {
    if let Some(why) = &layer.only_dense {
        return Some(why.clone());
    }
    if let Err(e) = layer.legal_scheme(scheme) {
        return Some(e.to_string());
    }
    layer.is_tiny().then(|| format!("it has {} weights only; name it to include it", layer.weights()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "[default]\nregularity = \"block-punched:4x1\"\nrate = 4\n[layers.classifier]\nregularity = \"unstructured\"\nrate = 2.5\n";

    fn analysis() -> Analysis {
        Analysis::new(crate::residual_network(&[8, 16], 1, 10, 1), &graph::InputShapes::batch(1)).expect("analyses")
    }

    #[test]
    fn a_mapping_reads_what_it_writes() {
        let mapping = Mapping::from_toml(TEXT).expect("reads");
        assert_eq!(mapping.layers["classifier"].to_string(), "unstructured@2.5");
        assert_eq!(Mapping::from_toml(&mapping.to_toml().expect("writes")).expect("reads"), mapping);
        for (text, said) in [
            ("[default]\nregularity = \"blocks\"", "block-punched:16x1"),
            ("[default]\nregularity = \"unstructured\"\nrate = 0.5", "removes three quarters"),
            ("[default]\nregularity = \"pattern\"\nrate = 2", "2.25"),
            ("[layer.a]\nregularity = \"dense\"", "unknown field"),
            ("[default]\nregularity = \"dense\"\nspeed = 2", "unknown field"),
        ] {
            let e = Mapping::from_toml(text).expect_err(text).to_string();
            assert!(e.contains(said), "{text}: {e}");
        }
    }

    #[test]
    fn names_win_over_the_default_and_what_cannot_be_stays_dense() {
        let a = analysis();
        let assigned = Mapping::from_toml(TEXT).expect("reads").assign(&a, &[]).expect("assigns");
        let of = |name: &str| assigned.iter().find(|x| x.layer.name == name).unwrap_or_else(|| panic!("no layer {name}"));
        // Tiny, but named.
        assert_eq!(of("classifier").scheme.rate, 2.5);
        assert!(of("stem").scheme.is_dense() && of("stem").dense_because.as_deref().is_some_and(|w| w.contains("first")));
        let tiny: Vec<&Assigned> = assigned.iter().filter(|x| x.layer.is_tiny() && x.layer.name != "classifier").collect();
        assert!(!tiny.is_empty() && tiny.iter().all(|x| x.scheme.is_dense()));
        assert!(assigned.iter().any(|x| x.scheme.to_string() == "block-punched:4x1@4"));
    }

    #[test]
    fn wrong_names_and_wrong_schemes_are_explained() {
        let a = analysis();
        let refused = |text: &str| Mapping::from_toml(text).expect("reads").assign(&a, &[]).expect_err(text).to_string();
        let e = refused("[layers.nobody]\nregularity = \"filter\"\nrate = 2");
        assert!(e.contains("`nobody`") && e.contains("classifier"), "{e}");
        let e = refused("[layers.classifier]\nregularity = \"pattern\"\nrate = 4");
        assert!(e.contains("classifier") && e.contains("3x3"), "{e}");
        let e = refused("[layers.\"stem\"]\nregularity = \"filter\"\nrate = 2");
        assert!(e.contains("first convolution"), "{e}");
        let e = refused("[layers.classifier]\nregularity = \"dense\"");
        assert!(e.contains("every layer dense"), "{e}");
    }

    #[test]
    fn what_is_kept_stays_dense() {
        let (a, mapping) = (analysis(), Mapping::from_toml(TEXT).expect("reads"));
        let keep = |name: &str| [Keep::from(name.to_owned())];
        let name = "stage2.0/conv2";
        let assigned = mapping.assign(&a, &keep(name)).expect("assigns");
        let of = |l: &&Assigned| l.layer.name == name;
        let (kept, before) = (assigned.iter().find(of).expect("the layer"), mapping.assign(&a, &[]).expect("assigns"));
        assert!(kept.scheme.is_dense() && kept.dense_because.as_deref().is_some_and(|w| w.contains("--keep")), "{kept:?}");
        assert!(before.iter().find(of).is_some_and(|l| !l.scheme.is_dense()));
        assert!(before.iter().zip(&assigned).all(|(b, a)| of(&b) || b == a));
        for (name, said) in [("nobody", "`nobody`"), ("heads", "`heads`"), ("classifier", "a scheme")] {
            let e = mapping.assign(&a, &keep(name)).expect_err(name).to_string();
            assert!(e.contains("--keep") && e.contains(said), "{e}");
        }
    }
}
