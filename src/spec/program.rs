//! The bytecode of a formula: what the finish step of every backend interprets.

use super::{Graph, Id, Op, Real};

/// The limits of a program; a decoder refuses what is beyond them.
pub mod limits {
    /// Instructions.
    pub const INSTRUCTIONS: usize = 4096;
    /// Registers alive at once.
    pub const REGISTERS: usize = 256;
    /// Input slots.
    pub const INPUTS: usize = 256;
    /// Literals.
    pub const LITERALS: usize = 256;
    /// Outputs.
    pub const OUTPUTS: usize = 256;
}

/// Why a program could not be made or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// More of something than a program may hold.
    #[error("a program may hold {limit} {what}, this one needs {need}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How many the program needs.
        need: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// The bytes end too early or go on too long.
    #[error("a program of this header has {need} bytes, got {got}")]
    Length {
        /// Bytes that the header asks for.
        need: usize,
        /// Bytes that are there.
        got: usize,
    },
    /// The bytes do not begin as a program does.
    #[error("not a segfuse program, or one of another version")]
    Header,
    /// An instruction that does not exist or reads what is not there.
    #[error("instruction {index} is malformed")]
    Malformed {
        /// Its number.
        index: usize,
    },
    /// A constant that single precision has no finite value for, and shader text no notation.
    #[error("the constant {value} has no finite value in single precision")]
    Literal {
        /// The constant, as text.
        value: String,
    },
    /// An output that reads what is not there.
    #[error("output {index} is malformed")]
    Output {
        /// Its number.
        index: usize,
    },
}

/// Where an instruction finds an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A register written before.
    Register(u8),
    /// An input slot.
    Input(u8),
    /// A literal of the program's table.
    Literal(u8),
}

impl Operand {
    pub(crate) fn encode(self) -> [u8; 2] {
        match self {
            Operand::Register(i) => [0, i],
            Operand::Input(i) => [1, i],
            Operand::Literal(i) => [2, i],
        }
    }
    fn decode([kind, index]: [u8; 2]) -> Option<Operand> {
        Some(match kind {
            0 => Operand::Register(index),
            1 => Operand::Input(index),
            2 => Operand::Literal(index),
            _ => return None,
        })
    }
}

/// What an instruction does; the numbers are the encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the methods of `Real`")]
#[repr(u8)]
pub enum Opcode {
    Add = 1,
    Sub,
    Mul,
    Div,
    Neg,
    Ln,
    Exp,
    Sqrt,
    Abs,
    Pow,
    Max,
    Min,
    Select,
}

impl Opcode {
    /// Every opcode.
    pub const ALL: [Opcode; 13] = [
        Opcode::Add,
        Opcode::Sub,
        Opcode::Mul,
        Opcode::Div,
        Opcode::Neg,
        Opcode::Ln,
        Opcode::Exp,
        Opcode::Sqrt,
        Opcode::Abs,
        Opcode::Pow,
        Opcode::Max,
        Opcode::Min,
        Opcode::Select,
    ];
    /// How many operands it reads.
    pub fn arity(self) -> usize {
        match self {
            Opcode::Neg | Opcode::Ln | Opcode::Exp | Opcode::Sqrt | Opcode::Abs => 1,
            Opcode::Select => 3,
            _ => 2,
        }
    }
}

/// `register[target] = opcode(operands)`. Operands beyond the opcode's arity repeat the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub opcode: Opcode,
    /// The register that takes the result.
    pub target: u8,
    /// What to do it with.
    pub operands: [Operand; 3],
}

/// Straight-line code from inputs to outputs. Registers are reused as soon as their value is no longer needed.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    inputs: usize,
    registers: usize,
    literals: Vec<f64>,
    instructions: Vec<Instruction>,
    outputs: Vec<Operand>,
}

