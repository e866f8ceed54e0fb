//! Every opcode of arithmetic against the host's, over values at the edges of its types.

mod common;

use common::*;
use half::{bf16, f16};
use softcuda::Report;

/// Runs an instruction once for each row of operands, which are bits. Types are `b16`, `b32`, `b64` or `pred`.
fn evaluate(instruction: &str, result: &str, operands: &[&str], rows: &[Vec<u64>]) -> Vec<u64> {
    let width = operands.len().max(1);
    let mut body = String::from(
        ".reg .b64 %at, %in, %out; .reg .b32 %t, %b, %n, %w; .reg .pred %d_pred; .reg .b16 %d_b16; .reg .b32 %d_b32; .reg .b64 %d_b64;\n\
         ld.param.u64 %in, [a0]; ld.param.u64 %out, [a1];\n\
         mov.u32 %t, %tid.x; mov.u32 %b, %ctaid.x; mov.u32 %n, %ntid.x; mad.lo.u32 %t, %b, %n, %t;\n",
    );
    body += &format!(
        "mul.wide.u32 %at, %t, {}; add.u64 %in, %in, %at; mul.wide.u32 %at, %t, 8; add.u64 %out, %out, %at;\n",
        8 * width
    );
    let mut list = vec![format!("%d_{result}")];
    for (index, ty) in operands.iter().enumerate() {
        body += &match *ty {
            "pred" => {
                format!(".reg .pred %x{index}; ld.global.b32 %w, [%in+{}]; setp.ne.b32 %x{index}, %w, 0;\n", 8 * index)
            }
            ty => format!(".reg .{ty} %x{index}; ld.global.{ty} %x{index}, [%in+{}];\n", 8 * index),
        };
        list.push(format!("%x{index}"));
    }
    body += &format!("{instruction} {};\n", list.join(", "));
    body += &match result {
        "pred" => "selp.b32 %w, 1, 0, %d_pred; st.global.b32 [%out], %w;\nret;".to_string(),
        ty => format!("st.global.{ty} [%out], %d_{ty};\nret;"),
    };
    let driver = driver();
    let context = Context::new();
    let function = context.function(&kernel(2, &body), "k");
    let block = 128;
    let mut bits: Vec<u64> =
        rows.iter().flat_map(|row| row.iter().copied().chain(std::iter::repeat(0)).take(width)).collect();
    let padded = rows.len().next_multiple_of(block);
    bits.resize(padded * width, 0);
    let (input, output) = (context.upload(&bits), context.upload(&vec![0u64; padded]));
    let ran = context.launch(function, (padded / block) as u32, block as u32, &[input, output]);
    ran.unwrap_or_else(|error| panic!("{instruction}: {error:?}"));
    let reports: Vec<Report> = driver.reports();
    assert!(reports.is_empty(), "{instruction}: {reports:?}");
    let mut results: Vec<u64> = context.download(output, padded);
    results.truncate(rows.len());
    results
}

/// All rows of `width` values.
fn all(values: &[u64], width: usize) -> Vec<Vec<u64>> {
    let mut rows = vec![Vec::new()];
    for _ in 0..width {
        rows =
            rows.into_iter().flat_map(|row| values.iter().map(move |value| [&row[..], &[*value]].concat())).collect();
    }
    rows
}

fn check(
    instruction: &str,
    result: &str,
    operands: &[&str],
    rows: &[Vec<u64>],
    same: fn(u64, u64) -> bool,
    want: &dyn Fn(&[u64]) -> u64,
) {
    let got = evaluate(instruction, result, operands, rows);
    for (row, got) in rows.iter().zip(got) {
        let want = want(row);
        assert!(same(got, want), "{instruction} of {row:x?}: got {got:#x}, want {want:#x}");
    }
}

fn exactly(got: u64, want: u64) -> bool {
    got == want
}
fn as_f32(got: u64, want: u64) -> bool {
    got == want || (f(got).is_nan() && f(want).is_nan())
}
fn as_f64(got: u64, want: u64) -> bool {
    got == want || (d(got).is_nan() && d(want).is_nan())
}
/// Approximate instructions are correctly rounded to one unit of the host's own function.
fn nearly_f32(got: u64, want: u64) -> bool {
    as_f32(got, want) || (got as u32).abs_diff(want as u32) <= 1
}
fn as_f16(got: u64, want: u64) -> bool {
    got == want || (h(got).is_nan() && h(want).is_nan())
}
fn as_bf16(got: u64, want: u64) -> bool {
    got == want || (b(got).is_nan() && b(want).is_nan())
}

fn f(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}
fn d(bits: u64) -> f64 {
    f64::from_bits(bits)
}
fn h(bits: u64) -> f16 {
    f16::from_bits(bits as u16)
}
fn b(bits: u64) -> bf16 {
    bf16::from_bits(bits as u16)
}
fn of_f32(value: f32) -> u64 {
    value.to_bits() as u64
}
fn flush(value: f32) -> f32 {
    if value.is_subnormal() { 0f32.copysign(value) } else { value }
}

