//! Recording a formula: constants folded, common subexpressions shared, differentiated in reverse.

use super::Real;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// The number of a value in its [`Graph`]; operands always come before the operation that uses them.
pub type Id = u32;

/// One recorded operation. Literals are kept as bits so that an operation can be hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the methods of `Real`")]
pub enum Op {
    Input(u8),
    Literal(u64),
    Add(Id, Id),
    Sub(Id, Id),
    Mul(Id, Id),
    Div(Id, Id),
    Neg(Id),
    Ln(Id),
    Exp(Id),
    Sqrt(Id),
    Abs(Id),
    Pow(Id, Id),
    Max(Id, Id),
    Min(Id, Id),
    Select(Id, Id, Id),
    WithSlope(Id, Id, Id),
}

impl Op {
    /// The operands, in order.
    pub fn operands(self) -> impl Iterator<Item = Id> {
        let list = match self {
            Op::Input(_) | Op::Literal(_) => [None; 3],
            Op::Neg(a) | Op::Ln(a) | Op::Exp(a) | Op::Sqrt(a) | Op::Abs(a) => [Some(a), None, None],
            Op::Add(a, b)
            | Op::Sub(a, b)
            | Op::Mul(a, b)
            | Op::Div(a, b)
            | Op::Pow(a, b)
            | Op::Max(a, b)
            | Op::Min(a, b) => [Some(a), Some(b), None],
            Op::Select(a, b, c) | Op::WithSlope(a, b, c) => [Some(a), Some(b), Some(c)],
        };
        list.into_iter().flatten()
    }

    /// The same operation on other operands.
    fn moved(self, at: impl Fn(Id) -> Id) -> Op {
        match self {
            Op::Input(_) | Op::Literal(_) => self,
            Op::Add(a, b) => Op::Add(at(a), at(b)),
            Op::Sub(a, b) => Op::Sub(at(a), at(b)),
            Op::Mul(a, b) => Op::Mul(at(a), at(b)),
            Op::Div(a, b) => Op::Div(at(a), at(b)),
            Op::Neg(a) => Op::Neg(at(a)),
            Op::Ln(a) => Op::Ln(at(a)),
            Op::Exp(a) => Op::Exp(at(a)),
            Op::Sqrt(a) => Op::Sqrt(at(a)),
            Op::Abs(a) => Op::Abs(at(a)),
            Op::Pow(a, b) => Op::Pow(at(a), at(b)),
            Op::Max(a, b) => Op::Max(at(a), at(b)),
            Op::Min(a, b) => Op::Min(at(a), at(b)),
            Op::Select(c, a, b) => Op::Select(at(c), at(a), at(b)),
            Op::WithSlope(value, slope, by) => Op::WithSlope(at(value), at(slope), at(by)),
        }
    }
}

/// A list of operations, each after its operands.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    ops: Vec<Op>,
    known: HashMap<Op, Id>,
}

impl Graph {
    /// The operations, in order; the position is the [`Id`].
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The value of a literal, if `id` is one.
    pub fn literal(&self, id: Id) -> Option<f64> {
        match self.ops[id as usize] {
            Op::Literal(bits) => Some(f64::from_bits(bits)),
            _ => None,
        }
    }

    /// A constant.
    pub fn lit(&mut self, x: f64) -> Id {
        self.insert(Op::Literal(x.to_bits()))
    }

    /// Adds an operation, or finds the one that gives the same value.
    ///
    /// `0·x` becomes 0 although `0·NaN` is NaN: a product with a literal 0 comes only from the adjoint, where it means
    /// that no path exists. Formulas carry NaN by their own operations.
    pub fn push(&mut self, op: Op) -> Id {
        let lit = |id: Id| self.literal(id);
        let is = |id: Id, x: f64| self.literal(id) == Some(x);
        match op {
            Op::Add(a, b) if is(a, 0.0) => return b,
            Op::Add(a, b) | Op::Sub(a, b) if is(b, 0.0) => return a,
            Op::Sub(a, b) if is(a, 0.0) => return self.push(Op::Neg(b)),
            Op::Mul(a, b) if is(a, 0.0) || is(b, 1.0) => return a,
            Op::Mul(a, b) if is(b, 0.0) || is(a, 1.0) => return b,
            Op::Mul(a, b) if is(a, -1.0) => return self.push(Op::Neg(b)),
            Op::Mul(a, b) if is(b, -1.0) => return self.push(Op::Neg(a)),
            Op::Div(a, b) if is(b, 1.0) || is(a, 0.0) => return a,
            Op::Pow(a, e) => match lit(e) {
                Some(0.0) => return self.lit(1.0),
                Some(1.0) => return a,
                Some(2.0) => return self.push(Op::Mul(a, a)),
                Some(3.0) => {
                    let square = self.push(Op::Mul(a, a));
                    return self.push(Op::Mul(square, a));
                }
                Some(0.5) => return self.push(Op::Sqrt(a)),
                _ => {}
            },
            Op::Select(c, a, b) => {
                if a == b && lit(a).is_some() {
                    return a;
                }
                match lit(c) {
                    Some(x) if x > 0.0 => return a,
                    Some(x) if x <= 0.0 => return b,
                    _ => {}
                }
            }
            Op::Neg(a) => {
                if let Op::Neg(inner) = self.ops[a as usize] {
                    return inner;
                }
            }
            _ => {}
        }
        if let Some(x) = self.fold(op) {
            return self.lit(x);
        }
        // One order for commutative operations, so that a·b and b·a are the same value. Max and Min keep theirs: the slope
        // on a tie belongs to the first.
        self.insert(match op {
            Op::Add(a, b) if a > b => Op::Add(b, a),
            Op::Mul(a, b) if a > b => Op::Mul(b, a),
            _ => op,
        })
    }

