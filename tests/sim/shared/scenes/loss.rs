//! Logs that have lost entries, and servers that have missed some.

use sockets::shared_log::{Change, LogEvent, MemberId, Position, ServerId};

use super::{AWAY, BACK, GAP, ROOMY, SECOND, Stage};
use crate::shared::log::Log;

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
