//! Finding and loading the driver, so that a program's search for `libcuda.so` ends at it.

use crate::control::*;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use std::ffi::c_void;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::{env, fmt};

/// With this variable set to `system`, [`install`] does nothing and tests run on the machine's own driver.
pub const DRIVER_VARIABLE: &str = "SEGFUSE_TEST_DRIVER";

/// The software driver, loaded into this process for good.
///
/// Kernels run when they are launched, on the thread that launches them. So settings, launches, reports and arranged failures belong
/// to the calling thread, and tests of one process do not disturb each other; what belongs to a context, its memory and its sticky
/// error among it, is shared as on any driver.
pub struct Driver {
    interface: &'static Interface,
}

/// Why the software driver could not be loaded.
#[derive(Debug)]
pub enum InstallError {
    /// None of these files exists.
    NotFound {
        /// Where it could have been.
        searched: Vec<PathBuf>,
    },
    /// The file exists and the loader refused it.
    Refused {
        /// The file.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// The file is of another build of this crate.
    Stale {
        /// The file.
        path: PathBuf,
    },
}

impl fmt::Display for InstallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InstallError::NotFound { searched } => write!(f, "no software CUDA driver; searched {searched:?}"),
            InstallError::Refused { path, reason } => write!(f, "{} cannot be loaded: {reason}", path.display()),
            InstallError::Stale { path } => write!(f, "{} is of another build", path.display()),
        }
    }
}

impl std::error::Error for InstallError {}

/// Loads the software driver, so that whatever asks for `libcuda.so` from now on gets it. `None` where the environment asks for
/// the system's driver.
///
/// Call it before anything looks for a CUDA driver; calls after the first return the same driver. The file lies beside the
/// program in `target/*/deps` under a name that no search for a driver knows, and its SONAME is `libcuda.so`: the loader answers a
/// later request for that name with the library that is there already. A process that never calls this cannot load it.
///
/// # Errors
/// The file is missing, cannot be loaded or is of another build.
pub fn install() -> Result<Option<&'static Driver>, InstallError> {
    static DRIVER: OnceLock<Driver> = OnceLock::new();
    if env::var_os(DRIVER_VARIABLE).is_some_and(|value| value == "system") {
        return Ok(None);
    }
    if let Some(driver) = DRIVER.get() {
        return Ok(Some(driver));
    }
    let driver = load(&find()?)?;
    Ok(Some(DRIVER.get_or_init(|| driver)))
}

fn find() -> Result<PathBuf, InstallError> {
    let program = env::current_exe().unwrap_or_default();
    let folder = program.parent().unwrap_or(Path::new("."));
    let name = format!("{}softcuda{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX);
    // Tests lie in `deps` themselves, programs above it and examples beside it.
    let places = [folder.join(&name), folder.join("deps").join(&name), folder.join("../deps").join(&name)];
    match places.iter().find(|place| place.is_file()) {
        Some(place) => Ok(place.clone()),
        None => Err(InstallError::NotFound { searched: places.into() }),
    }
}

fn load(path: &Path) -> Result<Driver, InstallError> {
    let refused = |error: libloading::Error| InstallError::Refused { path: path.into(), reason: error.to_string() };
    // SAFETY: the library's initialisers are those of the Rust runtime alone.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map_err(refused)?;
    // SAFETY: the symbol is this crate's own function of this type, in every version.
    let interface = unsafe { library.get::<extern "C" fn() -> *const Interface>(INTERFACE_SYMBOL.as_bytes()) }
        .map_err(|_| InstallError::Stale { path: path.into() })?;
    // SAFETY: the pointer is to a static of the library, which stays loaded: it is leaked below.
    let interface = unsafe { &*interface() };
    if (interface.version, interface.layout) != (INTERFACE_VERSION, LAYOUT) {
        return Err(InstallError::Stale { path: path.into() });
    }
    // Code and statics of a driver stay until the process ends.
    std::mem::forget(library);
    Ok(Driver { interface })
}

impl Driver {
    /// How it behaves towards this thread.
    pub fn settings(&self) -> Settings {
        let mut settings = Settings::default();
        (self.interface.settings)(&mut settings);
        settings
    }
    /// Changes how it behaves towards this thread, from the next call on.
    pub fn configure(&self, settings: &Settings) {
        (self.interface.configure)(settings);
    }
    /// Forgets this thread's launches, reports and arranged failures; settings stay, and so does everything that programs hold.
    pub fn reset(&self) {
        (self.interface.reset)();
    }
    /// Lets the call of this kind fail that this thread makes after `skip` others.
    pub fn fail_next(&self, failure: Failure, skip: u32) {
        (self.interface.fail_next)(failure, skip);
    }
    /// What is alive.
    pub fn census(&self) -> Census {
        let mut census = Census::default();
        (self.interface.census)(&mut census);
        census
    }
    /// This thread's launches since its last reset.
    pub fn launches(&self) -> Vec<Launch> {
        self.launches_of(Whose::Thread)
    }
    /// The launches of all threads, those that have ended included, in the order in which they ended.
    pub fn launches_of_all_threads(&self) -> Vec<Launch> {
        self.launches_of(Whose::Process)
    }
    fn launches_of(&self, whose: Whose) -> Vec<Launch> {
        let mut launches = Vec::new();
        (self.interface.launches)(whose, collect::<Launch>, (&raw mut launches).cast());
        launches
    }
    /// The sum of the counters of this thread's launches of a kernel, and how many there were.
    pub fn counters(&self, kernel: &str) -> (Counters, usize) {
        let mut sum = Counters::default();
        let mut count = 0;
        for launch in self.launches().iter().filter(|launch| launch.kernel == kernel) {
            sum.add(&launch.counters);
            count += 1;
        }
        (sum, count)
    }
    /// The faults that were found in this thread's launches since its last reset.
    pub fn reports(&self) -> Vec<Report> {
        self.reports_of(Whose::Thread)
    }
    /// The faults that were found in the launches of all threads.
    pub fn reports_of_all_threads(&self) -> Vec<Report> {
        self.reports_of(Whose::Process)
    }
    fn reports_of(&self, whose: Whose) -> Vec<Report> {
        let mut reports = Vec::new();
        (self.interface.reports)(whose, collect::<Report>, (&raw mut reports).cast());
        reports
    }
    /// What the compiler said about the last module that this thread could not load; empty where it loaded.
    pub fn module_log(&self) -> String {
        let mut logs: Vec<String> = Vec::new();
        (self.interface.log)(collect::<String>, (&raw mut logs).cast());
        logs.pop().unwrap_or_default()
    }
    /// Fails the test that calls it where a checker found anything in this thread's launches.
    ///
    /// # Panics
    /// With the reports, one a line, where there are any.
    pub fn assert_no_reports(&self) {
        let reports = self.reports();
        let lines: Vec<String> = reports.iter().map(Report::to_string).collect();
        assert!(lines.is_empty(), "{} faults:\n{}", lines.len(), lines.join("\n"));
    }
}

extern "C" fn collect<T: Clone>(list: *mut c_void, item: &T) {
    // SAFETY: `launches` and `reports` pass their own list of this type, and nothing else uses it until they return.
    unsafe { (*list.cast::<Vec<T>>()).push(item.clone()) };
}
