//! The driver API, called as cudarc calls it.

mod common;

use common::*;
use cudarc::driver::{CudaContext, DevicePtr, result, sys};
use softcuda::{Failure, Settings};
use std::ffi::CString;
use std::ptr;
use sys::CUresult::*;

const ADD: &str =
    ".reg .b64 %x, %l; .reg .b32 %t, %v, %b; ld.param.u64 %x, [a0]; ld.param.u32 %b, [a1]; mov.u32 %t, %tid.x;
mul.wide.u32 %l, %t, 4; add.u64 %x, %x, %l; ld.global.u32 %v, [%x]; add.u32 %v, %v, %b; st.global.u32 [%x], %v; ret;";

fn stream(flags: u32) -> sys::CUstream {
    let mut stream = ptr::null_mut();
    // SAFETY: the pointer is to a variable.
    unsafe { sys::cuStreamCreate(&mut stream, flags) }.result().unwrap();
    stream
}

fn event() -> sys::CUevent {
    result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT).unwrap()
}

/// Adds `by` to each of 32 words, on a stream.
fn add(function: sys::CUfunction, words: u64, by: u32, stream: sys::CUstream) -> sys::CUresult {
    let by = by as u64;
    let mut parameters = [(&raw const words).cast_mut().cast(), (&raw const by).cast_mut().cast()];
    // SAFETY: two parameters of eight bytes.
    unsafe { sys::cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, stream, parameters.as_mut_ptr(), ptr::null_mut()) }
}

#[test]
fn the_safe_layer_of_cudarc() {
    let driver = driver();
    let context = CudaContext::new(0).unwrap();
    assert_eq!(context.name().unwrap(), "softcuda");
    assert_eq!(context.compute_capability().unwrap(), (9, 0));
    assert!(CudaContext::new(1).is_err());
    let stream = context.new_stream().unwrap();
    let text = CString::new(kernel(2, ADD)).unwrap();
    // SAFETY: the text ends in a zero.
    let module = unsafe { result::module::load_data(text.as_ptr().cast()) }.unwrap();
    // SAFETY: the module was just loaded.
    let function = unsafe { result::module::get_function(module, CString::new("k").unwrap()) }.unwrap();
    let words = stream.clone_htod(&(0..32u32).collect::<Vec<_>>()).unwrap();
    let copy = stream.clone_dtod(&words).unwrap();
    let zeros = stream.alloc_zeros::<u32>(32).unwrap();
    assert_eq!(stream.clone_dtoh(&zeros).unwrap(), [0; 32]);
    {
        let (address, _guard) = words.device_ptr(&stream);
        assert_eq!(add(function, address, 5, stream.cu_stream()), CUDA_SUCCESS);
    }
    stream.synchronize().unwrap();
    assert_eq!(stream.clone_dtoh(&words).unwrap(), (5..37).collect::<Vec<u32>>());
    assert_eq!(stream.clone_dtoh(&copy).unwrap(), (0..32).collect::<Vec<u32>>());
    let (start, end) = (context.new_event(None).unwrap(), context.new_event(None).unwrap());
    start.record(&stream).unwrap();
    end.record(&stream).unwrap();
    assert!(end.is_complete());
    driver.assert_no_reports();
}