impl Program {
    /// The code that computes `outputs` from `inputs` input slots; everything they do not need is left out.
    ///
    /// # Errors
    /// [`ProgramError::TooLarge`] when the code is beyond the [`limits`], [`ProgramError::Malformed`] or
    /// [`ProgramError::Output`] when it reads an input slot of `inputs` or more.
    pub fn compile(graph: &Graph, inputs: usize, outputs: &[Id]) -> Result<Program, ProgramError> {
        let within = |what, need, limit| {
            if need > limit { Err(ProgramError::TooLarge { what, need, limit }) } else { Ok(()) }
        };
        within("inputs", inputs, limits::INPUTS)?;
        within("outputs", outputs.len(), limits::OUTPUTS)?;
        let (graph, outputs) = &graph.without_slopes(outputs);
        let ops = graph.ops();
        // The last instruction that reads each value; outputs are read after the end.
        let mut last_use = vec![None; ops.len()];
        for &output in outputs {
            last_use[output as usize] = Some(ops.len());
        }
        for (id, op) in ops.iter().enumerate().rev() {
            if last_use[id].is_some() {
                for operand in op.operands() {
                    last_use[operand as usize].get_or_insert(id);
                }
            }
        }
        let mut place = vec![None; ops.len()];
        let (mut literals, mut instructions) = (Vec::<f64>::new(), Vec::new());
        let (mut free, mut registers) = (Vec::<u8>::new(), 0usize);
        for (id, &op) in ops.iter().enumerate() {
            if last_use[id].is_none() {
                continue;
            }
            let opcode = match op {
                Op::Input(slot) => {
                    place[id] = Some(Operand::Input(slot));
                    continue;
                }
                Op::Literal(bits) => {
                    within("literals", literals.len() + 1, limits::LITERALS)?;
                    place[id] = Some(Operand::Literal(literals.len() as u8));
                    literals.push(f64::from_bits(bits));
                    continue;
                }
                Op::Add(..) => Opcode::Add,
                Op::Sub(..) => Opcode::Sub,
                Op::Mul(..) => Opcode::Mul,
                Op::Div(..) => Opcode::Div,
                Op::Neg(..) => Opcode::Neg,
                Op::Ln(..) => Opcode::Ln,
                Op::Exp(..) => Opcode::Exp,
                Op::Sqrt(..) => Opcode::Sqrt,
                Op::Abs(..) => Opcode::Abs,
                Op::Pow(..) => Opcode::Pow,
                Op::Max(..) => Opcode::Max,
                Op::Min(..) => Opcode::Min,
                Op::Select(..) => Opcode::Select,
                Op::WithSlope(..) => unreachable!("a graph without slopes"),
            };
            let places: Vec<Operand> =
                op.operands().map(|operand| place[operand as usize].expect("operands come first")).collect();
            let operand = |k: usize| places.get(k).copied().unwrap_or(places[0]);
            let operands = [operand(0), operand(1), operand(2)];
            let mut ended: Vec<Id> = op.operands().filter(|&o| last_use[o as usize] == Some(id)).collect();
            ended.sort_unstable();
            ended.dedup();
            // The target is taken before the operands are given back: no instruction writes a register that it reads.
            let target = match free.pop() {
                Some(register) => register,
                None => {
                    within("registers", registers + 1, limits::REGISTERS)?;
                    registers += 1;
                    (registers - 1) as u8
                }
            };
            for operand in ended {
                if let Some(Operand::Register(register)) = place[operand as usize] {
                    free.push(register);
                }
            }
            place[id] = Some(Operand::Register(target));
            instructions.push(Instruction { opcode, target, operands });
        }
        within("instructions", instructions.len(), limits::INSTRUCTIONS)?;
        let outputs = outputs.iter().map(|&o| place[o as usize].expect("outputs are live")).collect();
        let program = Program { inputs, registers, literals, instructions, outputs };
        program.validate()?;
        Ok(program)
    }

