//! What the fuzz targets do with an input. Whatever the bytes are, they are read or refused with an error that says
//! something; nothing panics. What was read keeps its invariants, and comes back the same after it has been written.
//!
//! Each function says whether it accepted the input. The test `hostile_input` of the crate `throughline` includes this
//! file and runs the same functions, briefly, on seeded mutations of the same seeds.

use std::convert::Infallible;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, fs, process};

use throughline_data::{
    Answers, EntityTags, Example, Format, LabelledReader, ParquetWriter, PieceReader, Pitches, SeriesReader, TagScheme,
    TaggedFormat, TaggedReader, TextReader, TextRules, Vocabulary, WantedAnswers, WordVectorReader,
    piano_roll_from_json, piano_roll_to_json, piano_roll_to_midi,
};
use throughline_infer::tasks::lm::Continuation;
use throughline_infer::tasks::{Classify, LanguageModel, classify, lm};
use throughline_infer::{Model, RecurrentSettings, Regularisation, Serve, Served, TextEncoder, config_json, kind_json};
use throughline_kernels::cells::CellKind;
use throughline_nn::decode::Sampling;
use throughline_nn::layers::Pooling;
use throughline_nn::layers::recurrent::InitialState;
use throughline_nn::weights;
use throughline_train::Recipe;

/// Reads an input; says whether it was accepted.
pub struct Target {
    /// The name of the function.
    pub name: &'static str,
    /// The function.
    pub run: fn(&[u8]) -> bool,
    /// Inputs that are accepted.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 9] = [
    Target { name: "tables", run: tables, seeds: table_seeds },
    Target { name: "parquet", run: parquet, seeds: parquet_seeds },
    Target { name: "tagged", run: tagged, seeds: tagged_seeds },
    Target { name: "music", run: music, seeds: music_seeds },
    Target { name: "series", run: series, seeds: series_seeds },
    Target { name: "word_vectors", run: word_vectors, seeds: word_vector_seeds },
    Target { name: "model_files", run: model_files, seeds: model_file_seeds },
    Target { name: "recipes", run: recipes, seeds: recipe_seeds },
    Target { name: "vocabulary", run: vocabulary, seeds: vocabulary_seeds },
];

/// Reads a CSV, TSV or label-first file. The first byte chooses the format, and of a table whether it has a header.
pub fn tables(input: &[u8]) -> bool {
    let Some((&choice, content)) = input.split_first() else { return false };
    let (format, header) = match choice % 5 {
        0 => (Format::Csv, true),
        1 => (Format::Csv, false),
        2 => (Format::Tsv, true),
        3 => (Format::Tsv, false),
        _ => (Format::LabelFirst, true),
    };
    let column = |number: &str| (!header).then(|| number.to_owned());
    let (text_column, label_column) = (column("1"), column("2"));
    let reader = LabelledReader { format: Some(format), text_column, label_column, ..LabelledReader::default() };
    with_file(content, |path| {
        let Some(set) = accepted(reader.read(&[path])) else { return false };
        assert!(set.labels.is_sorted() && set.labels.len() >= 2, "{:?}", set.labels);
        assert!(set.examples.is_sorted_by_key(|example| example.line));
        let lines = content.iter().filter(|&&byte| byte == b'\n' || byte == b'\r').count() + 1;
        for example in &set.examples {
            assert!((example.label as usize) < set.labels.len() && example.file == 0, "{example:?}");
            assert!((1..=lines).contains(&example.line), "{example:?} of {lines} lines");
            assert!(!example.text.is_empty() && example.text == example.text.trim(), "{example:?}");
        }
        assert_eq!(accepted(reader.read(&[path])), Some(set), "read a second time");
        true
    })
}

fn table_seeds() -> Vec<Vec<u8>> {
    let seeds: [&[u8]; 6] = [
        b"\0text,label\na fine film,good\n\"dull, and\nlong\",bad\n\"he said \"\"no\"\"\",bad\n",
        b"\0\xEF\xBB\xBFid;x,label,text\r\n1,good,ja\r\n2,bad,nein\r\n",
        b"\x01a fine film,good\ndull,bad\n",
        b"\x02label\ttext\ngood\ta \"fine\" film\nbad\tdull\n",
        b"\x03ein Film\t1\nnoch einer\t2\n",
        b"\x041 a fine film\n0 dull\n\n1 bright\n",
    ];
    seeds.map(<[u8]>::to_vec).to_vec()
}

