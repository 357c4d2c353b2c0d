//! What a member may cost the others: memory and processor time.

use std::time::{Duration, Instant};

use crate::harness::{DEADLINE, Member, Server, cpu_time, memory, skipped_over_tls};

const MIB: usize = 1 << 20;
/// What a program may need for itself besides what it holds for clients.
const SLACK: usize = 6 * MIB;

#[test]
fn a_long_line_of_escapes_leaves_nothing_behind() {
    // Without optimization escaping takes long.
    const LENGTH: usize = if cfg!(debug_assertions) { MIB } else { 16 * MIB };
    let server = Server::start(&["--chat", "--quiet", "--max-line", "16MiB"]);
    let mut ann = Member::join(&server, "ann", "");
    let author = Member::join(&server, "author", "ann");
    ann.hears(&["* author joined"]);
    author.say("a short line\n");
    ann.hears(&["<author> a short line"]);
    let before = memory(server.process.pid(), "VmRSS");

    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut line = vec![0x1b; LENGTH];
            line.push(b'\n');
            author.say(line);
        });
        let line = ann.line();
        assert!(line == format!("<author> {}", r"\u{1b}".repeat(LENGTH)), "not the line: {line:.60}");
    });
    drop(author);
    ann.hears(&["* author left"]);
    let most = memory(server.process.pid(), "VmHWM") - before;
    let begin = Instant::now();
    let mut after = usize::MAX;
    while after > before + SLACK && begin.elapsed() < DEADLINE / 10 {
        // What is freed in the turn in which the author leaves is gone in the next one.
        ann.is_answered("/who", "* here: ann");
        after = memory(server.process.pid(), "VmRSS");
    }
    let more = after.saturating_sub(before);
    println!("{} MiB of escapes: at most {} MiB more, {} KiB more in the end", LENGTH / MIB, most / MIB, more >> 10);
    assert!(more < SLACK, "{} MiB are left", more / MIB);
    server.stop();
}

#[test]
fn a_private_command_costs_no_more_in_a_large_room() {
    if skipped_over_tls("a thousand relays take too long") {
        return;
    }
    const MEMBERS: usize = 1000;
    const COMMANDS: u32 = 5000;
    // Debug builds check all members now and then.
    const MORE: Duration = Duration::from_micros(if cfg!(debug_assertions) { 60 } else { 10 });
    let server = Server::start(&["--chat", "--quiet"]);
    let mut ann = Member::join(&server, "ann", "");
    let cost = |ann: &mut Member| {
        let before = cpu_time(server.process.pid());
        for _ in 0..COMMANDS {
            ann.is_answered("/help", "* /name NEW, /who, /msg NAME TEXT, /me ACTION, /help, /quit; //text says /text");
        }
        (cpu_time(server.process.pid()) - before) / COMMANDS
    };
    let alone = cost(&mut ann);
    let names = (0..MEMBERS).map(|number| format!("member{number}"));
    let _members: Vec<Member> = names.map(|name| Member::enter(server.connect(), &name).0).collect();
    let last = format!("* member{} joined", MEMBERS - 1);
    while ann.line() != last {}
    let beside = cost(&mut ann);
    println!("a private command takes {alone:.1?} of processor time alone, {beside:.1?} beside {MEMBERS} members");
    assert!(beside < 3 * alone + MORE, "it took {beside:?} instead of {alone:?}");
    server.stop();
}
