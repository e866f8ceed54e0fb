//! Recording an objective's formulas and gathering what they read.

use super::{
    Head, PLAN_PIXEL_TERMS_MAX, PixelPrograms, Plan, PlannedMap, PlannedPart, RecordedPixels, TermInfo,
    schedule::schedule,
};
use crate::distance::{self, Distances, objects};
use crate::dtype::DType;
use crate::error::Error;
use crate::loss::{Absent, Objective, Part, Term};
use crate::numeric::PROBABILITY_FLOOR;
use crate::problem::{Activation, Map, Problem, Reduction, Target, check_class_weights};
use crate::shape::Shape;
use crate::spec::{
    Context, Erosions, Graph, Id, Moment, Moments, Op, PIXEL_TERMS_MAX, Program, Real, Recorder, Scope, Slots,
    TERMS_MAX, Voxel, VoxelInput,
};
use std::hash::{DefaultHasher, Hash, Hasher};

/// What a term asks of the problem, after the problem's defaults have filled in.
#[derive(Clone)]
struct Resolved {
    batch: bool,
    background: bool,
    absent: Absent,
    class_weights: Option<Vec<f64>>,
}

fn resolve(term: &Term, problem: &Problem) -> Result<Resolved, Error> {
    let options = &term.options;
    if let Some(weights) = &options.class_weights {
        check_class_weights(weights, problem.shape.classes())?;
    }
    let batch = options.batch.unwrap_or(problem.batch);
    if batch && problem.reduction == Reduction::None {
        return Err(Error::Problem("reduction none gives a value per sample, which batch=true does not have".into()));
    }
    Ok(Resolved {
        batch,
        background: options.background.unwrap_or(problem.background && term.loss.background())
            || problem.shape.classes() == 1,
        absent: options.absent.unwrap_or(problem.absent),
        class_weights: options.class_weights.clone().or_else(|| problem.class_weights.clone()),
    })
}

pub(super) fn compile(weight: f64, objective: &Objective, problem: &Problem) -> Result<Head, Error> {
    problem.check()?;
    if objective.terms().is_empty() {
        return Err(Error::Problem("an objective needs at least one loss".into()));
    }
    let classes = problem.shape.classes();
    let categorical = match problem.activation {
        Activation::Softmax => true,
        Activation::Sigmoid => false,
        Activation::None => classes > 1,
    };
    let context = Context { classes, categorical, given_map: problem.map.is_some() };
    let mut pixels = PixelTerms::new(context);
    let mut drafts = Vec::new();
    let mut cost_matrix: Option<Vec<f64>> = None;
    let mut erosions: Option<Erosions> = None;
    for (index, term) in objective.terms().iter().enumerate() {
        let name = || term.loss.name().to_string();
        if !term.weight.is_finite() {
            return Err(Error::Problem(format!("the weight of `{}` must be finite, got {}", name(), term.weight)));
        }
        term.loss.check().map_err(|e| Error::OutOfRange {
            loss: name(),
            key: e.key,
            value: e.value,
            range: e.range,
        })?;
        if let Some(reason) = term.loss.unsuitable(context) {
            return Err(Error::Unsuitable { loss: name(), reason });
        }
        let resolved = resolve(term, problem)?;
        for part in term.loss.parts(context) {
            if let Some(matrix) = part.formula.cost_matrix(classes) {
                if matrix.len() != classes * classes {
                    let reason = format!("cost matrix: need {} entries, got {}", classes * classes, matrix.len());
                    return Err(Error::Unsuitable { loss: name(), reason });
                }
                match &cost_matrix {
                    Some(known) if *known != matrix => {
                        let reason = "and another loss have different cost matrices; a plan holds one".into();
                        return Err(Error::Unsuitable { loss: name(), reason });
                    }
                    _ => cost_matrix = Some(matrix),
                }
            }
            if let Some(wanted) = part.formula.erosions() {
                if !((1..=Erosions::COUNT_MAX).contains(&wanted.count)
                    && (0.0..=Erosions::ALPHA_MAX).contains(&wanted.alpha))
                {
                    let (count, alpha) = (Erosions::COUNT_MAX, Erosions::ALPHA_MAX);
                    let reason = format!(
                        "erodes {} times with alpha {}; from 1 to {count} times and an alpha from 0 to {alpha} can be",
                        wanted.count, wanted.alpha
                    );
                    return Err(Error::Unsuitable { loss: name(), reason });
                }
                let known = *erosions.get_or_insert(wanted);
                if known != wanted {
                    let text = |e: Erosions| format!("{} erosions with alpha {}", e.count, e.alpha);
                    let reason =
                        format!("needs {}, another loss {}; a plan holds one of them", text(wanted), text(known));
                    return Err(Error::Unsuitable { loss: name(), reason });
                }
            }
            drafts.push(Draft::record(index, &name(), &part, context, &resolved, &mut pixels)?);
        }
    }
    assemble(weight, objective, problem, drafts, pixels, Constants { cost_matrix, erosions })
}

