//! Element types of buffers, and host slices that know theirs.

use half::{bf16, f16};
use std::fmt;

/// The element type of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the types")]
pub enum DType {
    F32,
    F16,
    BF16,
    U8,
    I16,
    I32,
    I64,
}

impl DType {
    /// Bytes per element.
    pub fn size(self) -> u64 {
        match self {
            DType::U8 => 1,
            DType::F16 | DType::BF16 | DType::I16 => 2,
            DType::F32 | DType::I32 => 4,
            DType::I64 => 8,
        }
    }
    /// Whether it is a floating-point type.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F16 | DType::BF16)
    }
    /// The lower-case name, as in numpy.
    pub fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::U8 => "u8",
            DType::I16 => "i16",
            DType::I32 => "i32",
            DType::I64 => "i64",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

macro_rules! slices {
    ($($variant:ident($type:ty)),* $(,)?) => {
        /// A read-only host buffer of any element type.
        #[derive(Clone, Copy, Debug)]
        #[expect(missing_docs, reason = "the names are the types")]
        pub enum Slice<'a> { $($variant(&'a [$type])),* }

        /// A writable host buffer of any element type.
        #[derive(Debug)]
        #[expect(missing_docs, reason = "the names are the types")]
        pub enum SliceMut<'a> { $($variant(&'a mut [$type])),* }

        impl Slice<'_> {
            /// The element type.
            pub fn dtype(&self) -> DType {
                match self { $(Slice::$variant(_) => DType::$variant),* }
            }
            /// The number of elements.
            pub fn len(&self) -> usize {
                match self { $(Slice::$variant(s) => s.len()),* }
            }
            /// Whether there is no element.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }
            /// The address of the first element.
            pub fn as_ptr(&self) -> *const u8 {
                match self { $(Slice::$variant(s) => s.as_ptr().cast()),* }
            }
            /// The elements as bytes.
            pub fn as_bytes(&self) -> &[u8] {
                match self { $(Slice::$variant(s) => bytemuck::cast_slice(s)),* }
            }
        }
        impl SliceMut<'_> {
            /// The element type.
            pub fn dtype(&self) -> DType {
                match self { $(SliceMut::$variant(_) => DType::$variant),* }
            }
            /// The number of elements.
            pub fn len(&self) -> usize {
                match self { $(SliceMut::$variant(s) => s.len()),* }
            }
            /// Whether there is no element.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }
            /// The address of the first element.
            pub fn as_mut_ptr(&mut self) -> *mut u8 {
                match self { $(SliceMut::$variant(s) => s.as_mut_ptr().cast()),* }
            }
            /// The elements as bytes, to write.
            pub fn as_bytes_mut(&mut self) -> &mut [u8] {
                match self { $(SliceMut::$variant(s) => bytemuck::cast_slice_mut(s)),* }
            }
        }
        $(
            impl<'a> From<&'a [$type]> for Slice<'a> {
                fn from(s: &'a [$type]) -> Slice<'a> {
                    Slice::$variant(s)
                }
            }
            impl<'a> From<&'a Vec<$type>> for Slice<'a> {
                fn from(s: &'a Vec<$type>) -> Slice<'a> {
                    Slice::$variant(s)
                }
            }
            impl<'a, const N: usize> From<&'a [$type; N]> for Slice<'a> {
                fn from(s: &'a [$type; N]) -> Slice<'a> {
                    Slice::$variant(s)
                }
            }
            impl<'a> From<&'a mut [$type]> for SliceMut<'a> {
                fn from(s: &'a mut [$type]) -> SliceMut<'a> {
                    SliceMut::$variant(s)
                }
            }
            impl<'a> From<&'a mut Vec<$type>> for SliceMut<'a> {
                fn from(s: &'a mut Vec<$type>) -> SliceMut<'a> {
                    SliceMut::$variant(s)
                }
            }
        )*
    };
}

slices! { F32(f32), F16(f16), BF16(bf16), U8(u8), I16(i16), I32(i32), I64(i64) }
