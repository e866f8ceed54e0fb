//! Everything that can be handed in wrongly, with its typed error; nothing is written then.
#![cfg(feature = "cpu")]

use half::{bf16, f16};
use segfuse::cpu::{Device, Executor, InPlaceInputs};
use segfuse::loss::{Bce, Dice, Term, TopkCe};
use segfuse::spec::{Formula, Moments, Real, Scope, Voxel};
use segfuse::{
    Activation, CLASSES_MAX, DType, Error, Inputs, Map, Objective, Plan, Problem, Reduction, Runtime, Shape, SliceMut,
};

fn objective(spec: &str) -> Objective {
    spec.parse().unwrap_or_else(|e| panic!("{spec}: {e}"))
}

/// Two samples, three classes, four voxels.
fn shape() -> Shape {
    Shape::new(2, 3, [2, 2]).expect("a valid shape")
}

fn problem() -> Problem {
    Problem::new(shape())
}

/// Reads the caller's map.
struct Mapped;

impl Formula for Mapped {
    fn scope(&self) -> Scope {
        Scope::Group
    }
    fn pixel<R: Real>(&self, v: &Voxel<R>) -> Vec<R> {
        vec![v.map() * v.p()]
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        vec![m.pixel(0)]
    }
}

fn plan_error(spec: &str, problem: &Problem) -> Error {
    Plan::new(&objective(spec), problem).expect_err(spec)
}

macro_rules! assert_error {
    ($got:expr, $pattern:pat $(if $guard:expr)?) => {
        let got = $got;
        assert!(matches!(&got, $pattern $(if $guard)?), "got {got:?}: {got}");
    };
}

#[test]
fn shapes() {
    let error = |n, c, spatial: &[usize]| Shape::new(n, c, spatial).expect_err("a bad shape");
    assert_error!(error(0, 1, &[1]), Error::Shape { what: "the number of samples", min: 1, got: 0, .. });
    assert_error!(error(1, 0, &[1]), Error::Shape { what: "the number of classes", min: 1, max: 4096, got: 0 });
    assert_error!(error(1, CLASSES_MAX + 1, &[1]), Error::Shape { what: "the number of classes", got: 4097, .. });
    assert_error!(error(1, 1, &[4, 0]), Error::Shape { what: "a spatial extent", got: 0, .. });
    assert_error!(error(1, 1, &[]), Error::Shape { what: "the number of spatial dimensions", got: 0, .. });
    assert_error!(error(1, 1, &[1; 6]), Error::Shape { what: "the number of spatial dimensions", max: 5, got: 6, .. });
    assert_error!(error(1, 1, &[usize::MAX]), Error::Shape { what: "a spatial extent", .. });
    assert_error!(error(1, 1, &[1 << 40, 1 << 40]), Error::Overflow { what: "the prediction" });
    assert_error!(error(1 << 20, 1 << 10, &[1 << 30]), Error::Overflow { .. });
    assert_error!(error(1, 1, &[1 << 60]), Error::Overflow { .. });
}

/// Whatever shape is accepted is planned and explained without an overflow, though nobody has the memory.
#[test]
fn the_largest_shapes() {
    for extent in (40..61).flat_map(|bits| [(1usize << bits) - 1, 1 << bits]) {
        let Ok(shape) = Shape::new(1, 1, [extent]) else { continue };
        let problem = Problem::new(shape).dense(DType::F32).map(Map::PerClass).mask().weights();
        let plan = Plan::new(&objective("dice + bce"), &problem).expect("a valid plan");
        assert!(plan.explain().total_bytes >= 16 * extent as u64);
    }
    let shape = Shape::new(1 << 16, 1 << 12, [1 << 20]).expect("a valid shape");
    let plan = Plan::new(&objective("dice"), &Problem::new(shape)).expect("a valid plan");
    assert!(plan.explain().workspace_bytes > 0);
}

