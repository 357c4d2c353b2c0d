//! A client that sends anything at all where a TLS handshake is expected.

use std::io::ErrorKind;

use sockets::tls::server::Identity;
use sockets::transport::Stream;
use sockets::transport::tls::Tls;

use crate::socket::{Nature, connection};

/// The most bytes that may be held for it, whatever it sends: more than a record, and no message of several.
const MOST_HELD: usize = 32 << 10;

thread_local! {
    static IDENTITY: Identity = Identity::self_signed([], None).expect("it can be made").0;
}

/// Sends `bytes` in pieces of one length, which the first byte says. Each piece may be followed by as many steps as it has
/// bytes, and a few; in the end the handshake has failed.
pub(crate) fn play(bytes: &[u8]) {
    let Some((&length, bytes)) = bytes.split_first() else { return };
    let nature = Nature {
        receive_buffer: 1 << 20,
        send_buffer: 1 << 20,
        wakes_at: 1,
        interrupts: 0,
        reset_keeps_arrived: true,
        seed: 0,
    };
    let (socket, client) = connection(nature);
    let mut tls = Tls::new(socket, IDENTITY.with(Identity::config)).expect("the settings are good");
    for piece in bytes.chunks(usize::from(length) + 1) {
        assert_eq!(client.send(piece), piece.len());
        if !goes_on(&mut tls, piece.len()) {
            return;
        }
        assert!(tls.held() <= MOST_HELD, "{} bytes are held", tls.held());
    }
    client.finish();
    assert!(!goes_on(&mut tls, 0), "it waits for a client that is gone");
}

/// Takes steps until the next has to wait. Returns whether the handshake may still succeed.
fn goes_on<S: Stream>(tls: &mut Tls<S>, length: usize) -> bool {
    for _ in 0..length + 3 {
        match tls.handshake().map_err(|error| error.kind()) {
            Ok(()) => panic!("a handshake out of nothing"),
            Err(ErrorKind::Interrupted) => {}
            Err(ErrorKind::WouldBlock) => return true,
            Err(_) => {
                _ = tls.finish();
                return false;
            }
        }
    }
    panic!("it spins");
}
