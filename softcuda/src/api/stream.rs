//! Streams, and the captures that turn their work into graphs.

use super::api;
use super::pointer::{In, Out};
use crate::driver::*;
use cudarc::driver::sys::{CUresult, CUstreamCaptureStatus as Status};
use std::ffi::{c_int, c_uint, c_void};

fn create(to: Out<usize>, flags: c_uint, priority: c_int) -> Answer {
    let mut tables = tables();
    let context = tables.usable()?;
    let handle = tables.handle();
    let stream = Stream { context, priority: priority.clamp(-5, 0), flags, capture: None, order: Default::default() };
    tables.streams.insert(handle, stream);
    to.put(handle)
}

/// A stream that was made, which default streams are not.
fn made(tables: &Tables, stream: usize) -> Answer<&Stream> {
    tables.streams.get(&stream).ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)
}

fn status(stream: usize) -> Answer<(Status, usize)> {
    let mut tables = tables();
    tables.stream_context(stream)?;
    match tables.capture_of(stream) {
        Ok(None) => Ok((Status::CU_STREAM_CAPTURE_STATUS_NONE, 0)),
        Ok(Some(id)) => Ok((Status::CU_STREAM_CAPTURE_STATUS_ACTIVE, id)),
        Err(CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED) => Ok((Status::CU_STREAM_CAPTURE_STATUS_INVALIDATED, 0)),
        Err(error) => Err(error),
    }
}