    fn insert(&mut self, op: Op) -> Id {
        if let Some(&id) = self.known.get(&op) {
            return id;
        }
        let id = self.ops.len() as Id;
        self.ops.push(op);
        self.known.insert(op, id);
        id
    }

    /// The value of an operation whose operands are all literals.
    fn fold(&self, op: Op) -> Option<f64> {
        let x = |id: Id| self.literal(id);
        Some(match op {
            Op::Add(a, b) => x(a)? + x(b)?,
            Op::Sub(a, b) => x(a)? - x(b)?,
            Op::Mul(a, b) => x(a)? * x(b)?,
            Op::Div(a, b) => x(a)? / x(b)?,
            Op::Neg(a) => -x(a)?,
            Op::Ln(a) => x(a)?.ln(),
            Op::Exp(a) => x(a)?.exp(),
            Op::Sqrt(a) => x(a)?.sqrt(),
            Op::Abs(a) => x(a)?.abs(),
            Op::Pow(a, b) => x(a)?.powf(x(b)?),
            Op::Max(a, b) => Real::max(x(a)?, x(b)?),
            Op::Min(a, b) => Real::min(x(a)?, x(b)?),
            Op::Input(_) | Op::Literal(_) | Op::Select(..) | Op::WithSlope(..) => return None,
        })
    }

    /// Reverse-mode derivative: records and returns Σ seed·∂value/∂x for each `x` of `wrt`.
    ///
    /// Operations that no `x` of `wrt` reaches are skipped, so that constants cost nothing.
    pub fn adjoint(&mut self, seeds: &[(Id, Id)], wrt: &[Id]) -> Vec<Id> {
        let count = self.ops.len();
        let reached = self.reached(wrt);
        let zero = self.lit(0.0);
        let mut adjoint = vec![zero; count.max(zero as usize + 1)];
        for &(value, seed) in seeds {
            adjoint[value as usize] = self.push(Op::Add(adjoint[value as usize], seed));
        }
        for id in (0..count as Id).rev() {
            let d = adjoint[id as usize];
            if d == zero || !reached[id as usize] {
                continue;
            }
            let mut flows: [Option<(Id, Id)>; 2] = [None; 2];
            match self.ops[id as usize] {
                Op::Input(_) | Op::Literal(_) => {}
                Op::Add(a, b) => flows = [Some((a, d)), Some((b, d))],
                Op::Sub(a, b) => flows = [Some((a, d)), Some((b, self.push(Op::Neg(d))))],
                Op::Mul(a, b) => {
                    flows = [Some((a, self.push(Op::Mul(d, b)))), Some((b, self.push(Op::Mul(d, a))))];
                }
                Op::Div(a, b) => {
                    let quotient = self.push(Op::Div(d, b));
                    let product = self.push(Op::Mul(quotient, id));
                    flows = [Some((a, quotient)), Some((b, self.push(Op::Neg(product))))];
                }
                Op::Neg(a) => flows[0] = Some((a, self.push(Op::Neg(d)))),
                Op::Ln(a) => flows[0] = Some((a, self.push(Op::Div(d, a)))),
                Op::Exp(a) => flows[0] = Some((a, self.push(Op::Mul(d, id)))),
                Op::Sqrt(a) => {
                    let half = self.lit(0.5);
                    let scaled = self.push(Op::Mul(d, half));
                    flows[0] = Some((a, self.push(Op::Div(scaled, id))));
                }
                Op::Abs(a) => {
                    let minus = self.push(Op::Neg(a));
                    let minus_d = self.push(Op::Neg(d));
                    let below = self.push(Op::Select(minus, minus_d, zero));
                    flows[0] = Some((a, self.push(Op::Select(a, d, below))));
                }
                Op::Pow(a, e) => {
                    let one = self.lit(1.0);
                    let less = self.push(Op::Sub(e, one));
                    let power = self.push(Op::Pow(a, less));
                    let slope = self.push(Op::Mul(e, power));
                    flows[0] = Some((a, self.push(Op::Mul(d, slope))));
                }
                Op::Max(a, b) => {
                    let b_wins = self.push(Op::Sub(b, a));
                    flows = [
                        Some((a, self.push(Op::Select(b_wins, zero, d)))),
                        Some((b, self.push(Op::Select(b_wins, d, zero)))),
                    ];
                }
                Op::Min(a, b) => {
                    let b_wins = self.push(Op::Sub(a, b));
                    flows = [
                        Some((a, self.push(Op::Select(b_wins, zero, d)))),
                        Some((b, self.push(Op::Select(b_wins, d, zero)))),
                    ];
                }
                Op::Select(c, a, b) => {
                    flows =
                        [Some((a, self.push(Op::Select(c, d, zero)))), Some((b, self.push(Op::Select(c, zero, d))))];
                }
                Op::WithSlope(_, slope, by) => flows[0] = Some((by, self.push(Op::Mul(d, slope)))),
            }
            for (operand, flow) in flows.into_iter().flatten() {
                if reached[operand as usize] {
                    adjoint[operand as usize] = self.push(Op::Add(adjoint[operand as usize], flow));
                }
            }
        }
        wrt.iter().map(|&x| adjoint[x as usize]).collect()
    }

