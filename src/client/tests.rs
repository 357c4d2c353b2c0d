//! Exchanges over real connections of this machine and over pipes in memory.

use std::io::{ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Instant;

use super::*;

/// A timeout that is to run out, or that would run out if it ran while it must not. (Shorter ones run out by
/// themselves on a busy machine.)
const SHORT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(60);

/// More than the buffers of a loopback connection hold, in bytes.
const MUCH: usize = 16 << 20;

/// A real connection to a server that does `answer`.
fn serve(timeout: Duration, answer: impl FnOnce(&mut TcpStream) -> io::Result<()> + Send + 'static) -> Peer<Stream> {
    serve_within(Timeouts { progress: timeout, ..Timeouts::default() }, answer)
}

fn serve_within(
    timeouts: Timeouts,
    answer: impl FnOnce(&mut TcpStream) -> io::Result<()> + Send + 'static,
) -> Peer<Stream> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let peer = connect("127.0.0.1", port, timeouts).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    // Once the client has what it came for, writing to it may fail.
    thread::spawn(move || answer(&mut stream));
    peer
}

fn echo(stream: &mut TcpStream) -> io::Result<()> {
    io::copy(&mut stream.try_clone()?, stream).map(drop)
}

fn read_all(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = Vec::new();
    stream.read_to_end(&mut message)?;
    Ok(message)
}

fn random(length: usize) -> Vec<u8> {
    std::iter::repeat_with(|| fastrand::u8(..)).take(length).collect()
}

/// The reply to `message`, and how the exchange ended.
fn exchanged<R: Read, W: HalfClose + Send + 'static>(message: &[u8], peer: Peer<R, W>) -> (Vec<u8>, Result<(), Error>) {
    let mut reply = Vec::new();
    let outcome = exchange(Cursor::new(message.to_vec()), peer, &mut reply, &Arc::default());
    (reply, outcome)
}

/// The two ends of a pipe that passes one byte at a time.
struct PipeReader(Receiver<u8>);

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.recv() {
            Ok(byte) => {
                buffer[0] = byte;
                Ok(1)
            }
            Err(_) => Ok(0),
        }
    }
}

struct PipeWriter(Option<SyncSender<u8>>);

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sender = self.0.as_ref().ok_or(ErrorKind::BrokenPipe)?;
        sender.send(bytes[0]).map_err(|_| ErrorKind::BrokenPipe)?;
        Ok(1)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl HalfClose for PipeWriter {
    fn finish(&mut self) -> io::Result<()> {
        self.0 = None;
        Ok(())
    }
}

/// A pipe that holds at most `capacity` bytes.
fn pipe(capacity: usize) -> (PipeReader, PipeWriter) {
    let (sender, receiver) = mpsc::sync_channel(capacity);
    (PipeReader(receiver), PipeWriter(Some(sender)))
}

/// An input or output that takes two of the short timeouts to do its first piece.
struct Sluggish<T> {
    inner: T,
    delay: Duration,
}

impl<T> Sluggish<T> {
    fn new(inner: T) -> Self {
        Self { inner, delay: SHORT * 2 }
    }
}

impl<R: Read> Read for Sluggish<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        thread::sleep(std::mem::take(&mut self.delay));
        self.inner.read(buffer)
    }
}

impl<W: Write> Write for Sluggish<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        thread::sleep(std::mem::take(&mut self.delay));
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[test]
fn a_message_that_no_buffer_holds_comes_back() {
    let message = random(MUCH);
    let (reply, outcome) = exchanged(&message, serve(LONG, echo));
    outcome.unwrap();
    assert!(reply == message);
}

#[test]
fn a_peer_may_answer_only_after_it_has_read_everything() {
    let message = random(MUCH);
    let peer = serve(LONG, |stream| {
        let message = read_all(stream)?;
        stream.write_all(&message)
    });
    let (reply, outcome) = exchanged(&message, peer);
    outcome.unwrap();
    assert!(reply == message);
}

#[test]
fn a_pipe_of_a_few_bytes_is_enough() {
    for capacity in [0, 1, 3] {
        let (mut server_reader, writer) = pipe(capacity);
        let (reader, mut server_writer) = pipe(capacity);
        thread::spawn(move || io::copy(&mut server_reader, &mut server_writer));
        let message = random(10_000);
        let peer = Peer { timeout: LONG, ..Peer::new("a pipe", reader, writer) };
        let (reply, outcome) = exchanged(&message, peer);
        outcome.unwrap();
        assert_eq!(reply, message);
    }
}

