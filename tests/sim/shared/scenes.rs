//! Small rooms on two or three servers, in which one thing happens at a time.

use std::time::{Duration, Instant};

use fastrand::Rng;
use sockets::Config;
use sockets::hub::Hub;
use sockets::shared_log::{Change, LogEvent, MemberId, Position, ServerId};

use super::link::Link;
use super::log::Log;
use crate::socket::{Client, Nature, ReplyEnd};
use crate::world::{Poll, World};

const SECOND: Duration = Duration::from_secs(1);

/// Takes all that is said in a short test.
const ROOMY: usize = 64 << 20;
/// Takes the first lines and then, unless it is read, nothing.
const NARROW: usize = 1000;

const AWAY: &str = "* the room's other servers cannot be reached; new lines wait\n";
const BACK: &str = "* the room's other servers can be reached again\n";
const GAP: &str = "* lines may be missing here\n";

/// Some servers, and the log that they share.
struct Stage {
    log: Log,
    serial: u64,
    now: Instant,
    random: Rng,
    config: Config,
    /// Those that are killed are empty.
    servers: Vec<Option<(World, Link)>>,
}

struct Member {
    client: Client,
    heard: Vec<u8>,
}

impl Stage {
    fn open(servers: usize, change: impl Fn(&mut Config)) -> Self {
        let config = Config::with(|config| {
            config.chat = true;
            change(config);
        });
        let (log, random, now) = (Log::default(), Rng::with_seed(0), Instant::now());
        let mut stage = Self { log, serial: 0, now, random, config, servers: Vec::new() };
        for _ in 0..servers {
            stage.start();
        }
        stage.settle();
        stage
    }

    /// Starts another server, and returns which one it is.
    fn start(&mut self) -> usize {
        let id = ServerId(self.servers.len() as u128);
        let mut link = Link::new(id, self.now);
        link.is_reliable = true;
        let hub = Hub::shared(&self.config, id);
        self.servers.push(Some((World::with(hub, Poll::Genuine, Rng::with_seed(0), self.now), link)));
        self.servers.len() - 1
    }

    fn server(&mut self, at: usize) -> &mut (World, Link) {
        self.servers[at].as_mut().expect("it is there")
    }

    /// A member that has joined, and for which the network holds so many bytes.
    fn join(&mut self, at: usize, send_buffer: usize) -> Member {
        let member = self.knock(at, send_buffer);
        self.settle();
        member
    }

    /// Members that have joined and taken these names; what they were told is forgotten.
    fn join_as<const N: usize>(&mut self, names: [(usize, &str); N]) -> [Member; N] {
        let mut members = names.map(|(at, name)| {
            let member = self.join(at, ROOMY);
            member.say(&format!("/name {name}\n"));
            self.settle();
            member
        });
        for member in &mut members {
            member.hears();
        }
        members
    }

    fn knock(&mut self, at: usize, send_buffer: usize) -> Member {
        let nature = Nature {
            receive_buffer: ROOMY,
            send_buffer,
            wakes_at: 1,
            interrupts: 0,
            reset_keeps_arrived: true,
            seed: 0,
        };
        Member { client: self.server(at).0.accept(nature).1, heard: Vec::new() }
    }

    /// Lets all servers work until nothing happens any more, while no time passes.
    fn settle(&mut self) {
        for _ in 0..200 {
            self.round();
        }
    }

    fn round(&mut self) {
        for (world, link) in self.servers.iter_mut().flatten() {
            world.pass(self.now - world.now);
            let mut room = world.log_side();
            let (urgency, floor) = (room.urgency(), &mut || room.report_floor());
            for event in link.step(&mut self.log, &mut self.serial, self.now, &mut self.random, (urgency, floor)) {
                world.tell(event);
            }
            while world.poll() {
                world.turn(|_| {});
                link.push(world.log_side().take_ops());
            }
        }
    }

