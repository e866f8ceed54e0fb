//! The state behind the driver API: contexts, modules, streams, events and what was launched.

use crate::control::*;
use crate::exec::{self, Job, Program};
use crate::memory::Memory;
use crate::ptx::{self, Problem, syntax};
use cudarc::driver::sys::CUresult;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread::ThreadId;
use std::time::Instant;

pub(crate) type Answer<T = ()> = Result<T, CUresult>;

/// Multiprocessors of the device: an H100's.
pub(crate) const MULTIPROCESSORS: u32 = 132;
/// Bytes of its last-level cache.
pub(crate) const L2_BYTES: u32 = 50 << 20;
/// Bytes of shared memory: of a block unless it asks for more, of one that does, and of a multiprocessor.
pub(crate) const SHARED_DEFAULT: u32 = 48 << 10;
pub(crate) const SHARED_MOST: u32 = 227 << 10;
pub(crate) const SHARED_MULTIPROCESSOR: u32 = 228 << 10;
pub(crate) const THREADS_MOST: u32 = 1024;
/// Launches that are kept for tests; older ones are forgotten.
const LAUNCHES_KEPT: usize = 1 << 20;

/// `CUstreamCaptureMode`; the one between them is of the thread alone.
pub(crate) const CAPTURE_GLOBAL: u32 = 0;
pub(crate) const CAPTURE_RELAXED: u32 = 2;

/// The stream handles that stand for default streams.
pub(crate) const STREAM_LEGACY: usize = 1;
pub(crate) const STREAM_PER_THREAD: usize = 2;

pub(crate) struct State {
    pub(crate) memory: Memory,
    tables: Mutex<Tables>,
    launches: Mutex<Vec<(ThreadId, Launch)>>,
    reports: Mutex<Vec<(ThreadId, Report)>>,
}

/// Everything that has a handle.
#[derive(Default)]
pub(crate) struct Tables {
    pub(crate) initialised: bool,
    next: usize,
    /// The primary context, and how often it is retained.
    pub(crate) primary: Option<usize>,
    pub(crate) primary_uses: u32,
    pub(crate) contexts: HashMap<usize, Context>,
    pub(crate) modules: HashMap<usize, Arc<Module>>,
    pub(crate) functions: HashMap<usize, Arc<Function>>,
    pub(crate) streams: HashMap<usize, Stream>,
    pub(crate) events: HashMap<usize, Event>,
    pub(crate) graphs: HashMap<usize, Graph>,
    /// Graphs that can be launched, with their contexts.
    pub(crate) executables: HashMap<usize, (usize, Arc<Graph>)>,
    pub(crate) captures: HashMap<usize, Capture>,
    pub(crate) host_allocations: HashMap<usize, HostAllocation>,
    /// Reserved addresses, and bytes of physical memory that can be mapped there, by handle.
    pub(crate) reservations: HashMap<u64, usize>,
    pub(crate) physical: HashMap<u64, usize>,
    /// Names and texts of errors, which callers keep pointers to.
    pub(crate) texts: HashMap<String, std::ffi::CString>,
}

pub(crate) struct Context {
    /// What every call returns after a fault of a kernel.
    pub(crate) error: Option<CUresult>,
    pub(crate) flags: u32,
    /// Serialises what runs on the default stream.
    pub(crate) order: Arc<Mutex<()>>,
}

pub(crate) struct Module {
    pub(crate) context: usize,
    pub(crate) programs: HashMap<String, Arc<Program>>,
    /// Addresses and sizes of variables.
    pub(crate) variables: HashMap<String, (u64, usize)>,
    pub(crate) version: (u32, u32),
}

pub(crate) struct Function {
    pub(crate) module: usize,
    pub(crate) context: usize,
    pub(crate) program: Arc<Program>,
    pub(crate) version: (u32, u32),
    /// The dynamic shared memory that a launch may ask for.
    pub(crate) dynamic_shared_most: AtomicU32,
}

