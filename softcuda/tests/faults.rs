//! Every kind of fault that the driver claims to find, planted, with the line and the lanes where it is; and beside each a clean twin.

mod common;

use common::*;
use cudarc::driver::sys::CUresult;
use softcuda::{Fault, Report, Settings};

/// Registers and parameters of every kernel here: `%in` and `%out` are arrays, `%t` the thread, `%it` and `%ot` its places in them.
const START: &str = ".reg .b64 %in, %out, %it, %ot, %l<8>; .reg .b32 %t, %r<16>; .reg .f32 %f<8>; .reg .pred %p<8>;
ld.param.u64 %in, [a0]; ld.param.u64 %out, [a1];
mov.u32 %t, %tid.x;
mul.wide.u32 %it, %t, 4; add.u64 %ot, %out, %it; add.u64 %it, %in, %it;
";
/// The line of a text's first statement after [`START`].
const FIRST: u32 = 10;

struct Run {
    reports: Vec<Report>,
    result: Result<(), CUresult>,
    output: Vec<u32>,
}

fn run_with(declarations: &str, body: &str, grid: u32, block: u32, settings: Settings) -> Run {
    let text = kernel(2, &format!("{START}{declarations}{body}\nret;"));
    let driver = driver();
    driver.configure(&settings);
    let context = Context::new();
    let function = context.function(&text, "k");
    let len = 4096;
    let input: Vec<u32> = (0..len).collect();
    let (input, output) = (context.upload(&input), context.upload(&vec![0u32; len as usize]));
    let result = context.launch(function, grid, block, &[input, output]);
    let output = if result.is_ok() { context.download(output, len as usize) } else { Vec::new() };
    Run { reports: driver.reports(), result, output }
}
fn run(body: &str, grid: u32, block: u32) -> Run {
    run_with("", body, grid, block, Settings::default())
}

/// One report of a kind, at a statement (counted from 0, one a line) and of these lanes.
fn expect(run: &Run, fault: Fault, statement: u32, lanes: u32) {
    let [report] = &run.reports[..] else { panic!("{} reports: {:?}", run.reports.len(), run.reports) };
    let where_ = (report.fault, report.line, report.lanes);
    assert_eq!(where_, (fault, FIRST + statement, lanes), "{report}");
    assert_eq!(report.kernel, "k");
    assert_eq!(run.result.is_err(), fault.is_fatal(), "{:?}", run.result);
}
fn expect_clean(run: &Run) {
    assert!(run.reports.is_empty(), "{:?}", run.reports);
    assert_eq!(run.result, Ok(()));
}

#[test]
fn out_of_bounds() {
    // Thread 31 reads the word after the last one.
    let clean = "add.u64 %it, %it, 16256;\nld.global.u32 %r1, [%it];\nst.global.u32 [%ot], %r1;";
    let found = run(&clean.replace("16256", "16260"), 1, 32);
    expect(&found, Fault::OutOfBounds, 1, 1 << 31);
    assert_eq!(found.result, Err(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS));
    assert!(found.reports[0].message.contains("16384 bytes"), "{}", found.reports[0]);
    expect_clean(&run(clean, 1, 32));
    // A store before the first.
    expect(&run("st.global.u32 [%ot+-4], %t;", 1, 32), Fault::OutOfBounds, 0, 1);
    // A vector beyond the last word.
    expect(&run("ld.global.v2.u32 {%r1, %r2}, [%in+16384];", 1, 1), Fault::OutOfBounds, 0, 1);
    // Shared and local memory.
    let shared = |offset: u32| {
        format!(
            ".shared .align 4 .b8 s[128];\nmov.u32 %r1, s; mad.lo.u32 %r1, %t, 4, %r1;\nst.shared.u32 [%r1+{offset}], %t;"
        )
    };
    expect(&run(&shared(8), 1, 32), Fault::OutOfBounds, 2, 3 << 30);
    expect_clean(&run(&shared(0), 1, 32));
    let local = |offset: u32| format!(".local .align 4 .b8 s[16];\nmov.u64 %l1, s;\nst.local.u32 [%l1+{offset}], %t;");
    expect(&run(&local(16), 1, 4), Fault::OutOfBounds, 2, 0xf);
    expect_clean(&run(&local(12), 1, 4));
}

