//! The CUDA driver: every raw call of this backend, and nothing else.
//!
//! Handles are owned by the types below and freed when they are dropped; each keeps its context alive. What is unsafe to the
//! caller stays so: launching a kernel, and adopting a handle of someone else.

use crate::error::Error;
use bytemuck::Pod;
use cudarc::driver::sys::{
    self, CUcontext, CUdevice, CUdevice_attribute as Attribute, CUfunction, CUjit_option as Option_, CUmemorytype,
    CUmodule, CUpointer_attribute as PointerAttribute, CUresult, CUstream, CUstream_flags as StreamFlags,
    CUstreamCaptureMode as CaptureMode,
};
use std::ffi::{CStr, CString, c_int, c_uint, c_void};
use std::marker::PhantomData;
use std::ptr::null_mut;
use std::sync::{Arc, OnceLock};

/// The least version whose PTX the kernels are: CUDA 12.0.
const VERSION_MIN: u32 = 12_000;
/// Bytes of a message of the driver's compiler.
const LOG_BYTES: usize = 8 << 10;
/// What the dynamic loader is asked for.
const LIBRARY: &str = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so" };

/// The driver's version, where there is one: 12000 is CUDA 12.0.
///
/// # Errors
/// [`Error::DriverMissing`], [`Error::DriverVersion`], or why it cannot be initialised.
pub(super) fn version() -> Result<u32, Error> {
    // What is not there may be there later; what was found stays.
    static FOUND: OnceLock<u32> = OnceLock::new();
    if let Some(&version) = FOUND.get() {
        return Ok(version);
    }
    // SAFETY: loading the driver's library runs its initialisers, which are made for that.
    if !unsafe { sys::is_culib_present() } {
        return Err(Error::DriverMissing { library: LIBRARY });
    }
    let mut got = 0;
    // SAFETY: the library is there, and `got` is a place for an integer.
    told(unsafe { sys::cuDriverGetVersion(&mut got) })?;
    let got = got as u32;
    if got < VERSION_MIN {
        return Err(Error::DriverVersion { need: VERSION_MIN, got });
    }
    // SAFETY: the one flag that there is, is 0.
    match unsafe { sys::cuInit(0) } {
        // The driver without a device: none to choose from.
        CUresult::CUDA_SUCCESS | CUresult::CUDA_ERROR_NO_DEVICE => {}
        other => told(other)?,
    }
    Ok(*FOUND.get_or_init(|| got))
}

/// How many devices there are.
pub(super) fn count() -> Result<usize, Error> {
    version()?;
    let mut count = 0;
    // SAFETY: `count` is a place for an integer.
    match unsafe { sys::cuDeviceGetCount(&mut count) } {
        CUresult::CUDA_SUCCESS => Ok(count as usize),
        CUresult::CUDA_ERROR_NO_DEVICE | CUresult::CUDA_ERROR_NOT_INITIALIZED => Ok(0),
        other => Err(refused(other)),
    }
}

/// A device by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gpu(CUdevice);

impl Gpu {
    /// # Errors
    /// [`Error::UnknownDevice`] when there are not as many.
    pub(super) fn new(ordinal: usize) -> Result<Gpu, Error> {
        let count = count()?;
        if ordinal >= count {
            let available = (0..count).map(|k| format!("cuda:{k}")).collect();
            return Err(Error::UnknownDevice { name: format!("cuda:{ordinal}"), available });
        }
        let mut device = 0;
        // SAFETY: `device` is a place for a device.
        told(unsafe { sys::cuDeviceGet(&mut device, ordinal as c_int) })?;
        Ok(Gpu(device))
    }

    /// Its number, as the driver counts.
    pub(super) fn ordinal(self) -> i32 {
        self.0
    }

    pub(super) fn name(self) -> Result<String, Error> {
        let mut name = [0u8; 256];
        // SAFETY: the driver writes at most as many bytes as it is told, the last of them 0.
        told(unsafe { sys::cuDeviceGetName(name.as_mut_ptr().cast(), name.len() as c_int, self.0) })?;
        Ok(CStr::from_bytes_until_nul(&name).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default())
    }

    /// Bytes of its memory.
    pub(super) fn memory(self) -> Result<u64, Error> {
        let mut bytes = 0;
        // SAFETY: `bytes` is a place for a size.
        told(unsafe { sys::cuDeviceTotalMem_v2(&mut bytes, self.0) })?;
        Ok(bytes as u64)
    }

