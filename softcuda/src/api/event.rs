//! Events. Work runs when it is put on a stream, so an event is complete as soon as it is recorded.

use super::api;
use super::pointer::Out;
use crate::driver::*;
use cudarc::driver::sys::CUresult;
use std::ffi::c_uint;
use std::time::Instant;

const DISABLE_TIMING: c_uint = 2;

fn event(tables: &Tables, handle: usize) -> Answer<&Event> {
    tables.events.get(&handle).ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)
}

fn record(handle: usize, stream: usize) -> Answer {
    let mut tables = tables();
    let context = tables.usable_stream(stream)?;
    if event(&tables, handle)?.context != context {
        return Err(CUresult::CUDA_ERROR_INVALID_HANDLE);
    }
    let capture = tables.capture_of(stream)?;
    if let Some(event) = tables.events.get_mut(&handle) {
        event.capture = capture;
        event.recorded_on = stream;
        event.recorded = capture.is_none().then(Instant::now);
    }
    Ok(())
}

/// Waiting for an event, or asking whether it is complete, is not allowed where a capture recorded it.
fn complete(handle: usize) -> Answer {
    let tables = tables();
    let event = event(&tables, handle)?;
    if let Some(error) = tables.contexts.get(&event.context).and_then(|context| context.error) {
        return Err(error);
    }
    if event.capture.is_some() { Err(CUresult::CUDA_ERROR_CAPTURED_EVENT) } else { Ok(()) }
}

fn elapsed(milliseconds: Out<f32>, start: usize, end: usize) -> Answer {
    let tables = tables();
    let (start, end) = (event(&tables, start)?, event(&tables, end)?);
    match (start.recorded, end.recorded) {
        (Some(from), Some(to)) if start.timed && end.timed => {
            let span = to
                .checked_duration_since(from)
                .map_or_else(|| -from.duration_since(to).as_secs_f64(), |span| span.as_secs_f64());
            milliseconds.put((span * 1e3) as f32)
        }
        _ => Err(CUresult::CUDA_ERROR_INVALID_HANDLE),
    }
}

api! {
    fn cuEventCreate(to: Out<usize>, flags: c_uint) {
        let mut tables = tables();
        let context = tables.usable()?;
        let handle = tables.handle();
        let event = Event { context, timed: flags & DISABLE_TIMING == 0, recorded: None, recorded_on: 0, capture: None };
        tables.events.insert(handle, event);
        to.put(handle)
    }
    fn cuEventDestroy_v2(handle: usize) {
        tables().events.remove(&handle).map(drop).ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)
    }
    fn cuEventRecord(handle: usize, stream: usize) {
        record(handle, stream)
    }
    fn cuEventRecordWithFlags(handle: usize, stream: usize, _flags: c_uint) {
        record(handle, stream)
    }
    fn cuEventQuery(handle: usize) {
        complete(handle)
    }
    fn cuEventSynchronize(handle: usize) {
        complete(handle)
    }
    fn cuEventElapsedTime(milliseconds: Out<f32>, start: usize, end: usize) {
        elapsed(milliseconds, start, end)
    }
    fn cuEventElapsedTime_v2(milliseconds: Out<f32>, start: usize, end: usize) {
        elapsed(milliseconds, start, end)
    }
}