#[test]
fn problems() {
    let p = problem;
    assert_error!(
        plan_error("dice", &p().prediction(DType::U8, Activation::None)),
        Error::DTypeOf { role: "the prediction", got: DType::U8, .. }
    );
    assert_error!(
        plan_error("dice", &p().gradient(DType::F16)),
        Error::DTypeOf { role: "the gradient", got: DType::F16, .. }
    );
    let half = p().prediction(DType::F16, Activation::Softmax);
    assert_error!(
        plan_error("dice", &half.gradient(DType::BF16)),
        Error::DTypeOf { role: "the gradient", got: DType::BF16, .. }
    );
    assert_error!(plan_error("dice", &p().gradient(DType::I32)), Error::DTypeOf { role: "the gradient", .. });
    assert_error!(
        plan_error("dice", &p().labels(DType::F32)),
        Error::DTypeOf { role: "a map of labels", got: DType::F32, .. }
    );
    for dtype in [DType::I16, DType::I32, DType::I64] {
        assert_error!(plan_error("dice", &p().dense(dtype)), Error::DTypeOf { role: "a dense target", .. });
    }
    assert_error!(plan_error("dice", &p().dense(DType::F32).ignore_label(255)), Error::Problem(text) if text.contains("ignore label"));
    let one = Problem::new(Shape::new(1, 1, [4]).expect("a valid shape")).prediction(DType::F32, Activation::Softmax);
    assert_error!(plan_error("dice", &one), Error::Problem(text) if text.contains("softmax"));
    assert_error!(plan_error("dice", &p().class_weights([1.0, 2.0])), Error::ClassWeights { need: 3, got: 2 });
    assert_error!(plan_error("dice", &p().class_weights([])), Error::ClassWeights { need: 3, got: 0 });
    assert_error!(
        plan_error("dice", &p().class_weights([1.0, 2.0, -0.5])),
        Error::ClassWeight { index: 2, value: -0.5 }
    );
    assert_error!(
        plan_error("dice", &p().class_weights([1.0, f64::NAN, 1.0])),
        Error::ClassWeight { index: 1, value } if value.is_nan()
    );
    assert_error!(
        plan_error("dice", &p().class_weights([f64::INFINITY, 1.0, 1.0])),
        Error::ClassWeight { index: 0, .. }
    );
    assert_error!(plan_error("dice(class_weights=[1])", &p()), Error::ClassWeights { need: 3, got: 1 });
    assert_error!(plan_error("dice(class_weights=[1, -1, 0])", &p()), Error::ClassWeight { index: 1, .. });
    let none = p().reduction(Reduction::None);
    assert_error!(plan_error("dice", &none.clone().batch(true)), Error::Problem(text) if text.contains("batch"));
    assert_error!(plan_error("dice(batch=true)", &none), Error::Problem(text) if text.contains("batch"));
}

