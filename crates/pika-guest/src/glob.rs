//! Owns the patterns that choose artifacts. Works on bytes, since names need not be UTF-8, and takes time that is
//! bounded by the product of the lengths, whatever the pattern.
//!
//! `*` and `?` stay within one component, `**` as a whole component spans any number of them, `[a-z]` and `[!a-z]` are
//! sets, `\` takes the next byte as it is. A pattern that matches a directory takes everything below it.

/// Longest pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 4096;

/// A pattern, cut into components.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    components: Vec<Vec<u8>>,
}

/// A pattern that can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// It is empty.
    #[error("a pattern is empty")]
    Empty,
    /// It is longer than [`PATTERN_BYTES_MAX`].
    #[error("a pattern has more than {PATTERN_BYTES_MAX} bytes")]
    TooLong,
    /// It leaves the directory.
    #[error("a pattern must be relative to the artifacts directory and without `..`")]
    Outside,
}

impl Glob {
    /// Reads a pattern. `.` and empty components mean nothing.
    pub fn new(pattern: &[u8]) -> Result<Glob, GlobError> {
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(GlobError::TooLong);
        }
        if pattern.first() == Some(&b'/') {
            return Err(GlobError::Outside);
        }
        let components: Vec<Vec<u8>> = pattern
            .split(|byte| *byte == b'/')
            .filter(|component| !component.is_empty() && *component != b".")
            .map(<[u8]>::to_vec)
            .collect();
        if components.iter().any(|component| component == b"..") {
            return Err(GlobError::Outside);
        }
        if components.is_empty() {
            Err(GlobError::Empty)
        } else {
            Ok(Glob { components })
        }
    }

    /// Whether the pattern matches the path or a directory above it.
    #[must_use]
    pub fn matches(&self, path: &[&[u8]]) -> bool {
        // One bit for each place in the pattern: where a match of the path so far can stand.
        let mut places = vec![false; self.components.len() + 1];
        places[0] = true;
        self.skip_spans(&mut places);
        for name in path {
            let mut next = vec![false; places.len()];
            for (at, component) in self.components.iter().enumerate() {
                if !places[at] {
                    continue;
                }
                if component == b"**" {
                    next[at] = true;
                } else if matches_name(component, name) {
                    next[at + 1] = true;
                }
            }
            places = next;
            self.skip_spans(&mut places);
            if places[self.components.len()] {
                return true;
            }
        }
        false
    }

    /// `**` may span nothing.
    fn skip_spans(&self, places: &mut [bool]) {
        for (at, component) in self.components.iter().enumerate() {
            if places[at] && component == b"**" {
                places[at + 1] = true;
            }
        }
    }
}

/// Whether one component of a pattern matches one name. Goes back only to the last `*`.
fn matches_name(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut done) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while done < name.len() {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at + 1, done));
            at += 1;
            continue;
        }
        match matches_byte(&pattern[at..], name[done]) {
            Some(used) => {
                at += used;
                done += 1;
            }
            None => {
                let Some((after, from)) = star else {
                    return false;
                };
                star = Some((after, from + 1));
                (at, done) = (after, from + 1);
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// How much of the pattern matches the byte, if it does. A `[` without its `]` is a byte like others.
fn matches_byte(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern.first()? {
        b'?' => Some(1),
        b'\\' if pattern.len() > 1 => (pattern[1] == byte).then_some(2),
        b'[' => match set(pattern) {
            Some((body, negated, used)) => (in_set(body, byte) != negated).then_some(used),
            None => (byte == b'[').then_some(1),
        },
        literal => (literal == byte).then_some(1),
    }
}

/// The inside of a set, whether it is negated, and its whole length.
fn set(pattern: &[u8]) -> Option<(&[u8], bool, usize)> {
    let negated = matches!(pattern.get(1), Some(b'!' | b'^'));
    let start = if negated { 2 } else { 1 };
    // A `]` that comes first is a member.
    let end = pattern
        .iter()
        .skip(start + 1)
        .position(|byte| *byte == b']')?
        + start
        + 1;
    Some((&pattern[start..end], negated, end + 1))
}

fn in_set(body: &[u8], byte: u8) -> bool {
    let mut rest = body;
    while let Some((first, after)) = rest.split_first() {
        if let [b'-', last, after @ ..] = after {
            if (*first..=*last).contains(&byte) {
                return true;
            }
            rest = after;
        } else {
            if *first == byte {
                return true;
            }
            rest = after;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, path: &str) -> bool {
        let names: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
        Glob::new(pattern.as_bytes()).unwrap().matches(&names)
    }

    #[test]
    fn patterns_mean_what_the_shell_would_say() {
        for (pattern, path, expected) in [
            ("*.xml", "a.xml", true),
            ("*.xml", "d/a.xml", false),
            ("**/*.xml", "a.xml", true),
            ("**/*.xml", "d/e/a.xml", true),
            ("d/**", "d/e/f", true),
            ("d/**/f", "d/f", true),
            ("d/**/f", "d/e/g", false),
            ("d", "d/e/f", true),
            ("./d/", "d/e", true),
            ("?.[ch]", "a.c", true),
            ("?.[!ch]", "a.c", false),
            ("[]a]", "]", true),
            ("[a", "[a", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("**", "anything/at/all", true),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn a_pattern_can_not_leave_the_directory() {
        for pattern in ["/etc/passwd", "../x", "a/../../x"] {
            assert_eq!(
                Glob::new(pattern.as_bytes()),
                Err(GlobError::Outside),
                "{pattern}"
            );
        }
        for pattern in ["", ".", "./"] {
            assert_eq!(
                Glob::new(pattern.as_bytes()),
                Err(GlobError::Empty),
                "{pattern}"
            );
        }
    }

    #[test]
    fn a_name_that_is_no_text_matches() {
        assert!(Glob::new(b"*.bin").unwrap().matches(&[b"\xff\xfe.bin"]));
    }

    #[test]
    fn an_evil_pattern_takes_no_evil_time() {
        let pattern = "*a".repeat(1000);
        let name = "a".repeat(200) + "b";
        let spans = "**/".repeat(1000) + "x";
        let path = vec![&b"y"[..]; 500];
        assert!(!matches(&pattern, &name));
        assert!(!Glob::new(spans.as_bytes()).unwrap().matches(&path));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(pattern in any::<Vec<u8>>(), path in any::<Vec<Vec<u8>>>()) {
            if let Ok(glob) = Glob::new(&pattern) {
                let path: Vec<&[u8]> = path.iter().map(Vec::as_slice).collect();
                let _matched = glob.matches(&path);
            }
        }

        #[test]
        fn a_literal_matches_itself(name in "[a-z0-9._-]{1,20}") {
            prop_assume!(name != "." && name != "..");
            prop_assert!(matches(&name, &name));
        }
    }
}