const SINGLES: &[f32] = &[
    0.0,
    -0.0,
    1.0,
    -1.5,
    2.5,
    3.0,
    0.1,
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::MIN_POSITIVE,
    -1e-40,
    1e-45,
    f32::MAX,
    16777217.0,
    -2147483648.0,
    4294967296.0,
    1e19,
    -0.4999,
];
const DOUBLES: &[f64] = &[
    0.0,
    -0.0,
    1.0,
    -1.5,
    2.5,
    0.1,
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::MIN_POSITIVE,
    -5e-324,
    f64::MAX,
    1e300,
    -9.3e18,
    1.7e19,
    3e-310,
    65519.999,
    1e-8,
];

fn singles() -> Vec<u64> {
    SINGLES.iter().map(|value| value.to_bits() as u64).collect()
}
fn doubles() -> Vec<u64> {
    DOUBLES.iter().map(|value| value.to_bits()).collect()
}
fn words() -> Vec<u64> {
    [
        0,
        1,
        2,
        7,
        31,
        32,
        33,
        0x7f,
        0x80,
        0xff,
        0x8000,
        0xffff,
        0x1234_5678,
        0x7fff_ffff,
        0x8000_0000,
        0xdead_beef,
        0xffff_ffff,
    ]
    .into()
}
fn longs() -> Vec<u64> {
    [0, 1, 3, 40, 63, 64, 0xffff_ffff, 0x1_0000_0000, 0x1234_5678_9abc_def0, i64::MAX as u64, i64::MIN as u64, u64::MAX]
        .into()
}
fn halves() -> Vec<u64> {
    [0, 0x8000, 0x3c00, 0xbc00, 0x3555, 0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7e00, 1, 0x83ff, 0x0400, 0x6400, 0x4248]
        .into()
}

#[test]
fn single_precision() {
    type Two = fn(f32, f32) -> f32;
    let two: &[(&str, Two)] = &[
        ("add.f32", |a, b| a + b),
        ("add.rn.f32", |a, b| a + b),
        ("sub.f32", |a, b| a - b),
        ("mul.rn.f32", |a, b| a * b),
        ("div.rn.f32", |a, b| a / b),
        ("div.approx.f32", |a, b| a / b),
        ("div.full.f32", |a, b| a / b),
        ("min.f32", |a, b| {
            if a.is_nan() {
                b
            } else if b.is_nan() {
                a
            } else if a == b {
                if a.is_sign_negative() { a } else { b }
            } else {
                a.min(b)
            }
        }),
        ("max.f32", |a, b| {
            if a.is_nan() {
                b
            } else if b.is_nan() {
                a
            } else if a == b {
                if a.is_sign_negative() { b } else { a }
            } else {
                a.max(b)
            }
        }),
        ("min.NaN.f32", |a, b| {
            if a.is_nan() || b.is_nan() {
                f32::NAN
            } else if a == b {
                f32::from_bits(a.to_bits() | b.to_bits())
            } else {
                a.min(b)
            }
        }),
        ("max.NaN.f32", |a, b| {
            if a.is_nan() || b.is_nan() {
                f32::NAN
            } else if a == b {
                f32::from_bits(a.to_bits() & b.to_bits())
            } else {
                a.max(b)
            }
        }),
        ("copysign.f32", |a, b| b.copysign(a)),
        ("add.ftz.f32", |a, b| flush(flush(a) + flush(b))),
        ("mul.ftz.f32", |a, b| flush(flush(a) * flush(b))),
        ("mul.sat.f32", |a, b| if a * b > 0.0 { (a * b).min(1.0) } else { 0.0 }),
    ];
    for (instruction, want) in two {
        check(instruction, "b32", &["b32", "b32"], &all(&singles(), 2), as_f32, &|row| {
            of_f32(want(f(row[0]), f(row[1])))
        });
    }
    for instruction in ["fma.rn.f32", "mad.rn.f32"] {
        check(instruction, "b32", &["b32"; 3], &all(&singles(), 3), as_f32, &|row| {
            of_f32(f(row[0]).mul_add(f(row[1]), f(row[2])))
        });
    }
    type One = fn(f32) -> f32;
    let one: &[(&str, One)] = &[
        ("abs.f32", f32::abs),
        ("neg.f32", |a| -a),
        ("sqrt.rn.f32", f32::sqrt),
        ("sqrt.approx.f32", f32::sqrt),
        ("rcp.rn.f32", |a| 1.0 / a),
        ("rcp.approx.ftz.f32", |a| flush(1.0 / flush(a))),
        ("abs.ftz.f32", |a| flush(a).abs()),
    ];
    for (instruction, want) in one {
        check(instruction, "b32", &["b32"], &all(&singles(), 1), as_f32, &|row| of_f32(want(f(row[0]))));
    }
    let nearly: &[(&str, One)] = &[
        ("rsqrt.approx.f32", |a| (1.0 / (a as f64).sqrt()) as f32),
        ("ex2.approx.f32", |a| (a as f64).exp2() as f32),
        ("ex2.approx.ftz.f32", |a| flush((flush(a) as f64).exp2() as f32)),
        ("lg2.approx.f32", |a| (a as f64).log2() as f32),
        ("sin.approx.f32", |a| (a as f64).sin() as f32),
        ("cos.approx.f32", |a| (a as f64).cos() as f32),
        ("tanh.approx.f32", |a| (a as f64).tanh() as f32),
    ];
    for (instruction, want) in nearly {
        check(instruction, "b32", &["b32"], &all(&singles(), 1), nearly_f32, &|row| of_f32(want(f(row[0]))));
    }
}