/// Reads a Parquet file. The first byte chooses between labelled texts and series of numbers.
pub fn parquet(input: &[u8]) -> bool {
    let Some((&choice, content)) = input.split_first() else { return false };
    let text = TextReader::default().max_bytes(1 << 20);
    let numbers = |content: &[u8]| {
        let reader = SeriesReader { text, ..SeriesReader::default() };
        with_file_ending_in(".parquet", content, |path| {
            // Missing numbers are NaN, which equals nothing.
            let read = || accepted(reader.read(&[path])).map(|set| format!("{set:?}"));
            let set = read();
            assert_eq!(read(), set, "read a second time");
            set.is_some()
        })
    };
    let labelled = |content: &[u8]| {
        let reader = LabelledReader { text, label_column: Some("n".to_owned()), ..LabelledReader::default() };
        let set = with_file_ending_in(".parquet", content, |path| accepted(reader.read(&[path])))?;
        assert!(set.labels.is_sorted() && set.labels.len() >= 2, "{:?}", set.labels);
        assert!(set.examples.is_sorted_by_key(|example| example.line));
        let example = |example: &Example| (example.text.clone(), set.labels[example.label as usize].clone());
        Some(set.examples.iter().map(example).collect::<Vec<_>>())
    };
    if choice.is_multiple_of(2) {
        return numbers(content);
    }
    let Some(examples) = labelled(content) else { return false };
    let mut writer = ParquetWriter::new(vec!["text".to_owned(), "n".to_owned()]);
    let mut written = Vec::new();
    for (text, label) in &examples {
        written.extend(writer.push(vec![text.clone().into(), label.clone().into()]).expect("texts can be written"));
    }
    written.extend(writer.finish().expect("texts can be written"));
    assert_eq!(labelled(&written), Some(examples), "written and read again");
    true
}

fn parquet_seeds() -> Vec<Vec<u8>> {
    macro_rules! fixture {
        ($name:literal) => {
            include_bytes!(concat!("../../crates/throughline-data/src/table/parquet/fixtures/", $name, ".parquet"))
        };
    }
    let ours = |columns: [&str; 2], rows: [[Option<&str>; 2]; 3]| {
        let mut writer = ParquetWriter::new(columns.map(String::from).to_vec());
        for row in rows {
            writer.push(row.map(|cell| cell.map(str::to_owned).into()).to_vec()).expect("a seed is right");
        }
        writer.finish().expect("a seed is right")
    };
    let texts = ours(["text", "n"], [[Some("fine"), Some("a")], [Some("dull"), Some("b")], [None, Some("a")]]);
    let numbers = ours(["id", "x"], [[Some("a"), Some("2.5")], [Some("a"), None], [Some("b"), Some("-3")]]);
    let fixtures: [&[u8]; 5] =
        [fixture!("snappy"), fixture!("gzip"), fixture!("zstd"), fixture!("none"), fixture!("delta")];
    let mut seeds: Vec<_> = fixtures.into_iter().map(|bytes| [&[1][..], bytes].concat()).collect();
    seeds.extend([[&[1][..], &texts].concat(), [&[0][..], &numbers].concat()]);
    seeds
}