    /// Lets time pass, a fraction of a second at a time.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = end.min(self.now + Duration::from_millis(100));
            self.settle_a_little();
        }
    }

    fn settle_a_little(&mut self) {
        for _ in 0..5 {
            self.round();
        }
    }
}

impl Member {
    fn say(&self, text: &str) {
        assert_eq!(self.client.send(text.as_bytes()), text.len());
    }

    /// What it was told since the last time.
    fn hears(&mut self) -> String {
        self.heard.extend(self.client.receive(usize::MAX));
        String::from_utf8(std::mem::take(&mut self.heard)).expect("text")
    }
}

#[test]
fn members_of_two_servers_are_in_one_room() {
    let mut stage = Stage::open(2, |_| {});
    let mut ann = stage.join(0, ROOMY);
    ann.say("/name ann\n");
    stage.settle();
    assert_eq!(ann.hears(), "* welcome, user1; nobody else is here\n* user1 is now ann\n");
    let mut bob = stage.join(1, ROOMY);
    assert_eq!(bob.hears(), "* welcome, user2; here: ann\n");
    bob.say("hello\n/who\n/name Ann\n/name bob\nhello again\n");
    stage.settle();
    assert_eq!(ann.hears(), "* user2 joined\n<user2> hello\n* user2 is now bob\n<bob> hello again\n");
    assert_eq!(bob.hears(), "* here: ann, user2\n* Ann is taken\n* user2 is now bob\n");
    ann.say("/msg bob psst\n/me waves\n/msg eve hi\n/quit\n");
    stage.settle();
    assert_eq!(ann.hears(), "<ann -> bob> psst\n* nobody is called eve\n");
    assert_eq!(bob.hears(), "<ann -> bob> psst\n<ann> *waves*\n* ann left\n");
    let mut eve = stage.join(0, ROOMY);
    assert_eq!(eve.hears(), "* welcome, user3; here: bob\n");
}

#[test]
fn of_two_that_want_one_name_at_the_same_time_one_gets_it() {
    let mut stage = Stage::open(2, |_| {});
    let [mut ann, mut bob] = stage.join_as([(0, "ann"), (1, "bob")]);
    ann.say("/name eve\n/who\n");
    bob.say("/name EVE\n/who\n");
    stage.settle();
    let (ann, bob) = (ann.hears(), bob.hears());
    let (won, lost) = if ann.contains("taken") { (bob, ann) } else { (ann, bob) };
    assert!(won.contains(" is now ") && !won.contains("taken"), "{won}");
    assert!(lost.contains(" is taken\n"), "{lost}");
}

#[test]
fn a_whisper_to_a_member_that_does_not_read_is_told_to_its_author_on_another_server() {
    let mut stage = Stage::open(2, |_| {});
    let [mut ann] = stage.join_as([(0, "ann")]);
    let bob = stage.join(1, NARROW);
    stage.pass(2 * SECOND);
    ann.hears();
    let whisper = format!("/msg user2 {}\n", "x".repeat(900));
    ann.say(&whisper.repeat(200));
    while ann.client.unread() > 0 {
        stage.settle();
    }
    stage.settle();
    let heard = ann.hears();
    let unread = heard.matches("* user2 is not reading; your line was not sent\n").count();
    assert!((20..200).contains(&unread), "{unread}");
    assert_eq!(heard.matches("<ann -> user2> ").count(), 200);
    assert!(!bob.client.record().is_dropped);
}

#[test]
fn members_of_a_server_that_is_killed_leave_within_its_lease() {
    let mut stage = Stage::open(2, |_| {});
    let [mut dan, ..] = stage.join_as([(0, "dan"), (1, "ann"), (1, "bob"), (1, "carol"), (1, "eve"), (1, "fay")]);
    stage.servers[1] = None;
    dan.say("anybody there?\n");
    stage.pass(9 * SECOND);
    assert_eq!(dan.hears(), "");
    stage.pass(3 * SECOND);
    assert_eq!(dan.hears(), "* ann, bob, carol and 2 more left (their server is gone)\n");
    dan.say("/name ann\n/who\n");
    stage.settle();
    assert_eq!(dan.hears(), "* dan is now ann\n* here: ann\n");
}

