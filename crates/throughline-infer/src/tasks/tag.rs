//! Tagging: a tag for each word of a sentence, such as its part of speech or the entity it belongs to. Words with their
//! characters, a recurrent stack, and a softmax or a conditional random field over the tags.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use throughline_data::{Entity, EntityScores, EntityTags, TagScheme, TextRules, UNKNOWN, Unit, Vocabulary};
use throughline_kernels::sequence::Ragged;
use throughline_nn::chain::Chain;
use throughline_nn::heads::crf::Constraints;
use throughline_nn::heads::{Head, Loss, Tagger};
use throughline_nn::layers::recurrent::InitialState;
use throughline_nn::layers::{Embedding, Pool, Pooling, Recurrent, RecurrentConfig, WordRows, Words};
use throughline_nn::module::Layer;
use throughline_nn::network::{Input, Network};
use throughline_nn::parameters::Builder;

use crate::batches::like_length;
use crate::classes::confusion;
use crate::config::{ConfigError, RecurrentSettings, Regularisation};
use crate::encoder::{names_json, read_names};
use crate::error::{Error, Result};
use crate::files::Files;
use crate::model::Served;
use crate::serve::{Evaluation, Examples, Info, Pieces, Runner, Sample, Serve};

/// The task `tag`.
#[derive(Clone, Copy, Debug)]
pub enum Tag {}

/// A tagger without its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The stack; its input is a word's vector and what is read from its characters.
    pub recurrent: RecurrentSettings,
    /// Rows of the words' embedding.
    pub vocabulary: usize,
    /// Columns of the words' embedding.
    pub embedding: usize,
    /// How the characters of a word are read, if they are.
    pub characters: Option<Characters>,
    /// How many tags.
    pub tags: usize,
    /// Whether whole sequences are tagged, by a conditional random field, and not each word on its own.
    pub crf: bool,
    /// The scheme of entities that the tags chosen must follow.
    pub scheme: Option<TagScheme>,
    /// Whether words are looked up in lower case. Their characters are read as they are.
    pub lowercase: bool,
    /// How texts are cleaned.
    pub text: TextRules,
}

/// An embedding of characters and one bidirectional layer of the stack's cell, whose last states are read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Characters {
    /// Rows of the embedding.
    pub vocabulary: usize,
    /// Columns of the embedding.
    pub embedding: usize,
    /// H of each direction.
    pub hidden: usize,
}

/// From words to what the network reads, and from a tag to its name.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// How texts are cleaned.
    pub rules: TextRules,
    /// Whether words are looked up in lower case.
    pub lowercase: bool,
    /// The words.
    pub words: Vocabulary,
    /// The characters, where they are read.
    pub characters: Option<Vocabulary>,
    /// The names of the tags.
    pub tags: Vec<String>,
    /// What the tags say of entities, if they do.
    pub entities: Option<EntityTags>,
}

/// A word as it is written: its token, and the tokens of its characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Form {
    /// The word's token.
    pub token: u32,
    /// The tokens of its characters; none where the model does not read them.
    pub characters: Vec<u32>,
}

/// Sentences as forms, with the tags of their words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sentences {
    /// The different forms.
    pub forms: Vec<Form>,
    /// The forms of each sentence's words, as indices.
    pub words: Vec<Vec<u32>>,
    /// The tag of each of its words.
    pub tags: Vec<Vec<u32>>,
}

/// Encodes words, each form once.
#[derive(Debug)]
pub struct FormEncoder<'a> {
    encoder: &'a Encoder,
    index_of: HashMap<String, u32>,
    forms: Vec<Form>,
}

/// What a tagger says of a sentence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tagging {
    /// The sentence.
    pub text: String,
    /// Its words with their tags.
    pub words: Vec<TaggedWord>,
    /// The entities that the tags tell of; none where tags tell of no entities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entities: Option<Vec<TaggedEntity>>,
    /// The share of the words that the model has never seen, from 0 to 1.
    pub unknown_share: f64,
}

/// A word and its tag.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaggedWord {
    /// The word.
    pub word: String,
    /// The name of its tag.
    pub tag: String,
    /// The probability of this tag here, from 0 to 1.
    pub probability: f64,
}

