//! The elementwise functions over an array that stays in the nearest caches.

use std::time::Instant;

use anyhow::Result;
use serde_json::{Map, Value, json};
use throughline_kernels::Isa;
use throughline_kernels::peak::{self, Function};
use throughline_kernels::random::{Philox, Purpose};

use crate::arguments::Arguments;
use crate::timing::{Subject, measure, median};

/// Elements of the array: with the results 32 KiB.
const ELEMENTS: usize = 4096;

struct Elementwise {
    isa: Isa,
    function: Function,
    x: Vec<f32>,
    y: Vec<f32>,
}

impl Subject<0> for Elementwise {
    fn run(&mut self, times: usize) -> f64 {
        let begun = Instant::now();
        for _ in 0..times {
            peak::apply(self.isa, self.function, &self.x, &mut self.y);
            std::hint::black_box(&mut self.y);
        }
        begun.elapsed().as_secs_f64()
    }

    fn limits(&mut self) -> [f64; 0] {
        []
    }
}

pub fn report(arguments: &Arguments) -> Result<String> {
    let isa = Isa::detect();
    let mut random = Philox::new(1, Purpose::Benchmark, 0).stream();
    let x: Vec<f32> = (0..ELEMENTS).map(|_| 8.0 * random.uniform() as f32 - 4.0).collect();
    let mut object = Map::new();
    let mut said = Vec::new();
    for function in Function::ALL {
        let mut subject = Elementwise { isa, function, x: x.clone(), y: vec![0.0; ELEMENTS] };
        let (timed, _) = measure(&mut subject, arguments);
        let mut seconds: Vec<f64> = timed.iter().map(|timed| timed.seconds).collect();
        let rate = ELEMENTS as f64 / median(&mut seconds) / 1e9;
        object.insert(format!("{}_per_ns", function.name()), json!(rate));
        object.insert("runs".to_owned(), json!(timed.len()));
        said.push(format!("{} {rate:.2}", function.name()));
    }
    object.insert("elements".to_owned(), json!(ELEMENTS));
    object.insert("isa".to_owned(), json!(isa.name().as_str()));
    if arguments.json {
        return Ok(Value::Object(object).to_string());
    }
    Ok(format!("elements a nanosecond: {}; {}, 1 thread", said.join(", "), isa.name().as_str()))
}
