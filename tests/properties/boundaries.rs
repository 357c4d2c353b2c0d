//! Where messages end: where the definition says, whatever is sent and however it is cut.

use std::time::{Duration, Instant};

use fastrand::Rng;
use proptest::collection::vec;
use proptest::prelude::*;
use sockets::Config;
use sockets::Event;
use sockets::message::{PAUSE, Unfinished};

use crate::socket::{Client, Nature};
use crate::world::{Poll, World};
use crate::{any, for_all};

#[test]
fn the_hub_ends_messages_where_the_definition_says() {
    let pauses = vec(prop_oneof![Just(PAUSE), Just(PAUSE - Duration::from_millis(1)), Just(Duration::ZERO)], 1..20);
    let log_max = prop_oneof![0..40_usize, 1000..1050_usize, Just(1 << 20)];
    for_all((any::cut(any::bytes()), pauses, log_max, any::<bool>()), |(pieces, pauses, log_max, has_fin)| {
        let config = Config::with(|config| config.log_max = log_max);
        let mut world = World::new(&config, Poll::Genuine, Rng::with_seed(0));
        let (_, client) = world.accept(NATURE);
        let (mut echo, mut told, mut expected) = (Vec::new(), Vec::new(), Vec::new());
        let mut message = Vec::new();
        for (at, piece) in pieces.iter().enumerate() {
            assert_eq!(client.send(piece), piece.len());
            if has_fin && at + 1 == pieces.len() {
                client.finish();
            }
            settle(&mut world, &client, &mut echo, &mut told);
            message.extend_from_slice(piece);
            let pause = pauses[at % pauses.len()];
            if looks_whole(&message) || pause == PAUSE || at + 1 == pieces.len() {
                expected.push(std::mem::take(&mut message));
            }
            world.pass(pause);
            settle(&mut world, &client, &mut echo, &mut told);
        }
        client.finish();
        settle(&mut world, &client, &mut echo, &mut told);
        prop_assert!(world.hub.is_empty());
        prop_assert_eq!(world.hub.held(), 0);
        prop_assert_eq!(echo, pieces.concat());
        prop_assert_eq!(told.len(), expected.len());
        for ((length, text), message) in told.iter().zip(&expected) {
            prop_assert_eq!(*length, message.len() as u64);
            prop_assert!(message.starts_with(text) && text.len() >= message.len().min(log_max + 2));
        }
        Ok(())
    });
}

#[test]
fn a_message_is_the_same_however_it_is_cut() {
    for_all((any::cut(any::bytes()), vec(0..3000_usize, 1..10)), |(pieces, rooms)| {
        let now = Instant::now();
        let mut unfinished = Unfinished::new(now);
        let (mut message, mut room_so_far) = (Vec::new(), 0);
        let limit = rooms[0];
        for (at, piece) in pieces.iter().enumerate() {
            let room = rooms[at % rooms.len()];
            let was_whole = unfinished.text() == message;
            let before = unfinished.text().len();
            message.extend_from_slice(piece);
            room_so_far += room;
            let then = now + Duration::from_millis(at as u64);
            unfinished.push(piece, limit, room, then);
            prop_assert_eq!(unfinished.length(), message.len() as u64);
            // The text has no gap, keeps what there is room for, and no more.
            let text = unfinished.text();
            prop_assert!(message.starts_with(text) && text.len() <= limit.min(room_so_far));
            let least = if was_whole { (before + piece.len().min(room)).min(limit) } else { before };
            prop_assert!(text.len() >= least, "{} bytes of {least} are kept", text.len());
            prop_assert_eq!(unfinished.looks_whole(), looks_whole(&message), "after {:?}", message);
            prop_assert_eq!(unfinished.last_arrival(), then);
        }
        Ok(())
    });
}

/// A connection that takes everything at once.
const NATURE: Nature = Nature {
    receive_buffer: 1 << 20,
    send_buffer: 1 << 20,
    wakes_at: 1,
    interrupts: 0,
    reset_keeps_arrived: true,
    seed: 0,
};

/// Lets the hub work until it would wait.
fn settle(world: &mut World, client: &Client, echo: &mut Vec<u8>, told: &mut Vec<(u64, Vec<u8>)>) {
    while world.poll() {
        world.turn(|event| {
            if let Event::Message { text, length, .. } = event {
                told.push((length, text.to_vec()));
            }
        });
        echo.extend(client.receive(usize::MAX));
    }
}

/// The definition once more: short or ending in a newline, and not in the middle of a character.
fn looks_whole(message: &[u8]) -> bool {
    let is_cut = message.utf8_chunks().last().is_some_and(|last| {
        let rest = last.invalid();
        !rest.is_empty() && str::from_utf8(rest).is_err_and(|error| error.error_len().is_none())
    });
    (message.len() < 1024 || message.ends_with(b"\n")) && !is_cut
}
