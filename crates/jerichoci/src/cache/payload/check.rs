//! Owns what a payload may hold: files, folders, and links that stay inside it, up to a bound. Pure: the guest is asked
//! by whoever has one, with [`CHECK_SCRIPT`], and what it says is judged here.
//!
//! A link is followed here and not in the guest, so that what it leads to is decided by what the payload holds alone.

use std::collections::BTreeMap;

use super::Payload;

/// Most bytes that a payload may hold, by what its files say of themselves.
pub const OUTPUT_BYTES_MAX: u64 = 32 * 1024 * 1024 * 1024;
/// Most files, folders and links of a payload.
pub const OUTPUT_ENTRIES_MAX: u64 = 1_000_000;
/// Most bytes of what the script says of links; names and targets count.
pub const LINK_BYTES_MAX: usize = 16 * 1024 * 1024;
/// As many links as a kernel follows.
const HOPS_MAX: usize = 40;
/// Most steps on the way along all links of a payload. Ordinary ones take a dozen each.
const STEPS_MAX: u64 = 50_000_000;

/// For `sh -c SCRIPT sh DIR`. Says, each ended by a NUL: the number of entries, their bytes, then for each thing that is
/// neither file nor folder its type as `find` names it, its name, and what it points to.
pub const CHECK_SCRIPT: &str = r#"
PATH=/run/current-system/sw/bin:/usr/sbin:/usr/bin:/sbin:/bin
cd "$1" || exit 1
printf '%s\0%s\0' "$(find . -xdev -mindepth 1 -printf x | wc -c)" "$(du -sx --apparent-size -B1 . | cut -f1)"
exec find . -xdev -mindepth 1 ! -type f ! -type d -printf '%y\0%P\0%l\0'
"#;

/// Why what a job left is no payload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutputProblem {
    /// Nothing is there.
    #[error("the lane left nothing at {0}")]
    Empty(&'static str),
    /// Something is no file, folder or link.
    #[error("`{name}` is {what}; a payload has files, folders and links")]
    Special {
        /// Its name in the payload.
        name: String,
        /// What it is.
        what: &'static str,
    },
    /// A link would lead elsewhere.
    #[error("the link `{name}` leads out of it, to `{target}`; links of a payload stay inside it")]
    LeadsOut {
        /// Its name in the payload.
        name: String,
        /// What it points to.
        target: String,
    },
    /// It holds too much.
    #[error("it holds {bytes} bytes, and {OUTPUT_BYTES_MAX} are allowed")]
    TooLarge {
        /// How much.
        bytes: u64,
    },
    /// It has too many files, folders and links.
    #[error("it has {entries} files, folders and links, and {OUTPUT_ENTRIES_MAX} are allowed")]
    TooMany {
        /// How many.
        entries: u64,
    },
    /// Its links can't all be looked at.
    #[error("its links take more than {LINK_BYTES_MAX} bytes to list")]
    TooManyLinks,
    /// Its links lead over each other too often.
    #[error("its links lead over so many others that they can't all be followed")]
    Tangled,
    /// The guest said something else than what it was asked.
    #[error("the guest can't tell what it holds")]
    Unclear,
}

/// Judges what [`CHECK_SCRIPT`] said of a payload, and whether that was all of it.
///
/// # Errors
/// What is wrong with it.
pub fn judge_output(payload: Payload, said: &[u8], is_whole: bool) -> Result<(), OutputProblem> {
    let mut words = said.split(|byte| *byte == 0);
    let entries = number(words.next()).ok_or(OutputProblem::Unclear)?;
    let bytes = number(words.next()).ok_or(OutputProblem::Unclear)?;
    if entries == 0 {
        return Err(OutputProblem::Empty(payload.guest_path()));
    }
    if entries > OUTPUT_ENTRIES_MAX {
        return Err(OutputProblem::TooMany { entries });
    }
    if bytes > OUTPUT_BYTES_MAX {
        return Err(OutputProblem::TooLarge { bytes });
    }
    let mut links = BTreeMap::new();
    while let (Some(kind), Some(name), Some(target)) = (words.next(), words.next(), words.next()) {
        match kind {
            b"l" => drop(links.insert(name.to_owned(), target)),
            _ => {
                let (name, what) = (shown(name), kind_in_words(kind));
                return Err(OutputProblem::Special { name, what });
            }
        }
    }
    if !is_whole {
        return Err(OutputProblem::TooManyLinks);
    }
    let root: Vec<&[u8]> = parts(payload.guest_path().as_bytes()).collect();
    let mut steps = STEPS_MAX;
    for (name, target) in &links {
        match leads_out(&root, &links, name, &mut steps) {
            Some(false) => {}
            Some(true) => {
                return Err(OutputProblem::LeadsOut {
                    name: shown(name),
                    target: shown(target),
                });
            }
            None => return Err(OutputProblem::Tangled),
        }
    }
    Ok(())
}

fn number(word: Option<&[u8]>) -> Option<u64> {
    std::str::from_utf8(word?).ok()?.parse().ok()
}

fn shown(name: &[u8]) -> String {
    pika_runtime::show_name(name)
}

fn kind_in_words(kind: &[u8]) -> &'static str {
    match kind {
        b"b" | b"c" => "a device",
        b"p" => "a pipe",
        b"s" => "a socket",
        _ => "of an unknown kind",
    }
}

fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
}

/// Whether following a link leaves the payload at `root` on its way. One that goes round in circles leads nowhere.
///
/// Costs no more than `steps` allows, all links together; `None` when they are used up.
fn leads_out(
    root: &[&[u8]],
    links: &BTreeMap<Vec<u8>, &[u8]>,
    link: &[u8],
    steps: &mut u64,
) -> Option<bool> {
    let mut open: Vec<&[u8]> = parts(link).rev().collect();
    let mut place: Vec<&[u8]> = Vec::new();
    let mut hops = 0;
    while let Some(part) = open.pop() {
        *steps = steps.checked_sub(1 + place.len() as u64)?;
        if part == b".." {
            if place.pop().is_none() {
                return Some(true);
            }
            continue;
        }
        place.push(part);
        let Some(target) = links.get(&place.join(&b'/')) else {
            continue;
        };
        hops += 1;
        if hops > HOPS_MAX {
            return Some(false);
        }
        place.pop();
        let mut names: Vec<&[u8]> = parts(target).collect();
        if target.starts_with(b"/") {
            let Some(below) = names.strip_prefix(root) else {
                return Some(true);
            };
            names = below.to_vec();
            place.clear();
        }
        open.extend(names.into_iter().rev());
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(entries: u64, bytes: u64, special: &[[&str; 3]]) -> Result<(), OutputProblem> {
        let mut said = format!("{entries}\0{bytes}\0");
        for words in special {
            words.iter().for_each(|word| {
                said.push_str(word);
                said.push('\0');
            });
        }
        judge_output(Payload::WorkspaceDeps, said.as_bytes(), true)
    }

    fn leads(name: &str, target: &str, others: &[[&str; 3]]) -> bool {
        let mut special = others.to_vec();
        special.push(["l", name, target]);
        match judged(9, 9, &special) {
            Ok(()) => false,
            Err(OutputProblem::LeadsOut { .. }) => true,
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn links_stay_inside_or_are_refused() {
        for inside in [
            "lib",
            "./lib/../other",
            "/staged/linux-rust/workspace-deps",
            "/staged/linux-rust/workspace-deps/lib",
            "/staged//linux-rust/./workspace-deps/d/..",
            "gone",
        ] {
            assert!(!leads("l", inside, &[]), "{inside}");
        }
        for out in [
            "/",
            "/etc/passwd",
            "..",
            "d/../..",
            "/staged/linux-rust/workspace-deps-evil/x",
            "/staged/linux-rust/workspace-deps/..",
            "/staged/linux-rust/workspace-build/x",
        ] {
            assert!(leads("l", out, &[]), "{out}");
        }
        assert!(!leads("a/b/l", "../../lib", &[]), "up to the root");
        assert!(leads("a/b/l", "../../../lib", &[]), "above it");
    }

    #[test]
    fn a_link_over_another_link_is_followed_as_a_kernel_would() {
        let deep = ["l", "deep", "a/b/c"];
        assert!(!leads("l", "deep/../x", &[deep]), "it is a/b/x");
        let flat = ["l", "a/flat", "/staged/linux-rust/workspace-deps"];
        assert!(leads("l", "a/flat/..", &[flat]), "by words it would be a");
        assert!(!leads("l", "m", &[["l", "m", "l"]]), "a circle");
    }

    #[test]
    fn links_that_cost_too_much_to_follow_are_refused() {
        let far = "a/".repeat(2000) + &"../".repeat(2000);
        let mut said = "9\09\0".to_owned();
        for link in 0..400 {
            let next = (link + 1) % 400;
            said.push_str(&format!("l\0l{link}\0{far}l{next}\0"));
        }
        let judged = judge_output(Payload::WorkspaceDeps, said.as_bytes(), true);
        assert_eq!(judged, Err(OutputProblem::Tangled));
    }

    #[test]
    fn everything_else_that_is_wrong_is_told() {
        let told = |judged: Result<(), OutputProblem>| judged.unwrap_err().to_string();
        insta::assert_snapshot!(told(judged(0, 9, &[])), @"the lane left nothing at /staged/linux-rust/workspace-deps");
        insta::assert_snapshot!(told(judged(1, OUTPUT_BYTES_MAX + 1, &[])), @"it holds 34359738369 bytes, and 34359738368 are allowed");
        insta::assert_snapshot!(told(judged(OUTPUT_ENTRIES_MAX + 1, 1, &[])), @"it has 1000001 files, folders and links, and 1000000 are allowed");
        insta::assert_snapshot!(told(judged(1, 1, &[["c", "d/null", ""]])), @"`d/null` is a device; a payload has files, folders and links");
        insta::assert_snapshot!(told(judged(1, 1, &[["l", "x", "/etc"]])), @"the link `x` leads out of it, to `/etc`; links of a payload stay inside it");
        let payload = Payload::WorkspaceBuild;
        for said in [&b""[..], b"x\x001\0", b"1\0\0"] {
            assert_eq!(
                judge_output(payload, said, true),
                Err(OutputProblem::Unclear)
            );
        }
        let cut = judge_output(payload, b"9\09\0l\0a\0b\0l\0c", false);
        assert_eq!(cut, Err(OutputProblem::TooManyLinks));
        assert_eq!(judged(OUTPUT_ENTRIES_MAX, OUTPUT_BYTES_MAX, &[]), Ok(()));
    }
}
