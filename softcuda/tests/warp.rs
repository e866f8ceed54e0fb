//! What lanes do together: shuffles, votes, barriers that reduce, divergence, special registers, atomics.

mod common;

use common::*;

const START: &str = ".reg .b64 %in, %out, %it, %ot, %l<8>; .reg .b32 %t, %v, %r<16>; .reg .pred %p<8>;
ld.param.u64 %in, [a0]; ld.param.u64 %out, [a1]; mov.u32 %t, %tid.x;
mul.wide.u32 %it, %t, 4; add.u64 %ot, %out, %it; add.u64 %it, %in, %it; ld.global.u32 %v, [%it];
";

/// `%r1` of every thread, for a value `%v` of every thread.
fn run(body: &str, values: &[u32]) -> Vec<u32> {
    let text = kernel(2, &format!("{START}{body}\nst.global.u32 [%ot], %r1;\nret;"));
    let (output, reports) = run_on::<u32, u32>(&text, values.len() as u32, &[values], values.len());
    assert_eq!(reports, [], "{body}");
    output
}

fn values(len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| i.wrapping_mul(2_654_435_761) >> 27).collect()
}

#[test]
fn shuffles() {
    let v = values(32);
    // Mode, distance, clamp and mask of segments; the lane it comes from.
    type From = fn(usize, usize) -> Option<usize>;
    let cases: &[(&str, usize, u32, From)] = &[
        ("up", 3, 0, |lane, by| lane.checked_sub(by)),
        ("down", 3, 31, |lane, by| Some(lane + by).filter(|from| *from < 32)),
        ("bfly", 5, 31, |lane, by| Some(lane ^ by)),
        ("idx", 7, 31, |_, by| Some(by)),
        // Segments of eight lanes.
        ("up", 3, 24 << 8, |lane, by| (lane % 8).checked_sub(by).map(|from| lane / 8 * 8 + from)),
        ("down", 3, 24 << 8 | 7, |lane, by| Some(lane + by).filter(|_| lane % 8 + by < 8)),
        ("idx", 11, 24 << 8 | 7, |lane, by| Some(lane / 8 * 8 + by % 8)),
    ];
    for (mode, by, clamp, from) in cases {
        let body = format!("shfl.sync.{mode}.b32 %r1|%p1, %v, {by}, {clamp}, -1; @!%p1 add.u32 %r1, %r1, 1000;");
        let want: Vec<u32> = (0..32).map(|lane| from(lane, *by).map_or(v[lane] + 1000, |from| v[from])).collect();
        assert_eq!(run(&body, &v), want, "{mode} {by} {clamp:#x}");
    }
}

#[test]
fn votes_matches_and_reductions() {
    let v = values(32);
    let big = v.iter().enumerate().fold(0u32, |mask, (lane, v)| mask | ((*v > 12) as u32) << lane);
    assert_eq!(run("setp.gt.u32 %p1, %v, 12; vote.sync.ballot.b32 %r1, %p1, -1;", &v), vec![big; 32]);
    assert_eq!(
        run("setp.gt.u32 %p1, %v, 12; vote.sync.any.pred %p2, %p1, -1; selp.b32 %r1, 1, 0, %p2;", &v),
        vec![1; 32]
    );
    assert_eq!(
        run("setp.gt.u32 %p1, %v, 12; vote.sync.all.pred %p2, %p1, -1; selp.b32 %r1, 1, 0, %p2;", &v),
        vec![0; 32]
    );
    assert_eq!(
        run("setp.gt.u32 %p1, %v, 99; vote.sync.uni.pred %p2, !%p1, -1; selp.b32 %r1, 1, 0, %p2;", &v),
        vec![1; 32]
    );
    let few: Vec<u32> = v.iter().map(|v| v % 3).collect();
    let equal =
        |lane: usize| few.iter().enumerate().fold(0u32, |mask, (at, v)| mask | ((*v == few[lane]) as u32) << at);
    assert_eq!(run("match.any.sync.b32 %r1, %v, -1;", &few), (0..32).map(equal).collect::<Vec<_>>());
    assert_eq!(run("match.all.sync.b32 %r1|%p1, %v, -1; @!%p1 mov.u32 %r1, 5;", &few), vec![5; 32]);
    assert_eq!(run("match.all.sync.b32 %r1|%p1, %v, -1; @!%p1 mov.u32 %r1, 5;", &[9; 32]), vec![u32::MAX; 32]);
    let signed: Vec<u32> = v.iter().map(|v| v.wrapping_sub(16)).collect();
    type Fold = fn(&[u32]) -> u32;
    let reductions: &[(&str, Fold)] = &[
        ("add.s32", |v| v.iter().fold(0, |a, b| a.wrapping_add(*b))),
        ("min.s32", |v| v.iter().map(|v| *v as i32).min().unwrap() as u32),
        ("max.u32", |v| *v.iter().max().unwrap()),
        ("xor.b32", |v| v.iter().fold(0, |a, b| a ^ b)),
        ("and.b32", |v| v.iter().fold(u32::MAX, |a, b| a & b)),
    ];
    for (name, want) in reductions {
        assert_eq!(run(&format!("redux.sync.{name} %r1, %v, -1;"), &signed), vec![want(&signed); 32], "{name}");
    }
}

