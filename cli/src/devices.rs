//! `segfuse devices`

use crate::args::DevicesArgs;
use crate::error::{CommandResult, Verdict};
use crate::report::{binary_bytes, json, say, table};
use segfuse::Runtime;
use segfuse::wgpu::Device;
use serde::Serialize;
use wgpu::{Adapter, DeviceType, Features};

/// A device, and what wgpu says of it.
#[derive(Serialize)]
struct DeviceReport {
    name: String,
    description: String,
    /// `None` for the CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    adapter: Option<AdapterReport>,
}

/// What matters of an adapter. The kernels need no more than WebGPU's defaults of workgroup memory (16 KiB) and invocations
/// (256); buffers beyond a binding are bound in windows.
#[derive(Serialize)]
struct AdapterReport {
    backend: String,
    kind: String,
    driver: String,
    software: bool,
    binding_bytes: u64,
    buffer_bytes: u64,
    workgroup_bytes: u32,
    workgroup_invocations: u32,
    subgroups: bool,
    subgroup_min: u32,
    subgroup_max: u32,
    f16: bool,
    timestamps: bool,
    /// Why the library cannot use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

impl AdapterReport {
    fn new(adapter: &Adapter) -> AdapterReport {
        let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
        let driver = [info.driver, info.driver_info].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
        AdapterReport {
            backend: format!("{:?}", info.backend),
            kind: format!("{:?}", info.device_type),
            driver: driver.join(" "),
            software: info.device_type == DeviceType::Cpu,
            binding_bytes: limits.max_storage_buffer_binding_size,
            buffer_bytes: limits.max_buffer_size,
            workgroup_bytes: limits.max_compute_workgroup_storage_size,
            workgroup_invocations: limits.max_compute_invocations_per_workgroup,
            subgroups: features.contains(Features::SUBGROUP),
            subgroup_min: info.subgroup_min_size,
            subgroup_max: info.subgroup_max_size,
            f16: features.contains(Features::SHADER_F16),
            timestamps: features.contains(Features::TIMESTAMP_QUERY),
            refused: Device::of_adapter(adapter).err().map(|error| error.to_string()),
        }
    }
}

/// The adapters, in the order in which the library numbers them.
fn adapters() -> Vec<Adapter> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()))
}

/// Lists the devices, best first.
pub(crate) fn run(args: &DevicesArgs) -> CommandResult {
    let adapters = adapters();
    let devices: Vec<DeviceReport> = Runtime::devices()
        .into_iter()
        .map(|device| {
            let number: Option<usize> = device.name.strip_prefix("wgpu:").and_then(|number| number.parse().ok());
            let adapter = number.and_then(|number| adapters.get(number)).map(AdapterReport::new);
            DeviceReport { name: device.name, description: device.description, adapter }
        })
        .collect();
    if args.json {
        say(json(&devices));
        return Ok(Verdict::Good);
    }
    let mut rows = table(&["device", "description", "driver", "buffer", "workgroup", "subgroup", "timestamps"]);
    for DeviceReport { name, description, adapter } in devices {
        let none = || "–".to_string();
        let yes = |has: bool| if has { "yes" } else { "no" }.to_string();
        let of = |text: fn(&AdapterReport) -> String| adapter.as_ref().map_or_else(none, text);
        let described = match adapter.as_ref().and_then(|adapter| adapter.refused.as_ref()) {
            Some(why) => format!("{description}\nnot usable: {why}"),
            None => description,
        };
        rows.add_row([
            name,
            described,
            of(|a| format!("{}: {}", a.backend, a.driver)),
            of(|a| binary_bytes(a.buffer_bytes)),
            of(|a| format!("{}, {} threads", binary_bytes(a.workgroup_bytes.into()), a.workgroup_invocations)),
            of(|a| match a.subgroups {
                true if a.subgroup_min == a.subgroup_max => a.subgroup_min.to_string(),
                true => format!("{} to {}", a.subgroup_min, a.subgroup_max),
                false => "–".into(),
            }),
            adapter.as_ref().map_or_else(none, |a| yes(a.timestamps)),
        ]);
    }
    say(rows);
    Ok(Verdict::Good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapters_are_numbered_as_the_library_numbers_them() {
        let here: Vec<_> = adapters().iter().map(Adapter::get_info).collect();
        assert_eq!(here, Device::adapters());
    }
}