#[test]
fn a_server_that_stops_says_all_that_was_said_and_goodbye() {
    let mut stage = Stage::open(2, |_| {});
    let [mut ann, mut bob] = stage.join_as([(0, "ann"), (1, "bob")]);
    bob.say("the last word\n");
    let now = stage.now;
    let (world, link) = stage.server(1);
    link.cut(now);
    world.hub.drain();
    stage.settle();
    assert_eq!(bob.hears(), "", "what was said has not been heard");
    stage.server(1).1.mend();
    stage.settle();
    assert_eq!(bob.hears(), "* server is stopping\n");
    bob.client.close();
    stage.settle();
    let server = stage.server(1).1.server;
    assert!(stage.server(1).0.hub.is_empty());
    stage.servers[1] = None;
    stage.log.remove(server, false, &mut stage.serial);
    stage.settle();
    assert_eq!(ann.hears(), "<bob> the last word\n* bob left (their server is stopping)\n");
}

#[test]
fn a_newcomer_that_waits_is_told_that_the_server_stops() {
    let mut stage = Stage::open(1, |_| {});
    let now = stage.now;
    stage.server(0).1.cut(now);
    stage.pass(2 * SECOND);
    let mut ann = stage.join(0, ROOMY);
    stage.server(0).0.hub.drain();
    stage.settle();
    assert_eq!(ann.hears(), format!("{AWAY}* server is stopping\n"));
}

#[test]
fn nothing_is_read_and_nobody_is_idle_while_the_log_is_away() {
    const TIMEOUT: Option<Duration> = Some(Duration::from_secs(5));
    let mut stage = Stage::open(2, |config| config.idle_timeout = TIMEOUT);
    let [mut ann, mut bob] = stage.join_as([(0, "ann"), (1, "bob")]);
    let now = stage.now;
    stage.server(0).1.cut(now);
    stage.pass(SECOND / 2);
    assert_eq!(ann.hears(), "");
    stage.pass(SECOND);
    assert_eq!(ann.hears(), AWAY);
    let line = "waits\n".repeat(100_000);
    ann.say(&line);
    let mut eve = stage.join(0, ROOMY);
    assert_eq!(eve.hears(), AWAY);
    eve.say("hello\n");
    let unread = ann.client.unread();
    for _ in 0..8 {
        stage.pass(SECOND);
        bob.say("/help\n");
    }
    assert_eq!((ann.hears().as_str(), ann.client.unread(), unread), ("", line.len(), line.len()));
    assert!(!ann.client.record().is_dropped && !eve.client.record().is_dropped, "idle though nobody was heard");
    bob.hears();
    stage.server(0).1.mend();
    stage.pass(2 * SECOND);
    assert!(ann.hears().starts_with(BACK));
    let heard = eve.hears();
    assert!(heard.starts_with(&format!("{BACK}* welcome, user3; here: ")), "{heard}");
    let heard = bob.hears();
    assert_eq!(heard.matches("<ann> waits\n").count(), 100_000);
    assert!(heard.contains("* user3 joined\n<user3> hello\n"));
}

/// The log is late, but has not been away for so long that the members are told.
#[test]
fn what_waits_for_the_log_is_bounded() {
    let mut stage = Stage::open(1, |_| {});
    let members = ["ann", "bob", "eve", "dan", "fay"].map(|name| stage.join_as([(0, name)]));
    let now = stage.now;
    stage.server(0).1.cut(now);
    for [member] in &members {
        member.say(&"something\n".repeat(6_000));
    }
    stage.settle();
    let asked = stage.server(0).1.pending();
    assert!((50_000..400_000).contains(&asked), "{asked} bytes");
    stage.server(0).1.mend();
    stage.pass(5 * SECOND);
    assert!(members.iter().all(|[member]| member.client.unread() == 0));
    assert_eq!(stage.log.said(), 5 * 6_000 * "something".len());
}