    /// The same graph with input `slot` fixed to a constant and folded, and where `outputs` are in it. The other inputs
    /// keep their ids if they were recorded first, in the order of their slots.
    pub fn with_input(&self, slot: u8, value: f64, outputs: &[Id]) -> (Graph, Vec<Id>) {
        self.rewritten(outputs, |graph, op| match op {
            Op::Input(s) if s == slot => graph.lit(value),
            op => graph.push(op),
        })
    }

    /// The same values without slopes of their own: the graph that is to be run, and where `outputs` are in it. Inputs keep
    /// their ids as in [`Graph::with_input`].
    pub fn without_slopes(&self, outputs: &[Id]) -> (Graph, Vec<Id>) {
        self.rewritten(outputs, |graph, op| match op {
            Op::WithSlope(value, ..) => value,
            op => graph.push(op),
        })
    }

    /// The graph that `rewrite` makes of the operations in their order, and where `outputs` are in it.
    fn rewritten(&self, outputs: &[Id], mut rewrite: impl FnMut(&mut Graph, Op) -> Id) -> (Graph, Vec<Id>) {
        let mut graph = Graph::default();
        let inputs = self.ops.iter().take_while(|op| matches!(op, Op::Input(_))).count();
        for &op in &self.ops[..inputs] {
            graph.insert(op);
        }
        let mut place: Vec<Id> = Vec::with_capacity(self.ops.len());
        for op in &self.ops {
            let id = rewrite(&mut graph, op.moved(|id| place[id as usize]));
            place.push(id);
        }
        (graph, outputs.iter().map(|&id| place[id as usize]).collect())
    }

    /// For each operation, whether its value depends on one of `sources`.
    pub fn reached(&self, sources: &[Id]) -> Vec<bool> {
        let mut reached = vec![false; self.ops.len()];
        for &source in sources {
            reached[source as usize] = true;
        }
        for (id, op) in self.ops.iter().enumerate() {
            reached[id] = reached[id] || op.operands().any(|operand| reached[operand as usize]);
        }
        reached
    }
}

/// Holds the graph while a formula records itself.
#[derive(Debug, Default)]
pub struct Recorder {
    graph: RefCell<Graph>,
}

impl Recorder {
    /// An empty recorder.
    pub fn new() -> Recorder {
        Recorder::default()
    }
    /// The number that stands for input `slot`.
    pub fn input(&self, slot: u8) -> Node<'_> {
        self.node(Op::Input(slot))
    }
    /// The id of a node, recording it if it is a bare literal.
    pub fn id(&self, node: Node<'_>) -> Id {
        match node.0 {
            Value::Literal(x) => self.graph.borrow_mut().lit(x),
            Value::Recorded(_, id) => id,
        }
    }
    /// The number that stands for `id` of this recorder's graph.
    pub fn at(&self, id: Id) -> Node<'_> {
        Node(Value::Recorded(self, id))
    }
    /// Ends the recording.
    pub fn finish(self) -> Graph {
        self.graph.into_inner()
    }
    fn node(&self, op: Op) -> Node<'_> {
        let id = self.graph.borrow_mut().push(op);
        Node(Value::Recorded(self, id))
    }
}

