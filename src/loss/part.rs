//! From a formula with parameters to something a plan can record.

use super::{ParameterInfo, Value};
use crate::spec::{Context, Erosions, Formula, Moments, Node, Scope, Voxel};
use std::fmt::{self, Debug};
use std::sync::Arc;

/// The parameters of a loss; `loss!` implements this.
pub trait Parameters: Default + Clone + PartialEq + Debug + Send + Sync + 'static {
    /// The name in a spec string.
    const NAME: &'static str;
    /// Other names of the same loss.
    const ALIASES: &'static [&'static str];
    /// Paper or standard it comes from.
    const SOURCE: &'static str;
    /// What it is.
    const DOC: &'static str;
    /// Sets a parameter; `None` when there is no such key, an error says what kind of value was expected.
    fn set(&mut self, key: &str, value: &Value) -> Option<Result<(), String>>;
    /// Every parameter with its printed value, in order.
    fn values(&self) -> Vec<(&'static str, String)>;
    /// Whether every number lies in its range.
    ///
    /// # Errors
    /// The first that does not.
    fn check(&self) -> Result<(), OutOfRange>;
    /// What parameters there are.
    fn info() -> Vec<ParameterInfo>;
}

/// A number outside of its parameter's range.
#[derive(Clone, Debug, PartialEq)]
pub struct OutOfRange {
    /// The parameter.
    pub key: &'static str,
    /// Its value.
    pub value: f64,
    /// The values it may take, in words.
    pub range: &'static str,
}

/// How a loss with parameters is put together.
pub trait Built {
    /// The formulas whose weighted sum is the loss.
    fn parts(&self, context: Context) -> Vec<Part>;
    /// Why the loss cannot be computed on a problem of this kind, if so.
    fn unsuitable(&self, context: Context) -> Option<String> {
        let _ = context;
        None
    }
    /// Whether class 0 counts where its term does not say; it never does where the problem says no.
    fn background(&self) -> bool {
        true
    }
}

/// Declares that a loss is its formula.
macro_rules! whole {
    ($name:ident) => {
        impl $crate::loss::Built for $name {
            fn parts(&self, _: $crate::spec::Context) -> Vec<$crate::loss::Part> {
                vec![$crate::loss::Part::whole(self)]
            }
        }
    };
}
pub(super) use whole;

/// A loss of any type, as an objective holds it.
pub trait Loss: Debug + Send + Sync {
    /// The name in a spec string.
    fn name(&self) -> &str;
    /// The parameters that differ from their defaults, printed.
    fn changed(&self) -> Vec<(&'static str, String)>;
    /// The formulas whose weighted sum is the loss.
    fn parts(&self, context: Context) -> Vec<Part>;
    /// Why the loss cannot be computed on a problem of this kind, if so.
    fn unsuitable(&self, context: Context) -> Option<String>;
    /// Whether class 0 counts where its term does not say; it never does where the problem says no.
    fn background(&self) -> bool {
        true
    }
    /// Whether every number lies in its range.
    ///
    /// # Errors
    /// The first that does not.
    fn check(&self) -> Result<(), OutOfRange>;
}

impl<L: Parameters + Built> Loss for L {
    fn name(&self) -> &str {
        L::NAME
    }
    fn changed(&self) -> Vec<(&'static str, String)> {
        let defaults = L::default().values();
        self.values().into_iter().filter(|value| !defaults.contains(value)).collect()
    }
    fn parts(&self, context: Context) -> Vec<Part> {
        Built::parts(self, context)
    }
    fn unsuitable(&self, context: Context) -> Option<String> {
        Built::unsuitable(self, context)
    }
    fn background(&self) -> bool {
        Built::background(self)
    }
    fn check(&self) -> Result<(), OutOfRange> {
        Parameters::check(self)
    }
}

/// What is wrong with an argument of a spec string.
pub(crate) enum ParameterError {
    Unknown { key: String },
    Kind { key: String, expected: String },
    Range(OutOfRange),
}

pub(super) fn build<L: Parameters + Built>(arguments: &[(String, Value)]) -> Result<Arc<dyn Loss>, ParameterError> {
    let mut loss = L::default();
    for (key, value) in arguments {
        match loss.set(key, value) {
            None => return Err(ParameterError::Unknown { key: key.clone() }),
            Some(Err(expected)) => return Err(ParameterError::Kind { key: key.clone(), expected }),
            Some(Ok(())) => {}
        }
    }
    Parameters::check(&loss).map_err(ParameterError::Range)?;
    Ok(Arc::new(loss))
}

/// A weighted formula of a loss.
#[derive(Clone)]
pub struct Part {
    pub(crate) weight: f64,
    pub(crate) formula: Arc<dyn Recordable>,
}

impl Part {
    /// `weight` times `formula`.
    pub fn new(weight: f64, formula: impl Formula) -> Part {
        Part { weight, formula: Arc::new(formula) }
    }
    /// The formula that is the whole loss.
    pub fn whole(formula: &(impl Formula + Clone)) -> Part {
        Part::new(1.0, formula.clone())
    }
    /// How groups make this part.
    pub fn scope(&self) -> Scope {
        self.formula.scope()
    }
    /// `inner` in double precision.
    pub fn inner_f64(&self, m: &Moments<f64>) -> Vec<f64> {
        self.formula.inner_f64(m)
    }
    /// `inner` on dual numbers: the oracle of its derivatives.
    pub fn inner_dual(&self, m: &Moments<crate::spec::Dual>) -> Vec<crate::spec::Dual> {
        self.formula.inner_dual(m)
    }
    /// The pixel terms on dual numbers.
    pub fn pixel_dual(&self, v: &Voxel<'_, crate::spec::Dual>) -> Vec<crate::spec::Dual> {
        self.formula.pixel_dual(v)
    }
    /// The pixel terms, recorded.
    pub fn pixel_nodes<'g>(&self, v: &Voxel<'_, Node<'g>>) -> Vec<Node<'g>> {
        self.formula.pixel_nodes(v)
    }
    /// `inner`, recorded.
    pub fn inner_nodes<'g>(&self, m: &Moments<Node<'g>>) -> Vec<Node<'g>> {
        self.formula.inner_nodes(m)
    }
    /// `outer`, recorded.
    pub fn outer_nodes<'g>(&self, terms: &[Node<'g>]) -> Node<'g> {
        self.formula.outer_nodes(terms)
    }
}