/// Also what has not come back from the log is ahead of the slowest member.
#[test]
fn what_is_on_its_way_counts_for_the_window() {
    let mut stage = Stage::open(1, |config| config.max_ahead = 10_000);
    let [ann, _bob] = stage.join_as([(0, "ann"), (0, "bob")]);
    let now = stage.now;
    stage.server(0).1.cut(now);
    ann.say(&"something\n".repeat(6_000));
    stage.settle();
    let asked = stage.server(0).1.pending();
    assert!((5_000..12_000).contains(&asked), "{asked} bytes");
}

#[test]
fn connections_that_break_while_the_log_is_away_do_not_pile_up() {
    let mut stage = Stage::open(1, |_| {});
    let now = stage.now;
    stage.server(0).1.cut(now);
    stage.pass(2 * SECOND);
    for _ in 0..100 {
        let probe = stage.knock(0, ROOMY);
        stage.settle_a_little();
        probe.client.reset();
        stage.settle_a_little();
    }
    assert!(stage.server(0).0.hub.is_empty());
}

#[test]
fn a_server_starts_and_waits_for_the_log() {
    let mut stage = Stage::open(1, |_| {});
    stage.start();
    let now = stage.now;
    stage.server(1).1.cut(now);
    let mut ann = stage.join(1, ROOMY);
    ann.say("hello\n");
    stage.pass(2 * SECOND);
    assert_eq!(ann.hears(), AWAY);
    stage.server(1).1.mend();
    stage.settle();
    assert_eq!(ann.hears(), format!("{BACK}* welcome, user1; nobody else is here\n"));
}

#[test]
fn a_loss_is_announced_and_a_name_that_was_taken_meanwhile_is_told() {
    let mut stage = Stage::open(3, |_| {});
    let [mut ann, mut bob, mut eve] = stage.join_as([(0, "ann"), (1, "bob"), (2, "eve")]);
    // The first to enter again is eve's server; then she takes a name that the log does not know any more.
    let now = stage.now;
    stage.server(0).1.cut(now);
    stage.server(1).1.cut(now);
    stage.log = Log::default();
    stage.settle();
    assert_eq!(eve.hears(), GAP);
    stage.pass(SECOND / 2);
    stage.server(1).1.mend();
    stage.settle();
    assert_eq!((bob.hears().as_str(), eve.hears().as_str()), (GAP, ""), "nobody has left or joined");
    eve.say("/name ANN\n");
    stage.settle();
    assert_eq!(eve.hears(), "* ANN is taken\n", "as far as she knows");
    eve.say("/name dan\n");
    stage.settle();
    assert_eq!((eve.hears(), bob.hears()), ("* eve is now dan\n".into(), "* eve is now dan\n".into()));
    stage.server(0).1.mend();
    stage.settle();
    assert_eq!(ann.hears(), format!("{GAP}* eve is now dan\n"));
    assert_eq!((eve.hears().as_str(), bob.hears().as_str()), ("", ""));
    stage.pass(12 * SECOND);
    ann.say("/who\n");
    stage.settle();
    assert_eq!(ann.hears(), "* here: ann, bob, dan\n");
}

#[test]
fn a_member_whose_name_was_taken_during_a_loss_is_told_its_new_one() {
    let mut stage = Stage::open(2, |_| {});
    let [mut ann, mut bob] = stage.join_as([(0, "ann"), (1, "bob")]);
    let now = stage.now;
    stage.server(0).1.cut(now);
    stage.log = Log::default();
    // Her lease is over before she is back.
    stage.pass(12 * SECOND);
    assert_eq!(bob.hears(), format!("{GAP}* ann left (their server is gone)\n"));
    bob.say("/name ann\n");
    stage.settle();
    assert_eq!(bob.hears(), "* bob is now ann\n");
    stage.server(0).1.mend();
    stage.settle();
    let heard = ann.hears();
    assert_eq!(heard, format!("{AWAY}{GAP}* your name was taken; you are now user1\n* bob is now ann\n{BACK}"));
    assert_eq!(bob.hears(), "* user1 joined (their server is back)\n");
}