#[test]
fn double_precision() {
    type Two = fn(f64, f64) -> f64;
    let two: &[(&str, Two)] = &[
        ("add.f64", |a, b| a + b),
        ("add.rn.f64", |a, b| a + b),
        ("sub.f64", |a, b| a - b),
        ("mul.f64", |a, b| a * b),
        ("div.rn.f64", |a, b| a / b),
        ("copysign.f64", |a, b| b.copysign(a)),
    ];
    for (instruction, want) in two {
        check(instruction, "b64", &["b64"; 2], &all(&doubles(), 2), as_f64, &|row| {
            want(d(row[0]), d(row[1])).to_bits()
        });
    }
    check("min.f64", "b64", &["b64"; 2], &all(&doubles(), 2), as_f64, &|row| {
        let (a, b) = (d(row[0]), d(row[1]));
        let low = if a == b { f64::from_bits(a.to_bits() | b.to_bits()) } else { a.min(b) };
        if a.is_nan() {
            b
        } else if b.is_nan() {
            a
        } else {
            low
        }
        .to_bits()
    });
    check("fma.rn.f64", "b64", &["b64"; 3], &all(&doubles()[..12], 3), as_f64, &|row| {
        d(row[0]).mul_add(d(row[1]), d(row[2])).to_bits()
    });
    for (instruction, want) in [
        ("sqrt.rn.f64", f64::sqrt as fn(f64) -> f64),
        ("abs.f64", f64::abs),
        ("neg.f64", |a| -a),
        ("rcp.rn.f64", |a| 1.0 / a),
    ] {
        check(instruction, "b64", &["b64"], &all(&doubles(), 1), as_f64, &|row| want(d(row[0])).to_bits());
    }
}

/// A result that is rounded in a direction lies on that side of the exact one, and its neighbour on the other.
#[test]
fn directed_rounding() {
    let values: Vec<f32> = vec![1.0, -1.0, 0.1, 3.0, -7.7, 1.0 / 3.0, 1e-3, 12345.678, -0.9999999, 8388609.0];
    let bits: Vec<u64> = values.iter().map(|value| value.to_bits() as u64).collect();
    type Exact = fn(f64, f64) -> f64;
    // Sums and products of these are exact in double precision; of quotients only the side is needed, which survives one rounding.
    let operations: &[(&str, Exact)] =
        &[("add", |a, b| a + b), ("sub", |a, b| a - b), ("mul", |a, b| a * b), ("div", |a, b| a / b)];
    for (operation, exact) in operations {
        for direction in ["rz", "rm", "rp"] {
            let rows = all(&bits, 2);
            let got = evaluate(&format!("{operation}.{direction}.f32"), "b32", &["b32"; 2], &rows);
            for (row, got) in rows.iter().zip(got) {
                let (exact, got) = (exact(f(row[0]) as f64, f(row[1]) as f64), f(got));
                let down = direction == "rm" || (direction == "rz" && exact > 0.0);
                let fits = if down {
                    got as f64 <= exact && exact < got.next_up() as f64
                } else {
                    got as f64 >= exact && exact > got.next_down() as f64
                };
                assert!(
                    fits || got as f64 == exact,
                    "{operation}.{direction} of {:?}: {got}, exact {exact}",
                    (f(row[0]), f(row[1]))
                );
            }
        }
    }
    // In double precision, the directions enclose the nearest result, one step apart where it is inexact.
    for operation in ["add", "mul", "div"] {
        let rows = all(&[1.0f64, 3.0, 0.1, -7.7, 1e10, 1e-20].map(f64::to_bits), 2);
        let run = |direction: &str| evaluate(&format!("{operation}.{direction}.f64"), "b64", &["b64"; 2], &rows);
        let (near, down, up, zero) = (run("rn"), run("rm"), run("rp"), run("rz"));
        for at in 0..rows.len() {
            let (near, down, up, zero) = (d(near[at]), d(down[at]), d(up[at]), d(zero[at]));
            assert!(
                down <= near && near <= up && (down == up || down.next_up() == up),
                "{operation} of {:?}",
                rows[at]
            );
            assert_eq!(zero, if near > 0.0 { down } else { up });
        }
    }
    let third = evaluate("div.rm.f64", "b64", &["b64"; 2], &[vec![1f64.to_bits(), 3f64.to_bits()]])[0];
    let above = evaluate("div.rp.f64", "b64", &["b64"; 2], &[vec![1f64.to_bits(), 3f64.to_bits()]])[0];
    assert_eq!(above - third, 1);
    check("add.rm.f32", "b32", &["b32"; 2], &[vec![of_f32(1.0), of_f32(-1.0)]], exactly, &|_| of_f32(-0.0));
}

