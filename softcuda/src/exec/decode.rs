//! A function of a module to a [`Program`]: names to numbers, labels to positions, calls to copies of what they call.
//!
//! Lane-wise opcodes come from the table of [`alu`](super::alu); what moves data or control has a method here.

use super::alu::{self, Row};
use super::convert::Conversion;
use super::number::Rounding;
use super::program::*;
use super::registers::{Bank, NONE, Slot};
use super::shared::{LOCAL_WINDOW, SHARED_WINDOW};
use crate::ptx::Problem;
use crate::ptx::syntax::{self, Function, Module, Operand, Space, Statement, Type, Variable};
use std::collections::HashMap;

type Result<T> = std::result::Result<T, Problem>;

/// Calls within calls beyond this are taken for recursion, which is not supported: calls are copied in.
const DEPTH_MOST: usize = 32;

/// Decodes an entry. `addresses` are where the module's variables of global and constant memory lie.
pub(crate) fn decode(module: &Module, entry: &Function, addresses: &HashMap<&str, u64>) -> Result<Program> {
    let mut decoder = Decoder {
        module,
        addresses,
        program: Program {
            name: entry.name.to_string(),
            max_threads: entry.max_threads,
            required: entry.required,
            ..Program::default()
        },
        scopes: vec![Scope::default()],
        labels: Vec::new(),
        constants: HashMap::new(),
        opcodes: HashMap::new(),
        shared: HashMap::new(),
        calls: Vec::new(),
        problems: Vec::new(),
        line: entry.line,
    };
    decoder.parameters(&entry.parameters);
    let Some(body) = &entry.body else { return Err(Problem::new(entry.line, "an entry without a body")) };
    decoder.statements(body)?;
    decoder.emit(Op::Exit, "exit");
    decoder.finish()
}

struct Decoder<'m, 'a> {
    module: &'m Module<'a>,
    addresses: &'m HashMap<&'m str, u64>,
    program: Program,
    scopes: Vec<Scope<'a>>,
    /// The position of each label, once it is known. Until the end, branches hold numbers of labels.
    labels: Vec<Option<u32>>,
    constants: HashMap<(Bank, Constant), u16>,
    opcodes: HashMap<String, u16>,
    /// Where the module's variables of shared memory lie in this kernel, as far as it uses them.
    shared: HashMap<&'a str, u64>,
    /// The label at the end of each call that is being copied in.
    calls: Vec<u32>,
    /// Instructions that cannot be decoded: all are reported, not the first alone.
    problems: Vec<Problem>,
    line: u32,
}

#[derive(Default)]
struct Scope<'a> {
    symbols: HashMap<&'a str, Symbol>,
    /// `%r<4>`: the prefix's bank, first register and how many there are.
    ranges: HashMap<&'a str, (Bank, u16, u32)>,
    /// Names of outer scopes are hidden: the body of a function that is called.
    closed: bool,
}

#[derive(Clone, Copy)]
enum Symbol {
    Register(Slot),
    Label(u32),
    Table(u16),
    /// An address within a space.
    Variable(Space, u64),
    /// Of the shared array whose size the launch gives.
    Dynamic,
}

/// A value that a register holds from the start.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Constant {
    Bits(u64),
    /// Bytes from the start of dynamic shared memory on.
    Dynamic,
}

/// An instruction of the text while it is decoded.
struct Source<'s, 'a> {
    text: &'s syntax::Instruction<'a>,
    guard: (u16, bool),
}

