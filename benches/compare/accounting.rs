//! What the system says a process has used: processor time and memory.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::time::Duration;

use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use rustix::param::clock_ticks_per_second;
use serde::Serialize;

use crate::Result;

/// The time, in user mode and in the system, that the process has spent with all its threads, also those that have
/// ended; to the nanosecond, which the ticks of procfs are far from.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    Ok(clock_getcpuclockid(Pid::from_raw(pid.cast_signed()))?.now()?.into())
}

/// The time of the children of a process and theirs, those that run and those that have ended and were waited for.
/// The latter are told in ticks.
pub(crate) fn cpu_time_of_children(pid: u32) -> Result<Duration> {
    let mut total = Stat::of(pid)?.of_waited_for;
    for child in children(pid)? {
        // One that has just ended is among those waited for, or will be.
        total += cpu_time(child).unwrap_or_default();
        total += Stat::of(child).map_or(Duration::ZERO, |stat| stat.of_waited_for);
    }
    Ok(total)
}

/// The children of a process that have not ended, and theirs.
pub(crate) fn children(pid: u32) -> io::Result<Vec<u32>> {
    let mut by_parent: HashMap<u32, Vec<u32>> = HashMap::new();
    for stat in processes()? {
        by_parent.entry(stat.parent).or_default().push(stat.pid);
    }
    let mut found = by_parent.remove(&pid).unwrap_or_default();
    let mut next = 0;
    while let Some(member) = found.get(next) {
        let of_member = by_parent.remove(member).unwrap_or_default();
        found.extend(of_member);
        next += 1;
    }
    Ok(found)
}

/// What a process has of the memory, in bytes.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Memory {
    /// All that is resident, shared with others or not.
    pub(crate) resident: u64,
    /// What is resident, each shared page divided by the number of those who share it.
    pub(crate) proportional: u64,
    /// What it has written to, and nobody else has: its own.
    pub(crate) own: u64,
}

impl Memory {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let value = |name: &str| -> Result<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.strip_suffix("kB"));
            let number = line.ok_or_else(|| format!("the system does not tell {name}"))?;
            Ok(number.trim().parse::<u64>()? << 10)
        };
        Ok(Self { resident: value("Rss")?, proportional: value("Pss")?, own: value("Private_Dirty")? })
    }
}

/// What is needed of `/proc/PID/stat`.
struct Stat {
    pid: u32,
    parent: u32,
    of_waited_for: Duration,
}

impl Stat {
    fn of(pid: u32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name before it may contain anything.
        let fields: Vec<&str> = text.rsplit_once(") ").map_or(Vec::new(), |(_, rest)| rest.split(' ').collect());
        let field = |number: usize| -> u64 { fields.get(number).and_then(|field| field.parse().ok()).unwrap_or(0) };
        let ticks = field(13) + field(14);
        let of_waited_for = Duration::from_nanos(ticks * (1_000_000_000 / clock_ticks_per_second()));
        Ok(Self { pid, parent: field(1) as u32, of_waited_for })
    }
}

fn processes() -> io::Result<Vec<Stat>> {
    let entries = fs::read_dir("/proc")?.map_while(std::result::Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // One that has ended meanwhile is left out.
    Ok(pids.filter_map(|pid| Stat::of(pid).ok()).collect())
}
