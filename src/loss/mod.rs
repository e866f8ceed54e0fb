//! The losses, one family a file, and the objective that adds them up.
//!
//! # Adding a loss
//! 1. In the file of its family, declare it with `loss!`: name, source, parameters with their docs, defaults and ranges.
//!    Implement [`Formula`] for it (the whole mathematics: pixel terms, `inner`, `outer`) and say `whole!(Name)`, or
//!    implement [`Built`] where it has several parts or conditions.
//!    No derivative is typed, no kernel is touched.
//! 2. Add its type to the list in `entries!` below.
//! 3. Write its value in `reference/` and its cases in `test_vectors/`, and its row in `docs/losses.md`.
//!
//! Everything else follows: the spec string, the builder, `segfuse list`, the gradient, the moments that are computed,
//! the programs of the backends (`cargo xtask gen` writes the text of new pixel terms).

mod agreement;
mod boundary;
mod compound;
mod cross_entropy;
mod dice;
mod focal;
mod hausdorff;
mod jaccard;
mod objective;
mod parameter;
mod part;
mod spec_string;
mod tversky;
mod wasserstein;

pub use agreement::{Kappa, KappaForm, Mcc, SensitivitySpecificity};
pub use boundary::Boundary;
pub use compound::{Combo, ExpLog, UnifiedFocal};
pub use cross_entropy::{BalancedCe, Bce, Ce, DistanceCe, DistanceMap, Poly1, ShapeAwareCe, TopkCe, WeightedCe};
pub use dice::{ClassSize, Dice, GeneralizedDice, LogCoshDice, SoftDice};
pub use focal::Focal;
pub use hausdorff::{HausdorffDt, HausdorffErosion, LogHausdorffDt};
pub use jaccard::{Jaccard, PowerJaccard, SoftJaccard};
pub use objective::{Absent, Objective, Options, Term};
pub use parameter::{Parameter, ParameterInfo, Range};
pub(crate) use parameter::{loss, words};
use part::whole;
pub use part::{Built, Loss, OutOfRange, Parameters, Part};
pub use spec_string::Value;
pub use tversky::{AsymmetricSimilarity, FocalTversky, SoftTversky, Tversky};
pub use wasserstein::{WassersteinDice, WassersteinMode};

use crate::spec::Context;
#[cfg(doc)]
use crate::spec::Formula;
use std::sync::Arc;

/// Every loss, in the order of `segfuse list`.
macro_rules! entries {
    ($($name:ident),* $(,)?) => {
        /// Every loss that a spec string can name.
        pub const ENTRIES: &[Entry] = &[$(Entry::of::<$name>()),*];
        $(objective::combines!($name);)*
    };
}

entries! {
    Dice, GeneralizedDice, LogCoshDice, SoftDice,
    Jaccard, SoftJaccard, PowerJaccard,
    Tversky, FocalTversky, AsymmetricSimilarity, SoftTversky,
    SensitivitySpecificity, Kappa, Mcc, WassersteinDice,
    Bce, WeightedCe, BalancedCe, Ce, Focal, Poly1, TopkCe,
    Boundary, HausdorffDt, LogHausdorffDt, HausdorffErosion, DistanceCe, ShapeAwareCe,
    Combo, ExpLog, UnifiedFocal,
}

words! {
    /// Whether the classes of a voxel exclude each other.
    Form {
        /// By the activation: categorical for softmax, binary for sigmoid; for probabilities by C > 1.
        #[default]
        Auto = "auto",
        /// The term looks at the target's class alone.
        Categorical = "categorical",
        /// Each channel is a yes-or-no question.
        Binary = "binary",
    }
}

impl Form {
    fn is_categorical(self, context: Context) -> bool {
        match self {
            Form::Auto => context.categorical,
            Form::Categorical => true,
            Form::Binary => false,
        }
    }
}

/// One line of the list of losses.
#[derive(Clone, Copy)]
pub struct Entry {
    /// The name in a spec string.
    pub name: &'static str,
    /// Other names of the same loss.
    pub aliases: &'static [&'static str],
    /// Where it comes from.
    pub source: &'static str,
    /// What it is.
    pub doc: &'static str,
    info: fn() -> Vec<ParameterInfo>,
    build: Build,
}

/// Makes a loss from the arguments of a spec string.
type Build = fn(&[(String, Value)]) -> Result<Arc<dyn Loss>, part::ParameterError>;

impl Entry {
    const fn of<L: Parameters + Built>() -> Entry {
        Entry {
            name: L::NAME,
            aliases: L::ALIASES,
            source: L::SOURCE,
            doc: L::DOC,
            info: L::info,
            build: part::build::<L>,
        }
    }
    /// Its parameters, in order.
    pub fn parameters(&self) -> Vec<ParameterInfo> {
        (self.info)()
    }
    /// The loss with its default parameters.
    pub fn default_loss(&self) -> Arc<dyn Loss> {
        (self.build)(&[]).unwrap_or_else(|_| unreachable!("defaults lie in their ranges"))
    }
    /// What it is, as one line of plain text.
    pub fn summary(&self) -> String {
        one_line(self.doc)
    }
    fn find(name: &str) -> Option<&'static Entry> {
        ENTRIES.iter().find(|entry| entry.name == name || entry.aliases.contains(&name))
    }
}

/// A doc comment without its line breaks and its escaped brackets.
fn one_line(doc: &str) -> String {
    doc.replace('\\', "").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Name, aliases, source, doc as one line, and parameters with key, default, range and doc.
#[cfg(feature = "serde")]
impl serde::Serialize for Entry {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut parameters = self.parameters();
        parameters.iter_mut().for_each(|p| p.doc = one_line(&p.doc));
        let mut entry = serializer.serialize_struct("Entry", 5)?;
        entry.serialize_field("name", self.name)?;
        entry.serialize_field("aliases", self.aliases)?;
        entry.serialize_field("source", self.source)?;
        entry.serialize_field("doc", &self.summary())?;
        entry.serialize_field("parameters", &parameters)?;
        entry.end()
    }
}
