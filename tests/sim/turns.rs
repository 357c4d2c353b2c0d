//! Whose turn it is: short messages beside long transfers.

use std::time::Duration;

use fastrand::Rng;
use sockets::Config;
use sockets::Event;
use sockets::config::Log;
use sockets::connection::Close;

use crate::socket::{Client, Nature, Record};
use crate::world::{Poll, World};

/// How much one client sends that has much to send, in bytes: many reads of the hub.
const MUCH: usize = 4 << 20;

const NETWORK: Nature = Nature {
    receive_buffer: 2 * MUCH,
    send_buffer: 2 * MUCH,
    wakes_at: 1,
    interrupts: 0,
    reset_keeps_arrived: true,
    seed: 0,
};

fn taken(clients: &[Client]) -> usize {
    clients.iter().map(|client| client.record().taken).sum()
}

#[test]
fn a_short_message_waits_for_one_long_read_at_most() {
    let mut world = World::new(&Config::default(), Poll::Genuine, Rng::with_seed(0));
    let senders: Vec<Client> = (0..20).map(|_| world.accept(NETWORK).1).collect();
    let (_, visitor) = world.accept(NETWORK);
    expect_to_go_first(&mut world, &visitor, &senders, |record| record.taken);
}

/// The senders have much to send, of which `moved` tells how much the hub has read. A short message of the visitor is served
/// in the turn in which it comes, and waits for one of the long reads at most.
fn expect_to_go_first(world: &mut World, visitor: &Client, senders: &[Client], moved: fn(&Record) -> usize) {
    for sender in senders {
        sender.send(&vec![b'x'; MUCH]);
    }
    // Only now is it known of them that they have much to send.
    world.poll();
    world.turn(|_| {});
    let total = || senders.iter().map(|sender| moved(&sender.record())).sum::<usize>();
    let longest = senders.iter().map(|sender| moved(&sender.record())).max().expect("many");
    while total() < senders.len() * MUCH / 2 {
        let before = total();
        visitor.send(b"short");
        world.poll();
        world.turn(|_| {});
        assert_eq!(visitor.receive(usize::MAX), b"short", "not in the turn in which it came");
        let step = total() - before;
        assert!((1..=longest).contains(&step), "not just one of the others was served before the next look");
    }
}

#[test]
fn many_short_messages_do_not_stop_a_long_transfer() {
    let mut world = World::new(&Config::default(), Poll::Genuine, Rng::with_seed(0));
    let senders: Vec<Client> = (0..3).map(|_| world.accept(NETWORK).1).collect();
    let visitors: Vec<Client> = (0..200).map(|_| world.accept(NETWORK).1).collect();
    for sender in &senders {
        sender.send(&vec![b'x'; MUCH]);
    }
    while taken(&senders) < senders.len() * MUCH {
        let before = taken(&senders);
        for visitor in &visitors {
            visitor.send(b"short");
        }
        world.poll();
        world.turn(|_| {});
        assert!(taken(&senders) > before, "no transfer went on");
    }
}

/// The server has ended its side of these connections, and discards what still comes.
#[test]
fn a_short_message_goes_before_what_is_discarded() {
    const TIMEOUT: Duration = Duration::from_secs(1);
    let config = Config::with(|config| config.idle_timeout = Some(TIMEOUT));
    let mut world = World::new(&config, Poll::Genuine, Rng::with_seed(0));
    let senders: Vec<Client> = (0..20).map(|_| world.accept(NETWORK).1).collect();
    world.pass(TIMEOUT);
    world.turn(|event| assert!(matches!(event, Event::Closed { .. } | Event::Opened { .. }), "{event:?}"));
    while world.poll() {
        world.turn(|_| {});
    }
    let (_, visitor) = world.accept(NETWORK);
    assert!(senders.iter().all(|sender| sender.record().is_finished), "the server has not ended its side");
    expect_to_go_first(&mut world, &visitor, &senders, |record| record.discarded);
}

#[test]
fn a_quiet_server_remembers_nothing_about_messages() {
    let config = Config::with(|config| config.log = Log::Quiet);
    let mut world = World::new(&config, Poll::Genuine, Rng::with_seed(0));
    let (_, client) = world.accept(NETWORK);
    for _ in 0..3 {
        client.send(&[b'x'; 16 << 10]);
        world.poll();
        world.turn(|event| panic!("{event:?} though nobody wants to know"));
        assert_eq!((world.hub.held(), world.hub.deadline()), (0, None), "something is remembered");
    }
    client.send(b"the end\n");
    world.poll();
    world.turn(|_| {});
    assert_eq!(world.hub.traffic().messages, 1, "it was counted all the same");
}

