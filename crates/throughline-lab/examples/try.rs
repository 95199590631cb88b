//! try
use throughline_lab::*;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let effort = if a.get(2).is_some() { Effort::Fast } else { Effort::Full };
    let t = std::time::Instant::now();
    let o = Experiment::find(&a[1]).unwrap().run(&Bench {
        effort,
        threads: 2,
        progress: &|d, n| {
            if d % 20 == 0 {
                eprintln!("{d}/{n} {:?}", t.elapsed())
            }
        },
    });
    println!("{}\n{:?}", o.text(100), t.elapsed());
    std::fs::create_dir_all("/tmp/labout").unwrap();
    for (n, c) in o.files() {
        std::fs::write(format!("/tmp/labout/{n}"), c).unwrap();
    }
}