#[test]
fn versions_devices_and_names() {
    let driver = driver();
    let _context = Context::new();
    let (mut version, mut value) = (0, 0);
    // SAFETY: the pointers are to variables, here and below.
    unsafe {
        assert_eq!(sys::cuDriverGetVersion(&mut version), CUDA_SUCCESS);
        assert_eq!(version, 12000);
        driver.configure(&Settings { driver_version: 12080, ..Settings::default() });
        sys::cuDriverGetVersion(&mut version);
        assert_eq!(version, 12080);
        for (attribute, wanted) in [
            (sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, 50 << 20),
            (sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 132),
            (sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 227 << 10),
            (sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH, 1),
            (sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_INTEGRATED, 0),
        ] {
            assert_eq!(sys::cuDeviceGetAttribute(&mut value, attribute, 0), CUDA_SUCCESS);
            assert_eq!(value, wanted, "{attribute:?}");
        }
        let mut device = 7;
        assert_eq!(sys::cuDeviceGet(&mut device, 1), CUDA_ERROR_INVALID_DEVICE);
        assert_eq!(sys::cuCtxGetDevice(&mut device), CUDA_SUCCESS);
        assert_eq!(device, 0);
    }
    assert_eq!(
        result::DriverError(CUDA_ERROR_ILLEGAL_ADDRESS).error_name().unwrap().to_str().unwrap(),
        "CUDA_ERROR_ILLEGAL_ADDRESS"
    );
    assert_eq!(
        result::DriverError(CUDA_ERROR_ILLEGAL_ADDRESS).error_string().unwrap().to_str().unwrap(),
        "illegal address"
    );
}

#[test]
fn contexts_are_a_stack_of_each_thread() {
    driver();
    let outer = Context::new();
    let inner = Context::new();
    let current = || {
        let mut context = ptr::null_mut();
        // SAFETY: the pointer is to a variable.
        unsafe { sys::cuCtxGetCurrent(&mut context) }.result().unwrap();
        context
    };
    assert_eq!(current(), inner.0);
    let memory = inner.alloc(64);
    drop(inner);
    assert_eq!(current(), outer.0);
    // SAFETY: handles of this test, and pointers to variables.
    unsafe {
        let mut popped = ptr::null_mut();
        assert_eq!(sys::cuCtxPopCurrent_v2(&mut popped), CUDA_SUCCESS);
        assert_eq!(popped, outer.0);
        assert_eq!(result::malloc_sync(64).unwrap_err().0, CUDA_ERROR_INVALID_CONTEXT);
        assert_eq!(sys::cuCtxPushCurrent_v2(outer.0), CUDA_SUCCESS);
        // What belonged to the other context is gone with it.
        assert_eq!(sys::cuMemFree_v2(memory), CUDA_ERROR_INVALID_VALUE);
    }
    // Another thread begins without one.
    std::thread::scope(|scope| scope.spawn(|| assert!(current().is_null())).join().unwrap());
}

#[test]
fn memory() {
    let driver = driver();
    let context = Context::new();
    // SAFETY: handles of this test, and pointers to variables.
    unsafe {
        let mut address = 0;
        assert_eq!(sys::cuMemAlloc_v2(&mut address, 0), CUDA_ERROR_INVALID_VALUE);
        assert_eq!(sys::cuMemAlloc_v2(&mut address, 1 << 40), CUDA_ERROR_OUT_OF_MEMORY);
        driver.fail_next(Failure::Allocation, 1);
        assert_eq!(sys::cuMemAlloc_v2(&mut address, 100), CUDA_SUCCESS);
        assert_eq!(sys::cuMemAlloc_v2(&mut address, 100), CUDA_ERROR_OUT_OF_MEMORY);
        assert_eq!(sys::cuMemAlloc_v2(&mut address, 100), CUDA_SUCCESS);
        assert_eq!(address % 256, 0);
        let words = [1u8; 101];
        assert_eq!(sys::cuMemcpyHtoD_v2(address, words.as_ptr().cast(), 101), CUDA_ERROR_INVALID_VALUE);
        assert_eq!(sys::cuMemcpyHtoD_v2(address, words.as_ptr().cast(), 100), CUDA_SUCCESS);
        assert_eq!(sys::cuMemsetD32Async(address, 0x01020304, 5, ptr::null_mut()), CUDA_SUCCESS);
        assert_eq!(sys::cuMemsetD32Async(address + 2, 0, 5, ptr::null_mut()), CUDA_ERROR_INVALID_VALUE);
        let bytes: Vec<u8> = context.download(address, 24);
        assert_eq!(bytes[..4], [4, 3, 2, 1]);
        assert_eq!(bytes[20..], [1; 4]);
        let (mut base, mut size) = (0, 0);
        assert_eq!(sys::cuMemGetAddressRange_v2(&mut base, &mut size, address + 7), CUDA_SUCCESS);
        assert_eq!((base, size), (address, 100));
        assert_eq!(sys::cuMemFree_v2(address + 4), CUDA_ERROR_INVALID_VALUE);
        assert_eq!(sys::cuMemFree_v2(address), CUDA_SUCCESS);
        assert_eq!(sys::cuMemFree_v2(address), CUDA_ERROR_INVALID_VALUE);
        assert_eq!(sys::cuMemFree_v2(0), CUDA_SUCCESS);

        let (mut free, mut total) = (0, 0);
        driver.configure(&Settings { memory_bytes: 1 << 40, ..Settings::default() });
        assert_eq!(sys::cuMemGetInfo_v2(&mut free, &mut total), CUDA_SUCCESS);
        assert_eq!(total, 1 << 40);
        assert!(free < total);

        let mut host = ptr::null_mut();
        assert_eq!(sys::cuMemHostAlloc(&mut host, 64, 0), CUDA_SUCCESS);
        host.cast::<u8>().write(9);
        assert_eq!(sys::cuMemFreeHost(host), CUDA_SUCCESS);
        assert_eq!(sys::cuMemFreeHost(host), CUDA_ERROR_INVALID_VALUE);
    }
}

