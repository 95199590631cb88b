//! The names of cells in recipes.

use serde::de::{Deserialize, Deserializer, Error};
use serde::{Serialize, Serializer};
use throughline_kernels::cells::CellKind;

const NAMES: [(&str, CellKind); 5] = [
    ("lstm", CellKind::Lstm),
    ("gru", CellKind::GruAfter),
    ("gru-before", CellKind::GruBefore),
    ("rnn", CellKind::RnnTanh),
    ("rnn-relu", CellKind::RnnRelu),
];

pub(super) fn serialize<S: Serializer>(cell: &CellKind, serializer: S) -> Result<S::Ok, S::Error> {
    let (name, _) = NAMES.iter().find(|(_, kind)| kind == cell).expect("every cell has a name in recipes");
    name.serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<CellKind, D::Error> {
    let given = String::deserialize(deserializer)?;
    NAMES.iter().find(|(name, _)| *name == given).map(|(_, kind)| *kind).ok_or_else(|| {
        let names = NAMES.map(|(name, _)| format!("`{name}`")).join(", ");
        D::Error::custom(format_args!("expected one of {names}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_has_a_name() {
        for cell in CellKind::ALL {
            assert!(NAMES.iter().any(|(_, kind)| kind == cell), "{cell:?}");
        }
    }
}
