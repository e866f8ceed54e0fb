//! Arrays of the caller: whatever speaks DLPack, `__array_interface__` or the buffer protocol, without a copy; in host memory, or
//! in that of a CUDA device.

use crate::error::Kind;
use dlpark::ffi::{DLDataTypeCode, DLDevice, DLDeviceType};
use dlpark::python::consumer::stream;
use dlpark::python::{DlpackStream, ImportedDlpack, StreamArg, dlpack_device, from_dlpack};
use half::{bf16, f16};
use pyo3::exceptions::{PyAttributeError, PyMemoryError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use segfuse::{DType, Slice, SliceMut};
use std::ffi::c_void;
use std::fmt;

/// The element type of an array.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Element {
    /// One that the library takes.
    Plain(DType),
    /// Bytes of 0 and 1.
    Bool,
    F64,
    /// One that it does not, by its name.
    Other(String),
}

impl Element {
    fn named(name: &str) -> Element {
        Element::Plain(match name {
            "float32" => DType::F32,
            "float16" => DType::F16,
            "bfloat16" => DType::BF16,
            "uint8" => DType::U8,
            "int16" => DType::I16,
            "int32" => DType::I32,
            "int64" => DType::I64,
            "float64" => return Element::F64,
            "bool" => return Element::Bool,
            other => return Element::Other(other.into()),
        })
    }
    pub(crate) fn size(&self) -> usize {
        match self {
            Element::Plain(dtype) => dtype.size() as usize,
            Element::Bool => 1,
            Element::F64 => 8,
            Element::Other(_) => 0,
        }
    }
    pub(crate) fn is_float(&self) -> bool {
        matches!(self, Element::F64) || matches!(self, Element::Plain(dtype) if dtype.is_float())
    }
    pub(crate) fn name(&self) -> &str {
        match self {
            Element::Plain(DType::F32) => "float32",
            Element::Plain(DType::F16) => "float16",
            Element::Plain(DType::BF16) => "bfloat16",
            Element::Plain(DType::U8) => "uint8",
            Element::Plain(DType::I16) => "int16",
            Element::Plain(DType::I32) => "int32",
            Element::Plain(DType::I64) => "int64",
            Element::Bool => "bool",
            Element::F64 => "float64",
            Element::Other(name) => name,
        }
    }
}

/// What an array's values are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Prediction,
    Target,
    Mask,
    Weights,
    Map,
    Gradient,
    Moments,
    Coefficients,
    Losses,
    GradOutput,
    Source,
    Maps,
    Workspace,
    Result,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Prediction => "the prediction",
            Role::Target => "the target",
            Role::Mask => "the mask",
            Role::Weights => "the weights",
            Role::Map => "the map",
            Role::Gradient => "the gradient",
            Role::Moments => "the moments",
            Role::Coefficients => "the coefficients",
            Role::Losses => "the losses",
            Role::GradOutput => "grad_output",
            Role::Source => "the source of the distance maps",
            Role::Maps => "the distance maps",
            Role::Workspace => "the workspace",
            Role::Result => "the result",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A shape as people write it.
pub(crate) fn show(shape: &[usize]) -> String {
    format!("[{}]", shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", "))
}

/// Whose memory an array lies in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    Host,
    /// A CUDA device, by its number.
    Cuda(usize),
    /// One that is not reached, by its name.
    Other(String),
}

impl Place {
    /// By the name that torch has for a device.
    fn named(name: &str) -> Place {
        match name {
            "cpu" => Place::Host,
            _ => match name.strip_prefix("cuda:").and_then(|number| number.parse().ok()) {
                Some(ordinal) => Place::Cuda(ordinal),
                None => Place::Other(name.into()),
            },
        }
    }

    fn of(device: DLDevice) -> Place {
        let DLDevice { device_type, device_id } = device;
        match device_type {
            DLDeviceType::CPU | DLDeviceType::CUDAHOST => Place::Host,
            DLDeviceType::CUDA | DLDeviceType::CUDAMANAGED if device_id >= 0 => Place::Cuda(device_id as usize),
            _ => Place::Other(format!("DLPack device {}:{device_id}", device_type.0)),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Host => f.write_str("the host"),
            Place::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
            Place::Other(name) => f.write_str(name),
        }
    }
}

