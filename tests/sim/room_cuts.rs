//! What a member says does not depend on how the network cuts it into pieces: every way to cut a short script is
//! tried.

use std::time::Duration;

use fastrand::Rng;
use sockets::Config;
use sockets::Event;

use crate::socket::{Client, Nature};
use crate::world::{Poll, World};

/// What somebody sends and how long its lines may be, and what it, a member called `bo`, another one and the operator
/// are told then.
struct Script {
    sent: &'static [u8],
    max_line: usize,
    told: [&'static str; 4],
}

const SCRIPTS: [Script; 8] = [
    Script {
        sent: b"a\r\n//b\n/who",
        max_line: 10,
        told: [
            "* here: user1, bo, user3\n",
            "<user1> a\n<user1> /b\n* user1 left\n",
            "<user1> a\n<user1> /b\n* user1 left\n",
            "<user1> a\n<user1> /b\n* user1 left\n",
        ],
    },
    Script {
        sent: "/name \u{e9}\nx".as_bytes(),
        max_line: 10,
        told: [
            "* user1 is now \u{e9}\n",
            "* user1 is now \u{e9}\n<\u{e9}> x\n* \u{e9} left\n",
            "* user1 is now \u{e9}\n<\u{e9}> x\n* \u{e9} left\n",
            "* user1 is now \u{e9}\n<\u{e9}> x\n* \u{e9} left\n",
        ],
    },
    Script {
        sent: b"abcd\nabc\r\nx",
        max_line: 3,
        told: [
            "* line too long (limit 3 bytes), not sent\n",
            "<user1> abc\n<user1> x\n* user1 left\n",
            "<user1> abc\n<user1> x\n* user1 left\n",
            "<user1> abc\n<user1> x\n* user1 left\n",
        ],
    },
    Script {
        sent: b"x\r\nabcdefgh",
        max_line: 3,
        told: [
            "* line too long (limit 3 bytes), not sent\n",
            "<user1> x\n* user1 left\n",
            "<user1> x\n* user1 left\n",
            "<user1> x\n* user1 left\n",
        ],
    },
    Script {
        sent: b"/msg BO h\ni",
        max_line: 10,
        told: [
            "<user1 -> bo> h\n",
            "<user1 -> bo> h\n<user1> i\n* user1 left\n",
            "<user1> i\n* user1 left\n",
            "<user1> i\n* user1 left\n",
        ],
    },
    Script {
        sent: b"\n\r\n\xf0\x9f\n\r\r\n",
        max_line: 10,
        told: [
            "",
            "<user1> \\xf0\\x9f\n<user1> \\r\n* user1 left\n",
            "<user1> \\xf0\\x9f\n<user1> \\r\n* user1 left\n",
            "<user1> \\xf0\\x9f\n<user1> \\r\n* user1 left\n",
        ],
    },
    Script {
        sent: b"1\n/quit\n2\n3",
        max_line: 10,
        told: ["", "<user1> 1\n* user1 left\n", "<user1> 1\n* user1 left\n", "<user1> 1\n* user1 left\n"],
    },
    Script {
        sent: b"/\n/x y\n /who",
        max_line: 10,
        told: [
            "* no such command: /; try /help\n* no such command: /x; try /help\n",
            "<user1>  /who\n* user1 left\n",
            "<user1>  /who\n* user1 left\n",
            "<user1>  /who\n* user1 left\n",
        ],
    },
];

#[test]
fn every_way_to_cut_a_short_script_gives_the_same_room() {
    // Without optimization, all of them take too long.
    const STEP: usize = if cfg!(debug_assertions) { 5 } else { 1 };
    for Script { sent, max_line, told } in SCRIPTS {
        for cuts in (0..1_u32 << (sent.len() - 1)).step_by(STEP) {
            let mut pieces = vec![vec![sent[0]]];
            for (at, &byte) in sent[1..].iter().enumerate() {
                if cuts & (1 << at) != 0 {
                    pieces.push(Vec::new());
                }
                pieces.last_mut().expect("there is one").push(byte);
            }
            for ends_at_once in [true, false] {
                let all = play(&pieces, ends_at_once, max_line);
                assert_eq!(all, told, "{pieces:?}, the end at once: {ends_at_once}");
            }
        }
    }
}

/// Sends `pieces` to a room, each when the one before it has been dealt with, and the end with the last one or after
/// it. Returns what the sender, the two others and the operator are told.
fn play(pieces: &[Vec<u8>], ends_at_once: bool, max_line: usize) -> [String; 4] {
    let config = Config::with(|config| {
        config.chat = true;
        config.max_line = max_line;
    });
    let mut world = World::new(&config, Poll::Genuine, Rng::with_seed(0));
    let nature = Nature {
        receive_buffer: 1000,
        send_buffer: 1000,
        wakes_at: 1,
        interrupts: 0,
        reset_keeps_arrived: true,
        seed: 0,
    };
    let clients = [(); 3].map(|()| world.accept(nature.clone()).1);
    let mut shown = String::new();
    settle(&mut world, &mut shown);
    // Until all of them are announced.
    world.pass(Duration::from_secs(1));
    clients[1].send(b"/name bo\n");
    settle(&mut world, &mut shown);
    for client in &clients {
        client.receive(1000);
    }
    shown.clear();

    for (at, piece) in pieces.iter().enumerate() {
        assert_eq!(clients[0].send(piece), piece.len());
        if ends_at_once && at + 1 == pieces.len() {
            clients[0].finish();
        }
        settle(&mut world, &mut shown);
    }
    clients[0].finish();
    settle(&mut world, &mut shown);
    let told = |client: &Client| String::from_utf8(client.receive(1000)).expect("what is told is text");
    let [sender, bo, other] = clients.each_ref().map(told);
    [sender, bo, other, shown]
}

/// Lets the hub work until it would wait.
fn settle(world: &mut World, shown: &mut String) {
    while world.poll() {
        world.turn(|event| {
            if let Event::Room { notice, .. } = event {
                let line = notice.to_string();
                shown.push_str(&line);
                shown.push('\n');
            }
        });
    }
}