    /// How many input slots it may read.
    pub fn inputs(&self) -> usize {
        self.inputs
    }
    /// How many registers it needs.
    pub fn registers(&self) -> usize {
        self.registers
    }
    /// Its constants.
    pub fn literals(&self) -> &[f64] {
        &self.literals
    }
    /// Its code.
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }
    /// Where its results lie after the last instruction.
    pub fn outputs(&self) -> &[Operand] {
        &self.outputs
    }

    /// Whether any output depends on input `slot`.
    pub fn reads(&self, slot: usize) -> bool {
        self.inputs_of(0..self.outputs.len())[slot]
    }

    /// For each input slot, whether any of these outputs depends on it.
    pub fn inputs_of(&self, outputs: std::ops::Range<usize>) -> Vec<bool> {
        let mut live = vec![false; self.registers];
        let mut slots = vec![false; self.inputs];
        let mut mark = |operand: Operand, live: &mut [bool]| match operand {
            Operand::Register(register) => live[register as usize] = true,
            Operand::Input(slot) => slots[slot as usize] = true,
            Operand::Literal(_) => {}
        };
        self.outputs[outputs].iter().for_each(|&output| mark(output, &mut live));
        for i in self.instructions.iter().rev() {
            // A register holds several values in turn; only the last write before the read matters.
            if std::mem::replace(&mut live[i.target as usize], false) {
                i.operands[..i.opcode.arity()].iter().for_each(|&operand| mark(operand, &mut live));
            }
        }
        slots
    }

    /// Runs the code on one set of inputs; `results` takes as many of the outputs as it has places.
    ///
    /// # Panics
    /// When fewer inputs than [`Program::inputs`] are given and a missing one is read.
    pub fn run<R: Real>(&self, inputs: &[R], registers: &mut Vec<R>, results: &mut [R]) {
        registers.clear();
        registers.resize(self.registers, R::lit(0.0));
        let read = |registers: &[R], operand: Operand| match operand {
            Operand::Register(i) => registers[i as usize],
            Operand::Input(i) => inputs[i as usize],
            Operand::Literal(i) => R::lit(self.literals[i as usize]),
        };
        for instruction in &self.instructions {
            let [a, b, c] = instruction.operands.map(|operand| read(registers, operand));
            registers[instruction.target as usize] = match instruction.opcode {
                Opcode::Add => a + b,
                Opcode::Sub => a - b,
                Opcode::Mul => a * b,
                Opcode::Div => a / b,
                Opcode::Neg => -a,
                Opcode::Ln => a.ln(),
                Opcode::Exp => a.exp(),
                Opcode::Sqrt => a.sqrt(),
                Opcode::Abs => a.abs(),
                Opcode::Pow => a.pow(b),
                Opcode::Max => a.max(b),
                Opcode::Min => a.min(b),
                Opcode::Select => a.select(b, c),
            };
        }
        for (result, &output) in results.iter_mut().zip(&self.outputs) {
            *result = read(registers, output);
        }
    }

    /// The bytes of the program: header, literals (f64), instructions (8 bytes each), outputs; little-endian.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.encoded_len());
        bytes.extend(MAGIC);
        for count in [self.inputs, self.registers, self.literals.len(), self.instructions.len(), self.outputs.len()] {
            bytes.extend((count as u16).to_le_bytes());
        }
        for literal in &self.literals {
            bytes.extend(literal.to_le_bytes());
        }
        for i in &self.instructions {
            bytes.extend([i.opcode as u8, i.target]);
            i.operands.iter().for_each(|operand| bytes.extend(operand.encode()));
        }
        self.outputs.iter().for_each(|operand| bytes.extend(operand.encode()));
        bytes
    }

    fn encoded_len(&self) -> usize {
        HEADER + 8 * self.literals.len() + 8 * self.instructions.len() + 2 * self.outputs.len()
    }

    /// Reads what [`Program::encode`] wrote, and checks it: no decoded program reads what is not there.
    ///
    /// # Errors
    /// Any [`ProgramError`]; nothing is assumed of the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Program, ProgramError> {
        if bytes.len() < HEADER || bytes[..MAGIC.len()] != MAGIC {
            return Err(ProgramError::Header);
        }
        let count =
            |k: usize| u16::from_le_bytes([bytes[MAGIC.len() + 2 * k], bytes[MAGIC.len() + 2 * k + 1]]) as usize;
        let (inputs, registers) = (count(0), count(1));
        let (literals, instructions, outputs) = (count(2), count(3), count(4));
        let all = [
            ("inputs", inputs, limits::INPUTS),
            ("registers", registers, limits::REGISTERS),
            ("literals", literals, limits::LITERALS),
            ("instructions", instructions, limits::INSTRUCTIONS),
            ("outputs", outputs, limits::OUTPUTS),
        ];
        for (what, need, limit) in all {
            if need > limit {
                return Err(ProgramError::TooLarge { what, need, limit });
            }
        }
        let need = HEADER + 8 * literals + 8 * instructions + 2 * outputs;
        if bytes.len() != need {
            return Err(ProgramError::Length { need, got: bytes.len() });
        }
        let (literal_bytes, rest) = bytes[HEADER..].split_at(8 * literals);
        let (code, output_bytes) = rest.split_at(8 * instructions);
        let literals =
            literal_bytes.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().expect("8 bytes"))).collect();
        let instructions = code
            .chunks_exact(8)
            .enumerate()
            .map(|(index, b)| {
                let malformed = ProgramError::Malformed { index };
                let opcode = Opcode::ALL.into_iter().find(|&o| o as u8 == b[0]).ok_or(malformed.clone())?;
                let operand = |k: usize| Operand::decode([b[k], b[k + 1]]).ok_or(malformed.clone());
                Ok(Instruction { opcode, target: b[1], operands: [operand(2)?, operand(4)?, operand(6)?] })
            })
            .collect::<Result<_, _>>()?;
        let outputs = output_bytes
            .chunks_exact(2)
            .enumerate()
            .map(|(index, b)| Operand::decode([b[0], b[1]]).ok_or(ProgramError::Output { index }))
            .collect::<Result<_, _>>()?;
        let program = Program { inputs, registers, literals, instructions, outputs };
        program.validate()?;
        Ok(program)
    }

    /// Every operand exists and every register is written before it is read.
    fn validate(&self) -> Result<(), ProgramError> {
        let mut written = vec![false; self.registers];
        let readable = |written: &[bool], operand: Operand| match operand {
            Operand::Register(i) => written.get(i as usize) == Some(&true),
            Operand::Input(i) => (i as usize) < self.inputs,
            Operand::Literal(i) => (i as usize) < self.literals.len(),
        };
        for (index, instruction) in self.instructions.iter().enumerate() {
            // A register that is both read and written in one instruction would make lane-wise execution order matter.
            let aliased = instruction.operands.contains(&Operand::Register(instruction.target));
            let target = instruction.target as usize;
            if aliased || target >= self.registers || !instruction.operands.iter().all(|&o| readable(&written, o)) {
                return Err(ProgramError::Malformed { index });
            }
            written[target] = true;
        }
        match self.outputs.iter().position(|&o| !readable(&written, o)) {
            Some(index) => Err(ProgramError::Output { index }),
            None => Ok(()),
        }
    }

    /// The code as text, one instruction a line; for people.
    pub fn disassemble(&self) -> String {
        let show = |operand: Operand| match operand {
            Operand::Register(i) => format!("r{i}"),
            Operand::Input(i) => format!("in{i}"),
            Operand::Literal(i) => format!("{:?}", self.literals[i as usize]),
        };
        let mut text = String::new();
        for i in &self.instructions {
            let name = format!("{:?}", i.opcode).to_lowercase();
            let operands: Vec<String> = i.operands[..i.opcode.arity()].iter().map(|&o| show(o)).collect();
            text += &format!("r{:<3} = {name:<6} {}\n", i.target, operands.join(", "));
        }
        let outputs: Vec<String> = self.outputs.iter().map(|&o| show(o)).collect();
        text + &format!("return {}\n", outputs.join(", "))
    }
}

const MAGIC: [u8; 4] = *b"SFP1";
const HEADER: usize = MAGIC.len() + 5 * 2;
