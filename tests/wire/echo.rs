//! Noise sent through the echo.

use std::io::{Read, Write};
use std::process::{ChildStdin, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use sha2::{Digest, Sha256};

use crate::{LONGEST, Scene};

#[test]
#[ignore = "takes about a minute"]
fn a_hundred_mebibytes_come_back_exactly() {
    exchange(100 << 20, Duration::from_secs(5), LONGEST);
}

/// The same in a hurry, for every day.
#[test]
fn a_mebibyte_comes_back_exactly() {
    exchange(1 << 20, Duration::from_secs(1), LONGEST / 6);
}

/// Sends `length` bytes through the echo, or as many as it can in the time, over a wire that is cut for so long when half
/// of them have come back, or half of the time is over.
fn exchange(length: usize, cut: Duration, time: Duration) {
    let Some(scene) = Scene::new(&[]) else { return };
    let begin = Instant::now();
    let mut client = scene.start_client(|command| {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
    });
    let stdin = client.take_stdin();
    let sending = thread::spawn(move || send(stdin, length, begin + time));

    let mut stdout = client.take_stdout();
    let (mut digest, mut count) = (Sha256::new(), 0);
    let mut buffer = vec![0; 64 << 10];
    let mut is_cut = false;
    loop {
        // The client itself gives up when nothing comes for too long.
        let read = stdout.read(&mut buffer).expect("what came back");
        if read == 0 {
            break;
        }
        digest.update(&buffer[..read]);
        count += read;
        if !is_cut && (count >= length / 2 || begin.elapsed() >= time / 2) {
            scene.wire.cut(cut);
            is_cut = true;
        }
    }
    let (status, complaint) = client.wait();
    assert_eq!((status.code(), &*complaint), (Some(0), ""), "after {count} of {length} bytes");
    let (sent, expected) = sending.join().expect("all is sent");
    assert_eq!(count, sent);
    assert_eq!(digest.finalize().to_vec(), expected, "other bytes came back");
    assert!(is_cut, "{sent} bytes were over before the wire was cut");
    let took = begin.elapsed().as_secs_f64();
    scene.end(format_args!("{} KiB echoed in {took:.1} s, of which the wire was cut for {cut:?}", sent >> 10));
}

/// Sends noise until it is so long, or until that time. Returns how long it was, and its digest.
fn send(mut stdin: ChildStdin, length: usize, until: Instant) -> (usize, Vec<u8>) {
    let (mut random, mut digest, mut sent) = (Rng::with_seed(length as u64), Sha256::new(), 0);
    let mut noise = vec![0; 64 << 10];
    while sent < length && Instant::now() < until {
        random.fill(&mut noise);
        digest.update(&noise);
        stdin.write_all(&noise).expect("the client reads");
        sent += noise.len();
    }
    (sent, digest.finalize().to_vec())
}