#[test]
fn barriers_that_reduce() {
    let v = values(96);
    let count = v.iter().filter(|v| **v > 12).count() as u32;
    assert_eq!(run("setp.gt.u32 %p1, %v, 12; bar.red.popc.u32 %r1, 0, %p1;", &v), vec![count; 96]);
    assert_eq!(run("setp.gt.u32 %p1, %v, 12; bar.red.popc.u32 %r1, 0, !%p1;", &v), vec![96 - count; 96]);
    assert_eq!(run("setp.gt.u32 %p1, %v, 12; bar.red.or.pred %p2, 0, %p1; selp.b32 %r1, 1, 0, %p2;", &v), vec![1; 96]);
    assert_eq!(run("setp.gt.u32 %p1, %v, 12; bar.red.and.pred %p2, 0, %p1; selp.b32 %r1, 1, 0, %p2;", &v), vec![0; 96]);
    // Producers arrive and go on; consumers wait for them.
    let body =
        ".shared .align 4 .b8 s[128]; mov.u32 %r2, s; and.b32 %r3, %t, 31; mad.lo.u32 %r2, %r3, 4, %r2; mov.u32 %r1, 0;
setp.lt.u32 %p1, %t, 32; @%p1 bra PRODUCE;
bar.sync 1, 64; ld.shared.u32 %r1, [%r2]; bra.uni DONE;
PRODUCE: st.shared.u32 [%r2], %v; bar.arrive 1, 64;
DONE:";
    let output = run(body, &v[..64]);
    assert_eq!(output[..32], [0; 32]);
    assert_eq!(output[32..], v[..32]);
}

#[test]
fn lanes_part_and_meet_again() {
    let v = values(64);
    // A loop that each lane leaves when it likes, branches within it, and a shuffle of all behind.
    let body = "mov.u32 %r1, 0; mov.u32 %r2, %v;
LOOP: setp.eq.u32 %p1, %r2, 0; @%p1 bra OUT;
and.b32 %r3, %r2, 1; setp.eq.u32 %p2, %r3, 0; @%p2 bra EVEN;
mad.lo.u32 %r1, %r1, 3, %r2; bra.uni NEXT;
EVEN: add.u32 %r1, %r1, 7;
NEXT: sub.u32 %r2, %r2, 1; bra.uni LOOP;
OUT: shfl.sync.bfly.b32 %r4, %r1, 1, 31, -1; sub.u32 %r1, %r1, %r4;";
    let alone = |v: u32| {
        (1..=v).rev().fold(0u32, |sum, at| if at % 2 == 0 { sum + 7 } else { sum.wrapping_mul(3).wrapping_add(at) })
    };
    let want: Vec<u32> = (0..64).map(|lane: usize| alone(v[lane]).wrapping_sub(alone(v[lane ^ 1]))).collect();
    assert_eq!(run(body, &v), want);
    // Which lanes are here.
    let body = "setp.lt.u32 %p1, %t, 5; @%p1 bra FEW; activemask.b32 %r1; bra.uni DONE; FEW: activemask.b32 %r1; DONE:";
    let here = run(body, &v[..32]);
    assert_eq!((here[0], here[31]), (0x1f, !0x1f));
    // An indexed branch.
    let body = "and.b32 %r2, %v, 3; TABLE: .branchtargets A, B, C, B; brx.idx %r2, TABLE;
A: mov.u32 %r1, 10; bra.uni DONE; B: mov.u32 %r1, 20; bra.uni DONE; C: mov.u32 %r1, 30; DONE:";
    assert_eq!(run(body, &v), v.iter().map(|v| [10, 20, 30, 20][*v as usize & 3]).collect::<Vec<_>>());
    // A call under a guard.
    let text = kernel(
        2,
        &format!(
            "{START}.param .b32 p; .param .b32 q; mov.u32 %r1, 3; st.param.b32 [p], %v; setp.gt.u32 %p1, %v, 9; @!%p1 bra SKIP; call (q), half, (p); ld.param.b32 %r1, [q]; SKIP: st.global.u32 [%ot], %r1; ret;"
        ),
    );
    let text = text.replace(".visible", ".func (.param .b32 r) half(.param .b32 x) { .reg .b32 %a; ld.param.b32 %a, [x]; shr.u32 %a, %a, 1; st.param.b32 [r], %a; ret; }\n.visible");
    let (output, reports) = run_on::<u32, u32>(&text, 64, &[&v], 64);
    assert_eq!(reports, []);
    assert_eq!(output, v.iter().map(|v| if *v > 9 { v / 2 } else { 3 }).collect::<Vec<_>>());
}

