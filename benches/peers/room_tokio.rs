//! A chat room as tokio's documentation leads to it: one thread, a task for each member, and a broadcast channel
//! between them. What has piled up for a member is written at once.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{self, Receiver, Sender};

use super::listen;

/// How many lines a member may be behind before it loses some.
const LAG: usize = 1024;

/// So much is put together before it is written.
const BATCH: usize = 64 << 10;

#[derive(Clone)]
struct Said {
    by: u64,
    line: Arc<str>,
}

pub(crate) fn serve() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listen()?)?;
        let (room, _) = broadcast::channel(LAG);
        for number in 0.. {
            let (stream, _) = listener.accept().await?;
            // Here and not in the task: who is accepted hears everything that is said from now on.
            let ears = room.subscribe();
            tokio::spawn(member(stream, number, room.clone(), ears));
        }
        Ok(())
    })
}

/// Ends, and closes the connection, when it breaks or when lines were lost.
async fn member(mut stream: TcpStream, number: u64, room: Sender<Said>, mut ears: Receiver<Said>) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut lines = BufReader::new(reader).lines();
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            line = lines.next_line() => {
                let Some(mut line) = line? else { return Ok(()) };
                line.push('\n');
                // It fails where nobody is there to hear it.
                _ = room.send(Said { by: number, line: line.into() });
            }
            said = ears.recv() => {
                let mut next = match said {
                    Ok(said) => Some(said),
                    Err(RecvError::Lagged(_) | RecvError::Closed) => return Ok(()),
                };
                while let Some(said) = next {
                    if said.by != number {
                        batch.extend_from_slice(said.line.as_bytes());
                    }
                    next = if batch.len() < BATCH { ears.try_recv().ok() } else { None };
                }
                writer.write_all(&batch).await?;
                batch.clear();
            }
        }
    }
}