#[test]
fn integers() {
    type Two = fn(u32, u32) -> u32;
    let two: &[(&str, Two)] = &[
        ("add.u32", u32::wrapping_add),
        ("sub.s32", u32::wrapping_sub),
        ("add.sat.s32", |a, b| (a as i32).saturating_add(b as i32) as u32),
        ("sub.sat.s32", |a, b| (a as i32).saturating_sub(b as i32) as u32),
        ("mul.lo.u32", u32::wrapping_mul),
        ("mul.lo.s32", u32::wrapping_mul),
        ("mul.hi.u32", |a, b| ((a as u64 * b as u64) >> 32) as u32),
        ("mul.hi.s32", |a, b| ((a as i32 as i64 * b as i32 as i64) >> 32) as u32),
        ("div.u32", |a, b| a.checked_div(b).unwrap_or(u32::MAX)),
        ("div.s32", |a, b| if b == 0 { u32::MAX } else { (a as i32).wrapping_div(b as i32) as u32 }),
        ("rem.u32", |a, b| if b == 0 { a } else { a % b }),
        ("rem.s32", |a, b| if b == 0 { a } else { (a as i32).wrapping_rem(b as i32) as u32 }),
        ("min.u32", Ord::min),
        ("max.s32", |a, b| (a as i32).max(b as i32) as u32),
        ("min.s32", |a, b| (a as i32).min(b as i32) as u32),
        ("and.b32", |a, b| a & b),
        ("or.b32", |a, b| a | b),
        ("xor.b32", |a, b| a ^ b),
        ("shl.b32", |a, b| if b > 31 { 0 } else { a << b }),
        ("shr.u32", |a, b| if b > 31 { 0 } else { a >> b }),
        ("shr.s32", |a, b| ((a as i32) >> b.min(31)) as u32),
    ];
    for (instruction, want) in two {
        check(instruction, "b32", &["b32"; 2], &all(&words(), 2), exactly, &|row| {
            want(row[0] as u32, row[1] as u32) as u64
        });
    }
    type One = fn(u32) -> u32;
    let one: &[(&str, One)] = &[
        ("not.b32", |a| !a),
        ("cnot.b32", |a| (a == 0) as u32),
        ("neg.s32", u32::wrapping_neg),
        ("abs.s32", |a| (a as i32).wrapping_abs() as u32),
        ("popc.b32", u32::count_ones),
        ("clz.b32", u32::leading_zeros),
        ("brev.b32", u32::reverse_bits),
        ("bfind.u32", |a| a.checked_ilog2().unwrap_or(u32::MAX)),
        ("bfind.shiftamt.u32", |a| a.checked_ilog2().map_or(u32::MAX, |at| 31 - at)),
        ("bfind.s32", |a| if (a as i32) < 0 { !a } else { a }.checked_ilog2().unwrap_or(u32::MAX)),
    ];
    for (instruction, want) in one {
        check(instruction, "b32", &["b32"], &all(&words(), 1), exactly, &|row| want(row[0] as u32) as u64);
    }
    type Three = fn(u32, u32, u32) -> u32;
    let three: &[(&str, Three)] = &[
        ("mad.lo.s32", |a, b, c| a.wrapping_mul(b).wrapping_add(c)),
        ("mad.hi.u32", |a, b, c| (((a as u64 * b as u64) >> 32) as u32).wrapping_add(c)),
        ("mad.hi.s32", |a, b, c| (((a as i32 as i64 * b as i32 as i64) >> 32) as u32).wrapping_add(c)),
        ("sad.u32", |a, b, c| a.abs_diff(b).wrapping_add(c)),
        ("sad.s32", |a, b, c| (a as i32).abs_diff(b as i32).wrapping_add(c)),
        ("shf.l.wrap.b32", |a, b, c| if c & 31 == 0 { b } else { b << (c & 31) | a >> (32 - (c & 31)) }),
        ("shf.l.clamp.b32", |a, b, c| {
            if c == 0 {
                b
            } else if c > 31 {
                a
            } else {
                b << c | a >> (32 - c)
            }
        }),
        ("shf.r.wrap.b32", |a, b, c| if c & 31 == 0 { a } else { a >> (c & 31) | b << (32 - (c & 31)) }),
        ("shf.r.clamp.b32", |a, b, c| {
            if c == 0 {
                a
            } else if c > 31 {
                b
            } else {
                a >> c | b << (32 - c)
            }
        }),
        ("bfe.u32", |a, at, width| {
            let (at, width) = (at & 255, width & 255);
            (0..width.min(32))
                .filter(|bit| at + bit < 32 && a >> (at + bit) & 1 == 1)
                .fold(0, |sum, bit| sum | 1 << bit)
        }),
        ("bfe.s32", |a, at, width| {
            let (at, width) = (at & 255, width & 255);
            if width == 0 {
                return 0;
            }
            let sign = a >> (at + width - 1).min(31) & 1;
            (0..32).fold(0, |sum, bit| {
                sum | (if bit < width && at + bit < 32 { a >> (at + bit) & 1 } else { sign }) << bit
            })
        }),
        ("prmt.b32", |a, b, selector| {
            let bytes = [a.to_le_bytes(), b.to_le_bytes()].concat();
            u32::from_le_bytes(std::array::from_fn(|at| {
                let choice = selector >> (4 * at) & 15;
                let byte = bytes[choice as usize & 7];
                if choice < 8 {
                    byte
                } else if byte >= 128 {
                    255
                } else {
                    0
                }
            }))
        }),
        ("dp4a.s32.u32", |a, b, c| {
            let sum: i32 = a.to_le_bytes().iter().zip(b.to_le_bytes()).map(|(a, b)| *a as i8 as i32 * b as i32).sum();
            (sum as u32).wrapping_add(c)
        }),
    ];
    for (instruction, want) in three {
        check(instruction, "b32", &["b32"; 3], &all(&words(), 3), exactly, &|row| {
            want(row[0] as u32, row[1] as u32, row[2] as u32) as u64
        });
    }
    check("bfi.b32", "b32", &["b32"; 4], &all(&words()[..12], 4), exactly, &|row| {
        let (field, into, at, width) = (row[0], row[1], row[2] & 255, row[3] & 255);
        (0..32).fold(0, |sum, bit| {
            sum | (if bit >= at && bit < at + width { field >> (bit - at) & 1 } else { into >> bit & 1 }) << bit
        })
    });
    for table in [0x96u64, 0xe8, 0x80, 0xfe, 0x1b] {
        let rows: Vec<Vec<u64>> = all(&words()[10..], 3).into_iter().map(|row| [&row[..], &[table]].concat()).collect();
        check("lop3.b32", "b32", &["b32"; 4], &rows, exactly, &|row| {
            (0..32).fold(0, |sum, bit| {
                let at = |word: u64| word >> bit & 1;
                sum | (table >> (4 * at(row[0]) + 2 * at(row[1]) + at(row[2])) & 1) << bit
            })
        });
    }
}