/// The stream that a call runs on, as its arrays' producers are told: they have it wait for what they do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OnStream(pub(crate) usize);

// SAFETY: the handle is the caller's, who says that it is a stream of the device and alive; 0 is the default stream, and the
// argument is in the form that DLPack has for CUDA. Other devices are refused afterwards and told of no stream.
unsafe impl DlpackStream for OnStream {
    fn as_python_arg(&self, _py: Python<'_>, device: DLDevice) -> PyResult<StreamArg> {
        Ok(match Place::of(device) {
            Place::Cuda(_) => stream::cuda(self.0 as *mut c_void),
            _ => stream::none(),
        })
    }

    unsafe fn wait_for_producer(&self, device: DLDevice, producer: *mut c_void) -> PyResult<bool> {
        Ok(match Place::of(device) {
            Place::Host => true,
            // The work of one stream is in order; for that of another the producer is asked. 0 and 1 are the default stream.
            Place::Cuda(_) => (producer as usize).max(1) == self.0.max(1),
            Place::Other(_) => false,
        })
    }
}

/// An array, for as long as this lives.
pub(crate) struct Array {
    pub(crate) role: Role,
    pub(crate) place: Place,
    pub(crate) address: usize,
    pub(crate) shape: Vec<usize>,
    /// In elements.
    strides: Vec<i64>,
    pub(crate) element: Element,
    read_only: bool,
    /// What keeps the memory: the producer's tensor, or the array itself.
    _owner: Owner,
}

enum Owner {
    #[expect(dead_code, reason = "held for its destructor")]
    Dlpack(ImportedDlpack),
    #[expect(dead_code, reason = "held for its reference")]
    Object(Py<PyAny>),
}

/// Elements at an address, for the modules of this package that have one: they answer for it, and `owner` keeps it. What has no
/// owner has no memory either: it is asked about, and not computed on.
#[pyclass(frozen, module = "segfuse._segfuse")]
pub(crate) struct Memory {
    owner: Py<PyAny>,
    address: usize,
    shape: Vec<usize>,
    strides: Vec<i64>,
    element: Element,
    place: Place,
}

#[pymethods]
impl Memory {
    /// Strides are in elements; `device` is what torch calls the device.
    #[new]
    fn new(
        owner: Py<PyAny>,
        address: usize,
        shape: Vec<usize>,
        strides: Vec<i64>,
        dtype: &str,
        device: &str,
    ) -> PyResult<Memory> {
        if shape.len() != strides.len() {
            let (axes, strides) = (shape.len(), strides.len());
            return Err(Kind::Value.error(format!("a shape of {axes} axes has as many strides, not {strides}")));
        }
        Ok(Memory { owner, address, shape, strides, element: Element::named(dtype), place: Place::named(device) })
    }
}

impl Memory {
    fn array(&self, role: Role, py: Python<'_>) -> Array {
        Array {
            role,
            place: self.place.clone(),
            address: self.address,
            shape: self.shape.clone(),
            strides: self.strides.clone(),
            element: self.element.clone(),
            read_only: false,
            _owner: Owner::Object(self.owner.clone_ref(py)),
        }
    }
}

/// Shape and name of the element type of an array; errors call it the prediction, or the source of distance maps.
#[pyfunction]
#[pyo3(signature = (array, *, source=false))]
pub(crate) fn shape_and_type(array: &Bound<'_, PyAny>, source: bool) -> PyResult<(Vec<usize>, String)> {
    let role = if source { Role::Source } else { Role::Prediction };
    let array = Array::imported(role, array, OnStream(0))?;
    let name = array.element.name().into();
    Ok((array.shape, name))
}

impl Array {
    /// The array in `object`, in host memory.
    pub(crate) fn new(role: Role, object: &Bound<'_, PyAny>) -> PyResult<Array> {
        let array = Array::anywhere(role, object, OnStream(0))?;
        match array.place {
            Place::Host => Ok(array),
            place => Err(Kind::Device.error(format!("{role} is in the memory of {place}; this computes on the CPU"))),
        }
    }

