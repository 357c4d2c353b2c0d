//! The programs that are compared.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::servers::{Program, Server};
use crate::{Bench, Result};

pub(crate) const DAEMON: &str = "echo-server";
pub(crate) const LOGGING: &str = "echo-server, logging";
/// The daemon behind a proxy that announces each connection.
pub(crate) const PROXIED: &str = "echo-server, PROXY header";
pub(crate) const FLOOR: &str = "floor";
/// The same as the floor: what they differ by is noise.
pub(crate) const AGAIN: &str = "floor again";
pub(crate) const TOKIO: &str = "tokio";

/// The daemon as it is fastest.
pub(crate) fn daemon() -> Program {
    Program::daemon(DAEMON, &["--quiet"]).central()
}

/// The daemon, with a line for every message.
pub(crate) fn logging() -> Program {
    Program::daemon(LOGGING, &[]).central()
}

/// The daemon, where each connection begins with a PROXY header.
pub(crate) fn proxied() -> Program {
    Program::daemon(PROXIED, &["--quiet", "--proxy-from", "127.0.0.1"]).central()
}

pub(crate) fn floor() -> Program {
    Program::own(FLOOR, &["floor"]).central()
}

pub(crate) fn floor_again() -> Program {
    Program::own(AGAIN, &["floor"]).central()
}

/// Looks for what people would use instead, and builds what is to be built.
pub(crate) fn find_peers(bench: &Bench) -> Vec<Program> {
    let mut peers = vec![Program::own(TOKIO, &["tokio"]), Program::own("threads", &["threads"])];
    let built = [("asyncio", python(&["asyncio"])), ("uvloop", python(&["uvloop"])), ("go", go())];
    for (name, outcome) in built {
        match outcome {
            Ok(words) => peers.push(Program::new(name, words)),
            Err(why) => bench.note_missing(name, why.to_string()),
        }
    }
    peers.extend([
        Program::new("node", ["node".into(), source("echo.js")]),
        Program::new(
            "ncat",
            ["ncat", "--listen", "127.0.0.1", "{port}", "--keep-open", "--max-conns=1000", "--exec=/bin/cat"],
        )
        .forking(),
        Program::new("socat", ["socat", "TCP-LISTEN:{port},bind=127.0.0.1,backlog=4096,nodelay,fork", "PIPE"])
            .forking(),
    ]);
    peers
}

/// Those of them that can take streams at full speed, and those that cannot: they pass everything through pipes, and wait
/// for room in one while the other fills up.
pub(crate) fn peers_for_streams(bench: &Bench) -> (Vec<Program>, Vec<Program>) {
    bench.peers().into_iter().partition(|peer| !peer.forks)
}

/// Why the latter are left out.
pub(crate) const STUCK: &str = "sticks when both directions are full";

/// The servers that could be started; the others are noted as missing.
pub(crate) fn start(bench: &Bench, programs: &[Program]) -> Result<Vec<Server>> {
    let mut servers = Vec::new();
    for program in programs {
        bench.progress.show(&format!("starting {}", program.name));
        servers.extend(bench.start(program)?);
    }
    Ok(servers)
}

/// The file of a peer in another language.
pub(crate) fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers").join(name)
}

/// The command line of echo.py on this loop. The interpreter is asked for its own place, because what is called python3
/// may be a script that looks for it.
fn python(modules: &[&str]) -> Result<Vec<PathBuf>> {
    let question = format!("import sys, {}; print(sys.executable)", modules.join(", "));
    let answer = Command::new("python3").args(["-c", &question]).stderr(Stdio::null()).output();
    let answer = answer.map_err(|_| "not installed")?;
    if !answer.status.success() {
        return Err(format!("python3 has no {}", modules.join(", ")).into());
    }
    let interpreter = String::from_utf8(answer.stdout)?.trim().into();
    Ok([vec![interpreter, source("echo.py")], modules.iter().map(PathBuf::from).collect()].concat())
}

/// The command line of echo.go, which is built first.
pub(crate) fn go() -> Result<Vec<PathBuf>> {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("echo-go");
    let build = Command::new("go").args(["build", "-o"]).arg(&program).arg(source("echo.go")).output();
    let build = build.map_err(|_| "not installed")?;
    match build.status.success() {
        true => Ok(vec![program]),
        false => Err(String::from_utf8_lossy(&build.stderr).trim().into()),
    }
}
