//! The tree of a PTX module.

/// A type, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Type {
    Pred,
    B8,
    B16,
    B32,
    B64,
    B128,
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    F16,
    F16x2,
    Bf16,
    Bf16x2,
    F32,
    F64,
}

impl Type {
    pub(crate) fn parse(text: &str) -> Option<Type> {
        use Type::*;
        Some(match text {
            "pred" => Pred,
            "b8" => B8,
            "b16" => B16,
            "b32" => B32,
            "b64" => B64,
            "b128" => B128,
            "u8" => U8,
            "u16" => U16,
            "u32" => U32,
            "u64" => U64,
            "s8" => S8,
            "s16" => S16,
            "s32" => S32,
            "s64" => S64,
            "f16" => F16,
            "f16x2" => F16x2,
            "bf16" => Bf16,
            "bf16x2" => Bf16x2,
            "f32" => F32,
            "f64" => F64,
            _ => return None,
        })
    }
    /// Bytes in memory.
    pub(crate) fn size(self) -> usize {
        use Type::*;
        match self {
            Pred | B8 | U8 | S8 => 1,
            B16 | U16 | S16 | F16 | Bf16 => 2,
            B32 | U32 | S32 | F32 | F16x2 | Bf16x2 => 4,
            B64 | U64 | S64 | F64 => 8,
            B128 => 16,
        }
    }
    pub(crate) fn is_signed(self) -> bool {
        matches!(self, Type::S8 | Type::S16 | Type::S32 | Type::S64)
    }
    pub(crate) fn is_float(self) -> bool {
        use Type::*;
        matches!(self, F16 | F16x2 | Bf16 | Bf16x2 | F32 | F64)
    }
}

/// A state space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Space {
    Generic,
    Global,
    Shared,
    Local,
    Param,
    Const,
}

impl Space {
    pub(crate) fn parse(text: &str) -> Option<Space> {
        Some(match text {
            "global" => Space::Global,
            "shared" | "shared::cta" => Space::Shared,
            "local" => Space::Local,
            "param" | "param::entry" | "param::func" => Space::Param,
            "const" => Space::Const,
            _ => return None,
        })
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Module<'a> {
    /// `.version` as major and minor.
    pub(crate) version: (u32, u32),
    /// `sm_70`.
    pub(crate) target: &'a str,
    pub(crate) variables: Vec<Variable<'a>>,
    pub(crate) functions: Vec<Function<'a>>,
}

/// A variable in memory, or a parameter.
#[derive(Clone, Debug)]
pub(crate) struct Variable<'a> {
    pub(crate) space: Space,
    pub(crate) name: &'a str,
    pub(crate) ty: Type,
    pub(crate) align: usize,
    /// The number of elements; `None` for an array whose size the launch gives.
    pub(crate) count: Option<usize>,
    /// The first elements; the rest is zero where there is any.
    pub(crate) initial: Option<Vec<Initial<'a>>>,
    pub(crate) line: u32,
}

impl Variable<'_> {
    /// Bytes; 0 for an array whose size the launch gives.
    pub(crate) fn size(&self) -> usize {
        self.ty.size() * self.count.unwrap_or(0)
    }
}

/// An element of an initialiser.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Initial<'a> {
    Bits(u64),
    /// A double's bits, to be narrowed to the variable's type.
    Number(u64),
    /// The address of another variable, plus an offset; as a generic address or within its space.
    Address(&'a str, i64),
}

#[derive(Clone, Debug)]
pub(crate) struct Function<'a> {
    pub(crate) name: &'a str,
    pub(crate) is_entry: bool,
    pub(crate) returns: Vec<Variable<'a>>,
    pub(crate) parameters: Vec<Variable<'a>>,
    /// `None` for a declaration.
    pub(crate) body: Option<Vec<Statement<'a>>>,
    /// The most threads of a block: per dimension, or 0 where nothing is said.
    pub(crate) max_threads: [u32; 3],
    /// Whether `max_threads` is exactly what a launch must ask for.
    pub(crate) required: bool,
    pub(crate) line: u32,
}

#[derive(Clone, Debug)]
pub(crate) enum Statement<'a> {
    Label(&'a str),
    /// `.reg .f32 %f<4>;` declares `%f0` to `%f3`, with `count` 4; a single register has `None`.
    Registers {
        ty: Type,
        name: &'a str,
        count: Option<u32>,
    },
    Variable(Variable<'a>),
    Scope(Vec<Statement<'a>>),
    /// `name: .branchtargets a, b;`
    BranchTargets(&'a str, Vec<&'a str>),
    Instruction(Instruction<'a>),
}

#[derive(Clone, Debug)]
pub(crate) struct Instruction<'a> {
    /// `@p` or `@!p`, with whether it is negated.
    pub(crate) guard: Option<(&'a str, bool)>,
    pub(crate) opcode: &'a str,
    pub(crate) modifiers: Vec<&'a str>,
    pub(crate) operands: Vec<Operand<'a>>,
    pub(crate) line: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operand<'a> {
    /// A register, label, variable or function.
    Name(&'a str),
    /// `%tid.x`: a special register, or a part of a vector.
    Part(&'a str, &'a str),
    Integer(u64),
    Single(u32),
    Double(u64),
    /// `!%p1`
    Not(&'a str),
    /// `%p1|%p2`; `_` leaves one out.
    Pair(&'a str, &'a str),
    /// `{%r1, %r2}`
    Vector(Vec<Operand<'a>>),
    /// `[%rd1+16]`, `[name]`, `[64]`
    Address(Option<&'a str>, i64),
    /// `(a, b)` of a call.
    List(Vec<Operand<'a>>),
}