/// An entity in a sentence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaggedEntity {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its words, with a space between.
    pub text: String,
    /// Its first word, from 0.
    pub start: usize,
    /// The word after its last one.
    pub end: usize,
}

const WORDS: &str = "vocabulary.json";
const CHARACTERS: &str = "characters.json";
const TAGS: &str = "tags.json";
/// Numbers that reading a sentence may hold at most: 256 MiB of f32.
const MOST_NUMBERS: usize = 1 << 26;
/// Characters of a word that are read; what a longer one has beyond them is not.
const MOST_CHARACTERS: usize = 64;

impl Config {
    /// The longest sentence, in words, that the memory for one sentence has room for.
    pub fn longest(&self) -> usize {
        let of_characters = |of: Characters| MOST_CHARACTERS * (of.embedding + 2 * of.hidden);
        let of_characters = self.characters.map_or(0, of_characters);
        MOST_NUMBERS / (self.recurrent.numbers_per_row() + 2 * self.tags + of_characters)
    }
}

impl Characters {
    /// The shape of the layer that reads them.
    fn recurrent(&self, stack: &RecurrentSettings) -> RecurrentConfig {
        let settings = RecurrentSettings {
            input: self.embedding,
            hidden: self.hidden,
            layers: 1,
            bidirectional: true,
            initial_state: InitialState::Zero,
            layer_norm: false,
            zoneout_hidden: 0.0,
            zoneout_cell: 0.0,
            ..*stack
        };
        settings.config(Regularisation::default())
    }
}

/// A word as the vocabulary of words has it: in lower case if so wanted, and with white space inside, which a corpus may
/// have, made visible.
pub fn key(word: &str, lowercase: bool) -> Cow<'_, str> {
    let word = if lowercase { Cow::Owned(word.to_lowercase()) } else { Cow::Borrowed(word) };
    if word.contains(char::is_whitespace) { Cow::Owned(word.replace(char::is_whitespace, "▁")) } else { word }
}

impl Encoder {
    fn form(&self, word: &str) -> Form {
        let token = self.words.encode(&key(word, self.lowercase)).first().copied().unwrap_or(UNKNOWN);
        let characters = self.characters.as_ref().map_or_else(Vec::new, |characters| {
            let end = word.char_indices().nth(MOST_CHARACTERS).map_or(word.len(), |(end, _)| end);
            characters.encode(&word[..end])
        });
        Form { token, characters }
    }

    /// The word of a form, as far as the model reads it.
    fn spelling(&self, form: &Form) -> String {
        match &self.characters {
            Some(characters) if !form.characters.is_empty() => characters.decode(&form.characters),
            _ => self.words.tokens()[form.token as usize].clone(),
        }
    }
}

impl<'a> FormEncoder<'a> {
    /// Nothing encoded yet.
    pub fn new(encoder: &'a Encoder) -> Self {
        Self { encoder, index_of: HashMap::new(), forms: Vec::new() }
    }

    /// The index of the form of a cleaned word.
    pub fn index(&mut self, word: &str) -> u32 {
        if let Some(&index) = self.index_of.get(word) {
            return index;
        }
        let index = self.forms.len() as u32;
        self.forms.push(self.encoder.form(word));
        self.index_of.insert(word.to_owned(), index);
        index
    }

    /// The forms, in the order of their indices.
    pub fn finish(self) -> Vec<Form> {
        self.forms
    }
}

/// Some sentences as a ragged batch, with the memory to hold them.
#[derive(Debug, Default)]
pub struct Batch {
    lengths: Vec<usize>,
    rows: Ragged,
    words: WordRows,
    /// For each form its spelling in this batch, and `u32::MAX` for those that are not in it.
    spelling_of_form: Vec<u32>,
    /// The forms in this batch, in the order of their spellings.
    forms: Vec<u32>,
}

