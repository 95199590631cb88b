//! `model.safetensors`: the parameters by name, in PyTorch's layout.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::error::{Error, Result};
use crate::parameters::Layout;

/// The key in the file's metadata under which the kind of the model stands, as JSON. It is one entry because metadata is a
/// hash map without a fixed order: with several, equal models would be written as different bytes.
const KEY: &str = "throughline";

/// The bytes of a safetensors file with every tensor of `layout`. `kind` is JSON on one line that tells models apart whose
/// weights have the same names and shapes, such as the two forms of a GRU.
///
/// # Panics
/// If the parameters do not lie in that layout.
pub fn save(kind: &str, layout: &Layout, parameters: &[f32]) -> Vec<u8> {
    assert_eq!(parameters.len(), layout.length(), "parameters lie in their layout");
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

/// Reads every tensor of `layout` from the bytes of a safetensors file.
///
/// # Errors
/// If the file is damaged, was written for another kind of model, lacks a tensor, holds one too many, or has one with
/// another shape, another type or a number that is not finite. What `parameters` then hold is not to be used.
///
/// # Panics
/// If the parameters do not lie in that layout.
pub fn load(kind: &str, layout: &Layout, bytes: &[u8], parameters: &mut [f32]) -> Result<()> {
    assert_eq!(parameters.len(), layout.length(), "parameters lie in their layout");
    let wrong = |place: &str, expected: &str, found: String| {
        Err(Error::Weights { place: place.to_string(), expected: expected.to_string(), found })
    };
    let damaged = |error: safetensors::SafeTensorError| Error::Weights {
        place: "file".to_string(),
        expected: "a whole safetensors file".to_string(),
        found: error.to_string(),
    };
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
    let file = SafeTensors::deserialize(bytes).map_err(damaged)?;
    let found = metadata.metadata().as_ref().and_then(|metadata| metadata.get(KEY)).cloned();
    if found.as_deref() != Some(kind) {
        let found = found.unwrap_or_else(|| "nothing".to_string());
        return wrong(&format!("metadata `{KEY}`"), kind, found);
    }
    let mut tensors: BTreeMap<String, TensorView<'_>> = file.tensors().into_iter().collect();
    for tensor in layout.tensors() {
        let name = tensor.name();
        let Some(view) = tensors.remove(name) else {
            return wrong(name, &format!("a tensor {:?}", tensor.shape()), "no such tensor".to_string());
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
        Some(extra) => wrong(extra, "no tensor of that name", "one".to_string()),
        None => Ok(()),
    }
}
