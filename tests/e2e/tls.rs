//! TLS in both programs: what they accept, what they refuse, and what they say.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Stdio;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::harness::{
    Certificates, Lines, Output, Process, Server, assert_same, client, connect, feed, random_bytes, rng, run,
    server_command, server_name, skipped_over_tls,
};

mod interop;
mod session;

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
