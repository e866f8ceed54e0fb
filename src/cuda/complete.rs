//! Completes a skeleton: words become numbers, comments become instructions.
//!
//! | comment | becomes |
//! |---|---|
//! | `SEGFUSE_LOAD buffer at i x…` | the load of as many elements as there are x from element i on, converted |
//! | `SEGFUSE_STORE at i x…` | the conversion to the gradient's type and the store |
//! | `SEGFUSE_CLEAR` | every sum of the thread = 0 |
//! | `SEGFUSE_SUM name slot x when` | sum += x where `when` is not 0; nothing, where the plan has no such sum |
//! | `SEGFUSE_SUM_PRODUCT name slot a b when` | sum += a·b |
//! | `SEGFUSE_BATCH x… batch` | as many sums as there are x, from sum 8·batch on |
//! | `SEGFUSE_OWN_VALUES voxel p ln_p q map made…` | the pixel terms of the voxel's own class |
//! | `SEGFUSE_OWN_SUM slot voxel m when` | their sums in a slot |
//! | `SEGFUSE_PIXEL_SUM slot m when p ln_p q ln_q g map made…` | pixel terms that look at every class, and their sums |
//! | `SEGFUSE_TAKE_COEFFICIENTS slot at` | the coefficients of the pixel terms of a slot, kept for the next |
//! | `SEGFUSE_PIXEL_SLOPES slot x y p ln_p q ln_q g map made…` | x, y = the two slopes of those terms |
//! | `SEGFUSE_OWN_SLOPE x p ln_p q map made… at` | x = Σ slope·coefficient of the terms of the voxel's own class |
//!
//! The registers that hold sums between comments are the host's, and so is their number.

use super::fold::fold;
use super::geometry::BATCH;
use super::text::{Source, Sum};
use crate::dtype::DType;
use crate::spec::{Moment, Ptx, VoxelInput, ptx_literal};
use std::fmt::Write;

/// What a label that means no class is read as; `IGNORED` and `INVALID` of `kernels/cuda/load.cuh`.
const IGNORED: i32 = -1;
const INVALID: i32 = -2;

/// The text of a source.
pub(super) fn complete(source: &Source) -> String {
    let mut completion =
        Completion { source, text: String::with_capacity(source.skeleton.text().len()), registers: [0; 5], body: None };
    for line in source.skeleton.text().lines() {
        completion.line(line);
    }
    let declarations = completion.declarations();
    let body = completion.body.expect("a kernel has a body");
    completion.text.insert_str(body, &declarations);
    fold(&completion.text)
}

/// Kinds of registers, by the letter in their names.
const KINDS: [(char, &str); 5] = [('f', "f32"), ('r', "b32"), ('d', "b64"), ('h', "b16"), ('p', "pred")];

struct Completion<'a> {
    source: &'a Source,
    text: String,
    /// How many registers of each kind there are.
    registers: [usize; 5],
    /// Where the body of the kernel begins.
    body: Option<usize>,
}

/// The inputs of pixel terms that are no made maps, in the order in which a kernel hands them over; the maps follow.
const INPUTS: usize = VoxelInput::ALL.len() - VoxelInput::MADE.len();

/// The name of an input in the lowered pixel terms, after `$`, but of a made map.
pub(super) fn input_name(input: VoxelInput) -> &'static str {
    match input {
        VoxelInput::P => "p",
        VoxelInput::LnP => "ln_p",
        VoxelInput::Q => "q",
        VoxelInput::LnQ => "ln_q",
        VoxelInput::G => "g",
        VoxelInput::Map => "map",
        made => unreachable!("a {} goes by the number of its map", made.label()),
    }
}

macro_rules! emit {
    ($completion:expr, $($format:tt)*) => {
        writeln!($completion.text, $($format)*).expect("writing to a string")
    };
}