/// Reads tagged sentences. The first byte chooses the format, and of columns whether they have a header and comments.
pub fn tagged(input: &[u8]) -> bool {
    let Some((&choice, content)) = input.split_first() else { return false };
    let (format, header) = match choice % 4 {
        0 => (None, false),
        1 => (Some(TaggedFormat::Conllu), false),
        2 => (Some(TaggedFormat::Columns), false),
        _ => (Some(TaggedFormat::Columns), true),
    };
    let tag_column = header.then(|| "tag".to_owned());
    let reader = TaggedReader { format, tag_column, comments: header, ..TaggedReader::default() };
    with_file(content, |path| {
        let words = accepted(reader.read_words(&[path]));
        let Some(set) = accepted(reader.read(&[path])) else { return words.is_some() };
        assert!(set.tags.is_sorted() && set.tags.len() >= 2, "{:?}", set.tags);
        assert!(set.word_tags().iter().all(|&tag| (tag as usize) < set.tags.len()), "{set:?}");
        assert_eq!(set.word_tags().len(), set.sentences.word_count());
        for sentence in 0..set.sentences.len() {
            let words = set.sentences.words(sentence);
            assert!(words.len() > 0 && words.len() == set.tags_of(sentence).len(), "{sentence} of {set:?}");
            assert!(words.clone().all(|word| !word.is_empty() && word == word.trim()), "{sentence} of {set:?}");
        }
        if let Some(tags) = EntityTags::new(&set.tags) {
            for sentence in (0..set.sentences.len()).map(|sentence| set.tags_of(sentence)) {
                let entities = tags.entities(sentence);
                assert!(entities.iter().all(|entity| entity.start < entity.end && entity.end <= sentence.len()));
                assert!(entities.is_sorted_by(|a, b| a.end <= b.start), "{entities:?}");
                assert!(tags.invalid_transitions(TagScheme::Iobes, sentence) <= sentence.len() as u64 + 1);
            }
        }
        assert_eq!(set.select(&(0..set.sentences.len()).collect::<Vec<_>>()), set);
        true
    })
}

fn tagged_seeds() -> Vec<Vec<u8>> {
    let seeds: [&[u8]; 6] = [
        b"\0# text = I can't\n1\tI\t_\tPRON\t_\t_\t2\t_\t_\t_\n2-3\tcan't\t_\t_\t_\t_\t_\t_\t_\t_\n\
          2\tca\t_\tAUX\t_\t_\t0\t_\t_\t_\n3\tn't\t_\tPART\t_\t_\t2\t_\t_\t_\n",
        b"\x011\tGo\tgo\tVERB\tVB\t_\t0\troot\t_\t_\r\n1.1\ton\t_\t_\t_\t_\t_\t_\t1:x\t_\r\n\r\n\
          1\t.\t.\tPUNCT\t.\t_\t0\troot\t_\t_\r\n",
        b"\x02-DOCSTART- -X- O\n\nEU NNP B-ORG\nrejects VBZ O\n\nPeter NNP I-PER\n",
        b"\x02New York\tB-LOC\n#is\tO\n\t\nno\tS-LOC\n",
        b"\x03word\ttag\n# a comment\nEU\tB\nsays\tO\n",
        b"\0a line of words\nand another\n",
    ];
    seeds.map(<[u8]>::to_vec).to_vec()
}

/// Reads pieces of music. The first byte chooses between MIDI and JSON, and the steps in a beat.
pub fn music(input: &[u8]) -> bool {
    let Some((&choice, content)) = input.split_first() else { return false };
    let ending = if choice.is_multiple_of(2) { ".mid" } else { ".json" };
    let steps_per_beat = 1 + u32::from(choice / 2);
    let reader = PieceReader { steps_per_beat, ..PieceReader::default() };
    with_file_ending_in(ending, content, |path| {
        let Some(read) = accepted(reader.read(&[path.to_owned()])) else { return false };
        assert!(!read.pieces.is_empty() && read.pieces.iter().all(|(_, piece)| !piece.is_empty()));
        for (_, piece) in &read.pieces {
            assert_eq!(piano_roll_from_json(&piano_roll_to_json(piece)).as_ref(), Ok(piece));
            let sounds = |step: &Pitches| !step.is_empty();
            let (Some(first), Some(last)) = (piece.iter().position(sounds), piece.iter().rposition(sounds)) else {
                continue;
            };
            // Silence before the first note and after the last is not heard.
            let written = piano_roll_to_midi(&piece[first..=last], steps_per_beat);
            let again = with_file_ending_in(".mid", &written, |path| accepted(reader.read(&[path.to_owned()])));
            assert_eq!(again.expect("what was written can be read").pieces, [(None, piece[first..=last].to_vec())]);
        }
        true
    })
}

fn music_seeds() -> Vec<Vec<u8>> {
    let midi = piano_roll_to_midi(&piano_roll_from_json("[[60,64],[60],[],[67]]").expect("a roll"), 4);
    let two_tracks =
        b"MThd\0\0\0\x06\0\x01\0\x02\0\x60MTrk\0\0\0\x12\0\x90\x3c\x40\x30\x3c\0\0\xff\x51\x03\x07\xa1\x20\0\xff\x2f\0\
        MTrk\0\0\0\x0c\x18\x99\x23\x40\x30\x91\x30\x40\x30\xff\x2f\0";
    vec![
        [&b"\x06"[..], &midi].concat(),
        [&b"\0"[..], two_tracks].concat(),
        b"\x01[[[60,64],[],[127,0]],[[5]]]".to_vec(),
        b"\x01{\"train\": [[[60]]], \"valid\": [[[1,2]]], \"test\": []}".to_vec(),
    ]
}

