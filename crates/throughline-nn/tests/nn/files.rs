//! `model.safetensors`: what is written is read, and nothing else is.

use crate::common::{Dropouts, Numbers, classifier, language_model};
use proptest::prelude::*;
use throughline_kernels::buffer::Buffer;
use throughline_kernels::cells::CellKind;
use throughline_nn::layers::recurrent::InitialState;
use throughline_nn::layers::{Pooling, RecurrentConfig};
use throughline_nn::parameters::Layout;
use throughline_nn::{Error, weights};
use throughline_testkit::assert_same_bits;

/// A model, as far as its file goes.
#[derive(Clone, Debug, PartialEq)]
struct Saved {
    kind: String,
    layout: Layout,
}

impl Saved {
    fn language_model(stack: RecurrentConfig, tied: bool) -> Self {
        let layout = language_model(stack, 5, tied, Dropouts::default()).layout().clone();
        Self { kind: serde_json::json!({ "task": "lm", "cell": stack.cell.name() }).to_string(), layout }
    }

    fn classifier(stack: RecurrentConfig, pooling: Pooling) -> Self {
        let layout = classifier(stack, 5, 2, pooling, Dropouts::default()).layout().clone();
        let kind = serde_json::json!({ "task": "classify", "cell": stack.cell.name(), "pooling": pooling });
        Self { kind: kind.to_string(), layout }
    }
}

fn models() -> Vec<Saved> {
    let mut models = Vec::new();
    for &cell in CellKind::ALL {
        for (layers, bidirectional) in [(1, false), (2, true)] {
            let initial_state = if layers == 1 { InitialState::Zero } else { InitialState::Learned };
            let bias = layers == 1;
            let stack =
                RecurrentConfig { layers, bidirectional, initial_state, bias, ..RecurrentConfig::new(cell, 3, 3) };
            models.extend(Pooling::ALL.map(|pooling| Saved::classifier(stack, pooling)));
            for tied in [false, true] {
                models.push(Saved::language_model(RecurrentConfig { bidirectional: false, ..stack }, tied));
            }
        }
    }
    models
}

fn saved(model: &Saved) -> Vec<u8> {
    weights::save(&model.kind, &model.layout, &Numbers::new(2).parameters(&model.layout, 3.0))
}

fn load(model: &Saved, bytes: &[u8]) -> Result<Buffer<f32>, Error> {
    let mut parameters = model.layout.zeros();
    weights::load(&model.kind, &model.layout, bytes, &mut parameters).map(|()| parameters)
}

/// The place, expectation and finding of an error of the weights.
fn weights_error(model: &Saved, bytes: &[u8]) -> (String, String, String) {
    match load(model, bytes) {
        Err(Error::Weights { place, expected, found }) => (place, expected, found),
        other => panic!("expected an error, got {other:?}"),
    }
}

/// The header and the numbers of a safetensors file.
fn header_and_data(bytes: &[u8]) -> (serde_json::Value, Vec<u8>) {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..8 + length]).unwrap(), bytes[8 + length..].to_vec())
}

fn joined(header: &serde_json::Value, data: &[u8]) -> Vec<u8> {
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

fn sample() -> Saved {
    Saved::classifier(RecurrentConfig::new(CellKind::Lstm, 3, 2), Pooling::LastStates)
}

#[test]
fn every_model_survives_its_file() {
    for model in models() {
        let (bytes, want) = (saved(&model), Numbers::new(2).parameters::<f32>(&model.layout, 3.0));
        assert_same_bits("parameters", &load(&model, &bytes).unwrap(), &want);
        assert_eq!(bytes, saved(&model), "the same model gives the same bytes");
    }
}

#[test]
fn names_and_shapes_are_pytorchs() {
    let stack = RecurrentConfig { bidirectional: true, ..RecurrentConfig::new(CellKind::Lstm, 3, 2) };
    let (header, _) = header_and_data(&saved(&Saved::classifier(stack, Pooling::LastStates)));
    let shape = |name: &str| header[name]["shape"].to_string();
    assert_eq!(shape("embedding.weight"), "[5,3]");
    assert_eq!(shape("rnn.weight_ih_l0_reverse"), "[8,3]");
    assert_eq!(shape("rnn.bias_hh_l0"), "[8]");
    assert_eq!(shape("head.weight"), "[2,4]");
    assert_eq!(header.as_object().unwrap().len(), 1 + 1 + 8 + 2);
}

/// Every other model's file is refused, of the same shapes or not: reset before and after, tanh and relu, other
/// poolings.
#[test]
fn no_model_takes_the_weights_of_another() {
    let models = models();
    for (i, model) in models.iter().enumerate() {
        let bytes = saved(model);
        for (j, other) in models.iter().enumerate() {
            let refused = matches!(load(other, &bytes), Err(Error::Weights { .. }));
            assert_eq!(refused, i != j, "{other:?} with the weights of {model:?}");
        }
    }
}

#[test]
fn a_missing_and_a_spare_tensor_are_named() {
    let (mut header, mut data) = header_and_data(&saved(&sample()));
    let end = data.len();
    header["spare"] = serde_json::json!({ "dtype": "F32", "shape": [1], "data_offsets": [end, end + 4] });
    data.extend([0; 4]);
    assert_eq!(weights_error(&sample(), &joined(&header, &data)).0, "spare");
    let moved = header["head.bias"].take();
    header["head.offset"] = moved;
    header.as_object_mut().unwrap().remove("head.bias");
    assert_eq!(weights_error(&sample(), &joined(&header, &data)).0, "head.bias");
}

#[test]
fn another_shape_or_type_is_named() {
    let (header, data) = header_and_data(&saved(&sample()));
    for (key, value) in [("shape", serde_json::json!([2, 5, 2])), ("shape", serde_json::json!([5, 3, 1]))] {
        let mut header = header.clone();
        header["embedding.weight"][key] = value;
        let bytes = joined(&header, &data);
        assert!(matches!(load(&sample(), &bytes), Err(Error::Weights { .. })));
    }
    let mut header = header.clone();
    header["embedding.weight"]["dtype"] = "I32".into();
    let (place, expected, found) = weights_error(&sample(), &joined(&header, &data));
    assert_eq!((&place[..], &expected[..], &found[..]), ("embedding.weight", "F32 [5, 3]", "I32 [5, 3]"));
}

#[test]
fn numbers_that_are_not_finite_are_named() {
    let Saved { kind, layout } = sample();
    for number in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for tensor in layout.tensors() {
            let mut parameters = Numbers::new(2).parameters::<f32>(&layout, 3.0);
            parameters[tensor.range().end - 1] = number;
            let bytes = weights::save(&kind, &layout, &parameters);
            assert_eq!(weights_error(&sample(), &bytes).0, tensor.name());
        }
    }
}

