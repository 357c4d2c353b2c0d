//! TLS in both programs: what they accept, what they refuse, and what they say.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Stdio;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::harness::{
    Certificates, Lines, Output, Process, Server, assert_same, client, connect, feed, has, random_bytes, rng, run,
    server_command, server_name, skipped_over_tls,
};
use crate::interop::tool;

type Client = StreamOwned<ClientConnection, TcpStream>;

/// A server with the shared certificate, and these options.
fn server(options: &[&str]) -> Server {
    Server::start(&[&Certificates::shared().server_options(), options].concat())
}

/// A client that speaks TLS and does nothing by itself.
fn raw(server: &Server) -> Client {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&Certificates::shared().authority).expect("there")).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = builder.expect("versions").with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).expect("good settings"), connect(server.address()))
}

fn tls_client(server: &Server, arguments: &[&str]) -> Output {
    let command = client(server.port, &[&Certificates::shared().client_options(), arguments].concat());
    run(command, Stdio::null())
}

/// Waits for a line of the log that has this in it.
fn wait_for(server: &Server, text: &str) -> String {
    server.console.wait_until(|lines| lines.iter().find(|line| line.contains(text)).cloned())
}

#[test]
fn a_certificate_made_at_the_start_can_be_pinned() {
    // Standard error has to be read while the server runs.
    let mut command = server_command(&["--port", "0", "--tls-self-signed"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the server");
    let console = Lines::of(child.stdout.take().expect("a pipe"));
    let errors = Lines::of(child.stderr.take().expect("a pipe"));
    let line = errors.wait_until(|lines| lines.first().cloned());
    let port = console.wait_until(|lines| lines.first().map(|line| crate::harness::start_line_port(line)));
    let pin = line.strip_prefix("sha256 fingerprint: ").expect("the fingerprint");
    let output = run(client(port, &["--tls", "--pin", pin, "Hello, world!"]), Stdio::null());
    assert_eq!((output.code, &*output.stdout, &*output.stderr), (Some(0), &b"Hello, world!\n"[..], ""));
    let output = run(client(port, &["--tls", "hello"]), Stdio::null());
    let unknown = "its issuer is unknown (--cacert accepts an authority, and --pin one certificate)\n";
    assert_eq!(output.code, Some(1));
    // Where the system has no authorities at all, that is what is said.
    assert!(output.stderr.ends_with(unknown) || output.stderr.contains("no certificates of auth"), "{}", output.stderr);
    child.kill().expect("it runs");
    child.wait().expect("a child");
}

#[test]
fn messages_checks_and_pipes_are_exact() {
    let server = server(&[]);
    let output = tls_client(&server, &["Hello, world!"]);
    assert_eq!((output.code, &*output.stdout, &*output.stderr), (Some(0), &b"Hello, world!\n"[..], ""));
    let message = random_bytes(&mut rng(), 3 << 20);
    let options = Certificates::shared().client_options();
    let output = feed(client(server.port, &options), &*message);
    assert_eq!((output.code, &*output.stderr), (Some(0), ""));
    assert_same(&output.stdout, &message);
    let output = feed(client(server.port, &[&options[..], &["--check"]].concat()), &*message);
    assert_eq!((output.code, &*output.stderr), (Some(0), ""));
    server.stop();
}

#[test]
fn wrong_files_are_refused_before_the_server_starts() {
    let (own, other) = (Certificates::shared(), Certificates::new());
    let refusal = |options: &[&str]| {
        let output = run(server_command(&[&["--port", "0"], options].concat()), Stdio::null());
        assert_eq!((output.code, &*output.stdout), (Some(1), &b""[..]));
        output.stderr
    };
    let error = refusal(&["--tls-cert", &own.server[0], "--tls-key", &other.server[1]]);
    assert!(error.starts_with("echo-server: cannot use the key ") && error.lines().count() == 1, "{error}");
    assert!(error.contains("it does not belong to the certificate"), "{error}");
    let error = refusal(&["--tls-cert", "/nonexistent", "--tls-key", &own.server[1]]);
    assert_eq!(error, "echo-server: cannot read the certificate /nonexistent: No such file or directory\n");
    let error = refusal(&["--tls-self-signed", "--tls-client-ca", &own.server[1]]);
    assert!(error.contains("there is no PEM certificate in it"), "{error}");
}

#[test]
fn options_that_do_not_go_together_are_wrong_usage() {
    let own = Certificates::shared();
    for options in [
        &["--tls-cert", &own.server[0]][..],
        &["--tls-key", &own.server[1]],
        &["--tls-client-ca", &own.authority],
        &["--tls-self-signed", "--tls-key", &own.server[1]],
        &["--tls-self-signed", "--tls-cert", &own.server[0], "--tls-key", &own.server[1]],
    ] {
        assert_eq!(run(server_command(options), Stdio::null()).code, Some(2), "{options:?}");
    }
}

#[test]
fn a_room_with_an_authority_is_closed_to_strangers() {
    let own = Certificates::shared();
    let server = server(&["--chat", "--verbose", "--tls-client-ca", &own.authority]);
    let output = tls_client(&server, &["hello"]);
    assert_eq!((output.code, &*output.stdout), (Some(1), &b""[..]));
    assert!(output.stderr.contains("certificate required"), "{}", output.stderr);
    let strange = Certificates::new();
    let output = tls_client(&server, &["--cert", &strange.client[0], "--key", &strange.client[1], "hello"]);
    assert_eq!((output.code, &*output.stdout), (Some(1), &b""[..]));

    let output = tls_client(&server, &["--cert", &own.client[0], "--key", &own.client[1], "hello"]);
    assert_eq!((output.code, &*output.stderr), (Some(0), ""));
    assert!(output.stdout.starts_with(b"* welcome, "));
    let opened = wait_for(&server, "] Opened: ");
    assert!(opened.ends_with(", O=Example,CN=ann"), "{opened}");
    wait_for(&server, "] TLS failed: ");
    server.stop();
}

#[test]
fn the_subject_of_a_client_is_in_the_json_lines() {
    let own = Certificates::shared();
    let options = [&own.server_options()[..], &["--tls-client-ca", &own.authority]].concat();
    let mut command = server_command(&[&["--port", "0", "-v", "--log-format", "json"], &options[..]].concat());
    let mut process = Process::spawn({
        command.stdout(Stdio::piped());
        command
    });
    let console = Lines::of(process.take_stdout());
    let wait_for = |text: &str| console.wait_until(|lines| lines.iter().find(|line| line.contains(text)).cloned());
    let started = wait_for(r#""event":"started""#);
    let (_, port) = started.split_once(r#""port":"#).expect("the port");
    let port = port.trim_end_matches('}').parse().expect("a number");
    let connect = |identity: &[&str]| {
        run(client(port, &[&own.client_options()[..], identity, &["hello"]].concat()), Stdio::null()).code
    };
    assert_eq!(connect(&["--cert", &own.client[0], "--key", &own.client[1]]), Some(0));
    let line = wait_for(r#""event":"opened""#);
    assert!(line.contains(r#""subject":"O=Example,CN=ann""#), "{line}");
    assert_eq!(connect(&[]), Some(1));
    let line = wait_for(r#""event":"handshake_failed""#);
    assert!(line.contains(r#""reason":"no certificate was presented""#), "{line}");
}

#[test]
fn plain_text_gets_an_alert() {
    let server = server(&["--verbose"]);
    for text in ["hi", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
        let mut stream = connect(server.address());
        stream.write_all(text.as_bytes()).expect("sent");
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).expect("the alert and the end");
        assert_eq!(reply, [21, 3, 3, 0, 2, 2, 50], "{text:?}");
    }
    let line = wait_for(&server, "] TLS failed: ");
    assert!(line.ends_with(": not TLS"), "{line}");
    let output = run(client(server.port, &["hello"]), Stdio::null());
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.ends_with("it speaks TLS (use --tls)\n"), "{}", output.stderr);
    server.stop();
}

#[test]
fn a_client_of_a_plain_server_says_so() {
    if skipped_over_tls("no server is plain") {
        return;
    }
    let server = Server::start(&[]);
    let output = tls_client(&server, &["hello"]);
    assert_eq!(output.code, Some(1));
    let said = format!("echo-client: no TLS with {}: the server does not speak TLS\n", server_name(server.port));
    assert_eq!(output.stderr, said);
}

#[test]
fn a_truncated_message_is_echoed_and_reported() {
    let server = server(&["--verbose"]);
    let mut stream = raw(&server);
    stream.write_all(b"hello").expect("sent");
    stream.sock.shutdown(Shutdown::Write).expect("half-closed");
    let mut echo = Vec::new();
    stream.read_to_end(&mut echo).expect("the echo and its end, with close_notify");
    assert_eq!(echo, b"hello");
    let line = wait_for(&server, "] Closed: ");
    assert!(line.ends_with(", 5 bytes in, 5 bytes out: ended without close_notify"), "{line}");
    server.stop();
}

#[test]
fn a_half_closed_client_reads_its_whole_echo() {
    let server = server(&[]);
    let mut stream = raw(&server);
    let message = random_bytes(&mut rng(), 300_000);
    stream.write_all(&message).expect("sent");
    stream.conn.send_close_notify();
    stream.flush().expect("sent");
    let mut echo = Vec::new();
    stream.read_to_end(&mut echo).expect("the echo and its end");
    assert_same(&echo, &message);
    server.stop();
}

#[test]
fn a_flood_of_key_updates_and_small_records_does_no_harm() {
    let server = server(&["--verbose"]);
    let mut stream = raw(&server);
    // A record and a key update for each byte.
    for byte in 0..200_u8 {
        stream.write_all(&[byte]).expect("sent");
        stream.conn.refresh_traffic_keys().expect("TLS 1.3");
    }
    let mut echo = [0; 200];
    stream.read_exact(&mut echo).expect("the echo");
    assert!(echo.iter().copied().eq(0..200));
    // Key updates and nothing else are an attack.
    for _ in 0..100 {
        stream.conn.refresh_traffic_keys().expect("TLS 1.3");
    }
    let ended = stream.flush().and_then(|()| stream.read(&mut [0; 9]));
    assert!(ended.is_err(), "{ended:?}");
    wait_for(&server, "bytes out: the connection broke");
    server.stop();
}

#[test]
fn unfinished_handshakes_end_in_time() {
    let server = server(&["--verbose", "--handshake-timeout", "100ms"]);
    let mut silent = connect(server.address());
    let mut begun = connect(server.address());
    begun.write_all(&[22, 3, 1, 0, 200]).expect("sent");
    for stream in [&mut silent, &mut begun] {
        let end = stream.read(&mut [0; 9]).map_err(|error| error.kind());
        assert!(matches!(end, Ok(0) | Err(ErrorKind::ConnectionReset)), "{end:?}");
    }
    wait_for(&server, ": it took too long");
    // Who is done with the handshake may take its time.
    let mut stream = raw(&server);
    for message in [b"one", b"two"] {
        stream.write_all(message).expect("sent");
        let mut echo = [0; 3];
        stream.read_exact(&mut echo).expect("the echo");
        assert_eq!(&echo, message);
        std::thread::sleep(std::time::Duration::from_millis(150));
    }
}

#[test]
fn unfinished_handshakes_leave_room_for_others() {
    let server = server(&["--max-connections", "8"]);
    let mut idle: Vec<TcpStream> = (0..20).map(|_| connect(server.address())).collect();
    for _ in 0..3 {
        assert_eq!(tls_client(&server, &["hello"]).code, Some(0));
    }
    // All but the last four, or fewer where the clients took their places, have been closed.
    for stream in &mut idle[..16] {
        let end = stream.read(&mut [0; 9]).map_err(|error| error.kind());
        assert!(matches!(end, Ok(0) | Err(ErrorKind::ConnectionReset)), "{end:?}");
    }
    server.stop();
}

#[test]
fn a_stopping_server_says_goodbye() {
    let server = server(&[]);
    let mut stream = raw(&server);
    stream.write_all(b"hello").expect("sent");
    stream.read_exact(&mut [0; 5]).expect("the echo");
    server.process.signal(rustix::process::Signal::TERM);
    assert_eq!(stream.read(&mut [0; 9]).expect("close_notify"), 0);
    drop(stream);
    assert_eq!(server.expect_stopped().len(), 1);
}

/// By then the server has sent its end, and waits for the client's.
#[test]
fn what_breaks_the_protocol_after_the_end_does_no_harm() {
    let server = server(&["--chat", "--verbose"]);
    let mut stream = raw(&server);
    stream.write_all(b"/quit\n").expect("sent");
    stream.read_to_end(&mut Vec::new()).expect("the greeting and the end");
    stream.sock.write_all(&[&[23, 3, 3, 0, 32], &[7; 32][..]].concat()).expect("sent");
    drop(stream);
    wait_for(&server, "] Closed: ");
    server.stop();
}

#[test]
fn a_proxy_announces_its_clients_before_the_handshake() {
    let server = server(&["--verbose", "--proxy-from", "127.0.0.1"]);
    let mut stream = raw(&server);
    stream.sock.write_all(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 8888\r\n").expect("sent");
    stream.write_all(b"hello").expect("sent");
    stream.read_exact(&mut [0; 5]).expect("the echo");
    wait_for(&server, "] Opened: 192.0.2.7:4711");
}

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
