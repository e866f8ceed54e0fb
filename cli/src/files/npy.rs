//! `.npy` files.

use super::{Array, Data, Format, elements};
use crate::error::CliError;
use npyz::{DType, Deserialize, NpyFile, Order, TypeChar, WriterBuilder};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Longest header that is read; numpy stops at 10 000 bytes too.
const HEADER_MAX: u64 = 10_000;
/// Deepest brackets in a header. A plain array has two.
const DEPTH_MAX: usize = 16;

/// Reads a file of a plain type, either order, either endianness.
pub(super) fn read(path: &Path) -> Result<Array, CliError> {
    let wrong = |what: String| CliError::file(path, what);
    let mut file = File::open(path).map_err(CliError::io(path))?;
    let bytes = file.metadata().map_err(CliError::io(path))?.len();
    check_header(&mut file).map_err(wrong)?;

    let npy = NpyFile::new(BufReader::with_capacity(1 << 20, file));
    let npy = npy.map_err(|error| wrong(format!("not a .npy file that can be read: {error}")))?;
    let dtype = npy.dtype();
    let DType::Plain(plain) = &dtype else {
        return Err(wrong(format!("holds records or nested arrays ({}), not plain numbers", dtype.descr())));
    };
    let (kind, size) = (plain.type_char(), plain.size_field());
    if kind == TypeChar::Object {
        return Err(wrong("holds Python objects (dtype object); only plain numbers can be read".into()));
    }
    let shape: Option<Vec<usize>> = npy.shape().iter().map(|&extent| extent.try_into().ok()).collect();
    let counted = shape.and_then(|shape| elements(&shape).map(|count| (shape, count)));
    let Some((shape, count)) = counted else { return Err(wrong(format!("shape {:?} is too large", npy.shape()))) };
    let need = (count as u64).saturating_mul(size);
    if need > bytes {
        return Err(wrong(format!(
            "is cut short: shape {shape:?} of {plain} needs {need} bytes, the file has {bytes}"
        )));
    }

    let fortran = npy.order() == Order::Fortran;
    let data = match (kind, size) {
        (TypeChar::Float, 2) => values(npy).map(Data::F16),
        (TypeChar::Float, 4) => values(npy).map(Data::F32),
        (TypeChar::Float, 8) => values(npy).map(Data::F64),
        (TypeChar::Bool, _) => widened::<bool, u8>(npy).map(Data::U8),
        (TypeChar::Uint, 1) => values(npy).map(Data::U8),
        (TypeChar::Uint, 2) => widened::<u16, i32>(npy).map(Data::I32),
        (TypeChar::Uint, 4) => widened::<u32, i64>(npy).map(Data::I64),
        (TypeChar::Int, 1) => widened::<i8, i16>(npy).map(Data::I16),
        (TypeChar::Int, 2) => values(npy).map(Data::I16),
        (TypeChar::Int, 4) => values(npy).map(Data::I32),
        (TypeChar::Int, 8) => values(npy).map(Data::I64),
        _ => {
            let known = "f16, f32, f64, bool, u8, u16, u32, i8, i16, i32 or i64";
            return Err(wrong(format!("holds {plain}; it can be {known}")));
        }
    };
    let data = data.map_err(|error| wrong(format!("is cut short or damaged: {error}")))?;
    Ok(if fortran {
        Array::from_fortran(path, Format::Npy, shape, data)
    } else {
        Array { path: path.into(), format: Format::Npy, shape, data }
    })
}

fn values<T: Deserialize>(npy: NpyFile<impl Read>) -> std::io::Result<Vec<T>> {
    npy.into_vec()
}

fn widened<T: Deserialize, U: From<T>>(npy: NpyFile<impl Read>) -> std::io::Result<Vec<U>> {
    npy.data::<T>().map_err(std::io::Error::other)?.map(|value| value.map(U::from)).collect()
}