#[test]
fn use_after_free() {
    let driver = driver();
    let context = Context::new();
    let function = context.function(&kernel(2, &format!("{START}ld.global.u32 %r1, [%it];\nret;")), "k");
    let (kept, freed) = (context.upload(&[1u32; 32]), context.upload(&[1u32; 32]));
    // SAFETY: nothing uses it but the kernel that must be found.
    unsafe { cudarc::driver::result::free_sync(freed) }.unwrap();
    assert_eq!(context.launch(function, 1, 32, &[kept, kept]), Ok(()));
    assert_eq!(driver.reports(), []);
    assert_eq!(context.launch(function, 1, 32, &[freed, kept]), Err(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS));
    let reports = driver.reports();
    assert_eq!((reports.len(), reports[0].fault, reports[0].line), (1, Fault::UseAfterFree, FIRST), "{reports:?}");
    assert_eq!(reports[0].address, Some(freed));
}

#[test]
fn misaligned() {
    let found = run(
        "@%p1 bra L;\nL: and.b32 %r1, %t, 1; mul.wide.u32 %l1, %r1, 2; add.u64 %l1, %it, %l1;\nld.global.u32 %r2, [%l1];",
        1,
        8,
    );
    expect(&found, Fault::Misaligned, 2, 0xaa);
    assert_eq!(found.result, Err(CUresult::CUDA_ERROR_MISALIGNED_ADDRESS));
    expect(&run("ld.global.v4.f32 {%f1, %f2, %f3, %f4}, [%it];", 1, 4), Fault::Misaligned, 0, 0b1110);
    expect_clean(&run("ld.global.v4.f32 {%f1, %f2, %f3, %f4}, [%in+16];", 1, 4));
    let atomic = "atom.global.add.u32 %r1, [%out+2], 1;";
    expect(&run(atomic, 1, 1), Fault::Misaligned, 0, 1);
}

#[test]
fn uninitialised() {
    let driver = driver();
    let context = Context::new();
    let function = context
        .function(&kernel(2, &format!("{START}ld.global.u32 %r1, [%it];\nst.global.u32 [%ot], %r1;\nret;")), "k");
    let input = context.alloc(128);
    // SAFETY: 124 bytes of 128: the last word stays unwritten but for its first byte.
    unsafe { cudarc::driver::result::memset_d8_sync(input, 1, 125) }.unwrap();
    let output = context.alloc(128);
    assert_eq!(context.launch(function, 1, 32, &[input, output]), Ok(()));
    let reports = driver.reports();
    assert_eq!((reports.len(), reports[0].fault, reports[0].lanes), (1, Fault::Uninitialised, 1 << 31), "{reports:?}");
    assert_eq!(reports[0].line, FIRST);
    // What the kernel wrote is written.
    driver.reset();
    assert_eq!(context.launch(function, 1, 31, &[output, input]), Ok(()));
    driver.assert_no_reports();

    let shared = ".shared .align 4 .b8 s[256];\nmov.u32 %r1, s; mad.lo.u32 %r1, %t, 4, %r1;\nsetp.lt.u32 %p1, %t, 32; @%p1 st.shared.u32 [%r1], %t;\nbar.sync 0;\nld.shared.u32 %r2, [%r1];";
    let found = run(shared, 1, 64);
    expect(&found, Fault::Uninitialised, 4, u32::MAX);
    assert_eq!(found.reports[0].warp, 1);
    expect_clean(&run(shared, 1, 32));
    let local = ".local .align 4 .b8 s[8];\nmov.u64 %l1, s; st.local.u32 [%l1], %t;\nld.local.u32 %r2, [%l1+OFFSET];";
    expect(&run(&local.replace("OFFSET", "4"), 1, 2), Fault::Uninitialised, 2, 3);
    expect_clean(&run(&local.replace("OFFSET", "0"), 1, 2));
    // The checker can be told to look away.
    expect_clean(&run_with("", shared, 1, 64, Settings { check_initialised: false, ..Settings::default() }));
}

