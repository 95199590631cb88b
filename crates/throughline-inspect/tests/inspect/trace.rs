//! A trace holds what the tape and the gradients of rows hold, under names.

use throughline_infer::Pieces;
use throughline_inspect::{Selection, Subject, Trace, TraceFormat, Tracer};
use throughline_kernels::cells::CellKind;
use throughline_nn::layers::RecurrentConfig;
use throughline_nn::layers::recurrent::RecurrentTape;
use throughline_nn::module::TapeSetting;
use throughline_nn::network::{Input, Wanted, Workspace};
use throughline_testkit::assert_close;

use crate::common::{Model, stepwise};

const LENGTHS: [usize; 4] = [3, 0, 7, 1];
const HIDDEN: usize = 4;

fn model(cell: CellKind) -> Model<f32, throughline_nn::layers::Recurrent> {
    let config = RecurrentConfig { layers: 2, bidirectional: true, ..RecurrentConfig::new(cell, 3, HIDDEN) };
    stepwise(config, &LENGTHS)
}

fn selected(patterns: &[&str]) -> Selection {
    Selection::new(patterns).unwrap()
}

/// What training itself leaves on the tape and in the gradients of rows, whose loss is divided by the weight of the targets.
fn learned(model: &Model<f32, throughline_nn::layers::Recurrent>) -> (RecurrentTape<f32>, f32) {
    let mut workspace = Workspace::default();
    model.network.set(&mut workspace, TapeSetting::RowGradients(true));
    model.network.set(&mut workspace, TapeSetting::PreActivations(true));
    let mut gradients = vec![0.0; model.parameters.len()];
    let (input, wanted) = (Input::new(&model.rows, &model.x[..]), Wanted::new(&model.targets[..]));
    let pass = throughline_nn::module::Pass::Traced;
    let loss = model.network.learn(model.weights(), input, wanted, pass, &mut gradients, &mut workspace);
    (workspace.body, loss.weight as f32)
}

#[test]
fn arrays_are_what_the_tape_holds() {
    for &cell in CellKind::ALL {
        let model = model(cell);
        let trace = Trace::of(model.subject(), &Selection::default());
        let (tape, weight) = learned(&model);
        let (mut seen, rows) = (0, model.rows.rows());
        let mut check = |name: String, scale: f32, of_row: &dyn Fn(usize) -> Vec<f32>| {
            let array = trace.array(&name).unwrap_or_else(|| panic!("no {name} for {}", cell.name()));
            assert_eq!((array.width, array.values.len()), (HIDDEN, rows * HIDDEN), "{name}");
            for (row, values) in array.values.chunks(HIDDEN).enumerate() {
                let want: Vec<f32> = of_row(row).iter().map(|x| x * scale).collect();
                // Without a division both are the same bits.
                match scale {
                    1.0 => assert_eq!(values, want, "{} {name} row {row}", cell.name()),
                    _ => assert_close(&name, values, &want, 1e-6),
                }
            }
            seen += 1;
        };
        for (layer, direction, site) in
            [(0, 0, "rnn.l0"), (0, 1, "rnn.l0_reverse"), (1, 0, "rnn.l1"), (1, 1, "rnn.l1_reverse")]
        {
            let (of_layer, gradients) = (tape.layer(layer), tape.row_gradients(layer).unwrap());
            check(format!("{site}.h"), 1.0, &|row| tape.hidden(layer, direction, row).to_vec());
            check(format!("{site}.d_h"), weight, &|row| gradients.hidden(direction, row).to_vec());
            if cell.has_cell_state() {
                check(format!("{site}.c"), 1.0, &|row| of_layer.cell_state(direction, row).unwrap().to_vec());
                check(format!("{site}.d_c"), weight, &|row| gradients.cell(direction, row).unwrap().to_vec());
            }
            for (slot, gate) in cell.slot_names().iter().enumerate() {
                check(format!("{site}.{gate}"), 1.0, &|row| of_layer.gate(gate, direction, row).to_vec());
                check(format!("{site}.d_{gate}"), weight, &|row| gradients.gate(gate, direction, row).to_vec());
                if slot < cell.gates() {
                    let before = |row| of_layer.pre_activation(gate, direction, row).unwrap().to_vec();
                    check(format!("{site}.pre_{gate}"), 1.0, &before);
                }
            }
        }
        assert_eq!(trace.arrays.len(), seen, "{}: nothing else", cell.name());
    }
}

