"""Device memory of a CUDA driver by its file, and arrays in it that speak DLPack: `test_cuda.py` needs no GPU and no CUDA of torch.

The file is that of the software driver (`softcuda`, in this repository), by the environment of the test process; who looks for
`libcuda.so` afterwards gets it, since it has that SONAME. It is told to give memory the addresses of the host, so that torch's own
operations reach it as well.
"""

import ctypes
import os

import numpy as np
import pytest
import torch

VARIABLE = "SEGFUSE_TEST_CUDA_DRIVER"

c = ctypes


class _Device(c.Structure):
    _fields_ = [("kind", c.c_int32), ("number", c.c_int32)]


class _Type(c.Structure):
    _fields_ = [("code", c.c_uint8), ("bits", c.c_uint8), ("lanes", c.c_uint16)]


class _Tensor(c.Structure):
    _fields_ = [
        ("data", c.c_void_p),
        ("device", _Device),
        ("ndim", c.c_int32),
        ("dtype", _Type),
        ("shape", c.POINTER(c.c_int64)),
        ("strides", c.POINTER(c.c_int64)),
        ("byte_offset", c.c_uint64),
    ]


class _Managed(c.Structure):
    pass


_Deleter = c.CFUNCTYPE(None, c.POINTER(_Managed))
_Managed._fields_ = [("tensor", _Tensor), ("context", c.c_void_p), ("deleter", _Deleter)]

_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}
_NAME = b"dltensor"
_new_capsule = c.pythonapi.PyCapsule_New
_new_capsule.restype, _new_capsule.argtypes = c.py_object, [c.c_void_p, c.c_char_p, c.c_void_p]


class Driver:
    """The driver, with a context and a stream of this thread."""

    def __init__(self, path):
        os.environ["SOFTCUDA_HOST_ADDRESSES"] = "1"
        self.library = c.CDLL(path)
        self.context, self.stream = c.c_void_p(), c.c_void_p()
        device = c.c_int()
        self.call("cuInit", 0)
        self.call("cuDeviceGet", c.byref(device), 0)
        self.call("cuDevicePrimaryCtxRetain", c.byref(self.context), device)
        self.call("cuCtxSetCurrent", self.context)
        self.call("cuStreamCreate", c.byref(self.stream), 1)
        #: First address and length of all memory that was allocated.
        self.blocks = {}

    def call(self, name, *arguments):
        status = getattr(self.library, name)(*arguments)
        assert status == 0, f"{name}: {status}"

    def allocate(self, count):
        address = c.c_uint64()
        self.call("cuMemAlloc_v2", c.byref(address), c.c_size_t(count))
        self.blocks[address.value] = count
        return address.value

    def upload(self, address, array):
        self.call("cuMemcpyHtoD_v2", c.c_uint64(address), c.c_void_p(array.ctypes.data), c.c_size_t(array.nbytes))

    def download(self, address, array):
        self.call("cuMemcpyDtoH_v2", c.c_void_p(array.ctypes.data), c.c_uint64(address), c.c_size_t(array.nbytes))

    def holds(self, address):
        return any(first <= address < first + count for first, count in self.blocks.items())

    def captured(self, work):
        """Whether what `work` does on the stream can be captured into a graph: a wait or an allocation cannot."""
        graph = c.c_void_p()
        self.call("cuStreamBeginCapture_v2", self.stream, 0)
        try:
            work()
        finally:
            status = self.library.cuStreamEndCapture(self.stream, c.byref(graph))
        return status == 0 and bool(graph)

    def tensor(self, tensor):
        """A tensor of torch with these values and this order, in device memory: one that torch takes for its own."""
        address = self.allocate(tensor.nbytes)
        flat = torch.as_strided(tensor.detach(), (tensor.numel(),), (1,), tensor.storage_offset()).clone()
        self.upload(address, flat.view(torch.uint8).numpy())
        memory = (c.c_char * tensor.nbytes).from_address(address)
        return torch.frombuffer(memory, dtype=tensor.dtype).as_strided(tensor.shape, tensor.stride())


class Array:
    """An array of numpy in device memory, for those who speak DLPack. `streams` are those that consumers named."""

    def __init__(self, driver, array, device=(2, 0), offset=0):
        self.driver, self.device = driver, device
        self.shape, self.dtype = array.shape, array.dtype
        self.streams, self.exports = [], {}
        self.block = driver.allocate(array.nbytes + offset)
        self.address = self.block + offset
        driver.upload(self.address, np.ascontiguousarray(array))

    def numpy(self):
        array = np.empty(self.shape, self.dtype)
        self.driver.download(self.address, array)
        return array

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        self.streams.append(stream)
        ndim = len(self.shape)
        shape, strides = (c.c_int64 * ndim)(*self.shape), (c.c_int64 * ndim)()
        for axis in reversed(range(ndim)):
            strides[axis] = 1 if axis == ndim - 1 else strides[axis + 1] * self.shape[axis + 1]
        managed = _Managed()
        managed.tensor = _Tensor(
            self.address,
            _Device(*self.device),
            ndim,
            _Type(_CODES[self.dtype.kind], 8 * self.dtype.itemsize, 1),
            shape,
            strides,
            0,
        )
        address = c.addressof(managed)
        managed.deleter = _Deleter(lambda _: self.exports.pop(address) and None)
        self.exports[address] = (managed, shape, strides)
        return _new_capsule(address, _NAME, None)


def driver():
    """The driver of the test process, once; what lacks it is left out, which in CI is a failure."""
    path = os.environ.get(VARIABLE)
    if path is None:
        assert not any(os.environ.get(name) for name in ("CI", "SEGFUSE_CI")), f"{VARIABLE} is not set"
        pytest.skip(f"{VARIABLE} is not set: the file of the software driver", allow_module_level=True)
    return Driver(path)
