//! Owns the reading of a tar stream that a hostile guest may have written. Bounded in every respect: names,
//! sizes, counts, extended headers and bytes on the wire. Takes regular files only and never touches a file
//! system itself: what it accepts goes to an [`ArchiveSink`].
//!
//! A parser of our own because the limits are the point: a general one keeps a long name of any length in
//! memory, or makes links and devices when asked to.

use std::io::{self, Read};

use super::limits::{CollectLimits, check_name};

const BLOCK: usize = 512;
/// Largest extended header (a long name, a pax record) that is read, in bytes.
const EXTENDED_BYTES_MAX: u64 = 64 << 10;

/// Takes what an archive holds.
pub trait ArchiveSink {
    /// Begins a regular file. `components` passed the name check. An error refuses this file alone.
    fn begin(&mut self, components: &[&[u8]], size: u64) -> Result<(), String>;
    /// Some of the file's bytes. An error here ends the collection: the host can't write.
    fn data(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// The file is whole.
    fn end(&mut self) -> io::Result<()>;
    /// The file that was begun will not come whole; forget it.
    fn abort(&mut self);
    /// An entry was not taken.
    fn refused(&mut self, name: &[u8], why: String);
}

/// How the reading ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArchiveEnd {
    /// The archive's end was there.
    Whole,
    /// A limit was reached; what came before was taken.
    Limit(&'static str),
    /// The stream ended or was damaged in the middle; what came before was taken.
    Torn(String),
}

/// Reads a whole archive into `sink`. Returns an error only if the host could not write or read.
pub fn read_archive(
    input: &mut impl Read,
    limits: &CollectLimits,
    sink: &mut impl ArchiveSink,
) -> io::Result<ArchiveEnd> {
    let input = Bounded {
        input,
        left: limits.wire_bytes_max(),
    };
    Reader {
        input,
        limits,
        sink,
        files: 0,
        bytes: 0,
        entries: 0,
    }
    .run()
}

/// Passes at most `left` bytes.
struct Bounded<'a, R> {
    input: &'a mut R,
    left: u64,
}

/// Why reading stopped before the archive's end.
enum Stop {
    Host(io::Error),
    End(ArchiveEnd),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Host(error)
    }
}

fn torn(why: impl Into<String>) -> Stop {
    Stop::End(ArchiveEnd::Torn(why.into()))
}

impl<R: Read> Bounded<'_, R> {
    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), Stop> {
        if (buffer.len() as u64) > self.left {
            return Err(Stop::End(ArchiveEnd::Limit("bytes on the wire")));
        }
        self.left -= buffer.len() as u64;
        match self.input.read_exact(buffer) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(torn("the stream ended in the middle"))
            }
            other => Ok(other?),
        }
    }
}

struct Reader<'a, R, S> {
    input: Bounded<'a, R>,
    limits: &'a CollectLimits,
    sink: &'a mut S,
    files: u64,
    bytes: u64,
    entries: u64,
}

/// What extended headers said about the next entry.
#[derive(Default)]
struct Extended {
    name: Option<Vec<u8>>,
    size: Option<u64>,
}

