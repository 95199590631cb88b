//! Dotted keys in TOML tables.

use toml::{Table, Value};

/// The value at a dotted key.
pub(super) fn value_at<'t>(table: &'t Table, key: &str) -> Option<&'t Value> {
    match key.split_once('.') {
        None => table.get(key),
        Some((section, rest)) => value_at(table.get(section)?.as_table()?, rest),
    }
}

/// The same, to change it.
pub(super) fn value_at_mut<'t>(table: &'t mut Table, key: &str) -> Option<&'t mut Value> {
    match key.split_once('.') {
        None => table.get_mut(key),
        Some((section, rest)) => value_at_mut(table.get_mut(section)?.as_table_mut()?, rest),
    }
}

/// The keys of all values and tables below `table`.
pub(super) fn dotted_keys(table: &Table) -> Vec<String> {
    let mut keys = Vec::new();
    add_dotted_keys(table, "", &mut keys);
    keys
}

fn add_dotted_keys(table: &Table, prefix: &str, keys: &mut Vec<String>) {
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        if let Value::Table(section) = value {
            add_dotted_keys(section, &format!("{key}."), keys);
        }
        keys.push(key);
    }
}

/// Keeps the values whose dotted key `keep` accepts, and no table without values.
pub(super) fn retain(table: &mut Table, keep: &dyn Fn(&str) -> bool) {
    retain_below(table, "", keep);
}

fn retain_below(table: &mut Table, prefix: &str, keep: &dyn Fn(&str) -> bool) {
    table.retain(|name, value| {
        let key = format!("{prefix}{name}");
        match value {
            Value::Table(section) => {
                retain_below(section, &format!("{key}."), keep);
                !section.is_empty()
            }
            _ => keep(&key),
        }
    });
}