#[test]
fn members_that_do_not_come_back_after_a_loss_leave_together() {
    let mut stage = Stage::open(2, |_| {});
    let [mut dan, ..] = stage.join_as([(0, "dan"), (1, "ann"), (1, "bob"), (1, "carol"), (1, "eve")]);
    stage.servers[1] = None;
    stage.log = Log::default();
    stage.pass(9 * SECOND);
    assert_eq!(dan.hears(), GAP);
    stage.pass(2 * SECOND);
    assert_eq!(dan.hears(), "* ann, bob, carol and 1 more left (their server is gone)\n");
}

/// As far as the others know, members of a server that was killed may come back, but not to names that are given away.
#[test]
fn a_log_that_has_lost_members_gives_their_names_away() {
    let mut stage = Stage::open(2, |_| {});
    let [mut dan] = stage.join_as([(0, "dan")]);
    let (_user2, [_ann]) = (stage.join(1, ROOMY), stage.join_as([(1, "ann")]));
    stage.pass(2 * SECOND);
    dan.hears();
    stage.servers[1] = None;
    stage.log = Log::default();
    let other = stage.start();
    stage.settle();
    assert_eq!(dan.hears(), GAP);
    let [_fay] = stage.join_as([(other, "fay")]);
    assert_eq!(dan.hears(), "* fay joined\n");
    let mut eve = stage.join(other, ROOMY);
    assert!(eve.hears().starts_with("* welcome, user2; "));
    assert_eq!(dan.hears(), "* user2 left (their server is gone)\n");
    eve.say("/name ann\n");
    stage.settle();
    assert_eq!(dan.hears(), "* ann left (their server is gone)\n* ann joined\n");
    stage.pass(12 * SECOND);
    assert_eq!(dan.hears(), "");
}

#[test]
fn a_name_that_was_given_away_meanwhile_has_its_new_holder() {
    let mut stage = Stage::open(2, |_| {});
    let [mut dan, _ann] = stage.join_as([(0, "dan"), (1, "ann")]);
    let now = stage.now;
    stage.server(0).1.cut(now);
    stage.servers[1] = None;
    stage.log = Log::default();
    let other = stage.start();
    let [_eve] = stage.join_as([(other, "ann")]);
    dan.hears();
    stage.server(0).1.mend();
    stage.settle();
    assert_eq!(dan.hears(), format!("{GAP}* ann left (their server is gone)\n* ann joined\n"));
    stage.pass(12 * SECOND);
    assert_eq!(dan.hears(), "");
}

/// The log is put back to where it was before two members swapped their names.
#[test]
fn names_that_were_swapped_belong_to_their_holders() {
    let mut stage = Stage::open(2, |_| {});
    let [mut dan, ann, bob] = stage.join_as([(0, "dan"), (1, "ann"), (1, "bob")]);
    let backup = stage.log.clone();
    for (member, name) in [(&ann, "eve"), (&bob, "ann"), (&ann, "bob")] {
        member.say(&format!("/name {name}\n"));
        stage.settle();
    }
    dan.hears();
    let now = stage.now;
    stage.server(1).1.cut(now);
    stage.log = backup;
    stage.settle();
    assert_eq!(dan.hears(), format!("{GAP}* bob is now ann\n* ann is now bob\n"));
    dan.say("/msg ann one\n/msg bob two\n");
    stage.settle();
    assert_eq!(dan.hears(), "<dan -> ann> one\n<dan -> bob> two\n");
    stage.server(1).1.mend();
    stage.settle();
    assert_eq!(dan.hears(), "* ann is now bob\n* bob is now ann\n");
    dan.say("/msg ann three\n");
    stage.settle();
    assert_eq!(dan.hears(), "<dan -> ann> three\n");
}

