//! What the system does to a server under load.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use std::{cell::RefCell, net::Shutdown};

use mio::net::TcpStream;
use rustix::process::Signal;

use crate::attackers::{Kind, attack};
use crate::engine::{Actor, Engine, Next, Stage, StopOnDrop, ready};
use crate::harness::{LIMITED, Server, cpu_time, memory, server_command_under, soft_and_hard_descriptors};
use crate::honest::{Content, Farewell, Honest};
use crate::hostile::talk;
use crate::measure::{Footprint, MIB, PATIENCE, Times, address, alone, seed, start, unnoticed};

#[test]
#[ignore = "takes 15 s"]
fn honest_clients_do_not_notice_that_others_hold_all_the_memory() {
    let _alone = alone();
    let seed = seed();
    let server = start(&["--quiet", "--max-memory", "8MiB"]);
    let at_first = Footprint::warm(&server);
    let pause = Duration::from_millis(5);
    let before = talk(&server, seed, 20, pause, Duration::from_secs(3));
    let (port, stop) = (server.port, AtomicBool::new(false));
    let during = thread::scope(|scope| {
        let attack = scope.spawn(|| attack(port, &[(Kind::NeverReads, 200)], seed ^ 1, &stop));
        let _stop = StopOnDrop(&stop);
        let during = talk(&server, seed ^ 2, 20, pause, Duration::from_secs(10));
        stop.store(true, Ordering::Relaxed);
        attack.join().expect("no panic");
        during
    });
    let most = memory(server.process.pid(), "VmHWM") - at_first.memory;
    let at_last = Footprint::settled(&server, at_first.descriptors);
    println!("memory: 20 honest clients alone: {before}");
    println!("memory: beside 200 that do not read, --max-memory 8MiB: {during}");
    println!("memory: {at_first} before, at most {} MiB more, {at_last} after", most / MIB);
    // 64 KiB for each, those that are gone but not noticed yet included, and what the allocator wastes.
    assert!(most < (8 + 2 * 14 + 8) * MIB, "{} MiB were held", most / MIB);
    assert!(during.per_mille(999) < unnoticed(&before), "honest clients waited");
    server.stop_by(Signal::TERM);
}

#[test]
#[ignore = "takes 15 s"]
fn a_server_that_is_stopped_and_continued_goes_on_where_it_was() {
    const STOPPED: Duration = Duration::from_secs(10);
    let _alone = alone();
    let server = start(&["--quiet"]);
    let mut engine = Engine::new(seed());
    let add = |engine: &mut Engine, count: usize| {
        for number in 0..count {
            let honest = Honest::lasting(&mut engine.stage, Duration::from_millis(2));
            engine.connect(0, address(server.port, number), Box::new(honest));
        }
    };
    let patience = STOPPED + PATIENCE;
    let go_on = |engine: &mut Engine, period| engine.run(Instant::now() + period, patience, &mut |_, _| None);
    add(&mut engine, 100);
    go_on(&mut engine, Duration::from_secs(1));
    server.process.signal(Signal::STOP);
    // Others come while it stands still.
    add(&mut engine, 100);
    go_on(&mut engine, STOPPED);
    let stood_still = engine.stage.times.len();
    server.process.signal(Signal::CONT);
    go_on(&mut engine, Duration::from_secs(2));
    let after = engine.stage.times.len() - stood_still;
    engine.stage.is_over = true;
    engine.run_to_end(patience);
    let times = Times::of(engine.stage.times);
    println!("SIGSTOP: 200 clients, {STOPPED:?} of standing still, {after} round trips in the 2 s after it: {times}");
    assert!(times.per_mille(1000) >= STOPPED - Duration::from_secs(1), "it did not stand still");
    assert!(after > 2000, "it did not get going again");
    server.stop_by(Signal::TERM);
}

/// Sends without end, and reads until the server ends.
struct Sender {
    content: Content,
    sent: u64,
    checked: u64,
    /// How much it reads in 5 ms.
    pace: usize,
    /// What came back to whom.
    answered: Rc<RefCell<HashMap<SocketAddr, u64>>>,
}

impl Actor for Sender {
    fn act(&mut self, stream: &mut TcpStream, stage: &mut Stage) -> io::Result<Next> {
        let mut left = self.pace;
        while left > 0 {
            let (bytes, expected) = stage.scratch.split_at_mut(64 << 10);
            let limit = left.min(bytes.len());
            let Some(count) = ready(stream.read(&mut bytes[..limit]))? else { break };
            if count == 0 {
                self.answered.borrow_mut().insert(stream.local_addr()?, self.checked);
                return Ok(Next::Leave);
            }
            self.content.fill(self.checked, &mut expected[..count]);
            assert!(bytes[..count] == expected[..count], "wrong bytes after {}", self.checked);
            self.checked += count as u64;
            stage.checked += count as u64;
            left -= count;
        }
        for _ in 0..16 {
            let bytes = &mut stage.scratch[..64 << 10];
            self.content.fill(self.sent, bytes);
            match ready(stream.write(bytes))? {
                Some(count) => self.sent += count as u64,
                None => break,
            }
        }
        Ok(Next::WakeAt(stage.now + Duration::from_millis(5)))
    }
}