impl Batch {
    /// Takes sentences of `forms`. `token` and `character` say what is read in place of the token of word `position` of a
    /// sentence of this batch, and of the character at a position of a form.
    pub fn set(
        &mut self,
        forms: &[Form],
        sentences: &[&[u32]],
        token: impl Fn(usize, usize, u32) -> u32,
        character: impl Fn(u32, usize, u32) -> u32,
    ) {
        let Self { lengths, rows, words, spelling_of_form, forms: present } = self;
        lengths.clear();
        lengths.extend(sentences.iter().map(|sentence| sentence.len()));
        rows.set(lengths);
        spelling_of_form.clear();
        spelling_of_form.resize(forms.len(), u32::MAX);
        present.clear();
        let (mut tokens, mut spelling_of) = (Vec::new(), Vec::new());
        rows.for_each_row(|_, sentence, position| {
            let form = sentences[sentence][position];
            let spelling = &mut spelling_of_form[form as usize];
            if *spelling == u32::MAX {
                *spelling = present.len() as u32;
                present.push(form);
            }
            tokens.push(token(sentence, position, forms[form as usize].token));
            spelling_of.push(*spelling);
        });
        let spell = |&form: &u32| -> Vec<u32> {
            let characters = forms[form as usize].characters.iter().enumerate();
            characters.map(|(position, &token)| character(form, position, token)).collect()
        };
        let spellings: Vec<Vec<u32>> = present.iter().map(spell).collect();
        words.set(&tokens, &spelling_of, &spellings.iter().map(Vec::as_slice).collect::<Vec<_>>());
    }

    /// The same with every token and character as it is.
    pub fn set_as_is(&mut self, forms: &[Form], sentences: &[&[u32]]) {
        self.set(forms, sentences, |_, _, token| token, |_, _, token| token);
    }

    /// What a network reads.
    pub fn input(&self) -> Input<'_, f32, WordRows> {
        Input::new(&self.rows, &self.words)
    }

    /// The tags of these sentences in the order of the rows.
    pub fn targets(&self, tags: &[&[u32]]) -> Vec<u32> {
        let mut targets = Vec::with_capacity(self.rows());
        self.rows.for_each_row(|_, sentence, position| targets.push(tags[sentence][position]));
        targets
    }

    /// How many words.
    pub fn rows(&self) -> usize {
        self.words.rows()
    }
}

/// Tags chosen for sentences.
struct Tagged {
    /// The tags of each sentence's words.
    tags: Vec<Vec<u32>>,
    /// Their probabilities.
    probabilities: Vec<Vec<f64>>,
    /// The loss, where the sentences have tags.
    loss: Loss,
}

/// Tags sentences in batches of like length; with their own tags where `truth` has them.
fn tag(
    runner: &mut Runner<'_, Tag>,
    constraints: Option<&Constraints>,
    forms: &[Form],
    sentences: &[&[u32]],
    truth: Option<&[Vec<u32>]>,
) -> Tagged {
    let lengths: Vec<usize> = sentences.iter().map(|sentence| sentence.len()).collect();
    let empty = |length: &usize| Vec::with_capacity(*length);
    let mut tagged = Tagged {
        tags: lengths.iter().map(empty).collect(),
        probabilities: lengths.iter().map(|&length| Vec::with_capacity(length)).collect(),
        loss: Loss::default(),
    };
    let mut batch = Batch::default();
    for indices in like_length(&lengths) {
        let of_batch: Vec<&[u32]> = indices.iter().map(|&index| sentences[index]).collect();
        batch.set_as_is(forms, &of_batch);
        let targets =
            truth.map(|truth| batch.targets(&indices.iter().map(|&index| &truth[index][..]).collect::<Vec<_>>()));
        let Runner { network, weights, workspace } = runner;
        network.read(*weights, batch.input(), workspace);
        let (head, classes) = (network.head(), network.head().width());
        if let Some(targets) = &targets {
            let call = network.head_call(*weights, &batch.rows, &workspace.body);
            tagged.loss += head.evaluate(call, targets, &mut workspace.head);
        }
        let call = network.head_call(*weights, &batch.rows, &workspace.body);
        let chosen = head.decode(call, constraints, &mut workspace.head);
        // The rows of a sentence come in the order of its words.
        batch.rows.for_each_row(|row, sentence, _| {
            let tag = chosen.tags[row];
            tagged.tags[indices[sentence]].push(tag);
            let probability = chosen.probabilities[row * classes + tag as usize];
            tagged.probabilities[indices[sentence]].push(f64::from(probability));
        });
    }
    tagged
}

