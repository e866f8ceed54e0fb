//! NIfTI-1 files, `.nii` and `.nii.gz`.

use super::{Array, Data, Format, elements};
use crate::error::CliError;
use nifti::{InMemNiftiVolume, NiftiError, NiftiObject, NiftiType, ReaderOptions};
use std::path::Path;

/// Largest magnitude below which f64 holds every integer.
const EXACT_INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

/// Reads a volume as [x, y, z, …], its values scaled as the header says.
pub(super) fn read(path: &Path) -> Result<Array, CliError> {
    let wrong = |error: NiftiError| match error {
        NiftiError::Io(source) => CliError::Io { path: path.into(), source },
        NiftiError::IncompatibleLength(got, need) => {
            CliError::file(path, format!("is cut short: its shape needs {need} bytes of values, the file has {got}"))
        }
        other => CliError::file(path, format!("not a NIfTI file that can be read: {other}")),
    };
    let object = ReaderOptions::new().read_file(path).map_err(wrong)?;
    let header = object.header();
    let shape: Vec<usize> = header.dim().map_err(wrong)?.iter().map(|&extent| extent.into()).collect();
    let kind = header.data_type().map_err(wrong)?;
    let scale = (f64::from(header.scl_slope), f64::from(header.scl_inter));
    let data = values(object.into_volume(), kind).map_err(wrong)?;
    let Some(data) = data else {
        return Err(CliError::file(path, format!("holds {kind:?}; it can hold integers up to 64 bits, f32 or f64")));
    };
    if elements(&shape) != Some(data.len()) {
        return Err(CliError::file(path, format!("shape {shape:?} and {} values contradict each other", data.len())));
    }
    Ok(Array::from_fortran(path, Format::Nifti, shape, scaled(data, scale)))
}

fn values(volume: InMemNiftiVolume, kind: NiftiType) -> Result<Option<Data>, NiftiError> {
    fn widened<T, U: From<T>>(values: Vec<T>) -> Vec<U> {
        values.into_iter().map(U::from).collect()
    }
    Ok(Some(match kind {
        NiftiType::Uint8 => Data::U8(volume.into_nifti_typed_data()?),
        NiftiType::Int8 => Data::I16(widened::<i8, i16>(volume.into_nifti_typed_data()?)),
        NiftiType::Int16 => Data::I16(volume.into_nifti_typed_data()?),
        NiftiType::Uint16 => Data::I32(widened::<u16, i32>(volume.into_nifti_typed_data()?)),
        NiftiType::Int32 => Data::I32(volume.into_nifti_typed_data()?),
        NiftiType::Uint32 => Data::I64(widened::<u32, i64>(volume.into_nifti_typed_data()?)),
        NiftiType::Int64 => Data::I64(volume.into_nifti_typed_data()?),
        NiftiType::Float32 => Data::F32(volume.into_nifti_typed_data()?),
        NiftiType::Float64 => Data::F64(volume.into_nifti_typed_data()?),
        _ => return Ok(None),
    }))
}

/// slope·value + intercept; a slope of 0 (or none) means that there is no scaling.
fn scaled(data: Data, (slope, intercept): (f64, f64)) -> Data {
    let none = slope == 0.0 || !slope.is_finite() || !intercept.is_finite() || (slope, intercept) == (1.0, 0.0);
    if none {
        return data;
    }
    let scale = |x: f64| slope * x + intercept;
    match data {
        Data::F16(values) => Data::F32(values.into_iter().map(|x| scale(x.to_f64()) as f32).collect()),
        Data::F32(values) => Data::F32(values.into_iter().map(|x| scale(x.into()) as f32).collect()),
        Data::F64(values) => Data::F64(values.into_iter().map(scale).collect()),
        Data::U8(values) => Data::F64(values.into_iter().map(|x| scale(x.into())).collect()),
        Data::I16(values) => Data::F64(values.into_iter().map(|x| scale(x.into())).collect()),
        Data::I32(values) => Data::F64(values.into_iter().map(|x| scale(x.into())).collect()),
        Data::I64(values) => Data::F64(values.into_iter().map(|x| scale(x as f64)).collect()),
    }
}

