//! Urgent data (RFC 6093) is in the stream like all other bytes.

use std::io::{Read, Write};
use std::net::Shutdown;

use rustix::process::Signal;
use socket2::SockRef;

use crate::harness::{Server, assert_same, rng, skipped_over_tls};

/// Sends urgent bytes among others, and expects all of them back while it keeps its side open: a read stops
/// at the urgent mark, and nobody says a second time that there is more behind it.
#[test]
fn it_comes_back_in_its_place_and_what_follows_too() {
    if skipped_over_tls("TLS has no urgent data") {
        return;
    }
    let server = Server::start(&[]);
    let mut random = rng();
    for _ in 0..50 {
        let mut stream = server.connect();
        // Stopped, the server finds all of it at once, marks and bytes behind them.
        server.process.signal(Signal::STOP);
        let mut content = Vec::new();
        for _ in 0..random.usize(1..6) {
            let part: Vec<u8> = (0..random.usize(1..2000)).map(|_| random.alphanumeric() as u8).collect();
            let count = match random.bool() {
                true => SockRef::from(&stream).send_out_of_band(&part).expect("sent"),
                false => stream.write(&part).expect("sent"),
            };
            content.extend(&part[..count]);
        }
        server.process.signal(Signal::CONT);
        let mut echo = vec![0; content.len()];
        stream.read_exact(&mut echo).expect("all of it, with the connection open");
        assert_same(&echo, &content);
        stream.shutdown(Shutdown::Write).expect("half-closed");
        crate::harness::expect_end(&mut stream);
    }
    server.stop();
}