#[test]
fn what_a_pointer_is() {
    driver();
    let context = Context::new();
    let address = context.alloc(1000);
    use sys::CUpointer_attribute::*;
    let mut numbers = [
        CU_POINTER_ATTRIBUTE_CONTEXT,
        CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
        CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
        CU_POINTER_ATTRIBUTE_RANGE_START_ADDR,
        CU_POINTER_ATTRIBUTE_RANGE_SIZE,
    ];
    let (mut owner, mut kind, mut ordinal, mut base, mut size) = (ptr::null_mut::<()>(), 0u32, 7i32, 0u64, 0usize);
    let mut data: [*mut std::ffi::c_void; 5] = [
        (&raw mut owner).cast(),
        (&raw mut kind).cast(),
        (&raw mut ordinal).cast(),
        (&raw mut base).cast(),
        (&raw mut size).cast(),
    ];
    // SAFETY: five attributes with five variables of their types.
    let mut ask =
        |address: u64| unsafe { sys::cuPointerGetAttributes(5, numbers.as_mut_ptr(), data.as_mut_ptr(), address) };
    assert_eq!(ask(address + 10), CUDA_SUCCESS);
    assert_eq!((owner.cast(), kind, ordinal, base, size), (context.0, 2, 0, address, 1000));
    // Managed memory says so of itself.
    let (mut managed, mut shared) = (0u64, [7u32; 2]);
    // SAFETY: a context is current, and the variables are of the attribute's type.
    unsafe {
        assert_eq!(sys::cuMemAllocManaged(&mut managed, 100, 0), CUDA_ERROR_INVALID_VALUE);
        assert_eq!(sys::cuMemAllocManaged(&mut managed, 100, 1), CUDA_SUCCESS);
        for (place, of) in shared.iter_mut().zip([address, managed]) {
            let told = sys::cuPointerGetAttribute(ptr::from_mut(place).cast(), CU_POINTER_ATTRIBUTE_IS_MANAGED, of);
            assert_eq!(told, CUDA_SUCCESS);
        }
        assert_eq!(sys::cuMemFree_v2(managed), CUDA_SUCCESS);
    }
    assert_eq!(shared, [0, 1]);
    // Of a pointer that no driver knows, nothing is said.
    let ours = 0u64;
    assert_eq!(ask(&raw const ours as u64), CUDA_SUCCESS);
    assert_eq!((owner.is_null(), kind, ordinal, base, size), (true, 0, -2, 0, 0));
    // SAFETY: the variable is of the attribute's type.
    let unknown = unsafe { sys::cuPointerGetAttribute((&raw mut kind).cast(), CU_POINTER_ATTRIBUTE_MEMORY_TYPE, 16) };
    assert_eq!(unknown, CUDA_ERROR_INVALID_VALUE);
}