impl Data {
    /// Floats that are all integers, as integers; many tools store labels so.
    pub(crate) fn integral(&self) -> Option<Data> {
        fn integer(x: f64) -> Option<i64> {
            (x.trunc() == x && x.abs() < EXACT_INTEGER_MAX).then_some(x as i64)
        }
        let values: Option<Vec<i64>> = match self {
            Data::F32(values) => values.iter().map(|&x| integer(x.into())).collect(),
            Data::F64(values) => values.iter().map(|&x| integer(x)).collect(),
            _ => return None,
        };
        let values = values?;
        let narrow: Option<Vec<i32>> = values.iter().map(|&x| x.try_into().ok()).collect();
        Some(narrow.map_or(Data::I64(values), Data::I32))
    }
}

/// The bytes of a little-endian `.nii` file; the values follow the header in Fortran order.
#[cfg(test)]
pub(super) fn bytes(dim: &[u16], kind: i16, bits: i16, (slope, intercept): (f32, f32), values: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 352];
    let mut put = |at: usize, value: &[u8]| file[at..at + value.len()].copy_from_slice(value);
    put(0, &348_i32.to_le_bytes());
    put(40, &(dim.len() as u16).to_le_bytes());
    for axis in 0..7 {
        put(42 + 2 * axis, &dim.get(axis).copied().unwrap_or(1).to_le_bytes());
    }
    put(70, &kind.to_le_bytes());
    put(72, &bits.to_le_bytes());
    put(108, &352_f32.to_le_bytes());
    put(112, &slope.to_le_bytes());
    put(116, &intercept.to_le_bytes());
    put(344, b"n+1\0");
    file.extend(values);
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(suffix: &str, bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::Builder::new().suffix(suffix).tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn a_volume_is_read_x_first() {
        let whole = bytes(&[2, 3, 1], 2, 8, (0.0, 0.0), &[0, 3, 1, 4, 2, 5]);
        let array = read(file(".nii", &whole).path()).unwrap();
        assert_eq!(array.shape, [2, 3, 1]);
        assert_eq!(array.data, Data::U8(vec![0, 1, 2, 3, 4, 5]));
    }

    #[test]
    fn gzip_is_read() {
        let whole = bytes(&[2], 4, 16, (1.0, 0.0), &[1, 0, 255, 255]);
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&whole).unwrap();
        let array = read(file(".nii.gz", &packed.finish().unwrap()).path()).unwrap();
        assert_eq!(array.data, Data::I16(vec![1, -1]));
    }

    #[test]
    fn values_are_scaled() {
        let whole = bytes(&[2], 2, 8, (0.5, 1.0), &[0, 3]);
        let array = read(file(".nii", &whole).path()).unwrap();
        assert_eq!(array.data, Data::F64(vec![1.0, 2.5]));
        assert_eq!(array.data.integral(), None);
        assert_eq!(Data::F32(vec![0.0, 7.0]).integral(), Some(Data::I32(vec![0, 7])));
        assert_eq!(Data::F32(vec![f32::NAN]).integral(), None);
    }

    #[test]
    fn every_truncation_is_an_error() {
        let whole = bytes(&[2, 2], 16, 32, (0.0, 0.0), &[0; 16]);
        for length in 0..whole.len() {
            assert!(read(file(".nii", &whole[..length]).path()).is_err(), "{length} bytes were read");
        }
    }

    #[test]
    fn contradictions_are_errors() {
        for (dim, kind, bits, size) in [
            (vec![2, 2], 16, 8, 4),
            (vec![2, 2], 2, 32, 16),
            (vec![2, 0], 2, 8, 4),
            (vec![2, 2], 9, 8, 4),
            (vec![1], 32, 64, 8),
        ] {
            let whole = bytes(&dim, kind, bits, (0.0, 0.0), &vec![0; size]);
            assert!(read(file(".nii", &whole).path()).is_err(), "{dim:?} {kind} {bits}");
        }
        let huge = bytes(&[65535, 65535, 65535, 65535], 64, 64, (0.0, 0.0), &[0; 8]);
        assert!(read(file(".nii", &huge).path()).is_err());
        assert!(read(file(".nii", b"junk").path()).is_err());
        assert!(read(file(".nii.gz", b"junk").path()).is_err());
    }
}
