//! Feeds a decoder with whatever the fuzzer finds.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    pika_fuzz::targets::result(bytes);
});
