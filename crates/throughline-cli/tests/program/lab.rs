//! Experiments, in their fast form.

use std::fs;

use crate::folder::Folder;

const EXPERIMENTS: [&str; 6] = ["vanishing", "cells", "sharing", "transformer", "direction", "depth"];

#[test]
fn every_experiment_writes_a_page_and_a_figure() {
    for name in EXPERIMENTS {
        let folder = Folder::new();
        let arguments = ["lab", name, "--fast", "--out", "new/lab"];
        let said = folder.run_in_environment(&arguments, "COLUMNS", "100").succeeded();
        assert!(
            said.starts_with(&format!("{name}: "))
                && said.contains(['▁', '▃', '▅', '▆', '▇', '█'])
                && !said.contains("NaN"),
            "{said}"
        );
        assert_eq!(folder.names("new/lab"), [format!("{name}.md"), format!("{name}.svg")]);
        let (page, figure) = (folder.text(&format!("new/lab/{name}.md")), folder.text(&format!("new/lab/{name}.svg")));
        assert!(page.starts_with(&format!("# {name}\n")) && page.contains(&format!("]({name}.svg)")), "{page}");
        assert!(page.contains("|---|---:|"), "{page}");
        assert!(figure.starts_with("<svg ") && figure.ends_with("</svg>\n"), "{figure}");
        // The paragraph is the same in both; lines are broken elsewhere.
        let last = |text: &str| text.split("\n\n").last().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(last(&said), last(&page));
    }
}

/// Every number but times is the same on any number of threads.
#[test]
fn threads_change_nothing() {
    for name in ["vanishing", "sharing"] {
        let folder = Folder::new();
        let told = ["1", "3"].map(|threads| folder.run(&["lab", name, "--fast", "--threads", threads]).succeeded());
        assert_eq!(told[0], told[1]);
        assert_eq!(folder.names(""), [""; 0], "nothing is written where no folder is named");
    }
}

#[test]
fn a_text_of_ones_own() {
    let prose: String = (0..400).map(|n| format!("the {n}th line says {}\n", n * n)).collect();
    let folder = Folder::with(&[("prose.txt", &prose), ("short.txt", "too short")]);
    let said = folder.run(&["lab", "--text", "prose.txt", "--fast"]).succeeded();
    assert!(said.starts_with("cells: ") && said.contains("\ntransformer: ") && !said.contains("vanishing: "), "{said}");
    assert!(
        said.contains("a given one of") && said.contains("nats a character") && !said.contains("nats above"),
        "{said}"
    );
    let refused =
        |arguments: &[&str], parts: &[&str]| folder.run(&[&["lab", "--fast"], arguments].concat()).refused(parts);
    refused(&["--text", "short.txt"], &["short.txt: expected at least 2000 characters", "found 9"]);
    refused(&["depth", "--text", "prose.txt"], &["--text: expected an experiment", "cells, transformer"]);
    refused(&["--text", "gone.txt"], &["gone.txt"]);
}

#[test]
fn an_unknown_experiment() {
    let folder = Folder::new();
    let ran = folder.run(&["lab", "vanishing", "gravity", "--fast", "--out", "lab"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{ran:?}");
    let said = ran.err;
    for part in ["gravity", "EXPERIMENT", "vanishing, cells, sharing, transformer, direction, depth"] {
        assert!(said.contains(part), "no {part:?} in\n{said}");
    }
    assert_eq!(folder.names(""), [""; 0]);
}

#[test]
fn a_folder_that_cannot_be_written_is_refused_before_any_work() {
    let folder = Folder::with(&[("file", "not a folder")]);
    fs::create_dir_all(folder.join("taken/cells.svg")).unwrap();
    // The full experiments would take minutes.
    for (out, parts) in [
        ("file", &["file: cannot write to this folder", "--out"][..]),
        ("file/lab", &["file/lab: cannot write to this folder", "--out"]),
        ("taken", &["cells.svg: file to write: expected a regular file", "found a folder"]),
    ] {
        folder.run(&["lab", "direction", "cells", "--out", out]).refused(parts);
    }
    assert_eq!(
        (folder.names(""), folder.names("taken")),
        (vec!["file".into(), "taken".into()], vec!["cells.svg".into()])
    );
}