#[test]
#[ignore = "takes 10 s"]
fn a_server_that_is_told_to_stop_answers_all_it_had_taken_in() {
    let _alone = alone();
    let server = start(&["--verbose", "--log-max", "0", "--max-pending", "2MiB", "--grace", "60s"]);
    let mut engine = Engine::new(seed());
    let answered = Rc::<RefCell<HashMap<SocketAddr, u64>>>::default();
    const SENDERS: usize = 40;
    for _ in 0..SENDERS {
        let content = Content(engine.stage.random.u64(..));
        let pace = engine.stage.random.usize(32 << 10..128 << 10);
        let sender = Sender { content, sent: 0, checked: 0, pace, answered: Rc::clone(&answered) };
        // All to one address: the log tells them apart by their own alone.
        engine.connect(0, server.address(), Box::new(sender));
    }
    engine.run(Instant::now() + Duration::from_secs(3), PATIENCE, &mut |_, _| None);
    server.process.signal(Signal::TERM);
    let begin = Instant::now();
    engine.run_to_end(PATIENCE);
    let took = begin.elapsed();
    let lines = server.expect_stopped();
    let answered = answered.borrow();
    let mut taken_in = 0;
    let mut closed = 0;
    for line in &lines {
        // [12:43:09 29/01/2018] Closed: 127.0.0.1:40112, 13 bytes in, 13 bytes out: the server is stopping
        let Some((_, text)) = line.split_once("] Closed: ") else { continue };
        let mut parts = text.split(", ");
        let mut part = || parts.next().expect("three parts");
        let peer: SocketAddr = part().parse().expect("an address");
        let number =
            |text: &str| text.split(' ').next().and_then(|number| number.parse::<u64>().ok()).expect("a number");
        let (bytes_in, bytes_out) = (number(part()), number(part()));
        assert_eq!(bytes_in, bytes_out, "{line}");
        assert_eq!(answered.get(&peer), Some(&bytes_in), "{line}");
        (closed, taken_in) = (closed + 1, taken_in + bytes_in);
    }
    println!(
        "SIGTERM: {SENDERS} clients in the middle of {} MiB; {taken_in} bytes were taken in and {} came back; it took {took:.1?}",
        engine.stage.checked >> 20,
        answered.values().sum::<u64>(),
    );
    assert_eq!(closed, SENDERS, "not everybody's end was told");
}

/// Holds a descriptor, and says nothing until it is over.
struct Holder;

impl Actor for Holder {
    fn act(&mut self, stream: &mut TcpStream, stage: &mut Stage) -> io::Result<Next> {
        if stage.is_over {
            stream.shutdown(Shutdown::Write)?;
            return Ok(Next::Leave);
        }
        Ok(Next::WakeAt(stage.now + Duration::from_millis(20)))
    }
}

#[test]
fn a_server_without_descriptors_serves_everybody_in_the_end() {
    const CLIENTS: usize = 2000;
    let _alone = alone();
    let server = Server::launch(server_command_under(LIMITED, &["--port", "0", "--quiet"]));
    assert_eq!(soft_and_hard_descriptors(server.process.pid()), (64, 64));
    let mut engine = Engine::new(seed());
    for _ in 0..40 {
        engine.connect(0, server.address(), Box::new(Holder));
    }
    for number in 0..CLIENTS {
        let farewell = [Farewell::HalfClose, Farewell::Close, Farewell::Reset][number % 3];
        let honest = Honest::new(&mut engine.stage, 5, 10_000, farewell);
        engine.connect(0, server.address(), Box::new(honest));
    }
    let begin = Instant::now();
    let before = cpu_time(server.process.pid());
    while engine.stage.times.len() < 5 * CLIENTS {
        assert!(begin.elapsed() < 2 * PATIENCE, "{} of {} messages", engine.stage.times.len(), 5 * CLIENTS);
        engine.run(Instant::now() + Duration::from_millis(20), PATIENCE, &mut |_, _| None);
    }
    let spent = cpu_time(server.process.pid()) - before;
    println!(
        "descriptors: {CLIENTS} clients through 8 descriptors in {:.1?}, at {spent:?} of processor time",
        begin.elapsed()
    );
    engine.stage.is_over = true;
    engine.run_to_end(PATIENCE);
    server.stop_by(Signal::TERM);
}