/// What a plan holds one of, whatever the number of losses that read it.
struct Constants {
    cost_matrix: Option<Vec<f64>>,
    erosions: Option<Erosions>,
}

/// The pixel terms of all parts in one graph, so that equal terms are one.
struct PixelTerms {
    context: Context,
    recorder: Recorder,
    values: Vec<Id>,
}

impl PixelTerms {
    fn new(context: Context) -> PixelTerms {
        let recorder = Recorder::new();
        for slot in VoxelInput::ALL {
            recorder.id(recorder.input(slot as u8));
        }
        PixelTerms { context, recorder, values: Vec::new() }
    }
    /// Records the terms of a part; returns their numbers.
    fn record(&mut self, part: &Part) -> Vec<usize> {
        let inputs = VoxelInput::ALL.map(|slot| self.recorder.input(slot as u8));
        let nodes = part.pixel_nodes(&Voxel::new(inputs, self.context, &|x| Real::lit(x)));
        let ids: Vec<Id> = nodes.into_iter().map(|node| self.recorder.id(node)).collect();
        ids.into_iter()
            .map(|id| {
                self.values.iter().position(|&known| known == id).unwrap_or_else(|| {
                    self.values.push(id);
                    self.values.len() - 1
                })
            })
            .collect()
    }
}

/// A part whose formulas are recorded, before the plan's list of moments is known.
struct Draft {
    term: usize,
    weight: f64,
    scope: Scope,
    resolved: Resolved,
    graph: Graph,
    terms: Vec<Id>,
    /// For each input slot of `inner`, the moment it stands for.
    slots: [Option<Moment>; Slots::COUNT],
    outer: Option<Program>,
    reach: f64,
}

impl Draft {
    fn record(
        term: usize,
        name: &str,
        part: &Part,
        context: Context,
        resolved: &Resolved,
        pixels: &mut PixelTerms,
    ) -> Result<Draft, Error> {
        let scope = part.scope();
        let limit = |what, need, limit| if need > limit { Err(Error::Limit { what, need, limit }) } else { Ok(()) };
        let pixel_numbers = pixels.record(part);
        limit("pixel terms in one formula", pixel_numbers.len(), PIXEL_TERMS_MAX)?;
        limit("pixel terms in one plan", pixels.values.len(), PLAN_PIXEL_TERMS_MAX)?;
        let mut slots = [None; Slots::COUNT];
        for (slot, moment) in Slots::FIXED.into_iter().enumerate() {
            slots[slot] = Some(moment);
        }
        for (k, &number) in pixel_numbers.iter().enumerate() {
            slots[Slots::PIXEL + k] = Some(Moment::Pixel(number as u8));
        }
        let recorder = Recorder::new();
        let inputs = std::array::from_fn(|slot| recorder.input(slot as u8));
        let terms: Vec<Id> =
            part.inner_nodes(&Moments::new(inputs, context)).into_iter().map(|t| recorder.id(t)).collect();
        let expected = match scope {
            Scope::Group => 1..=1,
            Scope::Ratio => 2..=2,
            Scope::Pool => 1..=TERMS_MAX,
        };
        if !expected.contains(&terms.len()) {
            let reason =
                format!("inner must return {expected:?} terms in {scope:?} scope, it returned {}", terms.len());
            return Err(Error::Unsuitable { loss: name.into(), reason });
        }
        let graph = recorder.finish();
        let outer = (scope == Scope::Pool).then(|| record_outer(part, terms.len())).transpose()?;
        let (weight, reach, resolved) = (part.weight, part.formula.reach(), resolved.clone());
        if reach.is_nan() || reach < 0.0 {
            return Err(Error::Unsuitable {
                loss: name.into(),
                reason: format!("its reach must be at least 0, got {reach}"),
            });
        }
        let draft = Draft { term, weight, scope, resolved, graph, terms, slots, outer, reach };
        for slot in draft.read_slots() {
            if draft.slots[slot] == Some(Moment::Cost) && part.formula.cost_matrix(context.classes).is_none() {
                let reason = "reads the cost of a class, but gives no cost matrix".into();
                return Err(Error::Unsuitable { loss: name.into(), reason });
            }
            let pixel = (Slots::PIXEL..Slots::PIXEL + PIXEL_TERMS_MAX).contains(&slot);
            if pixel && draft.slots[slot].is_none() {
                let reason =
                    format!("reads pixel sum {}, but defines {} pixel terms", slot - Slots::PIXEL, pixel_numbers.len());
                return Err(Error::Unsuitable { loss: name.into(), reason });
            }
        }
        Ok(draft)
    }

