//! What the system says about a running program: procfs.

use std::fs;
use std::time::Duration;

use rustix::process::Pid;

/// A value in bytes from the program's status: `VmRSS` is the memory it has now, `VmHWM` the most it had.
pub(crate) fn memory(pid: Pid, name: &str) -> usize {
    let status = read(pid, "status");
    let kibibytes = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.strip_suffix("kB"));
    kibibytes.and_then(|number| number.trim().parse::<usize>().ok()).expect("a number of kB") << 10
}

/// The time the program has spent on a processor, to the hundredth of a second.
pub(crate) fn cpu_time(pid: Pid) -> Duration {
    let stat = read(pid, "stat");
    let (_, fields) = stat.rsplit_once(") ").expect("the fields after the name");
    let ticks = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("ticks"));
    Duration::from_millis(10 * ticks.sum::<u64>())
}

/// Whether the program stands still after SIGSTOP.
pub(crate) fn is_suspended(pid: Pid) -> bool {
    let stat = read(pid, "stat");
    stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T'))
}

/// The soft and the hard limit of descriptors.
pub(crate) fn soft_and_hard_descriptors(pid: Pid) -> (u64, u64) {
    let limits = read(pid, "limits");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("the limit of files");
    let mut numbers = line.split_whitespace().map_while(|word| word.parse().ok());
    (numbers.next().expect("soft"), numbers.next().expect("hard"))
}

/// Whether somebody listens on this port of 127.0.0.1.
pub(crate) fn is_listening(port: u16) -> bool {
    const LISTEN: &str = "0A";
    let table = fs::read_to_string("/proc/net/tcp").expect("procfs");
    let local = format!("0100007F:{port:04X}");
    let mut rows = table.lines().map(|row| row.split_whitespace());
    rows.any(|mut row| row.nth(1) == Some(&local) && row.nth(1) == Some(LISTEN))
}

/// The number and the open(2) flags of each descriptor.
pub(crate) fn descriptor_flags(pid: Pid) -> Vec<(i32, u32)> {
    let folder = format!("/proc/{pid}/fdinfo");
    let entries = fs::read_dir(folder).expect("procfs").map_while(Result::ok);
    // One that is closed meanwhile is left out.
    let flags = entries.filter_map(|entry| {
        let info = fs::read_to_string(entry.path()).ok()?;
        let octal = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags").trim();
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok()).expect("a number");
        Some((number, u32::from_str_radix(octal, 8).expect("octal digits")))
    });
    flags.collect()
}

fn read(pid: Pid, file: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{file}")).expect("procfs")
}