/// A number that records what is done with it.
#[derive(Clone, Copy, Debug)]
pub struct Node<'g>(Value<'g>);

#[derive(Clone, Copy, Debug)]
enum Value<'g> {
    /// A constant that no graph has seen yet.
    Literal(f64),
    Recorded(&'g Recorder, Id),
}

impl<'g> Node<'g> {
    fn recorder(self) -> Option<&'g Recorder> {
        match self.0 {
            Value::Literal(_) => None,
            Value::Recorded(recorder, _) => Some(recorder),
        }
    }
    fn unary(self, op: fn(Id) -> Op, literal: fn(f64) -> f64) -> Node<'g> {
        match self.0 {
            Value::Literal(x) => Node(Value::Literal(literal(x))),
            Value::Recorded(recorder, id) => recorder.node(op(id)),
        }
    }
    fn binary(self, other: Node<'g>, op: fn(Id, Id) -> Op, literal: fn(f64, f64) -> f64) -> Node<'g> {
        match (self.0, other.0) {
            (Value::Literal(a), Value::Literal(b)) => Node(Value::Literal(literal(a, b))),
            _ => {
                let recorder = self.recorder().or(other.recorder()).expect("one side is recorded");
                recorder.node(op(recorder.id(self), recorder.id(other)))
            }
        }
    }
}

impl<'g> Add for Node<'g> {
    type Output = Node<'g>;
    fn add(self, o: Node<'g>) -> Node<'g> {
        self.binary(o, Op::Add, |a, b| a + b)
    }
}
impl<'g> Sub for Node<'g> {
    type Output = Node<'g>;
    fn sub(self, o: Node<'g>) -> Node<'g> {
        self.binary(o, Op::Sub, |a, b| a - b)
    }
}
impl<'g> Mul for Node<'g> {
    type Output = Node<'g>;
    fn mul(self, o: Node<'g>) -> Node<'g> {
        self.binary(o, Op::Mul, |a, b| a * b)
    }
}
impl<'g> Div for Node<'g> {
    type Output = Node<'g>;
    fn div(self, o: Node<'g>) -> Node<'g> {
        self.binary(o, Op::Div, |a, b| a / b)
    }
}
impl<'g> Neg for Node<'g> {
    type Output = Node<'g>;
    fn neg(self) -> Node<'g> {
        self.unary(Op::Neg, |a| -a)
    }
}

impl<'g> Real for Node<'g> {
    fn lit(x: f64) -> Node<'g> {
        Node(Value::Literal(x))
    }
    fn ln(self) -> Node<'g> {
        self.unary(Op::Ln, f64::ln)
    }
    fn exp(self) -> Node<'g> {
        self.unary(Op::Exp, f64::exp)
    }
    fn sqrt(self) -> Node<'g> {
        self.unary(Op::Sqrt, f64::sqrt)
    }
    fn pow(self, exponent: Node<'g>) -> Node<'g> {
        self.binary(exponent, Op::Pow, f64::powf)
    }
    fn max(self, other: Node<'g>) -> Node<'g> {
        self.binary(other, Op::Max, Real::max)
    }
    fn min(self, other: Node<'g>) -> Node<'g> {
        self.binary(other, Op::Min, Real::min)
    }
    fn abs(self) -> Node<'g> {
        self.unary(Op::Abs, f64::abs)
    }
    fn select(self, positive: Node<'g>, otherwise: Node<'g>) -> Node<'g> {
        if let Value::Literal(x) = self.0 {
            return if x > 0.0 {
                positive
            } else if x <= 0.0 {
                otherwise
            } else {
                Node::lit(f64::NAN)
            };
        }
        let recorder = self.recorder().expect("the condition is recorded");
        recorder.node(Op::Select(recorder.id(self), recorder.id(positive), recorder.id(otherwise)))
    }
    fn with_slope(self, slope: Node<'g>, by: Node<'g>) -> Node<'g> {
        match self.recorder().or(slope.recorder()).or(by.recorder()) {
            Some(recorder) => recorder.node(Op::WithSlope(recorder.id(self), recorder.id(slope), recorder.id(by))),
            None => self,
        }
    }
}