    fn attribute(self, attribute: Attribute) -> Result<u32, Error> {
        let mut value = 0;
        // SAFETY: `value` is a place for an integer.
        told(unsafe { sys::cuDeviceGetAttribute(&mut value, attribute, self.0) })?;
        Ok(value.max(0) as u32)
    }

    /// Bytes of the last-level cache.
    pub(super) fn cache_bytes(self) -> Result<u64, Error> {
        self.attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE).map(u64::from)
    }

    /// What it can execute: 70 is sm_70.
    pub(super) fn capability(self) -> Result<u32, Error> {
        let major = self.attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        Ok(10 * major + self.attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?)
    }

    /// Whether kernels may read memory that no call of CUDA allocated.
    fn reads_pageable_memory(self) -> bool {
        self.attribute(Attribute::CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS).is_ok_and(|yes| yes != 0)
    }

    /// Whether kernels may read managed memory, whichever device it was allocated for.
    fn reads_managed_memory(self) -> bool {
        self.attribute(Attribute::CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY).is_ok_and(|yes| yes != 0)
    }
}

/// A context, and whether it is ours to release.
#[derive(Debug)]
pub(super) struct Context {
    raw: CUcontext,
    device: Gpu,
    /// The primary context, retained here.
    retained: bool,
    /// For copies from the host. No other stream waits for it or is waited for, so that a copy does not spoil the capture of one.
    copies: CUstream,
}

// SAFETY: a context may be made current in any thread, and in several at once.
unsafe impl Send for Context {}
// SAFETY: as above; the driver locks what it changes.
unsafe impl Sync for Context {}

impl Context {
    /// The primary context of a device, which the CUDA runtime and so most programs use.
    pub(super) fn primary(device: Gpu) -> Result<Arc<Context>, Error> {
        let mut raw = null_mut();
        // SAFETY: `raw` is a place for a context, and the device was given by the driver.
        told(unsafe { sys::cuDevicePrimaryCtxRetain(&mut raw, device.0) })?;
        Context { raw, device, retained: true, copies: null_mut() }.with_stream()
    }

    /// The context that is current in this thread, if there is one.
    pub(super) fn current() -> Result<Option<CUcontext>, Error> {
        version()?;
        let mut raw = null_mut();
        // SAFETY: `raw` is a place for a context.
        told(unsafe { sys::cuCtxGetCurrent(&mut raw) })?;
        Ok((!raw.is_null()).then_some(raw))
    }

    /// # Safety
    /// `raw` is a context, which outlives what is returned.
    pub(super) unsafe fn adopt(raw: CUcontext) -> Result<Arc<Context>, Error> {
        version()?;
        let mut context = Context { raw, device: Gpu(0), retained: false, copies: null_mut() };
        let mut device = 0;
        {
            let _entered = context.enter()?;
            // SAFETY: a context is current, and `device` is a place for a device.
            told(unsafe { sys::cuCtxGetDevice(&mut device) })?;
        }
        context.device = Gpu(device);
        context.with_stream()
    }

    fn with_stream(mut self) -> Result<Arc<Context>, Error> {
        let mut copies = null_mut();
        {
            let _entered = self.enter()?;
            // SAFETY: a context is current, and `copies` is a place for a stream.
            told(unsafe { sys::cuStreamCreate(&mut copies, StreamFlags::CU_STREAM_NON_BLOCKING as c_uint) })?;
        }
        self.copies = copies;
        Ok(Arc::new(self))
    }

    pub(super) fn device(&self) -> Gpu {
        self.device
    }

    pub(super) fn raw(&self) -> *mut c_void {
        self.raw.cast()
    }