impl<'m, 'a: 'm> Decoder<'m, 'a> {
    fn problem<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(Problem::new(self.line, message))
    }

    // Names.

    fn parameters(&mut self, parameters: &[Variable<'a>]) {
        let mut offset = 0usize;
        for parameter in parameters {
            offset = offset.next_multiple_of(parameter.align);
            self.program.parameters.push(Parameter { offset, size: parameter.size() });
            self.declare(parameter.name, Symbol::Variable(Space::Param, offset as u64));
            offset += parameter.size();
        }
        self.program.parameter_bytes = offset;
    }
    fn scope(&mut self) -> &mut Scope<'a> {
        self.scopes.last_mut().expect("there is always a scope")
    }
    fn declare(&mut self, name: &'a str, symbol: Symbol) {
        self.scope().symbols.insert(name, symbol);
    }
    fn label(&mut self) -> u32 {
        self.labels.push(None);
        self.labels.len() as u32 - 1
    }
    fn place(&mut self, label: u32) {
        self.labels[label as usize] = Some(self.program.code.len() as u32);
    }
    fn register(&mut self, bank: Bank, count: u32) -> Result<u16> {
        let used = match bank {
            Bank::Pred => &mut self.program.preds,
            Bank::Word => &mut self.program.words,
            Bank::Long => &mut self.program.longs,
        };
        let first = *used;
        *used += count as usize;
        if *used >= NONE as usize {
            return self.problem(format!("more than {NONE} registers"));
        }
        Ok(first as u16)
    }
    fn lookup(&mut self, name: &'a str) -> Result<Symbol> {
        for scope in self.scopes.iter().rev() {
            if let Some(symbol) = scope.symbols.get(name) {
                return Ok(*symbol);
            }
            let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count();
            for split in name.len() - digits..name.len() {
                let (prefix, number) = name.split_at(split);
                if let (Some(&(bank, first, count)), Ok(number)) = (scope.ranges.get(prefix), number.parse::<u32>())
                    && number < count
                {
                    return Ok(Symbol::Register(Slot { bank, index: first + number as u16 }));
                }
            }
            if scope.closed {
                break;
            }
        }
        if let Some(&offset) = self.shared.get(name) {
            return Ok(Symbol::Variable(Space::Shared, offset));
        }
        let Some(variable) = self.module.variables.iter().find(|variable| variable.name == name) else {
            return self.problem(format!("unknown name {name}"));
        };
        match (variable.space, self.addresses.get(name)) {
            (Space::Shared, _) => self.shared_variable(variable),
            (space, Some(&address)) => Ok(Symbol::Variable(space, address)),
            _ => self.problem(format!("{name} has no address")),
        }
    }
    fn shared_variable(&mut self, variable: &Variable<'a>) -> Result<Symbol> {
        if variable.count.is_none() {
            return Ok(Symbol::Dynamic);
        }
        let offset = self.program.shared_bytes.next_multiple_of(variable.align);
        self.program.shared_bytes = offset + variable.size();
        self.shared.insert(variable.name, offset as u64);
        Ok(Symbol::Variable(Space::Shared, offset as u64))
    }
    fn local_variable(&mut self, variable: &Variable<'a>) -> Symbol {
        let offset = self.program.local_bytes.next_multiple_of(variable.align);
        self.program.local_bytes = offset + variable.size();
        Symbol::Variable(Space::Local, offset as u64)
    }

    // Statements.

    fn statements(&mut self, statements: &'m [Statement<'a>]) -> Result<()> {
        for statement in statements {
            match statement {
                Statement::Label(name) => {
                    let label = self.label();
                    self.declare(name, Symbol::Label(label));
                }
                Statement::Registers { ty, name, count } => {
                    let bank = bank(*ty);
                    let first = self.register(bank, count.unwrap_or(1))?;
                    match count {
                        Some(count) => {
                            self.scope().ranges.insert(name, (bank, first, *count));
                        }
                        None => self.declare(name, Symbol::Register(Slot { bank, index: first })),
                    }
                }
                Statement::Variable(variable) => {
                    self.line = variable.line;
                    let symbol = match variable.space {
                        Space::Shared => self.shared_variable(variable)?,
                        // Parameters of a call lie in the caller's local memory.
                        Space::Local | Space::Param => self.local_variable(variable),
                        _ => return self.problem("a variable of global memory within a function"),
                    };
                    self.declare(variable.name, symbol);
                }
                _ => {}
            }
        }
        for statement in statements {
            match statement {
                Statement::BranchTargets(name, targets) => {
                    let mut table = Vec::new();
                    for target in targets {
                        match self.lookup(target)? {
                            Symbol::Label(label) => table.push(label),
                            _ => return self.problem(format!("{target} is no label")),
                        }
                    }
                    self.program.tables.push(table);
                    let number = self.program.tables.len() as u16 - 1;
                    self.declare(name, Symbol::Table(number));
                }
                Statement::Label(name) => {
                    if let Symbol::Label(label) = self.lookup(name)? {
                        self.place(label);
                    }
                }
                Statement::Scope(inner) => {
                    self.scopes.push(Scope::default());
                    self.statements(inner)?;
                    self.scopes.pop();
                }
                Statement::Instruction(instruction) => {
                    if let Err(problem) = self.instruction(instruction) {
                        self.problems.push(problem);
                    }
                }
                Statement::Registers { .. } | Statement::Variable(_) => {}
            }
        }
        Ok(())
    }
    fn finish(mut self) -> Result<Program> {
        if let Some(first) = self.problems.first() {
            let others: Vec<String> = self.problems[1..].iter().map(|problem| format!("\n{problem}")).collect();
            return Err(Problem { line: first.line, message: format!("{}{}", first.message, others.concat()) });
        }
        let mut positions = Vec::new();
        for label in &self.labels {
            match label {
                Some(position) => positions.push(*position),
                None => return Err(Problem::new(self.line, "a label that is nowhere")),
            }
        }
        for instruction in &mut self.program.code {
            if let Op::Branch { target } = &mut instruction.op {
                *target = positions[*target as usize];
            }
        }
        for target in self.program.tables.iter_mut().flatten() {
            *target = positions[*target as usize];
        }
        let dynamic = self.program.dynamic_base() as u64;
        for ((bank, constant), index) in self.constants {
            let value = match constant {
                Constant::Bits(bits) => bits,
                Constant::Dynamic => dynamic,
            };
            self.program.constants.push((Slot { bank, index }, value));
        }
        self.program.opcodes = vec![String::new(); self.opcodes.len()];
        for (text, number) in self.opcodes {
            self.program.opcodes[number as usize] = text;
        }
        Ok(self.program)
    }
    /// Appends an instruction that the text does not hold.
    fn emit(&mut self, op: Op, opcode: &str) -> &mut Instruction {
        let opcode = self.opcode(opcode.to_string());
        self.program.code.push(Instruction::new(op, self.line, opcode));
        self.program.code.last_mut().expect("just appended")
    }
    fn opcode(&mut self, text: String) -> u16 {
        let next = self.opcodes.len() as u16;
        *self.opcodes.entry(text).or_insert(next)
    }

    // Operands.

    fn constant(&mut self, bank: Bank, constant: Constant) -> Result<u16> {
        if let Some(&index) = self.constants.get(&(bank, constant)) {
            return Ok(index);
        }
        let index = self.register(bank, 1)?;
        self.constants.insert((bank, constant), index);
        Ok(index)
    }
    fn special(&mut self, special: Special) -> Result<Slot> {
        let bank = Bank::Word;
        if let Some(&(index, _)) = self.program.specials.iter().find(|(_, known)| *known == special) {
            return Ok(Slot { bank, index });
        }
        let index = self.register(bank, 1)?;
        self.program.specials.push((index, special));
        Ok(Slot { bank, index })
    }
    /// An operand that is read, as a register; what is wanted decides how constants are kept.
    fn value(&mut self, operand: &Operand<'a>, wanted: Option<(Bank, Type)>) -> Result<Slot> {
        let (bank, ty) = wanted.unwrap_or((Bank::Word, Type::B32));
        let bits = match operand {
            Operand::Integer(value) => Constant::Bits(*value),
            Operand::Single(bits) => Constant::Bits(*bits as u64),
            Operand::Double(bits) if bank == Bank::Word => {
                Constant::Bits((f64::from_bits(*bits) as f32).to_bits() as u64)
            }
            Operand::Double(bits) => Constant::Bits(*bits),
            Operand::Part(name, part) => {
                let Some(special) = special(name, part) else {
                    return self.problem(format!("unknown register {name}.{part}"));
                };
                return self.special(special);
            }
            Operand::Name("WARP_SZ") => Constant::Bits(32),
            Operand::Name(name) => {
                if let Some(special) = special(name, "") {
                    return self.special(special);
                }
                match self.lookup(name)? {
                    Symbol::Register(slot) => return Ok(slot),
                    Symbol::Variable(_, address) => Constant::Bits(address),
                    Symbol::Dynamic => Constant::Dynamic,
                    _ => return self.problem(format!("{name} is no value")),
                }
            }
            Operand::Address(Some(name), offset) => match self.lookup(name)? {
                // `mov.u64 %rd1, table+16`
                Symbol::Variable(_, address) => Constant::Bits(address.wrapping_add_signed(*offset)),
                _ => return self.problem(format!("{name} is no variable")),
            },
            _ => return self.problem("no operand that can be read"),
        };
        let bits = match (bits, bank) {
            (Constant::Bits(bits), Bank::Word) if ty.size() <= 2 => Constant::Bits(bits & 0xffff),
            (Constant::Bits(bits), Bank::Word) => Constant::Bits(bits & 0xffff_ffff),
            (Constant::Bits(bits), Bank::Pred) => Constant::Bits(bits & 1),
            (bits, _) => bits,
        };
        Ok(Slot { bank, index: self.constant(bank, bits)? })
    }
    /// An operand of a bank that the operation knows.
    fn source_of(&mut self, operand: &Operand<'a>, bank: Bank, ty: Type) -> Result<u16> {
        let slot = self.value(operand, Some((bank, ty)))?;
        if slot.bank != bank {
            return self.problem(format!("an operand of {:?} where one of {bank:?} belongs", slot.bank));
        }
        Ok(slot.index)
    }
    fn word(&mut self, operand: &Operand<'a>) -> Result<u16> {
        self.source_of(operand, Bank::Word, Type::B32)
    }
    /// A predicate, and whether it is negated.
    fn pred(&mut self, operand: &Operand<'a>) -> Result<(u16, bool)> {
        match operand {
            Operand::Not(name) => Ok((self.source_of(&Operand::Name(name), Bank::Pred, Type::Pred)?, true)),
            _ => Ok((self.source_of(operand, Bank::Pred, Type::Pred)?, false)),
        }
    }
    /// An operand that is written; `_` is none.
    fn result(&mut self, operand: &Operand<'a>) -> Result<Slot> {
        match operand {
            Operand::Name("_") => Ok(Slot { bank: Bank::Word, index: NONE }),
            Operand::Name(name) => match self.lookup(name)? {
                Symbol::Register(slot) => Ok(slot),
                _ => self.problem(format!("{name} is no register")),
            },
            _ => self.problem("no register to write"),
        }
    }
    fn result_of(&mut self, operand: &Operand<'a>, bank: Bank) -> Result<u16> {
        let slot = self.result(operand)?;
        if slot.bank != bank && slot.index != NONE {
            return self.problem(format!("a result in {:?} where one in {bank:?} belongs", slot.bank));
        }
        Ok(slot.index)
    }
    /// `d` or `d|p`.
    fn results(&mut self, operand: &Operand<'a>, banks: [Bank; 2]) -> Result<[u16; 2]> {
        match operand {
            Operand::Pair(first, second) => Ok([
                self.result_of(&Operand::Name(first), banks[0])?,
                self.result_of(&Operand::Name(second), banks[1])?,
            ]),
            _ => Ok([self.result_of(operand, banks[0])?, NONE]),
        }
    }
    /// Sets the address of an instruction, and says in which space the variable of the operand lies, if it is one.
    fn address(&mut self, operand: &Operand<'a>, instruction: &mut Instruction) -> Result<Option<Space>> {
        let (name, offset) = match operand {
            Operand::Address(name, offset) => (name, *offset),
            _ => return self.problem("no address"),
        };
        instruction.offset = offset;
        let (slot, space) = match name.map(|name| self.lookup(name)).transpose()? {
            None => (Slot { bank: Bank::Long, index: self.constant(Bank::Long, Constant::Bits(0))? }, None),
            Some(Symbol::Register(slot)) => (slot, None),
            Some(Symbol::Variable(space, address)) => {
                (Slot { bank: Bank::Long, index: self.constant(Bank::Long, Constant::Bits(address))? }, Some(space))
            }
            Some(Symbol::Dynamic) => {
                (Slot { bank: Bank::Long, index: self.constant(Bank::Long, Constant::Dynamic)? }, Some(Space::Shared))
            }
            Some(_) => return self.problem("a label for an address"),
        };
        (instruction.from[0], instruction.address) = (slot.index, slot.bank);
        Ok(space)
    }

    // Instructions.

    fn instruction(&mut self, text: &'m syntax::Instruction<'a>) -> Result<()> {
        self.line = text.line;
        let guard = match text.guard {
            Some((name, negated)) => (self.source_of(&Operand::Name(name), Bank::Pred, Type::Pred)?, negated),
            None => (NONE, false),
        };
        let source = Source { text, guard };
        if text.opcode == "call" {
            return self.call(source);
        }
        let (op, mut instruction) = self.operation(&source)?;
        instruction.op = op;
        (instruction.guard, instruction.guard_negated) = guard;
        self.program.code.push(instruction);
        Ok(())
    }
    fn start(&mut self, text: &syntax::Instruction<'a>) -> Instruction {
        let mut name = text.opcode.to_string();
        for modifier in &text.modifiers {
            name.push('.');
            name.push_str(modifier);
        }
        let opcode = self.opcode(name);
        Instruction::new(Op::Nothing, text.line, opcode)
    }
    fn operation(&mut self, source: &Source<'_, 'a>) -> Result<(Op, Instruction)> {
        let text = source.text;
        let mut i = self.start(text);
        let least = match text.opcode {
            "bra" | "bar" | "barrier" | "activemask" | "createpolicy" => 1,
            "mov" | "ld" | "ldu" | "st" | "red" | "cvta" | "isspacep" | "cvt" | "not" | "brx" | "vote" | "redux"
            | "match" => 2,
            "atom" | "set" | "setp" | "shfl" => 3,
            "and" | "or" | "xor" => 3,
            _ => 0,
        };
        if text.operands.len() < least {
            return self.problem(format!("{} operands of {}", text.operands.len(), text.opcode));
        }
        let is_pred = text.modifiers.last() == Some(&"pred");
        let op = match text.opcode {
            "mov" => self.mov(text, &mut i)?,
            "not" | "and" | "or" | "xor" if is_pred => self.logic(text, &mut i)?,
            "setp" => self.setp(text, &mut i)?,
            "set" => self.set(text, &mut i)?,
            "cvt" => self.cvt(text, &mut i)?,
            "cvta" => self.cvta(text, &mut i)?,
            "isspacep" => {
                i.to[0] = self.result_of(&text.operands[0], Bank::Pred)?;
                i.from[0] = self.source_of(&text.operands[1], Bank::Long, Type::B64)?;
                match text.modifiers.first().and_then(|space| Space::parse(space)) {
                    Some(space) => Op::IsSpace(space),
                    None => return self.problem("isspacep of no space"),
                }
            }
            "ld" | "ldu" => self.load(text, &mut i)?,
            "st" => self.store(text, &mut i)?,
            "atom" | "red" => self.atomic(text, &mut i)?,
            "cp" => self.copy_async(text, &mut i)?,
            "bra" => match &text.operands[0] {
                Operand::Name(name) => match self.lookup(name)? {
                    Symbol::Label(target) => Op::Branch { target },
                    _ => return self.problem(format!("{name} is no label")),
                },
                _ => return self.problem("a branch to no label"),
            },
            "brx" => match &text.operands[1] {
                Operand::Name(name) => match self.lookup(name)? {
                    Symbol::Table(table) => {
                        i.from[0] = self.word(&text.operands[0])?;
                        Op::BranchIndexed { table }
                    }
                    _ => return self.problem(format!("{name} lists no labels")),
                },
                _ => return self.problem("an indexed branch without its labels"),
            },
            "ret" => match self.calls.last() {
                Some(&target) => Op::Branch { target },
                None => Op::Exit,
            },
            "exit" => Op::Exit,
            "trap" | "brkpt" => Op::Trap,
            "membar" => Op::Fence { wide: !text.modifiers.contains(&"cta") },
            "fence" if text.modifiers.contains(&"proxy") => Op::Nothing,
            "fence" => Op::Fence { wide: !text.modifiers.contains(&"cta") },
            "bar" | "barrier" => self.barrier(text, &mut i)?,
            "shfl" => self.shuffle(text, &mut i)?,
            "vote" | "match" => self.vote(text, &mut i)?,
            "redux" => self.redux(text, &mut i)?,
            "activemask" => {
                i.to[0] = self.result_of(&text.operands[0], Bank::Word)?;
                Op::ActiveMask
            }
            "createpolicy" => {
                i.to[0] = self.result_of(&text.operands[0], Bank::Long)?;
                i.from[0] = self.constant(Bank::Long, Constant::Bits(0))?;
                Op::Copy(Bank::Long)
            }
            "prefetch" | "prefetchu" | "applypriority" | "discard" | "griddepcontrol" | "nanosleep" | "pmevent" => {
                Op::Nothing
            }
            _ => self.lanewise(text, &mut i)?,
        };
        Ok((op, i))
    }

    /// The spelling that stands in the table of arithmetic, with the flags that it does not hold.
    fn spelling(&self, text: &syntax::Instruction<'a>, i: &mut Instruction) -> String {
        let ty = text.modifiers.last().and_then(|word| Type::parse(word));
        let mut spelling = text.opcode.to_string();
        for modifier in &text.modifiers {
            match *modifier {
                "ftz" => i.flush = true,
                "sat" if ty == Some(Type::F32) => i.saturate = true,
                "approx" if ty == Some(Type::F64) => spelling.push_str(".approx"),
                "rn" | "approx" | "full" | "uni" | "noftz" => {}
                "rz" | "rm" | "rp" => {
                    i.rounding = Rounding::parse(modifier).unwrap_or_default();
                    spelling.push_str(".dir");
                }
                word => {
                    spelling.push('.');
                    spelling.push_str(word);
                }
            }
        }
        spelling
    }
    fn lanewise(&mut self, text: &syntax::Instruction<'a>, i: &mut Instruction) -> Result<Op> {
        let spelling = self.spelling(text, i);
        let ty = text.modifiers.last().and_then(|word| Type::parse(word)).unwrap_or(Type::B32);
        let Some(&Row { from, to, run }) = alu::table().row(&spelling) else {
            return self.problem(format!("unknown instruction {}", text_of(text)));
        };
        if i.flush && ty != Type::F32 && !spelling.contains(".approx") {
            return self.problem(format!("unknown instruction {}", text_of(text)));
        }
        if text.operands.len() != from.len() + 1 {
            return self.problem(format!("{} operands of {}", text.operands.len(), text_of(text)));
        }
        i.to[0] = self.result_of(&text.operands[0], to)?;
        for (at, bank) in from.iter().enumerate() {
            i.from[at] = self.source_of(&text.operands[at + 1], *bank, ty)?;
        }
        Ok(Op::Lanewise(run))
    }

    fn mov(&mut self, text: &syntax::Instruction<'a>, i: &mut Instruction) -> Result<Op> {
        let Some(ty) = text.modifiers.last().and_then(|word| Type::parse(word)) else {
            return self.problem("mov of no type");
        };
        match (&text.operands[0], &text.operands[1]) {
            (to, Operand::Vector(parts)) => {
                for (at, part) in parts.iter().enumerate().take(4) {
                    i.from[at] = self.source_of(part, bank_of_size(ty.size() / parts.len()), ty)?;
                }
                let slot = self.result(to)?;
                i.to[0] = slot.index;
                Ok(Op::Pack { element: (ty.size() / parts.len()) as u8, count: parts.len() as u8, whole: slot.bank })
            }
            (Operand::Vector(parts), from) => {
                let element = ty.size() / parts.len();
                for (at, part) in parts.iter().enumerate().take(4) {
                    i.to[at] = self.result_of(part, bank_of_size(element))?;
                }
                let whole = bank(ty);
                i.from[0] = self.source_of(from, whole, ty)?;
                Ok(Op::Unpack { element: element as u8, count: parts.len() as u8, whole })
            }
            (
                to,
                Operand::Name(
                    "%clock" | "%clock_hi" | "%clock64" | "%globaltimer" | "%globaltimer_lo" | "%globaltimer_hi",
                ),
            ) => {
                let slot = self.result(to)?;
                i.to[0] = slot.index;
                Ok(Op::Clock(slot.bank))
            }
            (to, from) if ty == Type::Pred => {
                i.to[0] = self.result_of(to, Bank::Pred)?;
                let (index, negated) = self.pred(from)?;
                i.from[0] = index;
                Ok(Op::Logic { logic: Logic::Copy, negated: [negated, false] })
            }
            (to, from) => {
                let bank = bank(ty);
                i.to[0] = self.result_of(to, bank)?;
                let slot = self.value(from, Some((bank, ty)))?;
                i.from[0] = slot.index;
                match (slot.bank, bank) {
                    (Bank::Word, Bank::Long) => {
                        let widen = alu::table().row("cvt.u64.u32").map(|row| Op::Lanewise(row.run));
                        widen.ok_or_else(|| Problem::new(self.line, "no cvt.u64.u32"))
                    }
                    (from, to) if from == to => Ok(Op::Copy(bank)),
                    _ => self.problem("mov between registers of different sizes"),
                }
            }
        }
    }
    fn logic(&mut self, text: &syntax::Instruction<'a>, i: &mut Instruction) -> Result<Op> {
        i.to[0] = self.result_of(&text.operands[0], Bank::Pred)?;
        let mut negated = [false; 2];
        for (at, operand) in text.operands[1..].iter().enumerate().take(2) {
            (i.from[at], negated[at]) = self.pred(operand)?;
        }
        let logic = match text.opcode {
            "not" => Logic::Not,
            "and" => Logic::And,
            "or" => Logic::Or,
            _ => Logic::Xor,
        };
        Ok(Op::Logic { logic, negated })
    }
    /// A comparison, how it combines with another predicate, and its operands from the second on.
    fn comparison(
        &mut self,
        text: &syntax::Instruction<'a>,
        modifiers: &[&str],
        i: &mut Instruction,
    ) -> Result<(Compare, Combine)> {
        let mut combine = Combine::None;
        for modifier in &modifiers[1..modifiers.len() - 1] {
            match *modifier {
                "and" => combine = Combine::And,
                "or" => combine = Combine::Or,
                "xor" => combine = Combine::Xor,
                "ftz" => i.flush = true,
                _ => return self.problem(format!("unknown instruction {}", text_of(text))),
            }
        }
        let word = modifiers[modifiers.len() - 1];
        let Some(comparison) = alu::table().comparison(&format!("{}.{word}", modifiers[0])) else {
            return self.problem(format!("unknown instruction {}", text_of(text)));
        };
        let ty = Type::parse(word).unwrap_or(Type::B32);
        i.from[0] = self.source_of(&text.operands[1], comparison.bank, ty)?;
        i.from[1] = self.source_of(&text.operands[2], comparison.bank, ty)?;
        Ok((comparison.compare, combine))
    }
    fn setp(&mut self, text: &syntax::Instruction<'a>, i: &mut Instruction) -> Result<Op> {
        if text.modifiers.len() < 2 {
            return self.problem("setp of nothing");
        }
        let (compare, combine) = self.comparison(text, &text.modifiers, i)?;
        let [holds, otherwise] = self.results(&text.operands[0], [Bank::Pred; 2])?;
        (i.to[0], i.to[1]) = (holds, otherwise);
        let mut negated = false;
        match (combine, text.operands.get(3)) {
            (Combine::None, None) => {}
            (Combine::None, Some(_)) | (_, None) => return self.problem("setp with a wrong number of operands"),
            (_, Some(operand)) => (i.from[2], negated) = self.pred(operand)?,
        }
        Ok(Op::Compare { compare, combine, negated })
    }
    fn set(&mut self, text: &syntax::Instruction<'a>, i: &mut Instruction) -> Result<Op> {
        let mut modifiers = text.modifiers.clone();
        if modifiers.len() < 3 {
            return self.problem("set of nothing");
        }
        let to = Type::parse(modifiers.remove(modifiers.len() - 2));
        let (compare, combine) = self.comparison(text, &modifiers, i)?;
        i.to[0] = self.result_of(&text.operands[0], Bank::Word)?;
        let truth = match (to, combine) {
            (Some(Type::F32), Combine::None) => 1f32.to_bits(),
            (Some(Type::U32 | Type::S32 | Type::B32), Combine::None) => u32::MAX,
            (Some(Type::U16 | Type::S16 | Type::B16), Combine::None) => 0xffff,
            (Some(Type::F16), Combine::None) => 0x3c00,
            (Some(Type::Bf16), Combine::None) => 0x3f80,
            _ => return self.problem(format!("unknown instruction {}", text_of(text))),
        };
        Ok(Op::Set { compare, truth })
    }
    fn cvt(&mut self, text: &syntax::Instruction<'a>, i: &mut Instruction) -> Result<Op> {
        let unknown = Problem::new(self.line, format!("unknown instruction {}", text_of(text)));
        let [.., to, from] = text.modifiers[..] else { return Err(unknown) };
        let (Some(to), Some(from)) = (Type::parse(to), Type::parse(from)) else { return Err(unknown) };
        let mut conversion = Conversion {
            to,
            from,
            rounding: if to.is_float() { Rounding::Nearest } else { Rounding::Zero },
            integral: false,
            flush: false,
            saturate: false,
            relu: false,
        };
        for modifier in &text.modifiers[..text.modifiers.len() - 2] {
            match *modifier {
                "ftz" => conversion.flush = true,
                "sat" => conversion.saturate = true,
                "relu" => conversion.relu = true,
                word => {
                    conversion.rounding = Rounding::parse(word).ok_or_else(|| unknown.clone())?;
                    conversion.integral = word.ends_with('i');
                }
            }
        }
        i.flush = conversion.flush;
        let half = match to {
            Type::F16x2 => Some(Type::F16),
            Type::Bf16x2 => Some(Type::Bf16),
            _ => None,
        };
        if let Some(half) = half {
            let [to, high, low] = &text.operands[..] else { return Err(unknown) };
            i.to[0] = self.result_of(to, Bank::Word)?;
            i.from[0] = self.source_of(high, Bank::Word, from)?;
            i.from[1] = self.source_of(low, Bank::Word, from)?;
            return Ok(Op::ConvertPair(Conversion { to: half, ..conversion }));
        }
        let result = self.result(&text.operands[0])?;
        let operand = self.value(&text.operands[1], Some((bank(from), from)))?;
        (i.to[0], i.from[0]) = (result.index, operand.index);
        // Registers may be wider than the types: then the general way is taken.
        let spelling = self.spelling_of_cvt(text);
        match alu::table().row(&spelling) {
            Some(row) if !conversion.saturate && row.to == result.bank && row.from == [operand.bank] => {
                Ok(Op::Lanewise(row.run))
            }
            _ => Ok(Op::Convert { conversion, to: result.bank, from: operand.bank }),
        }
    }
    fn spelling_of_cvt(&self, text: &syntax::Instruction<'a>) -> String {
        let words: Vec<&str> = text.modifiers.iter().copied().filter(|word| *word != "ftz").collect();
        format!("cvt.{}", words.join("."))
    }
    fn cvta(&mut self, text: &syntax::Instruction<'a>, i: &mut Instruction) -> Result<Op> {
        let to_generic = !text.modifiers.contains(&"to");
        let Some(space) = text.modifiers.iter().find_map(|word| Space::parse(word)) else {
            return self.problem("cvta of no space");
        };
        let result = self.result(&text.operands[0])?;
        if result.bank != Bank::Long {
            return self.problem("addresses are of 64 bits");
        }
        i.to[0] = result.index;
        i.from[0] = self.source_of(&text.operands[1], Bank::Long, Type::B64)?;
        Ok(match space {
            Space::Shared => Op::Window { base: SHARED_WINDOW, to_generic },
            Space::Local => Op::Window { base: LOCAL_WINDOW, to_generic },
            Space::Param => return self.problem("generic addresses of parameters are not supported"),
            _ => Op::Copy(Bank::Long),
        })
    }

    /// What the modifiers of a load, store or atomic say, with the words that are left.
    fn access<'t>(&mut self, text: &'t syntax::Instruction<'a>) -> Result<(Access, Vec<&'t str>)> {
        let mut access =
            Access { space: Space::Generic, ty: Type::B32, count: 1, bank: Bank::Word, order: Order::default() };
        let (mut rest, mut has_type) = (Vec::new(), false);
        for &word in &text.modifiers {
            match word {
                "v2" => access.count = 2,
                "v4" => access.count = 4,
                "volatile" | "relaxed" | "mmio" => access.order.strong = true,
                "acquire" => (access.order.strong, access.order.acquire) = (true, true),
                "release" => (access.order.strong, access.order.release) = (true, true),
                "acq_rel" | "sc" => {
                    access.order = Order { strong: true, acquire: true, release: true, read_only: false }
                }
                "nc" => access.order.read_only = true,
                "weak" | "ca" | "cg" | "cs" | "lu" | "cv" | "wb" | "wt" | "cta" | "gpu" | "sys" | "cluster"
                | "noftz" => {}
                _ if word.starts_with("L1::") || word.starts_with("L2::") => {}
                _ => match (Space::parse(word), Type::parse(word)) {
                    (Some(space), _) => access.space = space,
                    (_, Some(ty)) => (access.ty, has_type) = (ty, true),
                    _ => rest.push(word),
                },
            }
        }
        if !has_type {
            return self.problem(format!("{} of no type", text.opcode));
        }
        Ok((access, rest))
    }
    /// Parameters of a call lie in local memory, and the operand's variable knows; addresses in registers are of the kernel's own
    /// parameters, except within a function that was called.
    fn space(&self, access: &mut Access, variable: Option<Space>) {
        match (access.space, variable) {
            (Space::Param, Some(space)) => access.space = space,
            (Space::Param, None) if !self.calls.is_empty() => access.space = Space::Local,
            _ => {}
        }
    }
    fn load(&mut self, text: &syntax::Instruction<'a>, i: &mut Instruction) -> Result<Op> {
        let (mut access, rest) = self.access(text)?;
        if !rest.is_empty() {
            return self.problem(format!("unknown instruction {}", text_of(text)));
        }
        let variable = self.address(&text.operands[1], i)?;
        self.space(&mut access, variable);
        access.bank = self.vector(&text.operands[0], &mut access, &mut i.to, Self::result)?;
        self.note_order(&access);
        Ok(Op::Load(access))
    }
    fn store(&mut self, text: &syntax::Instruction<'a>, i: &mut Instruction) -> Result<Op> {
        let (mut access, rest) = self.access(text)?;
        if !rest.is_empty() {
            return self.problem(format!("unknown instruction {}", text_of(text)));
        }
        let variable = self.address(&text.operands[0], i)?;
        self.space(&mut access, variable);
        // The values lie in `to`: `from[0]` is the address.
        let wanted = Some((bank(access.ty), access.ty));
        access.bank =
            self.vector(&text.operands[1], &mut access, &mut i.to, |decoder, operand| decoder.value(operand, wanted))?;
        self.note_order(&access);
        Ok(Op::Store(access))
    }
    /// The registers of a value or a vector of values, which are of one bank.
    fn vector(
        &mut self,
        operand: &Operand<'a>,
        access: &mut Access,
        registers: &mut [u16; 4],
        mut slot: impl FnMut(&mut Self, &Operand<'a>) -> Result<Slot>,
    ) -> Result<Bank> {
        let parts = match operand {
            Operand::Vector(parts) => &parts[..],
            one => std::slice::from_ref(one),
        };
        if parts.len() != access.count as usize || access.ty.size() > 8 {
            return self.problem(format!("{} values in a vector of {}", parts.len(), access.count));
        }
        let mut bank = None;
        for (at, part) in parts.iter().enumerate() {
            let slot = slot(self, part)?;
            registers[at] = slot.index;
            if slot.index != NONE && *bank.get_or_insert(slot.bank) != slot.bank {
                return self.problem("a vector of registers of different sizes");
            }
        }
        let bank = bank.unwrap_or(self::bank(access.ty));
        if bank == Bank::Pred || (bank == Bank::Word && access.ty.size() > 4) {
            return self.problem("a register that is too small");
        }
        Ok(bank)
    }
    fn note_order(&mut self, access: &Access) {
        let global = matches!(access.space, Space::Global | Space::Generic);
        self.program.communicates |= access.order.strong && global;
    }
    fn atomic(&mut self, text: &syntax::Instruction<'a>, i: &mut Instruction) -> Result<Op> {
        let (mut access, rest) = self.access(text)?;
        access.order.strong = true;
        let op = match rest[..] {
            ["add"] => AtomicOp::Add,
            ["min"] => AtomicOp::Min,
            ["max"] => AtomicOp::Max,
            ["and"] => AtomicOp::And,
            ["or"] => AtomicOp::Or,
            ["xor"] => AtomicOp::Xor,
            ["exch"] => AtomicOp::Exchange,
            ["cas"] => AtomicOp::CompareAndSwap,
            ["inc"] => AtomicOp::Increment,
            ["dec"] => AtomicOp::Decrement,
            _ => return self.problem(format!("unknown instruction {}", text_of(text))),
        };
        let returns = text.opcode == "atom";
        let operands = &text.operands[returns as usize..];
        access.bank = bank(access.ty);
        if access.count != 1 || !super::atomic::supports(op, access.ty) || operands.len() < 2 {
            return self.problem(format!("unknown instruction {}", text_of(text)));
        }
        if returns {
            i.to[0] = self.result_of(&text.operands[0], access.bank)?;
        }
        self.address(&operands[0], i)?;
        i.from[1] = self.source_of(&operands[1], access.bank, access.ty)?;
        if op == AtomicOp::CompareAndSwap {
            let Some(new) = operands.get(2) else { return self.problem("cas without a new value") };
            i.from[2] = self.source_of(new, access.bank, access.ty)?;
        }
        self.note_order(&access);
        Ok(Op::Atomic { access, op, returns })
    }
    fn copy_async(&mut self, text: &syntax::Instruction<'a>, i: &mut Instruction) -> Result<Op> {
        match text.modifiers[..] {
            ["async", "commit_group"] => Ok(Op::CopyCommit),
            ["async", "wait_all"] => Ok(Op::CopyWait { groups: 0 }),
            ["async", "wait_group"] => match text.operands[..] {
                [Operand::Integer(groups)] => Ok(Op::CopyWait { groups: groups as u32 }),
                _ => self.problem("cp.async.wait_group of no number"),
            },
            ["async", "ca" | "cg", "shared" | "shared::cta", "global", ..] => {
                let [to, from, Operand::Integer(bytes @ (4 | 8 | 16)), rest @ ..] = &text.operands[..] else {
                    return self.problem("cp.async with wrong operands");
                };
                // The address in global memory is the instruction's own, the one in shared memory is `from[1]` plus `to[0]`.
                let mut shared = i.clone();
                self.address(to, &mut shared)?;
                self.address(from, i)?;
                i.from[1] = match shared.address {
                    Bank::Word => shared.from[0],
                    _ => {
                        let narrow = self.register(Bank::Word, 1)?;
                        let row = alu::table().row("cvt.u32.u64").map(|row| row.run);
                        let run = row.ok_or_else(|| Problem::new(self.line, "no cvt.u32.u64"))?;
                        let narrowing = self.emit(Op::Lanewise(run), "cvt.u32.u64");
                        (narrowing.to[0], narrowing.from[0]) = (narrow, shared.from[0]);
                        narrow
                    }
                };
                let has_size = !text.modifiers.contains(&"L2::cache_hint") || rest.len() > 1;
                if let (true, Some(size)) = (has_size, rest.first()) {
                    i.from[2] = self.word(size)?;
                }
                Ok(Op::CopyAsync { bytes: *bytes as u8, offset: shared.offset as i32 })
            }
            _ => self.problem(format!("unknown instruction {}", text_of(text))),
        }
    }

    fn barrier(&mut self, text: &syntax::Instruction<'a>, i: &mut Instruction) -> Result<Op> {
        let words: Vec<&str> = text.modifiers.iter().copied().filter(|word| *word != "cta").collect();
        if words[..] == ["warp", "sync"] {
            i.from[0] = self.word(&text.operands[0])?;
            return Ok(Op::WarpBarrier);
        }
        let aligned = text.opcode == "bar" || words.contains(&"aligned");
        let mut operands = &text.operands[..];
        let mut reduce = None;
        let waits = match words.first() {
            Some(&"sync") => true,
            Some(&"arrive") => false,
            Some(&"red") => {
                let (result, rest) = operands.split_at(1);
                operands = rest;
                let kind = words.get(1).copied().filter(|word| *word != "aligned").or(words.get(2).copied());
                reduce = match kind {
                    Some("popc") => Some((Reduction::Popcount, Bank::Word)),
                    Some("and") => Some((Reduction::And, Bank::Pred)),
                    Some("or") => Some((Reduction::Or, Bank::Pred)),
                    _ => return self.problem(format!("unknown instruction {}", text_of(text))),
                };
                i.to[0] = self.result_of(&result[0], reduce.map_or(Bank::Word, |(_, bank)| bank))?;
                true
            }
            _ => return self.problem(format!("unknown instruction {}", text_of(text))),
        };
        let mut negated = false;
        if reduce.is_some() {
            let Some((last, rest)) = operands.split_last() else { return self.problem("a reduction of no predicate") };
            (i.from[2], negated) = self.pred(last)?;
            operands = rest;
        }
        match operands {
            [id] => i.from[0] = self.word(id)?,
            [id, threads] => (i.from[0], i.from[1]) = (self.word(id)?, self.word(threads)?),
            _ => return self.problem(format!("{} operands of {}", text.operands.len(), text_of(text))),
        }
        Ok(Op::Barrier { waits, aligned, reduce: reduce.map(|(kind, _)| kind), negated })
    }
    /// The mask of lanes of a `.sync` form, or all that are active.
    fn members(&mut self, text: &syntax::Instruction<'a>, at: usize, i: &mut Instruction) -> Result<bool> {
        let synchronised = text.modifiers.contains(&"sync");
        match (synchronised, text.operands.get(at)) {
            (true, Some(mask)) => i.from[3] = self.word(mask)?,
            (true, None) => return self.problem(format!("{} without a mask", text_of(text))),
            (false, _) => {}
        }
        Ok(synchronised)
    }
    fn shuffle(&mut self, text: &syntax::Instruction<'a>, i: &mut Instruction) -> Result<Op> {
        let words: Vec<&str> = text.modifiers.iter().copied().filter(|word| *word != "sync").collect();
        let mode = match words[..] {
            ["up", "b32"] => Shuffle::Up,
            ["down", "b32"] => Shuffle::Down,
            ["bfly", "b32"] => Shuffle::Butterfly,
            ["idx", "b32"] => Shuffle::Index,
            _ => return self.problem(format!("unknown instruction {}", text_of(text))),
        };
        let [result, value, by, clamp, ..] = &text.operands[..] else {
            return self.problem("shfl with too few operands");
        };
        [i.to[0], i.to[1]] = self.results(result, [Bank::Word, Bank::Pred])?;
        i.from[0] = self.word(value)?;
        i.from[1] = self.word(by)?;
        i.from[2] = self.word(clamp)?;
        let synchronised = self.members(text, 4, i)?;
        Ok(Op::Shuffle { mode, synchronised })
    }
    fn vote(&mut self, text: &syntax::Instruction<'a>, i: &mut Instruction) -> Result<Op> {
        let words: Vec<&str> = text.modifiers.iter().copied().filter(|word| *word != "sync").collect();
        let (vote, results) = match (text.opcode, &words[..]) {
            ("vote", ["all", "pred"]) => (Vote::All, [Bank::Pred; 2]),
            ("vote", ["any", "pred"]) => (Vote::Any, [Bank::Pred; 2]),
            ("vote", ["uni", "pred"]) => (Vote::Uniform, [Bank::Pred; 2]),
            ("vote", ["ballot", "b32"]) => (Vote::Ballot, [Bank::Word; 2]),
            ("match", ["any", "b32" | "b64"]) => (Vote::MatchAny, [Bank::Word, Bank::Pred]),
            ("match", ["all", "b32" | "b64"]) => (Vote::MatchAll, [Bank::Word, Bank::Pred]),
            _ => return self.problem(format!("unknown instruction {}", text_of(text))),
        };
        [i.to[0], i.to[1]] = self.results(&text.operands[0], results)?;
        let (mut negated, mut bank) = (false, Bank::Pred);
        if text.opcode == "vote" {
            (i.from[0], negated) = self.pred(&text.operands[1])?;
        } else {
            let ty = if words[1] == "b64" { Type::B64 } else { Type::B32 };
            bank = self::bank(ty);
            i.from[0] = self.source_of(&text.operands[1], bank, ty)?;
        }
        let synchronised = self.members(text, 2, i)?;
        Ok(Op::Vote { vote, negated, synchronised, bank })
    }
    fn redux(&mut self, text: &syntax::Instruction<'a>, i: &mut Instruction) -> Result<Op> {
        let reduction = match text.modifiers[..] {
            ["sync", "add", _] => Reduction::Add,
            ["sync", "min", _] => Reduction::Min,
            ["sync", "max", _] => Reduction::Max,
            ["sync", "and", "b32"] => Reduction::And,
            ["sync", "or", "b32"] => Reduction::Or,
            ["sync", "xor", "b32"] => Reduction::Xor,
            _ => return self.problem(format!("unknown instruction {}", text_of(text))),
        };
        let signed = text.modifiers.last() == Some(&"s32");
        i.to[0] = self.result_of(&text.operands[0], Bank::Word)?;
        i.from[0] = self.word(&text.operands[1])?;
        self.members(text, 2, i)?;
        Ok(Op::Reduce { reduction, signed })
    }

    /// Copies the body of a function in: its parameters are the caller's variables.
    fn call(&mut self, source: Source<'m, 'a>) -> Result<()> {
        let (mut returns, mut arguments, mut name) = (&[][..], &[][..], None);
        for operand in &source.text.operands {
            match operand {
                Operand::List(list) if name.is_none() => returns = list,
                Operand::List(list) => arguments = list,
                Operand::Name(called) if name.is_none() => name = Some(*called),
                _ => return self.problem("indirect calls are not supported"),
            }
        }
        let name = name.unwrap_or("");
        let end = self.label();
        if source.guard.0 != NONE {
            let skip = self.emit(Op::Branch { target: end }, "call");
            (skip.guard, skip.guard_negated) = (source.guard.0, !source.guard.1);
        }
        let module = self.module;
        // A declaration may come before the definition.
        let with_name = || module.functions.iter().filter(|function| function.name == name);
        match with_name().find(|function| function.body.is_some()) {
            Some(function) => {
                let Some(body) = &function.body else { return self.problem("a function without a body") };
                if self.calls.len() >= DEPTH_MOST {
                    return self.problem(format!("{name} calls itself"));
                }
                let mut scope = Scope { closed: true, ..Scope::default() };
                let formal = function.returns.iter().chain(&function.parameters);
                let actual = returns.iter().chain(arguments);
                if function.returns.len() != returns.len() || function.parameters.len() != arguments.len() {
                    return self.problem(format!("{name} takes other arguments"));
                }
                for (formal, actual) in formal.zip(actual) {
                    let symbol = match actual {
                        Operand::Name(variable) => self.lookup(variable)?,
                        _ => return self.problem("an argument that is no variable"),
                    };
                    scope.symbols.insert(formal.name, symbol);
                }
                self.scopes.push(scope);
                self.calls.push(end);
                self.statements(body)?;
                self.calls.pop();
                self.scopes.pop();
            }
            None if name == "__assertfail" => {
                self.emit(Op::Trap, "__assertfail");
            }
            None => return self.problem(format!("a call of {name}, which is not defined here")),
        }
        self.place(end);
        Ok(())
    }
}

