//! The kernels as text: no driver is needed.

use super::complete::complete;
use super::fold::fold;
use super::geometry::Geometry;
use super::text::{self, Kernel};
use crate::plan::Plan;
use crate::problem::{Activation, Layout, Problem};
use crate::shape::Shape;
use crate::{DType, Objective};

fn plan(spec: &str, problem: &Problem) -> Plan {
    let objective: Objective = spec.parse().expect("a spec string");
    Plan::new(&objective, problem).unwrap_or_else(|e| panic!("{spec}, {problem:?}: {e}"))
}

fn problem(classes: usize, voxels: usize, layout: Layout) -> Problem {
    let activation = if classes == 1 { Activation::Sigmoid } else { Activation::Softmax };
    Problem::new(Shape::new(2, classes, [voxels]).expect("a shape")).prediction(DType::F32, activation).layout(layout)
}

#[test]
fn every_geometry_has_a_skeleton() {
    for spec in ["dice", "dice + bce", "generalized_dice + 0.5*focal + kappa"] {
        for classes in (1..200).chain([255, 256, 257, 511, 512, 513, 1000, 2048, 4096]) {
            for layout in [Layout::Planar, Layout::Interleaved] {
                for voxels in [63, 64] {
                    let problem = problem(classes, voxels, layout).hard_counts();
                    let plan = plan(spec, &problem);
                    let head = &plan.heads()[0];
                    let geometry = Geometry::new(head, 2);
                    let room = geometry.slots * geometry.team;
                    assert!(room >= classes as u32 && geometry.shared_bytes(Kernel::Reduce) <= 48 << 10);
                    text::voxels(head, &geometry, Kernel::Reduce, false).expect("it has a skeleton");
                }
            }
        }
    }
}

/// Every round of every block is another piece of the sample, and together they are all of it.
#[test]
fn rounds_cover_a_sample_once() {
    for (classes, voxels) in [(1, 1), (1, 1 << 20), (4, 1_000_003), (14, 96 * 96 * 96), (150, 1 << 14), (4096, 77)] {
        let plan = plan("dice", &problem(classes, voxels, Layout::Planar));
        let geometry = Geometry::new(&plan.heads()[0], 2);
        let params = geometry.params();
        let of_round = u64::from(geometry.threads() / geometry.team * geometry.width);
        let of_row = of_round * u64::from(params.rounds) * u64::from(params.runs);
        assert_eq!(geometry.rows(), (voxels as u64).div_ceil(of_row), "{geometry:?}");
        assert!(params.rounds * geometry.width <= 64, "{geometry:?}");
    }
}

#[test]
fn completed_kernels_hold_no_word_of_a_skeleton() {
    for (classes, layout) in [(1, Layout::Planar), (4, Layout::Planar), (5, Layout::Interleaved), (40, Layout::Planar)]
    {
        let plan = plan("dice + bce + focal", &problem(classes, 64, layout).mask().weights());
        let head = &plan.heads()[0];
        let geometry = Geometry::new(head, 2);
        let one_block = geometry.is_one_block().then_some(Kernel::OneBlock);
        assert_eq!(one_block.is_some(), classes <= 5, "{classes} classes");
        for kernel in [Kernel::Reduce, Kernel::Gradient, Kernel::OnePass].into_iter().chain(one_block) {
            let source = text::voxels(head, &geometry, kernel, false).expect("it has a skeleton");
            let text = complete(&source);
            assert!(!text.contains("SEGFUSE"), "{}", source.entry());
            assert!(text.contains(&format!(".entry {}(", source.entry())), "{}", source.entry());
            assert_eq!(fold(&text), text, "{}: what is folded has nothing more to fold", source.entry());
        }
    }
}

#[test]
fn folding() {
    let text = "\
.visible .entry k(
)
{
.reg .pred %p<4>;
.reg .b32 %r<9>;
.reg .f32 %f<4>;
mov.b32 %r1, 3;
setp.gt.s32 %p1, %r1, 2;
@%p1 bra $taken;
mov.f32 %f1, 0f00000000;
st.global.f32 [%rd1], %f1;
bra.uni $end;
$taken:
add.s32 %r2, %r1, 4;
setp.eq.s32 %p2, %r3, %r1;
selp.u32 %r4, 1, 0, %p2;
setp.ne.s32 %p3, %r4, 0;
@%p3 st.global.u32 [%rd1], %r2;
mul.f32 %f2, %f3, %f3;
bra.uni $end;
$end:
ret;
}
";
    let folded = "\
.visible .entry k(
)
{
.reg .pred %p<4>;
.reg .b32 %r<9>;
.reg .f32 %f<4>;
mov.b32 %r1, 3;
add.s32 %r2, 3, 4;
setp.eq.s32 %p2, %r3, 3;
@%p2 st.global.u32 [%rd1], %r2;
ret;
}
";
    // The constant itself is read by nobody any more.
    assert_eq!(fold(text), folded.replace("mov.b32 %r1, 3;\n", ""));
}