#[test]
fn losses_on_problems() {
    let p = problem;
    let sigmoid = p().prediction(DType::F32, Activation::Sigmoid);
    assert_error!(plan_error("ce", &sigmoid), Error::Unsuitable { loss, reason } if loss == "ce" && reason.contains("softmax"));
    assert_error!(plan_error("topk_ce", &p()), Error::Unsuitable { loss, reason } if loss == "topk_ce" && reason.contains("threshold"));
    let mapped: Objective = Dice::default() + Term::custom("mine", Mapped);
    assert_error!(Plan::new(&mapped, &p()).unwrap_err(), Error::NeedsMap { loss } if loss == "mine");
    assert!(Plan::new(&mapped, &p().map(Map::Shared)).is_ok());
    let deep = Problem::new(Shape::new(1, 3, [2, 2, 2, 2]).expect("a shape"));
    for spec in [
        "boundary",
        "distance_ce",
        "dpce",
        "shape_aware_ce",
        "dice + boundary",
        "ce + hausdorff_dt",
        "dice + hausdorff_erosion",
    ] {
        assert_error!(
            plan_error(spec, &deep),
            Error::Unsuitable { loss, reason } if (spec.contains(loss.as_str()) || spec == "dpce") && reason.contains("4")
        );
        // A map of the caller's has any number of dimensions.
        let given = Plan::new(&spec.parse().expect("a valid spec"), &deep.clone().map(Map::PerClass));
        assert_eq!(given.is_ok(), !spec.contains("hausdorff"), "{spec}");
    }
    assert_error!(plan_error("dice", &p().spacing([1.0])), Error::Shape { min: 2, got: 1, .. });
    assert_error!(plan_error("boundary", &p().spacing([1.0, 0.0])), Error::Spacing { axis: 1, got: 0.0 });
    assert_error!(plan_error("dice", &p().spacing([f64::NAN, 1.0])), Error::Spacing { axis: 0, got } if got.is_nan());
    let eroded_twice = plan_error("hausdorff_erosion(alpha=1) + hausdorff_erosion(iterations=3)", &p());
    assert_error!(eroded_twice, Error::Unsuitable { reason, .. } if reason.contains("3 erosions with alpha 2") && reason.contains("10 erosions with alpha 1"));
    for (matrix, part) in [
        ("[0, 1; 1, 0]", "2 rows"),
        ("[0, 1, 1; 1, 0; 1, 1, 0]", "3 rows"),
        ("[0, 1, 1; 1, 0, 1; 1, 0.5, 0]", "symmetric"),
        ("[0, 1, 1; 1, 0.5, 1; 1, 1, 0]", "diagonal"),
        ("[0, 2, 1; 2, 0, 1; 1, 1, 0]", "from 0 to 1"),
        ("[0, -1, 1; -1, 0, 1; 1, 1, 0]", "from 0 to 1"),
    ] {
        let error = plan_error(&format!("wasserstein_dice(matrix={matrix})"), &p());
        assert_error!(error, Error::Unsuitable { loss, reason } if loss == "wasserstein_dice" && reason.contains(part));
    }
    let two = "wasserstein_dice + wasserstein_dice(matrix=[0, 1, 1; 1, 0, 0.5; 1, 0.5, 0])";
    assert_error!(plan_error(two, &p()), Error::Unsuitable { reason, .. } if reason.contains("matrices"));
    // Parameters that no spec string was asked for are checked all the same.
    let built = |o: Objective| Plan::new(&o, &p()).expect_err("a bad parameter");
    assert_error!(
        built(Dice { smooth_nr: -1.0, ..Dice::default() }.into()),
        Error::OutOfRange { key: "smooth_nr", value: -1.0, .. }
    );
    assert_error!(built(Bce { smoothing: f64::NAN }.into()), Error::OutOfRange { key: "smoothing", .. });
    assert_error!(
        built(TopkCe { threshold: Some(1.5), ..TopkCe::default() }.into()),
        Error::OutOfRange { key: "threshold", value: 1.5, .. }
    );
    assert_error!(built(f64::NAN * Dice::default()), Error::Problem(text) if text.contains("weight"));
    assert_error!(built(f64::INFINITY * Dice::default()), Error::Problem(_));
    assert_error!(Plan::with_heads(&objective("dice"), &[]).expect_err("no head"), Error::Problem(_));
    assert_error!(Plan::with_heads(&objective("dice"), &[(f64::NAN, p())]).expect_err("NaN"), Error::Problem(_));
    let mixed = [(1.0, p()), (1.0, p().reduction(Reduction::None))];
    assert_error!(Plan::with_heads(&objective("dice"), &mixed).expect_err("mixed"), Error::Problem(text) if text.contains("none"));
}

/// A formula that asks for what it does not have.
struct Odd {
    pixel_terms: usize,
    reads: usize,
    terms: usize,
    matrix: usize,
    reach: f64,
}

impl Formula for Odd {
    fn scope(&self) -> Scope {
        Scope::Ratio
    }
    fn pixel<R: Real>(&self, v: &Voxel<R>) -> Vec<R> {
        (0..self.pixel_terms).map(|k| v.p() * R::lit(k as f64 + 0.5)).collect()
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        (0..self.terms).map(|_| m.pixel(self.reads) + m.g()).collect()
    }
    fn cost_matrix(&self, _: usize) -> Option<Vec<f64>> {
        (self.matrix > 0).then(|| vec![0.0; self.matrix])
    }
    fn reach(&self) -> f64 {
        self.reach
    }
}

