//! The fuzzers' corpus, on any toolchain: the same functions, once over every seed.

#[path = "../../../../fuzz/src/targets.rs"]
#[expect(
    unreachable_pub,
    reason = "the same file is the public module of the fuzz crate"
)]
mod targets;

use std::path::Path;

#[test]
fn every_seed_is_taken_or_refused_as_its_name_says() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
    for (name, target) in targets::ALL {
        let (mut taken, mut refused) = (0, 0);
        for entry in std::fs::read_dir(corpus.join(name)).unwrap() {
            let path = entry.unwrap().path();
            let seed = path.file_name().unwrap().to_str().unwrap().to_owned();
            let accepted = target(&std::fs::read(&path).unwrap());
            if seed.starts_with("good") {
                assert!(accepted, "{name}/{seed} was refused");
                taken += 1;
            } else if seed.starts_with("bad") {
                assert!(!accepted, "{name}/{seed} was accepted");
                refused += 1;
            }
        }
        assert!(
            taken >= 2 && refused >= 4,
            "{name} has {taken} good and {refused} bad seeds"
        );
    }
}

#[test]
fn no_seed_breaks_another_decoder_and_no_cut_breaks_its_own() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
    for (name, own) in targets::ALL {
        for entry in std::fs::read_dir(corpus.join(name)).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            for (_, target) in targets::ALL {
                target(&bytes);
            }
            for cut in 0..bytes.len() {
                own(&bytes[..cut]);
            }
        }
    }
}
