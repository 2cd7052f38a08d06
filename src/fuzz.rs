//! Throws damaged input at a parser: what its corpus holds, then mutations of that with a fresh seed, for
//! a bounded time.
//!
//! `tests/corpus/PARSER/` is the corpus, small texts good and bad. `RBEE_FUZZ_MS` is how long each parser
//! has, 500 ms unless given; `RBEE_FUZZ_SEED` repeats a run. An input that a parser does not survive is
//! written to `target/fuzz/`: it belongs into the corpus once the parser is mended.
#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Bytes that a mutation grows to at most: long inputs are for the limits' own tests.
const INPUT_MAX: usize = 16 << 10;

/// What makes parsers stumble, whatever they parse.
const NASTY: [&[u8]; 36] = [
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"=",
    b"-",
    b"+",
    b".",
    b"/",
    b"%",
    b" ",
    b"\t",
    b"\n",
    b"\r\n",
    b"\n\n",
    b"\0",
    b"\x7f",
    b"\x1b[31m",
    b"\xff",
    b"\xc3",
    b"null",
    b"true",
    b"{}",
    b"\\u0000",
    b"\\ud800",
    b"..",
    b"--",
    b"%00",
    b"&",
    b"(",
    b")",
    "\u{2028}é🐝".as_bytes(),
];

/// Numbers at the edges of types.
const EDGES: [&str; 20] = [
    "0",
    "-0",
    "1",
    "-1",
    "127",
    "255",
    "256",
    "65535",
    "65536",
    "99999",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "1e308",
    "1e999",
    "0.1",
    "NaN",
    "inf",
];

/// Looks at everything; `look` panics where something is not as it should be.
pub(crate) fn fuzz(parser: &str, mut look: impl FnMut(&[u8])) {
    let corpus = corpus(parser);
    let seed = std::env::var("RBEE_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| fastrand::u64(..));
    let ms = std::env::var("RBEE_FUZZ_MS").ok().and_then(|ms| ms.parse().ok()).unwrap_or(500);
    corpus.iter().for_each(|(name, input)| survives(parser, name, input, &mut look));
    let (mut mutator, begun) = (Mutator::new(&corpus, seed), Instant::now());
    let mut inputs = 0_u64;
    while begun.elapsed() < Duration::from_millis(ms) {
        for _ in 0..32 {
            let input = mutator.next();
            survives(parser, &format!("seed-{seed}-{inputs}"), &input, &mut look);
            inputs += 1;
        }
    }
    let each_second = inputs as f64 / begun.elapsed().as_secs_f64();
    println!("fuzz {parser}: {inputs} inputs, {each_second:.0} a second, seed {seed}");
}

/// The same with text; what is none is read as the kernel's texts are, with its bad bytes replaced.
pub(crate) fn fuzz_text(parser: &str, mut look: impl FnMut(&str)) {
    fuzz(parser, |bytes| look(&String::from_utf8_lossy(bytes)));
}

fn corpus(parser: &str) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(parser);
    let files =
        fs::read_dir(&dir).unwrap_or_else(|error| unreachable!("{}: {error}", dir.display()));
    let mut files: Vec<PathBuf> = files.flatten().map(|entry| entry.path()).collect();
    files.sort();
    assert!(files.len() >= 3, "{} has too few files", dir.display());
    files.into_iter().map(|p| (p.display().to_string(), fs::read(&p).unwrap())).collect()
}

fn survives(parser: &str, name: &str, input: &[u8], look: &mut impl FnMut(&[u8])) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| look(input))) {
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fuzz");
        let file = kept.join(format!("{parser}-{}", name.replace('/', "_")));
        let written = fs::create_dir_all(&kept).and_then(|()| fs::write(&file, input));
        eprintln!(
            "{parser} does not survive {name}; the input is in {}: {written:?}",
            file.display()
        );
        resume_unwind(panic);
    }
}

/// Makes inputs out of a corpus.
struct Mutator<'a> {
    corpus: &'a [(String, Vec<u8>)],
    words: Vec<&'a [u8]>,
    random: fastrand::Rng,
}

impl<'a> Mutator<'a> {
    fn new(corpus: &'a [(String, Vec<u8>)], seed: u64) -> Self {
        let of_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
        let words = corpus.iter().flat_map(|(_, text)| text.split(move |byte| !of_word(byte)));
        let words = words.filter(|word| (1..40).contains(&word.len())).collect();
        Self { corpus, words, random: fastrand::Rng::with_seed(seed) }
    }

    fn next(&mut self) -> Vec<u8> {
        // Some owe nothing to the corpus.
        if self.random.u8(..) < 8 {
            let len = self.random.usize(..200);
            return std::iter::repeat_with(|| self.random.u8(..)).take(len).collect();
        }
        let mut input = self.of_corpus().to_vec();
        for _ in 0..self.random.usize(1..8) {
            self.mutate(&mut input);
        }
        input.truncate(INPUT_MAX);
        input
    }

    fn of_corpus(&mut self) -> &'a [u8] {
        &self.corpus[self.random.usize(..self.corpus.len())].1
    }

    /// Some bytes of a text, most often few.
    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let from = self.random.usize(..=len);
        let most = if self.random.bool() { 8 } else { len };
        from..(from + self.random.usize(..=most)).min(len)
    }

    fn mutate(&mut self, input: &mut Vec<u8>) {
        let range = self.range(input.len());
        match self.random.u8(..9) {
            0 => input[range].iter_mut().for_each(|byte| *byte ^= 1 << self.random.u8(..8)),
            1 => drop(input.drain(range)),
            2 => {
                let part = input[range.clone()].repeat(self.random.usize(1..64));
                input.splice(range, part.into_iter().take(INPUT_MAX));
            }
            3 => drop(input.splice(range, NASTY[self.random.usize(..NASTY.len())].iter().copied())),
            4 => self.replace_number(input),
            5 if !self.words.is_empty() => {
                let word = self.words[self.random.usize(..self.words.len())];
                input.splice(range, word.iter().copied());
            }
            6 => {
                let other = self.of_corpus();
                let part = self.range(other.len());
                input.splice(range, other[part].iter().copied());
            }
            7 => input.truncate(range.start),
            _ => {
                let byte = self.random.u8(..);
                input.splice(range.start..range.start, [byte]);
            }
        }
    }

    fn replace_number(&mut self, input: &mut Vec<u8>) {
        let from = self.random.usize(..=input.len());
        let Some(at) = input[from..].iter().position(u8::is_ascii_digit) else { return };
        let (at, digits) = (from + at, input[from + at..].iter());
        let end = at + digits.take_while(|byte| byte.is_ascii_digit()).count();
        input.splice(at..end, EDGES[self.random.usize(..EDGES.len())].bytes());
    }
}