/// Every thread writes its word of shared memory and reads another one's.
fn exchange(between: &str, threads: u32) -> String {
    format!(
        ".shared .align 4 .b8 s[1024];\nmov.u32 %r1, s; mad.lo.u32 %r2, %t, 4, %r1; xor.b32 %r3, %t, {}; mad.lo.u32 %r3, %r3, 4, %r1;\nst.shared.u32 [%r2], %t;\n{between}\nld.shared.u32 %r4, [%r3];\nst.global.u32 [%ot], %r4;",
        threads - 1
    )
}

#[test]
fn races_in_shared_memory() {
    // Between warps: a barrier orders them, a barrier of the warp does not.
    // Without either, warp 0 is through before warp 1 writes what it has read.
    let found = run(&exchange("", 64), 1, 64);
    let at_store = |report: &Report| (report.fault, report.line, report.warp) == (Fault::SharedRace, FIRST + 2, 1);
    assert!(found.reports.iter().any(at_store), "{:?}", found.reports);
    assert!(
        run(&exchange("bar.warp.sync 0xffffffff;", 64), 1, 64)
            .reports
            .iter()
            .any(|report| report.fault == Fault::SharedRace)
    );
    let clean = run(&exchange("bar.sync 0;", 64), 1, 64);
    expect_clean(&clean);
    assert!((0..64).all(|thread| clean.output[thread as usize] == thread ^ 63));
    // Within a warp.
    expect(&run(&exchange("", 32), 1, 32), Fault::SharedRace, 4, u32::MAX);
    expect_clean(&run(&exchange("bar.warp.sync 0xffffffff;", 32), 1, 32));
    // A write after a read.
    let reuse = |between: &str| {
        format!(
            ".shared .align 4 .b8 s[1024];\nmov.u32 %r1, s; mad.lo.u32 %r2, %t, 4, %r1; st.shared.u32 [%r2], %t;\nbar.sync 0;\nld.shared.u32 %r4, [%r1];\n{between}\nst.shared.u32 [%r2], %r4;"
        )
    };
    let found = run(&reuse(""), 1, 64);
    assert!(
        found.reports.iter().any(|report| (report.fault, report.line) == (Fault::SharedRace, FIRST + 5)),
        "{:?}",
        found.reports
    );
    expect_clean(&run(&reuse("bar.sync 0;"), 1, 64));
    // Bytes of one word belong to different threads, and atomics do not race with each other.
    expect_clean(&run(
        ".shared .align 4 .b8 s[64];\nmov.u32 %r1, s; add.u32 %r1, %r1, %t; st.shared.u8 [%r1], %t;",
        1,
        64,
    ));
    expect_clean(&run(
        ".shared .align 4 .b8 s[4];\nmov.u32 %r1, s; setp.eq.u32 %p1, %t, 0; @%p1 st.shared.u32 [%r1], 0; bar.sync 0;\natom.shared.add.u32 %r2, [%r1], 1;\nred.shared.add.u32 [%r1], 1;",
        1,
        64,
    ));
    let mixed = run(
        ".shared .align 4 .b8 s[4];\nmov.u32 %r1, s; setp.eq.u32 %p1, %t, 0; @%p1 st.shared.u32 [%r1], 0;\natom.shared.add.u32 %r2, [%r1], 1;",
        1,
        64,
    );
    assert_eq!(mixed.reports[0].fault, Fault::SharedRace);
}