/// The constraints of a configuration over these tags.
fn constraints(config: &Config, encoder: &Encoder) -> Option<Constraints> {
    let (scheme, entities) = (config.scheme?, encoder.entities.as_ref()?);
    let tag = |tag: usize| tag as u32;
    Constraints::new(config.tags, |from, to| entities.allows(scheme, from.map(tag), to.map(tag)))
}

/// Accuracy by words, and where tags tell of entities the F1 of `conlleval` with its precision and recall.
pub fn metrics<'a>(
    entities: Option<&EntityTags>,
    pairs: impl Iterator<Item = (&'a [u32], &'a [u32])>,
) -> BTreeMap<String, f64> {
    let (mut words, mut correct) = (0_u64, 0_u64);
    let mut scores = entities.cloned().map(EntityScores::new);
    for (truth, chosen) in pairs {
        words += truth.len() as u64;
        correct += truth.iter().zip(chosen).filter(|(truth, chosen)| truth == chosen).count() as u64;
        if let Some(scores) = &mut scores {
            scores.add(truth, chosen);
        }
    }
    let mut metrics = BTreeMap::from([("accuracy".to_owned(), correct as f64 / words as f64)]);
    // Of no entities at all there is no F1.
    if let Some(all) = scores.and_then(|scores| scores.overall()) {
        for (name, value) in [("entity_f1", all.f1), ("entity_precision", all.precision), ("entity_recall", all.recall)]
        {
            metrics.insert(name.to_owned(), value);
        }
    }
    metrics
}

impl Serve for Tag {
    const INFO: Info = Info {
        name: "tag",
        title: "tagger",
        about: "a tag for each word",
        best: "the highest entity F1 (accuracy, where tags mark no entities), and among those the lowest loss,",
        metrics: &["entity_f1", "accuracy"],
        counted: "words",
        usage: &["throughline predict {run} < lines.txt", "throughline eval {run}"],
    };

    type Config = Config;
    type Encoder = Encoder;
    type Body = Chain<Words, Recurrent>;
    type Head = Tagger;
    type Data = Sentences;
    type Prediction = Tagging;

    fn check(config: &Config) -> std::result::Result<(), ConfigError> {
        let Config { recurrent, vocabulary, embedding, characters, tags, crf, scheme, .. } = config;
        recurrent.check(*vocabulary, *tags)?;
        // The characters' embedding and layer obey the same bounds; so do the words' vectors.
        RecurrentSettings { input: *embedding, ..*recurrent }.check(*vocabulary, *tags)?;
        let mut input = *embedding;
        if let Some(Characters { vocabulary, embedding, hidden }) = *characters {
            let of_characters =
                RecurrentSettings { input: embedding, hidden, layers: 1, bidirectional: true, ..*recurrent };
            of_characters.check(vocabulary, 1).map_err(|wrong| ConfigError { key: "characters", ..wrong })?;
            input += of_characters.output();
        }
        if recurrent.input != input {
            let expected = format_args!("{input}, the columns of a word and its characters");
            return Err(ConfigError::new("recurrent.input", expected, recurrent.input));
        }
        if scheme.is_some() && !crf {
            return Err(ConfigError::new("scheme", "null without a conditional random field", "a scheme"));
        }
        Ok(())
    }

    fn network(config: &Config, regularisation: Regularisation) -> Network<Self::Body, Tagger> {
        let builder = &mut Builder::new().with_dropout_mask(regularisation.dropout_mask);
        let embedding = Embedding::new(builder, "embedding", config.vocabulary, config.embedding);
        let encoder = config.characters.map(|characters| {
            let embedding = Embedding::new(builder, "characters", characters.vocabulary, characters.embedding);
            let recurrent = Recurrent::new(builder, "character_rnn", characters.recurrent(&config.recurrent));
            embedding.then(Pool::of(builder, "character_pool", recurrent, Pooling::LastStates))
        });
        let words = Words::new(embedding, encoder).with_dropout(builder, regularisation.embedding_dropout);
        let recurrent = Recurrent::new(builder, "rnn", config.recurrent.config(regularisation))
            .with_dropout(builder, regularisation.output_dropout)
            .with_penalty(regularisation.penalty);
        let head = Tagger::new(builder, "head", recurrent.width(), config.tags, config.crf);
        let words = words.with_token_dropout(builder, regularisation.token_dropout);
        words.then(recurrent).ending_in(head, std::mem::take(builder))
    }