pub(crate) struct Stream {
    pub(crate) context: usize,
    pub(crate) priority: i32,
    pub(crate) flags: u32,
    /// The capture that records what is put on it.
    pub(crate) capture: Option<usize>,
    pub(crate) order: Arc<Mutex<()>>,
}

pub(crate) struct Event {
    pub(crate) context: usize,
    pub(crate) timed: bool,
    pub(crate) recorded: Option<Instant>,
    /// The stream on which it was recorded last.
    pub(crate) recorded_on: usize,
    /// The capture in which it was recorded last.
    pub(crate) capture: Option<usize>,
}

#[derive(Clone, Default)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Work>,
}

pub(crate) struct Capture {
    /// The stream that began it.
    pub(crate) origin: usize,
    pub(crate) mode: u32,
    pub(crate) thread: ThreadId,
    pub(crate) nodes: Vec<Work>,
    pub(crate) valid: bool,
    /// Streams that joined through events, and whether another stream has waited for what they did last.
    pub(crate) forks: HashMap<usize, bool>,
}

pub(crate) struct HostAllocation {
    pub(crate) bytes: Vec<u8>,
    pub(crate) context: usize,
}

/// Work of a stream.
#[derive(Clone)]
pub(crate) enum Work {
    Launch(Launching),
    /// Between addresses of the host or the device, as they are.
    Copy {
        to: u64,
        from: u64,
        bytes: usize,
    },
    /// The pattern's bytes, again and again.
    Fill {
        to: u64,
        pattern: [u8; 4],
        width: usize,
        count: usize,
    },
}

/// A kernel with everything that its launch says.
#[derive(Clone)]
pub(crate) struct Launching {
    pub(crate) function: Arc<Function>,
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) dynamic_shared: u32,
    pub(crate) parameters: Vec<u8>,
    pub(crate) cooperative: bool,
}

#[derive(Default)]
struct Thread {
    settings: Settings,
    failures: Vec<(Failure, u32)>,
    /// Contexts that are current, the last on top.
    contexts: Vec<usize>,
    /// Which captures forbid this thread something: `CUstreamCaptureMode`, at first the global one.
    capture_mode: u32,
    log: String,
}

thread_local! {
    static THREAD: RefCell<Thread> = RefCell::default();
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The one state of the process.
pub(crate) fn state() -> &'static State {
    static STATE: OnceLock<State> = OnceLock::new();
    STATE.get_or_init(|| State {
        memory: Memory::new(),
        tables: Mutex::new(Tables { next: 0x1000, ..Tables::default() }),
        launches: Mutex::default(),
        reports: Mutex::default(),
    })
}

pub(crate) fn tables() -> MutexGuard<'static, Tables> {
    locked(&state().tables)
}

/// The calling thread's settings.
pub(crate) fn settings() -> Settings {
    THREAD.with_borrow(|thread| thread.settings.clone())
}

/// Whether a call of this kind is to fail now.
pub(crate) fn fails(kind: Failure) -> bool {
    THREAD.with_borrow_mut(|thread| {
        let Some(at) = thread.failures.iter().position(|(failure, _)| *failure == kind) else { return false };
        if thread.failures[at].1 == 0 {
            thread.failures.remove(at);
            return true;
        }
        thread.failures[at].1 -= 1;
        false
    })
}

/// The calling thread's stack of contexts.
pub(crate) fn with_context_stack<T>(f: impl FnOnce(&mut Vec<usize>) -> T) -> T {
    THREAD.with_borrow_mut(|thread| f(&mut thread.contexts))
}

/// The calling thread's mode of captures, which becomes another.
pub(crate) fn exchange_capture_mode(mode: u32) -> u32 {
    THREAD.with_borrow_mut(|thread| std::mem::replace(&mut thread.capture_mode, mode))
}

