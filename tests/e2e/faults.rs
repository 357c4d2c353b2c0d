//! What the system refuses does not end the server, nor make it busy.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, prlimit};

use crate::harness::{
    DEADLINE, LIMITED, Server, assert_same, cpu_time, expect_end, hesitant, reset, round_trip, server_command_under,
    soft_and_hard_descriptors,
};

/// A server that knows from the start that it has few descriptors. It stands for one with a million clients.
fn limited_server() -> Server {
    let server = Server::launch(server_command_under(LIMITED, &["--port", "0"]));
    assert_eq!(soft_and_hard_descriptors(server.process.pid()), (64, 64));
    server
}

/// A server that does not know how few it has, as when those of the whole system run out.
fn surprised_server() -> Server {
    let server = Server::start(&[]);
    let limit = Rlimit { current: Some(64), maximum: Some(64) };
    prlimit(Some(server.process.pid()), Resource::Nofile, limit).expect("a lower limit");
    server
}

fn expect_echo(stream: &mut TcpStream, message: &str) {
    let mut echo = vec![0; message.len()];
    stream.read_exact(&mut echo).expect("the echo");
    assert_same(&echo, message.as_bytes());
}

#[test]
fn at_its_limit_of_descriptors_clients_wait_at_no_cost_until_others_leave() {
    expect_clients_to_wait(limited_server());
}

#[test]
fn without_descriptors_clients_wait_at_no_cost_until_others_leave() {
    expect_clients_to_wait(surprised_server());
}

fn expect_clients_to_wait(server: Server) {
    let message = |number: usize| format!("client {number}");
    let mut clients: Vec<TcpStream> = (0..200).map(|_| server.connect()).collect();
    for (number, stream) in clients.iter_mut().enumerate() {
        stream.write_all(message(number).as_bytes()).expect("sent");
    }
    for (number, stream) in clients[..40].iter_mut().enumerate() {
        expect_echo(stream, &message(number));
    }

    // A second in which the last one waits in vain, and which this test measures.
    let before = cpu_time(server.process.pid());
    let last = &mut clients[199];
    last.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
    let refused = loop {
        match last.read(&mut [0]).expect_err("64 descriptors are not enough for 200 clients").kind() {
            ErrorKind::Interrupted => {}
            kind => break kind,
        }
    };
    assert!(matches!(refused, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{refused}");
    let spent = cpu_time(server.process.pid()) - before;
    assert!(spent < Duration::from_millis(100), "waiting took {spent:?} of processor time in a second");
    last.set_read_timeout(Some(DEADLINE)).expect("a timeout");

    // Those it serves are served as ever.
    round_trip(&mut clients[0], b"again");
    for (number, mut stream) in clients.into_iter().enumerate() {
        if number >= 40 {
            expect_echo(&mut stream, &message(number));
        }
        stream.shutdown(Shutdown::Write).expect("half-closed");
        expect_end(&mut stream);
    }
    let mut texts = server.stop_and_read();
    texts.sort();
    let mut expected: Vec<String> = (0..200).map(message).chain(["again".to_owned()]).collect();
    expected.sort();
    assert_eq!(texts, expected);
}

#[test]
fn descriptors_run_out_and_come_back_again_and_again() {
    for server in [limited_server(), surprised_server()] {
        for _ in 0..5 {
            let mut clients: Vec<TcpStream> = (0..100).map(|_| server.connect()).collect();
            for stream in &mut clients {
                stream.write_all(b"hello").expect("sent");
            }
            expect_echo(&mut clients[0], "hello");
            // All at once, those that wait in the backlog included.
            clients.into_iter().for_each(reset);
            round_trip(&mut server.connect(), b"honest");
        }
        server.stop();
    }
}

#[test]
fn a_server_without_descriptors_stops_as_ever() {
    for server in [limited_server(), surprised_server()] {
        let mut clients: Vec<TcpStream> = (0..100).map(|_| server.connect()).collect();
        round_trip(&mut clients[0], b"hello");
        server.stop();
        expect_end(&mut clients[0]);
    }
}

#[test]
fn an_idle_server_costs_nothing() {
    let server = Server::start(&[]);
    let mut idle: Vec<TcpStream> = (0..50).map(|_| server.connect()).collect();
    for stream in &mut idle {
        round_trip(stream, &[b'x'; 2_000]);
    }
    server.wait_for_lines(50);
    // Half-closed ones whose echo is unread, too.
    let mut stuck = hesitant(server.address());
    stuck.write_all(&vec![b'x'; 12 << 20]).expect("sent");
    stuck.shutdown(Shutdown::Write).expect("half-closed");
    server.wait_for_lines(51);
    let before = cpu_time(server.process.pid());
    idle[0].set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
    idle[0].read(&mut [0]).expect_err("nothing comes unasked");
    let spent = cpu_time(server.process.pid()) - before;
    assert!(spent < Duration::from_millis(100), "idling took {spent:?} of processor time in a second");
    server.stop();
}