    fn open_encoder(config: &Config, files: &Files) -> Result<Encoder> {
        let vocabulary = |name: &str, unit: Unit, size: usize| -> Result<Vocabulary> {
            let (json, place) = (files.read_text(name, Vocabulary::MAX_JSON_BYTES)?, files.place(name));
            let vocabulary = Vocabulary::from_json(&json, place.as_ref())?;
            if vocabulary.len() != size || vocabulary.unit() != unit {
                let expected = format_args!("{size} {}, as config.json says", unit.plural());
                let found = format_args!("{} {}", vocabulary.len(), vocabulary.unit().plural());
                return Err(Error::model(&place, "vocabulary", expected, found));
            }
            Ok(vocabulary)
        };
        let words = vocabulary(WORDS, Unit::Word, config.vocabulary)?;
        let characters = config.characters.map(|of| vocabulary(CHARACTERS, Unit::Char, of.vocabulary)).transpose()?;
        let tags = read_names(files, TAGS, "tags", ["tag", "tags"], config.tags)?;
        let entities = EntityTags::new(&tags);
        let encoder = Encoder { rules: config.text, lowercase: config.lowercase, words, characters, tags, entities };
        if let Some(scheme) = config.scheme
            && constraints(config, &encoder).is_none()
        {
            let expected = format_args!(
                "tags of the scheme {scheme}, as config.json says, with one for an entity of one word or O"
            );
            return Err(Error::model(&files.place(TAGS), "tags", expected, "others"));
        }
        Ok(encoder)
    }

    fn encoder_files(encoder: &Encoder) -> Vec<(&'static str, Vec<u8>)> {
        let mut files = vec![(WORDS, encoder.words.to_json().into_bytes()), (TAGS, names_json(&encoder.tags))];
        files.extend(encoder.characters.as_ref().map(|characters| (CHARACTERS, characters.to_json().into_bytes())));
        files
    }

    fn evaluate(
        runner: &mut Runner<'_, Self>,
        config: &Config,
        encoder: &Encoder,
        data: &Sentences,
    ) -> Option<Evaluation> {
        if data.words.is_empty() {
            return None;
        }
        let sentences: Vec<&[u32]> = data.words.iter().map(Vec::as_slice).collect();
        let constraints = constraints(config, encoder);
        let tagged = tag(runner, constraints.as_ref(), &data.forms, &sentences, Some(&data.tags));
        let loss = tagged.loss.mean();
        let pairs = data.tags.iter().map(Vec::as_slice).zip(tagged.tags.iter().map(Vec::as_slice));
        let mut metrics = metrics(encoder.entities.as_ref(), pairs);
        // A loss that is not a number must not look like a good score.
        if !loss.is_finite() {
            metrics.values_mut().for_each(|value| *value = f64::NAN);
        }
        let tokens: Vec<u32> = data.words.iter().flatten().map(|&form| data.forms[form as usize].token).collect();
        let unknown_share = Vocabulary::unknown_share(&tokens);
        let confusion = Some(confusion(&encoder.tags, &data.tags.concat(), &tagged.tags.concat()));
        Some(Evaluation { count: tokens.len(), loss, metrics, unknown_share, confusion })
    }

