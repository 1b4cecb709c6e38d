//! The framing of the store's binary files: fixed-width little-endian numbers, and bytes with their length before
//! them. Owns no format; a file that is cut short or damaged gives `None`, never a panic or a large allocation.

use super::entry::{Content, Time};

/// Writes a file's text.
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn new(magic: &[u8], capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(magic.len() + capacity);
        bytes.extend_from_slice(magic);
        Self { bytes }
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn time(&mut self, time: Time) {
        self.bytes.extend_from_slice(&time.secs.to_le_bytes());
        self.u32(time.nanos);
    }

    pub(super) fn content(&mut self, content: &Content) {
        self.bytes.extend_from_slice(content);
    }

    pub(super) fn framed(&mut self, bytes: &[u8]) {
        self.u64(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads a file's text.
pub(super) struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    /// `None` when the text doesn't begin with `magic`.
    pub(super) fn new(magic: &[u8], bytes: &'a [u8]) -> Option<Self> {
        let left = bytes.strip_prefix(magic)?;
        Some(Self { left })
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.left.split_at_checked(count)?;
        self.left = left;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn time(&mut self) -> Option<Time> {
        let secs = self.array().map(i64::from_le_bytes)?;
        let nanos = self.u32()?;
        Some(Time { secs, nanos })
    }

    pub(super) fn content(&mut self) -> Option<Content> {
        self.array()
    }

    pub(super) fn framed(&mut self) -> Option<&'a [u8]> {
        let length = self.u64()?;
        self.take(usize::try_from(length).ok()?)
    }

    /// How many things of at least `bytes_min` bytes can still come; bounds what is reserved for them.
    pub(super) fn count_max(&self, bytes_min: usize) -> usize {
        self.left.len() / bytes_min.max(1)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.left.is_empty()
    }
}
