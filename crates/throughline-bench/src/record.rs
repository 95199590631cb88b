//! A file with all that others need to check a result.

use std::borrow::Cow;
use std::path::Path;

use anyhow::{Context, Result};
use safetensors::{Dtype, View};
use throughline_nn::parameters::Layout;
use throughline_train::write_atomically;

/// The tensors of a safetensors file and its metadata.
#[derive(Default)]
pub struct Record<'a> {
    tensors: Vec<(String, Tensor<'a>)>,
    metadata: Vec<(&'static str, String)>,
}

struct Tensor<'a> {
    shape: Vec<usize>,
    elements: Elements<'a>,
}

enum Elements<'a> {
    F32(Cow<'a, [f32]>),
    I64(Vec<i64>),
}

impl<'a> Record<'a> {
    /// Says something about the file.
    pub fn note(&mut self, key: &'static str, value: impl ToString) {
        self.metadata.push((key, value.to_string()));
    }

    /// Numbers, row-major.
    pub fn numbers(&mut self, name: &str, shape: &[usize], elements: impl Into<Cow<'a, [f32]>>) {
        let elements = elements.into();
        assert_eq!(shape.iter().product::<usize>(), elements.len(), "{name} is {shape:?}");
        self.tensors.push((name.to_owned(), Tensor { shape: shape.to_vec(), elements: Elements::F32(elements) }));
    }

    /// Whole numbers, row-major.
    pub fn whole_numbers(&mut self, name: &str, shape: &[usize], elements: Vec<i64>) {
        assert_eq!(shape.iter().product::<usize>(), elements.len(), "{name} is {shape:?}");
        self.tensors.push((name.to_owned(), Tensor { shape: shape.to_vec(), elements: Elements::I64(elements) }));
    }

    /// Sizes or places.
    pub fn counts(&mut self, name: &str, counts: &[usize]) {
        self.whole_numbers(name, &[counts.len()], counts.iter().map(|&count| count as i64).collect());
    }

    /// Every tensor of `layout`, its name after `prefix`.
    pub fn parameters(&mut self, prefix: &str, layout: &Layout, buffer: &'a [f32]) {
        for tensor in layout.tensors() {
            self.numbers(&format!("{prefix}{}", tensor.name()), tensor.shape(), &buffer[tensor.range()]);
        }
    }

    /// States `[L·D, B, H]` under the names `h_n` and, where there are cell states, `c_n`.
    pub fn last_states(&mut self, shape: [usize; 3], [h, c]: [Vec<f32>; 2]) {
        self.numbers("h_n", &shape, h);
        if !c.is_empty() {
            self.numbers("c_n", &shape, c);
        }
    }

    /// Writes the file, in one step.
    pub fn write(self, path: &Path) -> Result<()> {
        let metadata = self.metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let bytes = safetensors::serialize(self.tensors, Some(metadata))
            .with_context(|| format!("{}: expected tensors that a safetensors file can hold", path.display()))?;
        Ok(write_atomically(path, &bytes)?)
    }
}

impl View for Tensor<'_> {
    fn dtype(&self) -> Dtype {
        match self.elements {
            Elements::F32(_) => Dtype::F32,
            Elements::I64(_) => Dtype::I64,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match &self.elements {
            Elements::F32(elements) => elements.iter().flat_map(|element| element.to_le_bytes()).collect(),
            Elements::I64(elements) => elements.iter().flat_map(|element| element.to_le_bytes()).collect(),
        }
    }

    fn data_len(&self) -> usize {
        match &self.elements {
            Elements::F32(elements) => size_of_val(&elements[..]),
            Elements::I64(elements) => size_of_val(&elements[..]),
        }
    }
}
