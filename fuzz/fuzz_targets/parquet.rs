#![no_main]

libfuzzer_sys::fuzz_target!(
    init: {
        // A panic ends the search, unless it is one of the crate `parquet` that becomes an error.
        let end = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !throughline_data::panic_is_caught() {
                end(panic);
            }
        }));
    },
    |input: &[u8]| {
        throughline_fuzz::parquet(input);
    }
);
