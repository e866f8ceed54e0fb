//! A decoded kernel.

use super::convert::Conversion;
use super::number::Rounding;
use super::registers::{Bank, NONE, Registers, Slot};
use crate::ptx::syntax::{Space, Type};

/// An arithmetic instruction's work on the lanes of a mask.
pub(crate) type Run = fn(&mut Registers, &Instruction, u32);
/// A comparison: the lanes for which it holds.
pub(crate) type Compare = fn(&Registers, &Instruction) -> u32;

#[derive(Clone, Debug)]
pub(crate) struct Instruction {
    pub(crate) op: Op,
    /// The predicate that lanes need, or [`NONE`]; and whether they need it false.
    pub(crate) guard: u16,
    pub(crate) guard_negated: bool,
    /// `.ftz` and `.sat` of single precision.
    pub(crate) flush: bool,
    pub(crate) saturate: bool,
    /// Of arithmetic that rounds in a direction.
    pub(crate) rounding: Rounding,
    /// Results and operands, as numbers in banks that the operation knows.
    pub(crate) to: [u16; 4],
    pub(crate) from: [u16; 4],
    /// Added to the address in the register `from[0]`, which is of this bank.
    pub(crate) offset: i64,
    pub(crate) address: Bank,
    /// The PTX line, and the opcode's number in [`Program::opcodes`].
    pub(crate) line: u32,
    pub(crate) opcode: u16,
}

impl Instruction {
    pub(crate) fn new(op: Op, line: u32, opcode: u16) -> Instruction {
        Instruction {
            op,
            guard: NONE,
            guard_negated: false,
            flush: false,
            saturate: false,
            rounding: Rounding::Nearest,
            to: [NONE; 4],
            from: [NONE; 4],
            offset: 0,
            address: Bank::Long,
            line,
            opcode,
        }
    }
}

/// A load, store, atomic or copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    pub(crate) space: Space,
    pub(crate) ty: Type,
    /// Elements of a vector.
    pub(crate) count: u8,
    /// The bank of the registers that are loaded or stored.
    pub(crate) bank: Bank,
    pub(crate) order: Order,
}

impl Access {
    /// Bytes of one element, and of all.
    pub(crate) fn size(self) -> usize {
        self.ty.size()
    }
    pub(crate) fn bytes(self) -> usize {
        self.ty.size() * self.count as usize
    }
}

/// What an access promises about order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Order {
    /// Volatile, relaxed or stronger: such accesses may meet without being a race.
    pub(crate) strong: bool,
    pub(crate) acquire: bool,
    pub(crate) release: bool,
    /// Through the read-only path.
    pub(crate) read_only: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtomicOp {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
    Exchange,
    CompareAndSwap,
    Increment,
    Decrement,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Logic {
    Copy,
    Not,
    And,
    Or,
    Xor,
}

/// How `setp` combines a comparison with another predicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Combine {
    None,
    And,
    Or,
    Xor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shuffle {
    Up,
    Down,
    Butterfly,
    Index,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vote {
    All,
    Any,
    Uniform,
    Ballot,
    MatchAny,
    MatchAll,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reduction {
    Popcount,
    And,
    Or,
    Xor,
    Add,
    Min,
    Max,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// Whatever is done lane by lane, from the table of `alu`.
    Lanewise(Run),
    Compare {
        compare: Compare,
        combine: Combine,
        /// The predicate `from[2]` is negated.
        negated: bool,
    },
    /// `set`: what lanes get for which the comparison holds.
    Set {
        compare: Compare,
        truth: u32,
    },
    /// On predicates `from[0]` and `from[1]`; whether each is negated.
    Logic {
        logic: Logic,
        negated: [bool; 2],
    },
    Copy(Bank),
    /// Two or four registers into one, and back; elements of this size.
    Pack {
        element: u8,
        count: u8,
        whole: Bank,
    },
    Unpack {
        element: u8,
        count: u8,
        whole: Bank,
    },
    Convert {
        conversion: Conversion,
        to: Bank,
        from: Bank,
    },
    /// Two values to the halves of a word: `from[0]` is the upper one.
    ConvertPair(Conversion),
    /// A generic address to one in a space, or back.
    Window {
        base: u64,
        to_generic: bool,
    },
    /// Whether a generic address lies in a space.
    IsSpace(Space),
    Load(Access),
    Store(Access),
    Atomic {
        access: Access,
        op: AtomicOp,
        returns: bool,
    },
    /// Global memory at the instruction's address to shared memory at `from[1]` plus the offset: so many bytes, of which only the
    /// first `from[2]` are read where it is given.
    CopyAsync {
        bytes: u8,
        offset: i32,
    },
    /// Waits until at most so many groups of copies are under way.
    CopyCommit,
    CopyWait {
        groups: u32,
    },
    Fence {
        /// Of the device or the system, not of the block alone.
        wide: bool,
    },
    Branch {
        target: u32,
    },
    /// To the label with the number in `from[0]`.
    BranchIndexed {
        table: u16,
    },
    /// Barrier `from[0]` for `from[1]` threads; `aligned` where a whole warp must come together.
    Barrier {
        waits: bool,
        aligned: bool,
        reduce: Option<Reduction>,
        negated: bool,
    },
    WarpBarrier,
    Shuffle {
        mode: Shuffle,
        synchronised: bool,
    },
    Vote {
        vote: Vote,
        negated: bool,
        synchronised: bool,
        bank: Bank,
    },
    Reduce {
        reduction: Reduction,
        signed: bool,
    },
    ActiveMask,
    Clock(Bank),
    Exit,
    Trap,
    Nothing,
}

/// What a special register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    Thread(usize),
    BlockSize(usize),
    Block(usize),
    GridSize(usize),
    Lane,
    Warp,
    Warps,
    Multiprocessor,
    Multiprocessors,
    LanesEqual,
    LanesBelow,
    LanesUpTo,
    LanesAbove,
    LanesFrom,
    /// Of the launch: static plus dynamic shared bytes, and the dynamic ones.
    SharedTotal,
    SharedDynamic,
    /// The halves of the address of a cooperative grid's workspace.
    GridWorkspaceHigh,
    GridWorkspaceLow,
    Zero,
}

/// A parameter of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parameter {
    pub(crate) offset: usize,
    pub(crate) size: usize,
}

/// A kernel, ready to run. Immutable, so that any number of launches share it.
#[derive(Debug, Default)]
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) code: Vec<Instruction>,
    /// Opcodes with their modifiers, as written.
    pub(crate) opcodes: Vec<String>,
    /// Targets of indexed branches.
    pub(crate) tables: Vec<Vec<u32>>,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) parameter_bytes: usize,
    /// Registers of each bank.
    pub(crate) preds: usize,
    pub(crate) words: usize,
    pub(crate) longs: usize,
    /// Registers that hold immediates, or special registers, from the start.
    pub(crate) constants: Vec<(Slot, u64)>,
    pub(crate) specials: Vec<(u16, Special)>,
    /// Static bytes of shared memory of a block, and of local memory of a thread.
    pub(crate) shared_bytes: usize,
    pub(crate) local_bytes: usize,
    pub(crate) max_threads: [u32; 3],
    pub(crate) required: bool,
    /// Whether blocks can see each other's work: atomics, fences or ordered accesses of global memory.
    pub(crate) communicates: bool,
}

impl Program {
    /// Where dynamic shared memory begins.
    pub(crate) fn dynamic_base(&self) -> usize {
        self.shared_bytes.next_multiple_of(16)
    }
}
