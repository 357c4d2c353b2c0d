//! An echo server as one writes it with tokio-rustls: a task for each connection, all on one thread.

use std::io;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::BUFFER;

pub(crate) fn serve(folder: &Path) -> io::Result<()> {
    let acceptor = TlsAcceptor::from(super::tls_config(folder)?);
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(accept(acceptor))
}

async fn accept(acceptor: TlsAcceptor) -> io::Result<()> {
    let listener = TcpListener::from_std(super::listen()?)?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(echo(stream, acceptor.clone()));
    }
}

async fn echo(stream: TcpStream, acceptor: TlsAcceptor) -> io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut buffer = vec![0; BUFFER];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return stream.shutdown().await,
            count => stream.write_all(&buffer[..count]).await?,
        }
        stream.flush().await?;
    }
}