    /// Makes it current in this thread until the guard is dropped, which gives back the one that was.
    ///
    /// Meanwhile a capture in the global mode, of any thread, neither refuses what allocates, frees, loads or unloads here nor is
    /// spoilt by it: none of that is work of a stream.
    pub(super) fn enter(&self) -> Result<Entered<'_>, Error> {
        // SAFETY: the context lives as long as `self`.
        told(unsafe { sys::cuCtxPushCurrent_v2(self.raw) })?;
        let mut captures = CaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        // SAFETY: `captures` is a mode, and takes the one that was this thread's.
        let exchanged = told(unsafe { sys::cuThreadExchangeStreamCaptureMode(&mut captures) });
        let entered = Entered { context: self, captures, here: PhantomData };
        exchanged.map(|()| entered)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if !self.copies.is_null()
            && let Ok(_entered) = self.enter()
        {
            // SAFETY: made once, destroyed once; whoever copied has waited for it.
            unsafe { sys::cuStreamDestroy_v2(self.copies) };
        }
        if self.retained {
            // SAFETY: retained once, released once. An error at the end of a process has nobody to hear it.
            unsafe { sys::cuDevicePrimaryCtxRelease_v2(self.device.0) };
        }
    }
}

/// Proof that a context is current in this thread.
#[derive(Debug)]
pub(super) struct Entered<'a> {
    context: &'a Context,
    /// What this thread may do during captures outside.
    captures: CaptureMode,
    /// The stack of contexts is the thread's own.
    here: PhantomData<*mut ()>,
}

/// What the driver knows of the memory around an address.
struct Piece {
    end: u64,
    /// Of no context: more may follow that belongs to the same buffer.
    is_mapped: bool,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut raw = null_mut();
        // SAFETY: gives back the mode that `Context::enter` took, and pops what it pushed.
        unsafe {
            sys::cuThreadExchangeStreamCaptureMode(&mut self.captures);
            sys::cuCtxPopCurrent_v2(&mut raw);
        }
        debug_assert_eq!(raw, self.context.raw, "guards are dropped in their order");
    }
}

