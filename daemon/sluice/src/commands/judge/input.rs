//! Lines of a file or of stdin, bounded; a file may grow while it is read.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use crate::commands::Failure;

const MOST_LINE_BYTES: u64 = 1024 * 1024;

pub(super) struct Input {
    reader: Box<dyn BufRead>,
    name: String,
    /// Where more may come after the end.
    growing: Option<File>,
    /// The beginning of a line that is not complete yet.
    begun: Vec<u8>,
    lines: usize,
    bytes: u64,
}

impl Input {
    pub(super) fn open(path: &Path, follow: bool) -> Result<Input, Failure> {
        let name = path.display().to_string();
        if name == "-" {
            return Ok(Input::of(Box::new(io::stdin().lock()), "stdin".to_owned(), None));
        }
        let opened = || {
            let file = File::open(path)?;
            let growing = if follow { Some(file.try_clone()?) } else { None };
            Ok((file, growing))
        };
        let (file, growing) = opened().map_err(|error: io::Error| {
            Failure::input(format!("{name}: {error}"), "name a file of windows, or - for stdin")
        })?;
        Ok(Input::of(Box::new(BufReader::new(file)), name, growing))
    }

    fn of(reader: Box<dyn BufRead>, name: String, growing: Option<File>) -> Input {
        Input { reader, name, growing, begun: Vec::new(), lines: 0, bytes: 0 }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn grows(&self) -> bool {
        self.growing.is_some()
    }

    /// The next whole line; at the end of what does not grow, also one without a newline.
    pub(super) fn line(&mut self) -> Result<Option<String>, Failure> {
        let left = MOST_LINE_BYTES.saturating_sub(self.begun.len() as u64);
        // Bytes, not text: a line that is still being written may end within a character.
        let read = self.reader.by_ref().take(left).read_until(b'\n', &mut self.begun);
        self.bytes += read.map_err(|error| self.wrong(error.to_string()))? as u64;
        if self.begun.len() as u64 >= MOST_LINE_BYTES {
            return Err(self.wrong(format!("line {} has more than {MOST_LINE_BYTES} bytes", self.lines + 1)));
        }
        if self.begun.ends_with(b"\n") || (!self.grows() && !self.begun.is_empty()) {
            self.lines += 1;
            let line = String::from_utf8(std::mem::take(&mut self.begun));
            return line.map(Some).map_err(|error| self.wrong(format!("line {}: {error}", self.lines)));
        }
        self.check_growth()?;
        Ok(None)
    }

    /// What was read cannot be taken back: a file that became shorter is another one.
    fn check_growth(&self) -> Result<(), Failure> {
        let length = self.growing.as_ref().map(File::metadata).transpose();
        match length.map_err(|error| self.wrong(error.to_string()))? {
            Some(now) if now.is_file() && now.len() < self.bytes => {
                let error = format!("{}: it became shorter while it was followed", self.name);
                Err(Failure::input(error, "start again: windows that were counted are not taken back"))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn wrong(&self, error: String) -> Failure {
        Failure::input(format!("{}: {error}", self.name), "windows are lines of JSON in UTF-8")
    }
}