#[test]
fn wide_and_narrow_integers() {
    type Two = fn(u64, u64) -> u64;
    let two: &[(&str, Two)] = &[
        ("add.s64", u64::wrapping_add),
        ("sub.u64", u64::wrapping_sub),
        ("mul.lo.s64", u64::wrapping_mul),
        ("mul.hi.u64", |a, b| ((a as u128 * b as u128) >> 64) as u64),
        ("mul.hi.s64", |a, b| ((a as i64 as i128 * b as i64 as i128) >> 64) as u64),
        ("div.s64", |a, b| if b == 0 { u64::MAX } else { (a as i64).wrapping_div(b as i64) as u64 }),
        ("div.u64", |a, b| a.checked_div(b).unwrap_or(u64::MAX)),
        ("rem.s64", |a, b| if b == 0 { a } else { (a as i64).wrapping_rem(b as i64) as u64 }),
        ("rem.u64", |a, b| if b == 0 { a } else { a % b }),
        ("min.s64", |a, b| (a as i64).min(b as i64) as u64),
        ("max.u64", Ord::max),
        ("and.b64", |a, b| a & b),
        ("or.b64", |a, b| a | b),
        ("xor.b64", |a, b| a ^ b),
    ];
    for (instruction, want) in two {
        check(instruction, "b64", &["b64"; 2], &all(&longs(), 2), exactly, &|row| want(row[0], row[1]));
    }
    type Shift = fn(u64, u32) -> u64;
    let shifts: &[(&str, Shift)] = &[
        ("shl.b64", |a, by| if by > 63 { 0 } else { a << by }),
        ("shr.u64", |a, by| if by > 63 { 0 } else { a >> by }),
        ("shr.s64", |a, by| ((a as i64) >> by.min(63)) as u64),
    ];
    for (instruction, want) in shifts {
        check(instruction, "b64", &["b64", "b32"], &all(&longs(), 2), exactly, &|row| want(row[0], row[1] as u32));
    }
    check("popc.b64", "b32", &["b64"], &all(&longs(), 1), exactly, &|row| row[0].count_ones() as u64);
    check("clz.b64", "b32", &["b64"], &all(&longs(), 1), exactly, &|row| row[0].leading_zeros() as u64);
    check("mul.wide.u32", "b64", &["b32"; 2], &all(&words(), 2), exactly, &|row| row[0] * row[1]);
    check("mul.wide.s32", "b64", &["b32"; 2], &all(&words(), 2), exactly, &|row| {
        (row[0] as i32 as i64 * row[1] as i32 as i64) as u64
    });
    check("mul.wide.s16", "b32", &["b16"; 2], &all(&words(), 2), exactly, &|row| {
        (row[0] as i16 as i32 * row[1] as i16 as i32) as u32 as u64
    });
    check("mad.wide.s32", "b64", &["b32", "b32", "b64"], &all(&longs(), 3), exactly, &|row| {
        (row[0] as i32 as i64 * row[1] as i32 as i64).wrapping_add(row[2] as i64) as u64
    });
    type Short = fn(u16, u16) -> u16;
    let short: &[(&str, Short)] = &[
        ("add.u16", u16::wrapping_add),
        ("sub.s16", u16::wrapping_sub),
        ("mul.lo.u16", u16::wrapping_mul),
        ("mul.hi.s16", |a, b| ((a as i16 as i32 * b as i16 as i32) >> 16) as u16),
        ("min.s16", |a, b| (a as i16).min(b as i16) as u16),
        ("max.u16", Ord::max),
        ("and.b16", |a, b| a & b),
        ("xor.b16", |a, b| a ^ b),
        ("div.s16", |a, b| if b == 0 { u16::MAX } else { (a as i16).wrapping_div(b as i16) as u16 }),
    ];
    for (instruction, want) in short {
        check(instruction, "b16", &["b16"; 2], &all(&words(), 2), exactly, &|row| {
            want(row[0] as u16, row[1] as u16) as u64
        });
    }
    check("shr.s16", "b16", &["b16", "b32"], &all(&words(), 2), exactly, &|row| {
        ((row[0] as i16) >> row[1].min(15)) as u16 as u64
    });
    check(
        "shl.b16",
        "b16",
        &["b16", "b32"],
        &all(&words(), 2),
        exactly,
        &|row| if row[1] > 15 { 0 } else { (row[0] as u16) << row[1] } as u64,
    );
}