/// Reads series of numbers, also compressed. The first byte chooses the format and what is wanted besides the numbers.
pub fn series(input: &[u8]) -> bool {
    let Some((&choice, content)) = input.split_first() else { return false };
    let ending = [".ts", ".csv", ".tsv"][usize::from(choice % 3)];
    let wanted = match choice / 3 % 3 {
        0 => WantedAnswers::Nothing,
        1 => WantedAnswers::Classes { column: None, labels: None },
        _ => WantedAnswers::Numbers { columns: Vec::new() },
    };
    let text = TextReader::default().max_bytes(1 << 20);
    let reader = SeriesReader { text, wanted, ..SeriesReader::default() };
    with_file_ending_in(ending, content, |path| {
        let Some(set) = accepted(reader.read(&[path])) else { return false };
        assert!(!set.is_empty() && !set.channels.is_empty());
        for (index, length) in set.lengths().into_iter().enumerate() {
            let values = set.values(index);
            assert!(length > 0 && values.len() == length * set.channels.len(), "{set:?}");
            assert!(!values.iter().any(|value| value.is_infinite()) && set.missing(index) < values.len(), "{set:?}");
        }
        match &set.answers {
            Answers::None => {}
            Answers::Classes { labels, classes } => {
                assert!(labels.is_sorted() && labels.len() >= 2 && classes.len() == set.len(), "{set:?}");
                assert!(classes.iter().all(|&class| (class as usize) < labels.len()), "{set:?}");
            }
            Answers::Numbers { names, values } => {
                assert!(!names.is_empty() && values.len() == set.len() * names.len(), "{set:?}");
                assert!(values.iter().all(|value| value.is_finite()), "{set:?}");
            }
        }
        // Missing numbers are not equal to themselves.
        let again = accepted(reader.read(&[path])).map(|set| format!("{set:?}"));
        assert_eq!(again, Some(format!("{set:?}")), "read a second time");
        true
    })
}

fn series_seeds() -> Vec<Vec<u8>> {
    let seeds: [&[u8]; 7] = [
        b"\x03# two speakers\n@problemName vowels\n@timeStamps false\n@missing true\n@univariate false\n@dimensions 2\n\
          @classLabel true a b\n@data\n1,2,?:4,5,6:a\n-1e3:.5:b\n",
        b"\x06@timeStamps false\n@univariate true\n@targetLabel true\n@data\n1,2:0.5\n3:-1\n",
        b"\x04id,time,x,y,label\na,1,1,2,p\na,2,,4,p\nb,1,5,6,q\n",
        b"\x08id\tx\ttarget\na\t1\t2.5\na\tNA\t2.5\nb\t3\t-1\n",
        b"\x01id,x\n1,0.5\n2,1\n1,7\n",
        b"\x04\x1f\x8b\x08\0\0\0\0\0\x02\x03\xcbL\xd1\xa9\xd0\xc9ILJ\xcd\xe1J\xd41\xd4)\xe0J\xd21\xd2)\xe4\x02\0\
          \x04V\xd0\xb0\x17\0\0\0",
        b"\x04(\xb5/\xfd\0h\xb9\0\0id,x,label\na,1,p\nb,2,q\n",
    ];
    seeds.map(<[u8]>::to_vec).to_vec()
}

/// Reads the vectors of a few words.
pub fn word_vectors(input: &[u8]) -> bool {
    let words = ["the", "The", ". .", "10", ""];
    with_file(input, |path| {
        let reader = WordVectorReader { lowercase: true };
        let Some(vectors) = accepted(reader.read(path, &words)) else { return false };
        assert!(vectors.dim() > 0 && vectors.in_file > 0, "{vectors:?}");
        for vector in (0..words.len()).filter_map(|word| vectors.get(word)) {
            assert!(vector.len() == vectors.dim() && vector.iter().all(|value| value.is_finite()), "{vectors:?}");
        }
        true
    })
}

