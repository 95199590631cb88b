//! What a model needs, and what of it is kept.

use std::sync::Arc;

use crate::common::{
    FilesOf, ModelFolder, TestModel, classifier, classify_config, language_model, strs, texts_of_every_length,
};
use throughline_infer::tasks::{Classify, LanguageModel};
use throughline_infer::{Error, Files, Model, Serve, Served};
use throughline_kernels::cells::CellKind;
use throughline_nn::layers::Pooling;
use throughline_nn::layers::recurrent::InitialState;
use throughline_nn::module::Cpu;
use throughline_nn::network::{Weights, Workspace};

fn both() -> [(&'static str, FilesOf); 2] {
    let classifier = classifier(classify_config(CellKind::Lstm, Pooling::Attention));
    [("lm", language_model(CellKind::Lstm).files()), ("classify", classifier.files())]
}

fn answers(model: &Model, texts: &[String]) -> Vec<serde_json::Value> {
    model.predict_lines(&strs(texts)).into_iter().map(Result::unwrap).collect()
}

/// Its own files and no others make a model, wherever they are.
#[test]
fn a_folder_and_bytes_make_the_same_model() {
    let texts = texts_of_every_length(1, 40);
    for (task, files) in both() {
        let names: Vec<&str> = files.keys().map(String::as_str).collect();
        let needed = ["config.json", "labels.json", "model.safetensors", "vocabulary.json"];
        assert_eq!(
            names,
            needed.into_iter().filter(|&name| task == "classify" || name != "labels.json").collect::<Vec<_>>()
        );
        let folder = ModelFolder::new(&files);
        let opened = Model::open(folder.path(), Some(1)).unwrap();
        let mut more = files.clone();
        more.insert("config.toml".to_owned(), b"not a recipe".to_vec());
        for from_bytes in [Model::from_bytes(files.clone(), Some(1)), Model::from_bytes(more, None)].map(Result::unwrap)
        {
            assert_eq!(from_bytes.info(), opened.info());
            assert_eq!(from_bytes.parameter_count(), opened.parameter_count());
            assert_eq!(answers(&from_bytes, &texts), answers(&opened, &texts));
        }
        assert_eq!(opened.info().name, task);
        for name in names {
            let mut fewer = files.clone();
            fewer.remove(name);
            let of_bytes = Model::from_bytes(fewer, Some(1)).unwrap_err().to_string();
            assert!(of_bytes.starts_with(name), "{of_bytes}");
            let path = folder.path().join(name);
            std::fs::remove_file(&path).unwrap();
            let of_folder = Model::open(folder.path(), Some(1)).unwrap_err().to_string();
            assert!(of_folder.starts_with(&format!("{}: cannot open", path.display())), "{of_folder}");
            std::fs::write(&path, &files[name]).unwrap();
        }
    }
}

#[test]
fn a_model_knows_its_task() {
    let [lm, classify] = both().map(|(_, files)| Model::from_bytes(files, Some(1)).unwrap());
    assert!(lm.get::<LanguageModel>().is_some() && classify.get::<Classify>().is_some());
    assert!(lm.get::<Classify>().is_none() && classify.get::<LanguageModel>().is_none());
    let error = lm.expect::<Classify>().err().unwrap();
    assert!(matches!(error, Error::Task { expected: "classify", found: "lm" }), "{error}");
    let error = Served::<Classify>::open(&Files::Memory(both()[0].1.clone()), Some(1)).err().unwrap().to_string();
    assert_eq!(error, "config.json: task: expected \"classify\", found \"lm\"");
}

/// Any number of threads may ask one model at once, and its own number of threads makes no difference.
#[test]
fn threads_share_a_model() {
    const fn shared<T: Send + Sync + 'static>() {}
    shared::<Model>();
    let texts = texts_of_every_length(2, 120);
    for (_, files) in both() {
        let want = answers(&Model::from_bytes(files.clone(), Some(1)).unwrap(), &texts);
        for threads in 1..=3 {
            let model = Arc::new(Model::from_bytes(files.clone(), Some(threads)).unwrap());
            let askers = [(); 4].map(|()| {
                let (model, texts) = (Arc::clone(&model), texts.clone());
                std::thread::spawn(move || [(); 3].map(|()| answers(&model, &texts)))
            });
            for asker in askers {
                assert!(asker.join().unwrap().iter().all(|got| *got == want), "{threads} threads");
            }
        }
    }
}

/// Beside the packed weights a model keeps the parameters that are read as they are, and answers as if it kept all.
#[test]
fn only_what_is_read_is_kept() {
    fn check<T: Serve>(model: &TestModel<T>, ask: impl Fn(&Served<T>, &mut throughline_infer::Runner<'_, T>)) {
        let layout = model.network.layout();
        let served = model.served(2);
        assert_eq!(served.parameter_count(), layout.parameter_count());
        let read = |name: &str| name == "embedding.weight" || name.starts_with("rnn.initial_") || name == "pool.query";
        let counts = layout.tensors().iter().filter(|tensor| read(tensor.name())).map(|tensor| tensor.count());
        // Tensors begin at a multiple of 16 elements.
        let kept: usize = counts.map(|count| count.next_multiple_of(16)).sum();
        assert_eq!(served.run(|runner| runner.weights.parameters.len()), kept);
        assert!(kept < layout.length() / 4);

        let cpu = Cpu::new(1);
        let packed = model.network.packed(&cpu, &model.parameters, true);
        let weights = Weights { cpu: &cpu, parameters: &model.parameters, packed: &packed };
        let mut workspace = Workspace::default();
        let mut whole = throughline_infer::Runner { network: &model.network, weights, workspace: &mut workspace };
        ask(&served, &mut whole);
    }
    let texts = texts_of_every_length(3, 50);
    let texts = strs(&texts);
    for pooling in Pooling::ALL {
        let model = classifier(classify_config(CellKind::GruBefore, pooling));
        check(&model, |served, whole| {
            let got: Vec<_> = served.predict(&texts).into_iter().map(Result::unwrap).collect();
            let want = Classify::predict(whole, &model.config, &model.encoder, &texts);
            assert_eq!(got, want.into_iter().map(Result::unwrap).collect::<Vec<_>>());
        });
    }
    for tied in [false, true] {
        let mut model = language_model(CellKind::Lstm);
        if tied {
            (model.config.tied, model.config.recurrent.input) = (true, model.config.recurrent.hidden);
            model.config.recurrent.initial_state = InitialState::Zero;
            model = TestModel::new(model.config, model.encoder);
        }
        check(&model, |served, whole| {
            let got: Vec<_> = served.predict(&texts).into_iter().map(Result::unwrap).collect();
            let want = LanguageModel::predict(whole, &model.config, &model.encoder, &texts);
            assert_eq!(got, want.into_iter().map(Result::unwrap).collect::<Vec<_>>());
        });
    }
}
