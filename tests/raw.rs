//! The CPU backend by address: the same bits as by slices, and every misuse that can be seen is refused.
#![cfg(feature = "cpu")]

use segfuse::cpu::{Device, Executor, RawBuffers};
use segfuse::{DType, Error, Inputs, Map, Plan, Problem, Shape};

const VOXELS: usize = 37;
const CLASSES: usize = 3;

fn executor(change: impl Fn(Problem) -> Problem) -> Executor {
    let problem = change(Problem::new(Shape::new(1, CLASSES, [VOXELS]).expect("a shape")));
    Device::new().prepare(&Plan::new(&"dice + ce".parse().expect("a spec"), &problem).expect("a plan"))
}

fn logits() -> Vec<f32> {
    (0..CLASSES * VOXELS).map(|i| ((i * 29 % 17) as f32 - 8.0) / 3.0).collect()
}

fn labels() -> Vec<u8> {
    (0..VOXELS).map(|i| (i * 5 % CLASSES) as u8).collect()
}

#[test]
fn same_bits_as_by_slices() {
    let (z, y) = (logits(), labels());
    let run = executor(|p| p);
    let mut by_slice = vec![0.0f32; z.len()];
    let slices = run.forward_backward(&[Inputs::new(&z, &y)], &mut [(&mut by_slice).into()], None).expect("it fits");
    let mut apart = vec![f32::NAN; z.len()];
    let buffers = RawBuffers::new(z.as_ptr().cast(), y.as_ptr(), apart.as_mut_ptr().cast());
    // SAFETY: the vectors hold as many elements as the shape says, and live through the call.
    let raw = unsafe { run.forward_backward_raw(&[buffers], None) }.expect("it fits");
    assert_eq!((slices, &by_slice), (raw, &apart));
    let mut in_place = z.clone();
    let address = in_place.as_mut_ptr().cast::<u8>();
    // SAFETY: as above; the gradient is the prediction's own buffer.
    unsafe { run.forward_backward_raw(&[RawBuffers::new(address, y.as_ptr(), address)], None) }.expect("it fits");
    assert_eq!(by_slice, in_place);
}

#[test]
fn same_bits_stage_by_stage() {
    let (z, y) = (logits(), labels());
    let run = executor(|p| p);
    let mut by_slice = vec![0.0f32; z.len()];
    let whole =
        run.forward_backward(&[Inputs::new(&z, &y)], &mut [(&mut by_slice).into()], Some(&[0.5])).expect("it fits");
    let mut in_place = z.clone();
    let address = in_place.as_mut_ptr().cast::<u8>();
    let buffers = RawBuffers::new(address, y.as_ptr(), address);
    let reading = RawBuffers { gradient: std::ptr::null_mut(), ..buffers };
    // SAFETY: the vectors hold as many elements as the shape says, and live through the calls.
    let (forward, table) = unsafe { (run.forward_raw(&[reading]), run.reduce_raw(0, &reading)) };
    let (finished, coefficients) = run.finish(&[table.expect("it fits")]).expect("its own moments");
    // SAFETY: as above; the gradient is the prediction's own buffer.
    unsafe { run.gradient_raw(0, &buffers, &coefficients[0], Some(&[0.5])) }.expect("it fits");
    assert_eq!((forward.as_ref(), &finished), (Ok(&whole), &whole));
    assert_eq!(by_slice, in_place);
    // SAFETY: nothing is read or written: there is no second head.
    let error = unsafe { run.reduce_raw(1, &reading) }.expect_err("misuse");
    assert_eq!(error, Error::OtherPlan { what: "head numbers", need: 0, got: 1 });
}

#[test]
fn refused() {
    let (mut z, mut y, weights) = (logits(), labels(), vec![1.0f32; CLASSES * VOXELS]);
    let before = (z.clone(), y.clone());
    let mut gradient = vec![7.0f32; z.len() + 1];
    let (zp, yp): (*mut u8, *mut u8) = (z.as_mut_ptr().cast(), y.as_mut_ptr());
    let (gp, wp): (*mut u8, *const u8) = (gradient.as_mut_ptr().cast(), weights.as_ptr().cast());
    let null = std::ptr::null_mut();
    let plain = executor(|p| p);
    // SAFETY: every address that is read or written is one of the vectors above, which are long enough; the misuses are
    // refused before anything is touched, as asserted below.
    let error = |run: &Executor, b: RawBuffers| unsafe { run.forward_backward_raw(&[b], None) }.expect_err("misuse");
    let good = RawBuffers::new(zp, yp, gp);
    assert_eq!(error(&plain, RawBuffers::new(null, yp, gp)), Error::BufferMissing { role: "the prediction" });
    assert_eq!(error(&plain, RawBuffers::new(zp, null, gp)), Error::BufferMissing { role: "the target" });
    assert_eq!(error(&plain, RawBuffers::new(zp, yp, null)), Error::BufferMissing { role: "the gradient" });
    assert_eq!(error(&plain, RawBuffers { mask: yp, ..good }), Error::BufferUnexpected { role: "the mask" });
    let masked = executor(Problem::mask);
    assert_eq!(error(&masked, good), Error::BufferMissing { role: "the mask" });
    let mapped = executor(|p| p.map(Map::PerClass));
    assert_eq!(error(&mapped, good), Error::BufferMissing { role: "the map" });
    let odd = gp.wrapping_add(2);
    assert_eq!(
        error(&plain, RawBuffers { gradient: odd, ..good }),
        Error::BufferAlignment { role: "the gradient", need: 4, address: odd as usize }
    );
    // One element on: it shares all but one with the prediction.
    assert_eq!(
        error(&plain, RawBuffers { gradient: zp.wrapping_add(4), ..good }),
        Error::Overlap { with: "the prediction" }
    );
    let weighted = executor(Problem::weights);
    let over = RawBuffers { weights: wp, gradient: wp.cast_mut(), ..good };
    assert_eq!(error(&weighted, over), Error::Overlap { with: "the voxel weights" });
    // In place asks for the same type.
    let half = executor(|p| p.prediction(DType::F16, segfuse::Activation::Softmax).gradient(DType::F32));
    assert_eq!(error(&half, RawBuffers::new(zp, yp, zp)), Error::Overlap { with: "the prediction" });
    assert_eq!((z, y), before);
    assert!(gradient.iter().all(|x| *x == 7.0));
}
