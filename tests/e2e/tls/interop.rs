//! TLS with the programs that people have, and what they make.

use std::io::Write;
use std::process::Stdio;

use super::{server, wait_for};
use crate::harness::{
    Certificates, Lines, Process, Server, assert_same, client, feed, has, random_bytes, rng, run, server_command,
};
use crate::interop::tool;

#[test]
fn keys_that_are_not_known_are_refused_in_a_sentence() {
    if !has("openssl") {
        return;
    }
    let path = |name: &str| crate::harness::scratch_file(name).into_os_string().into_string().expect("text");
    let (key, certificate) = (path("p521.key"), path("p521.pem"));
    let new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521", "-nodes", "-subj", "/CN=localhost"];
    let line = [&["openssl", "req", "-x509", "-keyout", &key, "-out", &certificate], &new[..]].concat();
    assert_eq!(run(tool(&line), Stdio::null()).code, Some(0));
    let command = server_command(&["--port", "0", "--tls-cert", &certificate, "--tls-key", &key]);
    let output = run(command, Stdio::null());
    assert_eq!(output.code, Some(1));
    assert!(
        output.stderr.ends_with("p521.key: keys are RSA of 2048 to 8192 bits, ECDSA with P-256 or P-384, or Ed25519\n"),
        "{}",
        output.stderr
    );
}

