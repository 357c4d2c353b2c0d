//! Where reads go to.

/// The size of the one buffer that all reads share, in bytes. It bounds what one peer may move in a turn.
pub(super) const READ_BUFFER: usize = 256 << 10;

/// How the buffer is aligned, in bytes. Where large blocks begin by themselves, 16 bytes into a page, reading and
/// writing 16 KiB and more cost the processor 1.6 times as much (measured on an AMD EPYC; anything from 64 on does).
const ALIGNMENT: usize = 4096;

/// The one buffer that all reads share.
#[derive(Debug)]
pub(super) struct ReadBuffer {
    memory: Box<[u8]>,
    begin: usize,
}

impl ReadBuffer {
    pub(super) fn new() -> Self {
        let memory = vec![0; ALIGNMENT + READ_BUFFER].into_boxed_slice();
        let begin = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Self { memory, begin }
    }

    pub(super) fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.begin..self.begin + READ_BUFFER]
    }
}
