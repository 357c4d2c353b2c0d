//! Listening on Unix sockets.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::net::{SocketAddrUnix, bind, connect};
use socket2::{Domain, Socket, Type};

use super::{BACKLOG, explain};
use crate::transport::unix::address;

/// How long to wait for another server that creates or removes a file in the same directory, which takes it
/// microseconds. Programs may lock a directory for other reasons, and for long.
const LOCK_TIMEOUT: Duration = Duration::from_millis(200);

/// The file of a socket. When this is dropped, the file is removed, unless it has been replaced by another one.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

/// What tells a file from those that have been or will be at its path. A number of a file that is gone is used again.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    number: u64,
    modified: (i64, i64),
}

/// Listens on the socket `name`: a path, or an abstract name behind an `@`. The file of a server that is gone is
/// replaced.
///
/// # Errors
///
/// The system's, with a reason that names the socket. A server that listens there is an error of the kind
/// [`ErrorKind::AddrInUse`].
pub(super) fn listen(name: &str) -> io::Result<(UnixListener, Option<SocketFile>)> {
    open(name).map_err(|error| explain(&error, format_args!("cannot listen on unix:{name}")))
}

fn open(name: &str) -> io::Result<(UnixListener, Option<SocketFile>)> {
    let address = address(name)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let file = if name.starts_with('@') {
        bind(&socket, &address)?;
        socket.listen(BACKLOG)?;
        None
    } else {
        Some(create(Path::new(name), &socket, &address)?)
    };
    Ok((OwnedFd::from(socket).into(), file))
}

/// Makes `socket` listen on a new file. While the directory is locked, no other server takes this file for a left-over
/// one before it is listened on, or replaces the same left-over file.
fn create(path: &Path, socket: &Socket, address: &SocketAddrUnix) -> io::Result<SocketFile> {
    let _lock = lock_directory(path);
    match bind(socket, address) {
        Err(Errno::ADDRINUSE) => {
            remove_stale(path, address)?;
            bind(socket, address)?;
        }
        outcome => outcome?,
    }
    socket.listen(BACKLOG)?;
    Ok(SocketFile { path: path.to_owned(), identity: Identity::of(path)? })
}

/// Removes the file of a socket on which nobody listens.
fn remove_stale(path: &Path, address: &SocketAddrUnix) -> io::Result<()> {
    // A symbolic link is not followed: it is not ours to remove.
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(ErrorKind::AlreadyExists, "there is a file that is not a socket"));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match connect(&probe, address) {
        Err(Errno::CONNREFUSED) => fs::remove_file(path),
        // A server that is busy has no place for the connection.
        Ok(()) | Err(Errno::AGAIN) => Err(io::Error::new(ErrorKind::AddrInUse, "a server listens there")),
        Err(error) => Err(error.into()),
    }
}

/// Keeps servers of this crate from changing files in the directory of `path` until the descriptor is dropped. `None`
/// if it cannot be locked: then nothing tells when two of them replace one file at the same moment.
fn lock_directory(path: &Path) -> Option<fs::File> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    let directory = fs::File::open(directory.unwrap_or(Path::new("."))).ok()?;
    let begin = Instant::now();
    while let Err(error) = flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        if error != Errno::WOULDBLOCK || begin.elapsed() > LOCK_TIMEOUT {
            return None;
        }
        thread::sleep(Duration::from_millis(1));
    }
    Some(directory)
}

impl Identity {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Ok(Self { device: metadata.dev(), number: metadata.ino(), modified })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _lock = lock_directory(&self.path);
        if Identity::of(&self.path).is_ok_and(|identity| identity == self.identity) {
            // Where this fails, the next server replaces the file.
            _ = fs::remove_file(&self.path);
        }
    }
}
