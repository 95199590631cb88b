//! Entities in sequences of tags: where they begin and end, and which tag may follow which.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How entities are written with one tag for each word: `O` outside of them, and within them a letter, a hyphen and the
/// type, as in `B-PER`. There may be no type at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TagScheme {
    /// `B` for the first word of each entity, `I` for its others. Also called IOB2.
    Bio,
    /// `I` for all words of an entity, `B` only for the first one where an entity of the same type ends right before it
    /// (Ramshaw and Marcus, 1995).
    Iob1,
    /// `B`, `I` and `E` for the first, inner and last words of an entity, `S` for the only one. Also called BIOES.
    Iobes,
}

impl TagScheme {
    /// All schemes.
    pub const ALL: [Self; 3] = [Self::Bio, Self::Iob1, Self::Iobes];

    /// `bio`, `iob1` or `iobes`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bio => "bio",
            Self::Iob1 => "iob1",
            Self::Iobes => "iobes",
        }
    }

    /// Whether `next` may come right after `previous`. Nothing stands for `O` and for both ends of a sentence.
    fn allows(self, previous: Option<Tag>, next: Option<Tag>) -> bool {
        use Position::{Begin, End, Inside, Single};
        let same_type = previous.map(|tag| tag.kind) == next.map(|tag| tag.kind);
        let position = next.map(|tag| tag.position);
        match self {
            Self::Bio => match position {
                None | Some(Begin) => true,
                Some(Inside) => same_type,
                Some(End | Single) => false,
            },
            Self::Iob1 => match position {
                None | Some(Inside) => true,
                Some(Begin) => same_type,
                Some(End | Single) => false,
            },
            Self::Iobes => match previous.map(|tag| tag.position) {
                Some(Begin | Inside) => same_type && matches!(position, Some(Inside | End)),
                None | Some(End | Single) => matches!(position, None | Some(Begin | Single)),
            },
        }
    }
}

impl fmt::Display for TagScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The words `start..end` of a sentence that are one entity. Ordered by place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entity {
    /// The first word.
    pub start: usize,
    /// The word after the last one.
    pub end: usize,
    /// Its type, an index into [`EntityTags::types`].
    pub kind: u32,
}

/// A set of tags that say where entities are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityTags {
    /// What each tag says; nothing is `O`.
    tags: Vec<Option<Tag>>,
    types: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tag {
    position: Position,
    /// The index of the type.
    kind: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    Begin,
    Inside,
    End,
    Single,
}

impl EntityTags {
    /// What the tags of these names say. Nothing unless each of them is `O` or one of the letters `B`, `I`, `E` and
    /// `S`, alone or with a hyphen and a type after it, and at least one is not `O`: other tags, such as parts of
    /// speech, know no entities.
    pub fn new(names: &[String]) -> Option<Self> {
        let parts = names.iter().map(|name| parts(name)).collect::<Option<Vec<_>>>()?;
        let mut types: Vec<String> = parts.iter().flatten().map(|&(_, kind)| kind.into()).collect();
        types.sort();
        types.dedup();
        let kind = |name: &str| types.binary_search_by(|kind| kind.as_str().cmp(name)).expect("a type of these") as u32;
        let tags = parts.iter().map(|part| part.map(|(position, name)| Tag { position, kind: kind(name) })).collect();
        (!types.is_empty()).then_some(Self { tags, types })
    }

    /// The types of entities, ordered by code point. The type of tags that name none is empty.
    pub fn types(&self) -> &[String] {
        &self.types
    }