#[test]
fn nothing_at_all_is_a_message_too() {
    let (reply, outcome) = exchanged(b"", serve(LONG, echo));
    outcome.unwrap();
    assert_eq!(reply, b"");
}

#[test]
fn a_short_reply_is_written_and_fails() {
    let peer = serve(LONG, |stream| {
        let message = read_all(stream)?;
        stream.write_all(&message[..3])
    });
    let name = peer.name.clone();
    let (reply, outcome) = exchanged(b"hello", peer);
    assert_eq!(reply, b"hel");
    assert_eq!(outcome.unwrap_err().to_string(), format!("{name} ended its reply after 3 of 5 bytes"));
}

#[test]
fn a_longer_reply_is_written_and_succeeds() {
    let peer = serve(LONG, |stream| {
        stream.write_all(b"220 welcome\r\n")?;
        echo(stream)
    });
    let (reply, outcome) = exchanged(b"hello", peer);
    outcome.unwrap();
    assert_eq!(reply, b"220 welcome\r\nhello");
}

#[test]
fn a_peer_that_ends_with_the_last_byte_instead_of_the_half_close_has_echoed() {
    for _ in 0..100 {
        let peer = serve(LONG, |stream| {
            let mut message = [0; 5];
            stream.read_exact(&mut message)?;
            stream.write_all(&message)
        });
        let (reply, outcome) = exchanged(b"hello", peer);
        outcome.unwrap();
        assert_eq!(reply, b"hello");
    }
}

#[test]
fn an_early_end_is_seen_while_the_input_is_idle() {
    let peer = serve(LONG, |stream| stream.write_all(b"bye"));
    let (input, _held_open) = pipe(1);
    let mut reply = Vec::new();
    let outcome = exchange(input, peer, &mut reply, &Arc::default());
    assert_eq!(reply, b"bye");
    assert!(matches!(outcome, Err(Error::Peer { failure: Failure::Early, received: 3, .. })), "{outcome:?}");
}

#[test]
fn a_silent_peer_times_out() {
    let (_held, hold) = mpsc::channel::<()>();
    let peer = serve(SHORT, move |_| {
        let _ = hold.recv();
        Ok(())
    });
    let begin = Instant::now();
    let (_, outcome) = exchanged(b"hello", peer);
    assert!(begin.elapsed() >= SHORT);
    let error = outcome.unwrap_err();
    assert!(error.to_string().contains("for 200ms after 0 of 5 bytes"), "{error}");
}

#[test]
fn a_peer_that_takes_nothing_times_out() {
    let (_held, hold) = mpsc::channel::<()>();
    let peer = serve(SHORT, move |_stream| {
        let _ = hold.recv();
        Ok(())
    });
    let (_, outcome) = exchanged(&random(MUCH), peer);
    assert!(matches!(outcome, Err(Error::Peer { failure: Failure::TimedOut(_), .. })), "{outcome:?}");
}

#[test]
fn the_timeout_does_not_run_while_the_input_is_idle() {
    let mut reply = Vec::new();
    let input = Sluggish::new(&b"one"[..]).chain(Sluggish::new(&b"two"[..]));
    exchange(input, serve(SHORT, echo), &mut reply, &Arc::default()).unwrap();
    assert_eq!(reply, b"onetwo");
}

#[test]
fn the_timeout_starts_anew_when_the_output_has_taken_its_piece() {
    /// Gives one piece of the reply after the other; `None` stands for a read that timed out.
    struct Script(std::vec::IntoIter<Option<&'static [u8]>>);
    impl Read for Script {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.next().map_or(Ok(0), |piece| piece.ok_or(ErrorKind::WouldBlock)?.read(buffer))
        }
    }
    let reader = Script(vec![Some(&b"he"[..]), None, Some(b"llo")].into_iter());
    let (_held_open, writer) = pipe(5);
    let peer = Peer { timeout: SHORT, ..Peer::new("a script", reader, writer) };
    let mut output = Sluggish::new(Vec::new());
    exchange(&b"hello"[..], peer, &mut output, &Arc::default()).unwrap();
    assert_eq!(output.inner, b"hello");
}

#[test]
fn the_timeout_does_not_run_while_the_output_takes_nothing() {
    let message = random(MUCH);
    let mut output = Sluggish::new(Vec::new());
    exchange(Cursor::new(message.clone()), serve(SHORT, echo), &mut output, &Arc::default()).unwrap();
    assert!(output.inner == message);
}

