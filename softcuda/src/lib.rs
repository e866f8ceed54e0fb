//! A software CUDA driver for tests: the driver API that cudarc calls, over an interpreter of PTX that checks every access.
//!
//! A test calls [`install`] before it looks for a device. From then on the process has one CUDA device, which runs the very PTX
//! that real devices get, finds faults ([`Report`]) and counts what kernels do ([`Counters`]). See the crate's README for what is
//! covered.
//!
//! ```no_run
//! if let Some(driver) = softcuda::install()? {
//!     driver.configure(&softcuda::Settings { schedule_seed: 7, ..Default::default() });
//!     // … launch kernels through cudarc …
//!     driver.assert_no_reports();
//! }
//! # Ok::<(), softcuda::InstallError>(())
//! ```

mod api;
mod control;
mod driver;
mod exec;
mod install;
mod memory;
mod ptx;

pub use control::{Census, Counters, Failure, Fault, Launch, Report, Settings};
pub use install::{DRIVER_VARIABLE, Driver, InstallError, install};
