//! Arrays in files: `.npy` and NIfTI, read whole into memory, C order.

mod nifti;
mod npy;

use crate::error::CliError;
use half::f16;
use std::path::{Path, PathBuf};

pub(crate) use npy::write as write_npy;

/// The kind of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// `.npy`
    Npy,
    /// `.nii` or `.nii.gz`
    Nifti,
}

/// The values of a file. Types that the library does not know are widened: i8, u16 and u32 to the next signed type, bool to u8.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data {
    F16(Vec<f16>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    U8(Vec<u8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
}

/// Does the same with the vector of any type.
macro_rules! each {
    ($data:expr, $values:ident => $result:expr) => {
        match $data {
            $crate::files::Data::F16($values) => $result,
            $crate::files::Data::F32($values) => $result,
            $crate::files::Data::F64($values) => $result,
            $crate::files::Data::U8($values) => $result,
            $crate::files::Data::I16($values) => $result,
            $crate::files::Data::I32($values) => $result,
            $crate::files::Data::I64($values) => $result,
        }
    };
}

impl Data {
    pub(crate) fn len(&self) -> usize {
        each!(self, values => values.len())
    }
    /// The name of the type.
    pub(crate) fn dtype(&self) -> &'static str {
        match self {
            Data::F16(_) => "f16",
            Data::F32(_) => "f32",
            Data::F64(_) => "f64",
            Data::U8(_) => "u8",
            Data::I16(_) => "i16",
            Data::I32(_) => "i32",
            Data::I64(_) => "i64",
        }
    }
    pub(crate) fn is_float(&self) -> bool {
        matches!(self, Data::F16(_) | Data::F32(_) | Data::F64(_))
    }
    /// The values at these strides of `self`, as an array of this shape in C order.
    fn gather(self, shape: &[usize], strides: &[usize]) -> Data {
        match self {
            Data::F16(values) => Data::F16(gather(&values, shape, strides)),
            Data::F32(values) => Data::F32(gather(&values, shape, strides)),
            Data::F64(values) => Data::F64(gather(&values, shape, strides)),
            Data::U8(values) => Data::U8(gather(&values, shape, strides)),
            Data::I16(values) => Data::I16(gather(&values, shape, strides)),
            Data::I32(values) => Data::I32(gather(&values, shape, strides)),
            Data::I64(values) => Data::I64(gather(&values, shape, strides)),
        }
    }
}

/// An array as a file holds it, in C order.
#[derive(Clone, Debug)]
pub(crate) struct Array {
    pub(crate) path: PathBuf,
    pub(crate) format: Format,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Data,
}

impl Array {
    /// From values in Fortran order, the first axis fastest.
    fn from_fortran(path: &Path, format: Format, shape: Vec<usize>, data: Data) -> Array {
        let data = if shape.len() < 2 { data } else { data.gather(&shape, &fortran_strides(&shape)) };
        Array { path: path.into(), format, shape, data }
    }
    /// The array with its axes in another order: axis i of the result is axis `axes[i]` of this one.
    pub(crate) fn permuted(self, axes: &[usize]) -> Array {
        let strides = c_strides(&self.shape);
        let shape: Vec<usize> = axes.iter().map(|&axis| self.shape[axis]).collect();
        let strides: Vec<usize> = axes.iter().map(|&axis| strides[axis]).collect();
        Array { data: self.data.gather(&shape, &strides), shape, ..self }
    }
    /// An error about this file.
    pub(crate) fn error(&self, what: impl Into<String>) -> CliError {
        CliError::file(&self.path, what)
    }
}

/// The order that undoes another.
pub(crate) fn inverse(axes: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; axes.len()];
    for (to, &from) in axes.iter().enumerate() {
        inverse[from] = to;
    }
    inverse
}

fn c_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

fn fortran_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in 1..shape.len() {
        strides[axis] = strides[axis - 1] * shape[axis - 1];
    }
    strides
}

fn gather<T: Copy>(values: &[T], shape: &[usize], strides: &[usize]) -> Vec<T> {
    let Some((&row, outer)) = shape.split_last() else { return values.to_vec() };
    let step = strides[outer.len()];
    let mut result = Vec::with_capacity(values.len());
    let mut index = vec![0; outer.len()];
    for _ in 0..outer.iter().product() {
        let start: usize = index.iter().zip(strides).map(|(i, stride)| i * stride).sum();
        result.extend((0..row).map(|i| values[start + i * step]));
        for axis in (0..outer.len()).rev() {
            index[axis] += 1;
            if index[axis] < outer[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    result
}

/// The number of values of a shape, if there is one and the machine could hold them.
fn elements(shape: &[usize]) -> Option<usize> {
    let count = shape.iter().try_fold(1_usize, |product, &extent| product.checked_mul(extent))?;
    (count <= isize::MAX as usize / 8).then_some(count)
}

/// Reads a file by its ending.
pub(crate) fn read(path: &Path) -> Result<Array, CliError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    if name.ends_with(".npy") {
        npy::read(path)
    } else if name.ends_with(".nii") || name.ends_with(".nii.gz") {
        nifti::read(path)
    } else {
        Err(CliError::file(path, "must end in .npy, .nii or .nii.gz"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fortran_order_becomes_c_order() {
        let data = Data::U8(vec![0, 3, 1, 4, 2, 5]);
        let array = Array::from_fortran(Path::new("x"), Format::Npy, vec![2, 3], data);
        assert_eq!(array.data, Data::U8(vec![0, 1, 2, 3, 4, 5]));
    }

    #[test]
    fn an_order_and_its_inverse_change_nothing() {
        let values: Vec<i32> = (0..120).collect();
        let array =
            Array { path: "x".into(), format: Format::Npy, shape: vec![2, 3, 4, 5], data: Data::I32(values.clone()) };
        let axes = [3, 0, 2, 1];
        let there = array.permuted(&axes);
        assert_eq!(there.shape, [5, 2, 4, 3]);
        let Data::I32(moved) = &there.data else { panic!("the type changed") };
        assert_eq!(moved[1], values[20]);
        let back = there.permuted(&inverse(&axes));
        assert_eq!((back.shape.as_slice(), back.data), (&[2, 3, 4, 5][..], Data::I32(values)));
    }

    #[test]
    fn other_endings_are_refused() {
        let error = read(Path::new("prediction.tiff")).unwrap_err();
        assert_eq!(error.line(), "prediction.tiff: must end in .npy, .nii or .nii.gz");
    }
}