    /// The input slots that the terms depend on.
    fn read_slots(&self) -> Vec<usize> {
        let mut live = vec![false; self.graph.ops().len()];
        self.terms.iter().for_each(|&t| live[t as usize] = true);
        let mut slots = Vec::new();
        for (id, op) in self.graph.ops().iter().enumerate().rev() {
            if live[id] {
                op.operands().for_each(|o| live[o as usize] = true);
                if let Op::Input(slot) = op {
                    slots.push(*slot as usize);
                }
            }
        }
        slots
    }

    /// Whether a pixel term that is read depends on an input of the voxel.
    fn reads_voxel(&self, graph: &Graph, values: &[Id], input: VoxelInput) -> bool {
        let reached = graph.reached(&[input as Id]);
        self.read_slots().into_iter().any(|slot| match self.slots[slot] {
            Some(Moment::Pixel(k)) => reached[values[k as usize] as usize],
            _ => false,
        })
    }

    /// The slots of the context that read G of the pool's classes.
    fn reads_target_sizes(&self) -> bool {
        let slots = self.read_slots();
        slots.contains(&Slots::G_SUM) || slots.contains(&Slots::G_MIN) || self.resolved.absent != Absent::Count
    }
}

/// The program of `outer`: value, then its slope by each term.
fn record_outer(part: &Part, terms: usize) -> Result<Program, Error> {
    let recorder = Recorder::new();
    let inputs: Vec<_> = (0..terms).map(|t| recorder.input(t as u8)).collect();
    let ids: Vec<Id> = inputs.iter().map(|&node| recorder.id(node)).collect();
    let value = recorder.id(part.outer_nodes(&inputs));
    let mut graph = recorder.finish();
    let one = graph.lit(1.0);
    let mut outputs = vec![value];
    outputs.extend(graph.adjoint(&[(value, one)], &ids));
    Ok(Program::compile(&graph, terms, &outputs)?)
}

