//! A JSON object with its keys in their order, of which none is lost where one comes twice.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Keys and values in their order.
pub(super) struct Object(pub(super) Vec<(String, Value)>);

/// A value of a key.
pub(super) enum Value {
    Null,
    Bool(bool),
    /// As it is written, so that no digit of a long identifier is lost.
    Number(String),
    String(String),
    /// A list or an object, in words.
    Nested(&'static str),
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut pairs = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
                    pairs.push((key, Value::of(value)));
                }
                Ok(Object(pairs))
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}

impl Value {
    /// Of a value as it is written.
    fn of(raw: &RawValue) -> Self {
        let text = raw.get();
        match text.as_bytes()[0] {
            b'n' => Self::Null,
            b't' | b'f' => Self::Bool(text == "true"),
            b'"' => Self::String(serde_json::from_str(text).expect("a raw string is one")),
            b'[' => Self::Nested("a list"),
            b'{' => Self::Nested("an object"),
            _ => Self::Number(text.to_owned()),
        }
    }
}
