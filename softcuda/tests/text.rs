//! What texts are taken, and what is said of those that are not.

mod common;

use common::*;
use cudarc::driver::sys;
use softcuda::Settings;

fn refusal(text: &str) -> String {
    Context::new().module(text).expect_err("it must be refused")
}

#[test]
fn problems_name_their_line() {
    driver();
    // The body begins at line 6.
    for (body, line) in [
        ("add.s32 %r1 %r2;", 6),
        ("\n\n.what 3;", 8),
        ("{ ret;", 7),
        (".reg .b32 %r<3>;\nadd.s32 %r1, %r2, %r7;", 7),
        (".reg .b32 %r<3>;\n\nadd.s33 %r1, %r2, %r1;", 8),
        (".reg .b32 %r<3>; .reg .b64 %l;\nadd.s32 %r1, %r2, %l;", 7),
        ("bra NOWHERE;", 6),
        (".reg .f32 %f;\nld.global.v3.f32 %f, [0];", 7),
        (".reg .b32 %r;\ncall (%r), missing, ();", 7),
    ] {
        let log = refusal(&kernel(1, body));
        assert!(
            log.starts_with("DriverError(CUDA_ERROR_INVALID_PTX") && log.contains(&format!("ptx line {line}: ")),
            "{body}: {log}"
        );
    }
    // All instructions that are not known, not the first alone.
    let log = refusal(&kernel(0, ".reg .b32 %r<3>;\nfirst.b32 %r1, %r2;\nsecond.b32 %r1, %r2;"));
    assert!(
        log.contains("ptx line 7: unknown instruction first.b32\nptx line 8: unknown instruction second.b32"),
        "{log}"
    );
    assert!(refusal("MZ\u{7f}").contains("INVALID_IMAGE"));
    assert!(refusal(".target sm_70\n").contains("no .version"));
}

#[test]
fn versions_and_targets() {
    let driver = driver();
    let context = Context::new();
    let text = kernel(0, "ret;");
    assert!(context.module(&text).is_ok());
    assert_eq!(driver.module_log(), "");
    let newer = text.replace(".version 8.0", ".version 8.1");
    let log = context.module(&newer).unwrap_err();
    assert!(log.contains("UNSUPPORTED_PTX_VERSION") && log.contains("PTX .version 8.1 is newer than 8.0"), "{log}");
    driver.configure(&Settings { driver_version: 12010, ..Settings::default() });
    assert!(context.module(&newer).is_ok());
    driver.configure(&Settings { compute_capability: 61, ..Settings::default() });
    assert!(context.module(&text).unwrap_err().contains("NO_BINARY_FOR_GPU"));
}

#[test]
fn the_log_goes_to_the_callers_buffer() {
    driver();
    let _context = Context::new();
    let text = std::ffi::CString::new(kernel(0, "nothing.b32 1;")).unwrap();
    let mut buffer = [1u8; 64];
    let mut options =
        [sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER, sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    let mut values = [buffer.as_mut_ptr().cast(), buffer.len() as *mut std::ffi::c_void];
    let mut module = std::ptr::null_mut();
    // SAFETY: two options with two values, of which the first is a buffer of the second's size.
    let result = unsafe {
        sys::cuModuleLoadDataEx(&mut module, text.as_ptr().cast(), 2, options.as_mut_ptr(), values.as_mut_ptr())
    };
    assert_eq!(result, sys::CUresult::CUDA_ERROR_INVALID_PTX);
    let log = std::ffi::CStr::from_bytes_until_nul(&buffer).unwrap().to_str().unwrap();
    assert!(log.starts_with("ptx line 6: unknown instruction nothing.b32"), "{log}");
    assert_eq!(values[1] as usize, log.len() + 1);
}

#[test]
fn variables_initialisers_scopes_and_calls() {
    driver();
    let text = format!(
        "{HEAD}.global .align 8 .b8 bytes[8] = {{254, 255, 1}};
.const .f32 table[2][2] = {{{{0f3F000000, 0.5}}, {{1.0, -2.0}}}};
.global .u32 counter = 5;
.global .u64 where = generic(counter);
.func (.param .b32 result) twice(.param .b32 x)
{{
	.reg .b32 %r<3>;
	ld.param.b32 %r1, [x];
	add.s32 %r2, %r1, %r1;
	st.param.b32 [result], %r2;
	ret;
}}
.visible .entry k(.param .u32 a, .param .align 8 .b8 s[16], .param .u64 out)
{{
	.reg .b32 %r<20>; .reg .b64 %rd<9>; .reg .f32 %f<4>; .reg .pred %p<2>;
	.local .align 4 .b8 depot[8];
	ld.param.u64 %rd1, [out];
	ld.param.u32 %r1, [a];
	ld.param.u32 %r2, [s+12];
	mov.u64 %rd2, bytes; ld.global.u16 %r3, [%rd2];
	ld.global.u8 %r4, [bytes+2];
	ld.const.f32 %f1, [table+12];
	ld.global.u64 %rd3, [where]; ld.u32 %r5, [%rd3];
	// %r1 of this scope is another register.
	{{ .reg .b32 %r1, %tmp; mov.b32 %r1, 77; bra HERE; mov.b32 %r1, 78; HERE: mov.b32 %r6, %r1; }}
	{{ .param .b32 p; .param .b32 q;
	st.param.b32 [p+0], %r1;
	call.uni (q), twice, (p);
	ld.param.b32 %r7, [q+0]; }}
	mov.u64 %rd4, depot; cvta.local.u64 %rd5, %rd4; st.u32 [%rd5+4], %r7; ld.local.u32 %r8, [depot+4];
	setp.eq.u32 %p1, %r8, 0;
	@%p1 call (%r9), twice, (%r9);
	mov.b64 {{%r10, %r11}}, 0x1122334455667788; mov.b32 %r12, %tid.x;
	st.global.v4.u32 [%rd1], {{%r1, %r2, %r3, %r4}};
	st.global.f32 [%rd1+16], %f1;
	st.global.v2.u32 [%rd1+24], {{%r5, %r6}};
	st.global.v4.u32 [%rd1+32], {{%r7, %r8, %r10, %r11}};
	ret;
}}
"
    );
    // A call whose arguments are registers is of a form that no compiler of today writes.
    let text = text.replace("	@%p1 call (%r9), twice, (%r9);\n", "");
    let context = Context::new();
    let function = context.function(&text, "k");
    let output = context.upload(&[0u32; 12]);
    // A structure of sixteen bytes in the middle.
    let (a, s) = (3u32, [0u32, 0, 0, 9]);
    let mut parameters =
        [(&raw const a).cast_mut().cast(), (&raw const s).cast_mut().cast(), (&raw const output).cast_mut().cast()];
    // SAFETY: a pointer for each of three parameters, of their sizes.
    unsafe {
        cudarc::driver::result::launch_kernel(function, (1, 1, 1), (1, 1, 1), 0, std::ptr::null_mut(), &mut parameters)
    }
    .unwrap();
    let words: Vec<u32> = context.download(output, 12);
    assert_eq!(words, [3, 9, 0xfffe, 1, (-2f32).to_bits(), 0, 5, 77, 6, 6, 0x5566_7788, 0x1122_3344]);
    softcuda::install().unwrap().unwrap().assert_no_reports();
}