#[test]
fn formulas_of_your_own() {
    let plan = |odd: Odd| Plan::new(&Term::custom("odd", odd).into(), &problem());
    let odd = || Odd { pixel_terms: 1, reads: 0, terms: 2, matrix: 0, reach: f64::INFINITY };
    assert!(plan(odd()).is_ok());
    let error = |odd: Odd| plan(odd).expect_err("an odd formula");
    assert_error!(error(Odd { pixel_terms: 5, ..odd() }), Error::Limit { need: 5, limit: 4, .. });
    assert_error!(error(Odd { reads: 1, ..odd() }), Error::Unsuitable { loss, reason } if loss == "odd" && reason.contains("pixel sum 1"));
    assert_error!(error(Odd { terms: 1, ..odd() }), Error::Unsuitable { reason, .. } if reason.contains("returned 1"));
    assert_error!(error(Odd { terms: 0, ..odd() }), Error::Unsuitable { reason, .. } if reason.contains("returned 0"));
    assert_error!(error(Odd { matrix: 4, ..odd() }), Error::Unsuitable { reason, .. } if reason.contains("need 9 entries, got 4"));
    assert_error!(error(Odd { reach: -2.5, ..odd() }), Error::Unsuitable { loss, reason } if loss == "odd" && reason.contains("got -2.5"));
    assert_error!(error(Odd { reach: f64::NAN, ..odd() }), Error::Unsuitable { reason, .. } if reason.contains("got NaN"));
    // Too many distinct pixel terms for one plan.
    let focals: Vec<String> = (1..=17).map(|k| format!("focal(gamma=1.0{k:02})")).collect();
    assert_error!(plan_error(&focals.join(" + "), &problem()), Error::Limit { need: 17, limit: 16, .. });
}

/// Buffers of the problem with everything: f32 softmax, u8 labels, mask, weights, shared map.
struct Buffers {
    prediction: Vec<f32>,
    target: Vec<u8>,
    mask: Vec<u8>,
    weights: Vec<f32>,
    map: Vec<f32>,
    /// Poisoned: no call that fails may change a bit of it.
    gradient: Vec<f32>,
}

const POISON: f32 = -77.25;

impl Buffers {
    fn new() -> Buffers {
        Buffers {
            prediction: vec![0.5; 24],
            target: vec![1; 8],
            mask: vec![1; 8],
            weights: vec![1.0; 8],
            map: vec![1.0; 8],
            gradient: vec![POISON; 24],
        }
    }
    fn inputs(&self) -> Inputs<'_> {
        Inputs::new(&self.prediction, &self.target).mask(&self.mask).weights(&self.weights).map(&self.map)
    }
}

fn executor() -> Executor {
    let problem = problem().mask().weights().map(Map::Shared);
    Device::new().prepare(&Plan::new(&objective("dice + ce"), &problem).expect("a valid plan"))
}