#[test]
fn a_server_that_stood_still_is_back_and_its_members_have_not_noticed() {
    let mut stage = Stage::open(2, |_| {});
    let [mut ann, mut bob] = stage.join_as([(0, "ann"), (1, "bob")]);
    let frozen = stage.servers[1].take();
    bob.say("did I miss anything?\n");
    stage.pass(12 * SECOND);
    assert_eq!(ann.hears(), "* bob left (their server is gone)\n");
    ann.say("alone\n");
    stage.settle();
    stage.servers[1] = frozen;
    stage.settle();
    assert_eq!(ann.hears(), "* bob joined (their server is back)\n<bob> did I miss anything?\n");
    assert_eq!(bob.hears(), "<ann> alone\n");
}

#[test]
fn a_member_that_does_not_read_is_reset_for_a_talker_on_another_server() {
    let mut stage = Stage::open(2, |config| config.max_ahead = 100_000);
    let [mut ann, mut dan] = stage.join_as([(0, "ann"), (0, "dan")]);
    let bob = stage.join(1, NARROW);
    stage.pass(2 * SECOND);
    ann.say(&format!("{}\n", "x".repeat(99)).repeat(5_000));
    for second in 0..9 {
        dan.say(&format!("{second}\n"));
        stage.pass(SECOND);
        assert!(ann.hears().ends_with(&format!("<dan> {second}\n")), "a person waits");
    }
    assert!(ann.client.unread() > 0 && !bob.client.record().is_dropped);
    stage.pass(5 * SECOND);
    assert!(bob.client.record().is_dropped, "it silences a talker");
    assert_eq!(ann.client.unread(), 0);
    assert!(dan.hears().contains("* user3 left (too slow)\n"));
}

#[test]
fn a_member_that_has_read_and_stops_is_reset_too() {
    let mut stage = Stage::open(2, |config| config.max_ahead = 100_000);
    let [ann] = stage.join_as([(0, "ann")]);
    let mut bob = stage.join(1, 150_000);
    ann.say(&format!("{}\n", "x".repeat(99)).repeat(20_000));
    stage.pass(9 * SECOND);
    bob.hears();
    stage.pass(9 * SECOND);
    assert!(ann.client.unread() > 0 && !bob.client.record().is_dropped);
    stage.pass(4 * SECOND);
    assert!(bob.client.record().is_dropped, "it silences a talker");
    stage.settle();
    assert_eq!(ann.client.unread(), 0);
}

#[test]
fn a_file_is_paced_by_a_slow_reader_on_another_server_and_loses_nothing() {
    const STEP: usize = 66 << 10;
    let mut stage = Stage::open(2, |_| {});
    let [ann] = stage.join_as([(0, "ann")]);
    let mut bob = stage.join(1, STEP);
    let line = format!("{}\n", "x".repeat(999));
    let count = 2000;
    ann.say(&line.repeat(count));
    let (mut heard, mut quarters) = (String::new(), 0);
    while heard.matches("<ann>").count() < count {
        stage.pass(SECOND / 4);
        heard += &bob.hears();
        quarters += 1;
        assert!(quarters < 200, "{} of {count}", heard.matches("<ann>").count());
        // Beside the window there is what its socket and the block that it is in hold.
        let top = heard.len() + (256 << 10) + STEP + 2 * (64 << 10);
        assert!(stage.log.said() <= top, "{} bytes were said, {} heard", stage.log.said(), heard.len());
    }
    assert!(!bob.client.record().is_dropped);
}

