//! What running a model takes of ONNX Runtime's C API, declared by hand.
//!
//! The library exports one function, which returns a table of function pointers: `struct OrtApi` of
//! onnxruntime_c_api.h. The table only ever grows at its end, so a function's place in it, the
//! number beside its name below, never changes. Unix only: on Windows paths are UTF-16.

use std::ffi::{c_char, c_int, c_void, CStr, CString};
use std::{marker::PhantomData, mem::size_of_val, ptr::null_mut, slice};

type Ptr = *mut c_void;
pub type Result<T> = std::result::Result<T, String>;

#[repr(C)]
struct ApiBase {
    get_api: unsafe extern "C" fn(u32) -> *const Ptr, // null where the version is unknown
}

#[link(name = "onnxruntime")]
extern "C" {
    fn OrtGetApiBase() -> *const ApiBase;
}

const API_VERSION: u32 = 17; // the first to run opset 20; later libraries give it out, too

macro_rules! functions {
    ($($place:literal $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => {$(
        #[allow(non_snake_case, clippy::too_many_arguments)]
        unsafe fn $name($($argument: $type),*) $(-> $result)? {
            let function = *((*OrtGetApiBase()).get_api)(API_VERSION).add($place);
            type Function = unsafe extern "C" fn($($type),*) $(-> $result)?;
            std::mem::transmute::<Ptr, Function>(function)($($argument),*)
        }
    )*};
}

type Names = *const *const c_char;
type Status = Ptr; // null, or an error to be released

functions! {
    2 GetErrorMessage(status: Status) -> *const c_char;
    3 CreateEnv(level: c_int, name: *const c_char, out: *mut Ptr) -> Status;
    7 CreateSession(env: Ptr, path: *const c_char, options: Ptr, out: *mut Ptr) -> Status;
    9 Run(session: Ptr, options: Ptr, names: Names, values: *const Ptr, count: usize,
        out_names: Names, out_count: usize, out: *mut Ptr) -> Status;
    10 CreateSessionOptions(out: *mut Ptr) -> Status;
    49 CreateTensorWithDataAsOrtValue(memory: Ptr, data: Ptr, bytes: usize, shape: *const i64,
        rank: usize, kind: c_int, out: *mut Ptr) -> Status;
    51 GetTensorMutableData(value: Ptr, out: *mut Ptr) -> Status;
    60 GetTensorElementType(info: Ptr, out: *mut c_int) -> Status;
    64 GetTensorShapeElementCount(info: Ptr, out: *mut usize) -> Status;
    65 GetTensorTypeAndShape(value: Ptr, out: *mut Ptr) -> Status;
    69 CreateCpuMemoryInfo(allocator: c_int, memory: c_int, out: *mut Ptr) -> Status;
    76 AllocatorFree(allocator: Ptr, memory: Ptr) -> Status;
    78 GetAllocatorWithDefaultOptions(out: *mut Ptr) -> Status;
    92 ReleaseEnv(env: Ptr);
    93 ReleaseStatus(status: Status);
    94 ReleaseMemoryInfo(memory: Ptr);
    95 ReleaseSession(session: Ptr);
    96 ReleaseValue(value: Ptr);
    99 ReleaseTensorTypeAndShapeInfo(info: Ptr);
    100 ReleaseSessionOptions(options: Ptr);
    111 SessionGetModelMetadata(session: Ptr, out: *mut Ptr) -> Status;
    116 ModelMetadataLookupCustomMetadataMap(metadata: Ptr, allocator: Ptr, key: *const c_char,
        out: *mut Ptr) -> Status;
    118 ReleaseModelMetadata(metadata: Ptr);
}

unsafe fn check(status: Status) -> Result<()> {
    if status.is_null() {
        return Ok(());
    }
    let message = CStr::from_ptr(GetErrorMessage(status)).to_string_lossy().into_owned();
    ReleaseStatus(status);
    Err(message)
}

/// An object of the library's, and what releases it.
struct Owned(Ptr, unsafe fn(Ptr));

impl Owned {
    unsafe fn new(release: unsafe fn(Ptr), make: impl Fn(*mut Ptr) -> Status) -> Result<Owned> {
        let mut made = null_mut();
        check(make(&mut made))?;
        Ok(Owned(made, release))
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        unsafe { (self.1)(self.0) }
    }
}

/// A type that tensors are made of, with its number in the C API.
pub trait Element {
    const TYPE: c_int;
}
macro_rules! elements {
    ($($type:ty = $number:literal),*) => {$(
        impl Element for $type { const TYPE: c_int = $number; }
    )*};
}
elements! { f32 = 1, u8 = 2, i64 = 7 }

/// A tensor: over the caller's memory, or out of a run, in which case the session outlives it.
pub struct Value<'a>(Owned, PhantomData<&'a [u8]>);

impl<'a> Value<'a> {
    /// A tensor over `data`, which is not copied.
    pub fn new<T: Element>(data: &'a [T], shape: &[i64]) -> Result<Value<'a>> {
        assert_eq!(data.len() as i64, shape.iter().product::<i64>());
        let (start, bytes, dims, rank) =
            (data.as_ptr() as Ptr, size_of_val(data), shape.as_ptr(), shape.len());
        unsafe {
            // 1, 0: from the arena, memory of the default kind
            let memory = Owned::new(ReleaseMemoryInfo, |out| CreateCpuMemoryInfo(1, 0, out))?;
            let value = Owned::new(ReleaseValue, |out| {
                CreateTensorWithDataAsOrtValue(memory.0, start, bytes, dims, rank, T::TYPE, out)
            })?;
            Ok(Value(value, PhantomData))
        }
    }

    /// The elements, last axis fastest; an error where the tensor is of another type.
    pub fn data<T: Element>(&self) -> Result<&[T]> {
        let (value, mut kind, mut count, mut data) = (self.0 .0, 0, 0, null_mut());
        unsafe {
            let info =
                Owned::new(ReleaseTensorTypeAndShapeInfo, |out| GetTensorTypeAndShape(value, out))?;
            check(GetTensorElementType(info.0, &mut kind))?;
            check(GetTensorShapeElementCount(info.0, &mut count))?;
            check(GetTensorMutableData(value, &mut data))?;
            if kind != T::TYPE {
                return Err(format!("the tensor is of type {kind}, not {}", T::TYPE));
            }
            Ok(slice::from_raw_parts(data as *const T, count))
        }
    }
}

/// An open model. Fields are dropped in this order.
pub struct Session {
    session: Owned,
    _env: Owned,
}

impl Session {
    pub fn open(path: &str) -> Result<Session> {
        let path = c_string(path)?;
        unsafe {
            if ((*OrtGetApiBase()).get_api)(API_VERSION).is_null() {
                return Err("this ONNX Runtime is older than 1.17".into());
            }
            // 2: warnings and worse
            let env = Owned::new(ReleaseEnv, |out| CreateEnv(2, c"backlit".as_ptr(), out))?;
            let options = Owned::new(ReleaseSessionOptions, |out| CreateSessionOptions(out))?;
            let session = Owned::new(ReleaseSession, |out| {
                CreateSession(env.0, path.as_ptr(), options.0, out)
            })?;
            Ok(Session { session, _env: env })
        }
    }

    /// The text under a key of the model's `metadata_props`.
    pub fn metadata(&self, key: &str) -> Result<Option<String>> {
        let (key, session) = (c_string(key)?, self.session.0);
        let (mut allocator, mut text) = (null_mut(), null_mut());
        unsafe {
            check(GetAllocatorWithDefaultOptions(&mut allocator))?; // the library's own
            let all =
                Owned::new(ReleaseModelMetadata, |out| SessionGetModelMetadata(session, out))?;
            check(ModelMetadataLookupCustomMetadataMap(all.0, allocator, key.as_ptr(), &mut text))?;
            if text.is_null() {
                return Ok(None);
            }
            let value = CStr::from_ptr(text as *const c_char).to_string_lossy().into_owned();
            check(AllocatorFree(allocator, text))?;
            Ok(Some(value))
        }
    }

    /// Run the model: named tensors in, the outputs of those names out.
    pub fn run(&self, inputs: &[(&str, Value)], outputs: &[&str]) -> Result<Vec<Value<'_>>> {
        let names = inputs.iter().map(|(name, _)| c_string(name)).collect::<Result<Vec<_>>>()?;
        let wanted = outputs.iter().map(|name| c_string(name)).collect::<Result<Vec<_>>>()?;
        let pointers =
            |names: &[CString]| names.iter().map(|name| name.as_ptr()).collect::<Vec<_>>();
        let (names_in, names_out) = (pointers(&names), pointers(&wanted));
        let given: Vec<Ptr> = inputs.iter().map(|(_, value)| value.0 .0).collect();
        let mut found: Vec<Ptr> = vec![null_mut(); outputs.len()]; // null: the run allocates them
        let (names_in, names_out, out) =
            (names_in.as_ptr(), names_out.as_ptr(), found.as_mut_ptr());
        let (session, none, count) = (self.session.0, null_mut(), outputs.len());
        unsafe {
            check(Run(session, none, names_in, given.as_ptr(), given.len(), names_out, count, out))?
        };
        Ok(found.into_iter().map(|value| Value(Owned(value, ReleaseValue), PhantomData)).collect())
    }
}

fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|error| error.to_string())
}