    /// The array in `object`, in host memory or that of a CUDA device, where work on the stream finds it ready.
    pub(crate) fn anywhere(role: Role, object: &Bound<'_, PyAny>, stream: OnStream) -> PyResult<Array> {
        let array = Array::imported(role, object, stream)?;
        if let Place::Other(name) = &array.place {
            return Err(Kind::Device
                .error(format!("{role} is in the memory of {name}; segfuse computes on the CPU and on CUDA devices")));
        }
        let asked = object.cast::<Memory>().is_ok_and(|memory| memory.get().owner.is_none(object.py()));
        if asked { Ok(array) } else { array.in_memory() }
    }

    fn imported(role: Role, object: &Bound<'_, PyAny>, stream: OnStream) -> PyResult<Array> {
        let py = object.py();
        if let Ok(memory) = object.cast::<Memory>() {
            return Ok(memory.get().array(role, py));
        }
        if let Some(interface) = attribute(object, intern!(py, "__array_interface__"))? {
            return Array::from_interface(role, object, &interface);
        }
        if attribute(object, intern!(py, "__dlpack__"))?.is_some() {
            return Array::from_dlpack(role, object, stream);
        }
        Array::from_buffer(role, object)
    }

    /// Where its elements can be: not at address 0, and no more of them than memory has.
    fn in_memory(self) -> PyResult<Array> {
        let (role, shape, size) = (self.role, show(&self.shape), self.element.size().max(1));
        if self.shape.contains(&0) {
            return Ok(self);
        }
        let bytes = self.shape.iter().try_fold(size, |bytes, &extent| bytes.checked_mul(extent));
        if bytes.is_none_or(|bytes| isize::try_from(bytes).is_err()) {
            return Err(Kind::Value.error(format!("{role} of shape {shape} would have more bytes than memory has")));
        }
        if self.address == 0 {
            return Err(Kind::Value.error(format!("{role} of shape {shape} has no memory: its address is 0")));
        }
        Ok(self)
    }

    fn from_dlpack(role: Role, object: &Bound<'_, PyAny>, stream: OnStream) -> PyResult<Array> {
        let py = object.py();
        // Who does not say where its memory is cannot be told of a stream.
        let told = attribute(object, intern!(py, "__dlpack_device__"))?.is_some();
        let tensor = match from_dlpack(object.as_borrowed(), told.then_some(&stream as &dyn DlpackStream), None) {
            // A producer from before DLPack 1.0 takes no version.
            Err(error) if told && error.is_instance_of::<PyTypeError>(py) => {
                let options = PyDict::new(py);
                if matches!(Place::of(dlpack_device(object.as_borrowed())?), Place::Cuda(_)) {
                    // 1 is the default stream there, and 0 nothing.
                    options.set_item(intern!(py, "stream"), stream.0.max(1))?;
                }
                let capsule = object.call_method(intern!(py, "__dlpack__"), (), Some(&options))?;
                from_dlpack(capsule.as_borrowed(), None, None)?
            }
            tensor => tensor?,
        };
        let read_only = tensor.flags().contains(dlpark::DlpackFlags::READ_ONLY);
        let view = tensor.validate().map_err(|error| Kind::Value.error(format!("{role}: {error}")))?;
        let place = Place::of(view.device());
        if !told && place != Place::Host {
            return Err(Kind::Type.error(format!("{role} is in the memory of {place}, and has no __dlpack_device__")));
        }
        let dtype = view.dtype();
        let name = match (dtype.code, dtype.bits, dtype.lanes) {
            (DLDataTypeCode::FLOAT, bits, 1) => format!("float{bits}"),
            (DLDataTypeCode::BFLOAT, 16, 1) => "bfloat16".into(),
            (DLDataTypeCode::INT, bits, 1) => format!("int{bits}"),
            (DLDataTypeCode::UINT, bits, 1) => format!("uint{bits}"),
            (DLDataTypeCode::BOOL, 8, 1) => "bool".into(),
            (code, bits, lanes) => format!("DLPack type {}, {bits} bits, {lanes} lanes", code.0),
        };
        let strides = view.strides_or_compact().map_err(|error| Kind::Value.error(format!("{role}: {error}")))?;
        let shape = view.shape().iter().map(|&extent| extent as usize).collect();
        // SAFETY: only the address is taken; the producer promises that it lies in its memory.
        let address = unsafe { view.offset_bytes_ptr() };
        let address = address.map_err(|error| Kind::Value.error(format!("{role}: {error}")))? as usize;
        let (strides, element) = (strides.to_vec(), Element::named(&name));
        Ok(Array { role, place, address, shape, strides, element, read_only, _owner: Owner::Dlpack(tensor) })
    }

