//! The parameters of a loss: read from a spec string, checked, printed.

use super::spec_string::Value;

/// A type that a parameter may have.
pub trait Parameter: Sized + PartialEq + Clone {
    /// Reads a value of a spec string; the error says what was expected.
    fn read(value: &Value) -> Result<Self, String>;
    /// The value as a spec string has it.
    fn print(&self) -> String;
    /// The number that a range speaks of, where there is one.
    fn number(&self) -> Option<f64> {
        None
    }
}

/// The shortest text that reads back as the number; whole numbers without a point.
pub(crate) fn print_number(x: f64) -> String {
    let text = format!("{x:?}");
    text.strip_suffix(".0").map(str::to_string).unwrap_or(text)
}

impl Parameter for f64 {
    fn read(value: &Value) -> Result<f64, String> {
        match value {
            Value::Number(x) => Ok(*x),
            _ => Err("a number".into()),
        }
    }
    fn print(&self) -> String {
        print_number(*self)
    }
    fn number(&self) -> Option<f64> {
        Some(*self)
    }
}

impl Parameter for u32 {
    fn read(value: &Value) -> Result<u32, String> {
        match value {
            // Numbers beyond the type saturate; a range says what is too many.
            Value::Number(x) if *x >= 0.0 && x.fract() == 0.0 => Ok(*x as u32),
            _ => Err("a whole number".into()),
        }
    }
    fn print(&self) -> String {
        self.to_string()
    }
    fn number(&self) -> Option<f64> {
        Some(f64::from(*self))
    }
}

impl Parameter for Option<f64> {
    fn read(value: &Value) -> Result<Option<f64>, String> {
        match value {
            Value::Number(x) => Ok(Some(*x)),
            Value::Word(word) if word == "none" || word == "auto" => Ok(None),
            _ => Err("a number or none".into()),
        }
    }
    fn print(&self) -> String {
        self.map_or("none".into(), |x| x.print())
    }
    fn number(&self) -> Option<f64> {
        *self
    }
}

impl Parameter for bool {
    fn read(value: &Value) -> Result<bool, String> {
        match value {
            Value::Word(word) if word == "true" => Ok(true),
            Value::Word(word) if word == "false" => Ok(false),
            _ => Err("true or false".into()),
        }
    }
    fn print(&self) -> String {
        self.to_string()
    }
}

/// Rows of numbers: `[0, 1; 1, 0]`.
impl Parameter for Option<Vec<Vec<f64>>> {
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::List(rows) => Ok(Some(rows.clone())),
            Value::Word(word) if word == "none" => Ok(None),
            _ => Err("rows of numbers such as [0, 1; 1, 0], or none".into()),
        }
    }
    fn print(&self) -> String {
        let row = |row: &Vec<f64>| row.iter().map(|x| print_number(*x)).collect::<Vec<_>>().join(", ");
        match self {
            None => "none".into(),
            Some(rows) => format!("[{}]", rows.iter().map(row).collect::<Vec<_>>().join("; ")),
        }
    }
}

/// Declares an enum whose variants are words of the spec string.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* $variant),+ }
        impl $crate::loss::Parameter for $name {
            fn read(value: &$crate::loss::Value) -> Result<Self, String> {
                match value {
                    $($crate::loss::Value::Word(word) if word == $word => Ok($name::$variant),)+
                    _ => Err([$($word),+].join(" or ")),
                }
            }
            fn print(&self) -> String {
                match self { $($name::$variant => $word),+ }.into()
            }
        }
    };
}
pub(crate) use words;

/// The numbers a parameter may take.
#[derive(Clone, Copy)]
pub struct Range {
    /// In words: "at least 0".
    pub text: &'static str,
    /// Whether a number lies in it.
    pub holds: fn(f64) -> bool,
}

