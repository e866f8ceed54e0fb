//! An objective: a weighted sum of losses, in Rust or as a spec string.

use super::parameter::print_number;
use super::part::ParameterError;
use super::{ENTRIES, Entry, Loss, OutOfRange, Parameter, Part, Value, spec_string, words};
use crate::error::Error;
use crate::spec::{Context, Formula};
use std::fmt;
use std::ops::{Add, Mul, Neg, Sub};
use std::str::FromStr;
use std::sync::Arc;

words! {
    /// What a class without a target voxel does in a region loss.
    Absent {
        /// It is a group like any other.
        #[default]
        Count = "count",
        /// It is left out of numerator and denominator.
        Skip = "skip",
        /// Its value is 0, and it counts in the denominator.
        Zero = "zero",
    }
}

/// What every loss takes besides its own parameters. `None` leaves the choice to the problem.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// Sum over the samples before any ratio.
    pub batch: Option<bool>,
    /// Whether class 0 counts. No effect when C = 1.
    pub background: Option<bool>,
    /// What an absent class does.
    pub absent: Option<Absent>,
    /// One weight per class.
    pub class_weights: Option<Vec<f64>>,
}

impl Options {
    const KEYS: [&'static str; 4] = ["batch", "background", "absent", "class_weights"];

    fn set(&mut self, key: &str, value: &Value) -> Option<Result<(), String>> {
        Some(match key {
            "batch" => bool::read(value).map(|x| self.batch = Some(x)),
            "background" => bool::read(value).map(|x| self.background = Some(x)),
            "absent" => Absent::read(value).map(|x| self.absent = Some(x)),
            "class_weights" => match value {
                Value::List(rows) if rows.len() == 1 => {
                    self.class_weights = Some(rows[0].clone());
                    Ok(())
                }
                _ => Err("one row of numbers such as [1, 2, 0.5]".into()),
            },
            _ => return None,
        })
    }

    fn values(&self) -> Vec<(&'static str, String)> {
        let mut values = Vec::new();
        values.extend(self.batch.map(|x| ("batch", x.print())));
        values.extend(self.background.map(|x| ("background", x.print())));
        values.extend(self.absent.map(|x| ("absent", x.print())));
        values.extend(self.class_weights.clone().map(|x| ("class_weights", Some(vec![x]).print())));
        values
    }
}

/// One loss of an objective, with its weight and options.
#[derive(Clone, Debug)]
pub struct Term {
    /// The factor of the loss.
    pub weight: f64,
    /// The loss.
    pub loss: Arc<dyn Loss>,
    /// Options that override the problem's.
    pub options: Options,
}

impl Term {
    /// A loss of your own, from its formula.
    ///
    /// `name` is used in reports; a spec string cannot name it.
    pub fn custom(name: impl Into<String>, formula: impl Formula) -> Term {
        Term::from_loss(Arc::new(Custom { name: name.into(), part: Part::new(1.0, formula) }))
    }
    fn from_loss(loss: Arc<dyn Loss>) -> Term {
        Term { weight: 1.0, loss, options: Options::default() }
    }
    /// Sum over the samples before any ratio.
    pub fn batch(mut self, batch: bool) -> Term {
        self.options.batch = Some(batch);
        self
    }
    /// Whether class 0 counts.
    pub fn background(mut self, background: bool) -> Term {
        self.options.background = Some(background);
        self
    }
    /// What an absent class does.
    pub fn absent(mut self, absent: Absent) -> Term {
        self.options.absent = Some(absent);
        self
    }
    /// One weight per class, for this loss alone.
    pub fn class_weights(mut self, weights: impl Into<Vec<f64>>) -> Term {
        self.options.class_weights = Some(weights.into());
        self
    }
    /// Every parameter and option that is set, printed.
    pub fn arguments(&self) -> Vec<(&'static str, String)> {
        let mut arguments = self.loss.changed();
        arguments.extend(self.options.values());
        arguments
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.loss.name())?;
        let arguments: Vec<String> = self.arguments().iter().map(|(key, value)| format!("{key}={value}")).collect();
        if arguments.is_empty() { Ok(()) } else { write!(f, "({})", arguments.join(", ")) }
    }
}

#[derive(Debug)]
struct Custom {
    name: String,
    part: Part,
}

impl Loss for Custom {
    fn name(&self) -> &str {
        &self.name
    }
    fn changed(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
    fn parts(&self, _: Context) -> Vec<Part> {
        vec![self.part.clone()]
    }
    fn unsuitable(&self, _: Context) -> Option<String> {
        None
    }
    fn check(&self) -> Result<(), OutOfRange> {
        Ok(())
    }
}

/// A weighted sum of losses, such as `dice + 0.5*focal(gamma=2)`.
///
/// ```
/// use segfuse::{Objective, loss::{Dice, Focal}};
/// let built = Dice::default() + 0.5 * Focal::new(3.0);
/// let parsed: Objective = "dice + 0.5*focal(gamma=3)".parse()?;
/// assert_eq!(built.to_string(), parsed.to_string());
/// # Ok::<(), segfuse::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Objective {
    terms: Vec<Term>,
}

impl Objective {
    /// The losses in order.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }
}

impl From<Term> for Objective {
    fn from(term: Term) -> Objective {
        Objective { terms: vec![term] }
    }
}