    /// numpy's own protocol, which also has booleans, read-only arrays and every version of numpy.
    fn from_interface(role: Role, object: &Bound<'_, PyAny>, interface: &Bound<'_, PyAny>) -> PyResult<Array> {
        let unfit = |what: fmt::Arguments<'_>| Kind::Type.error(format!("{role}: __array_interface__ {what}"));
        let interface = interface.cast::<PyDict>().map_err(|_| unfit(format_args!("is no dict")))?;
        let item = |key: &str| interface.get_item(key)?.ok_or_else(|| unfit(format_args!("has no {key}")));
        let wrong = |key: &str, error: PyErr| unfit(format_args!("has another {key} than the protocol: {error}"));
        let (address, read_only): (usize, bool) = item("data")?.extract().map_err(|error| wrong("data", error))?;
        let shape: Vec<usize> = item("shape")?.extract().map_err(|error| wrong("shape", error))?;
        let kind: String = item("typestr")?.extract().map_err(|error| wrong("typestr", error))?;
        let width = kind.get(1..).ok_or_else(|| unfit(format_args!("has the typestr {kind:?}")))?;
        let element = Element::named(match width {
            "f4" => "float32",
            "f2" => "float16",
            "f8" => "float64",
            "u1" => "uint8",
            "i2" => "int16",
            "i4" => "int32",
            "i8" => "int64",
            "b1" => "bool",
            // The bfloat16 of ml_dtypes has no letter of its own.
            "V2" if object.getattr("dtype")?.getattr("name")?.eq("bfloat16")? => "bfloat16",
            _ => &kind,
        });
        let foreign = if cfg!(target_endian = "little") { '>' } else { '<' };
        if kind.starts_with(foreign) && element.size() > 1 {
            return Err(Kind::Type.error(format!("{role} has the byte order of another processor ({kind})")));
        }
        let strides = interface.get_item("strides")?.map_or(Ok(None), |strides| strides.extract());
        let strides: Option<Vec<i64>> = strides.map_err(|error| wrong("strides", error))?;
        let size = element.size().max(1) as i64;
        let strides = match strides {
            None => compact(&shape),
            Some(bytes) if bytes.len() != shape.len() => {
                let (shape, count) = (show(&shape), bytes.len());
                return Err(Kind::Value.error(format!("{role} of shape {shape} has {count} strides")));
            }
            Some(bytes) if bytes.iter().all(|stride| stride % size == 0) => bytes.iter().map(|b| b / size).collect(),
            Some(bytes) => {
                return Err(Kind::Value.error(format!("{role} has strides of {bytes:?} bytes, not of whole elements")));
            }
        };
        let _owner = Owner::Object(object.clone().unbind());
        Ok(Array { role, place: Place::Host, address, shape, strides, element, read_only, _owner })
    }