impl Tables {
    /// A handle that was never used before.
    pub(crate) fn handle(&mut self) -> usize {
        self.next += 16;
        self.next
    }
    /// The calling thread's context.
    pub(crate) fn current(&self) -> Answer<usize> {
        if !self.initialised {
            return Err(CUresult::CUDA_ERROR_NOT_INITIALIZED);
        }
        let context = with_context_stack(|stack| stack.last().copied()).filter(|context| *context != 0);
        match context {
            None => Err(CUresult::CUDA_ERROR_INVALID_CONTEXT),
            Some(context) if !self.contexts.contains_key(&context) => Err(CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED),
            Some(context) => Ok(context),
        }
    }
    /// The calling thread's context, if no kernel has failed in it.
    pub(crate) fn usable(&self) -> Answer<usize> {
        let context = self.current()?;
        match self.contexts[&context].error {
            Some(error) => Err(error),
            None => Ok(context),
        }
    }
    pub(crate) fn new_context(&mut self, flags: u32) -> usize {
        let handle = self.handle();
        self.contexts.insert(handle, Context { error: None, flags, order: Arc::default() });
        handle
    }
    /// Removes a context and everything that belongs to it.
    pub(crate) fn destroy_context(&mut self, context: usize) -> Answer {
        if self.contexts.remove(&context).is_none() {
            return Err(CUresult::CUDA_ERROR_INVALID_CONTEXT);
        }
        self.modules.retain(|_, module| module.context != context);
        self.functions.retain(|_, function| function.context != context);
        self.streams.retain(|_, stream| stream.context != context);
        self.events.retain(|_, event| event.context != context);
        self.executables.retain(|_, (owner, _)| *owner != context);
        self.host_allocations.retain(|_, allocation| allocation.context != context);
        state().memory.free_all_of(context);
        Ok(())
    }
    /// The context of a stream's handle; default streams are of the current one.
    pub(crate) fn stream_context(&self, stream: usize) -> Answer<usize> {
        match stream {
            0 | STREAM_LEGACY | STREAM_PER_THREAD => self.current(),
            _ => self.streams.get(&stream).map(|stream| stream.context).ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE),
        }
    }
    /// The context of a stream, if no kernel has failed in it.
    pub(crate) fn usable_stream(&self, stream: usize) -> Answer<usize> {
        let context = self.stream_context(stream)?;
        match self.contexts.get(&context) {
            Some(Context { error: Some(error), .. }) => Err(*error),
            Some(_) => Ok(context),
            None => Err(CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED),
        }
    }
    fn order(&self, stream: usize, context: usize) -> Arc<Mutex<()>> {
        match self.streams.get(&stream) {
            Some(stream) => stream.order.clone(),
            None => self.contexts[&context].order.clone(),
        }
    }

    // Captures.

    /// Fails a call that is not allowed while the calling thread, or any for a global one, captures; and spoils those captures.
    /// The thread's own mode may leave out the captures of others, or all.
    pub(crate) fn forbid_in_capture(&mut self) -> Answer {
        let (this, mode) = (std::thread::current().id(), THREAD.with_borrow(|thread| thread.capture_mode));
        let mut forbidden = false;
        for capture in self.captures.values_mut() {
            let own = capture.thread == this && capture.mode != CAPTURE_RELAXED;
            let of_other = capture.mode == CAPTURE_GLOBAL && mode == CAPTURE_GLOBAL;
            if mode != CAPTURE_RELAXED && (own || of_other) {
                capture.valid = false;
                forbidden = true;
            }
        }
        if forbidden { Err(CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED) } else { Ok(()) }
    }
    /// The capture that a stream's work belongs to. The legacy stream waits for others, which a capture cannot.
    pub(crate) fn capture_of(&mut self, stream: usize) -> Answer<Option<usize>> {
        if matches!(stream, 0 | STREAM_LEGACY) {
            const NON_BLOCKING: u32 = 1;
            let streams = &self.streams;
            let blocking =
                |capture: &Capture| streams.get(&capture.origin).is_some_and(|origin| origin.flags & NON_BLOCKING == 0);
            let mut implicit = false;
            for capture in self.captures.values_mut().filter(|capture| blocking(capture)) {
                capture.valid = false;
                implicit = true;
            }
            return if implicit { Err(CUresult::CUDA_ERROR_STREAM_CAPTURE_IMPLICIT) } else { Ok(None) };
        }
        let Some(id) = self.streams.get(&stream).and_then(|stream| stream.capture) else { return Ok(None) };
        match self.captures.get(&id) {
            Some(capture) if !capture.valid => Err(CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED),
            Some(_) => Ok(Some(id)),
            None => Ok(None),
        }
    }
    /// Fails a call that waits for a stream which is captured.
    pub(crate) fn forbid_waiting(&mut self, stream: usize) -> Answer {
        match self.capture_of(stream)? {
            None => Ok(()),
            Some(id) => {
                if let Some(capture) = self.captures.get_mut(&id) {
                    capture.valid = false;
                }
                Err(CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)
            }
        }
    }
}

