//! An echo server as one writes it with the standard library: a thread for each connection.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;

use super::BUFFER;

pub(crate) fn serve() -> io::Result<()> {
    let listener = super::listen()?;
    listener.set_nonblocking(false)?;
    loop {
        let (stream, _) = listener.accept()?;
        thread::Builder::new().spawn(|| echo(stream))?;
    }
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count])?,
        }
    }
}