#[test]
fn launches_outside_of_the_limits() {
    let driver = driver();
    let context = Context::new();
    let text = format!(
        "{}.visible .entry few() .maxntid 64, 1, 1 {{ ret; }}\n.visible .entry exact() .reqntid 32 {{ ret; }}\n.extern .shared .align 16 .b8 d[];\n.visible .entry dynamic() {{ .reg .b32 %r; mov.u32 %r, d; st.shared.u32 [%r+65532], %r; ret; }}\n",
        kernel(0, "ret;")
    );
    let module = context.module(&text).unwrap();
    // SAFETY: handles of this test, here and below.
    let function = |name: &str| unsafe { result::module::get_function(module, CString::new(name).unwrap()) };
    assert_eq!(function("other").unwrap_err().0, CUDA_ERROR_NOT_FOUND);
    let k = function("k").unwrap();
    for (grid, block, shared) in [
        ([0, 1, 1], [1, 1, 1], 0),
        ([1, 65536, 1], [1, 1, 1], 0),
        ([1, 1, 1], [1025, 1, 1], 0),
        ([1, 1, 1], [1, 1, 65], 0),
        ([1, 1, 1], [0, 1, 1], 0),
        ([1, 1, 1], [1, 1, 1], 48 * 1024 + 1),
    ] {
        assert_eq!(
            context.launch_with(k, grid, block, shared, &[]),
            Err(CUDA_ERROR_INVALID_VALUE),
            "{grid:?} {block:?} {shared}"
        );
    }
    assert_eq!(context.launch_with(k, [1, 65535, 1], [1, 1, 1], 48 * 1024, &[]), Ok(()));
    let few = function("few").unwrap();
    assert_eq!(context.launch(few, 1, 65, &[]), Err(CUDA_ERROR_INVALID_VALUE));
    assert_eq!(context.launch(few, 1, 64, &[]), Ok(()));
    let exact = function("exact").unwrap();
    assert_eq!(context.launch(exact, 1, 31, &[]), Err(CUDA_ERROR_INVALID_VALUE));
    assert_eq!(context.launch(exact, 1, 32, &[]), Ok(()));
    // More dynamic shared memory has to be asked for.
    let dynamic = function("dynamic").unwrap();
    assert_eq!(context.launch_with(dynamic, [1; 3], [1; 3], 65536, &[]), Err(CUDA_ERROR_INVALID_VALUE));
    let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    // SAFETY: a function of this test.
    unsafe {
        assert_eq!(sys::cuFuncSetAttribute(dynamic, attribute, (227 << 10) + 1), CUDA_ERROR_INVALID_VALUE);
        assert_eq!(sys::cuFuncSetAttribute(dynamic, attribute, 65536), CUDA_SUCCESS);
        let mut blocks = 0;
        assert_eq!(sys::cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut blocks, dynamic, 256, 65536), CUDA_SUCCESS);
        assert_eq!(blocks, 3);
    }
    assert_eq!(context.launch_with(dynamic, [1; 3], [1; 3], 65536, &[]), Ok(()));
    driver.assert_no_reports();
}