#[test]
fn races_in_global_memory() {
    // Two blocks write one word; each its own; one reads what another writes.
    let found = run("st.global.u32 [%out], %t;", 2, 1);
    expect(&found, Fault::GlobalRace, 0, 1);
    assert_eq!(found.reports[0].block, [1, 0, 0]);
    let own = "mov.u32 %r1, %ctaid.x; mul.wide.u32 %l1, %r1, 4; add.u64 %l1, %out, %l1;\nst.global.u32 [%l1], %t;\n";
    expect_clean(&run(own, 4, 1));
    expect(&run(&format!("{own}ld.global.u32 %r2, [%out];"), 2, 1), Fault::GlobalRace, 2, 1);
    expect(&run(&format!("ld.global.u32 %r2, [%out+4];\n{own}"), 2, 1), Fault::GlobalRace, 2, 1);
    // Neighbouring bytes are apart; atomics meet; a plain read beside them does not.
    expect_clean(&run(
        "mov.u32 %r1, %ctaid.x; cvt.u64.u32 %l1, %r1; add.u64 %l1, %out, %l1;\nst.global.u8 [%l1], %t;",
        8,
        1,
    ));
    expect_clean(&run("red.global.add.u32 [%out], 1;", 8, 32));
    expect(&run("red.global.add.u32 [%out], 1;\nld.global.u32 %r1, [%out];", 2, 1), Fault::GlobalRace, 0, 1);
    expect_clean(&run("red.global.add.u32 [%out], 1;\nld.relaxed.gpu.global.u32 %r1, [%out];", 2, 1));
    // So are the halves of a word that blocks read before they write them, and the bytes.
    for (ty, size) in [("u16", 2), ("u8", 1)] {
        let body = format!(
            "mov.u32 %r1, %ctaid.x; mul.wide.u32 %l1, %r1, {size}; add.u64 %l1, %out, %l1;\nld.global.{ty} %r2, [%l1];\nst.global.{ty} [%l1], %r2;"
        );
        expect_clean(&run(&body, 9, 1));
        // Both blocks read the first, and the second one writes it.
        let swapped = body.replace("%ctaid.x;", "%ctaid.x; xor.b32 %r1, %r1, 1;");
        let found = run(&format!("ld.global.{ty} %r2, [%out];\n{swapped}"), 2, 1);
        expect(&found, Fault::GlobalRace, 3, 1);
    }
    // The same in two launches is no race.
    let settings = Settings { check_races: false, ..Settings::default() };
    expect_clean(&run_with("", "st.global.u32 [%out], %t;", 2, 1, settings));
}

/// Each block writes a word, takes a ticket, and the last one reads all words.
fn last_block(release: &str, acquire: &str) -> String {
    format!(
        "mov.u32 %r1, %ctaid.x; mul.wide.u32 %l1, %r1, 4; add.u64 %l1, %out, %l1; add.u32 %r9, %r1, 1; st.global.u32 [%l1+16], %r9;
{release}
atom.global.add.u32 %r2, [%out], 1;
{acquire}
mov.u32 %r3, %nctaid.x; sub.u32 %r3, %r3, 1; setp.ne.u32 %p1, %r2, %r3; @%p1 bra END;
mov.u32 %r4, 0; mov.u32 %r5, 0; mov.u64 %l2, %out;
LOOP: ld.global.u32 %r6, [%l2+16];
add.u32 %r5, %r5, %r6; add.u64 %l2, %l2, 4; add.u32 %r4, %r4, 1; setp.le.u32 %p2, %r4, %r3; @%p2 bra LOOP;
st.global.u32 [%out], 0; st.global.u32 [%out+4], %r5;
END:"
    )
}

#[test]
fn the_last_block_may_read_what_the_others_wrote() {
    for seed in 0..8 {
        let settings = Settings { schedule_seed: seed, ..Settings::default() };
        let clean = run_with("", &last_block("membar.gl;", "membar.gl;"), 37, 1, settings.clone());
        expect_clean(&clean);
        assert_eq!((clean.output[0], clean.output[1]), (0, 37 * 38 / 2));
        let stronger = last_block("", "").replace("atom.global.add", "atom.acq_rel.gpu.global.add");
        expect_clean(&run_with("", &stronger, 37, 1, settings.clone()));
        for (release, acquire) in [("", "membar.gl;"), ("membar.gl;", ""), ("membar.cta;", "membar.gl;"), ("", "")] {
            let found = run_with("", &last_block(release, acquire), 37, 1, settings.clone());
            assert!(
                found.reports.iter().any(|report| (report.fault, report.line) == (Fault::GlobalRace, FIRST + 6)),
                "'{release}', '{acquire}': {:?}",
                found.reports
            );
        }
    }
}

