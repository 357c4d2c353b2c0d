//! Rooms whose log is away, or late.

use std::time::Duration;

use super::{AWAY, BACK, ROOMY, SECOND, Stage};
use crate::socket::ReplyEnd;

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

/// The log is away for a shorter time than it takes until the members are told.
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
    assert_eq!(stage.log.records.len(), 1);
}

#[test]
fn a_client_that_breaks_after_its_last_line_is_not_kept_while_the_log_is_away() {
    let mut stage = Stage::open(2, |_| {});
    let [ann, mut bob] = stage.join_as([(0, "ann"), (1, "bob")]);
    ann.say("heard?\n");
    ann.client.finish();
    stage.cut_before_a_turn(0);
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
    stage.cut_before_a_turn(0);
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