/// Refuses what the parser of headers would trip over, and goes back to the start of the file.
///
/// It recurses into brackets, and it multiplies the extents of the shape without a check.
fn check_header(file: &mut File) -> Result<(), String> {
    let mut start = Vec::new();
    let read = Read::by_ref(file).take(HEADER_MAX + 12).read_to_end(&mut start);
    read.and_then(|_| file.seek(SeekFrom::Start(0))).map_err(|error| error.to_string())?;
    if !start.starts_with(b"\x93NUMPY") {
        return Err("not a .npy file: it does not begin with \\x93NUMPY".into());
    }
    let (length, from) = match start.as_slice() {
        [_, _, _, _, _, _, 1, _, a, b, ..] => (u16::from_le_bytes([*a, *b]).into(), 10),
        [_, _, _, _, _, _, _, _, a, b, c, d, ..] => (u32::from_le_bytes([*a, *b, *c, *d]), 12),
        _ => return Err("is cut short in the header".into()),
    };
    if u64::from(length) > HEADER_MAX {
        return Err(format!("has a header of {length} bytes; at most {HEADER_MAX} are read"));
    }
    let header = start.get(from..from + length as usize).ok_or("is cut short in the header")?;
    let deepest = header.iter().scan(0_usize, |depth, byte| {
        match byte {
            b'(' | b'[' | b'{' => *depth += 1,
            b')' | b']' | b'}' => *depth = depth.saturating_sub(1),
            _ => {}
        }
        Some(*depth)
    });
    if deepest.max() > Some(DEPTH_MAX) {
        return Err(format!("has a header with brackets more than {DEPTH_MAX} deep"));
    }
    let text = String::from_utf8_lossy(header);
    let numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|run| !run.is_empty());
    let product = numbers.map(|run| run.parse::<u64>().ok()).try_fold(1_u64, |p, x| p.checked_mul(x?.max(1)));
    if product.is_none() {
        return Err("has a shape whose number of bytes overflows 64 bits".into());
    }
    Ok(())
}

/// Writes values in C order. The file appears whole or not at all.
pub(crate) fn write(path: &Path, shape: &[usize], data: Data) -> Result<(), CliError> {
    // A link is followed, and nothing but an ordinary file is replaced.
    let followed = if path.exists() { path.canonicalize().map_err(CliError::io(path))? } else { path.to_path_buf() };
    if followed.exists() && !followed.is_file() {
        return Err(CliError::file(path, "is not an ordinary file, and so is not replaced"));
    }
    let path = followed.as_path();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".segfuse-").suffix(".npy");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder).map_err(CliError::io(path))?;
    let mut buffer = BufWriter::with_capacity(1 << 20, &mut file);
    let written = match data {
        Data::F16(values) => write_values(&mut buffer, shape, values),
        Data::F32(values) => write_values(&mut buffer, shape, values),
        Data::F64(values) => write_values(&mut buffer, shape, values),
        Data::U8(values) => write_values(&mut buffer, shape, values),
        Data::I16(values) => write_values(&mut buffer, shape, values),
        Data::I32(values) => write_values(&mut buffer, shape, values),
        Data::I64(values) => write_values(&mut buffer, shape, values),
    };
    written.and_then(|()| buffer.flush()).map_err(CliError::io(path))?;
    drop(buffer);
    file.persist(path).map_err(|error| CliError::Io { path: path.into(), source: error.error })?;
    Ok(())
}

