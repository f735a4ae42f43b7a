//! MD5 sums (RFC 1321): of several files at once, side by side in the lanes of the processor's vector registers, or of one.
//!
//! MD5 is one chain of steps that wait for each other, so that a core does little of what it could. Eight chains at
//! once take about as long as one and a half.

use std::{
    array::from_fn,
    hint::black_box,
    ops::{BitAnd, BitOr, BitXor, Not},
};

use wide::u32x8;

/// How many sums are made at once: the words of two registers of 128 bits, which every processor of 64 bits has. One
/// register's steps fill the time in which the other's wait.
const LANES: usize = 8;

/// Bytes of a block.
const BLOCK: usize = 64;

/// What every sum begins with.
const BEGINNING: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// By how many bits each step rotates, in rounds of sixteen steps.
const ROTATIONS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

/// `floor(2^32 * abs(sin(step + 1)))`
const SINES: [u32; 64] = [
    0xd76a_a478,
    0xe8c7_b756,
    0x2420_70db,
    0xc1bd_ceee,
    0xf57c_0faf,
    0x4787_c62a,
    0xa830_4613,
    0xfd46_9501,
    0x6980_98d8,
    0x8b44_f7af,
    0xffff_5bb1,
    0x895c_d7be,
    0x6b90_1122,
    0xfd98_7193,
    0xa679_438e,
    0x49b4_0821,
    0xf61e_2562,
    0xc040_b340,
    0x265e_5a51,
    0xe9b6_c7aa,
    0xd62f_105d,
    0x0244_1453,
    0xd8a1_e681,
    0xe7d3_fbc8,
    0x21e1_cde6,
    0xc337_07d6,
    0xf4d5_0d87,
    0x455a_14ed,
    0xa9e3_e905,
    0xfcef_a3f8,
    0x676f_02d9,
    0x8d2a_4c8a,
    0xfffa_3942,
    0x8771_f681,
    0x6d9d_6122,
    0xfde5_380c,
    0xa4be_ea44,
    0x4bde_cfa9,
    0xf6bb_4b60,
    0xbebf_bc70,
    0x289b_7ec6,
    0xeaa1_27fa,
    0xd4ef_3085,
    0x0488_1d05,
    0xd9d4_d039,
    0xe6db_99e5,
    0x1fa2_7cf8,
    0xc4ac_5665,
    0xf429_2244,
    0x432a_ff97,
    0xab94_23a7,
    0xfc93_a039,
    0x655b_59c3,
    0x8f0c_cc92,
    0xffef_f47d,
    0x8584_5dd1,
    0x6fa8_7e4f,
    0xfe2c_e6e0,
    0xa301_4314,
    0x4e08_11a1,
    0xf753_7e82,
    0xbd3a_f235,
    0x2ad7_d2bb,
    0xeb86_d391,
];

/// A file that a lane is at.
struct Message<'a> {
    /// Which of the contents it is.
    number: usize,
    /// Whole blocks that are left of it.
    blocks: &'a [u8],
    /// The last blocks, which have its end and its length; empty when they are what is left.
    end: &'a [u8],
}