fn text_of(text: &syntax::Instruction) -> String {
    std::iter::once(text.opcode).chain(text.modifiers.iter().copied()).collect::<Vec<_>>().join(".")
}

fn bank(ty: Type) -> Bank {
    if ty == Type::Pred { Bank::Pred } else { bank_of_size(ty.size()) }
}
fn bank_of_size(size: usize) -> Bank {
    if size > 4 { Bank::Long } else { Bank::Word }
}

/// What a special register holds that is set before a block runs.
fn special(name: &str, part: &str) -> Option<Special> {
    let axis = match part {
        "x" => Some(0),
        "y" => Some(1),
        "z" => Some(2),
        _ => None,
    };
    Some(match (name, axis) {
        ("%tid", Some(axis)) => Special::Thread(axis),
        ("%ntid", Some(axis)) => Special::BlockSize(axis),
        ("%ctaid", Some(axis)) => Special::Block(axis),
        ("%nctaid", Some(axis)) => Special::GridSize(axis),
        ("%laneid", _) => Special::Lane,
        ("%warpid", _) => Special::Warp,
        ("%nwarpid", _) => Special::Warps,
        ("%smid", _) => Special::Multiprocessor,
        ("%nsmid", _) => Special::Multiprocessors,
        ("%lanemask_eq", _) => Special::LanesEqual,
        ("%lanemask_lt", _) => Special::LanesBelow,
        ("%lanemask_le", _) => Special::LanesUpTo,
        ("%lanemask_gt", _) => Special::LanesAbove,
        ("%lanemask_ge", _) => Special::LanesFrom,
        ("%total_smem_size", _) => Special::SharedTotal,
        ("%dynamic_smem_size", _) => Special::SharedDynamic,
        ("%envreg1", _) => Special::GridWorkspaceHigh,
        ("%envreg2", _) => Special::GridWorkspaceLow,
        ("%gridid", _) => Special::Zero,
        _ if name.starts_with("%envreg") => Special::Zero,
        _ => return None,
    })
}