/// Puts work on a stream: it is recorded where the stream is captured, else it runs now.
pub(crate) fn submit(stream: usize, work: Work) -> Answer {
    let (context, order) = {
        let mut tables = tables();
        let context = tables.usable_stream(stream)?;
        if let Work::Launch(launching) = &work
            && launching.function.context != context
        {
            return Err(CUresult::CUDA_ERROR_INVALID_HANDLE);
        }
        if let Some(id) = tables.capture_of(stream)? {
            if let Some(capture) = tables.captures.get_mut(&id) {
                capture.nodes.push(work);
                if let Some(joined) = capture.forks.get_mut(&stream) {
                    *joined = false;
                }
            }
            return Ok(());
        }
        (context, tables.order(stream, context))
    };
    let _turn = locked(&order);
    perform(context, stream, &work, false)
}

/// Runs a graph's nodes in the order in which they were recorded.
pub(crate) fn submit_graph(stream: usize, owner: usize, graph: &Graph) -> Answer {
    let order = {
        let mut tables = tables();
        let context = tables.usable_stream(stream)?;
        if context != owner {
            return Err(CUresult::CUDA_ERROR_INVALID_HANDLE);
        }
        if let Some(id) = tables.capture_of(stream)? {
            if let Some(capture) = tables.captures.get_mut(&id) {
                capture.nodes.extend(graph.nodes.iter().cloned());
            }
            return Ok(());
        }
        tables.order(stream, context)
    };
    let _turn = locked(&order);
    graph.nodes.iter().try_for_each(|node| perform(owner, stream, node, true))
}

fn perform(context: usize, stream: usize, work: &Work, from_graph: bool) -> Answer {
    match work {
        Work::Copy { to, from, bytes } => {
            state().memory.copy(*to, *from, *bytes).ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)
        }
        Work::Fill { to, pattern, width, count } => {
            state().memory.fill(*to, &pattern[..*width], *count).ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)
        }
        Work::Launch(launching) => launch(context, stream, launching, from_graph),
    }
}

