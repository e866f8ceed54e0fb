//! The recipe of a head: all that the finish kernels (`kernels/*/finish.*`) need to know, as words; and what they wrote,
//! as the host reads it.

pub(crate) mod readback;
mod words;

pub use readback::ResultLayout;

use crate::loss::Absent;
use crate::plan::{Head, Plan, PlannedPart};
use crate::problem::Reduction;
use crate::spec::{Instruction, Moment, Operand, Program, Scope, Slots};
use words::{HeadWord, NONE, PartWord, ProgramWord};

/// Where the arrays of a head lie, in words of the workspace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places {
    /// Moments, doubles `[N][row]`; see [`row`].
    pub(crate) moments: u32,
    /// [`scratch_words`] words of the finish step's own.
    pub(crate) scratch: u32,
    /// Coefficients, f32 `[N][C][slope count]`.
    pub(crate) coefficients: u32,
    /// Whether this head is the first: the losses of the others are added to its own.
    pub(crate) first: bool,
}

/// Doubles that one sample has among the moments: the moments of its classes, the hard counts where they are asked for,
/// valid voxels, invalid labels.
pub(crate) fn row(head: &Head) -> u64 {
    let hard = if head.problem.hard_counts { 3 } else { 0 };
    head.problem.shape.classes() as u64 * (head.moments.len() as u64 + hard) + 2
}

/// Words of scratch that the finish step of a head needs.
pub(crate) fn scratch_words(head: &Head) -> u64 {
    Scratch::new(head).end
}

/// Numbers in the result of a plan: the losses, then of each head its terms, valid voxels and invalid labels.
pub(crate) fn result_numbers(plan: &Plan) -> u64 {
    plan.losses() as u64 + plan.heads().iter().map(|head| head_numbers(plan, head)).sum::<u64>()
}

/// Words of the result of a plan: its numbers as f32 and, from [`result_doubles`] on, as doubles.
pub(crate) fn result_words(plan: &Plan) -> u64 {
    result_doubles(plan) + 2 * result_numbers(plan)
}

/// The word of the result at which the doubles begin.
pub(crate) fn result_doubles(plan: &Plan) -> u64 {
    result_numbers(plan).next_multiple_of(2)
}

/// The number of the result at which those of a head begin.
pub(crate) fn result_head(plan: &Plan, head: usize) -> u64 {
    plan.losses() as u64 + plan.heads()[..head].iter().map(|head| head_numbers(plan, head)).sum::<u64>()
}

/// Registers of the longest program, for the constant `REGISTERS` of the kernel.
pub(crate) fn registers(plan: &Plan) -> u32 {
    let parts = plan.heads().iter().flat_map(|head| &head.parts);
    let programs = parts.flat_map(|part| [Some(&part.inner), Some(&part.slopes), part.outer.as_ref()]);
    programs.flatten().map(|program| program.registers() as u32).max().unwrap_or(0).max(1)
}

