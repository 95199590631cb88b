//! The names of cells in recipes.

use serde::de::{Deserialize, Deserializer, Error};
use serde::{Serialize, Serializer};
use throughline_kernels::cells::CellKind;

pub(super) fn serialize<S: Serializer>(cell: &CellKind, serializer: S) -> Result<S::Ok, S::Error> {
    cell.names().recipe.serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<CellKind, D::Error> {
    let given = String::deserialize(deserializer)?;
    CellKind::from_recipe_name(&given).ok_or_else(|| {
        let names: Vec<String> = CellKind::ALL.iter().map(|cell| format!("`{}`", cell.names().recipe)).collect();
        D::Error::custom(format_args!("expected one of {}", names.join(", ")))
    })
}
