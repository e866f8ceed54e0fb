//! Bytes → program → the same bytes; and what was accepted runs, alike in every number type.
#![no_main]

use libfuzzer_sys::arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use segfuse::spec::{Dual, Program};

/// Any bytes, or bytes whose header and length are right.
#[derive(Debug)]
struct Bytes {
    bytes: Vec<u8>,
    inputs: Vec<f64>,
}

impl<'a> Arbitrary<'a> for Bytes {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Bytes> {
        let inputs = (0..4).map(|_| u.arbitrary()).collect::<Result<_>>()?;
        if u.ratio(1, 8)? {
            return Ok(Bytes { bytes: u.arbitrary()?, inputs });
        }
        let counts: [u16; 5] = [
            u.int_in_range(0..=6)?,
            u.int_in_range(0..=6)?,
            u.int_in_range(0..=3)?,
            u.int_in_range(0..=24)?,
            u.int_in_range(0..=4)?,
        ];
        let mut bytes = b"SFP1".to_vec();
        counts.iter().for_each(|count| bytes.extend(count.to_le_bytes()));
        for _ in 0..counts[2] {
            bytes.extend(u.arbitrary::<f64>()?.to_le_bytes());
        }
        // Mostly what is there; a register once it is written.
        let operand = |u: &mut Unstructured<'_>, written: &[u8]| -> Result<[u8; 2]> {
            let kind = u.int_in_range(0..=2)?;
            let index = match kind {
                _ if u.ratio(1, 64)? => u.arbitrary()?,
                0 if !written.is_empty() => *u.choose(written)?,
                0 => 0,
                1 => u.int_in_range(0..=counts[0].saturating_sub(1) as u8)?,
                _ => u.int_in_range(0..=counts[2].saturating_sub(1) as u8)?,
            };
            Ok([kind, index])
        };
        let mut written = Vec::new();
        for _ in 0..counts[3] {
            let target = u.int_in_range(0..=counts[1].saturating_sub(1) as u8)?;
            written.retain(|&register| register != target);
            bytes.extend([u.int_in_range(1..=13)?, target]);
            for _ in 0..3 {
                bytes.extend(operand(u, &written)?);
            }
            written.push(target);
        }
        for _ in 0..counts[4] {
            bytes.extend(operand(u, &written)?);
        }
        Ok(Bytes { bytes, inputs })
    }
}

fn outputs(program: &Program, inputs: &[f64]) -> Vec<f64> {
    let mut results = vec![0.0; program.outputs().len()];
    program.run(inputs, &mut Vec::new(), &mut results);
    results
}

fn alike(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

fuzz_target!(|case: Bytes| {
    let Ok(program) = Program::decode(&case.bytes) else { return };
    assert_eq!(program.encode(), case.bytes);
    let inputs: Vec<f64> = case.inputs.iter().copied().cycle().take(program.inputs()).collect();
    let results = outputs(&program, &inputs);

    let duals: Vec<Dual> = inputs.iter().map(|&x| Dual::variable(x)).collect();
    let mut slopes = vec![Dual::constant(0.0); results.len()];
    program.run(&duals, &mut Vec::new(), &mut slopes);
    assert!(results.iter().zip(&slopes).all(|(&a, b)| alike(a, b.value)), "{results:?} {slopes:?}");

    // An input that no output depends on can be anything.
    let read = program.inputs_of(0..results.len());
    let other: Vec<f64> = inputs.iter().zip(&read).map(|(&x, &read)| if read { x } else { x + 1.0 }).collect();
    assert!(results.iter().zip(outputs(&program, &other)).all(|(&a, b)| alike(a, b)), "{}", program.disassemble());
});