/// The words of the recipe of one head.
///
/// # Panics
/// When the workspace has 2^32 words or more, which its owner refuses before.
pub(crate) fn recipe(plan: &Plan, head: usize, places: &Places) -> Vec<u32> {
    let number = head;
    let head = &plan.heads()[head];
    let problem = &head.problem;
    let (samples, voxels) = (problem.shape.samples(), problem.shape.voxels());
    let scratch = Scratch::new(head);
    let scratch_at = |offset: u64| word(u64::from(places.scratch) + offset);
    let mut words = Words(vec![0; HeadWord::ALL.len() + head.parts.len() * PartWord::ALL.len()]);
    let mut set = |name: HeadWord, value: u32| words.0[name as usize] = value;
    assert_eq!(head.moments.first(), Some(&Moment::N), "known counts are those of moment 0");
    set(HeadWord::Samples, word(samples as u64));
    set(HeadWord::Classes, word(problem.shape.classes() as u64));
    set(HeadWord::Row, word(row(head)));
    set(HeadWord::Moments, word(head.moments.len() as u64));
    set(HeadWord::MomentG, head.moment_index(Moment::G).map_or(NONE, |index| index as u32));
    set(HeadWord::SlopeCount, word(head.slope_count() as u64));
    set(HeadWord::Losses, word(plan.losses() as u64));
    set(HeadWord::EachPool, u32::from(problem.reduction == Reduction::None));
    set(HeadWord::IsSum, u32::from(problem.reduction == Reduction::Sum));
    set(HeadWord::AnyBatch, u32::from(head.parts.iter().any(|part| part.batch)));
    set(HeadWord::First, u32::from(places.first));
    set(HeadWord::Terms, word(head.terms.len() as u64));
    set(HeadWord::ResultNumbers, word(result_numbers(plan)));
    set(HeadWord::ResultHead, word(result_head(plan, number)));
    set(HeadWord::Parts, word(head.parts.len() as u64));
    set(HeadWord::PartsBlock, HeadWord::ALL.len() as u32);
    set(HeadWord::MomentsAt, places.moments);
    set(HeadWord::CoefficientsAt, places.coefficients);
    set(HeadWord::PooledAt, scratch_at(scratch.pooled));
    set(HeadWord::AccumulatorsAt, scratch_at(scratch.accumulators));
    set(HeadWord::ValuesAt, scratch_at(scratch.values));
    set(HeadWord::ContextAt, scratch_at(scratch.context));
    set(HeadWord::SumsAt, scratch_at(scratch.sums));
    set(HeadWord::OutcomesAt, scratch_at(scratch.outcomes));
    set(HeadWord::GroupsAt, scratch_at(scratch.groups));
    // The last word of all must have a number as well.
    let _ = scratch_at(scratch.end);
    words.set_double(HeadWord::Voxels as usize, voxels as f64);
    words.set_double(HeadWord::AllVoxels as usize, samples as f64 * voxels as f64);
    words.set_double(HeadWord::Weight as usize, head.weight);
    let weights: Vec<f64> = head.terms.iter().map(|term| term.weight).collect();
    words.0[HeadWord::TermWeightsBlock as usize] = words.doubles(&weights);
    for (index, part) in head.parts.iter().enumerate() {
        words.part(HeadWord::ALL.len() + index * PartWord::ALL.len(), head, part);
    }
    words.0
}

/// Numbers of the result that belong to one head.
fn head_numbers(plan: &Plan, head: &Head) -> u64 {
    (head.terms.len() * plan.losses()) as u64 + 2
}

fn word(value: u64) -> u32 {
    u32::try_from(value).expect("a workspace has fewer than 2^32 words")
}

fn pools(head: &Head, part: &PlannedPart) -> usize {
    if part.batch { 1 } else { head.problem.shape.samples() }
}

/// The arrays of the scratch, as words from its beginning.
struct Scratch {
    pooled: u64,
    accumulators: u64,
    values: u64,
    context: u64,
    sums: u64,
    outcomes: u64,
    groups: u64,
    end: u64,
}

impl Scratch {
    fn new(head: &Head) -> Scratch {
        let shape = &head.problem.shape;
        let (samples, classes) = (shape.samples() as u64, shape.classes() as u64);
        let losses = if head.problem.reduction == Reduction::None { samples } else { 1 };
        let pools = head.parts.iter().map(|part| pools(head, part)).max().unwrap_or(1) as u64;
        let batch = head.parts.iter().any(|part| part.batch);
        let groups = |part: &PlannedPart| {
            let doubles = 2 + part.terms * (1 + part.slope_moments.len());
            self::pools(head, part) as u64 * classes * doubles as u64
        };
        let mut end = 0;
        let mut doubles = |count: u64| {
            let start = end;
            end += 2 * count;
            start
        };
        Scratch {
            pooled: doubles(if batch { classes * head.moments.len() as u64 } else { 0 }),
            accumulators: doubles(samples * classes * head.slope_count() as u64),
            values: doubles(head.terms.len() as u64 * losses),
            context: doubles(2 * pools),
            sums: doubles(5 * pools),
            outcomes: doubles(5 * pools),
            groups: doubles(head.parts.iter().map(groups).max().unwrap_or(0)),
            end: doubles(0),
        }
    }
}