/// Every thread writes its word of global memory and reads another one's.
#[test]
fn races_in_global_memory_within_a_block() {
    let settings = Settings { check_block_races: true, ..Settings::default() };
    let run = |body: &str, grid, block| run_with("", body, grid, block, settings.clone());
    let exchange = |between: &str, threads: u32| {
        format!(
            "xor.b32 %r3, %t, {}; mul.wide.u32 %l1, %r3, 4; add.u64 %l1, %out, %l1;\nst.global.u32 [%ot], %t;\n{between}\nld.global.u32 %r4, [%l1];\nst.global.u32 [%ot+2048], %r4;",
            threads - 1
        )
    };
    for (between, threads) in [("", 32), ("", 64), ("bar.warp.sync 0xffffffff;", 64)] {
        let found = run(&exchange(between, threads), 1, threads);
        let is_race = |report: &Report| report.fault == Fault::GlobalRace;
        assert!(!found.reports.is_empty() && found.reports.iter().all(is_race), "{between}: {:?}", found.reports);
    }
    expect(&run(&exchange("", 32), 1, 32), Fault::GlobalRace, 3, u32::MAX);
    for (between, threads) in [("bar.warp.sync 0xffffffff;", 32), ("bar.sync 0;", 64)] {
        let clean = run(&exchange(between, threads), 1, threads);
        expect_clean(&clean);
        assert!((0..threads).all(|thread| clean.output[(512 + thread) as usize] == thread ^ (threads - 1)));
    }
    // Under every order of warps, whoever comes first.
    for seed in 0..8 {
        let settings = Settings { schedule_seed: seed, ..settings.clone() };
        assert!(!run_with("", &exchange("", 64), 1, 64, settings.clone()).reports.is_empty(), "seed {seed}");
        expect_clean(&run_with("", &exchange("bar.sync 0;", 64), 1, 64, settings));
    }
    // A write after a read, and two writes of one word by lanes of one instruction.
    let reuse = |between: &str| {
        format!(
            "xor.b32 %r3, %t, 63; mul.wide.u32 %l1, %r3, 4; add.u64 %l1, %out, %l1;\nld.global.u32 %r4, [%l1];\n{between}\nst.global.u32 [%ot], %r4;"
        )
    };
    assert!(run(&reuse(""), 1, 64).reports.iter().any(|report| report.fault == Fault::GlobalRace));
    expect_clean(&run(&reuse("bar.sync 0;"), 1, 64));
    expect(&run("st.global.u32 [%out], %t;", 1, 32), Fault::GlobalRace, 0, u32::MAX << 1);
    // Bytes of one word belong to different threads; atomics meet, and a plain read beside them does not.
    expect_clean(&run("cvt.u64.u32 %l1, %t; add.u64 %l1, %out, %l1;\nst.global.u8 [%l1], %t;", 1, 64));
    expect_clean(&run("red.global.add.u32 [%out], 1;\nld.volatile.global.u32 %r1, [%out];", 1, 64));
    let mixed = run("red.global.add.u32 [%out], 1;\nld.global.u32 %r1, [%out];", 1, 64);
    assert!(mixed.reports.iter().any(|report| report.fault == Fault::GlobalRace), "{:?}", mixed.reports);
    // A flag between fences orders two warps, and is no race.
    let flag = "setp.ge.u32 %p1, %t, 32; @%p1 bra TAKE;
st.global.u32 [%ot+64], %t; membar.cta; bar.warp.sync 0xffffffff; setp.ne.u32 %p2, %t, 0; @%p2 bra DONE;
mov.u32 %r1, 1; st.volatile.global.u32 [%out], %r1; bra.uni DONE;
TAKE: ld.volatile.global.u32 %r2, [%out]; setp.eq.u32 %p3, %r2, 0; @%p3 bra TAKE;
membar.cta; ld.global.u32 %r3, [%ot+-64]; st.global.u32 [%ot+1024], %r3;
DONE:";
    for seed in 0..8 {
        let settings = Settings { schedule_seed: seed, ..settings.clone() };
        expect_clean(&run_with("", flag, 1, 64, settings));
    }
    // So do the halves of a word that threads read before they write them.
    let halves =
        "mul.wide.u32 %l1, %t, 2; add.u64 %l1, %out, %l1;\nld.global.u16 %r1, [%l1];\nst.global.u16 [%l1], %r1;";
    expect_clean(&run(halves, 1, 64));
    // Nobody looks who is not told to.
    expect_clean(&run_with("", &exchange("", 64), 1, 64, Settings::default()));
}

