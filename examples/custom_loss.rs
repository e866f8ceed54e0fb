//! A loss of your own: written once, differentiated and scheduled by the library.
//!
//! The noise-robust Dice loss (Wang et al. 2020, doi:10.1109/TMI.2020.3000314): Σ|p − g|^γ / (Σp² + Σg² + ε).
//!
//! `cargo run --example custom_loss`

use segfuse::loss::{Ce, Term};
use segfuse::spec::{Formula, Moments, Real, Scope, Voxel};
use segfuse::{Inputs, Plan, Problem, Runtime, Shape};

struct NoiseRobustDice {
    gamma: f64,
    smooth: f64,
}

impl Formula for NoiseRobustDice {
    fn scope(&self) -> Scope {
        Scope::Group
    }
    // |p − g|^γ is no sum that the library keeps by itself, so it is a pixel term. The floor keeps its slope finite at p = g.
    fn pixel<R: Real>(&self, v: &Voxel<R>) -> Vec<R> {
        vec![(v.p() - v.g()).abs().floor().pow(R::lit(self.gamma))]
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        vec![m.pixel(0) / (m.pp() + m.gg() + R::lit(self.smooth))]
    }
}

fn main() -> Result<(), segfuse::Error> {
    let robust = NoiseRobustDice { gamma: 1.5, smooth: 1e-5 };
    let objective = Term::custom("noise_robust_dice", robust).background(false) + 0.5 * Ce::default();

    // Two samples of three classes on a 4×4 grid, from a formula instead of a network.
    let shape = Shape::new(2, 3, [4, 4])?;
    let logits: Vec<f32> = (0..shape.elements()).map(|i| ((i * 37 % 23) as f32 - 11.0) / 4.0).collect();
    let labels: Vec<u8> = (0..shape.all_voxels()).map(|i| (i * 7 % 3) as u8).collect();

    let plan = Plan::new(&objective, &Problem::new(shape))?;
    println!("{}\n", plan.explain());
    let runtime = Runtime::auto()?;
    let (evaluation, gradients) = runtime.evaluate(&plan, &[Inputs::new(&logits, &labels)])?;
    for term in &evaluation.heads[0].terms {
        println!("{:>6} × {:<20} = {:.6}", term.weight, term.name, term.values[0]);
    }
    println!("loss {:.6}", evaluation.loss());

    // The derivative that nobody typed, against a central difference.
    let step = 1e-2f32;
    let loss_at = |delta: f32| {
        let mut moved = logits.clone();
        moved[5] += delta;
        runtime.forward(&plan, &[Inputs::new(&moved, &labels)]).map(|e| e.loss())
    };
    let difference = (loss_at(step)? - loss_at(-step)?) / f64::from(2.0 * step);
    println!("slope at element 5: {:.6}, by differences {difference:.6}", gradients[0].to_f32()[5]);
    Ok(())
}
