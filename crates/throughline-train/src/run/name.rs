//! The names of runs.

/// Longest name of a run, in bytes.
const LONGEST_NAME: usize = 100;

/// What [`is_name`] asks for.
pub(crate) const NAME_RULE: &str = "1 to 100 bytes of letters, digits, `-`, `_` and `.`, beginning with a letter, a digit or `_`, not ending with `.`, \
     and not a name that Windows keeps for a device, such as `con` or `com1.txt`";

/// Names that Windows keeps for devices, with any extension and in any case; COM and LPT are followed by a digit, of which
/// it counts three superscript ones (Naming Files, Paths, and Namespaces, Microsoft).
const DEVICES: [&str; 4] = ["CON", "PRN", "AUX", "NUL"];
const NUMBERED_DEVICES: [&str; 2] = ["COM", "LPT"];

/// Whether Windows takes `name` for a device.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().to_uppercase();
    let numbered = |device: &&str| {
        let mut rest = stem.strip_prefix(*device).unwrap_or_default().chars();
        let digit = rest.next().is_some_and(|digit| digit.is_ascii_digit() || "¹²³".contains(digit));
        digit && rest.next().is_none()
    };
    DEVICES.contains(&stem.as_str()) || NUMBERED_DEVICES.iter().any(numbered)
}

/// Whether `name` can name a run folder on every system: one plain component of a path, not hidden, not an option.
pub(crate) fn is_name(name: &str) -> bool {
    name.len() <= LONGEST_NAME
        && name.starts_with(|first: char| first.is_alphanumeric() || first == '_')
        && name.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c))
        && !name.ends_with('.')
        && !is_device(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_components() {
        for name in ["lm-1", "Näme_2.x", "7", "_a", "console", "com", "com10", "lpt-1", "xcon", "null.con"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["con", "Con.toml", "PRN", "aux.a.b", "NUL", "com0", "COM9.txt", "lpt1", "LPT³", "a.", "run.."] {
            assert!(!is_name(name), "{name}");
        }
        let long = "a".repeat(LONGEST_NAME + 1);
        for name in ["", ".", "..", "a/b", "a\\b", "-rf", ".hidden", "a b", "a:b", "a\n", "a\0", &long] {
            assert!(!is_name(name), "{name:?}");
        }
    }
}