#[test]
fn a_server_goes_on_taking_long_lines_though_a_member_does_not_read() {
    let mut stage = Stage::open(2, |config| (config.max_line, config.max_memory) = (1 << 20, 4 << 20));
    let [ann, mut eve] = stage.join_as([(0, "ann"), (1, "eve")]);
    let bob = stage.join(1, NARROW);
    stage.pass(2 * SECOND);
    eve.hears();
    // Each byte becomes six.
    let line = format!("{}\n", "\u{1}".repeat(1 << 20));
    let mut heard = 0;
    for _ in 0..4 {
        ann.say(&line);
        for _ in 0..30 {
            stage.pass(SECOND / 10);
            heard += eve.hears().len();
        }
    }
    assert_eq!(heard / (5 << 20), 4, "{heard} bytes");
    assert!(bob.client.record().is_dropped, "it pins more than there may be");
}

#[test]
fn who_ends_its_side_still_gets_its_answers() {
    let mut stage = Stage::open(2, |_| {});
    let [ann, mut bob] = stage.join_as([(0, "ann"), (1, "bob")]);
    let mut eve = stage.knock(0, ROOMY);
    eve.say("/name eve\nhello\n/msg bob psst\n/name ann\n");
    eve.client.finish();
    stage.settle();
    let heard = eve.hears();
    assert!(heard.ends_with("* user3 is now eve\n<eve -> bob> psst\n* ann is taken\n"), "{heard}");
    assert_eq!(bob.hears(), "* eve joined\n<eve> hello\n<eve -> bob> psst\n* eve left\n");
    drop(ann);
}

#[test]
fn who_ends_its_side_sees_the_end_when_it_was_heard() {
    let mut stage = Stage::open(2, |config| config.idle_timeout = Some(5 * SECOND));
    let [ann, mut bob] = stage.join_as([(0, "ann"), (1, "bob")]);
    ann.say("heard?\n");
    ann.client.finish();
    // It is read in the turn in which the log gets out of reach.
    let now = stage.now;
    let (world, link) = stage.server(0);
    link.cut(now);
    assert!(world.poll());
    world.turn(|_| {});
    link.push(world.log_side().take_ops());
    for _ in 0..9 {
        stage.pass(SECOND);
        bob.say("/help\n");
    }
    assert!(ann.client.unread() == 0 && !ann.client.record().is_dropped, "it believes that it was heard");
    stage.settle();
    bob.hears();
    stage.server(0).1.mend();
    stage.settle();
    assert_eq!(bob.hears(), "<ann> heard?\n* ann left\n");
    assert!(ann.client.record().is_dropped);
}

#[test]
fn a_newcomer_that_leaves_at_once_leaves_no_trace() {
    let mut stage = Stage::open(2, |_| {});
    let [mut ann, mut bob] = stage.join_as([(0, "ann"), (1, "bob")]);
    for _ in 0..5 {
        let probe = stage.join(0, ROOMY);
        probe.client.finish();
        stage.settle();
        let probe = stage.knock(1, ROOMY);
        probe.client.finish();
        stage.settle();
    }
    stage.pass(2 * SECOND);
    assert_eq!((ann.hears().as_str(), bob.hears().as_str()), ("", ""));
    assert_eq!(stage.log.seats.len(), 2);
}

#[test]
fn a_newcomer_is_told_what_was_said_on_any_server() {
    let mut stage = Stage::open(2, |config| config.history = 10);
    let [ann, bob] = stage.join_as([(0, "ann"), (1, "bob")]);
    ann.say("one\n");
    stage.settle();
    bob.say("two\n");
    stage.settle();
    let mut eve = stage.join(1, ROOMY);
    assert_eq!(eve.hears(), "* welcome, user3; here: ann, bob\n* earlier:\n| <ann> one\n| <bob> two\n");
}