/// Keys as older tools write them.
#[test]
fn old_forms_of_keys_are_read() {
    if !has("openssl") {
        return;
    }
    let path = |name: &str| crate::harness::scratch_file(name).into_os_string().into_string().expect("text");
    let openssl = |arguments: &[&str]| {
        let output = run(tool(&[&["openssl"], arguments].concat()), Stdio::null());
        assert_eq!(output.code, Some(0), "{}", output.stderr);
    };
    for (kind, make) in [
        ("RSA PRIVATE KEY", &["genrsa", "-traditional", "-out"][..]),
        ("EC PRIVATE KEY", &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"]),
        ("PRIVATE KEY", &["genpkey", "-algorithm", "ed25519", "-out"]),
    ] {
        let (key, certificate) = (path(&format!("{kind}.key")), path(&format!("{kind}.pem")));
        openssl(&[make, &[&*key]].concat());
        assert!(std::fs::read_to_string(&key).expect("there").contains(&format!("BEGIN {kind}")));
        let name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"];
        openssl(&[&["req", "-x509", "-days", "2", "-key", &key, "-out", &certificate][..], &name].concat());
        let server = Server::start(&["--tls-cert", &certificate, "--tls-key", &key]);
        let output = run(client(server.port, &["--tls", "--insecure", "hello"]), Stdio::null());
        assert_eq!((output.code, &*output.stdout), (Some(0), &b"hello\n"[..]), "{kind}: {}", output.stderr);
        server.stop();
    }
}

#[test]
fn nothing_weak_is_accepted() {
    if !has("openssl") {
        return;
    }
    let server = server(&["--verbose"]);
    let address = format!("127.0.0.1:{}", server.port);
    let accepts = |options: &[&str]| {
        let line = [&["openssl", "s_client", "-connect", &address], options].concat();
        run(tool(&line), Stdio::null()).code == Some(0)
    };
    assert!(accepts(&["-tls1_3"]) && accepts(&["-tls1_2"]));
    // At level 0, openssl itself offers everything that it has.
    for old in ["-tls1_1", "-tls1"] {
        assert!(!accepts(&[old, "-cipher", "ALL:COMPLEMENTOFALL:@SECLEVEL=0"]), "{old}");
    }
    for weak in ["eNULL", "aNULL", "RSA", "SHA1", "SHA256", "3DES", "RC4", "DHE", "AESCCM", "PSK"] {
        assert!(!accepts(&["-tls1_2", "-cipher", &format!("{weak}:!ECDHE+AESGCM:@SECLEVEL=0")]), "{weak}");
    }
    server.stop();
}

/// What openssl asks for first is AES-256 with SHA-384.
#[test]
fn of_what_both_sides_have_the_cheapest_suite_is_used() {
    if !has("openssl") {
        return;
    }
    let server = server(&[]);
    let address = format!("127.0.0.1:{}", server.port);
    for (options, suite) in [
        (&["-tls1_3"][..], "TLS_AES_128_GCM_SHA256"),
        (&["-tls1_2"], "ECDHE-ECDSA-AES128-GCM-SHA256"),
        (&["-ciphersuites", "TLS_AES_256_GCM_SHA384"], "TLS_AES_256_GCM_SHA384"),
        (&["-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"], "TLS_CHACHA20_POLY1305_SHA256"),
    ] {
        let line = [&["openssl", "s_client", "-connect", &address], options].concat();
        let output = run(tool(&line), Stdio::null());
        let report = String::from_utf8_lossy(&output.stdout);
        assert!(report.contains(&format!("Cipher is {suite}\n")), "{suite}: {report}");
    }
    server.stop();
}

#[test]
fn openssl_gnutls_ncat_and_socat_get_their_echo() {
    let server = server(&[]);
    let (port, address) = (server.port.to_string(), format!("127.0.0.1:{}", server.port));
    let message = random_bytes(&mut rng(), 1 << 20);
    if has("socat") {
        let target = format!("OPENSSL:{address},cafile={}", Certificates::shared().authority);
        let output = feed(tool(&["socat", "-t", "20", "-", &target]), &*message);
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        assert_same(&output.stdout, &message);
    }
    if has("ncat") {
        let output = feed(tool(&["ncat", "--ssl", "127.0.0.1", &port]), &b"Hello, ncat!\n"[..]);
        assert_same(&output.stdout, b"Hello, ncat!\n");
    }
    for line in [
        &["openssl", "s_client", "-quiet", "-verify_quiet", "-connect", &address][..],
        &["gnutls-cli", "--no-ca-verification", "--port", &port, "127.0.0.1"],
    ] {
        if has(line[0]) {
            expect_conversation(line);
        }
    }
    server.stop();
}

/// A client that stays connected sees the echo of a line at once.
fn expect_conversation(line: &[&str]) {
    let mut command = tool(line);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Process::spawn(command);
    let (mut stdin, screen) = (process.take_stdin(), Lines::of(process.take_stdout()));
    for text in ["Hello, world!", "Grüße"] {
        writeln!(stdin, "{text}").expect("taken");
        screen.wait_until(|lines| lines.iter().any(|line| line == text).then_some(()));
    }
}

#[test]
fn python_half_closes_and_reads_on() {
    const SCRIPT: &str = "
import socket, ssl, sys, threading
message = sys.stdin.buffer.read()
context = ssl.create_default_context(cafile=sys.argv[2])
raw = socket.create_connection(('127.0.0.1', int(sys.argv[1])), timeout=20)
# A socket of this module cannot half-close: what does the protocol in memory can.
incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
tls = context.wrap_bio(incoming, outgoing, server_hostname='localhost')
def push():
    if part := outgoing.read():
        raw.sendall(part)
def step(work):
    while True:
        try:
            return work()
        except ssl.SSLWantReadError:
            push()
            part = raw.recv(65536)
            incoming.write(part) if part else incoming.write_eof()
        finally:
            push()
step(tls.do_handshake)
def send():
    for at in range(0, len(message), 16384):
        tls.write(message[at:at + 16384])
        push()
send()
try:
    tls.unwrap()
except ssl.SSLWantReadError:
    pass
except ssl.SSLError as error:
    # Echo that came first: the alert has been written all the same.
    assert 'APPLICATION_DATA' in str(error), error
push()
raw.shutdown(socket.SHUT_WR)
echo = b''
while len(echo) < len(message):
    echo += step(lambda: tls.read(65536))
sys.stdout.buffer.write(echo)
";
    if !has("python3") {
        return;
    }
    let server = server(&["--verbose"]);
    let message = random_bytes(&mut rng(), 200_000);
    let output =
        feed(tool(&["python3", "-c", SCRIPT, &server.port.to_string(), &Certificates::shared().authority]), &*message);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert_same(&output.stdout, &message);
    wait_for(&server, ": the client finished");
    server.stop();
}

/// openssl's server sends each line back reversed.
#[test]
fn the_client_talks_to_openssl() {
    if !has("openssl") {
        return;
    }
    let own = Certificates::shared();
    for version in ["-tls1_2", "-tls1_3"] {
        let port = crate::harness::free_port().to_string();
        let files = ["-cert", &own.server[0], "-key", &own.server[1], "-CAfile", &own.authority];
        let line = ["openssl", "s_server", "-accept", &port, "-rev", "-Verify", "1", version];
        let mut command = tool(&[&line[..], &files].concat());
        command.stdout(Stdio::piped());
        let mut process = Process::spawn(command);
        let screen = Lines::of(process.take_stdout());
        screen.wait_until(|lines| lines.iter().any(|line| line.contains("ACCEPT")).then_some(()));
        let port = port.parse().expect("a port");
        let identity = ["--cert", &own.client[0], "--key", &own.client[1]];
        let options = [&own.client_options()[..], &identity].concat();
        let output = feed(client(port, &options), &b"Hello\n"[..]);
        // It does not end its reply by close_notify when the client has half-closed, or it does: both are reported as
        // they are.
        assert_eq!(output.stdout, b"olleH\n", "{version}: {}", output.stderr);
    }
}
