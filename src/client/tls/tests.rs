//! Against a server that does nothing but what rustls does.

use std::io::Cursor;
use std::net::{TcpListener, TcpStream};
use std::thread;

use rustls::pki_types::CertificateDer;
use rustls::{ServerConnection, StreamOwned};
use sha2::{Digest, Sha256};

use super::super::{Error, Failure, Peer, Progress, Stream, Timeouts, check, connect, connect_tls, exchange};
use super::*;
use crate::tls::server::Identity;

type Server = StreamOwned<ServerConnection, TcpStream>;

/// A server that does `answer` for one connection. Returns its port and certificate.
fn serve(answer: impl FnOnce(Server) -> io::Result<()> + Send + 'static) -> (u16, CertificateDer<'static>) {
    let (identity, certificate) = Identity::self_signed([], None).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (stream, _) = listener.accept()?;
        answer(StreamOwned::new(ServerConnection::new(identity.config()).unwrap(), stream))
    });
    (port, certificate)
}

fn pinned(certificate: &CertificateDer<'_>) -> Tls {
    Tls { trust: Trust::Pin(Sha256::digest(certificate).into()), ..Tls::default() }
}

fn connected(answer: impl FnOnce(Server) -> io::Result<()> + Send + 'static) -> Peer<Stream> {
    let (port, certificate) = serve(answer);
    connect_tls("127.0.0.1", port, Timeouts::default(), &pinned(&certificate)).unwrap()
}

fn refusal(tls: &Tls, answer: impl FnOnce(Server) -> io::Result<()> + Send + 'static) -> String {
    let (port, _) = serve(answer);
    let timeouts = Timeouts { connect: Duration::from_millis(500), ..Timeouts::default() };
    match connect_tls("127.0.0.1", port, timeouts, tls) {
        Err(error @ Error::Tls { .. }) => error.to_string().replace(&format!(" {port}"), ""),
        outcome => panic!("{outcome:?}"),
    }
}

fn echo(mut server: Server) -> io::Result<()> {
    let mut buffer = vec![0; 50_000];
    loop {
        match server.read(&mut buffer)? {
            0 => break,
            count => server.write_all(&buffer[..count])?,
        }
    }
    server.conn.send_close_notify();
    server.flush()
}

#[test]
fn a_long_message_comes_back_whole() {
    let message: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(300_000).collect();
    check(Cursor::new(message.clone()), connected(echo), &Arc::default()).unwrap();
    let mut reply = Vec::new();
    exchange(Cursor::new(message.clone()), connected(echo), &mut reply, &Arc::default()).unwrap();
    assert!(reply == message);
}

#[test]
fn a_server_may_read_everything_before_it_answers() {
    let peer = connected(|mut server| {
        let mut message = Vec::new();
        server.read_to_end(&mut message)?;
        server.write_all(&message)?;
        server.conn.send_close_notify();
        server.flush()
    });
    check(Cursor::new(vec![7; 300_000]), peer, &Arc::default()).unwrap();
}

#[test]
fn a_reply_that_ends_without_close_notify_is_a_failure_though_it_is_complete() {
    let peer = connected(|mut server| {
        let mut message = Vec::new();
        // To the end: closing a socket with unread input would be a reset.
        server.read_to_end(&mut message)?;
        server.write_all(&message)
    });
    let (mut reply, progress) = (Vec::new(), Arc::new(Progress::default()));
    let error = exchange(&b"hello"[..], peer, &mut reply, &progress).unwrap_err();
    assert!(matches!(error, Error::Peer { failure: Failure::Broken(_), .. }), "{error:?}");
    assert!(error.to_string().ends_with("5 of 5 bytes came back: it ended without close_notify"), "{error}");
    assert_eq!(reply, b"hello");
}

/// By then the client has sent its end.
#[test]
fn what_breaks_the_protocol_after_the_echo_is_a_failure_in_a_sentence() {
    const BAD_RECORD: &[u8] = &[
        23, 3, 3, 0, 32, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    ];
    const PLAIN_ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 40];
    for bytes in [BAD_RECORD, PLAIN_ALERT] {
        let peer = connected(move |mut server| {
            let mut message = Vec::new();
            server.read_to_end(&mut message)?;
            server.write_all(&message)?;
            server.sock.write_all(bytes)
        });
        let mut reply = Vec::new();
        let error = exchange(&b"hello"[..], peer, &mut reply, &Arc::default()).unwrap_err();
        assert!(matches!(error, Error::Peer { failure: Failure::Broken(_), .. }), "{error:?}");
        assert_eq!(reply, b"hello");
    }
}

#[test]
fn a_server_that_is_not_accepted_is_refused_in_a_sentence() {
    let own = |tls: Trust| Tls { trust: tls, ..Tls::default() };
    let error = refusal(&own(Trust::Pin([0; 32])), echo);
    assert!(error.starts_with("no TLS with 127.0.0.1 port: the server's certificate is not the pinned one"), "{error}");

    let error = refusal(&own(Trust::Authorities("/nonexistent".into())), echo);
    assert_eq!(
        error,
        "no TLS with 127.0.0.1 port: cannot read the authorities /nonexistent: No such file or directory"
    );
    // It reads all that comes, and says nothing.
    let error = refusal(&own(Trust::Anything), |mut server| io::copy(&mut server.sock, &mut io::sink()).map(drop));
    assert_eq!(error, "no TLS with 127.0.0.1 port: the TLS handshake took too long");
    let error = refusal(&own(Trust::Anything), |server| server.sock.shutdown(Shutdown::Both));
    assert!(error.contains("ended the connection in the TLS handshake") || error.contains("reset"), "{error}");
}

#[test]
fn a_server_without_tls_is_found_out() {
    let error = refusal(&Tls { trust: Trust::Anything, ..Tls::default() }, |server| {
        let stream = server.sock;
        io::copy(&mut stream.try_clone()?, &mut &stream).map(drop)
    });
    assert_eq!(error, "no TLS with 127.0.0.1 port: the server does not speak TLS");
}

#[test]
fn without_tls_a_server_that_speaks_it_is_found_out() {
    let (port, _) = serve(|mut server| server.read(&mut [0; 9]).map(drop));
    let peer = connect("127.0.0.1", port, Timeouts::default()).unwrap();
    let error = exchange(&b"hello"[..], peer, &mut Vec::new(), &Arc::default()).unwrap_err().to_string();
    assert!(error.ends_with("it speaks TLS (use --tls)"), "{error}");
}

#[test]
fn an_echo_that_looks_like_an_alert_is_an_echo() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (stream, _) = listener.accept()?;
        io::copy(&mut stream.try_clone()?, &mut &stream)
    });
    let peer = connect("127.0.0.1", port, Timeouts::default()).unwrap();
    let alert = [21, 3, 3, 0, 2, 2, 50];
    check(Cursor::new(alert), peer, &Arc::default()).unwrap();
}