    /// The entities in the tags of a sentence, in order.
    ///
    /// They are those that `conlleval` counts, the evaluation of CoNLL-2000 to 2003, whatever the scheme and however
    /// malformed the tags are: each stretch of words other than `O`, divided where the type changes, before `B` and
    /// `S`, and after `E` and `S`. So `I-PER` after `O`, or after `B-LOC`, begins an entity. (`conlleval.pl` knows no
    /// `S`, and does not divide `E-X B-X`; its successors in Python do, as here.)
    ///
    /// # Panics
    /// If a tag is not below the number of tags.
    pub fn entities(&self, sentence: &[u32]) -> Vec<Entity> {
        let mut entities: Vec<Entity> = Vec::new();
        let mut previous: Option<Tag> = None;
        for (place, &tag) in sentence.iter().enumerate() {
            let tag = self.tag(tag);
            if let Some(Tag { position, kind }) = tag {
                let goes_on = previous.is_some_and(|previous| {
                    previous.kind == kind
                        && matches!(previous.position, Position::Begin | Position::Inside)
                        && matches!(position, Position::Inside | Position::End)
                });
                match entities.last_mut().filter(|_| goes_on) {
                    Some(entity) => entity.end = place + 1,
                    None => entities.push(Entity { start: place, end: place + 1, kind }),
                }
            }
            previous = tag;
        }
        entities
    }

    /// Whether the tag `next` may come right after `previous` in a scheme. Nothing stands for both ends of a sentence.
    ///
    /// # Panics
    /// If a tag is not below the number of tags.
    pub fn allows(&self, scheme: TagScheme, previous: Option<u32>, next: Option<u32>) -> bool {
        let tag = |tag: Option<u32>| tag.and_then(|tag| self.tag(tag));
        scheme.allows(tag(previous), tag(next))
    }

    /// How many transitions in the tags of a sentence a scheme does not allow, from word to word and at both ends.
    ///
    /// # Panics
    /// If a tag is not below the number of tags.
    pub fn invalid_transitions(&self, scheme: TagScheme, sentence: &[u32]) -> u64 {
        let next = sentence.iter().map(|&tag| self.tag(tag)).chain([None]);
        let mut previous = None;
        next.filter(|&next| !scheme.allows(std::mem::replace(&mut previous, next), next)).count() as u64
    }

    /// The scheme with the fewest [`invalid_transitions`](Self::invalid_transitions) in these sentences, the first of
    /// equally good ones in the order of [`TagScheme::ALL`].
    ///
    /// # Panics
    /// If a tag is not below the number of tags.
    pub fn scheme<'a>(&self, sentences: impl IntoIterator<Item = &'a [u32]>) -> TagScheme {
        let mut invalid = TagScheme::ALL.map(|scheme| (0, scheme));
        for sentence in sentences {
            invalid.iter_mut().for_each(|(count, scheme)| *count += self.invalid_transitions(*scheme, sentence));
        }
        invalid.into_iter().min_by_key(|&(count, _)| count).expect("there are schemes").1
    }

    fn tag(&self, tag: u32) -> Option<Tag> {
        let count = self.tags.len();
        *self.tags.get(tag as usize).unwrap_or_else(|| panic!("tag {tag} of {count}"))
    }
}