/// The sum of each of `contents`, in their order.
pub(super) fn sums(contents: &[&[u8]]) -> Vec<[u8; 16]> {
    let mut sums = vec![[0; 16]; contents.len()];
    let mut order: Vec<usize> = (0..contents.len()).collect();
    order.sort_unstable_by_key(|number| std::cmp::Reverse(contents[*number].len()));
    // One that is larger than a good part of all would be alone in the lanes at the end, which are slower then.
    let mut total: usize = contents.iter().map(|content| content.len()).sum();
    let is_alone = |number: &&usize| {
        let length = contents[**number].len();
        let alone = 4 * length > total;
        total -= if alone { length } else { 0 };
        alone
    };
    let alone = order.iter().take_while(is_alone).count();
    for number in &order[..alone] {
        let mut sum = Sum::new();
        sum.update(contents[*number]);
        sums[*number] = sum.finish();
    }
    let ends: Vec<_> = contents.iter().map(|content| end(content, content.len() as u64)).collect();
    let mut messages = order[alone..].iter().map(|number| {
        let content = contents[*number];
        let (end, length) = &ends[*number];
        Message { number: *number, blocks: &content[..content.len() / BLOCK * BLOCK], end: &end[..*length] }
    });
    let mut state = BEGINNING.map(u32x8::splat);
    let mut lanes: [Option<Message<'_>>; LANES] = from_fn(|_| messages.next());
    loop {
        for lane in &mut lanes {
            // Of what has less than a block only the end is left.
            if let Some(message) = lane.as_mut().filter(|message| message.blocks.is_empty()) {
                message.blocks = std::mem::take(&mut message.end);
            }
        }
        let Some(count) = lanes.iter().flatten().map(|message| message.blocks.len() / BLOCK).min() else { return sums };
        // A lane without a file makes the sum of another's.
        let any = lanes.iter().flatten().next().map_or(&[][..], |message| message.blocks);
        let blocks = from_fn(|lane| lanes[lane].as_ref().map_or(any, |message| message.blocks));
        add(&mut state, &blocks, count);
        for (at, lane) in lanes.iter_mut().enumerate() {
            let Some(message) = lane else { continue };
            message.blocks = &message.blocks[count * BLOCK..];
            if message.blocks.is_empty() && message.end.is_empty() {
                for (words, bytes) in state.iter().zip(sums[message.number].chunks_exact_mut(4)) {
                    bytes.copy_from_slice(&words.as_array()[at].to_le_bytes());
                }
                *lane = messages.next();
                for (words, beginning) in state.iter_mut().zip(BEGINNING) {
                    words.as_mut_array()[at] = beginning;
                }
            }
        }
    }
}

/// The sum of a file whose bytes come one after the other.
pub(super) struct Sum {
    state: [u32; 4],
    /// The beginning of a block, which more bytes may make whole.
    begun: Vec<u8>,
    length: u64,
}

impl Sum {
    /// Of nothing yet.
    pub(super) fn new() -> Self {
        Self { state: BEGINNING, begun: Vec::with_capacity(BLOCK), length: 0 }
    }

    /// Adds what comes next.
    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        self.length += bytes.len() as u64;
        if !self.begun.is_empty() {
            let (first, rest) = bytes.split_at(bytes.len().min(BLOCK - self.begun.len()));
            self.begun.extend(first);
            bytes = rest;
            if self.begun.len() < BLOCK {
                return;
            }
            add(&mut self.state, &[&self.begun], 1);
            self.begun.clear();
        }
        let (blocks, rest) = bytes.split_at(bytes.len() / BLOCK * BLOCK);
        add(&mut self.state, &[blocks], blocks.len() / BLOCK);
        self.begun.extend(rest);
    }

    /// The sum of all that was added.
    pub(super) fn finish(mut self) -> [u8; 16] {
        let (end, size) = end(&self.begun, self.length);
        add(&mut self.state, &[&end], size / BLOCK);
        let mut sum = [0; 16];
        for (word, bytes) in self.state.iter().zip(sum.chunks_exact_mut(4)) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        sum
    }
}

/// The last one or two blocks of a message of `length` bytes: what is left of it, a bit, zeros, and its length in bits.
fn end(content: &[u8], length: u64) -> ([u8; 2 * BLOCK], usize) {
    let rest = &content[content.len() / BLOCK * BLOCK..];
    let mut end = [0; 2 * BLOCK];
    end[..rest.len()].copy_from_slice(rest);
    end[rest.len()] = 0x80;
    let size = (rest.len() + 9).next_multiple_of(BLOCK);
    end[size - 8..size].copy_from_slice(&length.wrapping_mul(8).to_le_bytes());
    (end, size)
}

/// A word of each of `N` lanes.
trait Words<const N: usize>:
    Copy + BitAnd<Output = Self> + BitOr<Output = Self> + BitXor<Output = Self> + Not<Output = Self>
{
    /// One of each lane.
    fn new(words: [u32; N]) -> Self;

    /// The sum without what it has too much for 32 bits.
    fn plus(self, other: Self) -> Self;

    /// Rotated to the left.
    fn rotated(self, bits: u32) -> Self;

    /// What does not wait for the step before.
    fn known(self) -> Self;
}

impl Words<1> for u32 {
    fn new([word]: [u32; 1]) -> Self {
        word
    }

    fn plus(self, other: Self) -> Self {
        self.wrapping_add(other)
    }

    fn rotated(self, bits: u32) -> Self {
        self.rotate_left(bits)
    }

    /// Of a single chain it must be added first; the compiler would add it last.
    fn known(self) -> Self {
        black_box(self)
    }
}

impl Words<LANES> for u32x8 {
    fn new(words: [u32; LANES]) -> Self {
        Self::new(words)
    }

    fn plus(self, other: Self) -> Self {
        self + other
    }

