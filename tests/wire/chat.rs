//! A room whose members are all at the other end of the wire.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::harness::connect;
use crate::{LONGEST, PATIENCE, Scene};

/// How long a member waits for anything, longer than the server does for a member.
const DEADLINE: Duration = Duration::from_secs(150);

/// How many members only listen, and how many talk too.
const LISTENERS: usize = 4;
const TALKERS: usize = 2;

/// How many lines are said in all, unless the time is over before.
const LINES: usize = 10_000;

/// What each of them says in the end.
const LAST_WORDS: &str = "That is all.";

#[test]
#[ignore = "takes about half a minute"]
fn ten_thousand_lines_reach_everyone_once_and_in_order() {
    let Some(scene) = Scene::new(&["--chat", "--stall-timeout", PATIENCE]) else { return };
    let members: Vec<Member> = (1..=LISTENERS + TALKERS).map(|number| Member::join(&scene, number)).collect();

    let begin = Instant::now();
    let heard = AtomicUsize::new(0);
    let accounts: Vec<Vec<String>> = thread::scope(|scope| {
        scope.spawn(|| {
            while heard.load(Ordering::Relaxed) < LINES / 2 && begin.elapsed() < LONGEST / 2 {
                thread::sleep(Duration::from_millis(10));
            }
            scene.wire.cut(Duration::from_secs(5));
        });
        let heard = &heard;
        let listening = members.into_iter().map(|member| {
            let (stream, number) = (member.stream(), member.number);
            let talking = (number > LISTENERS).then(|| scope.spawn(move || talk(stream, number, begin + LONGEST)));
            scope.spawn(move || member.listen(heard, talking))
        });
        let listening: Vec<_> = listening.collect();
        listening.into_iter().map(|member| member.join().expect("heard everything")).collect()
    });
    let took = begin.elapsed().as_secs_f64();

    for account in &accounts[1..LISTENERS] {
        assert!(*account == accounts[0], "two who only listened heard different things");
    }
    let lines = accounts[0].len();
    assert!(lines >= LINES / 10, "only {lines} lines were said");
    let bytes: usize = accounts.iter().flatten().map(|line| line.len() + 1).sum();
    scene.end(format_args!("{lines} lines, {bytes} bytes in all, to {LISTENERS} + {TALKERS} members in {took:.1} s"));
}

/// One who is in the room.
struct Member {
    number: usize,
    input: BufReader<TcpStream>,
}

impl Member {
    /// Joins as the one with that number, alone until it is in.
    fn join(scene: &Scene, number: usize) -> Self {
        let address = scene.address();
        let stream = scene.wire.client.inside(|| connect(address));
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream.set_write_timeout(Some(DEADLINE)).expect("a timeout");
        let mut member = Self { number, input: BufReader::new(stream) };
        let welcome = member.line();
        assert!(welcome.starts_with(&format!("* welcome, user{number};")), "{welcome:?}");
        // Its name announces it to those who are there already.
        let name = format!("/name member{number}\n");
        member.input.get_ref().write_all(name.as_bytes()).expect("sent");
        assert_eq!(member.line(), format!("* user{number} is now member{number}"));
        member
    }

    fn stream(&self) -> TcpStream {
        self.input.get_ref().try_clone().expect("a descriptor")
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.input
            .read_line(&mut line)
            .unwrap_or_else(|error| panic!("member {} waits for a line: {error}", self.number));
        assert_eq!(line.pop(), Some('\n'), "member {} was cut off after {line:?}", self.number);
        line
    }

    /// Listens until everything is said, also by itself, and leaves; returns what the others said, in the order
    /// in which it came.
    fn listen(mut self, heard: &AtomicUsize, talking: Option<ScopedJoinHandle<'_, ()>>) -> Vec<String> {
        let me = format!("member{}", self.number);
        for number in self.number + 1..=LISTENERS + TALKERS {
            let joined = self.line();
            // A name that the network delays for more than a second comes after the announcement.
            if joined == format!("* user{number} joined") {
                assert_eq!(self.line(), format!("* user{number} is now member{number}"));
            } else {
                assert_eq!(joined, format!("* member{number} joined"));
            }
        }
        let others = (LISTENERS + 1..=LISTENERS + TALKERS).filter(|&number| number != self.number);
        let mut talkers: BTreeMap<String, Talk> =
            others.map(|number| (format!("member{number}"), Talk::new(number))).collect();
        let mut account = Vec::new();
        while !talkers.is_empty() {
            let line = self.line();
            if is_farewell(&line) {
                continue;
            }
            let said = line.strip_prefix('<').and_then(|rest| rest.split_once("> "));
            let (name, text) = said.unwrap_or_else(|| panic!("{me} heard {line:?}"));
            if text == LAST_WORDS {
                assert!(talkers.remove(name).is_some(), "{me} heard {line:?}");
                continue;
            }
            let talk = talkers.get_mut(name).unwrap_or_else(|| panic!("{me} heard {line:?}"));
            assert_eq!(Some(text), talk.next().as_deref(), "{me} listens to {name}");
            account.push(line);
            if self.number == 1 {
                heard.store(account.len(), Ordering::Relaxed);
            }
        }
        if let Some(talking) = talking {
            talking.join().expect("said everything");
        }
        self.input.get_ref().shutdown(Shutdown::Write).expect("still connected");
        let rest: Vec<String> = self.input.lines().map(|line| line.expect("an orderly end")).collect();
        assert!(rest.iter().all(|line| is_farewell(line)), "{me} heard {rest:?} after the end");
        account
    }
}

fn is_farewell(line: &str) -> bool {
    line.starts_with("* member") && line.ends_with(" left")
}

/// Says everything, or as much of it as there is time for.
fn talk(mut stream: TcpStream, number: usize, until: Instant) {
    let lines = Talk::new(number).take_while(|_| Instant::now() < until).chain([LAST_WORDS.to_owned()]);
    for line in lines {
        stream.write_all(format!("{line}\n").as_bytes()).expect("the server listens");
    }
}

/// What the member with that number says: lines of all lengths, no two alike.
struct Talk {
    random: Rng,
    said: usize,
}

impl Talk {
    fn new(number: usize) -> Self {
        Self { random: Rng::with_seed(number as u64), said: 0 }
    }
}

impl Iterator for Talk {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        self.said += 1;
        let length = self.random.usize(..1000);
        let text: String = (0..length).map(|_| self.random.char('!'..='é')).filter(|c| !c.is_control()).collect();
        (self.said <= LINES / TALKERS).then(|| format!("{} {text}", self.said))
    }
}
