//! A session with a server whose certificate changes.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::harness::{Certificates, accept_in_time, listener};
use crate::session_person::Person;

/// Does the server's side of the handshake.
fn serve(stream: TcpStream, own: &Certificates) -> io::Result<StreamOwned<ServerConnection, TcpStream>> {
    let certificate = CertificateDer::from_pem_file(&own.server[0]).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(&own.server[1]).expect("a key");
    let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
    let config = builder.with_single_cert(vec![certificate], key).expect("they belong together");
    let mut peer = StreamOwned::new(ServerConnection::new(Arc::new(config)).expect("good settings"), stream);
    while peer.conn.is_handshaking() {
        peer.conn.complete_io(&mut peer.sock)?;
    }
    Ok(peer)
}

/// A certificate that is not accepted does not mend by itself, but there may be another one.
#[test]
fn what_is_wrong_with_the_certificate_of_a_restarted_server_is_said_once() {
    let (listener, port) = listener();
    let (own, other) = (Certificates::shared(), Certificates::new());
    let options = [&own.client_options()[..], &["--reconnect"]].concat();
    let connected = std::thread::spawn(move || serve(accept_in_time(&listener), own).map(|peer| (listener, peer)));
    let mut ann = Person::connect(port, &options);
    let (listener, peer) = connected.join().expect("no panic").expect("a handshake");
    drop(peer);
    for _ in 0..2 {
        serve(accept_in_time(&listener), &other).expect_err("it is not accepted");
    }
    let mut peer = serve(accept_in_time(&listener), own).expect("a handshake");
    peer.write_all(b"here again\n").expect("sent");
    ann.wait_for("here again\n");
    let shown = String::from_utf8_lossy(&ann.bytes()).into_owned();
    assert_eq!(shown.matches("* no TLS with 127.0.0.1 port").count(), 1, "{shown}");
    assert!(shown.contains("the certificate was not accepted: "), "{shown}");
    ann.type_in("\x03");
    assert_eq!(ann.expect_end().0, Some(130));
}