fn assemble(
    weight: f64,
    objective: &Objective,
    problem: &Problem,
    drafts: Vec<Draft>,
    pixels: PixelTerms,
    constants: Constants,
) -> Result<Head, Error> {
    // The moments that any part reads; N always, for the count of valid voxels.
    let mut wanted = vec![Moment::N];
    for draft in &drafts {
        wanted.extend(draft.read_slots().into_iter().filter_map(|slot| draft.slots[slot]));
        if draft.reads_target_sizes() {
            wanted.push(Moment::G);
        }
    }
    let Constants { cost_matrix, erosions } = constants;
    let PixelTerms { recorder, values, .. } = pixels;
    let graph = recorder.finish();
    let maps = planned_maps(&graph, &values, &drafts);
    let to_objects = drafts.iter().filter(|draft| draft.reads_voxel(&graph, &values, VoxelInput::ObjectDistances));
    let reach = to_objects.fold(0.0, |reach: f64, draft| reach.max(draft.reach));
    // A length that single precision does not have is no infinity.
    let reach = if reach.is_finite() { reach.min(f32::MAX.into()) } else { reach } as f32;
    if maps.iter().any(|map| map.input == VoxelInput::ObjectDistances) {
        objects::check(problem)?;
    }
    if erosions.is_none() {
        let reads = |draft: &&Draft| OF_ERRORS.iter().any(|&input| draft.reads_voxel(&graph, &values, input));
        if let Some(draft) = drafts.iter().find(reads) {
            let reason = "reads eroded errors, but says by no `Formula::erosions` how they are eroded".into();
            return Err(Error::Unsuitable { loss: objective.terms()[draft.term].loss.name().into(), reason });
        }
    }
    if let (Some(map), 4..) = (maps.first(), problem.shape.spatial().len()) {
        let reason = format!(
            "needs the {}, which is made for 1 to 3 spatial dimensions; the problem has {}",
            map.input.label(),
            problem.shape.spatial().len()
        );
        return Err(Error::Unsuitable { loss: reader(objective, problem, map.input), reason });
    }
    if !maps.is_empty() {
        let labels = distance::Source::Labels(DType::U8);
        Distances::new(&problem.shape, labels).spacing(problem.voxel_spacing()).check()?;
    }
    let predicted_inputs: Vec<Id> = VoxelInput::PREDICTED.iter().map(|&slot| slot as Id).collect();
    let predicted = graph.reached(&predicted_inputs);
    let target_only = |moment: Moment| match moment {
        Moment::N | Moment::G | Moment::GG => true,
        Moment::P | Moment::PG | Moment::PP | Moment::Cost => false,
        Moment::Pixel(k) => !predicted[values[k as usize] as usize],
    };
    wanted.sort_unstable_by_key(|&m| (!target_only(m), m));
    wanted.dedup();
    // Pixel terms that nothing reads are dropped; the rest are numbered in the order of the moments.
    let mut pixel_ids = Vec::new();
    let mut renumbered = vec![None; values.len()];
    for moment in &wanted {
        if let Moment::Pixel(k) = moment {
            renumbered[*k as usize] = Some(pixel_ids.len() as u8);
            pixel_ids.push(values[*k as usize]);
        }
    }
    let target_moments = wanted.iter().filter(|&&m| target_only(m)).count();
    let rename = |moment: Moment| match moment {
        Moment::Pixel(k) => Moment::Pixel(renumbered[k as usize].expect("read pixel terms are numbered")),
        other => other,
    };
    let index_of = |moment: Moment| wanted.iter().position(|&m| m == moment).expect("read moments are wanted");

    let mut parts = Vec::new();
    for draft in drafts {
        let reads: Vec<(usize, usize)> = draft
            .read_slots()
            .into_iter()
            .filter_map(|slot| draft.slots[slot].map(|moment| (slot, index_of(moment))))
            .collect();
        let inner = Program::compile(&draft.graph, Slots::COUNT, &draft.terms)?;
        let by: Vec<(usize, usize)> = reads.iter().copied().filter(|&(_, m)| m >= target_moments).collect();
        let mut graph = draft.graph;
        let inputs: Vec<Id> = by.iter().map(|&(slot, _)| slot as Id).collect();
        let one = graph.lit(1.0);
        let mut outputs = Vec::new();
        for &term in &draft.terms {
            outputs.extend(graph.adjoint(&[(term, one)], &inputs));
        }
        let Resolved { batch, background, absent, class_weights } = draft.resolved;
        parts.push(PlannedPart {
            term: draft.term,
            weight: draft.weight,
            scope: draft.scope,
            batch,
            background,
            absent,
            class_weights,
            reads,
            inner,
            slopes: Program::compile(&graph, Slots::COUNT, &outputs)?,
            slope_moments: by.iter().map(|&(_, m)| m).collect(),
            terms: draft.terms.len(),
            outer: draft.outer,
        });
    }

    let own_class = looks_at_own_class(problem, &graph, &pixel_ids);
    let (graph, pixel_ids) =
        if own_class { graph.with_input(VoxelInput::G as u8, 1.0, &pixel_ids) } else { (graph, pixel_ids) };
    let predicted = graph.reached(&predicted_inputs);
    let target_ids: Vec<Id> = pixel_ids.iter().copied().filter(|&id| !predicted[id as usize]).collect();
    let (slope_graph, slope_ids) = record_pixel_slopes(graph.clone(), &pixel_ids, problem.activation, own_class);
    let voxel_slots = VoxelInput::ALL.len();
    let coefficients = if own_class { 0 } else { pixel_ids.len() };
    let pixels = PixelPrograms {
        values: Program::compile(&graph, voxel_slots, &pixel_ids)?,
        target_values: Program::compile(&graph, voxel_slots, &target_ids)?,
        slopes: Program::compile(&slope_graph, voxel_slots + coefficients, &slope_ids)?,
        recorded: RecordedPixels {
            graph,
            values: pixel_ids,
            target_values: target_ids,
            slope_graph,
            slopes: slope_ids,
        },
    };
    if problem.map.is_none() && pixels.values.reads(VoxelInput::Map as usize) {
        return Err(Error::NeedsMap { loss: reader(objective, problem, VoxelInput::Map) });
    }
    let terms = objective.terms().iter().map(|t| TermInfo { name: t.to_string(), weight: t.weight }).collect();
    let moments: Vec<Moment> = wanted.iter().map(|&m| rename(m)).collect();
    let schedule = schedule(problem, &parts, &maps, &moments, target_moments);
    let mut hasher = DefaultHasher::new();
    (problem.shape.samples(), problem.shape.classes(), problem.activation, &moments).hash(&mut hasher);
    pixels.values.encode().hash(&mut hasher);
    cost_matrix.iter().flatten().for_each(|entry| entry.to_bits().hash(&mut hasher));
    if !maps.is_empty() {
        maps.hash(&mut hasher);
        reach.to_bits().hash(&mut hasher);
        problem.voxel_spacing().iter().for_each(|x| x.to_bits().hash(&mut hasher));
        erosions.map(|e| (e.alpha.to_bits(), e.count)).hash(&mut hasher);
    }
    let fingerprint = hasher.finish();
    Ok(Head {
        weight,
        problem: problem.clone(),
        terms,
        parts,
        moments,
        target_moments,
        pixels,
        cost_matrix,
        erosions,
        maps,
        reach,
        own_class,
        schedule,
        fingerprint,
    })
}