#[test]
fn who_waits_for_its_turn_is_not_idle() {
    let config = Config::with(|config| config.idle_timeout = Some(Duration::from_secs(1)));
    let mut world = World::new(&config, Poll::Genuine, Rng::with_seed(0));
    let senders: Vec<Client> = (0..30).map(|_| world.accept(NETWORK).1).collect();
    for sender in &senders {
        sender.send(&vec![b'x'; MUCH / 4]);
    }
    while taken(&senders) < senders.len() * MUCH / 4 {
        // So slowly that a turn of all others takes longer than the timeout.
        world.pass(Duration::from_millis(100));
        world.poll();
        world.turn(|event| assert!(!matches!(event, Event::Closed { .. }), "{event:?}"));
        for sender in &senders {
            sender.receive(usize::MAX);
        }
    }
}

/// Who sends and never reads is not read from any more in the end, for its own sake or for that of all: it is idle then
/// though it has more to say.
#[test]
fn who_waits_because_it_does_not_read_is_idle() {
    const TIMEOUT: Duration = Duration::from_secs(1);
    let limits = [
        Config::with(|config| config.max_pending = 200_000),
        // There is nothing left for the others when the first one has got all.
        Config::with(|config| config.max_memory = 200_000),
    ];
    for limit in limits {
        let mut world = World::new(
            &{
                let mut config = limit;
                config.idle_timeout = Some(TIMEOUT);
                config
            },
            Poll::Genuine,
            Rng::with_seed(0),
        );
        let deaf: Vec<Client> = (0..3).map(|_| world.accept(Nature { send_buffer: 1000, ..NETWORK }).1).collect();
        for client in &deaf {
            client.send(&vec![b'x'; MUCH]);
        }
        let mut closed = 0;
        let begin = world.now;
        loop {
            while world.poll() {
                world.turn(|event| {
                    if let Event::Closed { close, .. } = event {
                        assert_eq!(close, Close::Idle);
                        closed += 1;
                    }
                });
            }
            if closed == deaf.len() {
                break;
            }
            assert!(world.sleep() && world.now <= begin + 2 * TIMEOUT, "only {closed} are closed");
        }
    }
}

/// Short lines that become long ones in the room, one batch after the other, and among them a long text.
#[test]
fn in_a_room_nobody_is_kept_from_speaking() {
    const CHATTER: usize = 32 << 10;
    const TEXT: usize = 300 << 10;
    let config = Config::with(|config| config.chat = true);
    let mut world = World::new(&config, Poll::Genuine, Rng::with_seed(0));
    let members: Vec<Client> = (0..5).map(|_| world.accept(NETWORK).1).collect();
    let line = [&[b'y'; 999][..], b"\n"].concat();
    let (speaker, chatterers) = members.split_first().expect("some");
    speaker.send(&line.repeat(TEXT / line.len()));
    for _ in 0..400 {
        for chatterer in chatterers.iter().filter(|chatterer| chatterer.unread() == 0) {
            chatterer.send(&b"x\n"[..].repeat(CHATTER / 2));
        }
        world.poll();
        world.turn(|_| {});
        for member in &members {
            member.receive(usize::MAX);
        }
    }
    let heard = speaker.record().taken;
    assert_eq!(heard, TEXT / line.len() * line.len(), "of the text only so much was heard");
}

/// A timer that is set to an earlier time leaves its old entry behind.
#[test]
fn pauses_do_not_pile_up_while_a_timeout_is_far_away() {
    let config = Config::with(|config| config.idle_timeout = Some(Duration::from_secs(86_400)));
    let mut world = World::new(&config, Poll::Genuine, Rng::with_seed(0));
    let (_, client) = world.accept(NETWORK);
    for _ in 0..20_000 {
        client.send("half a character: \u{e9}".as_bytes().split_last().expect("bytes").1);
        world.poll();
        world.turn(|_| {});
        client.receive(usize::MAX);
        assert!(world.sleep());
        world.turn(|_| {});
    }
    assert!(world.hub.timers() <= 2048, "{} timers for one client", world.hub.timers());
}

#[test]
fn a_client_that_is_gone_wakes_nobody() {
    let config = Config::with(|config| config.idle_timeout = Some(Duration::from_secs(60)));
    let mut world = World::new(&config, Poll::Genuine, Rng::with_seed(0));
    let (_, stays) = world.accept(NETWORK);
    let first = world.hub.deadline().expect("it is timed");
    world.pass(Duration::from_secs(1));
    let leave: Vec<_> = (0..3).map(|_| world.accept(NETWORK).1).collect();
    world.pass(Duration::from_secs(1));
    stays.send(b"still here\n");
    leave.iter().for_each(Client::finish);
    world.poll();
    world.turn(|_| {});
    assert_eq!((world.hub.len(), world.hub.deadline()), (1, Some(first)));
    // The timer of the one that stays comes before those of the others, and its next one behind them.
    assert!(world.sleep());
    world.turn(|_| {});
    assert_eq!(world.hub.deadline(), Some(first + Duration::from_secs(2)), "a turn for those that are gone");
    stays.finish();
    world.poll();
    world.turn(|_| {});
    assert_eq!(world.hub.deadline(), None, "a turn for one that is gone");
}