#[test]
fn halves_of_two_formats() {
    type Two = fn(f64, f64) -> f64;
    let two: &[(&str, Two)] = &[("add", |a, b| a + b), ("sub", |a, b| a - b), ("mul", |a, b| a * b)];
    for (operation, want) in two {
        check(&format!("{operation}.f16"), "b16", &["b16"; 2], &all(&halves(), 2), as_f16, &|row| {
            f16::from_f64(want(h(row[0]).to_f64(), h(row[1]).to_f64())).to_bits() as u64
        });
        let rows = all(&halves(), 2);
        // Sums of bfloat16 are exact in double precision only where the exponents are near; these are.
        let near: Vec<Vec<u64>> = rows
            .into_iter()
            .filter(|row| {
                row.iter().all(|bits| {
                    b(*bits).to_f64().abs() < 1e6 && (b(*bits).to_f64() == 0.0 || b(*bits).to_f64().abs() > 1e-6)
                })
            })
            .collect();
        check(&format!("{operation}.rn.bf16"), "b16", &["b16"; 2], &near, as_bf16, &|row| {
            bf16::from_f64(want(b(row[0]).to_f64(), b(row[1]).to_f64())).to_bits() as u64
        });
    }
    // A sum whose second rounding would go wrong: 1 + 2^-8 + 2^-30 lies above the middle of two neighbours.
    let tiny = bf16::from_f64(2f64.powi(-30)).to_bits() as u64;
    let (x, y) = (bf16::from_f64(2f64.powi(-8)).to_bits() as u64, bf16::from_f64(1.0).to_bits() as u64);
    check("fma.rn.bf16", "b16", &["b16"; 3], &[vec![x, y, y]], as_bf16, &|_| bf16::from_f64(1.0).to_bits() as u64);
    check(
        "fma.rn.bf16",
        "b16",
        &["b16"; 3],
        &[vec![tiny, y, bf16::from_f64(1.0 + 2f64.powi(-7)).to_bits() as u64]],
        as_bf16,
        &|row| row[2],
    );
    check("fma.rn.f16", "b16", &["b16"; 3], &all(&halves(), 3), as_f16, &|row| {
        let (a, b, c) = (h(row[0]).to_f64(), h(row[1]).to_f64(), h(row[2]).to_f64());
        // Rounded to odd where the sum is inexact, so that the second rounding is right.
        let (product, sum) = (a * b, a * b + c);
        let part = sum - product;
        let error = (product - (sum - part)) + (c - part);
        let odd = if error == 0.0 || !sum.is_finite() {
            sum
        } else {
            f64::from_bits((sum.to_bits() - (((error > 0.0) != (sum > 0.0)) as u64)) | 1)
        };
        f16::from_f64(odd).to_bits() as u64
    });
    check("max.f16x2", "b32", &["b32"; 2], &all(&[0x3c00_bc00, 0x7bff_0001, 0x8000_0000], 2), exactly, &|row| {
        let one = |shift: u32| {
            let (a, b) = ((row[0] >> shift) as u16, (row[1] >> shift) as u16);
            let (x, y) = (f16::from_bits(a), f16::from_bits(b));
            if x == y {
                a & b
            } else if x > y {
                a
            } else {
                b
            }
        };
        one(0) as u64 | (one(16) as u64) << 16
    });
    check("neg.bf16x2", "b32", &["b32"], &all(&words(), 1), exactly, &|row| row[0] ^ 0x8000_8000);
    check("mul.sat.f16", "b16", &["b16"; 2], &all(&halves(), 2), as_f16, &|row| {
        let product = h(row[0]).to_f64() * h(row[1]).to_f64();
        f16::from_f64(if product > 0.0 { product.min(1.0) } else { 0.0 }).to_bits() as u64
    });
}

