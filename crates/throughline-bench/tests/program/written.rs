//! A file that `--write` wrote.

use std::collections::HashMap;

use safetensors::{Dtype, SafeTensors};

use crate::folder::Folder;

/// Its tensors by name, and its metadata.
pub struct Written {
    pub shapes: HashMap<String, Vec<usize>>,
    pub numbers: HashMap<String, Vec<f32>>,
    pub counts: HashMap<String, Vec<i64>>,
    pub notes: HashMap<String, String>,
}

impl Written {
    pub fn read(folder: &Folder, name: &str) -> Self {
        let bytes = folder.bytes(name);
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let notes = header.metadata().clone().unwrap().into_iter().collect();
        let mut written = Self { shapes: HashMap::new(), numbers: HashMap::new(), counts: HashMap::new(), notes };
        for (name, tensor) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
            written.shapes.insert(name.clone(), tensor.shape().to_vec());
            match tensor.dtype() {
                Dtype::F32 => {
                    let numbers = tensor.data().as_chunks::<4>().0;
                    let numbers = numbers.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
                    written.numbers.insert(name, numbers);
                }
                Dtype::I64 => {
                    let counts = tensor.data().as_chunks::<8>().0;
                    written.counts.insert(name, counts.iter().map(|&bytes| i64::from_le_bytes(bytes)).collect());
                }
                other => panic!("{name} is {other:?}"),
            }
        }
        for (name, numbers) in &written.numbers {
            assert!(numbers.iter().all(|x| x.is_finite()), "{name}");
        }
        written
    }

    pub fn has(&self, expected: &[(&str, &[usize])]) {
        for (name, shape) in expected {
            assert_eq!(self.shapes.get(*name).map(|shape| &shape[..]), Some(*shape), "{name}");
        }
    }

    /// The tensors that there are under a prefix, without it.
    pub fn under(&self, prefix: &str) -> Vec<&str> {
        let mut names: Vec<&str> = self.shapes.keys().filter_map(|name| name.strip_prefix(prefix)).collect();
        names.sort_unstable();
        names
    }
}