impl<T: Into<Objective>> Add<T> for Objective {
    type Output = Objective;
    fn add(mut self, other: T) -> Objective {
        self.terms.extend(other.into().terms);
        self
    }
}
impl<T: Into<Objective>> Sub<T> for Objective {
    type Output = Objective;
    fn sub(self, other: T) -> Objective {
        self + -other.into()
    }
}
impl Neg for Objective {
    type Output = Objective;
    fn neg(self) -> Objective {
        self * -1.0
    }
}
impl Mul<f64> for Objective {
    type Output = Objective;
    fn mul(mut self, factor: f64) -> Objective {
        self.terms.iter_mut().for_each(|term| term.weight *= factor);
        self
    }
}
impl Mul<Objective> for f64 {
    type Output = Objective;
    fn mul(self, objective: Objective) -> Objective {
        objective * self
    }
}
impl<T: Into<Objective>> Add<T> for Term {
    type Output = Objective;
    fn add(self, other: T) -> Objective {
        Objective::from(self) + other
    }
}
impl<T: Into<Objective>> Sub<T> for Term {
    type Output = Objective;
    fn sub(self, other: T) -> Objective {
        Objective::from(self) - other
    }
}
impl Mul<Term> for f64 {
    type Output = Objective;
    fn mul(self, term: Term) -> Objective {
        Objective::from(term) * self
    }
}

/// Lets a loss type stand where an objective or a term is wanted.
macro_rules! combines {
    ($name:ident) => {
        impl From<$name> for Term {
            fn from(loss: $name) -> Term {
                Term { weight: 1.0, loss: Arc::new(loss), options: Options::default() }
            }
        }
        impl From<$name> for Objective {
            fn from(loss: $name) -> Objective {
                Term::from(loss).into()
            }
        }
        impl $name {
            /// The loss as a term, whose options can be set.
            pub fn term(self) -> Term {
                self.into()
            }
        }
        impl<T: Into<Objective>> std::ops::Add<T> for $name {
            type Output = Objective;
            fn add(self, other: T) -> Objective {
                Objective::from(self) + other
            }
        }
        impl<T: Into<Objective>> std::ops::Sub<T> for $name {
            type Output = Objective;
            fn sub(self, other: T) -> Objective {
                Objective::from(self) - other
            }
        }
        impl std::ops::Mul<$name> for f64 {
            type Output = Objective;
            fn mul(self, loss: $name) -> Objective {
                self * Objective::from(loss)
            }
        }
    };
}
pub(super) use combines;

impl fmt::Display for Objective {
    /// The spec string; parsing it gives the same objective.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, term) in self.terms.iter().enumerate() {
            let negative = term.weight.is_sign_negative();
            match (i, negative) {
                (0, false) => {}
                (0, true) => write!(f, "-")?,
                (_, false) => write!(f, " + ")?,
                (_, true) => write!(f, " - ")?,
            }
            if term.weight.abs() != 1.0 {
                write!(f, "{}*", print_number(term.weight.abs()))?;
            }
            write!(f, "{term}")?;
        }
        Ok(())
    }
}

impl PartialEq for Objective {
    /// Equal when they print alike.
    fn eq(&self, other: &Objective) -> bool {
        self.to_string() == other.to_string()
    }
}

impl FromStr for Objective {
    type Err = Error;

    /// Reads a spec string such as `dice(squared=true) + 0.5*focal(gamma=2)`.
    ///
    /// # Errors
    /// [`Error::Syntax`], [`Error::UnknownLoss`], [`Error::UnknownKey`], [`Error::WrongValue`] or [`Error::OutOfRange`].
    fn from_str(text: &str) -> Result<Objective, Error> {
        let calls =
            spec_string::parse(text).map_err(|e| Error::Syntax { position: e.position, expected: e.expected })?;
        let terms = calls.into_iter().map(read_term).collect::<Result<_, _>>()?;
        Ok(Objective { terms })
    }
}

fn read_term(call: spec_string::Call) -> Result<Term, Error> {
    let entry = Entry::find(&call.name).ok_or_else(|| Error::UnknownLoss {
        name: call.name.clone(),
        position: call.position,
        near: near(&call.name, ENTRIES.iter().flat_map(|e| std::iter::once(e.name).chain(e.aliases.iter().copied()))),
    })?;
    let loss = || entry.name.to_string();
    let mut options = Options::default();
    let mut own = Vec::new();
    for (key, value) in call.arguments {
        match options.set(&key, &value) {
            None => own.push((key, value)),
            Some(Ok(())) => {}
            Some(Err(expected)) => return Err(Error::WrongValue { loss: loss(), key, expected }),
        }
    }
    let built = (entry.build)(&own).map_err(|e| match e {
        ParameterError::Unknown { key } => {
            let parameters = entry.parameters();
            let known = parameters.iter().map(|p| p.key).chain(Options::KEYS);
            Error::UnknownKey { loss: loss(), near: near(&key, known), key }
        }
        ParameterError::Kind { key, expected } => Error::WrongValue { loss: loss(), key, expected },
        ParameterError::Range(e) => Error::OutOfRange { loss: loss(), key: e.key, value: e.value, range: e.range },
    })?;
    Ok(Term { weight: call.weight, loss: built, options })
}

/// The names most like `name`, best first; all of them when none is like it.
fn near<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Vec<String> {
    let mut scored: Vec<(f64, &str)> = known
        .map(|k| (strsim::jaro_winkler(name, k).max(strsim::normalized_damerau_levenshtein(name, k)), k))
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    let alike = scored.iter().filter(|(score, _)| *score > 0.7).count();
    let shown = if alike == 0 { scored.len() } else { alike.min(4) };
    scored[..shown].iter().map(|(_, k)| k.to_string()).collect()
}