    /// Buffers, through numpy: the stable interface of Python before 3.11 does not reach them.
    fn from_buffer(role: Role, object: &Bound<'_, PyAny>) -> PyResult<Array> {
        let py = object.py();
        let unfit = || {
            let kind = object.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string());
            Kind::Type.error(format!("{role} must be an array (DLPack, __array_interface__ or a buffer), not {kind}"))
        };
        let view = match py.import("builtins")?.getattr("memoryview")?.call1((object,)) {
            Err(error) if error.is_instance_of::<PyTypeError>(py) => return Err(unfit()),
            view => view?,
        };
        let array = py.import("numpy").map_err(|_| unfit())?.getattr("asarray")?.call1((view,))?;
        let interface = array.getattr(intern!(py, "__array_interface__"))?;
        Array::from_interface(role, &array, &interface)
    }

    /// Whether it has this shape.
    pub(crate) fn is(&self, shape: &[usize]) -> bool {
        self.shape == shape
    }

    /// Whether it is dense in memory with its axes in this order, the fastest last. Axes of one element lie anywhere.
    pub(crate) fn is_in_order(&self, axes: impl DoubleEndedIterator<Item = usize>) -> bool {
        let mut expected = 1;
        for axis in axes.rev() {
            if self.shape[axis] != 1 {
                if self.strides[axis] != expected {
                    return false;
                }
                expected *= self.shape[axis] as i64;
            }
        }
        true
    }

    /// Whether it is dense in memory, in the order of its axes.
    pub(crate) fn is_compact(&self) -> bool {
        self.is_in_order(0..self.shape.len())
    }

    pub(crate) fn compact(self) -> PyResult<Array> {
        if self.is_compact() {
            return Ok(self);
        }
        Err(self.scattered("contiguous"))
    }

    /// The error of an array whose elements lie in another order.
    pub(crate) fn scattered(&self, wanted: &str) -> PyErr {
        let (role, shape, strides) = (self.role, show(&self.shape), &self.strides);
        Kind::Value.error(format!("{role} of shape {shape} must be {wanted}, its strides are {strides:?}"))
    }

    /// The error of an array of another shape.
    pub(crate) fn misshapen(&self, wanted: &str) -> PyErr {
        Kind::Value.error(format!("{} must have shape {wanted}, got {}", self.role, show(&self.shape)))
    }

    /// The error of an array of another type.
    pub(crate) fn mistyped(&self, allowed: &str) -> PyErr {
        Kind::Type.error(format!("{} cannot be {}; it can be {allowed}", self.role, self.element.name()))
    }

    /// As an output: one that may be written to.
    pub(crate) fn writable(self) -> PyResult<Array> {
        if self.read_only {
            return Err(Kind::Value.error(format!("{} is read-only", self.role)));
        }
        Ok(self)
    }

    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.len() * self.element.size()
    }

    /// The element type as the library names it; bytes for booleans.
    pub(crate) fn dtype(&self) -> Option<DType> {
        match self.element {
            Element::Plain(dtype) => Some(dtype),
            Element::Bool => Some(DType::U8),
            Element::F64 | Element::Other(_) => None,
        }
    }

    /// Whether the two share memory.
    pub(crate) fn overlaps(&self, other: &Array) -> bool {
        let end = |array: &Array| array.address + array.bytes();
        self.address < end(other) && other.address < end(self)
    }

    /// The elements of a compact array.
    pub(crate) fn slice(&self) -> PyResult<Slice<'_>> {
        let dtype = self.aligned()?;
        Ok(match dtype {
            DType::F32 => self.elements::<f32>().into(),
            DType::F16 => self.elements::<f16>().into(),
            DType::BF16 => self.elements::<bf16>().into(),
            DType::U8 => self.elements::<u8>().into(),
            DType::I16 => self.elements::<i16>().into(),
            DType::I32 => self.elements::<i32>().into(),
            DType::I64 => self.elements::<i64>().into(),
        })
    }

    fn elements<T>(&self) -> &[T] {
        debug_assert_eq!(size_of::<T>(), self.element.size());
        // SAFETY: the producer promises `len` elements of its type from the address on for as long as the array lives; `in_memory`
        // has seen that it is not null, `slice` that they are compact and aligned, and it names the type. Who writes to them meanwhile in another thread of
        // Python breaks that promise.
        unsafe { std::slice::from_raw_parts(self.address as *const T, self.len()) }
    }

    /// The elements of a compact array of float32 or float16 that may be written to.
    pub(crate) fn slice_mut(&mut self) -> PyResult<SliceMut<'_>> {
        let dtype = self.aligned()?;
        let (address, len) = (self.address, self.len());
        Ok(match dtype {
            // SAFETY: as in `slice`; the producer lets it be written to (see `writable`), and the caller has seen that no input
            // shares its memory.
            DType::F32 => unsafe { std::slice::from_raw_parts_mut(address as *mut f32, len) }.into(),
            // SAFETY: as above.
            DType::F16 => unsafe { std::slice::from_raw_parts_mut(address as *mut f16, len) }.into(),
            _ => return Err(self.mistyped("float32 or float16")),
        })
    }

    fn aligned(&self) -> PyResult<DType> {
        debug_assert_eq!(self.place, Place::Host);
        let Some(dtype) = self.dtype() else {
            return Err(self.mistyped("a type of the library"));
        };
        let (size, address) = (dtype.size() as usize, self.address);
        if !self.is_compact() {
            return Err(self.scattered("contiguous"));
        }
        if !address.is_multiple_of(size) {
            let role = self.role;
            return Err(Kind::Value.error(format!("{role} must be aligned to {size} bytes, is at {address:#x}")));
        }
        Ok(dtype)
    }

    /// The elements, which lie at any address, each converted.
    fn copied<T: Copy, U>(&self, convert: impl Fn(T) -> U) -> PyResult<Vec<U>> {
        debug_assert!(self.place == Place::Host && self.is_compact() && size_of::<T>() == self.element.size());
        let (role, len) = (self.role, self.len());
        let mut values = Vec::new();
        let reserved = values.try_reserve_exact(len);
        reserved.map_err(|_| PyMemoryError::new_err(format!("no memory left for a copy of {role}, {len} elements")))?;
        let first = self.address as *const T;
        // SAFETY: the producer promises `len` elements of its type from this address on, which `in_memory` has seen not to be null,
        // for as long as the array lives, and every caller names that type; all types are plain numbers.
        values.extend((0..len).map(|index| convert(unsafe { first.add(index).read_unaligned() })));
        Ok(values)
    }

    /// Values of any number type in double precision, in the order of memory.
    pub(crate) fn to_f64(&self) -> PyResult<Vec<f64>> {
        match &self.element {
            Element::F64 => self.copied(|x: f64| x),
            Element::Plain(DType::F32) => self.copied::<f32, _>(f64::from),
            Element::Plain(DType::F16) => self.copied::<f16, _>(f64::from),
            Element::Plain(DType::BF16) => self.copied::<bf16, _>(f64::from),
            Element::Plain(DType::U8) | Element::Bool => self.copied::<u8, _>(f64::from),
            Element::Plain(DType::I16) => self.copied::<i16, _>(f64::from),
            Element::Plain(DType::I32) => self.copied::<i32, _>(f64::from),
            Element::Plain(DType::I64) => self.copied(|x: i64| x as f64),
            Element::Other(_) => Err(self.mistyped("a number type")),
        }
    }

    /// Integers of any width, in the order of memory.
    pub(crate) fn to_i64(&self) -> PyResult<Vec<i64>> {
        match &self.element {
            Element::Plain(DType::I64) => self.copied(|x: i64| x),
            Element::Plain(DType::I32) => self.copied::<i32, _>(i64::from),
            Element::Plain(DType::I16) => self.copied::<i16, _>(i64::from),
            Element::Plain(DType::U8) | Element::Bool => self.copied::<u8, _>(i64::from),
            _ => Err(self.mistyped("an integer type")),
        }
    }

    /// Bytes, in the order of memory.
    pub(crate) fn to_u8(&self) -> PyResult<Vec<u8>> {
        self.copied(|x: u8| x)
    }

    /// Replaces all elements of an array of float32 or float64.
    pub(crate) fn write(&self, values: &[f64]) -> PyResult<()> {
        if self.len() != values.len() {
            return Err(self.misshapen(&format!("with {} elements", values.len())));
        }
        match self.element {
            Element::F64 => self.fill(values.iter().copied()),
            Element::Plain(DType::F32) => self.fill(values.iter().map(|&value| value as f32)),
            _ => return Err(self.mistyped("float32 or float64")),
        }
        Ok(())
    }

    fn fill<T>(&self, values: impl Iterator<Item = T>) {
        let first = self.address as *mut T;
        for (index, value) in values.enumerate().take(self.len()) {
            // SAFETY: within the array, whose producer lets it be written to (see `writable`), and the caller names its type.
            unsafe { first.add(index).write_unaligned(value) };
        }
    }
}

/// Strides of an array that is dense in the order of its axes.
fn compact(shape: &[usize]) -> Vec<i64> {
    let mut strides = vec![1i64; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis] as i64);
    }
    strides
}

/// An attribute, where the object has it.
fn attribute<'py>(
    object: &Bound<'py, PyAny>,
    name: &Bound<'py, pyo3::types::PyString>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    match object.getattr(name) {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_instance_of::<PyAttributeError>(object.py()) => Ok(None),
        Err(error) => Err(error),
    }
}