#[test]
fn conversions() {
    let rows = all(&singles(), 1);
    type ToInteger = fn(f32) -> u64;
    let to_integers: &[(&str, &str, ToInteger)] = &[
        ("cvt.rzi.s32.f32", "b32", |a| a as i32 as u32 as u64),
        ("cvt.rzi.u32.f32", "b32", |a| a as u32 as u64),
        ("cvt.rni.s32.f32", "b32", |a| a.round_ties_even() as i32 as u32 as u64),
        ("cvt.rmi.s32.f32", "b32", |a| a.floor() as i32 as u32 as u64),
        ("cvt.rpi.s32.f32", "b32", |a| a.ceil() as i32 as u32 as u64),
        ("cvt.rzi.s64.f32", "b64", |a| if a.is_nan() { 1 << 63 } else { a as i64 as u64 }),
        ("cvt.rzi.u64.f32", "b64", |a| if a.is_nan() { 1 << 63 } else { a as u64 }),
        ("cvt.rzi.u16.f32", "b16", |a| a as u16 as u64),
        ("cvt.rzi.s16.f32", "b16", |a| a as i16 as u16 as u64),
    ];
    for (instruction, result, want) in to_integers {
        check(instruction, result, &["b32"], &rows, exactly, &|row| want(f(row[0])));
    }
    check("cvt.rzi.s32.f64", "b32", &["b64"], &all(&doubles(), 1), exactly, &|row| {
        if d(row[0]).is_nan() { 1 << 31 } else { d(row[0]) as i32 as u32 as u64 }
    });
    type One = fn(f32) -> f32;
    let of_floats: &[(&str, One)] = &[
        ("cvt.rni.f32.f32", f32::round_ties_even),
        ("cvt.rmi.f32.f32", f32::floor),
        ("cvt.rpi.f32.f32", f32::ceil),
        ("cvt.rzi.f32.f32", f32::trunc),
        ("cvt.sat.f32.f32", |a| if a > 0.0 { a.min(1.0) } else { 0.0 }),
        ("cvt.ftz.f32.f32", flush),
    ];
    for (instruction, want) in of_floats {
        check(instruction, "b32", &["b32"], &rows, as_f32, &|row| of_f32(want(f(row[0]))));
    }
    check("cvt.f64.f32", "b64", &["b32"], &rows, as_f64, &|row| (f(row[0]) as f64).to_bits());
    check("cvt.rn.f32.f64", "b32", &["b64"], &all(&doubles(), 1), as_f32, &|row| of_f32(d(row[0]) as f32));
    check("cvt.rn.f16.f32", "b16", &["b32"], &rows, as_f16, &|row| f16::from_f32(f(row[0])).to_bits() as u64);
    // `half` goes by way of single precision here, which would round the first of these twice.
    check("cvt.rn.f16.f64", "b16", &["b64"], &[vec![65519.999f64.to_bits()]], exactly, &|_| 0x7bff);
    let rows_of_doubles: Vec<Vec<u64>> = all(&doubles(), 1).into_iter().filter(|row| d(row[0]) != 65519.999).collect();
    check("cvt.rn.f16.f64", "b16", &["b64"], &rows_of_doubles, as_f16, &|row| {
        f16::from_f64(d(row[0])).to_bits() as u64
    });
    check("cvt.rn.bf16.f32", "b16", &["b32"], &rows, as_bf16, &|row| bf16::from_f32(f(row[0])).to_bits() as u64);
    let every: Vec<Vec<u64>> = (0..=u16::MAX as u64).map(|bits| vec![bits]).collect();
    check("cvt.f32.f16", "b32", &["b16"], &every, as_f32, &|row| of_f32(h(row[0]).to_f32()));
    check("cvt.f32.bf16", "b32", &["b16"], &every, as_f32, &|row| of_f32(b(row[0]).to_f32()));
    check(
        "cvt.rn.f16x2.f32",
        "b32",
        &["b32"; 2],
        &all(&singles(), 2),
        |got, want| as_f16(got & 0xffff, want & 0xffff) && as_f16(got >> 16, want >> 16),
        &|row| (f16::from_f32(f(row[0])).to_bits() as u64) << 16 | f16::from_f32(f(row[1])).to_bits() as u64,
    );
    type OfWord = fn(u32) -> u64;
    let of_words: &[(&str, &str, OfWord)] = &[
        ("cvt.rn.f32.s32", "b32", |a| of_f32(a as i32 as f32)),
        ("cvt.rn.f32.u32", "b32", |a| of_f32(a as f32)),
        ("cvt.rn.f64.s32", "b64", |a| (a as i32 as f64).to_bits()),
        ("cvt.u64.u32", "b64", |a| a as u64),
        ("cvt.s64.s32", "b64", |a| a as i32 as i64 as u64),
        ("cvt.u16.u32", "b16", |a| a as u16 as u64),
        ("cvt.s32.s8", "b32", |a| a as i8 as i32 as u32 as u64),
        ("cvt.u32.u8", "b32", |a| a as u8 as u64),
        ("cvt.s32.s16", "b32", |a| a as i16 as i32 as u32 as u64),
        ("cvt.sat.s16.s32", "b16", |a| (a as i32).clamp(-32768, 32767) as u16 as u64),
        ("cvt.sat.u8.s32", "b32", |a| (a as i32).clamp(0, 255) as u64),
    ];
    for (instruction, result, want) in of_words {
        check(instruction, result, &["b32"], &all(&words(), 1), exactly, &|row| want(row[0] as u32));
    }
    check("cvt.rn.f32.s64", "b32", &["b64"], &all(&longs(), 1), exactly, &|row| of_f32(row[0] as i64 as f32));
    check("cvt.rn.f32.u64", "b32", &["b64"], &all(&longs(), 1), exactly, &|row| of_f32(row[0] as f32));
    check("cvt.rn.f64.u64", "b64", &["b64"], &all(&longs(), 1), exactly, &|row| (row[0] as f64).to_bits());
    check("cvt.rz.f32.u64", "b32", &["b64"], &[vec![u64::MAX], vec![16777217], vec![16777219]], exactly, &|row| {
        of_f32(match row[0] {
            u64::MAX => 18446742974197923840.0,
            16777217 => 16777216.0,
            _ => 16777218.0,
        })
    });
    check("cvt.u32.u64", "b32", &["b64"], &all(&longs(), 1), exactly, &|row| row[0] & 0xffff_ffff);
}