impl Entered<'_> {
    /// Checks that kernels of this context reach `need` bytes from an address on; gives how many there are, at least up to that
    /// number, where the driver knows.
    pub(super) fn locate(&self, role: &'static str, address: u64, need: u64) -> Result<Option<u64>, Error> {
        let Some(piece) = self.piece(role, address)? else { return Ok(None) };
        let mut end = piece.end;
        // Memory that is mapped piece by piece, as allocators do that let theirs grow, lies in several that follow each other.
        while piece.is_mapped && end - address < need {
            match self.piece(role, end) {
                Ok(Some(next)) if next.is_mapped && next.end > end => end = next.end,
                Ok(_) | Err(Error::BufferForeign { .. }) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Some(end - address))
    }

    /// The allocation, or the mapping, that an address is in; `None` where the driver does not know its extent.
    fn piece(&self, role: &'static str, address: u64) -> Result<Option<Piece>, Error> {
        let mut context: CUcontext = null_mut();
        let (mut memory, mut ordinal, mut managed) = (0 as c_uint, -1 as c_int, 0 as c_uint);
        let (mut start, mut bytes) = (0u64, 0usize);
        let mut attributes = [
            PointerAttribute::CU_POINTER_ATTRIBUTE_CONTEXT,
            PointerAttribute::CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
            PointerAttribute::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
            PointerAttribute::CU_POINTER_ATTRIBUTE_IS_MANAGED,
            PointerAttribute::CU_POINTER_ATTRIBUTE_RANGE_START_ADDR,
            PointerAttribute::CU_POINTER_ATTRIBUTE_RANGE_SIZE,
        ];
        let mut places: [*mut c_void; 6] = [
            (&raw mut context).cast(),
            (&raw mut memory).cast(),
            (&raw mut ordinal).cast(),
            (&raw mut managed).cast(),
            (&raw mut start).cast(),
            (&raw mut bytes).cast(),
        ];
        // SAFETY: six attributes, and for each a place of its type or larger; any address may be asked about.
        told(unsafe {
            sys::cuPointerGetAttributes(
                attributes.len() as c_uint,
                attributes.as_mut_ptr(),
                places.as_mut_ptr(),
                address,
            )
        })?;
        let device = self.context.device;
        if memory == 0 {
            // Addresses that the driver does not know, and that a device may reach all the same.
            return match device.reads_pageable_memory() {
                true => Ok(None),
                false => Err(Error::BufferForeign { role, address }),
            };
        }
        // Managed memory moves to whoever reads it; memory of the host is no device's.
        let managed = managed != 0 && device.reads_managed_memory();
        let of_device = memory == CUmemorytype::CU_MEMORYTYPE_DEVICE as c_uint && !managed;
        if of_device && ordinal != device.0 {
            return Err(Error::OtherDevice { role, need: device.0, got: ordinal });
        }
        // Memory of pools and of mapped handles belongs to no context.
        if of_device && !context.is_null() && context != self.context.raw {
            return Err(Error::OtherContext { role });
        }
        let known = bytes > 0 && start <= address;
        Ok(known.then(|| Piece {
            end: start.saturating_add(bytes as u64).max(address),
            is_mapped: of_device && context.is_null(),
        }))
    }

    /// Checks that a stream belongs to this context. The default streams belong to whichever is current.
    pub(super) fn owns(&self, stream: Stream) -> Result<(), Error> {
        if stream.is_default() {
            return Ok(());
        }
        let mut context = null_mut();
        // SAFETY: `context` is a place for a context; the caller of a launch vouches for the stream.
        match unsafe { sys::cuStreamGetCtx(stream.raw(), &mut context) } {
            CUresult::CUDA_SUCCESS if context == self.context.raw => Ok(()),
            CUresult::CUDA_SUCCESS | CUresult::CUDA_ERROR_INVALID_CONTEXT => {
                Err(Error::OtherContext { role: "the stream" })
            }
            other => Err(refused(other)),
        }
    }

    /// Waits until a stream has done its work.
    pub(super) fn synchronize(&self, stream: Stream) -> Result<(), Error> {
        // SAFETY: the stream is a default one, or the caller's, who vouches for it.
        let result = unsafe { sys::cuStreamSynchronize(stream.raw()) };
        if is_sticky(result) { Err(Error::DeviceLost { reason: message(result) }) } else { told(result) }
    }

    /// Copies bytes to the device, and waits.
    pub(super) fn upload(&self, to: &Memory, at: u64, bytes: &[u8]) -> Result<(), Error> {
        to.holds(at, bytes.len())?;
        let stream = self.context.copies;
        // SAFETY: the range was checked against the allocation, which lives; the bytes are readable until the stream was waited for.
        told(unsafe { sys::cuMemcpyHtoDAsync_v2(to.address + at, bytes.as_ptr().cast(), bytes.len(), stream) })?;
        self.synchronize(Stream::from(stream))
    }

    /// Copies bytes from the device, and waits for what was launched on the default stream before.
    pub(super) fn download(&self, from: &Memory, at: u64, bytes: &mut [u8]) -> Result<(), Error> {
        from.holds(at, bytes.len())?;
        // SAFETY: as in `upload`, the other way round.
        let result = unsafe { sys::cuMemcpyDtoH_v2(bytes.as_mut_ptr().cast(), from.address + at, bytes.len()) };
        if is_sticky(result) { Err(Error::DeviceLost { reason: message(result) }) } else { told(result) }
    }

    /// Fills memory with a word, and waits.
    pub(super) fn fill(&self, memory: &Memory, word: u32) -> Result<(), Error> {
        // SAFETY: as many whole words as the allocation has.
        told(unsafe { sys::cuMemsetD32_v2(memory.address, word, memory.bytes as usize / 4) })?;
        self.synchronize(Stream::DEFAULT)
    }
}

/// Memory of a device.
#[derive(Debug)]
pub(super) struct Memory {
    address: u64,
    bytes: u64,
    context: Arc<Context>,
}

impl Memory {
    /// # Errors
    /// [`Error::DeviceMemory`] when there is none left.
    pub(super) fn new(context: &Arc<Context>, what: &'static str, bytes: u64) -> Result<Memory, Error> {
        let bytes = bytes.max(1).next_multiple_of(4);
        let mut address = 0;
        let _entered = context.enter()?;
        // SAFETY: `address` is a place for an address, and a context is current.
        match unsafe { sys::cuMemAlloc_v2(&mut address, bytes as usize) } {
            CUresult::CUDA_SUCCESS => Ok(Memory { address, bytes, context: context.clone() }),
            CUresult::CUDA_ERROR_OUT_OF_MEMORY => Err(Error::DeviceMemory { what }),
            other => Err(refused(other)),
        }
    }

    /// Memory that holds these bytes.
    pub(super) fn of(context: &Arc<Context>, what: &'static str, bytes: &[u8]) -> Result<Memory, Error> {
        let memory = Memory::new(context, what, bytes.len() as u64)?;
        context.enter()?.upload(&memory, 0, bytes)?;
        Ok(memory)
    }