/// Position and type of a tag; nothing inside is `O`, nothing at all is no tag of an entity.
fn parts(name: &str) -> Option<Option<(Position, &str)>> {
    let (letter, kind) = name.split_once('-').unwrap_or((name, ""));
    let position = match letter {
        "O" if letter == name => return Some(None),
        "B" => Position::Begin,
        "I" => Position::Inside,
        "E" => Position::End,
        "S" => Position::Single,
        _ => return None,
    };
    Some(Some((position, kind)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Tags of two types, and one without.
    const NAMES: [&str; 13] = ["O", "B-X", "I-X", "E-X", "S-X", "B-Y", "I-Y", "E-Y", "S-Y", "B", "I", "E", "S"];

    fn tags() -> EntityTags {
        EntityTags::new(&NAMES.map(String::from)).unwrap()
    }

    fn indices(sentence: &str) -> Vec<u32> {
        let index = |tag| NAMES.iter().position(|&name| name == tag).unwrap() as u32;
        sentence.split_whitespace().map(index).collect()
    }

    /// Entities as `type:first-last`.
    fn entities(sentence: &str) -> String {
        let tags = tags();
        let shown =
            |&Entity { start, end, kind }: &Entity| format!("{}:{start}-{}", tags.types()[kind as usize], end - 1);
        tags.entities(&indices(sentence)).iter().map(shown).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn entities_of_well_formed_tags() {
        let cases = [
            ("", ""),
            ("O O", ""),
            ("B-X I-X O B-Y", "X:0-1 Y:3-3"),
            ("B-X B-X I-X", "X:0-0 X:1-2"),
            ("B-X B-Y", "X:0-0 Y:1-1"),
            // IOB1
            ("I-X I-X B-X I-X I-Y", "X:0-1 X:2-3 Y:4-4"),
            // IOBES
            ("S-X S-X B-X E-X O B-Y I-Y E-Y", "X:0-0 X:1-1 X:2-3 Y:5-7"),
            ("B-X E-X B-X E-X S-Y", "X:0-1 X:2-3 Y:4-4"),
            // No types.
            ("B I O I", ":0-1 :3-3"),
        ];
        for (sentence, expected) in cases {
            assert_eq!(entities(sentence), expected, "{sentence}");
        }
    }

    #[test]
    fn entities_of_malformed_tags() {
        let cases = [
            ("O I-X I-X O", "X:1-2"),
            ("B-Y I-X I-X", "Y:0-0 X:1-2"),
            ("B-X I-Y I-X", "X:0-0 Y:1-1 X:2-2"),
            ("I-X B-X", "X:0-0 X:1-1"),
            ("E-X E-X", "X:0-0 X:1-1"),
            ("O E-X I-X", "X:1-1 X:2-2"),
            ("B-X S-X I-X", "X:0-0 X:1-1 X:2-2"),
            ("S-X E-X", "X:0-0 X:1-1"),
            ("B-X O E-X", "X:0-0 X:2-2"),
            ("B-X E-Y", "X:0-0 Y:1-1"),
            ("B-X I I-X", "X:0-0 :1-1 X:2-2"),
            ("B-X I-X", "X:0-1"),
        ];
        for (sentence, expected) in cases {
            assert_eq!(entities(sentence), expected, "{sentence}");
        }
    }

    #[test]
    fn invalid_transitions_by_hand() {
        // The numbers of transitions that BIO, IOB1 and IOBES do not allow.
        let cases = [
            ("", [0, 0, 0]),
            ("O O", [0, 0, 0]),
            // IOB1: no B after O. IOBES: an entity that is open at the end.
            ("B-X I-X", [0, 1, 1]),
            ("O I-X I-X O", [1, 0, 2]),
            ("I-X B-X O", [1, 0, 3]),
            ("B-X I-Y", [1, 1, 2]),
            ("B-X B-Y O", [0, 2, 2]),
            ("S-X B-X I-X E-X S-Y O", [3, 3, 0]),
            ("B-X O", [0, 1, 1]),
            ("E-X", [1, 1, 1]),
            ("B-X E-X I-X", [1, 2, 2]),
            ("B I", [0, 1, 1]),
        ];
        for (sentence, expected) in cases {
            let found = TagScheme::ALL.map(|scheme| tags().invalid_transitions(scheme, &indices(sentence)));
            assert_eq!(found, expected, "{sentence}");
        }
    }

    #[test]
    fn the_scheme_of_a_corpus() {
        let scheme = |sentences: &[&str]| {
            let sentences: Vec<_> = sentences.iter().map(|sentence| indices(sentence)).collect();
            tags().scheme(sentences.iter().map(Vec::as_slice))
        };
        assert_eq!(scheme(&["B-X I-X O", "B-Y B-Y"]), TagScheme::Bio);
        assert_eq!(scheme(&["I-X I-X O", "I-Y B-Y"]), TagScheme::Iob1);
        assert_eq!(scheme(&["S-X O", "B-Y E-Y"]), TagScheme::Iobes);
        assert_eq!(scheme(&["O"]), TagScheme::Bio);
        assert!(tags().allows(TagScheme::Bio, None, Some(1)) && !tags().allows(TagScheme::Bio, None, Some(2)));
    }

    #[test]
    fn tags_of_other_kinds_know_no_entities() {
        let new = |names: &[&str]| EntityTags::new(&names.iter().copied().map(String::from).collect::<Vec<_>>());
        for names in
            [&["NOUN", "VERB"][..], &["O"], &[], &["B-X", "O-X"], &["B-X", "X"], &["B-X", "U-X"], &["BX"], &["B-X", ""]]
        {
            assert_eq!(new(names), None, "{names:?}");
        }
        let tags = new(&["B-creative-work", "B-PER", "I-PER", "O"]).unwrap();
        assert_eq!(tags.types(), ["PER", "creative-work"]);
    }

    #[test]
    #[should_panic(expected = "tag 13 of 13")]
    fn a_tag_out_of_range_panics() {
        tags().entities(&[13]);
    }

    /// Whether `conlleval.py` ends, and whether it begins, a chunk between two tags. A chunk is a letter and a type.
    fn boundary((last, last_type): (char, &str), (letter, kind): (char, &str)) -> (bool, bool) {
        let other_type = last_type != kind;
        let ends = matches!((last, letter), ('E' | 'S', _) | ('B' | 'I', 'B' | 'S' | 'O')) || last != 'O' && other_type;
        let begins =
            matches!((last, letter), (_, 'B' | 'S') | ('E' | 'S' | 'O', 'E' | 'I')) || letter != 'O' && other_type;
        (ends, begins)
    }

    proptest! {
        #[test]
        fn entities_are_the_chunks_between_boundaries(sentence in prop::collection::vec(0..NAMES.len() as u32, 0..12)) {
            let part = |tag: u32| {
                let name = NAMES[tag as usize];
                (name.chars().next().unwrap(), name.split_once('-').map_or("", |(_, kind)| kind))
            };
            let (mut chunks, mut start, mut last) = (Vec::new(), 0, ('O', ""));
            for (place, tag) in sentence.iter().map(|&tag| part(tag)).chain([('O', "")]).enumerate() {
                let (ends, begins) = boundary(last, tag);
                if ends {
                    let kind = tags().types().iter().position(|kind| kind == last.1).unwrap() as u32;
                    chunks.push(Entity { start, end: place, kind });
                }
                if begins {
                    start = place;
                }
                last = tag;
            }
            prop_assert_eq!(tags().entities(&sentence), chunks);
        }

        #[test]
        fn entities_written_in_a_scheme_come_back(
            parts in prop::collection::vec((0usize..3, 1usize..4), 0..8),
            scheme in prop::sample::select(TagScheme::ALL.to_vec()),
        ) {
            // Stretches of O (0), X (1) and Y (2), each with a length.
            let (mut written, mut expected, mut place, mut last) = (Vec::new(), Vec::new(), 0, 0);
            for (kind, length) in parts {
                let kind_name = ["", "X", "Y"][kind];
                for word in 0..length {
                    let letter = match scheme {
                        _ if kind == 0 => "O".to_owned(),
                        TagScheme::Bio => format!("{}-{kind_name}", if word == 0 { "B" } else { "I" }),
                        TagScheme::Iob1 => format!("{}-{kind_name}", if word == 0 && last == kind { "B" } else { "I" }),
                        TagScheme::Iobes => {
                            let letter = match (word == 0, word + 1 == length) {
                                (true, true) => "S",
                                (true, false) => "B",
                                (false, true) => "E",
                                (false, false) => "I",
                            };
                            format!("{letter}-{kind_name}")
                        }
                    };
                    written.push(letter);
                }
                if kind > 0 {
                    // The type without a name is the first.
                    expected.push(Entity { start: place, end: place + length, kind: kind as u32 });
                }
                place += length;
                last = kind;
            }
            let sentence = indices(&written.join(" "));
            prop_assert_eq!(tags().entities(&sentence), expected);
            prop_assert_eq!(tags().invalid_transitions(scheme, &sentence), 0);
        }
    }
}