fn word_vector_seeds() -> Vec<Vec<u8>> {
    let seeds: [&[u8]; 3] = [
        b"the 0.5 -1 2e-1\n. . 1 2 3\n10 4 5 6\n",
        b"\xEF\xBB\xBF2 3\r\n</s> 1 2 3 \r\nThe -0.25 .5 1e3 \r\n",
        b"the 1\nthe 2\n",
    ];
    seeds.map(<[u8]>::to_vec).to_vec()
}

/// Opens a model from its files, as [`join_files`] puts them together, and asks it a few questions. Written anew it answers
/// the same.
pub fn model_files(input: &[u8]) -> bool {
    let mut contents = input.splitn(FILES.len(), |&byte| byte == 0);
    let files: Files = FILES.iter().map_while(|&name| Some((name, contents.next()?.to_vec()))).collect();
    let Some(model) = accepted(Model::from_bytes(files.clone(), Some(1))) else { return false };
    let again = match (model.get::<LanguageModel>(), model.get::<Classify>()) {
        (Some(lm), _) => written_anew(lm, &files),
        (_, Some(classifier)) => written_anew(classifier, &files),
        _ => panic!("no target knows the task of {model:?}"),
    };
    let again = Model::from_bytes(again, Some(1)).expect("it has just been written");
    let answers = |model: &Model| model.predict_lines(&LINES).into_iter().map(accepted).collect::<Vec<_>>();
    assert_eq!(answers(&again), answers(&model));
    if let Some(lm) = model.get::<LanguageModel>() {
        let continuation = Continuation { prompt: LINES[0], length: 4, sampling: Sampling::default() };
        let written: Result<(), Infallible> = lm.generate(continuation, 1, &mut |_| Ok(()));
        let Ok(()) = written;
    }
    true
}

/// The files of a model.
const FILES: [&str; 4] = ["config.json", "vocabulary.json", "labels.json", "model.safetensors"];

