//! Parameters in a safetensors file (`model.safetensors`), by name, with the names and shapes that PyTorch has.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::error::{Error, Result};
use crate::parameters::Layout;

/// The key of the metadata that has the kind of the model, as JSON. It is the only key: metadata is a hash map without
/// a fixed order, and with several keys the same model could be written as different bytes.
const KEY: &str = "throughline";

/// The bytes of a safetensors file with every tensor of `layout`, in F32. `kind` is JSON on one line and goes into the
/// metadata; it tells models apart whose parameters have the same names and shapes, such as the two forms of a GRU.
///
/// # Panics
/// If `parameters` does not have the length of `layout`.
pub fn save(kind: &str, layout: &Layout, parameters: &[f32]) -> Vec<u8> {
    assert_eq!(parameters.len(), layout.length(), "the parameters must be in the layout given with them");
    let data: Vec<Vec<u8>> = layout
        .tensors()
        .iter()
        .map(|tensor| parameters[tensor.range()].iter().flat_map(|x| x.to_le_bytes()).collect())
        .collect();
    let views = layout.tensors().iter().zip(&data).map(|(tensor, data)| {
        let view = TensorView::new(Dtype::F32, tensor.shape().to_vec(), data);
        (tensor.name().to_string(), view.expect("the bytes are as many as the shape asks for"))
    });
    let metadata = [(KEY.to_string(), kind.to_string())].into_iter().collect();
    safetensors::serialize(views, Some(metadata)).expect("the header of a model is small")
}

/// More bytes than any file that [`save`] writes for `layout`, for readers that limit what they read.
pub fn size_limit(layout: &Layout) -> u64 {
    const HEADER_OF_TENSOR: usize = 512;
    const METADATA: usize = 1 << 16;
    let header: usize = layout.tensors().iter().map(|tensor| tensor.name().len() + HEADER_OF_TENSOR).sum();
    4 * layout.parameter_count() as u64 + (header + METADATA) as u64
}

/// Reads every tensor of `layout` from the bytes of a safetensors file into `parameters`.
///
/// # Errors
/// [`Error::Weights`] if the file is damaged, has another `kind`, lacks a tensor, has one too many, or has one of
/// another shape or type or with a number that is not finite. `parameters` may then be partly overwritten.
///
/// # Panics
/// If `parameters` does not have the length of `layout`.
pub fn load(kind: &str, layout: &Layout, bytes: &[u8], parameters: &mut [f32]) -> Result<()> {
    assert_eq!(parameters.len(), layout.length(), "the parameters must be in the layout given with them");
    let wrong = |place: &str, expected: &str, found: String| {
        Err(Error::Weights { place: place.to_string(), expected: expected.to_string(), found })
    };
    let damaged = |error: safetensors::SafeTensorError| Error::Weights {
        place: "file".to_string(),
        expected: "a complete safetensors file".to_string(),
        found: error.to_string(),
    };
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
    let file = SafeTensors::deserialize(bytes).map_err(damaged)?;
    let found = metadata.metadata().as_ref().and_then(|metadata| metadata.get(KEY)).cloned();
    if found.as_deref() != Some(kind) {
        let found = found.unwrap_or_else(|| "no such entry".to_string());
        return wrong(&format!("metadata `{KEY}`"), kind, found);
    }
    let mut tensors: BTreeMap<String, TensorView<'_>> = file.tensors().into_iter().collect();
    for tensor in layout.tensors() {
        let name = tensor.name();
        let Some(view) = tensors.remove(name) else {
            return wrong(name, &format!("F32 {:?}", tensor.shape()), "no such tensor".to_string());
        };
        if view.dtype() != Dtype::F32 || view.shape() != tensor.shape() {
            let expected = format!("F32 {:?}", tensor.shape());
            return wrong(name, &expected, format!("{:?} {:?}", view.dtype(), view.shape()));
        }
        let (numbers, _) = view.data().as_chunks::<4>();
        for (x, bytes) in parameters[tensor.range()].iter_mut().zip(numbers) {
            *x = f32::from_le_bytes(*bytes);
            if !x.is_finite() {
                return wrong(name, "finite numbers", x.to_string());
            }
        }
    }
    match tensors.keys().next() {
        Some(extra) => wrong(extra, "no such tensor", "one".to_string()),
        None => Ok(()),
    }
}