#[test]
fn hostile_weights_are_errors() {
    let bytes = saved(&sample());
    for length in 0..bytes.len() {
        assert!(matches!(load(&sample(), &bytes[..length]), Err(Error::Weights { .. })), "cut at {length}");
    }
    let (header, data) = header_and_data(&bytes);
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut header = header.clone();
        change(&mut header);
        joined(&header, &data)
    };
    let huge = 1u64 << 62;
    let hostile = [
        [&u64::MAX.to_le_bytes()[..], &bytes[8..]].concat(),
        [&(1u64 << 40).to_le_bytes()[..], &bytes[8..]].concat(),
        [&100_000u64.to_le_bytes()[..], "[".repeat(100_000).as_bytes()].concat(),
        [&bytes[..], &[0]].concat(),
        with(&|header| header["embedding.weight"]["shape"] = serde_json::json!([huge, huge])),
        with(&|header| header["embedding.weight"]["shape"] = serde_json::json!([huge, 4])),
        with(&|header| header["embedding.weight"]["data_offsets"] = serde_json::json!([u64::MAX, 0])),
        with(&|header| header["embedding.weight"]["data_offsets"] = serde_json::json!([0, u64::MAX])),
        with(&|header| header["__metadata__"] = serde_json::json!({})),
        with(&|header| header["__metadata__"]["throughline"] = "format_version=2".into()),
        with(&|header| *header = serde_json::json!({})),
    ];
    for (index, bytes) in hostile.iter().enumerate() {
        assert!(matches!(load(&sample(), bytes), Err(Error::Weights { .. })), "file {index}");
    }
}

/// One change of a file: a byte set, removed or put in, or the rest cut off.
#[derive(Clone, Debug)]
enum Mutation {
    Set(usize, u8),
    Remove(usize),
    Insert(usize, u8),
    Cut(usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        4 => (any::<usize>(), any::<u8>()).prop_map(|(place, byte)| Mutation::Set(place, byte)),
        2 => any::<usize>().prop_map(Mutation::Remove),
        2 => (any::<usize>(), any::<u8>()).prop_map(|(place, byte)| Mutation::Insert(place, byte)),
        1 => any::<usize>().prop_map(Mutation::Cut),
    ]
}

fn mutated(bytes: &[u8], mutations: &[Mutation]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for mutation in mutations {
        if bytes.is_empty() {
            break;
        }
        let length = bytes.len();
        match *mutation {
            Mutation::Set(place, byte) => bytes[place % length] = byte,
            Mutation::Remove(place) => drop(bytes.remove(place % length)),
            Mutation::Insert(place, byte) => bytes.insert(place % length, byte),
            Mutation::Cut(place) => bytes.truncate(place % length),
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// A changed header is refused or changes nothing; changed numbers are read as they stand, if they are finite.
    #[test]
    fn changed_weights_never_panic(mutations in prop::collection::vec(mutation(), 1..4)) {
        let original = saved(&sample());
        let header = original.len() - header_and_data(&original).1.len();
        let bytes = mutated(&original, &mutations);
        if let Ok(loaded) = load(&sample(), &bytes) {
            prop_assert!(loaded.iter().all(|x| x.is_finite()));
            let again = weights::save(&sample().kind, &sample().layout, &loaded);
            let data = again.len() - header;
            prop_assert_eq!(&again[..header], &original[..header]);
            prop_assert_eq!(&again[header..], &bytes[bytes.len() - data..]);
        }
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(load(&sample(), &bytes).is_err());
    }
}