type Files = Vec<(&'static str, Vec<u8>)>;

/// Texts to read.
const LINES: [&str; 3] = ["a fine film", "", "\u{e9} a\n\u{1f600}"];

/// The contents of [`FILES`], a zero byte between two; a file that is not there is empty. JSON has no zero bytes.
fn join_files(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let content = |name: &&str| files.iter().find(|(other, _)| other == name).map_or(&[][..], |(_, bytes)| bytes);
    FILES.iter().map(content).collect::<Vec<_>>().join(&0)
}

/// The files of a model that was read from `files`.
fn written_anew<T: Serve>(served: &Served<T>, files: &Files) -> Files {
    let (config, encoder) = (served.config(), served.encoder());
    let network = T::network(config, Regularisation::default());
    let mut parameters = vec![0.0; network.layout().length()];
    let (kind, (_, bytes)) = (kind_json::<T>(&network), files.last().expect("the weights come last"));
    weights::load(&kind, network.layout(), bytes, &mut parameters).expect("the model was read from them");
    assert!(parameters.iter().all(|x: &f32| x.is_finite()));
    write::<T>(config, encoder, &parameters)
}

fn write<T: Serve>(config: &T::Config, encoder: &T::Encoder, parameters: &[f32]) -> Files {
    let network = T::network(config, Regularisation::default());
    let weights = weights::save(&kind_json::<T>(&network), network.layout(), parameters);
    let mut files = T::encoder_files(encoder);
    files.extend([(FILES[0], config_json::<T>(config).into_bytes()), (FILES[3], weights)]);
    files
}

fn model_file_seeds() -> Vec<Vec<u8>> {
    let stack = |cell, bidirectional, initial_state| RecurrentSettings {
        cell,
        input: 2,
        hidden: 2,
        layers: 1,
        bidirectional,
        bias: true,
        layer_norm: false,
        initial_state,
        zoneout_hidden: 0.0,
        zoneout_cell: 0.0,
    };
    let zoneout = |stack| RecurrentSettings { zoneout_hidden: 0.25, ..stack };
    let text = |tokens: &str| {
        let path = Path::new("vocabulary.json");
        TextEncoder {
            rules: TextRules::default(),
            vocabulary: Vocabulary::from_json(tokens, path).expect("a seed is right"),
        }
    };
    let [units, words] = [CHARACTERS, WORDS].map(text);
    let lm = |recurrent, tied| {
        let config = lm::Config { recurrent, vocabulary: units.vocabulary.len(), tied, text: units.rules };
        seed::<LanguageModel>(&config, &units)
    };
    let classifier = |recurrent, pooling| {
        let labels = vec!["bad".to_owned(), "good".to_owned()];
        let (vocabulary, classes, text) = (words.vocabulary.len(), labels.len(), words.rules);
        let config = classify::Config { recurrent, vocabulary, classes, pooling, max_length: 0, text };
        seed::<Classify>(&config, &classify::Encoder { text: words.clone(), labels })
    };
    vec![
        lm(stack(CellKind::Lstm, false, InitialState::Zero), true),
        lm(zoneout(stack(CellKind::RnnTanh, false, InitialState::Learned)), false),
        classifier(stack(CellKind::GruAfter, true, InitialState::Zero), Pooling::LastStates),
        classifier(stack(CellKind::GruBefore, true, InitialState::Zero), Pooling::Attention),
    ]
}

fn seed<T: Serve>(config: &T::Config, encoder: &T::Encoder) -> Vec<u8> {
    let length = T::network(config, Regularisation::default()).layout().length();
    let parameters: Vec<f32> = (0..length).map(|index| index as f32 / 64.0).collect();
    join_files(&write::<T>(config, encoder, &parameters))
}

/// Reads a recipe whose data are given beside it, as `train RECIPE --data PATH` does.
pub fn recipes(input: &[u8]) -> bool {
    let data = [PathBuf::from("data")];
    let resolve = |text: &[u8]| with_file(text, |path| accepted(Recipe::resolve(Some(path), &[], &data)));
    let Some(recipe) = resolve(input) else { return false };
    let written = recipe.to_toml().expect("a recipe that was resolved has passed its check");
    assert_eq!(resolve(written.as_bytes()), Some(recipe), "{written}");
    true
}

fn recipe_seeds() -> Vec<Vec<u8>> {
    let seeds = [
        include_str!("../../recipes/names.toml"),
        include_str!("../../recipes/shakespeare.toml"),
        "task = \"lm\"\n[data]\npaths = [\"a.txt\"]\nunit = \"byte\"\n[model]\ncell = \"gru\"\n[train]\nsteps = 10\n",
    ];
    seeds.map(|text| text.as_bytes().to_vec()).to_vec()
}

/// Reads a vocabulary.
pub fn vocabulary(input: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(input) else { return false };
    let read = |text: &str| accepted(Vocabulary::from_json(text, Path::new("vocabulary.json")));
    let Some(vocabulary) = read(text) else { return false };
    assert_eq!(read(&vocabulary.to_json()).as_ref(), Some(&vocabulary), "written and read again");
    let tokens = vocabulary.encode(text);
    assert!(tokens.iter().all(|&token| (token as usize) < vocabulary.len()), "{tokens:?}");
    assert_eq!(vocabulary.decode(&tokens).is_empty(), tokens.is_empty());
    true
}

const CHARACTERS: &str = r#"{"format_version": 1, "unit": "char", "tokens": ["<unk>", " ", "a", "é", "\n", "😀"]}"#;
const WORDS: &str = r#"{"format_version": 1, "unit": "word", "tokens": ["<unk>", "a", "film", "fine"]}"#;

fn vocabulary_seeds() -> Vec<Vec<u8>> {
    [CHARACTERS, WORDS].map(|text| text.as_bytes().to_vec()).to_vec()
}

/// What was read; of an error makes sure that it says something.
fn accepted<T, E: Display>(result: Result<T, E>) -> Option<T> {
    result.map_err(|error| assert!(!error.to_string().trim().is_empty())).ok()
}

/// Gives `content` as a file to what reads only files.
fn with_file<T>(content: &[u8], read: impl FnOnce(&Path) -> T) -> T {
    with_file_ending_in("", content, read)
}

/// The same with a name that ends in `ending`.
fn with_file_ending_in<T>(ending: &str, content: &[u8], read: impl FnOnce(&Path) -> T) -> T {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = env::temp_dir().join(format!("throughline-fuzz-{}-{number}{ending}", process::id()));
    fs::write(&path, content).expect("the folder for temporary files can be written to");
    let result = read(&path);
    fs::remove_file(&path).expect("a file that was just written can be removed");
    result
}
