//! Models of series from their tables to their answers.

use crate::folder::{Folder, json_lines};
use crate::trained::with;

const TINY: &[&str] = &[
    "--set",
    "threads=1",
    "model.hidden=8",
    "model.layers=1",
    "train.batch=8",
    "train.epochs=12",
    "train.patience=0",
    "optimiser.learning_rate=0.02",
    "data.split=[0.6,0.2,0.2]",
];

/// A table of series that rise or fall, of 4 to 8 steps; `sum` is that of `x`.
fn table() -> String {
    let mut table = "id,time,x,label,sum\n".to_owned();
    for id in 0..100 {
        let (steps, label) = (4 + id % 5, if id % 2 == 0 { "up" } else { "down" });
        let x = |step: usize| if id % 2 == 0 { step + id % 3 } else { 10 + id % 3 - step };
        let sum: usize = (0..steps).map(x).sum();
        for step in 0..steps {
            table += &format!("s{id},{step},{},{label},{sum}\n", x(step));
        }
    }
    table
}

/// What is said of the data, and what is reached.
fn train(folder: &Folder, task: &str, sets: &[&str]) -> String {
    let task = format!("task={task}");
    let ran = folder.run(&with(&with(&["train", "table.csv"], TINY), &with(&[&task], sets)));
    ran.err.clone() + &ran.succeeded()
}

#[test]
fn classes_of_series() {
    let folder = Folder::with(&[("table.csv", &table())]);
    let said = train(&folder, "classify-series", &["data.channels=[\"x\"]"]);
    for part in ["60 series of 4 to 8 steps", "nearest mean and deviation", "accuracy 1.0000"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    let rows =
        json_lines(&folder.run_with_input(&["predict", "classify-series-1"], "[1,2,3,4]\n[[9],[8],[7]]\n").succeeded());
    let labels: Vec<&str> = rows.iter().map(|row| row["label"].as_str().unwrap()).collect();
    assert_eq!((labels, &rows[1]["steps"]), (vec!["up", "down"], &3.into()));
    // The same from a file, in its order, as the table is when it has no answers.
    folder.write("new.csv", "when,who,x,more\n1,a,9,0\n1,b,1,0\n2,a,8,0\n2,b,2,0\n3,b,3,0\n3,a,7,0\n");
    let columns = ["--id-column", "who", "--time-column", "when"];
    let files = with(&["predict", "classify-series-1", "--series", "new.csv"], &columns);
    let rows = json_lines(&folder.run(&files).succeeded());
    let named: Vec<_> =
        rows.iter().map(|row| (row["series"].as_str().unwrap(), row["label"].as_str().unwrap())).collect();
    assert_eq!(named, [("a", "down"), ("b", "up")]);
    let csv = folder.run(&with(&files, &["--format", "csv", "--top", "1"])).succeeded();
    assert!(
        csv.starts_with("series,classes,label,missing,probability,steps\na,\"[{\"\"label\"\":\"\"down\"\""),
        "{csv}"
    );
    let text = folder.run(&with(&files, &["--format", "text"])).succeeded();
    assert!(text.starts_with("down  missing 0  probability 0.9"), "{text}");
}

#[test]
fn numbers_of_series() {
    let folder = Folder::with(&[("table.csv", &table())]);
    let sets = ["data.channels=[\"x\"]", "data.target_columns=[\"sum\"]", "train.loss=huber", "train.epochs=40"];
    let said = train(&folder, "regress", &sets);
    for part in ["mean of the training split", "last number", "r2"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    let own = &json_lines(&folder.run(&["eval", "regress-1", "--json"]).succeeded())[0];
    assert!(own["r2"].as_f64().unwrap() > 0.9 && own["mae"].as_f64().unwrap() < 3.0, "{own}");
    folder.write("new.ts", "@data\n1,2,3,4\n");
    let refused = folder.run(&["predict", "regress-1", "--series", "new.ts"]);
    refused.refused(&["new.ts:2: expected the channels \"x\", as before, found \"1\""]);
    folder.write("new.csv", "id,x\n1,1\n1,2\n1,3\n1,4\n");
    let rows = json_lines(&folder.run(&["predict", "regress-1", "--series", "new.csv"]).succeeded());
    assert!((rows[0]["values"]["sum"].as_f64().unwrap() - 10.0).abs() < 4.0, "{rows:?}");
    let text = folder.run(&["predict", "regress-1", "--series", "new.csv", "--format", "text"]).succeeded();
    assert!(text.contains("sum ") && text.ends_with("  1\n"), "{text}");
}

#[test]
fn what_is_no_series_is_refused_line_by_line() {
    let folder = Folder::with(&[("table.csv", &table())]);
    train(&folder, "classify-series", &["data.channels=[\"x\"]"]);
    let ran = folder.run_with_input(&["predict", "classify-series-1"], "[1,2]\n[1,null]\n[[1,2]]\n\n[]\n");
    for part in [
        "line 2: expected no missing numbers",
        "line 3: expected a series in JSON",
        "line 4: ",
        "line 5: expected a series",
    ] {
        assert!(ran.err.contains(part), "no {part:?} in {ran:?}");
    }
    assert_eq!((ran.code, json_lines(&ran.out).len()), (Some(1), 1));
    let predict = |arguments: &[&str]| folder.run(&with(&["predict", "classify-series-1"], arguments));
    folder.write("gap.csv", "id,x\n1,1\n2,\n2,2\n");
    let ran = predict(&["--series", "gap.csv"]);
    assert!(ran.err.contains("gap.csv:3: expected no missing numbers") && ran.err.contains("1 of 2 series"), "{ran:?}");
    assert_eq!(json_lines(&ran.out).len(), 1);
    let usage = predict(&["--id-column", "x"]);
    assert!(usage.code == Some(2) && usage.err.contains("--series"), "{usage:?}");
    predict(&["--columns", "gap.csv"]).refused(&["task \"tag\"", "classify-series"]);
    for (content, says) in [
        ("id,x\n1,one\n", &["bad.csv:2", "\"one\""][..]),
        ("id,time,x\n1,2,0\n1,1,0\n", &["bad.csv:3", "ascending"]),
        ("id,x\n1,inf\n", &["bad.csv:2", "finite"]),
        ("id,x\n", &["bad.csv", "at least one series"]),
    ] {
        folder.write("bad.csv", content);
        predict(&["--series", "bad.csv"]).refused(says);
    }
    folder.write("lines.txt", "a b\n");
    folder.run(&["train", "lines.txt", "--set", "task=classify-series"]).refused(&["lines.txt", ".ts, .csv"]);
}