impl Range {
    /// Any finite number.
    pub const ANY: Range = Range { text: "finite", holds: |x| x.is_finite() };
    /// 0 or more.
    pub const NON_NEGATIVE: Range = Range { text: "finite and at least 0", holds: |x| x.is_finite() && x >= 0.0 };
    /// More than 0.
    pub const POSITIVE: Range = Range { text: "finite and above 0", holds: |x| x.is_finite() && x > 0.0 };
    /// A length whose square, and that of a multiple, single precision has.
    pub const LENGTH: Range = Range { text: "from 1e-15 to 1e15", holds: |x| (1e-15..=1e15).contains(&x) };
    /// From 1 to 2, both included.
    pub const ONE_TO_TWO: Range = Range { text: "from 1 to 2", holds: |x| (1.0..=2.0).contains(&x) };
    /// Above 0, up to 8.
    pub const ABOVE_ZERO_TO_EIGHT: Range = Range { text: "above 0 and at most 8", holds: |x| x > 0.0 && x <= 8.0 };
    /// From 0 to 16, both included.
    pub const ZERO_TO_SIXTEEN: Range = Range { text: "from 0 to 16", holds: |x| (0.0..=16.0).contains(&x) };
    /// A whole number from 1 to 100.
    pub const COUNT: Range = Range { text: "a whole number from 1 to 100", holds: |x| (1.0..=100.0).contains(&x) };
    /// From 0 to 1, both included.
    pub const UNIT: Range = Range { text: "from 0 to 1", holds: |x| (0.0..=1.0).contains(&x) };
}

/// Describes a parameter, for `list` and for errors.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ParameterInfo {
    /// Its key in a spec string.
    pub key: &'static str,
    /// Its default, as printed in a spec string.
    pub default: String,
    /// The values it may take, in words.
    pub range: String,
    /// What it means.
    pub doc: String,
}

/// Declares a loss: the struct with its parameters, their keys, defaults, ranges and docs, once.
macro_rules! loss {
    (
        $(#[doc = $doc:literal])*
        $name:ident = $spec:literal $(, alias $alias:literal)?, source $source:literal {
            $($(#[doc = $field_doc:literal])* $field:ident: $type:ty = $default:expr $(, $range:ident)?;)*
        }
    ) => {
        $(#[doc = $doc])*
        #[doc = ""]
        #[doc = concat!("Spec name `", $spec, "`. Source: ", $source, ".")]
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name { $($(#[doc = $field_doc])* pub $field: $type,)* }

        impl Default for $name {
            fn default() -> Self {
                $name { $($field: $default,)* }
            }
        }

        impl $crate::loss::Parameters for $name {
            const NAME: &'static str = $spec;
            const ALIASES: &'static [&'static str] = &[$($alias)?];
            const SOURCE: &'static str = $source;
            const DOC: &'static str = concat!($($doc, "\n",)*);

            #[allow(unused_mut, unused_variables, reason = "a loss may have no parameter")]
            fn set(&mut self, key: &str, value: &$crate::loss::Value) -> Option<Result<(), String>> {
                $(if key == stringify!($field) {
                    return Some(<$type as $crate::loss::Parameter>::read(value).map(|x| self.$field = x));
                })*
                None
            }
            fn values(&self) -> Vec<(&'static str, String)> {
                vec![$((stringify!($field), $crate::loss::Parameter::print(&self.$field)),)*]
            }
            fn check(&self) -> Result<(), $crate::loss::OutOfRange> {
                $($(
                    let range = $crate::loss::Range::$range;
                    if let Some(x) = $crate::loss::Parameter::number(&self.$field)
                        && !(range.holds)(x)
                    {
                        return Err($crate::loss::OutOfRange { key: stringify!($field), value: x, range: range.text });
                    }
                )?)*
                Ok(())
            }
            fn info() -> Vec<$crate::loss::ParameterInfo> {
                let default = Self::default();
                let _ = &default;
                vec![$($crate::loss::ParameterInfo {
                    key: stringify!($field),
                    default: $crate::loss::Parameter::print(&default.$field),
                    range: $crate::loss::parameter::range_text::<$type>(None $(.or(Some($crate::loss::Range::$range)))?),
                    doc: concat!($($field_doc, "\n",)*).trim().into(),
                },)*]
            }
        }
    };
}
pub(crate) use loss;

pub(crate) fn range_text<T: Parameter>(range: Option<Range>) -> String {
    match range {
        Some(range) => range.text.into(),
        // Reading a value of no kind tells what kinds there are.
        None => T::read(&Value::Nothing).err().unwrap_or_default(),
    }
}
