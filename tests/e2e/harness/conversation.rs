//! Two members that talk like people, and how long it takes until their lines are heard.

use std::fmt;
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use super::{DEADLINE, Member, Server};

/// How long each of them waits between two lines of [`LENGTH`] bytes: that is 200 bytes a second, faster than anyone
/// types.
const PAUSE: Duration = Duration::from_millis(100);
const LENGTH: usize = 20;

/// What each says at the end.
const BYE: &str = "bye";

/// Two members that read all they are sent.
pub(crate) struct Pair {
    pub(crate) ann: Member,
    pub(crate) bob: Member,
}

impl Pair {
    /// Both join a room that is empty.
    pub(crate) fn join(server: &Server) -> Self {
        let ann = Member::join(server, "ann", "");
        Self { ann, bob: Member::join(server, "bob", "ann") }
    }

    /// Lets both talk for `period`, whatever else the room says, and waits until the last line was heard.
    pub(crate) fn talk(&mut self, period: Duration) -> Delays {
        let begin = Instant::now();
        let speakers = [&self.ann, &self.bob].map(|member| member.stream().try_clone().expect("a descriptor"));
        let say = |line: &str| speakers.iter().for_each(|mut stream| stream.write_all(line.as_bytes()).expect("sent"));
        thread::scope(|scope| {
            let listeners = [(&mut self.ann, "<bob> "), (&mut self.bob, "<ann> ")];
            let listeners =
                listeners.map(|(member, head)| scope.spawn(move || listen(member, head, begin, period + DEADLINE)));
            while begin.elapsed() < period {
                say(&format!("{:0width$}\n", begin.elapsed().as_micros(), width = LENGTH - 1));
                thread::sleep(PAUSE);
            }
            say(&format!("{BYE}\n"));
            let delays = listeners.into_iter().flat_map(|listener| listener.join().expect("everything is heard"));
            Delays::of(delays.collect())
        })
    }
}

/// Listens until the other says goodbye. A line tells when it was said, in microseconds since `begin`.
fn listen(member: &mut Member, head: &str, begin: Instant, deadline: Duration) -> Vec<Duration> {
    let mut delays = Vec::new();
    loop {
        let line = member.line();
        assert!(begin.elapsed() < deadline, "it goes on for too long");
        match line.strip_prefix(head) {
            Some(BYE) => return delays,
            Some(said) => delays.push(begin.elapsed() - Duration::from_micros(said.parse().expect("a time"))),
            None => {}
        }
    }
}

/// How long lines took to be heard, in order of length.
pub(crate) struct Delays(Vec<Duration>);

impl Delays {
    fn of(mut delays: Vec<Duration>) -> Self {
        assert!(!delays.is_empty(), "nothing was said");
        delays.sort_unstable();
        Self(delays)
    }

    /// How long so many of a hundred took at most.
    fn percent(&self, share: usize) -> Duration {
        self.0[(self.0.len() * share / 100).min(self.0.len() - 1)]
    }

    pub(crate) fn longest(&self) -> Duration {
        self.percent(100)
    }
}

impl fmt::Display for Delays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [half, most, all] = [50, 99, 100].map(|share| self.percent(share));
        write!(f, "{} lines, p50 {half:.1?}, p99 {most:.1?}, longest silence {all:.1?}", self.0.len())
    }
}