impl<R: Read, S: ArchiveSink> Reader<'_, R, S> {
    fn run(mut self) -> io::Result<ArchiveEnd> {
        match self.entries() {
            Ok(()) => Ok(ArchiveEnd::Whole),
            Err(Stop::End(end)) => Ok(end),
            Err(Stop::Host(error)) => Err(error),
        }
    }

    fn entries(&mut self) -> Result<(), Stop> {
        let mut extended = Extended::default();
        loop {
            let mut block = [0; BLOCK];
            self.input.fill(&mut block)?;
            if block.iter().all(|byte| *byte == 0) {
                return Ok(());
            }
            let header =
                Header::read(&block).ok_or_else(|| torn("a header that is no tar header"))?;
            self.entries += 1;
            if self.entries > self.limits.files_max.saturating_mul(4) {
                return Err(Stop::End(ArchiveEnd::Limit("number of entries")));
            }
            match header.kind {
                b'x' => self.pax(header.size, &mut extended)?,
                b'L' => {
                    let mut name = self.extended(header.size)?;
                    name.truncate(
                        name.iter()
                            .position(|byte| *byte == 0)
                            .unwrap_or(name.len()),
                    );
                    extended.name = Some(name);
                }
                b'g' | b'K' => drop(self.extended(header.size)?),
                kind => {
                    let said = std::mem::take(&mut extended);
                    let name = said.name.unwrap_or(header.name);
                    self.entry(kind, &name, said.size.unwrap_or(header.size))?;
                }
            }
        }
    }

    fn entry(&mut self, kind: u8, name: &[u8], size: u64) -> Result<(), Stop> {
        let why = match kind {
            b'0' | 0 => None,
            b'5' => return self.skip(size),
            b'1' => Some("a hard link"),
            b'2' => Some("a symbolic link"),
            b'3' | b'4' => Some("a device"),
            b'6' => Some("a FIFO"),
            _ => Some("not a regular file"),
        };
        if let Some(why) = why {
            self.sink.refused(name, why.to_owned());
            return self.skip(if matches!(kind, b'1'..=b'6') { 0 } else { size });
        }
        let components = match check_name(name, self.limits) {
            Ok(components) => components,
            Err(why) => {
                self.sink.refused(name, why.to_string());
                return self.skip(size);
            }
        };
        if self.files >= self.limits.files_max {
            return Err(Stop::End(ArchiveEnd::Limit("number of files")));
        }
        if size > self.limits.file_bytes_max {
            self.sink.refused(
                name,
                format!(
                    "{size} bytes, over the limit of {} for a file",
                    self.limits.file_bytes_max
                ),
            );
            return self.skip(size);
        }
        if self.bytes.saturating_add(size) > self.limits.total_bytes_max {
            return Err(Stop::End(ArchiveEnd::Limit("bytes in all")));
        }
        if let Err(why) = self.sink.begin(&components, size) {
            self.sink.refused(name, why);
            return self.skip(size);
        }
        self.files += 1;
        self.bytes += size;
        match self.content(size) {
            Ok(()) => Ok(self.sink.end()?),
            Err(stop) => {
                self.sink.abort();
                Err(stop)
            }
        }
    }

    fn content(&mut self, size: u64) -> Result<(), Stop> {
        let mut buffer = vec![0; 64 << 10];
        let mut left = size;
        while left > 0 {
            let part = &mut buffer[..left.min(64 << 10) as usize];
            self.input.fill(part)?;
            self.sink.data(part)?;
            left -= part.len() as u64;
        }
        self.padding(size)
    }

    fn skip(&mut self, size: u64) -> Result<(), Stop> {
        let mut buffer = vec![0; 64 << 10];
        let mut left = size;
        while left > 0 {
            let part = &mut buffer[..left.min(64 << 10) as usize];
            self.input.fill(part)?;
            left -= part.len() as u64;
        }
        self.padding(size)
    }

    fn padding(&mut self, size: u64) -> Result<(), Stop> {
        let mut rest = [0; BLOCK];
        let odd = (size % BLOCK as u64) as usize;
        if odd > 0 {
            self.input.fill(&mut rest[odd..])
        } else {
            Ok(())
        }
    }

    fn extended(&mut self, size: u64) -> Result<Vec<u8>, Stop> {
        if size > EXTENDED_BYTES_MAX {
            return Err(Stop::End(ArchiveEnd::Limit("size of an extended header")));
        }
        let mut bytes = vec![0; size as usize];
        self.input.fill(&mut bytes)?;
        self.padding(size)?;
        Ok(bytes)
    }

    /// Records of the form `LENGTH KEY=VALUE\n`, the length in decimal and counting itself.
    fn pax(&mut self, size: u64, extended: &mut Extended) -> Result<(), Stop> {
        let bytes = self.extended(size)?;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let record = pax_record(rest).ok_or_else(|| torn("a damaged pax record"))?;
            match record.key {
                b"path" => extended.name = Some(record.value.to_vec()),
                b"size" => {
                    extended.size =
                        Some(decimal(record.value).ok_or_else(|| torn("a damaged pax size"))?)
                }
                _ => {}
            }
            rest = &rest[record.length..];
        }
        Ok(())
    }
}

struct PaxRecord<'a> {
    length: usize,
    key: &'a [u8],
    value: &'a [u8],
}

fn pax_record(bytes: &[u8]) -> Option<PaxRecord<'_>> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&bytes[..space])?).ok()?;
    let body = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    Some(PaxRecord {
        length,
        key: &body[..equals],
        value: &body[equals + 1..],
    })
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

struct Header {
    name: Vec<u8>,
    size: u64,
    kind: u8,
}

impl Header {
    fn read(block: &[u8; BLOCK]) -> Option<Self> {
        let sum: u64 = block
            .iter()
            .enumerate()
            .map(|(at, byte)| {
                u64::from(if (148..156).contains(&at) {
                    b' '
                } else {
                    *byte
                })
            })
            .sum();
        if number(&block[148..156])? != sum {
            return None;
        }
        let mut name = text(&block[..100]).to_vec();
        // Old GNU archives keep other things where ustar keeps the prefix.
        if &block[257..263] == b"ustar\0" && block[345] != 0 {
            let mut whole = text(&block[345..500]).to_vec();
            whole.push(b'/');
            whole.append(&mut name);
            name = whole;
        }
        Some(Self {
            name,
            size: number(&block[124..136])?,
            kind: block[156],
        })
    }
}

fn text(field: &[u8]) -> &[u8] {
    &field[..field
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(field.len())]
}

/// An octal number ended by space or NUL, or GNU's base-256 form with the top bit set.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let mut value: u64 = u64::from(field[0] & 0x7f);
        for byte in &field[1..] {
            value = value.checked_mul(256)?.checked_add(u64::from(*byte))?;
        }
        return Some(value);
    }
    let digits = text(field).trim_ascii();
    if digits.is_empty() {
        return Some(0);
    }
    if !digits.iter().all(|byte| (b'0'..=b'7').contains(byte)) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
