//! A command line that a shell takes apart again into the same words.

/// Joins program and arguments for a POSIX shell. Words that need no quotes get none.
pub fn shell_join(words: &[String]) -> String {
    words
        .iter()
        .map(|word| quote(word))
        .collect::<Vec<_>>()
        .join(" ")
}

fn quote(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:,+@%".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn only_what_needs_quotes_has_them() {
        assert_eq!(
            shell_join(&words(&[
                "just",
                "checks::x",
                "a b",
                "",
                "it's",
                "$X",
                "a=b"
            ])),
            r"just checks::x 'a b' '' 'it'\''s' '$X' 'a=b'"
        );
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
        #[test]
        fn bash_reads_back_the_same_words(args in proptest::collection::vec("[^\0]{0,12}", 1..5)) {
            let line = format!("printf '%s\\0' {}", shell_join(&args));
            let output = std::process::Command::new("bash").args(["--noprofile", "--norc", "-c", &line]).output().expect("bash runs");
            let expected: Vec<u8> = args.iter().flat_map(|arg| arg.bytes().chain([0])).collect();
            proptest::prop_assert_eq!(output.stdout, expected);
        }
    }
}
