//! What is owed comes out as it went in, and then nothing is left of it.

use std::io::IoSlice;

use proptest::collection::vec;
use proptest::prelude::*;
use sockets::feed::Feed;
use sockets::outbox::{Outbox, PIECE_COST, SLACK, SLICES};

use crate::for_all;

/// How many peers there are.
const PEERS: usize = 3;

/// The largest piece of a queue.
const PIECE: usize = 64 << 10;

/// The most that an idle feed keeps: one block, to be written again.
const BLOCK: usize = 64 << 10;

#[derive(Clone, Debug)]
enum Step {
    /// So many bytes are owed to one peer alone.
    Push(usize, usize),
    /// So many bytes are said, a part of which is for the peers of these bits.
    Say(usize, u8),
    /// One peer takes so many bytes.
    Write(usize, usize),
    Clear(usize),
    Trim,
}

#[test]
fn bytes_come_out_as_they_went_in_and_nothing_stays() {
    let peer = 0..PEERS;
    let size = || prop_oneof![4 => 0..100_usize, 4 => 65_000..66_000_usize, 1 => 0..200_000_usize];
    let step = prop_oneof![
        4 => (peer.clone(), size()).prop_map(|(peer, size)| Step::Push(peer, size)),
        6 => (size(), any::<u8>()).prop_map(|(size, peers)| Step::Say(size, peers)),
        6 => (peer.clone(), size()).prop_map(|(peer, size)| Step::Write(peer, size)),
        1 => peer.prop_map(Step::Clear),
        2 => Just(Step::Trim),
    ];
    for_all((vec(step, 0..40), any::<bool>()), |(steps, is_cleared)| {
        let mut feed = Feed::default();
        let mut peers: Vec<Peer> = (0..PEERS).map(|_| Peer::default()).collect();
        for (number, step) in steps.into_iter().enumerate() {
            let bytes = |count: usize| (0..count).map(|at| (at * 7 + at / 251 + number) as u8).collect::<Vec<u8>>();
            match step {
                Step::Push(peer, count) => peers[peer].push(&bytes(count)),
                Step::Say(count, bits) => {
                    let bytes = bytes(count);
                    let range = feed.push(&bytes);
                    prop_assert_eq!((range.end, range.end - range.start), (feed.end(), count as u64));
                    for (at, peer) in peers.iter_mut().enumerate().filter(|(at, _)| bits & (1 << at) != 0) {
                        // Some are not to hear the beginning, as if they had said it.
                        let skipped = if bits & (8 << at) != 0 { count / 3 } else { 0 };
                        peer.owed.push((bytes[skipped..].to_vec(), Some(range.start + skipped as u64)));
                        peer.outbox.push_shared(range.start + skipped as u64..range.end, &mut feed);
                    }
                }
                Step::Write(peer, count) => peers[peer].write(count, &mut feed)?,
                Step::Clear(peer) => {
                    peers[peer].outbox.clear(&mut feed);
                    peers[peer].owed.clear();
                }
                Step::Trim => feed.trim(),
            }
            for peer in &mut peers {
                peer.check()?;
            }
        }
        for peer in &mut peers {
            if is_cleared {
                peer.outbox.clear(&mut feed);
                peer.owed.clear();
            }
            while !peer.outbox.is_empty() {
                peer.write(100_000, &mut feed)?;
            }
            peer.check()?;
        }
        feed.trim();
        prop_assert!(feed.held() <= BLOCK, "{} bytes stay", feed.held());
        let next = feed.push(b"more");
        prop_assert_eq!(feed.slice(next), b"more");
        Ok(())
    });
}

#[derive(Default)]
struct Peer {
    outbox: Outbox,
    /// What it is owed, with the position in the feed of what is there.
    owed: Vec<(Vec<u8>, Option<u64>)>,
}

impl Peer {
    fn push(&mut self, bytes: &[u8]) {
        self.outbox.push(bytes).expect("memory");
        self.owed.push((bytes.to_vec(), None));
    }

    /// Takes at most `width` bytes, which must be those that it is owed.
    fn write(&mut self, width: usize, feed: &mut Feed) -> Result<(), TestCaseError> {
        if width == 0 {
            return Ok(());
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = self.outbox.fill(&mut slices, feed);
        let offer: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
        prop_assert_eq!(offer.is_empty(), self.outbox.is_empty());
        let written = offer.len().min(width);
        self.outbox.advance(written, feed);
        let mut taken = &offer[..written];
        while !taken.is_empty() {
            prop_assert!(!self.owed.is_empty(), "more came than was owed");
            let (bytes, position) = &mut self.owed[0];
            let count = bytes.len().min(taken.len());
            prop_assert!(bytes[..count] == taken[..count], "other bytes came than were owed");
            bytes.drain(..count);
            *position = position.map(|position| position + count as u64);
            taken = &taken[count..];
            if bytes.is_empty() {
                self.owed.remove(0);
            }
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        self.owed.retain(|(bytes, _)| !bytes.is_empty());
        let len = |is_own: fn(&(Vec<u8>, Option<u64>)) -> bool| {
            self.owed.iter().filter(|owed| is_own(owed)).map(|(bytes, _)| bytes.len()).sum::<usize>()
        };
        prop_assert_eq!(self.outbox.len(), len(|_| true));
        let (mut shared_pieces, mut last_end) = (0, None);
        for (bytes, position) in &self.owed {
            // Neighbours in the feed are one piece.
            shared_pieces += usize::from(position.is_some() && *position != last_end);
            last_end = position.map(|position| position + bytes.len() as u64);
        }
        let own = len(|(_, position)| position.is_none());
        prop_assert_eq!(self.outbox.own_len(), own);
        // A piece that is half sent counts whole, and the table of the pieces may be a quarter full.
        let pieces = 2 * shared_pieces + 1 + 2 * own / SLACK;
        let most = if own + shared_pieces > 0 {
            own + PIECE + SLACK * (shared_pieces + 1) + 8 * pieces * PIECE_COST
        } else {
            0
        };
        prop_assert!((own..=most).contains(&self.outbox.held()), "{} bytes held, {own} to {most}", self.outbox.held());
        prop_assert_eq!(self.outbox.is_empty(), self.owed.is_empty());
        prop_assert_eq!(self.outbox.first_shared(), self.owed.iter().find_map(|(_, position)| *position));
        Ok(())
    }
}