impl Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} × {:?}-scope formula", self.weight, self.scope())
    }
}

/// A [`Formula`] with its type erased: each number type it is used with is one method.
pub(crate) trait Recordable: Send + Sync {
    fn scope(&self) -> Scope;
    fn pixel_nodes<'g>(&self, v: &Voxel<'_, Node<'g>>) -> Vec<Node<'g>>;
    fn inner_nodes<'g>(&self, m: &Moments<Node<'g>>) -> Vec<Node<'g>>;
    fn outer_nodes<'g>(&self, terms: &[Node<'g>]) -> Node<'g>;
    fn inner_f64(&self, m: &Moments<f64>) -> Vec<f64>;
    fn inner_dual(&self, m: &Moments<crate::spec::Dual>) -> Vec<crate::spec::Dual>;
    fn pixel_dual(&self, v: &Voxel<'_, crate::spec::Dual>) -> Vec<crate::spec::Dual>;
    fn cost_matrix(&self, classes: usize) -> Option<Vec<f64>>;
    fn erosions(&self) -> Option<Erosions>;
    fn reach(&self) -> f64;
}

impl<F: Formula> Recordable for F {
    fn scope(&self) -> Scope {
        Formula::scope(self)
    }
    fn pixel_nodes<'g>(&self, v: &Voxel<'_, Node<'g>>) -> Vec<Node<'g>> {
        self.pixel(v)
    }
    fn inner_nodes<'g>(&self, m: &Moments<Node<'g>>) -> Vec<Node<'g>> {
        self.inner(m)
    }
    fn outer_nodes<'g>(&self, terms: &[Node<'g>]) -> Node<'g> {
        self.outer(terms)
    }
    fn inner_f64(&self, m: &Moments<f64>) -> Vec<f64> {
        self.inner(m)
    }
    fn inner_dual(&self, m: &Moments<crate::spec::Dual>) -> Vec<crate::spec::Dual> {
        self.inner(m)
    }
    fn pixel_dual(&self, v: &Voxel<'_, crate::spec::Dual>) -> Vec<crate::spec::Dual> {
        self.pixel(v)
    }
    fn cost_matrix(&self, classes: usize) -> Option<Vec<f64>> {
        Formula::cost_matrix(self, classes)
    }
    fn erosions(&self) -> Option<Erosions> {
        Formula::erosions(self)
    }
    fn reach(&self) -> f64 {
        Formula::reach(self)
    }
}