fn write_values<T: npyz::AutoSerialize>(writer: impl Write, shape: &[usize], values: Vec<T>) -> std::io::Result<()> {
    let shape: Vec<u64> = shape.iter().map(|&extent| extent as u64).collect();
    let mut npy = npyz::WriteOptions::new().default_dtype().shape(&shape).writer(writer).begin_nd()?;
    npy.extend(values)?;
    npy.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    /// A version 1.0 file with this header dict and these data.
    fn file(header: &str, data: &[u8]) -> tempfile::NamedTempFile {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        let mut file = tempfile::Builder::new().suffix(".npy").tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        file
    }
    fn plain(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> tempfile::NamedTempFile {
        file(&format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n"), data)
    }
    fn error(file: &tempfile::NamedTempFile) -> String {
        read(file.path()).unwrap_err().line()
    }

    #[test]
    fn every_type_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        let all = [
            Data::F16(vec![f16::from_f32(0.5), f16::NEG_INFINITY, f16::ONE, f16::ZERO, f16::MAX, f16::NAN]),
            Data::F32(vec![0.5, -1.0, 2.0, 3.0, 4.0, 5.0]),
            Data::F64(vec![0.1, -1.0, 2.0, 3.0, 4.0, 5.0]),
            Data::U8(vec![0, 1, 2, 3, 254, 255]),
            Data::I16(vec![-1, 1, 2, 3, 254, i16::MIN]),
            Data::I32(vec![-1, 1, 2, 3, 254, i32::MIN]),
            Data::I64(vec![-1, 1, 2, 3, 254, i64::MIN]),
        ];
        for data in all {
            write(&path, &[1, 2, 3], data.clone()).unwrap();
            let array = read(&path).unwrap();
            assert_eq!(array.shape, [1, 2, 3]);
            assert_eq!(format!("{:?}", array.data), format!("{data:?}"));
        }
    }

    #[test]
    fn big_endian_bool_and_unsigned_types_are_read() {
        let data = |file: &tempfile::NamedTempFile| read(file.path()).unwrap().data;
        assert_eq!(data(&plain(">i4", "False", "(2,)", &[0, 0, 1, 0, 255, 255, 255, 255])), Data::I32(vec![256, -1]));
        assert_eq!(data(&plain(">f2", "False", "(1,)", &[0x3c, 0])), Data::F16(vec![f16::ONE]));
        assert_eq!(data(&plain("|b1", "False", "(2,)", &[1, 0])), Data::U8(vec![1, 0]));
        assert_eq!(data(&plain("<u2", "False", "(1,)", &[255, 255])), Data::I32(vec![65535]));
        assert_eq!(data(&plain("|u1", "True", "(2, 2)", &[0, 1, 2, 3])), Data::U8(vec![0, 2, 1, 3]));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let whole = plain("<f4", "False", "(2, 3)", &[0; 24]);
        let bytes = std::fs::read(whole.path()).unwrap();
        for length in 0..bytes.len() {
            let mut cut = tempfile::Builder::new().suffix(".npy").tempfile().unwrap();
            cut.write_all(&bytes[..length]).unwrap();
            assert!(read(cut.path()).is_err(), "{length} of {} bytes were read", bytes.len());
        }
    }

    #[test]
    fn objects_records_and_odd_types_are_refused() {
        assert!(error(&plain("|O", "False", "(1,)", &[0; 64])).contains("Python objects"));
        assert!(error(&plain("<c8", "False", "(1,)", &[0; 64])).contains("holds <c8"));
        assert!(error(&plain("<u8", "False", "(1,)", &[0; 64])).contains("holds <u8"));
        let records = file("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }\n", &[0; 64]);
        assert!(error(&records).contains("records"));
    }

    #[test]
    fn hostile_headers_are_refused() {
        let nested = "(".repeat(5000) + &")".repeat(5000);
        assert!(error(&file(&nested[..9000], &[])).contains("deep"));
        let shape = "(4294967296, 4294967296, 4294967296)";
        assert!(error(&plain("<f4", "False", shape, &[])).contains("overflows"));
        assert!(error(&plain("<f4", "False", "(1000000, 1000000)", &[])).contains("cut short"));
        assert!(error(&plain("<f4", "False", "(-1,)", &[])).contains("negative"));
        assert!(error(&file("{'descr': '<f4'}", &[])).contains("missing key"));
        assert!(error(&file("import os", &[])).contains("parse"));
    }
}