/// Whether every pixel term is 0 where g = 0, so that with labels only the voxel's own class matters.
fn looks_at_own_class(problem: &Problem, graph: &Graph, values: &[Id]) -> bool {
    // Softmax only: there a NaN in any class is one in the voxel's own class too, and so reaches the loss.
    let softmax = problem.activation == Activation::Softmax;
    if values.is_empty() || !softmax || matches!(problem.target, Target::Dense(_)) {
        return false;
    }
    let (elsewhere, zeros) = graph.with_input(VoxelInput::G as u8, 0.0, values);
    let reads_ln_q = {
        let reached = graph.reached(&[VoxelInput::LnQ as Id]);
        values.iter().any(|&value| reached[value as usize])
    };
    !reads_ln_q && zeros.iter().all(|&zero| elsewhere.literal(zero) == Some(0.0))
}

/// The first loss whose pixel terms read this input.
fn reader(objective: &Objective, problem: &Problem, input: VoxelInput) -> String {
    // A problem that lacks nothing: with a map, unless its absence is what makes the loss read another.
    let mut complete = problem.clone();
    complete.shape = Shape::new(1, problem.shape.classes(), [1]).unwrap_or_else(|_| problem.shape.clone());
    complete.spacing = None;
    if input == VoxelInput::Map {
        complete = complete.map(Map::Shared);
    }
    let reads = |term: &&Term| {
        let alone = Plan::new(&(*term).clone().into(), &complete);
        alone.is_ok_and(|plan| plan.heads()[0].pixels.values.reads(input as usize))
    };
    objective.terms().iter().find(reads).map(|term| term.loss.name().to_string()).unwrap_or_default()
}

/// The maps that one stage makes together.
const OF_ERRORS: [VoxelInput; 2] = [VoxelInput::ErodedError, VoxelInput::ErodedErrorSlope];