impl Completion<'_> {
    fn line(&mut self, line: &str) {
        if let Some(comment) = line.strip_prefix("// SEGFUSE_") {
            let words: Vec<&str> = comment.split_whitespace().collect();
            let (kind, operands) = words.split_first().expect("a comment says what it is");
            self.comment(kind, operands);
            return;
        }
        match line.split_once("SEGFUSE_") {
            Some((before, after)) => {
                let end = after
                    .find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))
                    .unwrap_or(after.len());
                let number = self.source.number(&after[..end]);
                emit!(self, "{before}{number}{}", &after[end..]);
            }
            None => emit!(self, "{line}"),
        }
        if line.starts_with(".maxntid") {
            emit!(self, ".minnctapersm {}", self.source.resident());
        }
        if line == "{" && self.body.is_none() {
            self.body = Some(self.text.len());
        }
    }

    fn comment(&mut self, kind: &str, operands: &[&str]) {
        // Terms are of the voxel's own class or of every class; the code of the other kind is not reached.
        let of_own_class = self.source.number("OWN_CLASS") != 0;
        match (kind, operands) {
            ("OWN_VALUES" | "OWN_SUM" | "OWN_SLOPE", _) if !of_own_class => {}
            ("PIXEL_SUM" | "PIXEL_SLOPES", _) if of_own_class => {}
            ("LOAD", [buffer, at, i, to @ ..]) => self.load(buffer, at, i, to),
            ("STORE", [at, i, from @ ..]) => self.store(at, i, from),
            ("CLEAR", []) => self.clear(),
            ("SUM", [name, slot, x, when]) => {
                if let Some(sum) = self.sum(name, slot) {
                    let when = self.predicate(when);
                    emit!(self, "@{when} add.rn.f32 {sum}, {sum}, {x};");
                }
            }
            ("SUM_PRODUCT", [name, slot, a, b, when]) => {
                if let Some(sum) = self.sum(name, slot) {
                    let when = self.predicate(when);
                    emit!(self, "@{when} fma.rn.f32 {sum}, {a}, {b}, {sum};");
                }
            }
            ("BATCH", [to @ .., batch]) => self.batch(to, batch),
            ("OWN_VALUES", [voxel, p, ln_p, q, maps @ ..]) => {
                let source = self.source;
                let (zero, one) = (ptx_literal(0.0), ptx_literal(1.0));
                let values =
                    self.inline(&source.values, &[&[p, ln_p, q, zero.as_str(), one.as_str()], maps].concat(), "");
                for (k, value) in values.iter().enumerate() {
                    emit!(self, "mov.f32 {}, {value};", self.own_value(voxel, k));
                }
            }
            ("OWN_SUM", [slot, voxel, m, when]) => {
                let values = (0..self.source.values.outputs.len()).map(|k| self.own_value(voxel, k)).collect();
                self.pixel_sums(slot, m, when, values);
            }
            ("PIXEL_SUM", [slot, m, when, inputs @ ..]) => {
                let source = self.source;
                let values = self.inline(&source.values, inputs, slot);
                self.pixel_sums(slot, m, when, values);
            }
            ("TAKE_COEFFICIENTS", [slot, at]) => {
                for (k, place) in self.source.pixel_coefficients.iter().enumerate() {
                    let coefficient = self.coefficient(slot, k);
                    match place {
                        Some(place) => {
                            emit!(self, "{}.f32 {coefficient}, [{at}+{}];", self.load_of_coefficient(), 4 * place)
                        }
                        None => emit!(self, "mov.f32 {coefficient}, {};", ptx_literal(0.0)),
                    }
                }
            }
            ("PIXEL_SLOPES", [slot, x, y, inputs @ ..]) => {
                let source = self.source;
                let slopes = self.inline(&source.slopes, inputs, slot);
                // The compiler may have given an output the register of an input: all are read before one is written.
                let copies: Vec<String> = slopes.iter().map(|_| self.fresh('f')).collect();
                for (to, from) in copies.iter().zip(&slopes) {
                    emit!(self, "mov.f32 {to}, {from};");
                }
                for (to, from) in [x, y].into_iter().zip(&copies) {
                    emit!(self, "mov.f32 {to}, {from};");
                }
            }
            ("OWN_SLOPE", [x, p, ln_p, q, maps @ .., at]) => {
                let source = self.source;
                let (zero, one) = (ptx_literal(0.0), ptx_literal(1.0));
                let slopes =
                    self.inline(&source.slopes, &[&[p, ln_p, q, zero.as_str(), one.as_str()], maps].concat(), "");
                let mut total = zero;
                for (slope, place) in slopes.iter().zip(&source.pixel_coefficients) {
                    if let Some(place) = place {
                        let (coefficient, sum) = (self.fresh('f'), self.fresh('f'));
                        emit!(self, "{}.f32 {coefficient}, [{at}+{}];", self.load_of_coefficient(), 4 * place);
                        emit!(self, "fma.rn.f32 {sum}, {slope}, {coefficient}, {total};");
                        total = sum;
                    }
                }
                emit!(self, "mov.f32 {x}, {total};");
            }
            _ => panic!("a skeleton asks for {kind} of {operands:?}, which the host does not know"),
        }
    }

    fn fresh(&mut self, kind: char) -> String {
        let index = KINDS.iter().position(|k| k.0 == kind).expect("the kinds are these");
        self.registers[index] += 1;
        format!("%x{kind}{}", self.registers[index] - 1)
    }
    /// A predicate that holds where a number is not 0.
    fn predicate(&mut self, number: &str) -> String {
        let predicate = self.fresh('p');
        emit!(self, "setp.ne.s32 {predicate}, {number}, 0;");
        predicate
    }

    fn declarations(&self) -> String {
        let mut text = String::new();
        for (&(letter, kind), count) in KINDS.iter().zip(self.registers).filter(|(_, count)| *count > 0) {
            writeln!(text, ".reg .{kind} %x{letter}<{count}>;").expect("writing to a string");
        }
        let (slots, terms) = (self.source.number("SLOTS") as usize, self.source.pixel_coefficients.len());
        for (name, count) in [
            ("sum", slots * self.source.sums.len() + 2),
            ("own", self.source.skeleton.width() as usize * terms),
            ("by", slots * terms),
        ] {
            if count > 0 {
                writeln!(text, ".reg .f32 %{name}<{count}>;").expect("writing to a string");
            }
        }
        text + ".reg .f32 %weighted;\n"
    }

    // The registers that last from comment to comment.

    fn own_value(&self, voxel: &str, k: usize) -> String {
        let voxel: usize = voxel.parse().expect("a voxel has a number");
        format!("%own{}", voxel * self.source.pixel_coefficients.len() + k)
    }
    fn load_of_coefficient(&self) -> &'static str {
        if self.source.types.made_here { "ld.global" } else { "ld.global.nc" }
    }
    fn coefficient(&self, slot: &str, k: usize) -> String {
        let slot: usize = slot.parse().expect("a slot has a number");
        format!("%by{}", slot * self.source.pixel_coefficients.len() + k)
    }
    fn slot_sum(&self, slot: &str, at: usize) -> String {
        let slot: usize = slot.parse().expect("a slot has a number");
        self.sum_register(slot * self.source.sums.len() + at)
    }
    /// The i-th sum of a thread. Σm is the same for every class, and without weights is the count of kept voxels.
    fn sum_register(&self, i: usize) -> String {
        let (sums, in_slots) = (&self.source.sums, self.kept());
        match i < in_slots && sums[i % sums.len()] == Sum::Moment(Moment::N) {
            true if self.source.number("WEIGHTS") != 0 => "%weighted".into(),
            true => format!("%sum{in_slots}"),
            false => format!("%sum{i}"),
        }
    }
    /// The place of the count of kept voxels, before that of labels out of range.
    fn kept(&self) -> usize {
        self.source.number("SLOTS") as usize * self.source.sums.len()
    }

    /// The register of a sum by its name; `None` where the plan has no such sum.
    fn sum(&self, name: &str, slot: &str) -> Option<String> {
        let wanted = match name {
            "KEPT" => return Some(format!("%sum{}", self.kept())),
            "INVALID" => return Some(format!("%sum{}", self.kept() + 1)),
            "N" => {
                let weighted = self.source.number("WEIGHTS") != 0;
                return weighted.then(|| "%weighted".into());
            }
            "G" => Sum::Moment(Moment::G),
            "GG" => Sum::Moment(Moment::GG),
            "P" => Sum::Moment(Moment::P),
            "PG" => Sum::Moment(Moment::PG),
            "PP" => Sum::Moment(Moment::PP),
            "COST" => Sum::Moment(Moment::Cost),
            "TP" => Sum::TruePositives,
            "FP" => Sum::FalsePositives,
            "FN" => Sum::FalseNegatives,
            _ => panic!("a skeleton adds to {name}, which is no sum"),
        };
        self.source.sums.iter().position(|&sum| sum == wanted).map(|at| self.slot_sum(slot, at))
    }

    fn clear(&mut self) {
        for i in 0..self.kept() + 2 {
            emit!(self, "mov.f32 %sum{i}, {};", ptx_literal(0.0));
        }
        emit!(self, "mov.f32 %weighted, {};", ptx_literal(0.0));
    }

    fn pixel_sums(&mut self, slot: &str, m: &str, when: &str, values: Vec<String>) {
        let when = self.predicate(when);
        for (at, sum) in self.source.sums.iter().enumerate() {
            // A term may turn out to depend on the target alone after its moment was placed: a census sums what it computes.
            if let Sum::Moment(Moment::Pixel(k)) = sum
                && let Some(value) = values.get(*k as usize)
            {
                let register = self.slot_sum(slot, at);
                match self.source.number("WEIGHTS") {
                    0 => emit!(self, "@{when} add.rn.f32 {register}, {register}, {value};"),
                    _ => emit!(self, "@{when} fma.rn.f32 {register}, {m}, {value}, {register};"),
                }
            }
        }
    }

    /// Sums `8·batch` and following, by a branch for each batch: a register has no index.
    fn batch(&mut self, to: &[&str], batch: &str) {
        assert_eq!(to.len(), BATCH as usize, "a batch is as long as in sums.cuh");
        let sums: Vec<String> = (0..self.kept() + 2).map(|i| self.sum_register(i)).collect();
        let label = self.text.len();
        for (b, of_batch) in sums.chunks(BATCH as usize).enumerate() {
            let other = self.fresh('p');
            emit!(self, "setp.ne.s32 {other}, {batch}, {b};");
            emit!(self, "@{other} bra $batch_{label}_{b};");
            for (j, to) in to.iter().enumerate() {
                let zero = ptx_literal(0.0);
                emit!(self, "mov.f32 {to}, {};", of_batch.get(j).unwrap_or(&zero));
            }
            emit!(self, "bra.uni $batch_{label}_end;");
            emit!(self, "$batch_{label}_{b}:");
        }
        emit!(self, "$batch_{label}_end:");
    }

    /// Writes lowered instructions with their registers and inputs; returns the outputs.
    fn inline(&mut self, ptx: &Ptx, inputs: &[&str], slot: &str) -> Vec<String> {
        let [floats, .., predicates] = self.registers;
        let named = |name: &str| {
            let end = name.find(|c: char| c.is_ascii_digit()).unwrap_or(name.len());
            match (&name[..end], name[end..].parse::<usize>()) {
                ("f", Ok(k)) => format!("%xf{}", floats + k),
                ("p", Ok(k)) => format!("%xp{}", predicates + k),
                ("c", Ok(k)) => self.coefficient(slot, k),
                ("made", Ok(k)) => inputs[INPUTS + k].to_string(),
                _ => {
                    let index = VoxelInput::ALL[..INPUTS].iter().position(|&input| input_name(input) == name);
                    inputs[index.unwrap_or_else(|| panic!("${name} is no input of a pixel term"))].to_string()
                }
            }
        };
        let replaced = |line: &str| {
            let mut parts = line.split('$');
            let mut text = parts.next().unwrap_or_default().to_string();
            for part in parts {
                let end = part.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(part.len());
                text += &named(&part[..end]);
                text += &part[end..];
            }
            text
        };
        let text = replaced(&ptx.text);
        let outputs = ptx.outputs.iter().map(|output| replaced(output)).collect();
        self.text += &text;
        self.registers[0] += ptx.registers;
        self.registers[4] += ptx.predicates;
        outputs
    }

    // Buffers.

    /// The address of an element.
    fn address(&mut self, at: &str, i: &str, size: u64) -> String {
        let (offset, address) = (self.fresh('d'), self.fresh('d'));
        emit!(self, "shl.b64 {offset}, {i}, {};", size.ilog2());
        emit!(self, "add.s64 {address}, {at}, {offset};");
        address
    }

    /// Loads `count` elements of `size` bytes, as words of 32 bits, or one word with what is less.
    fn words(&mut self, load: &str, address: &str, bytes: u64) -> Vec<String> {
        let count = bytes.div_ceil(4);
        let words: Vec<String> = (0..count).map(|_| self.fresh('r')).collect();
        match bytes {
            1 => emit!(self, "{load}.u8 {}, [{address}];", words[0]),
            2 => {
                let half = self.fresh('h');
                emit!(self, "{load}.u16 {half}, [{address}];");
                emit!(self, "cvt.u32.u16 {}, {half};", words[0]);
            }
            4 => emit!(self, "{load}.b32 {}, [{address}];", words[0]),
            _ => {
                // At most 16 bytes at once.
                for (k, part) in words.chunks(4).enumerate() {
                    emit!(self, "{load}.v{}.b32 {{{}}}, [{address}+{}];", part.len(), part.join(", "), 16 * k);
                }
            }
        }
        words
    }

    fn load(&mut self, buffer: &str, at: &str, i: &str, to: &[&str]) {
        let types = self.source.types;
        let dtype = match buffer {
            "PREDICTION" => types.prediction,
            "LABELS" | "DENSE" => types.target,
            "MASK" => DType::U8,
            "WEIGHTS" | "MAP" => DType::F32,
            _ => panic!("a skeleton reads {buffer}, which is no buffer"),
        };
        let load = if buffer == "PREDICTION" && types.in_place { "ld.global" } else { "ld.global.nc" };
        let address = self.address(at, i, dtype.size());
        let words = self.words(load, &address, dtype.size() * to.len() as u64);
        for (l, to) in to.iter().enumerate() {
            match dtype {
                DType::F32 => emit!(self, "mov.b32 {to}, {};", words[l]),
                DType::F16 => {
                    let half = self.half(&words[l / 2], l);
                    emit!(self, "cvt.f32.f16 {to}, {half};");
                }
                DType::BF16 => {
                    let raw = self.fresh('r');
                    match l % 2 {
                        0 => emit!(self, "shl.b32 {raw}, {}, 16;", words[l / 2]),
                        _ => emit!(self, "and.b32 {raw}, {}, {};", words[l / 2], 0xffff_0000u32 as i32),
                    }
                    emit!(self, "mov.b32 {to}, {raw};");
                }
                DType::U8 => {
                    let byte = self.fresh('r');
                    emit!(self, "bfe.u32 {byte}, {}, {}, 8;", words[0], 8 * l);
                    match buffer {
                        "DENSE" => emit!(self, "cvt.rn.f32.u32 {to}, {byte};"),
                        "MASK" => emit!(self, "mov.b32 {to}, {byte};"),
                        _ => self.classify(&byte, to, "32"),
                    }
                }
                DType::I16 => {
                    let label = self.fresh('r');
                    emit!(self, "bfe.s32 {label}, {}, {}, 16;", words[l / 2], 16 * (l % 2));
                    self.classify(&label, to, "32");
                }
                DType::I32 => self.classify(&words[l], to, "32"),
                DType::I64 => {
                    let label = self.fresh('d');
                    emit!(self, "mov.b64 {label}, {{{}, {}}};", words[2 * l], words[2 * l + 1]);
                    self.classify(&label, to, "64");
                }
            }
        }
    }

    /// A half of a word.
    fn half(&mut self, word: &str, l: usize) -> String {
        let (low, high) = (self.fresh('h'), self.fresh('h'));
        emit!(self, "mov.b32 {{{low}, {high}}}, {word};");
        if l.is_multiple_of(2) { low } else { high }
    }

    /// A label as a class, [`IGNORED`] or [`INVALID`].
    fn classify(&mut self, label: &str, to: &str, bits: &str) {
        let types = self.source.types;
        let valid = self.fresh('p');
        emit!(self, "setp.lt.u{bits} {valid}, {label}, {};", types.labels);
        let class = match bits {
            "64" => {
                let narrow = self.fresh('r');
                emit!(self, "cvt.u32.u64 {narrow}, {label};");
                narrow
            }
            _ => label.into(),
        };
        emit!(self, "selp.b32 {to}, {class}, {INVALID}, {valid};");
        // A label beyond 32 bits cannot occur in a narrower map.
        if let Some(ignored) = types.ignore_label.filter(|&l| bits == "64" || i32::try_from(l).is_ok()) {
            let is_ignored = self.fresh('p');
            emit!(self, "setp.eq.s{bits} {is_ignored}, {label}, {ignored};");
            emit!(self, "selp.b32 {to}, {IGNORED}, {to}, {is_ignored};");
        }
    }

    fn store(&mut self, at: &str, i: &str, from: &[&str]) {
        let dtype = self.source.types.gradient;
        let address = self.address(at, i, dtype.size());
        let count = from.len();
        // It is not read again here: it should leave what is in the caches there.
        if dtype == DType::F32 {
            match count {
                1 => emit!(self, "st.global.cs.f32 [{address}], {};", from[0]),
                _ => emit!(self, "st.global.cs.v{count}.f32 [{address}], {{{}}};", from.join(", ")),
            }
            return;
        }
        let halves: Vec<String> = from.iter().map(|x| self.rounded(x, dtype)).collect();
        if count == 1 {
            emit!(self, "st.global.cs.b16 [{address}], {};", halves[0]);
            return;
        }
        let mut words = Vec::new();
        for pair in halves.chunks(2) {
            let word = self.fresh('r');
            emit!(self, "mov.b32 {word}, {{{}, {}}};", pair[0], pair[1]);
            words.push(word);
        }
        match words.len() {
            1 => emit!(self, "st.global.cs.b32 [{address}], {};", words[0]),
            n => emit!(self, "st.global.cs.v{n}.b32 [{address}], {{{}}};", words.join(", ")),
        }
    }

    /// f32 to f16 or bf16, to the nearest even. Not every device has the instruction for bf16.
    fn rounded(&mut self, x: &str, dtype: DType) -> String {
        let half = self.fresh('h');
        if dtype == DType::F16 {
            emit!(self, "cvt.rn.f16.f32 {half}, {x};");
            return half;
        }
        let [raw, odd, up, nearest, quiet] = std::array::from_fn(|_| self.fresh('r'));
        let is_nan = self.fresh('p');
        emit!(self, "mov.b32 {raw}, {x};");
        emit!(self, "bfe.u32 {odd}, {raw}, 16, 1;");
        emit!(self, "add.s32 {up}, {raw}, {odd};");
        emit!(self, "add.s32 {nearest}, {up}, 32767;");
        emit!(self, "or.b32 {quiet}, {raw}, 4194304;");
        emit!(self, "setp.nan.f32 {is_nan}, {x}, {x};");
        emit!(self, "selp.b32 {nearest}, {quiet}, {nearest}, {is_nan};");
        emit!(self, "shr.u32 {nearest}, {nearest}, 16;");
        emit!(self, "cvt.u16.u32 {half}, {nearest};");
        half
    }
}