#[test]
fn special_registers() {
    let driver = driver();
    let context = Context::new();
    let names = [
        "%tid.x",
        "%tid.y",
        "%tid.z",
        "%ntid.x",
        "%ctaid.y",
        "%nctaid.x",
        "%laneid",
        "%warpid",
        "%lanemask_lt",
        "%lanemask_ge",
        "WARP_SZ",
        "%nctaid.z",
    ];
    let mut body = String::from(
        ".reg .b64 %out, %l; .reg .b32 %r<9>, %x; ld.param.u64 %out, [a0];
mov.u32 %r1, %tid.x; mov.u32 %r2, %tid.y; mov.u32 %r3, %tid.z; mov.u32 %r4, %ntid.x; mov.u32 %r5, %ntid.y;
mad.lo.u32 %r6, %r3, %r5, %r2; mad.lo.u32 %r6, %r6, %r4, %r1;
mov.u32 %r7, %ctaid.y; mad.lo.u32 %r6, %r7, 60, %r6; mul.wide.u32 %l, %r6, 48; add.u64 %out, %out, %l;\n",
    );
    for (at, name) in names.iter().enumerate() {
        body += &format!("mov.u32 %x, {name}; st.global.u32 [%out+{}], %x;\n", 4 * at);
    }
    let function = context.function(&kernel(1, &format!("{body}ret;")), "k");
    let output = context.alloc(120 * 48);
    context.launch_with(function, [1, 2, 1], [5, 4, 3], 0, &[output]).unwrap();
    let words: Vec<u32> = context.download(output, 120 * 12);
    for (thread, words) in words.chunks(12).enumerate() {
        let (block, thread) = ((thread / 60) as u32, (thread % 60) as u32);
        let lane = thread % 32;
        let want = [
            thread % 5,
            thread / 5 % 4,
            thread / 20,
            5,
            block,
            1,
            lane,
            thread / 32,
            (1u64 << lane) as u32 - 1,
            u32::MAX << lane,
            32,
            1,
        ];
        assert_eq!(words, want);
    }
    driver.assert_no_reports();
    // Clocks go on.
    assert!(run("mov.u64 %l1, %globaltimer; mov.u64 %l2, %clock64; mov.u32 %r1, %clock;", &[1]).len() == 1);
}

#[test]
fn atomics_and_what_they_return() {
    type Step = fn(u32, u32) -> u32;
    let steps: &[(&str, Step)] = &[
        ("add.u32", u32::wrapping_add),
        ("min.s32", |a, b| (a as i32).min(b as i32) as u32),
        ("max.u32", Ord::max),
        ("and.b32", |a, b| a & b),
        ("or.b32", |a, b| a | b),
        ("xor.b32", |a, b| a ^ b),
        ("exch.b32", |_, b| b),
        ("inc.u32", |a, b| if a >= b { 0 } else { a + 1 }),
        ("dec.u32", |a, b| if a == 0 || a > b { b } else { a - 1 }),
        ("add.f32", |a, b| (f32::from_bits(a) + f32::from_bits(b)).to_bits()),
    ];
    let v = values(32);
    for (name, step) in steps {
        let mut memory = 7;
        let mut next = |v: &u32| {
            let new = step(memory, *v);
            std::mem::replace(&mut memory, new)
        };
        let want: Vec<u32> = v.iter().map(&mut next).collect();
        let shared = format!(
            ".shared .align 4 .b8 s[4]; mov.u32 %r2, s; setp.eq.u32 %p1, %t, 0; @%p1 st.shared.u32 [%r2], 7; bar.sync 0; atom.shared.{name} %r1, [%r2], %v;"
        );
        assert_eq!(run(&shared, &v), want, "shared {name}");
        // By a generic address.
        let generic = shared
            .replace(
                "atom.shared",
                "cvt.u64.u32 %l1, %r2; cvta.shared.u64 %l1, %l1; isspacep.shared %p2, %l1; @!%p2 trap; atom",
            )
            .replace("[%r2], %v", "[%l1], %v");
        assert_eq!(run(&generic, &v), want, "generic {name}");
        let global = format!(
            "setp.eq.u32 %p1, %t, 0; @%p1 st.global.u32 [%out], 7; bar.sync 0; atom.global.{name} %r1, [%out], %v; bar.sync 0;"
        );
        assert_eq!(run(&global, &v), want, "global {name}");
    }
    let swap = ".shared .align 8 .b8 s[8]; mov.u64 %l1, s; setp.eq.u32 %p1, %t, 0; mov.u64 %l2, 0; @%p1 st.shared.u64 [%l1], %l2; bar.sync 0;
cvt.u64.u32 %l3, %t; add.u64 %l4, %l3, 1; atom.shared.cas.b64 %l5, [%l1], %l3, %l4; cvt.u32.u64 %r1, %l5;";
    assert_eq!(run(swap, &v), (0..32).collect::<Vec<u32>>());
}
