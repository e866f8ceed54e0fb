//! Graphs: lists of what a capture recorded, run again in that order.

use super::api;
use super::pointer::Out;
use crate::driver::*;
use cudarc::driver::sys::CUresult;
use std::ffi::{c_uint, c_ulonglong, c_void};
use std::sync::Arc;

fn instantiate(to: Out<usize>, graph: usize) -> Answer {
    let mut tables = tables();
    let context = tables.usable()?;
    let graph = tables.graphs.get(&graph).cloned().ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)?;
    let handle = tables.handle();
    tables.executables.insert(handle, (context, Arc::new(graph)));
    to.put(handle)
}

api! {
    fn cuGraphCreate(to: Out<usize>, _flags: c_uint) {
        let mut tables = tables();
        tables.usable()?;
        let handle = tables.handle();
        tables.graphs.insert(handle, Graph::default());
        to.put(handle)
    }
    fn cuGraphDestroy(graph: usize) {
        tables().graphs.remove(&graph).map(drop).ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)
    }
    fn cuGraphGetNodes(graph: usize, nodes: Out<usize>, count: Out<usize>) {
        let tables = tables();
        let graph = tables.graphs.get(&graph).ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)?;
        // Nodes have no handles of their own; their number is what callers ask for.
        if !nodes.is_null() {
            return Err(CUresult::CUDA_ERROR_NOT_SUPPORTED);
        }
        count.put(graph.nodes.len())
    }
    fn cuGraphInstantiateWithFlags(to: Out<usize>, graph: usize, _flags: c_ulonglong) {
        instantiate(to, graph)
    }
    fn cuGraphInstantiateWithParams(to: Out<usize>, graph: usize, _parameters: *mut c_void) {
        instantiate(to, graph)
    }
    fn cuGraphExecDestroy(executable: usize) {
        tables().executables.remove(&executable).map(drop).ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)
    }
    fn cuGraphUpload(executable: usize, stream: usize) {
        let tables = tables();
        tables.usable_stream(stream)?;
        if tables.executables.contains_key(&executable) { Ok(()) } else { Err(CUresult::CUDA_ERROR_INVALID_VALUE) }
    }
    fn cuGraphLaunch(executable: usize, stream: usize) {
        let found = tables().executables.get(&executable).cloned();
        let (context, graph) = found.ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)?;
        submit_graph(stream, context, &graph)
    }
}