#[test]
fn read_only_memory_that_is_written() {
    let own = "mov.u32 %r1, %ctaid.x; mul.wide.u32 %l1, %r1, 4; add.u64 %l1, %out, %l1;\n";
    let found = run(&format!("{own}ld.global.nc.u32 %r2, [%l1];\nst.global.u32 [%l1], %r2;"), 2, 1);
    expect(&found, Fault::ReadOnlyWritten, 2, 1);
    let found = run(&format!("{own}st.global.u32 [%l1], %r2;\nld.global.nc.u32 %r2, [%l1];"), 2, 1);
    expect(&found, Fault::ReadOnlyWritten, 2, 1);
    expect_clean(&run(&format!("{own}ld.global.u32 %r2, [%l1];\nst.global.u32 [%l1], %r2;"), 2, 1));
    expect_clean(&run("ld.global.nc.u32 %r2, [%it];\nst.global.u32 [%ot], %r2;", 1, 32));
}

#[test]
fn barriers_that_threads_do_not_reach_together() {
    let halves = |then: &str, otherwise: &str| {
        format!("and.b32 %r1, %t, 1;\nsetp.eq.u32 %p1, %r1, 0; @%p1 bra A;\n{otherwise}\nbra.uni B;\nA:\n{then}\nB:")
    };
    let found = run(&halves("bar.sync 0;", "bar.sync 0;"), 1, 32);
    assert!(
        found.reports.iter().all(|report| report.fault == Fault::DivergentBarrier) && found.reports.len() == 2,
        "{:?}",
        found.reports
    );
    let mut lanes: Vec<(u32, u32)> = found.reports.iter().map(|report| (report.line - FIRST, report.lanes)).collect();
    lanes.sort_unstable();
    assert_eq!(lanes, [(2, 0xaaaa_aaaa), (5, 0x5555_5555)]);
    expect_clean(&run(&format!("{}\nbar.sync 0;", halves("mov.u32 %r2, 1;", "mov.u32 %r2, 2;")), 1, 64));
    // Some threads have ended.
    let ended = "setp.ge.u32 %p1, %t, 48; @%p1 exit;\nbar.sync 0;";
    expect(&run(ended, 1, 64), Fault::DivergentBarrier, 1, 0xffff);
    // Barriers for half of the block, and others for the other half.
    let named = "setp.lt.u32 %p1, %t, 64; selp.b32 %r1, 1, 2, %p1;\nbar.sync %r1, 64;";
    expect_clean(&run(named, 1, 128));
    // A barrier that is not aligned lets a warp's lanes come one by one.
    expect_clean(&run(&halves("barrier.sync 0;", "barrier.sync 0;"), 1, 64));
}

