//! Devices.

use crate::handle::Table;
use crate::memory::{aligned, set};
use crate::status::{Failure, guard, segfuse_status};
use crate::text;
use segfuse::{Runtime, cpu};
use std::ffi::c_char;

/// A device that plans run on, with arrays of the host. Copy it freely; several threads may use it at once.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct segfuse_device {
    /// Never 0 for a device that was made.
    pub id: u64,
}

pub(crate) enum Device {
    Cpu(cpu::Device),
    /// Any other: it takes slices, and copies them.
    Other(Runtime),
}

impl Device {
    fn on(name: &str) -> Result<Device, segfuse::Error> {
        let runtime = Runtime::on(name)?;
        Ok(if runtime.name() == "cpu" { Device::Cpu(cpu::Device::new()) } else { Device::Other(runtime) })
    }

    fn description(&self) -> String {
        match self {
            Device::Cpu(device) => device.description(),
            Device::Other(runtime) => runtime.description(),
        }
    }
}

pub(crate) static DEVICES: Table<Device> = Table::new("device");

/// Makes a device of its name: "cpu", "auto" (a GPU if this build can use one and the machine has one, else the CPU), or a
/// name of `segfuse_list_devices`. A null name stands for "auto".
///
/// # Safety
/// `name` is null or a NUL-terminated string; `device` points to a segfuse_device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_device_create(name: *const c_char, device: *mut segfuse_device) -> segfuse_status {
    guard(|| {
        aligned(device, "device")?;
        // SAFETY: the caller's promise.
        let name = if name.is_null() { "auto" } else { unsafe { text::read(name, "name")? } };
        let made = segfuse_device { id: DEVICES.insert(Device::on(name)?) };
        // SAFETY: the caller's promise.
        unsafe { set(device, made, "device") }
    })
}

/// Makes the CPU with a pool of its own of `threads` threads; 0 stands for the pool that all such devices share, which has a
/// thread per core (or RAYON_NUM_THREADS). Results do not depend on the number.
///
/// # Safety
/// `device` points to a segfuse_device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_device_create_cpu(threads: usize, device: *mut segfuse_device) -> segfuse_status {
    guard(|| {
        aligned(device, "device")?;
        let cpu = if threads == 0 { cpu::Device::new() } else { cpu::Device::with_threads(threads)? };
        let made = segfuse_device { id: DEVICES.insert(Device::Cpu(cpu)) };
        // SAFETY: the caller's promise.
        unsafe { set(device, made, "device") }
    })
}

/// Destroys a device; calls that run on it end well. Nothing happens for a device that is all zeros.
#[unsafe(no_mangle)]
pub extern "C" fn segfuse_device_destroy(device: segfuse_device) -> segfuse_status {
    guard(|| DEVICES.remove(device.id))
}

/// Writes what the device is, such as its threads and instruction set. See `segfuse_list_losses` for how texts are written.
///
/// # Safety
/// `buffer` points to `capacity` bytes; `length` is null or points to a size_t.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_device_description(
    device: segfuse_device,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
) -> segfuse_status {
    guard(|| {
        let description = DEVICES.get(device.id)?.description();
        // SAFETY: the caller's promise.
        unsafe { text::write(&description, buffer, capacity, length) }
    })
}

/// What the CPU alone can do.
pub(crate) fn cpu(device: segfuse_device, what: &str) -> Result<cpu::Device, Failure> {
    match &*DEVICES.get(device.id)? {
        Device::Cpu(device) => Ok(device.clone()),
        Device::Other(runtime) => Err(Failure::new(
            segfuse_status::SEGFUSE_UNSUPPORTED,
            format!("{what} needs the device \"cpu\", this is \"{}\"", runtime.name()),
        )),
    }
}