#[test]
fn rows_say_whose_they_are() {
    let model = model(CellKind::Lstm);
    let trace = Trace::of(model.subject(), &selected(&["rnn.l0.h"]));
    let mut steps = vec![Vec::new(); LENGTHS.len()];
    for (&sequence, &time) in trace.sequence.iter().zip(&trace.time) {
        steps[sequence as usize].push(time as usize);
    }
    let in_order: Vec<Vec<usize>> = LENGTHS.iter().map(|&length| (0..length).collect()).collect();
    assert_eq!(steps, in_order);
}

#[test]
fn what_is_not_selected_is_left_out() {
    let model = model(CellKind::Lstm);
    let all = Trace::of(model.subject(), &Selection::default());
    let some = Trace::of(model.subject(), &selected(&["*.forget", "rnn.l1.d_c"]));
    let names: Vec<&str> = some.arrays.iter().map(|array| &array.name[..]).collect();
    assert_eq!(
        names,
        ["rnn.l0.forget", "rnn.l0_reverse.forget", "rnn.l1.forget", "rnn.l1.d_c", "rnn.l1_reverse.forget"]
    );
    for array in &some.arrays {
        assert_eq!(Some(array), all.array(&array.name));
    }
    assert!(Selection::new(&["a***b"]).unwrap_err().to_string().contains("a***b"));
}

#[test]
fn memory_is_used_again() {
    let model = model(CellKind::Lstm);
    let all = Trace::of(model.subject(), &Selection::default());
    let rows = throughline_kernels::sequence::Ragged::new(&[2]);
    let mut tracer = Tracer::new(&model.network, Selection::default());
    assert_eq!(tracer.trace(model.subject()), &all);
    // A smaller batch in between.
    let small = Subject { rows: &rows, x: &model.x[..6], targets: &model.targets[..2], ..model.subject() };
    assert_eq!(tracer.trace(small), &Trace::of(small, &Selection::default()));
    assert_eq!(tracer.trace(model.subject()), &all);
}

/// Both kinds of file, read by other code than wrote them.
#[test]
fn files_hold_every_array() {
    let model = model(CellKind::GruAfter);
    let mut trace = Trace::of(model.subject(), &Selection::default());
    let pieces: Vec<String> = (0..trace.time.len()).map(|row| format!("\u{e9}{}\"", row % 4)).collect();
    trace.pieces = Some(Pieces::of(pieces.clone()));
    let pieces = serde_json::to_string(&pieces).unwrap();
    let numbers = |bytes: &[u8]| -> Vec<u32> {
        bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
    };
    let bits = |name: &str| -> Vec<u32> {
        match name {
            "sequence" => trace.sequence.clone(),
            "time" => trace.time.clone(),
            _ => trace.array(name).unwrap().values.iter().map(|x| x.to_bits()).collect(),
        }
    };
    let count = trace.arrays.len() + 2;

    let mut npz = Vec::new();
    trace.write(TraceFormat::Npz, &mut npz).unwrap();
    let archive = rawzip::ZipArchive::from_slice(&npz).unwrap();
    let (mut entries, mut seen) = (archive.entries(), 0);
    while let Some(entry) = entries.next_entry().unwrap() {
        let name = String::from_utf8(entry.file_path().as_ref().to_vec()).unwrap();
        let stored = archive.get_entry(entry.wayfinder()).unwrap();
        stored
            .claim_verifier()
            .valid(rawzip::ZipVerification {
                crc: rawzip::crc32(stored.data()),
                uncompressed_size: stored.data().len() as u64,
            })
            .unwrap();
        let Some(name) = name.strip_suffix(".npy") else {
            assert_eq!((&name[..], stored.data()), ("pieces.json", pieces.as_bytes()));
            continue;
        };
        let length = usize::from(u16::from_le_bytes([stored.data()[8], stored.data()[9]]));
        let (head, values) = stored.data().split_at(10 + length);
        let head = String::from_utf8_lossy(head);
        let shape = match name {
            "sequence" | "time" => "'<u4', 'fortran_order': False, 'shape': (11,)".to_owned(),
            _ => "'<f4', 'fortran_order': False, 'shape': (11, 4)".to_owned(),
        };
        assert!(head.contains(&shape), "{head}");
        assert_eq!(numbers(values), bits(name), "{name}");
        seen += 1;
    }
    assert_eq!(seen, count);

    let mut file = Vec::new();
    trace.write(TraceFormat::Safetensors, &mut file).unwrap();
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&file).unwrap();
    assert_eq!(metadata.metadata().as_ref().unwrap()["pieces"], pieces);
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    assert_eq!(tensors.len(), count);
    for (name, tensor) in tensors.tensors() {
        assert_eq!(numbers(tensor.data()), bits(&name), "{name}");
        assert_eq!(tensor.shape()[0], 11);
    }
}
