//! Members that read slowly or not at all, and talkers on other servers.

use super::{NARROW, SECOND, Stage};

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