    pub(super) fn address(&self) -> u64 {
        self.address
    }
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn holds(&self, at: u64, bytes: usize) -> Result<(), Error> {
        let need = at.saturating_add(bytes as u64);
        if need > self.bytes {
            return Err(Error::BufferBytes { role: "memory of the device", need, got: self.bytes });
        }
        Ok(())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Ok(_entered) = self.context.enter() {
            // SAFETY: allocated once, freed once; the driver waits for kernels that use it. It refuses in a context that is
            // lost, whose memory is gone anyway.
            unsafe { sys::cuMemFree_v2(self.address) };
        }
    }
}

/// A kernel, and the module that it is of.
#[derive(Debug)]
pub(super) struct Function {
    raw: CUfunction,
    module: CUmodule,
    name: &'static str,
    context: Arc<Context>,
}

// SAFETY: modules and functions may be used in any thread that their context is current in.
unsafe impl Send for Function {}
// SAFETY: as above; nothing of them changes after they are loaded.
unsafe impl Sync for Function {}

impl Function {
    /// Has the driver compile a text, and takes its one entry.
    ///
    /// # Errors
    /// [`Error::Ptx`] with what the compiler says, [`Error::DeviceMemory`].
    pub(super) fn load(context: &Arc<Context>, name: &'static str, text: &str) -> Result<Function, Error> {
        let driver = version()?;
        let refusal = |reason: String| Error::Ptx { kernel: name, ptx: ptx_version(text).into(), driver, reason };
        let image = CString::new(text).map_err(|e| refusal(e.to_string()))?;
        let entry = CString::new(name).map_err(|e| refusal(e.to_string()))?;
        let mut log = vec![0u8; LOG_BYTES];
        let mut options = [Option_::CU_JIT_ERROR_LOG_BUFFER, Option_::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
        // The driver takes numbers in the place of pointers.
        let mut values = [log.as_mut_ptr().cast::<c_void>(), LOG_BYTES as *mut c_void];
        let mut module = null_mut();
        let _entered = context.enter()?;
        // SAFETY: the text ends with 0; the options are as many as the values, the first the address of as many bytes as the
        // second says, both alive until the call returns.
        let result = unsafe {
            sys::cuModuleLoadDataEx(
                &mut module,
                image.as_ptr().cast(),
                options.len() as c_uint,
                options.as_mut_ptr(),
                values.as_mut_ptr(),
            )
        };
        match result {
            CUresult::CUDA_SUCCESS => {}
            CUresult::CUDA_ERROR_OUT_OF_MEMORY => return Err(Error::DeviceMemory { what: "a kernel" }),
            other if is_sticky(other) => return Err(Error::DeviceLost { reason: message(other) }),
            other => {
                let said = CStr::from_bytes_until_nul(&log).map(CStr::to_string_lossy).unwrap_or_default();
                let said = said.trim();
                let reason = message(other);
                return Err(refusal(if said.is_empty() { reason } else { format!("{reason}\n{said}") }));
            }
        }
        let mut function = Function { raw: null_mut(), module, name, context: context.clone() };
        // SAFETY: the module was just loaded, and the name ends with 0.
        match unsafe { sys::cuModuleGetFunction(&mut function.raw, module, entry.as_ptr()) } {
            CUresult::CUDA_SUCCESS => Ok(function),
            // Drivers that load lazily find here what others find above.
            CUresult::CUDA_ERROR_OUT_OF_MEMORY => Err(Error::DeviceMemory { what: "a kernel" }),
            other if is_sticky(other) => Err(Error::DeviceLost { reason: message(other) }),
            other => Err(refusal(message(other))),
        }
    }

    /// Launches the kernel with one parameter, passed by value.
    ///
    /// # Safety
    /// `P` is what the kernel takes; what its addresses reach is there, large enough and not in use otherwise until the stream
    /// has come to the end of it; the stream exists and belongs to the context, which is `entered`.
    pub(super) unsafe fn launch<P: Pod>(
        &self,
        _entered: &Entered<'_>,
        grid: [u32; 3],
        threads: u32,
        shared_bytes: u32,
        stream: Stream,
        mut params: P,
    ) -> Result<(), Error> {
        let mut places = [(&raw mut params).cast::<c_void>()];
        let [x, y, z] = grid;
        // SAFETY: one place for one parameter, copied before the call returns; the rest is the caller's promise.
        let result = unsafe {
            sys::cuLaunchKernel(
                self.raw,
                x,
                y,
                z,
                threads,
                1,
                1,
                shared_bytes,
                stream.raw(),
                places.as_mut_ptr(),
                null_mut(),
            )
        };
        match result {
            CUresult::CUDA_SUCCESS => Ok(()),
            other => Err(Error::Launch { kernel: self.name, reason: message(other), usable: !is_sticky(other) }),
        }
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        if let Ok(_entered) = self.context.enter() {
            // SAFETY: loaded once, unloaded once.
            unsafe { sys::cuModuleUnload(self.module) };
        }
    }
}

/// A stream of the caller: a handle of any version of any binding, as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stream(usize);

impl Stream {
    /// The legacy default stream, which waits for all others that are not made non-blocking.
    pub const DEFAULT: Stream = Stream(0);
    /// The default stream of the calling thread.
    pub const PER_THREAD: Stream = Stream(2);