#[test]
fn failures_are_sticky_in_their_context() {
    let driver = driver();
    let bad = Context::new();
    let function = bad.function(&kernel(2, ADD), "k");
    driver.fail_next(Failure::Launch, 0);
    assert_eq!(add(function, bad.upload(&[0u32; 32]), 1, ptr::null_mut()), CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
    assert_eq!(add(function, bad.upload(&[0u32; 32]), 1, ptr::null_mut()), CUDA_SUCCESS);
    // The launch succeeds; what comes after it does not.
    assert_eq!(add(function, 12, 1, ptr::null_mut()), CUDA_SUCCESS);
    // SAFETY: pointers to variables, and handles of this test.
    unsafe {
        let mut address = 0;
        assert_eq!(sys::cuMemAlloc_v2(&mut address, 8), CUDA_ERROR_ILLEGAL_ADDRESS);
        assert_eq!(sys::cuCtxSynchronize(), CUDA_ERROR_ILLEGAL_ADDRESS);
        assert_eq!(add(function, 12, 1, ptr::null_mut()), CUDA_ERROR_ILLEGAL_ADDRESS);
    }
    let good = Context::new();
    let words = good.upload(&[1u32; 32]);
    let function = good.function(&kernel(2, ADD), "k");
    assert_eq!(add(function, words, 2, ptr::null_mut()), CUDA_SUCCESS);
    assert_eq!(good.download::<u32>(words, 32), [3; 32]);
    driver.fail_next(Failure::Execution, 0);
    assert_eq!(add(function, words, 2, ptr::null_mut()), CUDA_SUCCESS);
    // SAFETY: nothing but the state of the context.
    assert_eq!(unsafe { sys::cuCtxSynchronize() }, CUDA_ERROR_LAUNCH_FAILED);
}

#[test]
fn streams_and_events() {
    driver();
    let context = Context::new();
    let other = {
        let other = Context::new();
        let stream = stream(0);
        // SAFETY: takes the other context off the stack, and leaves it alive.
        unsafe { sys::cuCtxPopCurrent_v2(&mut ptr::null_mut()) }.result().unwrap();
        (other, stream)
    };
    let function = context.function(&kernel(2, ADD), "k");
    let words = context.upload(&[0u32; 32]);
    assert_eq!(add(function, words, 1, other.1), CUDA_ERROR_INVALID_HANDLE, "a stream of another context");
    assert_eq!(add(function, words, 1, 0x123 as sys::CUstream), CUDA_ERROR_INVALID_HANDLE);
    let (mine, event, early) = (stream(1), event(), event());
    // SAFETY: handles of this test, and pointers to variables.
    unsafe {
        let mut owner = ptr::null_mut();
        assert_eq!(sys::cuStreamGetCtx(mine, &mut owner), CUDA_SUCCESS);
        assert_eq!(owner, context.0);
        assert_eq!(sys::cuStreamGetCtx(other.1, &mut owner), CUDA_SUCCESS);
        assert_eq!(owner, other.0.0);
        let mut milliseconds = -1f32;
        assert_eq!(sys::cuEventElapsedTime(&mut milliseconds, early, event), CUDA_ERROR_INVALID_HANDLE);
        assert_eq!(sys::cuEventRecord(early, mine), CUDA_SUCCESS);
        assert_eq!(add(function, words, 1, mine), CUDA_SUCCESS);
        assert_eq!(sys::cuEventRecord(event, mine), CUDA_SUCCESS);
        assert_eq!(sys::cuStreamWaitEvent(ptr::null_mut(), event, 0), CUDA_SUCCESS);
        assert_eq!(sys::cuEventElapsedTime(&mut milliseconds, early, event), CUDA_SUCCESS);
        assert!(milliseconds > 0.0);
        assert_eq!(sys::cuEventRecord(event, other.1), CUDA_ERROR_INVALID_HANDLE);
        assert_eq!(sys::cuStreamSynchronize(mine), CUDA_SUCCESS);
        assert_eq!(sys::cuStreamDestroy_v2(mine), CUDA_SUCCESS);
        assert_eq!(sys::cuStreamDestroy_v2(mine), CUDA_ERROR_INVALID_HANDLE);
        assert_eq!(sys::cuEventDestroy_v2(event), CUDA_SUCCESS);
        assert_eq!(sys::cuEventQuery(event), CUDA_ERROR_INVALID_HANDLE);
    }
}

fn begin(stream: sys::CUstream) -> sys::CUresult {
    // SAFETY: a handle of the test.
    unsafe { sys::cuStreamBeginCapture_v2(stream, sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL) }
}
fn end(stream: sys::CUstream) -> Result<sys::CUgraph, sys::CUresult> {
    let mut graph = ptr::null_mut();
    // SAFETY: a handle of the test, and a pointer to a variable.
    unsafe { sys::cuStreamEndCapture(stream, &mut graph) }.result().map_err(|error| error.0)?;
    Ok(graph)
}

/// Captures of one test would forbid the allocations of another that runs at the same time: they are parts of one test.
#[test]
fn captures_and_graphs() {
    let driver = driver();
    let context = Context::new();
    let function = context.function(&kernel(2, ADD), "k");
    let (words, copy) = (context.upload(&[0u32; 32]), context.upload(&[0u32; 32]));
    let (main, side, event, joined) = (stream(1), stream(1), event(), event());
    driver.reset();

    assert_eq!(begin(main), CUDA_SUCCESS);
    assert_eq!(begin(main), CUDA_ERROR_ILLEGAL_STATE);
    let mut status = sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE;
    // SAFETY: handles of this test and pointers to variables, here and below.
    unsafe {
        assert_eq!(sys::cuStreamIsCapturing(main, &mut status), CUDA_SUCCESS);
        assert_eq!(status, sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_ACTIVE);
        assert_eq!(add(function, words, 3, main), CUDA_SUCCESS);
        // A second stream joins through an event, and is waited for.
        assert_eq!(sys::cuEventRecord(event, main), CUDA_SUCCESS);
        assert_eq!(sys::cuStreamWaitEvent(side, event, 0), CUDA_SUCCESS);
        assert_eq!(add(function, words, 4, side), CUDA_SUCCESS);
        assert_eq!(sys::cuEventQuery(event), CUDA_ERROR_CAPTURED_EVENT);
        assert_eq!(sys::cuEventRecord(joined, side), CUDA_SUCCESS);
        assert_eq!(sys::cuStreamWaitEvent(main, joined, 0), CUDA_SUCCESS);
        assert_eq!(sys::cuMemcpyDtoDAsync_v2(copy, words, 128, main), CUDA_SUCCESS);
        assert_eq!(sys::cuMemsetD32Async(words, 100, 1, main), CUDA_SUCCESS);
    }
    let graph = end(main).unwrap();
    assert_eq!(driver.launches().len(), 0, "a capture runs nothing");
    // SAFETY: as above.
    unsafe {
        let mut nodes = 0;
        assert_eq!(sys::cuGraphGetNodes(graph, ptr::null_mut(), &mut nodes), CUDA_SUCCESS);
        assert_eq!(nodes, 4);
        let mut executable = ptr::null_mut();
        assert_eq!(sys::cuGraphInstantiateWithFlags(&mut executable, graph, 0), CUDA_SUCCESS);
        assert_eq!(sys::cuGraphDestroy(graph), CUDA_SUCCESS);
        for _ in 0..2 {
            assert_eq!(sys::cuGraphLaunch(executable, side), CUDA_SUCCESS);
        }
        assert_eq!(context.download::<u32>(words, 2), [100, 14]);
        assert_eq!(context.download::<u32>(copy, 2), [107, 14]);
        assert_eq!(driver.launches().iter().filter(|launch| launch.from_graph).count(), 4);
        assert_eq!(sys::cuGraphExecDestroy(executable), CUDA_SUCCESS);
        assert_eq!(sys::cuGraphLaunch(executable, side), CUDA_ERROR_INVALID_VALUE);

        // What a capture does not allow spoils it.
        let mut address = 0;
        let place = &raw mut address;
        let spoilers: [(&dyn Fn() -> sys::CUresult, sys::CUresult); 4] = [
            (&|| sys::cuStreamSynchronize(main), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED),
            (&|| sys::cuCtxSynchronize(), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED),
            (&|| sys::cuMemFree_v2(0), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED),
            (&|| sys::cuMemAllocAsync(place, 8, main), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED),
        ];
        for (spoil, error) in spoilers {
            assert_eq!(begin(main), CUDA_SUCCESS);
            assert_eq!(spoil(), error);
            assert_eq!(add(function, words, 1, main), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
            assert_eq!(end(main), Err(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED));
        }

        // Unless the thread says that what it does is no work of the stream.
        assert_eq!(begin(main), CUDA_SUCCESS);
        let mut mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        assert_eq!(sys::cuThreadExchangeStreamCaptureMode(&mut mode), CUDA_SUCCESS);
        assert_eq!(mode, sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL);
        assert_eq!(sys::cuMemFree_v2(0), CUDA_SUCCESS);
        assert_eq!(sys::cuThreadExchangeStreamCaptureMode(&mut mode), CUDA_SUCCESS);
        assert_eq!(add(function, words, 1, main), CUDA_SUCCESS);
        assert_eq!(sys::cuGraphDestroy(end(main).unwrap()), CUDA_SUCCESS);
        // The legacy stream waits for blocking streams, which a capture of one cannot.
        let blocking = stream(0);
        assert_eq!(begin(blocking), CUDA_SUCCESS);
        assert_eq!(add(function, words, 1, ptr::null_mut()), CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
        assert_eq!(end(blocking), Err(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED));
        assert_eq!(begin(main), CUDA_SUCCESS);
        assert_eq!(add(function, words, 1, ptr::null_mut()), CUDA_SUCCESS, "a stream that does not block is no matter");
        let empty = end(main).unwrap();
        assert_eq!(sys::cuGraphDestroy(empty), CUDA_SUCCESS);

        // A fork that nobody joins, and an end on the wrong stream.
        assert_eq!(begin(main), CUDA_SUCCESS);
        assert_eq!(sys::cuEventRecord(event, main), CUDA_SUCCESS);
        assert_eq!(sys::cuStreamWaitEvent(side, event, 0), CUDA_SUCCESS);
        assert_eq!(add(function, words, 1, side), CUDA_SUCCESS);
        assert_eq!(end(side), Err(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED));
        assert_eq!(end(main), Err(CUDA_ERROR_STREAM_CAPTURE_UNJOINED));
        assert_eq!(end(main), Err(CUDA_ERROR_ILLEGAL_STATE));
        assert_eq!(begin(ptr::null_mut()), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
        // Work from before a capture cannot be waited for in it.
        assert_eq!(sys::cuEventRecord(event, side), CUDA_SUCCESS);
        assert_eq!(begin(main), CUDA_SUCCESS);
        assert_eq!(sys::cuStreamWaitEvent(main, event, 0), CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
        assert_eq!(end(main), Err(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED));
    }
    driver.assert_no_reports();
}

#[test]
fn several_threads_use_one_context() {
    driver();
    let context = Context::new();
    let function = context.function(&kernel(2, ADD), "k") as usize;
    let handle = context.0 as usize;
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            scope.spawn(move || {
                let driver = driver();
                // SAFETY: the context outlives the scope.
                unsafe { result::ctx::set_current(handle as sys::CUcontext) }.unwrap();
                let stream = stream(1);
                let context = std::mem::ManuallyDrop::new(Context(handle as sys::CUcontext));
                let words = context.upload(&[thread; 32]);
                for _ in 0..50 {
                    assert_eq!(add(function as sys::CUfunction, words, 1, stream), CUDA_SUCCESS);
                }
                assert_eq!(context.download::<u32>(words, 32), [thread + 50; 32]);
                assert_eq!(driver.launches().len(), 50, "those of this thread");
                driver.assert_no_reports();
            });
        }
    });
    assert!(softcuda::install().unwrap().unwrap().launches_of_all_threads().len() >= 200);
}

#[test]
fn nothing_is_left_behind() {
    let driver = driver();
    let context = Context::new();
    let before = driver.census();
    let text = CString::new(kernel(0, "ret;")).unwrap();
    // SAFETY: the text ends in a zero; the module is unloaded once.
    let module = unsafe { result::module::load_data(text.as_ptr().cast()) }.unwrap();
    let (made, event) = (stream(0), event());
    assert!(driver.census().modules > 0 && driver.census().streams > 0 && before.contexts > 0);
    // SAFETY: handles of this test.
    unsafe {
        result::module::unload(module).unwrap();
        assert_eq!(sys::cuModuleUnload(module), CUDA_ERROR_INVALID_HANDLE);
        result::event::destroy(event).unwrap();
        result::stream::destroy(made).unwrap();
    }
    drop(context);
}
