//! Owns one connection to a service on the guest's own loopback address, carried over stdin and stdout: the way in for a host
//! that has no other one to the guest than Incus's.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use pika_cloud::relay::CONNECTED;

/// How long the service may take to take the connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Bytes carried at once.
const PIECE: usize = 64 * 1024;

/// Connects, says so on `said`, and carries until the service ends its side.
///
/// # Errors
/// When the service takes no connection, or one of the sides breaks.
pub fn run(port: u16, said: &mut impl Write) -> io::Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let service = TcpStream::connect_timeout(&address, CONNECT_LIMIT)?;
    service.set_nodelay(true)?;
    said.write_all(CONNECTED.as_bytes())?;
    said.flush()?;
    let mut inward = service.try_clone()?;
    // Not joined: it may wait for input that never comes, and ends with the process.
    thread::spawn(move || {
        // A service that is gone is told by its other half.
        drop(carry(&mut io::stdin().lock(), &mut inward));
        drop(inward.shutdown(Shutdown::Write));
    });
    carry(&mut &service, &mut io::stdout().lock())
}

fn carry(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(read) => {
                to.write_all(&piece[..read])?;
                to.flush()?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
