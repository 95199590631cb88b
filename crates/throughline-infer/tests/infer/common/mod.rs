//! Models of random weights, whose files are made without any training code.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use throughline_data::{EntityTags, TagScheme, TextRules, Unit, Vocabulary, VocabularyOptions};
use throughline_infer::tasks::{Classify, LanguageModel, Roll, Tag, classify, lm, roll, tag};
use throughline_infer::{Files, RecurrentSettings, Regularisation, Serve, Served, TextEncoder, config_json, kind_json};
use throughline_kernels::buffer::Buffer;
use throughline_kernels::cells::CellKind;
use throughline_kernels::random::{Philox, Purpose, Stream};
use throughline_nn::layers::Pooling;
use throughline_nn::layers::recurrent::InitialState;
use throughline_nn::network::Network;
use throughline_nn::weights;

pub type NetworkOf<T> = Network<<T as Serve>::Body, <T as Serve>::Head>;
pub type FilesOf = BTreeMap<String, Vec<u8>>;

pub fn random(seed: u64) -> Stream {
    Philox::new(seed, Purpose::Benchmark, 0).stream()
}

/// `length` characters out of those of the vocabulary, and of some others.
pub fn text(random: &mut Stream, length: usize) -> String {
    (0..length).map(|_| char::from(b"abcdefgh?!"[random.below(10)])).collect()
}

/// Texts of every length from 0 to `longest`, shuffled.
pub fn texts_of_every_length(seed: u64, longest: usize) -> Vec<String> {
    let mut random = random(seed);
    let mut lengths: Vec<usize> = (0..=longest).collect();
    random.shuffle(&mut lengths);
    lengths.into_iter().map(|length| text(&mut random, length)).collect()
}

pub fn strs(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

pub fn vocabulary(unit: Unit, text: &str) -> Vocabulary {
    Vocabulary::build(unit, [text], VocabularyOptions::default()).expect("a vocabulary")
}

pub fn settings(cell: CellKind) -> RecurrentSettings {
    let initial_state = InitialState::Learned;
    RecurrentSettings {
        cell,
        input: 5,
        hidden: 7,
        layers: 2,
        bidirectional: false,
        bias: true,
        initial_state,
        layer_norm: false,
        zoneout_hidden: 0.0,
        zoneout_cell: 0.0,
    }
}

/// A model with random weights, and what it is made from.
pub struct TestModel<T: Serve> {
    pub config: T::Config,
    pub encoder: T::Encoder,
    pub network: NetworkOf<T>,
    /// In the layout of the network.
    pub parameters: Buffer<f32>,
}

impl<T: Serve> TestModel<T> {
    pub fn new(config: T::Config, encoder: T::Encoder) -> Self {
        let network = T::network(&config, Regularisation::default());
        let (mut parameters, mut random) = (network.layout().zeros::<f32>(), random(3));
        for tensor in network.layout().tensors() {
            parameters[tensor.range()].iter_mut().for_each(|x| *x = random.uniform() as f32 - 0.5);
        }
        Self { config, encoder, network, parameters }
    }

    /// The files of the model by name.
    pub fn files(&self) -> FilesOf {
        let model = weights::save(&kind_json::<T>(&self.network), self.network.layout(), &self.parameters);
        let own = [("config.json", config_json::<T>(&self.config).into_bytes()), ("model.safetensors", model)];
        let all = own.into_iter().chain(T::encoder_files(&self.encoder));
        all.map(|(name, bytes)| (name.to_owned(), bytes)).collect()
    }

    /// The model opened from these files.
    pub fn served(&self, threads: usize) -> Served<T> {
        Served::open(&Files::Memory(self.files()), Some(threads)).unwrap_or_else(|error| panic!("{error}"))
    }
}

pub fn language_model(cell: CellKind) -> TestModel<LanguageModel> {
    language_model_of(cell, vocabulary(Unit::Char, "abcdefgh\n"))
}

pub fn language_model_of(cell: CellKind, vocabulary: Vocabulary) -> TestModel<LanguageModel> {
    let text = TextRules::default();
    let config = lm::Config { recurrent: settings(cell), vocabulary: vocabulary.len(), tied: false, text };
    TestModel::new(config, TextEncoder { rules: text, vocabulary })
}

pub fn classify_config(cell: CellKind, pooling: Pooling) -> classify::Config {
    let recurrent = RecurrentSettings { bidirectional: true, ..settings(cell) };
    classify::Config { recurrent, vocabulary: 9, classes: 3, pooling, max_length: 0, text: TextRules::default() }
}

pub fn classifier(config: classify::Config) -> TestModel<Classify> {
    let text = TextEncoder { rules: config.text, vocabulary: vocabulary(Unit::Char, "abcdefgh") };
    let labels = ["first", "second", "third"].map(str::to_owned).into();
    TestModel::new(config, classify::Encoder { text, labels })
}

pub const TAGS: [&str; 5] = ["B-LOC", "B-PER", "I-LOC", "I-PER", "O"];

/// A tagger of entities in BIO; with a conditional random field it keeps to that.
pub fn tag_config(cell: CellKind, crf: bool) -> tag::Config {
    let characters = tag::Characters { vocabulary: 9, embedding: 3, hidden: 4 };
    let recurrent = RecurrentSettings { input: 5 + 2 * 4, bidirectional: true, ..settings(cell) };
    tag::Config {
        recurrent,
        vocabulary: 4,
        embedding: 5,
        characters: Some(characters),
        tags: TAGS.len(),
        crf,
        scheme: crf.then_some(TagScheme::Bio),
        lowercase: true,
        text: TextRules::default(),
    }
}

pub fn tagger(config: tag::Config) -> TestModel<Tag> {
    let tags = TAGS.map(str::to_owned).to_vec();
    let encoder = tag::Encoder {
        rules: config.text,
        lowercase: config.lowercase,
        words: vocabulary(Unit::Word, "ab cd efgh"),
        characters: config.characters.map(|_| vocabulary(Unit::Char, "abcdefgh")),
        entities: EntityTags::new(&tags),
        tags,
    };
    TestModel::new(config, encoder)
}

/// A model of eight keys.
pub fn roll_config(cell: CellKind) -> roll::Config {
    let keys = roll::Keys { lowest: 60, highest: 67 };
    roll::Config { recurrent: settings(cell), keys, steps_per_beat: 2, threshold: 0.5 }
}

pub fn roll_model(config: roll::Config) -> TestModel<Roll> {
    TestModel::new(config, config.keys)
}

/// A folder with these files in it, removed when dropped.
pub struct ModelFolder(PathBuf);

impl ModelFolder {
    pub fn new(files: &FilesOf) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("throughline-infer-tests-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).expect("a fresh folder for the test");
        for (name, bytes) in files {
            std::fs::write(path.join(name), bytes).expect("a file of the test");
        }
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ModelFolder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}
