//! The hub keeps its promises whatever happens: the plays of the fuzzer, as chance writes them, and the cases
//! that were found once.

use std::fs;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::for_all;
use crate::play::play;

#[test]
fn every_play_ends_well() {
    for_all(vec(any::<u8>(), 0..600), |bytes| {
        play(&bytes);
        Ok(())
    });
}

#[test]
fn plays_that_once_failed_end_well() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/cases");
    for case in fs::read_dir(folder).expect("the cases") {
        let path = case.expect("a case").path();
        println!("{}", path.display());
        play(&fs::read(path).expect("a file"));
    }
}