#[test]
fn a_reset_is_not_taken_for_an_end() {
    let peer = serve(LONG, |stream| {
        stream.read_exact(&mut [0; 5])?;
        socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO))
    });
    let (_, outcome) = exchanged(b"hello", peer);
    let error = outcome.unwrap_err().to_string();
    assert!(error.ends_with("broke after 0 of 5 bytes came back: Connection reset by peer"), "{error}");
}

#[test]
fn an_output_that_fails_ends_the_exchange() {
    let (reader, mut output) = io::pipe().unwrap();
    drop(reader);
    let (input, mut held_open) = pipe(1);
    held_open.write_all(b"x").unwrap();
    let outcome = exchange(input, serve(LONG, echo), &mut output, &Arc::default());
    assert!(matches!(&outcome, Err(Error::Output(error)) if error.kind() == ErrorKind::BrokenPipe), "{outcome:?}");
}

#[test]
fn what_could_be_read_of_a_failing_input_comes_back() {
    /// Fails like a directory.
    struct Unreadable;
    impl Read for Unreadable {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(ErrorKind::IsADirectory.into())
        }
    }
    let mut reply = Vec::new();
    let outcome = exchange(b"hello".chain(Unreadable), serve(LONG, echo), &mut reply, &Arc::default());
    assert_eq!(reply, b"hello");
    assert_eq!(outcome.unwrap_err().to_string(), "cannot read the input: is a directory");
}

/// How the check of `message` ends with a server that answers with what `change` makes of it.
fn checked(message: &[u8], change: fn(&mut Vec<u8>)) -> Result<(), Error> {
    let peer = serve(LONG, move |stream| {
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply)?;
        change(&mut reply);
        stream.write_all(&reply)
    });
    check(Cursor::new(message.to_vec()), peer, &Arc::default())
}

#[test]
fn only_the_very_message_passes() {
    let message = [b'x'; 200_000];
    checked(&message, |_| {}).unwrap();
    checked(b"", |_| {}).unwrap();

    let differs = |outcome| matches!(outcome, Err(Error::Peer { failure: Failure::Differs, .. }));
    assert!(differs(checked(&message, |reply| reply[150_000] ^= 1)));
    assert!(differs(checked(&message, |reply| reply.push(b'x'))));
    assert!(differs(checked(b"", |reply| reply.push(b'x'))));
    assert!(differs(checked(b"ab", |reply| reply.reverse())));

    let short = checked(&message, |reply| reply.truncate(199_999));
    assert!(matches!(short, Err(Error::Peer { failure: Failure::Short, .. })), "{short:?}");
}

#[test]
fn a_check_fails_as_soon_as_more_comes_back_than_was_sent() {
    let (input, _held_open) = pipe(1);
    let (_held, hold) = mpsc::channel::<()>();
    let peer = serve(LONG, move |stream| {
        stream.write_all(b"x")?;
        let _ = hold.recv();
        Ok(())
    });
    let outcome = check(input, peer, &Arc::default());
    assert!(matches!(outcome, Err(Error::Peer { failure: Failure::Differs, sent: 0, .. })), "{outcome:?}");
}

#[test]
fn a_deadline_ends_an_exchange_that_goes_on_and_one_that_waits() {
    let timeouts = Timeouts { total: Some(SHORT), ..Timeouts::default() };
    let babble = |stream: &mut TcpStream| loop {
        stream.write_all(b"blah")?;
    };
    let wait = |stream: &mut TcpStream| stream.read_exact(&mut [0; 2]);
    for peer in [serve_within(timeouts, babble), serve_within(timeouts, wait)] {
        let begin = Instant::now();
        let (input, _held_open) = pipe(1);
        let outcome = exchange(input, peer, &mut io::sink(), &Arc::default());
        assert!(matches!(outcome, Err(Error::Peer { failure: Failure::Late, .. })), "{outcome:?}");
        assert!(begin.elapsed() < LONG / 2);
    }
}

#[test]
fn a_scope_belongs_to_an_address_and_is_not_looked_up_as_a_name() {
    let error = connect("fe80::1%lo", 7, Timeouts::default()).unwrap_err();
    assert!(matches!(error, Error::Connect { address: Some(_), .. }), "{error:?}");
}

#[test]
fn a_refusal_names_host_port_and_reason() {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap().port();
    let error = connect("127.0.0.1", port, Timeouts::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot connect to 127.0.0.1 port {port}: Connection refused (is echo-server running?)")
    );
}

#[test]
fn every_address_of_a_name_is_tried() {
    // localhost has ::1 too wherever there is IPv6, and it comes first.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    connect("localhost", port, Timeouts::default()).unwrap();
}