    fn rotated(self, bits: u32) -> Self {
        self << bits | self >> (u32::BITS - bits)
    }

    fn known(self) -> Self {
        self
    }
}

/// Adds `count` blocks of each lane to its state.
#[inline(never)]
fn add<W: Words<N>, const N: usize>(state: &mut [W; 4], lanes: &[&[u8]; N], count: usize) {
    let lanes = lanes.map(|lane| lane.as_chunks::<BLOCK>().0);
    for at in 0..count {
        let block = lanes.map(|lane| &lane[at]);
        let words: [W; 16] = from_fn(|word| {
            W::new(block.map(|block| {
                let at = 4 * word;
                u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
            }))
        });
        let before = *state;
        round::<W, N, 0>(state, &words);
        round::<W, N, 1>(state, &words);
        round::<W, N, 2>(state, &words);
        round::<W, N, 3>(state, &words);
        for (word, before) in state.iter_mut().zip(before) {
            *word = word.plus(before);
        }
    }
}

#[inline]
fn round<W: Words<N>, const N: usize, const ROUND: usize>(state: &mut [W; 4], words: &[W; 16]) {
    four_steps::<W, N, ROUND, 0>(state, words);
    four_steps::<W, N, ROUND, 4>(state, words);
    four_steps::<W, N, ROUND, 8>(state, words);
    four_steps::<W, N, ROUND, 12>(state, words);
}

#[inline]
fn four_steps<W: Words<N>, const N: usize, const ROUND: usize, const FIRST: usize>(
    state: &mut [W; 4],
    words: &[W; 16],
) {
    let [mut a, mut b, mut c, mut d] = *state;
    a = step::<W, N, ROUND>(FIRST, a, [b, c, d], words);
    d = step::<W, N, ROUND>(FIRST + 1, d, [a, b, c], words);
    c = step::<W, N, ROUND>(FIRST + 2, c, [d, a, b], words);
    b = step::<W, N, ROUND>(FIRST + 3, b, [c, d, a], words);
    *state = [a, b, c, d];
}

#[inline]
fn step<W: Words<N>, const N: usize, const ROUND: usize>(step: usize, a: W, [b, c, d]: [W; 3], words: &[W; 16]) -> W {
    let word = words[match ROUND {
        0 => step,
        1 => (5 * step + 1) % 16,
        2 => (3 * step + 5) % 16,
        _ => 7 * step % 16,
    }];
    let (sine, rotation) = (SINES[16 * ROUND + step], ROTATIONS[ROUND][step % 4]);
    let known = a.plus(W::new([sine; N])).plus(word).known();
    let mixed = match ROUND {
        0 => d ^ (b & (c ^ d)),
        // No bit is in both halves, so that their sum is their union, and only one of them waits.
        1 => (b & d).plus(c & !d),
        2 => b ^ c ^ d,
        _ => c ^ (b | !d),
    };
    known.plus(mixed).rotated(rotation).plus(b)
}

#[cfg(test)]
mod tests {
    use md5::{Digest as _, Md5};

    use super::*;

    #[test]
    fn sums_are_those_of_one_file_after_the_other() {
        let bytes: Vec<u8> = (0..9000_usize).map(|at| u8::try_from(at * at % 251).unwrap()).collect();
        let lengths = [0, 1, 3, 55, 56, 57, 63, 64, 65, 119, 120, 128, 700, 701, 702, 703, 704, 5000, 4999, 9000, 0];
        // Few, many, all alike, one much larger than the others.
        for lengths in [&[][..], &[7], &[64, 64], &[100; 9], &[9000, 1, 2], &lengths] {
            let contents: Vec<&[u8]> =
                lengths.iter().enumerate().map(|(at, length)| &bytes[at % 3..][..(*length).min(8900)]).collect();
            let expected: Vec<[u8; 16]> = contents.iter().map(|content| Md5::digest(content).into()).collect();
            assert_eq!(sums(&contents), expected, "{lengths:?}");
        }
    }

    #[test]
    fn a_sum_does_not_depend_on_how_the_bytes_come() {
        let bytes: Vec<u8> = (0..1000_usize).map(|at| u8::try_from(at * at % 251).unwrap()).collect();
        for size in [1, 7, 63, 64, 65, 128, 999, 1000] {
            let mut sum = Sum::new();
            bytes.chunks(size).for_each(|some| sum.update(some));
            assert_eq!(sum.finish()[..], Md5::digest(&bytes)[..], "{size}");
        }
    }
}