#[test]
fn places_of_clients_that_are_gone_are_free_while_the_log_is_away() {
    let mut stage = Stage::open(2, |_| {});
    let [ann, dan, eve, mut fay] = stage.join_as([(0, "ann"), (0, "dan"), (0, "eve"), (1, "fay")]);
    let now = stage.now;
    stage.server(0).1.cut(now);
    // One breaks before the members are told, and one after that, with a line that nobody has read.
    dan.say("lost\n");
    dan.client.reset();
    stage.pass(2 * SECOND);
    ann.client.finish();
    eve.say("waits\n");
    eve.client.finish();
    stage.settle();
    assert!(dan.client.record().is_dropped, "its connection broke");
    assert!(ann.client.record().is_dropped, "it has said nothing that waits");
    assert!(!eve.client.record().is_dropped, "it believes that it was heard");
    assert_eq!((stage.server(0).0.hub.len(), fay.hears().as_str()), (1, ""));
    eve.client.reset();
    stage.settle();
    assert!(stage.server(0).0.hub.is_empty());
    stage.server(0).1.mend();
    stage.settle();
    let heard = fay.hears();
    for name in ["ann", "dan", "eve"] {
        assert!(heard.contains(&format!("* {name} left\n")), "{heard}");
    }
    assert_eq!(stage.log.seats.len(), 1);
}

#[test]
fn a_client_that_breaks_after_its_last_line_is_not_kept_while_the_log_is_away() {
    let mut stage = Stage::open(2, |_| {});
    let [ann, mut bob] = stage.join_as([(0, "ann"), (1, "bob")]);
    ann.say("heard?\n");
    ann.client.finish();
    let now = stage.now;
    let (world, link) = stage.server(0);
    link.cut(now);
    assert!(world.poll());
    world.turn(|_| {});
    link.push(world.log_side().take_ops());
    stage.pass(2 * SECOND);
    assert!(!ann.client.record().is_dropped, "it believes that it was heard");
    ann.client.reset();
    stage.settle();
    assert!(stage.server(0).0.hub.is_empty());
    stage.server(0).1.mend();
    stage.settle();
    assert_eq!(bob.hears(), "<ann> heard?\n* ann left\n");
}

#[test]
fn members_are_told_that_the_server_stops_and_what_was_not_sent_though_the_log_is_away() {
    const UNSENT: &str = "* your last lines may not have been sent\n";
    const STOPPING: &str = "* server is stopping\n";
    let mut stage = Stage::open(1, |_| {});
    let [mut ann, mut bob, mut dan] = stage.join_as([(0, "ann"), (0, "bob"), (0, "dan")]);
    ann.say("on its way\n");
    let now = stage.now;
    let (world, link) = stage.server(0);
    link.cut(now);
    assert!(world.poll());
    world.turn(|_| {});
    link.push(world.log_side().take_ops());
    stage.pass(2 * SECOND);
    let mut eve = stage.join(0, ROOMY);
    bob.say("not read\n");
    stage.settle_a_little();
    stage.server(0).0.hub.drain();
    stage.settle();
    assert_eq!(ann.hears(), format!("{AWAY}{UNSENT}{STOPPING}"));
    assert_eq!(bob.hears(), format!("{AWAY}{UNSENT}{STOPPING}"));
    assert_eq!(dan.hears(), format!("{AWAY}{STOPPING}"));
    assert_eq!(eve.hears(), format!("{AWAY}{STOPPING}"));
    assert!([&ann, &bob, &dan, &eve].iter().all(|member| member.client.reply_end() == Some(ReplyEnd::Clean)), "no end");
}

/// Its server says so again if it has not heard from the log that it was done.
#[test]
fn a_member_that_joins_once_more_after_a_loss_is_told_once() {
    let mut stage = Stage::open(1, |_| {});
    let [mut ann] = stage.join_as([(0, "ann")]);
    let member = MemberId { server: ServerId(9), number: 1 };
    for position in [100, 101].map(Position) {
        let changes = vec![Change::Joined { member, name: "eve".to_owned() }, Change::Announced { member }];
        stage.server(0).0.tell(LogEvent::Entry { position, changes });
        let now = stage.now;
        stage.server(0).1.cut(now);
        stage.settle();
    }
    assert_eq!(ann.hears(), "* eve joined\n");
}
