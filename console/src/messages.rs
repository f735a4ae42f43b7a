//! Messages through a thread of their own: who reads them slowly, or not at all, keeps nobody from going on.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Write, stderr},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use crate::{count, failure::indented};

/// How much may wait to be written, in bytes; what comes beyond that is left out.
const MOST: usize = 12 << 20;
/// Room beyond that for warnings, in bytes.
const FOR_WARNINGS: usize = 1 << 20;
/// How much is written at a time, in bytes.
const PIECE: usize = 64 << 10;
/// How long it may take until some of it is read, when nothing else is left to do.
const PATIENCE: Duration = Duration::from_secs(10);

static QUEUE: Queue = Queue::new();

/// As long as this lives, [`note`](crate::note) and [`warning`](crate::warning) wait for nobody. Its end waits until all is
/// written, but no longer than somebody reads; what can't be written even then is lost.
#[derive(Debug)]
pub struct Messages(());

impl Messages {
    /// From now on.
    ///
    /// # Panics
    /// When no thread can be started.
    #[must_use = "messages are written by a thread as long as this lives"]
    pub fn begin() -> Self {
        QUEUE.open();
        thread::spawn(|| QUEUE.write(&mut stderr()));
        Self(())
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        QUEUE.close(PATIENCE);
    }
}

/// What a message is: of what is left out when nobody reads, ordinary ones are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    /// Anything.
    Ordinary,
    /// A warning or an error.
    Warning,
}

/// Takes a message, if a thread writes them; whether it did.
pub(crate) fn take(text: &str, weight: Weight) -> bool {
    QUEUE.take(text, weight)
}

#[derive(Debug)]
struct Queue {
    state: Mutex<State>,
    /// There is something to write, or never will be.
    to_write: Condvar,
    /// Something was written.
    written: Condvar,
}

#[derive(Debug)]
struct State {
    /// What is to be written, in pieces.
    pieces: VecDeque<Vec<u8>>,
    /// How long they are together, and what is being written.
    bytes: usize,
    /// How many messages were left out since the last that was not.
    left_out: usize,
    /// How often something was written.
    written: usize,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Whoever has a message writes it.
    Direct,
    /// A thread does.
    Open,
    /// It does as long as there is something left.
    Closing,
    /// Nobody reads, and nothing is written any more.
    GivenUp,
}