/// The maps that the drafts read, each once.
fn planned_maps(graph: &Graph, values: &[Id], drafts: &[Draft]) -> Vec<PlannedMap> {
    let planned = |input: VoxelInput| {
        let reads = |draft: &&Draft| draft.reads_voxel(graph, values, input);
        // Whether each reader counts class 0.
        let readers: Vec<bool> = drafts.iter().filter(reads).map(|draft| draft.resolved.background).collect();
        let every_class = input.is_shared() || readers.contains(&true);
        (!readers.is_empty()).then(|| PlannedMap { input, first_class: usize::from(!every_class) })
    };
    let mut maps: Vec<PlannedMap> = VoxelInput::MADE.into_iter().filter_map(planned).collect();
    // One stage makes both maps of eroded errors, for the same classes; the slope is never made without its value.
    let of_errors = |map: &PlannedMap| OF_ERRORS.contains(&map.input);
    if let Some(first_class) = maps.iter().filter(|map| of_errors(map)).map(|map| map.first_class).min() {
        let place = maps.iter().position(of_errors).unwrap_or(0);
        maps.retain(|map| !of_errors(map));
        maps.splice(place..place, OF_ERRORS.map(|input| PlannedMap { input, first_class }));
    }
    maps
}

/// The local gradient of the pixel terms, for one voxel and class.
///
/// | activation | local gradient |
/// |---|---|
/// | none | ∂/∂p |
/// | sigmoid | ∂/∂z |
/// | softmax | e = ∂/∂ln p with ln q held, and b = ∂/∂ln q |
///
/// Of Σ c_k·(term k), with the coefficients c as inputs after the voxel's: one output, and b. Where the terms look at the
/// voxel's own class alone, of each term: as many outputs as terms, and no b.
fn record_pixel_slopes(mut graph: Graph, values: &[Id], activation: Activation, own_class: bool) -> (Graph, Vec<Id>) {
    let mut outputs = Vec::new();
    if own_class {
        let one = graph.lit(1.0);
        for &value in values {
            outputs.push(local_slope(&mut graph, &[(value, one)], activation).0);
        }
    } else {
        let coefficient = |graph: &mut Graph, k: usize| graph.push(Op::Input((VoxelInput::ALL.len() + k) as u8));
        let seeds: Vec<(Id, Id)> =
            values.iter().enumerate().map(|(k, &value)| (value, coefficient(&mut graph, k))).collect();
        let (slope, by_ln_q) = local_slope(&mut graph, &seeds, activation);
        outputs.extend([slope, by_ln_q]);
    }
    (graph, outputs)
}

/// The local gradient and, for softmax, b; see [`record_pixel_slopes`].
fn local_slope(graph: &mut Graph, seeds: &[(Id, Id)], activation: Activation) -> (Id, Id) {
    let by: Vec<Id> = VoxelInput::PREDICTED.iter().map(|&slot| slot as Id).collect();
    let slopes = graph.adjoint(seeds, &by);
    let [p, q] = [VoxelInput::P as Id, VoxelInput::Q as Id];
    let [dp, dlnp, dq, dlnq] = [slopes[0], slopes[1], slopes[2], slopes[3]];
    let zero = graph.lit(0.0);
    let direct = graph.push(Op::Sub(dp, dq));
    match activation {
        Activation::None => {
            let floor = graph.lit(PROBABILITY_FLOOR);
            let mut over = |numerator: Id, denominator: Id| {
                let floored = graph.push(Op::Max(floor, denominator));
                graph.push(Op::Div(numerator, floored))
            };
            let (by_p, by_q) = (over(dlnp, p), over(dlnq, q));
            let logs = graph.push(Op::Sub(by_p, by_q));
            (graph.push(Op::Add(direct, logs)), zero)
        }
        Activation::Sigmoid => {
            let pq = graph.push(Op::Mul(p, q));
            let direct = graph.push(Op::Mul(pq, direct));
            let (up, down) = (graph.push(Op::Mul(q, dlnp)), graph.push(Op::Mul(p, dlnq)));
            let logs = graph.push(Op::Sub(up, down));
            (graph.push(Op::Add(direct, logs)), zero)
        }
        Activation::Softmax => {
            let direct = graph.push(Op::Mul(p, direct));
            (graph.push(Op::Add(dlnp, direct)), dlnq)
        }
    }
}