/// The words of a recipe, growing at the end. What is appended returns its offset.
struct Words(Vec<u32>);

impl Words {
    fn set_double(&mut self, at: usize, value: f64) {
        let bits = value.to_bits();
        self.0[at..at + 2].copy_from_slice(&[bits as u32, (bits >> 32) as u32]);
    }

    fn append(&mut self, words: impl IntoIterator<Item = u32>) -> u32 {
        let at = word(self.0.len() as u64);
        self.0.extend(words);
        at
    }

    fn doubles(&mut self, values: &[f64]) -> u32 {
        self.append(values.iter().flat_map(|value| [value.to_bits() as u32, (value.to_bits() >> 32) as u32]))
    }

    fn program(&mut self, program: &Program) -> u32 {
        let mut header = [0; ProgramWord::ALL.len()];
        header[ProgramWord::Literals as usize] = program.literals().len() as u32;
        header[ProgramWord::Instructions as usize] = program.instructions().len() as u32;
        header[ProgramWord::Outputs as usize] = program.outputs().len() as u32;
        let at = self.append(header);
        self.doubles(program.literals());
        self.append(program.instructions().iter().flat_map(instruction));
        self.append(program.outputs().iter().copied().map(operand));
        at
    }

    fn part(&mut self, at: usize, head: &Head, part: &PlannedPart) {
        let pools = pools(head, part);
        let reads = |slot: usize| part.inner.reads(slot) || part.slopes.reads(slot);
        let mut slots = [NONE; Slots::CLASS];
        for &(slot, moment) in &part.reads {
            // Slots from CLASS on are no moments.
            slots[slot] = moment as u32;
        }
        let first_class = u32::from(!part.background);
        let slope_moments = part.slope_moments.iter().map(|&moment| (moment - head.target_moments) as u32);
        let words = [
            (PartWord::Term, part.term as u32),
            (PartWord::Scope, part.scope as u32),
            (PartWord::Batch, u32::from(part.batch)),
            (PartWord::FirstClass, first_class),
            (PartWord::AbsentSkip, u32::from(part.absent == Absent::Skip)),
            (PartWord::AbsentZero, u32::from(part.absent == Absent::Zero)),
            (PartWord::Pools, word(pools as u64)),
            (PartWord::Terms, part.terms as u32),
            (PartWord::SlopeMoments, part.slope_moments.len() as u32),
            (PartWord::SlopeMomentsBlock, self.append(slope_moments)),
            (PartWord::ClassWeightsBlock, part.class_weights.as_ref().map_or(NONE, |weights| self.doubles(weights))),
            (PartWord::InnerBlock, self.program(&part.inner)),
            (PartWord::SlopesBlock, self.program(&part.slopes)),
            (PartWord::OuterBlock, part.outer.as_ref().map_or(NONE, |outer| self.program(outer))),
            (PartWord::SlotsBlock, self.append(slots)),
            (PartWord::ReadsGSum, u32::from(reads(Slots::G_SUM))),
            (PartWord::ReadsGMin, u32::from(reads(Slots::G_MIN))),
        ];
        for (name, value) in words {
            self.0[at + name as usize] = value;
        }
        let share = match head.problem.reduction {
            Reduction::Mean if part.scope == Scope::Pool => 1.0 / pools as f64,
            _ => 1.0,
        };
        self.set_double(at + PartWord::Weight as usize, part.weight);
        self.set_double(at + PartWord::Factor as usize, head.weight * head.terms[part.term].weight * part.weight);
        self.set_double(at + PartWord::PoolShare as usize, share);
    }
}

/// The two words of an instruction: opcode, target and three operands, as in [`Program::encode`].
fn instruction(instruction: &Instruction) -> [u32; 2] {
    let [a, b, c] = instruction.operands.map(operand);
    [instruction.opcode as u32 | u32::from(instruction.target) << 8 | a << 16, b | c << 16]
}

/// The half word of an operand: its kind, then its number.
fn operand(operand: Operand) -> u32 {
    let [kind, number] = operand.encode();
    u32::from(kind) | u32::from(number) << 8
}