fn begin_capture(stream: usize, mode: c_uint) -> Answer {
    let mut tables = tables();
    tables.usable_stream(stream)?;
    if matches!(stream, 0 | STREAM_LEGACY) {
        return Err(CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    }
    if tables.capture_of(stream)?.is_some() {
        return Err(CUresult::CUDA_ERROR_ILLEGAL_STATE);
    }
    if mode > CAPTURE_RELAXED {
        return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    let id = tables.handle();
    let capture = Capture {
        origin: stream,
        mode,
        thread: std::thread::current().id(),
        nodes: Vec::new(),
        valid: true,
        forks: Default::default(),
    };
    let Some(stream) = tables.streams.get_mut(&stream) else {
        return Err(CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    };
    stream.capture = Some(id);
    tables.captures.insert(id, capture);
    Ok(())
}

fn end_capture(stream: usize, to: Out<usize>) -> Answer {
    let mut tables = tables();
    let id = made(&tables, stream)?.capture.ok_or(CUresult::CUDA_ERROR_ILLEGAL_STATE)?;
    let Some(capture) = tables.captures.get(&id) else { return Err(CUresult::CUDA_ERROR_ILLEGAL_STATE) };
    if capture.origin != stream {
        return Err(CUresult::CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
    }
    if capture.mode != CAPTURE_RELAXED && capture.thread != std::thread::current().id() {
        return Err(CUresult::CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
    }
    for stream in tables.streams.values_mut().filter(|stream| stream.capture == Some(id)) {
        stream.capture = None;
    }
    let Some(capture) = tables.captures.remove(&id) else { return Err(CUresult::CUDA_ERROR_ILLEGAL_STATE) };
    to.put(0)?;
    if !capture.valid {
        return Err(CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    }
    if capture.forks.values().any(|joined| !joined) {
        return Err(CUresult::CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
    }
    let handle = tables.handle();
    tables.graphs.insert(handle, Graph { nodes: capture.nodes });
    to.put(handle)
}

/// Makes a stream wait for an event: work runs at once, so only captures have something to note.
fn wait_event(stream: usize, event: usize) -> Answer {
    let mut tables = tables();
    tables.usable_stream(stream)?;
    let event = tables.events.get(&event).ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)?;
    let (captured, from) = (event.capture.filter(|id| tables.captures.contains_key(id)), event.recorded_on);
    let recorded = event.recorded.is_some();
    let own = tables.capture_of(stream)?;
    match (captured, own) {
        (None, None) => Ok(()),
        (None, Some(id)) => {
            // The event is of work that no graph can wait for.
            if let Some(capture) = tables.captures.get_mut(&id).filter(|_| recorded) {
                capture.valid = false;
                return Err(CUresult::CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
            }
            Ok(())
        }
        (Some(id), own) => {
            if own.is_some_and(|own| own != id) {
                return Err(CUresult::CUDA_ERROR_STREAM_CAPTURE_MERGE);
            }
            let Some(capture) = tables.captures.get_mut(&id) else { return Ok(()) };
            // What the stream waits for is joined with it.
            if let Some(joined) = capture.forks.get_mut(&from) {
                *joined = true;
            }
            if stream != capture.origin {
                capture.forks.insert(stream, false);
                match tables.streams.get_mut(&stream) {
                    Some(stream) => stream.capture = Some(id),
                    None => return Err(CUresult::CUDA_ERROR_STREAM_CAPTURE_IMPLICIT),
                }
            }
            Ok(())
        }
    }
}

api! {
    fn cuStreamCreate(to: Out<usize>, flags: c_uint) {
        create(to, flags, 0)
    }
    fn cuStreamCreateWithPriority(to: Out<usize>, flags: c_uint, priority: c_int) {
        create(to, flags, priority)
    }
    fn cuStreamDestroy_v2(stream: usize) {
        let mut tables = tables();
        let stream = tables.streams.remove(&stream).ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)?;
        if let Some(capture) = stream.capture {
            tables.captures.remove(&capture);
        }
        Ok(())
    }
    fn cuStreamGetPriority(stream: usize, priority: Out<c_int>) {
        let tables = tables();
        tables.stream_context(stream)?;
        priority.put(tables.streams.get(&stream).map_or(0, |stream| stream.priority))
    }
    fn cuStreamGetFlags(stream: usize, flags: Out<c_uint>) {
        let tables = tables();
        tables.stream_context(stream)?;
        flags.put(tables.streams.get(&stream).map_or(0, |stream| stream.flags))
    }
    fn cuStreamGetCtx(stream: usize, context: Out<usize>) {
        context.put(tables().stream_context(stream)?)
    }
    fn cuStreamGetId(stream: usize, id: Out<u64>) {
        tables().stream_context(stream)?;
        id.put(stream as u64)
    }
    fn cuStreamSynchronize(stream: usize) {
        let mut tables = tables();
        tables.usable_stream(stream)?;
        tables.forbid_waiting(stream)
    }
    fn cuStreamQuery(stream: usize) {
        let mut tables = tables();
        tables.usable_stream(stream)?;
        tables.forbid_waiting(stream)
    }
    fn cuStreamWaitEvent(stream: usize, event: usize, _flags: c_uint) {
        wait_event(stream, event)
    }
    fn cuStreamAttachMemAsync(stream: usize, _address: u64, _bytes: usize, _flags: c_uint) {
        tables().usable_stream(stream).map(drop)
    }
    fn cuStreamBeginCapture_v2(stream: usize, mode: c_uint) {
        begin_capture(stream, mode)
    }
    fn cuStreamEndCapture(stream: usize, graph: Out<usize>) {
        end_capture(stream, graph)
    }
    fn cuStreamIsCapturing(stream: usize, to: Out<Status>) {
        to.put(status(stream)?.0)
    }
    fn cuStreamGetCaptureInfo_v2(
        stream: usize,
        to: Out<Status>,
        id: Out<u64>,
        graph: Out<usize>,
        dependencies: Out<*const c_void>,
        count: Out<usize>,
    ) {
        let (status, capture) = status(stream)?;
        id.put_if_wanted(capture as u64);
        graph.put_if_wanted(0);
        dependencies.put_if_wanted(std::ptr::null());
        count.put_if_wanted(0);
        to.put(status)
    }
    fn cuThreadExchangeStreamCaptureMode(mode: In<c_uint>) {
        let new = mode.get(0)?;
        if new > CAPTURE_RELAXED {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        mode.out().put(exchange_capture_mode(new))
    }
}