impl Queue {
    const fn new() -> Self {
        let state = State { pieces: VecDeque::new(), bytes: 0, left_out: 0, written: 0, stage: Stage::Direct };
        Self { state: Mutex::new(state), to_write: Condvar::new(), written: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) {
        self.state().stage = Stage::Open;
    }

    fn take(&self, text: &str, weight: Weight) -> bool {
        let mut state = self.state();
        match state.stage {
            Stage::Direct => return false,
            Stage::GivenUp => return true,
            Stage::Open | Stage::Closing => {}
        }
        let most = if weight == Weight::Warning { MOST + FOR_WARNINGS } else { MOST };
        if state.bytes + text.len() > most {
            state.left_out += 1;
        } else {
            state.tell_left_out();
            state.push(text);
        }
        self.to_write.notify_one();
        true
    }

    /// Writes what there is, until nothing will be any more.
    fn write(&self, to: &mut impl Write) {
        let mut state = self.state();
        loop {
            let Some(piece) = state.pieces.pop_front() else {
                if state.stage != Stage::Open {
                    return;
                }
                state = self.to_write.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(state);
            let mut rest = &piece[..];
            while !rest.is_empty() {
                // There is nobody to tell when that fails.
                let length = match to.write(rest) {
                    Ok(length) if length > 0 => length,
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    _ => rest.len(),
                };
                rest = &rest[length..];
                let mut state = self.state();
                state.bytes -= length;
                state.written += 1;
                self.written.notify_all();
            }
            state = self.state();
        }
    }

    /// Waits until all is written, or nothing was for so long.
    fn close(&self, patience: Duration) {
        let mut state = self.state();
        state.tell_left_out();
        state.stage = Stage::Closing;
        self.to_write.notify_one();
        while state.bytes > 0 {
            let before = state.written;
            let waited = self.written.wait_timeout_while(state, patience, |state| state.written == before);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.written == before {
                state.stage = Stage::GivenUp;
                return;
            }
        }
        state.stage = Stage::Direct;
    }
}

impl State {
    fn push(&mut self, text: &str) {
        self.bytes += text.len();
        match self.pieces.back_mut() {
            Some(last) if last.len() + text.len() <= PIECE => last.extend_from_slice(text.as_bytes()),
            _ => {
                let mut piece = Vec::with_capacity(PIECE.max(text.len()));
                piece.extend_from_slice(text.as_bytes());
                self.pieces.push_back(piece);
            }
        }
    }

    fn tell_left_out(&mut self) {
        let left_out = std::mem::take(&mut self.left_out);
        if left_out > 0 {
            let text = format!("… {} left out here, as nobody read them …", count(left_out, "message"));
            self.push(&indented(&text));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, PipeReader, PipeWriter, Read as _, pipe},
        sync::Arc,
    };

    use super::*;

    /// One whose thread writes to a pipe.
    fn queue() -> (Arc<Queue>, PipeReader, thread::JoinHandle<()>) {
        let (reader, mut writer): (_, PipeWriter) = pipe().unwrap();
        let queue = Arc::new(Queue::new());
        queue.open();
        let thread = {
            let queue = queue.clone();
            thread::spawn(move || queue.write(&mut writer))
        };
        (queue, reader, thread)
    }

    #[test]
    fn all_is_written_in_its_order_before_the_end() {
        let (queue, reader, thread) = queue();
        for number in 0..1_000 {
            assert!(queue.take(&format!("{number}\n"), Weight::Ordinary));
        }
        queue.close(PATIENCE);
        thread.join().unwrap();
        let lines: Vec<String> = BufReader::new(reader).lines().map(Result::unwrap).collect();
        assert_eq!(lines, (0..1_000).map(|number| number.to_string()).collect::<Vec<_>>());
        assert!(!queue.take("x", Weight::Ordinary), "from now on whoever has one writes it");
    }

    #[test]
    fn nobody_waits_for_who_does_not_read_and_what_is_left_out_is_said() {
        let (queue, mut reader, thread) = queue();
        let line = format!("{}\n", "x".repeat(1_023));
        let said = 2 * MOST / line.len();
        for _ in 0..said {
            assert!(queue.take(&line, Weight::Ordinary), "it does not wait");
        }
        assert!(queue.take("warning: it is said all the same\n", Weight::Warning));
        let read = thread::spawn(move || {
            let mut all = String::new();
            reader.read_to_string(&mut all).unwrap();
            all
        });
        queue.close(PATIENCE);
        thread.join().unwrap();
        let all = read.join().unwrap();
        let shown = all.matches(&line).count();
        assert!((MOST / line.len()..said).contains(&shown), "{shown} of {said}");
        // Whoever writes may be slow to begin: then some are left out, some shown, and some left out again.
        let left_out =
            all.lines().filter_map(|line| line.strip_prefix("… ")?.strip_suffix(" here, as nobody read them …"));
        let counts = left_out.filter_map(|text| text.strip_suffix(" messages left out")?.parse::<usize>().ok());
        assert_eq!(shown + counts.sum::<usize>(), said);
        assert!(all.ends_with("\nwarning: it is said all the same\n"), "{}", &all[all.len() - 99..]);
    }

    #[test]
    fn who_never_reads_is_given_up_and_nothing_waits_for_him_any_more() {
        let (queue, reader, thread) = queue();
        let line = format!("{}\n", "x".repeat(1_023));
        for _ in 0..200 {
            assert!(queue.take(&line, Weight::Ordinary));
        }
        queue.close(Duration::from_millis(50));
        assert!(queue.take("the last word\n", Weight::Ordinary), "nor is it written directly, which would wait");
        drop(reader);
        thread.join().unwrap();
    }
}
