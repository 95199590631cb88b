//! Settings that document themselves: one declaration makes the struct, its defaults and its documentation.

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// One key of a table of a recipe.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name within its table.
    pub name: &'static str,
    /// The lines of its doc comment, as they stand in the source.
    pub(crate) lines: &'static [&'static str],
    /// A value to show, as TOML, where the default is none that a recipe may keep.
    pub example: Option<&'static str>,
}

impl Key {
    /// What the key means, in Markdown, line by line.
    pub fn doc(&self) -> impl Iterator<Item = &'static str> {
        self.lines.iter().map(|line| line.strip_prefix(' ').unwrap_or(line))
    }
}

/// Settings declared by `settings!`: a table of a recipe, or some keys of one.
pub trait Settings: Serialize + DeserializeOwned + Default {
    /// The keys with their documentation, in the order of the declaration.
    const KEYS: &'static [Key];
}

/// The settings `S` out of table `name` of a recipe (`""`: its top), which must hold every key of `S`; other keys of the
/// table belong to others.
pub(crate) fn read<S: Settings>(recipe: &Table, name: &str) -> Result<S, toml::de::Error> {
    let table = if name.is_empty() { Some(recipe) } else { recipe.get(name).and_then(Value::as_table) };
    let value = |key: &Key| Some((key.name.to_owned(), table?.get(key.name)?.clone()));
    S::deserialize(S::KEYS.iter().filter_map(value).collect::<Table>())
}

/// Adds `settings` to table `name` of a recipe. They must be checked: TOML holds no number above `i64::MAX` and no path
/// that is not Unicode.
pub(crate) fn write<S: Settings>(settings: &S, recipe: &mut Table, name: &str) {
    let own = Table::try_from(settings).expect("checked settings have only values that TOML has");
    if name.is_empty() {
        recipe.extend(own);
    } else {
        let table = recipe.entry(name).or_insert_with(|| Value::Table(Table::new()));
        table.as_table_mut().expect("tables and keys of a recipe have different names").extend(own);
    }
}

/// Declares [`Settings`]: a struct whose fields are keys of a recipe. Each is `key: Type = default`, under the doc comment
/// that is its documentation everywhere: in rustdoc, on the settings page and in a printed recipe. So it is plain Markdown
/// without links, and does not repeat the default. `=> "TOML"` after the default gives an example where the default cannot
/// stand.
macro_rules! settings {
    (
        $(#[doc = $about:literal])+
        pub struct $name:ident {
            $(
                $(#[doc = $line:literal])+
                $(#[serde($($serde:tt)+)])?
                $key:ident: $type:ty = $default:expr $(=> $example:literal)?,
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $(
                $(#[doc = $line])+
                #[doc = concat!("\n\nDefault: `", stringify!($default), "`.")]
                $(#[serde($($serde)+)])?
                pub $key: $type,
            )+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)+ }
            }
        }

        impl $crate::recipe::Settings for $name {
            const KEYS: &'static [$crate::recipe::Key] = &[
                $($crate::recipe::Key {
                    name: stringify!($key),
                    lines: &[$($line),+],
                    example: settings!(@example $($example)?),
                },)+
            ];
        }
    };
    (@example) => { None };
    (@example $example:literal) => { Some($example) };
}
pub(crate) use settings;

/// Declares the options of a task: a struct of [`Settings`], each with the table of the recipe whose keys it holds. Several
/// may share a table, also with the settings of every task.
macro_rules! options {
    (
        $(#[doc = $about:literal])+
        pub struct $name:ident {
            $(
                $(#[doc = $line:literal])+
                [$table:ident] $field:ident: $type:ty,
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name {
            $(
                $(#[doc = $line])+
                pub $field: $type,
            )+
        }

        impl $crate::recipe::Tables for $name {
            fn tables() -> Vec<(&'static str, &'static [$crate::recipe::Key])> {
                vec![$((stringify!($table), <$type as $crate::recipe::Settings>::KEYS),)+]
            }

            fn read(recipe: &toml::Table) -> $crate::recipe::Read<Self> {
                Ok(Self { $($field: $crate::recipe::settings::read(recipe, stringify!($table))?,)+ })
            }

            fn write(&self, recipe: &mut toml::Table) {
                $($crate::recipe::settings::write(&self.$field, recipe, stringify!($table));)+
            }
        }
    };
}
pub(crate) use options;

#[cfg(test)]
mod tests {
    use super::*;

    settings! {
        /// For the test.
        pub struct Sizes {
            /// How wide.
            ///
            ///   Or how high.
            width: usize = 3,
            /// Its name.
            name: String = String::new() => "\"x\"",
        }
    }

    #[test]
    fn a_declaration_makes_documentation_and_defaults() {
        let [width, name] = Sizes::KEYS else { panic!("two keys") };
        assert_eq!((width.name, name.name), ("width", "name"));
        assert_eq!(width.doc().collect::<Vec<_>>(), ["How wide.", "", "  Or how high."]);
        assert_eq!((width.example, name.example), (None, Some("\"x\"")));
        assert_eq!(Sizes::default(), Sizes { width: 3, name: String::new() });
    }

    #[test]
    fn settings_share_a_table_with_others() {
        let mut recipe: Table = "[sizes]\ndepth = 1".parse().unwrap();
        write(&Sizes { width: 5, name: "a".to_owned() }, &mut recipe, "sizes");
        assert_eq!(recipe, "[sizes]\ndepth = 1\nwidth = 5\nname = 'a'".parse().unwrap());
        assert_eq!(read::<Sizes>(&recipe, "sizes").unwrap(), Sizes { width: 5, name: "a".to_owned() });
        assert!(read::<Sizes>(&recipe, "").is_err());
        assert!(toml::from_str::<Sizes>("width = 1\nname = ''\ndepth = 1").is_err());
    }
}
