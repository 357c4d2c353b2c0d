//! A file sent through the echo.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use fastrand::Rng;
use sha2::{Digest, Sha256};

use crate::Scene;
use crate::harness::scratch_file;

#[test]
#[ignore = "takes about a minute"]
fn a_hundred_mebibytes_come_back_exactly() {
    exchange(100 << 20, Duration::from_secs(5));
}

/// The same in a hurry, for every day.
#[test]
fn some_mebibytes_come_back_exactly() {
    exchange(4 << 20, Duration::from_secs(1));
}

/// Sends a file of so many bytes through the echo, over a wire that is cut for so long when half of them
/// have come back.
fn exchange(length: usize, cut: Duration) {
    let Some(scene) = Scene::new(&[]) else { return };
    let (file, sent) = Scratch::new(length);
    let begin = Instant::now();
    let mut client = scene.start_client(|command| {
        command.stdin(File::open(&file.0).expect("the file")).stdout(Stdio::piped());
    });

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
        if count >= length / 2 && !is_cut {
            scene.wire.cut(cut);
            is_cut = true;
        }
    }
    let (status, complaint) = client.wait();
    assert_eq!((status.code(), &*complaint), (Some(0), ""), "after {count} of {length} bytes");
    assert_eq!(count, length);
    assert_eq!(digest.finalize().to_vec(), sent, "other bytes came back");
    let took = begin.elapsed().as_secs_f64();
    scene.end(format_args!("{} MiB echoed in {took:.1} s, of which the wire was cut for {cut:?}", length >> 20));
}

/// A file of noise, removed when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    /// A file of so many bytes, and their digest.
    fn new(length: usize) -> (Self, Vec<u8>) {
        let scratch = Self(scratch_file(&format!("wire-{length}")));
        let mut file = File::create(&scratch.0).expect("a file");
        let (mut random, mut digest) = (Rng::with_seed(length as u64), Sha256::new());
        let mut noise = vec![0; 1 << 20];
        for _ in 0..length >> 20 {
            random.fill(&mut noise);
            digest.update(&noise);
            file.write_all(&noise).expect("room on the disk");
        }
        (scratch, digest.finalize().to_vec())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.0);
    }
}
