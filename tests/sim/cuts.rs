//! Where messages end does not depend on how the network cuts what was sent into pieces, except where the
//! definition says so: every way to cut a short input is tried.

use fastrand::Rng;
use sockets::Config;
use sockets::Event;
use sockets::message::PAUSE;

use crate::socket::{Client, Nature};
use crate::world::{Poll, World};

/// Characters of one, two, three and four bytes, both line endings, and bytes that are no UTF-8.
const INPUTS: [&[u8]; 4] = [
    "aé\r\n👍b\n".as_bytes(),
    "👍€\r\né\n".as_bytes(),
    b"\xf0\x9f\xc3\xa9\xff\n\xe2\x82a\xc3",
    b"\n\n\r\n\n\xc3\xa9\r\n",
];

/// How the pieces follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// Each comes when the one before it has been echoed.
    Quick,
    /// The same, and FIN comes with the last one.
    QuickWithFin,
    /// Each comes after a pause that ends every message.
    Slow,
}

#[test]
fn every_way_to_cut_an_input_gives_its_echo_and_its_messages() {
    for input in INPUTS {
        for cuts in 0..1_u32 << (input.len() - 1) {
            let mut pieces = vec![vec![input[0]]];
            for (at, &byte) in input[1..].iter().enumerate() {
                if cuts & (1 << at) != 0 {
                    pieces.push(Vec::new());
                }
                pieces.last_mut().expect("there is one").push(byte);
            }
            for pace in [Pace::Quick, Pace::QuickWithFin, Pace::Slow] {
                let (echo, told) = exchange(&pieces, pace);
                assert_eq!(echo, input, "{pieces:?}, {pace:?}");
                assert_eq!(told, messages(&pieces, pace), "{pieces:?}, {pace:?}");
            }
        }
    }
}

/// The messages that the definition makes of `pieces`.
fn messages(pieces: &[Vec<u8>], pace: Pace) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    let mut message = Vec::new();
    for (at, piece) in pieces.iter().enumerate() {
        message.extend_from_slice(piece);
        let is_last = at + 1 == pieces.len();
        let is_cut = message.utf8_chunks().last().is_some_and(|chunk| {
            let rest = chunk.invalid();
            !rest.is_empty() && str::from_utf8(rest).is_err_and(|error| error.error_len().is_none())
        });
        if !is_cut || pace == Pace::Slow || is_last {
            messages.push(std::mem::take(&mut message));
        }
    }
    messages
}

/// Sends `pieces` to a hub; returns the echo and the messages that were told.
fn exchange(pieces: &[Vec<u8>], pace: Pace) -> (Vec<u8>, Vec<Vec<u8>>) {
    let config = Config::with(|config| config.log_max = 100);
    let mut world = World::new(&config, Poll::Genuine, Rng::with_seed(0));
    let nature = Nature {
        receive_buffer: 100,
        send_buffer: 100,
        wakes_at: 1,
        interrupts: 0,
        reset_keeps_arrived: true,
        seed: 0,
    };
    let (_, client) = world.accept(nature);
    let (mut echo, mut told) = (Vec::new(), Vec::new());
    for (at, piece) in pieces.iter().enumerate() {
        assert_eq!(client.send(piece), piece.len());
        if pace == Pace::QuickWithFin && at + 1 == pieces.len() {
            client.finish();
        }
        settle(&mut world, &client, &mut echo, &mut told);
        if pace == Pace::Slow {
            world.pass(PAUSE);
            settle(&mut world, &client, &mut echo, &mut told);
        }
    }
    client.finish();
    settle(&mut world, &client, &mut echo, &mut told);
    assert!(world.hub.is_empty() && world.hub.held() == 0);
    (echo, told)
}

/// Lets the hub work until it would wait.
fn settle(world: &mut World, client: &Client, echo: &mut Vec<u8>, told: &mut Vec<Vec<u8>>) {
    while world.poll() {
        world.turn(|event| {
            if let Event::Message { text, length, .. } = event {
                assert_eq!(text.len() as u64, length);
                told.push(text.to_vec());
            }
        });
        echo.extend(client.receive(100));
    }
}
