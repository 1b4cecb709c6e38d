//! Owns the way log bytes leave this crate.

use std::io;

/// Takes a run's log as it comes. Bytes are raw: not lines, not UTF-8. `offset` is the place of the first byte in
/// the whole log; bytes come in order, each exactly once.
pub trait LogSink: Send {
    /// Takes some bytes.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
}

impl LogSink for Vec<u8> {
    fn write(&mut self, _offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// Takes a log nowhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiscardLog;

impl LogSink for DiscardLog {
    fn write(&mut self, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }
}