    /// Neither of the three handles that stand for a default stream is a pointer.
    fn is_default(self) -> bool {
        self.0 <= 2
    }

    fn raw(self) -> CUstream {
        self.0 as CUstream
    }
}

/// A `CUstream`, `cudaStream_t` or `void*`.
impl<T> From<*mut T> for Stream {
    fn from(handle: *mut T) -> Stream {
        Stream(handle as usize)
    }
}

/// A handle as a number, as Python has it.
impl From<usize> for Stream {
    fn from(handle: usize) -> Stream {
        Stream(handle)
    }
}

impl From<&cudarc::driver::CudaStream> for Stream {
    fn from(stream: &cudarc::driver::CudaStream) -> Stream {
        Stream(stream.cu_stream() as usize)
    }
}

/// The version that a text states.
fn ptx_version(text: &str) -> &str {
    text.lines().find_map(|line| line.trim().strip_prefix(".version")).map_or("of no version", str::trim)
}

/// Success, or what the driver has against it.
fn told(result: CUresult) -> Result<(), Error> {
    match result {
        CUresult::CUDA_SUCCESS => Ok(()),
        other => Err(refused(other)),
    }
}

fn refused(result: CUresult) -> Error {
    let reason = message(result);
    if is_sticky(result) { Error::DeviceLost { reason } } else { Error::Device { reason } }
}

/// Name and text of an error.
fn message(result: CUresult) -> String {
    let text = |get: unsafe fn(CUresult, *mut *const std::ffi::c_char) -> CUresult| {
        let mut text = std::ptr::null();
        // SAFETY: `text` is a place for a pointer; where the driver knows the error, it is to a string that lives for ever.
        unsafe {
            let known = get(result, &mut text) == CUresult::CUDA_SUCCESS && !text.is_null();
            known.then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
        }
    };
    let name = text(sys::cuGetErrorName).unwrap_or_else(|| format!("error {}", result as u32));
    match text(sys::cuGetErrorString) {
        Some(words) => format!("{name}: {words}"),
        None => name,
    }
}

/// Whether an error stays with the context, so that every later call fails: all of which the driver's documentation says that the
/// process, or the context, cannot go on, and those of a device or a server that is gone.
fn is_sticky(result: CUresult) -> bool {
    // By number, as drivers are newer than the least that this is built for.
    const CONTAINED: u32 = 226;
    const TENSOR_MEMORY_LEAK: u32 = 721;
    matches!(result as u32, CONTAINED | TENSOR_MEMORY_LEAK)
        || matches!(
            result,
            CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
                | CUresult::CUDA_ERROR_LAUNCH_TIMEOUT
                | CUresult::CUDA_ERROR_ASSERT
                | CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR
                | CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION
                | CUresult::CUDA_ERROR_MISALIGNED_ADDRESS
                | CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE
                | CUresult::CUDA_ERROR_INVALID_PC
                | CUresult::CUDA_ERROR_LAUNCH_FAILED
                | CUresult::CUDA_ERROR_EXTERNAL_DEVICE
                | CUresult::CUDA_ERROR_ECC_UNCORRECTABLE
                | CUresult::CUDA_ERROR_NVLINK_UNCORRECTABLE
                | CUresult::CUDA_ERROR_MPS_CLIENT_TERMINATED
                | CUresult::CUDA_ERROR_MPS_RPC_FAILURE
                | CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED
                | CUresult::CUDA_ERROR_DEINITIALIZED
        )
}