fn launch(context: usize, stream: usize, launching: &Launching, from_graph: bool) -> Answer {
    let settings = settings();
    if fails(Failure::Launch) {
        return Err(CUresult::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
    }
    let program = &*launching.function.program;
    let memory = &state().memory;
    // What the blocks of a cooperative grid meet at.
    let workspace = match launching.cooperative {
        true => memory.allocate(256, context, u64::MAX).ok_or(CUresult::CUDA_ERROR_OUT_OF_MEMORY)?,
        false => 0,
    };
    if workspace != 0 {
        memory.fill(workspace, &[0], 256);
    }
    let outcome = exec::run(&Job {
        program,
        grid: launching.grid,
        block: launching.block,
        dynamic_shared: launching.dynamic_shared,
        parameters: &launching.parameters,
        memory,
        map: &memory.map(),
        settings: &settings,
        multiprocessors: MULTIPROCESSORS,
        cooperative: launching.cooperative,
        grid_workspace: workspace,
    });
    if workspace != 0 {
        memory.free(workspace);
    }
    let mut by_opcode = vec![0u64; program.opcodes.len()];
    for (i, count) in program.code.iter().zip(&outcome.executed) {
        by_opcode[i.opcode as usize] += count;
    }
    let executed = program.opcodes.iter().zip(by_opcode).filter(|(_, count)| *count > 0);
    let mut opcodes: Vec<(String, u64)> = executed.map(|(name, count)| (name.clone(), count)).collect();
    opcodes.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let thread = std::thread::current().id();
    let record = Launch {
        kernel: program.name.clone(),
        grid: launching.grid,
        block: launching.block,
        dynamic_shared: launching.dynamic_shared,
        stream: stream as u64,
        from_graph,
        counters: outcome.counters,
        opcodes,
    };
    let mut launches = locked(&state().launches);
    if launches.len() == LAUNCHES_KEPT {
        launches.remove(0);
    }
    launches.push((thread, record));
    drop(launches);

    let mut error = outcome.reports.iter().find(|report| report.fault.is_fatal()).map(|report| error_of(report.fault));
    if fails(Failure::Execution) {
        error = Some(CUresult::CUDA_ERROR_LAUNCH_FAILED);
    }
    locked(&state().reports).extend(outcome.reports.into_iter().map(|report| (thread, report)));
    // As on a device, the launch itself succeeds and whatever comes after it does not.
    if let (Some(error), Some(context)) = (error, tables().contexts.get_mut(&context)) {
        context.error.get_or_insert(error);
    }
    Ok(())
}

fn error_of(fault: Fault) -> CUresult {
    match fault {
        Fault::Misaligned => CUresult::CUDA_ERROR_MISALIGNED_ADDRESS,
        Fault::Trap => CUresult::CUDA_ERROR_LAUNCH_FAILED,
        Fault::Deadlock | Fault::TimedOut => CUresult::CUDA_ERROR_LAUNCH_TIMEOUT,
        _ => CUresult::CUDA_ERROR_ILLEGAL_ADDRESS,
    }
}

/// The newest PTX that a driver of a CUDA version takes.
fn newest_ptx(driver_version: u32) -> (u32, u32) {
    match driver_version {
        ..12000 => (7, 8),
        12000..12010 => (8, 0),
        12010..12020 => (8, 1),
        12020..12030 => (8, 2),
        12030..12040 => (8, 3),
        12040..12050 => (8, 4),
        12050..12070 => (8, 5),
        12070..12080 => (8, 6),
        12080..12090 => (8, 7),
        12090..13000 => (8, 8),
        13000..13010 => (9, 0),
        13010..13020 => (9, 1),
        _ => (9, 2),
    }
}

/// Loads a module into a context. On an error, the text of the compiler's log.
pub(crate) fn load_module(context: usize, text: &str) -> Result<Module, (CUresult, String)> {
    let settings = settings();
    let invalid = |problem: Problem| (CUresult::CUDA_ERROR_INVALID_PTX, problem.to_string());
    if fails(Failure::Module) {
        return Err((CUresult::CUDA_ERROR_INVALID_PTX, "refused as the test arranged".into()));
    }
    let module = ptx::parse(text).map_err(invalid)?;
    let newest = newest_ptx(settings.driver_version);
    if module.version > newest {
        let (major, minor) = module.version;
        let message =
            format!("PTX .version {major}.{minor} is newer than {}.{}, the newest of this driver", newest.0, newest.1);
        return Err((CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION, message));
    }
    let target: u32 = module
        .target
        .trim_start_matches("sm_")
        .trim_end_matches(|c: char| c.is_ascii_alphabetic())
        .parse()
        .unwrap_or(0);
    if target > settings.compute_capability {
        let message = format!("PTX for {} on a device of sm_{}", module.target, settings.compute_capability);
        return Err((CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU, message));
    }
    let mut addresses = HashMap::new();
    for variable in module.variables.iter().filter(|variable| variable.space != syntax::Space::Shared) {
        let size = variable.size();
        let address = state().memory.allocate(size as u64, context, u64::MAX);
        let Some(address) = address else { return Err((CUresult::CUDA_ERROR_OUT_OF_MEMORY, String::new())) };
        addresses.insert(variable.name, address);
    }
    let programs = match build(&module, &addresses).map_err(invalid) {
        Ok(programs) => programs,
        Err(error) => {
            for address in addresses.values() {
                state().memory.free(*address);
            }
            return Err(error);
        }
    };
    let sizes = module.variables.iter().map(|variable| (variable.name, variable.size())).collect::<HashMap<_, _>>();
    let variables = addresses.iter().map(|(name, address)| (name.to_string(), (*address, sizes[name]))).collect();
    Ok(Module { context, programs, variables, version: module.version })
}

/// Fills the variables of a module and decodes its entries.
fn build(module: &syntax::Module, addresses: &HashMap<&str, u64>) -> Result<HashMap<String, Arc<Program>>, Problem> {
    for variable in &module.variables {
        if let Some(address) = addresses.get(variable.name) {
            state().memory.write(*address, &initial_bytes(variable, addresses)?);
        }
    }
    let entries = module.functions.iter().filter(|function| function.is_entry);
    entries.map(|entry| Ok((entry.name.to_string(), Arc::new(exec::decode(module, entry, addresses)?)))).collect()
}

/// The bytes that a variable of a module holds at first.
fn initial_bytes(variable: &syntax::Variable, addresses: &HashMap<&str, u64>) -> Result<Vec<u8>, Problem> {
    let size = variable.ty.size();
    let mut bytes = Vec::with_capacity(variable.size());
    for initial in variable.initial.iter().flatten() {
        let bits = match *initial {
            syntax::Initial::Bits(bits) => bits,
            syntax::Initial::Number(bits) if variable.ty == syntax::Type::F32 => {
                (f64::from_bits(bits) as f32).to_bits() as u64
            }
            syntax::Initial::Number(bits) => bits,
            syntax::Initial::Address(name, offset) => match addresses.get(name) {
                Some(address) => address.wrapping_add_signed(offset),
                None => return Err(Problem::new(variable.line, format!("unknown name {name}"))),
            },
        };
        bytes.extend_from_slice(&bits.to_le_bytes()[..size.min(8)]);
    }
    if bytes.len() > variable.size() {
        return Err(Problem::new(variable.line, format!("more elements than {} has", variable.name)));
    }
    bytes.resize(variable.size(), 0);
    Ok(bytes)
}

/// Keeps the compiler's log for the calling thread's test.
pub(crate) fn keep_log(text: &str) {
    THREAD.with_borrow_mut(|thread| thread.log = text.to_string());
}

impl Function {
    pub(crate) fn new(module: usize, of: &Module, program: &Arc<Program>) -> Function {
        let most = SHARED_DEFAULT.saturating_sub(program.dynamic_base() as u32);
        Function {
            module,
            context: of.context,
            program: program.clone(),
            version: of.version,
            dynamic_shared_most: AtomicU32::new(most),
        }
    }
    /// Blocks of so many threads that fit a multiprocessor.
    pub(crate) fn occupancy(&self, threads: u32, dynamic_shared: usize) -> u32 {
        if threads == 0 || threads > THREADS_MOST {
            return 0;
        }
        let shared = self.program.dynamic_base() + dynamic_shared + 1024;
        let by_shared = SHARED_MULTIPROCESSOR as usize / shared;
        (2048 / threads.next_multiple_of(32)).min(32).min(by_shared as u32)
    }
    /// Whether a launch is within the device's limits and the kernel's own.
    pub(crate) fn check(&self, grid: [u32; 3], block: [u32; 3], dynamic_shared: u32, cooperative: bool) -> Answer {
        let program = &self.program;
        let threads = block.iter().map(|extent| *extent as u64).product::<u64>();
        let most = self.dynamic_shared_most.load(Ordering::Relaxed);
        let grid_fits = grid[0] <= i32::MAX as u32 && grid[1] <= 65535 && grid[2] <= 65535 && !grid.contains(&0);
        let block_fits = threads > 0 && threads <= THREADS_MOST as u64 && block[2] <= 64;
        let wanted = program.max_threads;
        let most_threads: u64 = wanted.iter().map(|extent| *extent as u64).product();
        let declared_fits = most_threads == 0 || (!program.required && threads <= most_threads) || block == wanted;
        if !grid_fits || !block_fits || !declared_fits || dynamic_shared > most {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        let blocks: u64 = grid.iter().map(|extent| *extent as u64).product();
        let resident = self.occupancy(threads as u32, dynamic_shared as usize) as u64 * MULTIPROCESSORS as u64;
        if cooperative && blocks > resident {
            return Err(CUresult::CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
        }
        Ok(())
    }
}

// The other side of `control`.

static INTERFACE: Interface = Interface {
    version: INTERFACE_VERSION,
    layout: LAYOUT,
    settings: {
        extern "C" fn get(to: &mut Settings) {
            *to = settings();
        }
        get
    },
    configure: {
        extern "C" fn configure(settings: &Settings) {
            THREAD.with_borrow_mut(|thread| thread.settings = settings.clone());
        }
        configure
    },
    reset: {
        extern "C" fn reset() {
            let this = std::thread::current().id();
            locked(&state().launches).retain(|(thread, _)| *thread != this);
            locked(&state().reports).retain(|(thread, _)| *thread != this);
            state().memory.reset_peak();
            THREAD.with_borrow_mut(|thread| thread.failures.clear());
        }
        reset
    },
    fail_next: {
        extern "C" fn fail_next(failure: Failure, skip: u32) {
            THREAD.with_borrow_mut(|thread| thread.failures.push((failure, skip)));
        }
        fail_next
    },
    census: {
        extern "C" fn census(to: &mut Census) {
            let tables = tables();
            let (allocations, allocated_bytes, peak_bytes) = state().memory.usage();
            *to = Census {
                contexts: tables.contexts.len() as u64,
                allocations,
                allocated_bytes,
                peak_bytes,
                streams: tables.streams.len() as u64,
                events: tables.events.len() as u64,
                modules: tables.modules.len() as u64,
                graphs: (tables.graphs.len() + tables.executables.len()) as u64,
            };
        }
        census
    },
    launches: {
        extern "C" fn launches(
            whose: Whose,
            visit: extern "C" fn(*mut std::ffi::c_void, &Launch),
            context: *mut std::ffi::c_void,
        ) {
            let this = std::thread::current().id();
            let launches = locked(&state().launches);
            let wanted = launches.iter().filter(|(thread, _)| whose == Whose::Process || *thread == this);
            wanted.for_each(|(_, launch)| visit(context, launch));
        }
        launches
    },
    reports: {
        extern "C" fn reports(
            whose: Whose,
            visit: extern "C" fn(*mut std::ffi::c_void, &Report),
            context: *mut std::ffi::c_void,
        ) {
            let this = std::thread::current().id();
            let reports = locked(&state().reports);
            let wanted = reports.iter().filter(|(thread, _)| whose == Whose::Process || *thread == this);
            wanted.for_each(|(_, report)| visit(context, report));
        }
        reports
    },
    log: {
        extern "C" fn log(visit: extern "C" fn(*mut std::ffi::c_void, &String), context: *mut std::ffi::c_void) {
            THREAD.with_borrow(|thread| visit(context, &thread.log));
        }
        log
    },
};

/// What [`install`](crate::install) asks the loaded library for.
#[unsafe(no_mangle)]
extern "C" fn softcuda_interface() -> *const Interface {
    &INTERFACE
}