    fn sample(_: &Config, encoder: &Encoder, data: &Sentences, sample: Sample<'_>) -> Examples<WordRows, [u32]> {
        let sentences: Vec<usize> = (0..data.words.len()).filter(|&index| !data.words[index].is_empty()).collect();
        let indices = sample.of(sentences.len());
        let chosen: Vec<usize> = indices.iter().map(|&place| sentences[place]).collect();
        let [words, tags] = [&data.words, &data.tags]
            .map(|all| chosen.iter().map(|&index| &all[index][..sample.cut(all[index].len())]).collect::<Vec<_>>());
        let mut batch = Batch::default();
        batch.set_as_is(&data.forms, &words);
        let targets = batch.targets(&tags);
        let mut pieces = Vec::with_capacity(batch.rows());
        batch.rows.for_each_row(|_, sentence, position| {
            pieces.push(encoder.spelling(&data.forms[words[sentence][position] as usize]));
        });
        Examples {
            indices,
            rows: batch.rows,
            x: batch.words,
            targets,
            pieces: Some(Pieces::of(pieces)),
            columns: Vec::new(),
        }
    }

    fn predict(
        runner: &mut Runner<'_, Self>,
        config: &Config,
        encoder: &Encoder,
        inputs: &[&str],
    ) -> Vec<Result<Tagging>> {
        let cleaned: Vec<Cow<'_, str>> = inputs.iter().map(|text| encoder.rules.clean_example(text)).collect();
        let words: Vec<Vec<&str>> = cleaned.iter().map(|text| text.split_whitespace().collect()).collect();
        let answers = tag_words(runner, config, encoder, &words).into_iter();
        let with_text = |(answer, text): (Result<Tagging>, &&str)| Ok(Tagging { text: (*text).to_owned(), ..answer? });
        answers.zip(inputs).map(with_text).collect()
    }
}

impl Served<Tag> {
    /// Tags sentences whose words are given, cleaned by the encoder's rules; white space inside a word does not part it. The
    /// same bits as for a line of these words.
    pub fn tag(&self, sentences: &[Vec<&str>]) -> Vec<Result<Tagging>> {
        self.run(|runner| tag_words(runner, self.config(), self.encoder(), sentences))
    }
}

/// Tags sentences of cleaned words, in their order.
fn tag_words(
    runner: &mut Runner<'_, Tag>,
    config: &Config,
    encoder: &Encoder,
    words: &[Vec<&str>],
) -> Vec<Result<Tagging>> {
    let longest = config.longest();
    let mut forms = FormEncoder::new(encoder);
    let encode = |words: &Vec<&str>| -> Vec<u32> {
        // A sentence that is too long is refused, and its words are not read.
        if words.len() > longest { Vec::new() } else { words.iter().map(|word| forms.index(word)).collect() }
    };
    let sentences: Vec<Vec<u32>> = words.iter().map(encode).collect();
    let forms = forms.finish();
    let of_forms: Vec<&[u32]> = sentences.iter().map(Vec::as_slice).collect();
    let tagged = tag(runner, constraints(config, encoder).as_ref(), &forms, &of_forms, None);
    let answer = |index: usize| -> Result<Tagging> {
        let words = &words[index];
        if words.len() > longest {
            return Err(Error::Input {
                expected: format!("a sentence of at most {longest} words, which is what fits the memory for one"),
                found: words.len().to_string(),
            });
        }
        let (tags, probabilities) = (&tagged.tags[index], &tagged.probabilities[index]);
        let word = |((word, &tag), &probability): ((&&str, &u32), &f64)| TaggedWord {
            word: (*word).to_owned(),
            tag: encoder.tags[tag as usize].clone(),
            probability,
        };
        let entity = |kinds: &[String], entity: Entity| TaggedEntity {
            kind: kinds[entity.kind as usize].clone(),
            text: words[entity.start..entity.end].join(" "),
            start: entity.start,
            end: entity.end,
        };
        let entities = encoder
            .entities
            .as_ref()
            .map(|known| known.entities(tags).into_iter().map(|found| entity(known.types(), found)).collect());
        let tokens: Vec<u32> = sentences[index].iter().map(|&form| forms[form as usize].token).collect();
        Ok(Tagging {
            text: words.join(" "),
            words: words.iter().zip(tags).zip(probabilities).map(word).collect(),
            entities,
            unknown_share: Vocabulary::unknown_share(&tokens),
        })
    };
    (0..words.len()).map(answer).collect()
}