#[test]
fn masks_that_name_the_wrong_lanes() {
    let shuffle = "shfl.sync.bfly.b32 %r2, %t, 1, 31, MASK;\nst.global.u32 [%ot], %r2;";
    let whole = shuffle.replace("MASK", "-1");
    expect_clean(&run(&whole, 1, 32));
    // Lanes that do not exist.
    expect(&run(&whole, 1, 20), Fault::WarpMask, 0, 0xf_ffff);
    expect_clean(&run(&shuffle.replace("MASK", "0xfffff"), 1, 20));
    // Lanes that went elsewhere and ended.
    let part = |mask: &str| format!("setp.ge.u32 %p1, %t, 16; @%p1 exit;\n{}", shuffle.replace("MASK", mask));
    expect(&run(&part("-1"), 1, 32), Fault::WarpMask, 1, 0xffff);
    expect_clean(&run(&part("0xffff"), 1, 32));
    // The executing lane is left out.
    expect(&run(&shuffle.replace("MASK", "0x7fffffff"), 1, 32), Fault::WarpMask, 0, u32::MAX);
    // A value of a lane that does not take part.
    let down = "setp.ge.u32 %p1, %t, 16; @%p1 exit;\nshfl.sync.down.b32 %r2, %t, 8, 31, 0xffff;";
    expect(&run(down, 1, 32), Fault::WarpMask, 1, 0xff00);
    // Lanes that come later are waited for.
    let later = "setp.lt.u32 %p1, %t, 16; @%p1 bra A;\nadd.u32 %r3, %t, 100; bra.uni B;\nA: add.u32 %r3, %t, 200;\nB: shfl.sync.idx.b32 %r2, %r3, 0, 31, -1;\nst.global.u32 [%ot], %r2;";
    let clean = run(later, 1, 32);
    expect_clean(&clean);
    assert_eq!(clean.output[..32], [200; 32]);
}

#[test]
fn deadlocks() {
    // Warp 0 waits at barrier 1, warp 1 at barrier 2.
    let apart = "shr.u32 %r1, %t, 5; add.u32 %r1, %r1, 1;\nbar.sync %r1, 64;";
    let found = run(apart, 1, 64);
    expect(&found, Fault::Deadlock, 1, u32::MAX);
    assert_eq!(found.result, Err(CUresult::CUDA_ERROR_LAUNCH_TIMEOUT));
    // A loop without an end.
    let settings = Settings { instruction_limit: 100_000, ..Settings::default() };
    let endless = run_with("", "L: bra.uni L;", 1, 32, settings);
    expect(&endless, Fault::TimedOut, 0, u32::MAX);
    // Lanes that wait for one of their own warp: the device lets it go on.
    let lock = "setp.eq.u32 %p1, %t, 31; @%p1 bra GIVE;\nWAIT: ld.volatile.global.u32 %r1, [%out]; setp.eq.u32 %p2, %r1, 0; @%p2 bra WAIT;\nbra.uni DONE;\nGIVE: mov.u32 %r2, 1; st.volatile.global.u32 [%out], %r2;\nDONE:";
    expect_clean(&run(lock, 1, 32));
}

#[test]
fn traps() {
    let found = run("setp.eq.u32 %p1, %t, 3;\n@%p1 trap;", 1, 32);
    expect(&found, Fault::Trap, 1, 8);
    assert_eq!(found.result, Err(CUresult::CUDA_ERROR_LAUNCH_FAILED));
}

#[test]
fn copies_that_are_not_waited_for() {
    let text = |wait: &str| {
        format!(
            ".shared .align 16 .b8 s[512];\nmov.u32 %r1, s; mad.lo.u32 %r1, %t, 16, %r1; mul.wide.u32 %l1, %t, 16; add.u64 %l1, %in, %l1;\ncp.async.ca.shared.global [%r1], [%l1], 16;\ncp.async.commit_group;\n{wait}\nld.shared.u32 %r2, [%r1];\nst.global.u32 [%ot], %r2;"
        )
    };
    let clean = run(&text("cp.async.wait_group 0;"), 1, 32);
    expect_clean(&clean);
    assert!((0..32).all(|thread| clean.output[thread] == 4 * thread as u32));
    expect(&run(&text(""), 1, 32), Fault::Uninitialised, 5, u32::MAX);
    expect(&run(&text("cp.async.wait_group 1;"), 1, 32), Fault::Uninitialised, 5, u32::MAX);
}
