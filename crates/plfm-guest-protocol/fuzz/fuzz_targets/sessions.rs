#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| plfm_guest_protocol_fuzz::sessions::check(bytes));
