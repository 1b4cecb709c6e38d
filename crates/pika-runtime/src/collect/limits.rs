//! Owns the limits of what is taken in from a guest, and the check of a name in it. Pure.

use std::fmt;

/// Bounds on one collection. Every one of them is enforced on the host, whatever the guest promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectLimits {
    /// Largest single file, in bytes.
    pub file_bytes_max: u64,
    /// All files together, in bytes.
    pub total_bytes_max: u64,
    /// Number of files.
    pub files_max: u64,
    /// Longest name, in bytes.
    pub name_bytes_max: usize,
    /// Most components in a name.
    pub name_components_max: usize,
    /// How many refusals are listed; further ones are only counted.
    pub refusals_listed_max: usize,
}

impl Default for CollectLimits {
    fn default() -> Self {
        Self {
            file_bytes_max: 512 << 20,
            total_bytes_max: 1 << 30,
            files_max: 10_000,
            name_bytes_max: 1024,
            name_components_max: 32,
            refusals_listed_max: 100,
        }
    }
}

impl CollectLimits {
    /// Most bytes that an archive within these limits can have on the wire: contents, and for each file a
    /// header, an extended header and padding.
    pub fn wire_bytes_max(&self) -> u64 {
        self.total_bytes_max
            .saturating_add(self.files_max.saturating_mul(4096))
            .saturating_add(1 << 20)
    }
}

/// Why a name from a guest was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRefusal {
    /// No bytes, or nothing but dots and slashes.
    Empty,
    /// Starts with a slash.
    Absolute,
    /// Has a `..` component.
    Parent,
    /// Has an empty or `.` component.
    NotNormal,
    /// Has a NUL byte.
    Nul,
    /// Longer than the limit, or a component longer than 255 bytes.
    TooLong,
    /// More components than the limit.
    TooDeep,
}

impl fmt::Display for NameRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty name",
            Self::Absolute => "absolute name",
            Self::Parent => "name with a parent component",
            Self::NotNormal => "name with an empty or dot component",
            Self::Nul => "name with a NUL byte",
            Self::TooLong => "name too long",
            Self::TooDeep => "name too deep",
        })
    }
}

/// Checks a relative name from a guest and returns its components. Names are bytes; they need not be UTF-8.
pub fn check_name<'a>(
    name: &'a [u8],
    limits: &CollectLimits,
) -> Result<Vec<&'a [u8]>, NameRefusal> {
    let name = name.strip_prefix(b"./").unwrap_or(name);
    if name.is_empty() || name == b"." {
        return Err(NameRefusal::Empty);
    }
    if name[0] == b'/' {
        return Err(NameRefusal::Absolute);
    }
    if name.len() > limits.name_bytes_max {
        return Err(NameRefusal::TooLong);
    }
    if name.contains(&0) {
        return Err(NameRefusal::Nul);
    }
    let mut components = Vec::new();
    for component in name.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => return Err(NameRefusal::NotNormal),
            b".." => return Err(NameRefusal::Parent),
            long if long.len() > 255 => return Err(NameRefusal::TooLong),
            _ => components.push(component),
        }
        if components.len() > limits.name_components_max {
            return Err(NameRefusal::TooDeep);
        }
    }
    Ok(components)
}

/// A name as it may be shown: UTF-8 as it is, control characters, backslashes and invalid bytes as `\xNN`.
pub fn show_name(name: &[u8]) -> String {
    let mut shown = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() || character == '\\' {
                let mut buffer = [0; 4];
                for byte in character.encode_utf8(&mut buffer).bytes() {
                    shown.push_str(&format!("\\x{byte:02x}"));
                }
            } else {
                shown.push(character);
            }
        }
        for byte in chunk.invalid() {
            shown.push_str(&format!("\\x{byte:02x}"));
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_name_gives_its_components() {
        let limits = CollectLimits::default();
        assert_eq!(
            check_name(b"artifacts/a b/\xff.txt", &limits).unwrap(),
            [&b"artifacts"[..], b"a b", b"\xff.txt"]
        );
        assert_eq!(
            check_name(b"./result.json", &limits).unwrap(),
            [&b"result.json"[..]]
        );
    }

    #[test]
    fn a_name_that_could_lead_elsewhere_is_refused() {
        let limits = CollectLimits {
            name_bytes_max: 600,
            name_components_max: 3,
            ..CollectLimits::default()
        };
        let long = [b'a'; 256];
        for (name, why) in [
            (&b""[..], NameRefusal::Empty),
            (b".", NameRefusal::Empty),
            (b"./", NameRefusal::Empty),
            (b"/etc/passwd", NameRefusal::Absolute),
            (b".//etc/passwd", NameRefusal::Absolute),
            (b"..", NameRefusal::Parent),
            (b"a/../../b", NameRefusal::Parent),
            (b"a//b", NameRefusal::NotNormal),
            (b"a/./b", NameRefusal::NotNormal),
            (b"a/", NameRefusal::NotNormal),
            (b"a\0b", NameRefusal::Nul),
            (&long[..], NameRefusal::TooLong),
            (&[b'a'; 601][..], NameRefusal::TooLong),
            (b"a/b/c/d", NameRefusal::TooDeep),
        ] {
            assert_eq!(check_name(name, &limits), Err(why), "{}", show_name(name));
        }
    }

    #[test]
    fn a_shown_name_has_no_control_character_and_tells_names_apart() {
        assert_eq!(show_name(b"a\n\x1b[31m\xff\\"), "a\\x0a\\x1b[31m\\xff\\x5c");
        assert_ne!(show_name(b"\xff"), show_name(b"\\xff"));
        assert_eq!(show_name("gr\u{fc}n".as_bytes()), "gr\u{fc}n");
    }
}