#[test]
fn comparisons_and_choices() {
    let unordered = |a: f32, b: f32| a.is_nan() || b.is_nan();
    for (name, holds) in [
        ("eq", (|a, b| a == b) as fn(f32, f32) -> bool),
        ("lt", |a, b| a < b),
        ("le", |a, b| a <= b),
        ("gt", |a, b| a > b),
        ("ge", |a, b| a >= b),
    ] {
        let rows = all(&singles(), 2);
        check(&format!("setp.{name}.f32"), "pred", &["b32"; 2], &rows, exactly, &|row| {
            holds(f(row[0]), f(row[1])) as u64
        });
        check(&format!("setp.{name}u.f32"), "pred", &["b32"; 2], &rows, exactly, &|row| {
            (holds(f(row[0]), f(row[1])) || unordered(f(row[0]), f(row[1]))) as u64
        });
        check(&format!("setp.{name}.f64"), "pred", &["b64"; 2], &all(&doubles(), 2), exactly, &|row| {
            let (a, b) = (d(row[0]), d(row[1]));
            (match name {
                "eq" => a == b,
                "lt" => a < b,
                "le" => a <= b,
                "gt" => a > b,
                _ => a >= b,
            }) as u64
        });
    }
    let rows = all(&singles(), 2);
    check("setp.ne.f32", "pred", &["b32"; 2], &rows, exactly, &|row| {
        (f(row[0]) != f(row[1]) && !unordered(f(row[0]), f(row[1]))) as u64
    });
    check("setp.neu.f32", "pred", &["b32"; 2], &rows, exactly, &|row| (f(row[0]) != f(row[1])) as u64);
    check("setp.num.f32", "pred", &["b32"; 2], &rows, exactly, &|row| !unordered(f(row[0]), f(row[1])) as u64);
    check("setp.nan.f32", "pred", &["b32"; 2], &rows, exactly, &|row| unordered(f(row[0]), f(row[1])) as u64);
    check("setp.lt.ftz.f32", "pred", &["b32"; 2], &rows, exactly, &|row| (flush(f(row[0])) < flush(f(row[1]))) as u64);
    check("setp.lt.s32", "pred", &["b32"; 2], &all(&words(), 2), exactly, &|row| {
        ((row[0] as i32) < row[1] as i32) as u64
    });
    check("setp.hi.u32", "pred", &["b32"; 2], &all(&words(), 2), exactly, &|row| (row[0] > row[1]) as u64);
    check("setp.ge.s64", "pred", &["b64"; 2], &all(&longs(), 2), exactly, &|row| {
        (row[0] as i64 >= row[1] as i64) as u64
    });
    check("setp.lt.s16", "pred", &["b16"; 2], &all(&words(), 2), exactly, &|row| {
        ((row[0] as i16) < row[1] as i16) as u64
    });
    check("setp.gt.f16", "pred", &["b16"; 2], &all(&halves(), 2), exactly, &|row| (h(row[0]) > h(row[1])) as u64);
    let flags: Vec<Vec<u64>> = (0..8).map(|bits| vec![bits & 1, bits >> 1 & 1, bits >> 2 & 1]).collect();
    check("setp.lt.and.u32", "pred", &["b32", "b32", "pred"], &flags, exactly, &|row| {
        (row[0] < row[1] && row[2] == 1) as u64
    });
    check("setp.lt.xor.u32", "pred", &["b32", "b32", "pred"], &flags, exactly, &|row| {
        ((row[0] < row[1]) ^ (row[2] == 1)) as u64
    });
    check("and.pred", "pred", &["pred"; 2], &flags, exactly, &|row| row[0] & row[1]);
    check("xor.pred", "pred", &["pred"; 2], &flags, exactly, &|row| row[0] ^ row[1]);
    check("not.pred", "pred", &["pred"], &flags, exactly, &|row| 1 - row[0]);
    check("selp.b32", "b32", &["b32", "b32", "pred"], &flags, exactly, &|row| {
        if row[2] == 1 { row[0] } else { row[1] }
    });
    check("selp.f64", "b64", &["b64", "b64", "pred"], &flags, exactly, &|row| {
        if row[2] == 1 { row[0] } else { row[1] }
    });
    check("slct.f32.s32", "b32", &["b32"; 3], &all(&words(), 3), exactly, &|row| {
        if row[2] as i32 >= 0 { row[0] } else { row[1] }
    });
    check("slct.b32.f32", "b32", &["b32"; 3], &all(&singles(), 3), exactly, &|row| {
        if f(row[2]) >= 0.0 { row[0] } else { row[1] }
    });
    check("set.lt.u32.f32", "b32", &["b32"; 2], &rows, exactly, &|row| {
        if f(row[0]) < f(row[1]) { 0xffff_ffff } else { 0 }
    });
    check("set.ge.f32.s32", "b32", &["b32"; 2], &all(&words(), 2), exactly, &|row| {
        if row[0] as i32 >= row[1] as i32 { of_f32(1.0) } else { 0 }
    });
    check("testp.subnormal.f32", "pred", &["b32"], &all(&singles(), 1), exactly, &|row| {
        f(row[0]).is_subnormal() as u64
    });
    check("mov.b32", "b32", &["b32"], &all(&words(), 1), exactly, &|row| row[0]);
}