/// The error of every entry that takes these inputs; they must agree.
fn input_error(change: impl Fn(Inputs<'_>) -> Inputs<'_>) -> Error {
    let (executor, good) = (executor(), Buffers::new());
    let mut gradient = good.gradient.clone();
    let inputs = change(good.inputs());
    let error = {
        let mut slices: [SliceMut<'_>; 1] = [(&mut gradient).into()];
        executor.forward_backward(&[inputs], &mut slices, None).expect_err("bad inputs")
    };
    assert_eq!(executor.forward(&[inputs]).expect_err("bad inputs"), error);
    assert_eq!(executor.reduce(0, &inputs).expect_err("bad inputs"), error);
    let table = executor.reduce(0, &good.inputs()).expect("good inputs");
    let coefficients = executor.finish(&[table]).expect("its own table").1;
    let by_stage = executor.gradient(0, &inputs, &coefficients[0], &mut (&mut gradient).into(), None);
    assert_eq!(by_stage.expect_err("bad inputs"), error);
    assert!(gradient.iter().all(|g| g.to_bits() == POISON.to_bits()), "{error}: the gradient was written");
    error
}

#[test]
fn input_buffers() {
    let (short, bytes) = (vec![0.5f32; 7], vec![1u8; 7]);
    let (halves, words, many) = (vec![f16::ZERO; 24], vec![0i32; 8], vec![0.0f32; 25]);
    let length = |role, need, got| Error::BufferLength { role, need, got };
    let buffers = Buffers::new();
    let (mask, weights, map) = (&buffers.mask, &buffers.weights, &buffers.map);

    macro_rules! error {
        ($inputs:expr) => {{
            let (executor, mut gradient) = (executor(), vec![POISON; 24]);
            let mut slices: [SliceMut<'_>; 1] = [(&mut gradient).into()];
            let error = executor.forward_backward(&[$inputs], &mut slices, None).expect_err("bad inputs");
            assert!(gradient.iter().all(|&g| g == POISON), "{error}: the gradient was written");
            assert_eq!(executor.forward(&[$inputs]).expect_err("bad inputs"), error);
            error
        }};
    }
    macro_rules! full {
        ($p:expr, $t:expr) => {
            Inputs::new($p, $t).mask(mask).weights(weights).map(map)
        };
    }
    let b = &buffers;
    assert_eq!(error!(full!(&short, &b.target)), length("the prediction", 24, 7));
    assert_eq!(error!(full!(&many, &b.target)), length("the prediction", 24, 25));
    assert_eq!(error!(full!(&b.prediction, &bytes)), length("the target", 8, 7));
    assert_error!(
        error!(full!(&halves, &b.target)),
        Error::BufferType { role: "the prediction", need: DType::F32, got: DType::F16 }
    );
    assert_error!(
        error!(full!(&b.prediction, &words)),
        Error::BufferType { role: "the target", need: DType::U8, got: DType::I32 }
    );
    let bare = || Inputs::new(&b.prediction, &b.target);
    assert_eq!(error!(bare().mask(&bytes).weights(weights).map(map)), length("the mask", 8, 7));
    assert_eq!(error!(bare().mask(mask).weights(&short).map(map)), length("the voxel weights", 8, 7));
    assert_eq!(error!(bare().mask(mask).weights(weights).map(&short)), length("the map", 8, 7));
    assert_eq!(error!(bare().weights(weights).map(map)), Error::BufferMissing { role: "the mask" });
    assert_eq!(error!(bare().mask(mask).map(map)), Error::BufferMissing { role: "the voxel weights" });
    assert_eq!(error!(bare().mask(mask).weights(weights)), Error::BufferMissing { role: "the map" });
    // Every stage says the same.
    assert_error!(input_error(|i| i.mask(&[1, 1])), Error::BufferLength { role: "the mask", need: 8, got: 2 });
    assert_error!(input_error(|i| i.map(&[1.0])), Error::BufferLength { role: "the map", need: 8, got: 1 });

    let plain = Device::new().prepare(&Plan::new(&objective("dice"), &problem()).expect("a valid plan"));
    let unexpected = |inputs: Inputs<'_>| plain.forward(&[inputs]).expect_err("one too many");
    assert_eq!(unexpected(bare().mask(mask)), Error::BufferUnexpected { role: "the mask" });
    assert_eq!(unexpected(bare().weights(weights)), Error::BufferUnexpected { role: "the voxel weights" });
    assert_eq!(unexpected(bare().map(map)), Error::BufferUnexpected { role: "the map" });
}

#[test]
fn outputs_heads_and_grad_output() {
    let (executor, b) = (executor(), Buffers::new());
    let call = |gradients: &mut [SliceMut<'_>], heads: &[Inputs<'_>], grad_output: Option<&[f64]>| {
        executor.forward_backward(heads, gradients, grad_output).expect_err("a bad call")
    };
    let (mut short, mut good, mut halves) = (vec![POISON; 23], vec![POISON; 24], vec![bf16::NAN; 24]);
    let error = call(&mut [(&mut short).into()], &[b.inputs()], None);
    assert_eq!(error, Error::BufferLength { role: "the gradient", need: 24, got: 23 });
    let error = call(&mut [(&mut halves).into()], &[b.inputs()], None);
    assert_eq!(error, Error::BufferType { role: "the gradient", need: DType::F32, got: DType::BF16 });
    assert_error!(call(&mut [], &[b.inputs()], None), Error::OtherPlan { what: "heads", need: 1, got: 0 });
    assert_error!(call(&mut [(&mut good).into()], &[], None), Error::OtherPlan { what: "heads", need: 1, got: 0 });
    let error = call(&mut [(&mut good).into()], &[b.inputs(), b.inputs()], None);
    assert_error!(error, Error::OtherPlan { what: "heads", need: 1, got: 2 });
    for grad_output in [&[][..], &[1.0, 1.0]] {
        let error = call(&mut [(&mut good).into()], &[b.inputs()], Some(grad_output));
        assert_error!(error, Error::BufferLength { role: "grad_output", need: 1, got } if *got == grad_output.len() as u64);
    }
    assert!(short.iter().chain(&good).all(|&g| g == POISON));

    // The stages, with what another plan made.
    let other = Device::new().prepare(&Plan::new(&objective("dice"), &problem()).expect("a valid plan"));
    let plain = Inputs::new(&b.prediction, &b.target);
    let foreign = other.reduce(0, &plain).expect("it fits");
    assert_error!(
        executor.finish(std::slice::from_ref(&foreign)).expect_err("foreign"),
        Error::OtherPlan { what: "moments", .. }
    );
    assert_error!(executor.finish(&[]).expect_err("no table"), Error::OtherPlan { what: "heads", need: 1, got: 0 });
    let coefficients = other.finish(std::slice::from_ref(&foreign)).expect("its own").1;
    let error = executor.gradient(0, &b.inputs(), &coefficients[0], &mut (&mut good).into(), None);
    assert_error!(error.expect_err("foreign"), Error::OtherPlan { what: "coefficients", .. });
    let mut own = executor.reduce(0, &b.inputs()).expect("it fits");
    assert_error!(own.merge(&foreign).expect_err("foreign"), Error::OtherPlan { what: "moments", .. });
    assert_error!(executor.reduce(1, &b.inputs()).expect_err("no such head"), Error::OtherPlan { got: 1, .. });
    let coefficients = executor.finish(&[own]).expect("its own").1;
    let gradient =
        |g: &mut SliceMut<'_>, go| executor.gradient(0, &b.inputs(), &coefficients[0], g, go).expect_err("bad");
    assert_error!(gradient(&mut (&mut short).into(), None), Error::BufferLength { role: "the gradient", .. });
    assert_error!(gradient(&mut (&mut good).into(), Some(&[])), Error::BufferLength { role: "grad_output", .. });
    assert!(short.iter().chain(&good).all(|&g| g == POISON));
}

#[test]
fn in_place() {
    let plan = |gradient| {
        let problem = problem().prediction(DType::F16, Activation::Softmax).gradient(gradient);
        Device::new().prepare(&Plan::new(&objective("dice"), &problem).expect("a valid plan"))
    };
    let target = vec![1u8; 8];
    let mut prediction = vec![f16::from_f32(0.5); 24];
    let mut call = |executor: &Executor, inputs: &[InPlaceInputs<'_>], len: usize| {
        let before = prediction.clone();
        let mut slices: [SliceMut<'_>; 1] = [(&mut prediction[..len]).into()];
        let error = executor.forward_backward_in_place(&mut slices, inputs, None).expect_err("a bad call");
        assert_eq!(before, prediction, "the prediction is as it was");
        error
    };
    let inputs = InPlaceInputs::new(&target);
    // A gradient of another type has no room in the prediction.
    assert_error!(call(&plan(DType::F32), &[inputs], 24), Error::BufferType { role: "the gradient", .. });
    let executor = plan(DType::F16);
    assert_error!(call(&executor, &[inputs], 20), Error::BufferLength { need: 24, got: 20, .. });
    assert_error!(call(&executor, &[], 24), Error::OtherPlan { what: "heads", .. });
    assert_error!(call(&executor, &[inputs.mask(&target)], 24), Error::BufferUnexpected { role: "the mask" });
    assert_error!(
        call(&executor, &[InPlaceInputs::new(&target[..7])], 24),
        Error::BufferLength { role: "the target", .. }
    );
}

#[test]
fn devices() {
    assert_error!(Runtime::on("gpu7").expect_err("not there"), Error::UnknownDevice { name, available } if name == "gpu7" && available.contains(&"cpu".into()));
    assert_error!(Runtime::on("").expect_err("no name"), Error::UnknownDevice { .. });
    assert!(Runtime::on("auto").is_ok());
}

#[test]
fn spec_strings() {
    let error = |text: &str| text.parse::<Objective>().expect_err(text);
    for (text, position) in [
        ("", 0),
        ("   ", 3),
        ("+", 0),
        ("dice +", 6),
        ("dice - ", 7),
        ("dice dice", 5),
        ("dice(", 5),
        ("dice(squared=true", 17),
        ("dice(squared)", 12),
        ("dice(squared=)", 13),
        ("dice(=true)", 5),
        ("dice(squared=true))", 18),
        ("dice(squared=true; log=true)", 17),
        ("dice(squared=true,)", 18),
        ("dice(squared=true, squared=false)", 19),
        ("2 dice", 2),
        ("2*", 2),
        ("*dice", 0),
        ("2*3*dice", 2),
        ("inf*dice", 3),
        ("1e999*dice", 0),
        ("1.2.3*dice", 0),
        ("0x10*dice", 1),
        ("dice(smooth_nr=1e999)", 15),
        ("dice(smooth_nr=1/0)", 15),
        ("dice(smooth_nr=0/0)", 15),
        ("dice(smooth_nr=--1)", 15),
        ("dice(class_weights=[])", 20),
        ("dice(class_weights=[1,])", 22),
        ("dice(class_weights=[1, 2)", 24),
        ("dice(class_weights=[[1]])", 20),
        ("dice(class_weights=[nan])", 20),
        ("(dice)", 0),
        ("dice(((((", 5),
        ("dice & ce", 5),
        ("dicé", 3),
        ("dice\u{a0}+\u{2003}€", 10),
    ] {
        assert_error!(error(text), Error::Syntax { position: p, .. } if *p == position);
    }
    for (text, right) in [
        ("dise", "dice"),
        ("Dice", "dice"),
        ("tverski", "tversky"),
        ("focl", "focal"),
        ("jacard", "jaccard"),
        ("generalised_dice", "generalized_dice"),
        ("io", "iou"),
        ("boundry", "boundary"),
        ("nan", ""),
    ] {
        assert_error!(error(&format!(" ce + {text}")), Error::UnknownLoss { name, position: 6, near } if name == text && (right.is_empty() || near.contains(&right.to_string())));
    }
    assert_error!(error("qqqqqqqq"), Error::UnknownLoss { near, .. } if near.len() >= segfuse::loss::ENTRIES.len());
    assert_error!(error("dice(smoth_nr=1)"), Error::UnknownKey { loss, key, near } if loss == "dice" && key == "smoth_nr" && near.contains(&"smooth_nr".to_string()));
    assert_error!(error("dice(clas_weights=[1])"), Error::UnknownKey { near, .. } if near[0] == "class_weights");
    assert_error!(error("iou(gamma=1)"), Error::UnknownKey { loss, .. } if loss == "jaccard");
    for text in [
        "dice(squared=1)",
        "dice(squared=yes)",
        "dice(smooth_nr=true)",
        "dice(smooth_nr=[1])",
        "dice(batch=0)",
        "dice(absent=never)",
        "dice(class_weights=1)",
        "dice(class_weights=[1; 2])",
        "kappa(form=exakt)",
        "focal(alpha=all)",
        "wasserstein_dice(matrix=1)",
        "dice(smooth_nr=nan)",
        "dice(smooth_nr=inf)",
    ] {
        assert_error!(error(text), Error::WrongValue { .. });
    }
    for (text, wrong) in [
        ("dice(smooth_nr=-1)", -1.0),
        ("bce(smoothing=1.5)", 1.5),
        ("combo(alpha=-0.1)", -0.1),
        ("hausdorff_dt(alpha=8.5)", 8.5),
        ("log_hausdorff_dt(alpha=0)", 0.0),
        ("focal(gamma=-2)", -2.0),
        ("focal_tversky(gamma=0)", 0.0),
        ("power_jaccard(power=3)", 3.0),
        ("topk_ce(threshold=2)", 2.0),
        ("balanced_ce(beta=-1/2)", -0.5),
    ] {
        assert_error!(error(text), Error::OutOfRange { value, .. } if *value == wrong);
    }
}

/// Long and deep texts are an error in little time, or are read.
#[test]
fn long_spec_strings() {
    let parse = |text: String| text.parse::<Objective>();
    assert_error!(parse("(".repeat(60_000)).expect_err("deep"), Error::Syntax { position: 0, .. });
    assert_error!(parse(format!("dice({}", "[".repeat(60_000))).expect_err("deep"), Error::Syntax { .. });
    assert_error!(parse("dice+".repeat(20_000)).expect_err("long"), Error::Syntax { position: 65_536, .. });
    assert_error!(parse("d".repeat(60_000)).expect_err("no such loss"), Error::UnknownLoss { .. });
    assert_error!(parse(format!("dice({}=1)", "k".repeat(60_000))).expect_err("no such key"), Error::UnknownKey { .. });
    assert_error!(parse("9".repeat(60_000)).expect_err("infinite"), Error::Syntax { position: 0, .. });
    let many = vec!["dice"; 10_000].join("+");
    let objective = parse(many).expect("many terms are fine");
    assert!(Plan::new(&objective, &problem()).is_ok());
}

/// Every message names its subject.
#[test]
fn messages() {
    let text = "dise".parse::<Objective>().expect_err("unknown").to_string();
    assert!(text.contains("`dise`") && text.contains("dice"), "{text}");
    let text = plan_error("dice", &problem().class_weights([1.0])).to_string();
    assert!(text.contains("need 3") && text.contains("got 1"), "{text}");
}
