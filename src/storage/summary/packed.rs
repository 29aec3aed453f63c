//! A column of numbers in few bytes: blocks of differences from the block's least, each in as many bits as the largest
//! needs. Floats that are decimal fractions of few digits, as most readings and all counts are, are packed as integers.
//!
//! The way of the floats is that of ALP (Afroozeh, Kuffo and Boncz, SIGMOD 2024), without its exceptions.

/// Numbers of a block.
const BLOCK: usize = 128;
/// All are equal: one number follows.
const CONSTANT: u8 = 0;
/// Blocks of integers follow.
const BLOCKS: u8 = 1;
/// Words as they are.
const PLAIN: u8 = 2;
/// Floats: the code is this and the digits behind the point; then as integers.
const DECIMAL: u8 = 16;
const DIGITS_MAX: u8 = 6;
/// Beyond it not every integer is a float.
const FLOAT_INT_MAX: f64 = 9_007_199_254_740_992.0;
/// A difference of more bits is stored whole.
const BITS_MAX: u32 = 56;

/// Adds the integers `values` to `out`.
pub(super) fn encode_ints(values: &[i64], out: &mut Vec<u8>) {
    let Some(first) = values.first() else { return };
    if values.iter().all(|value| value == first) {
        out.push(CONSTANT);
        varint(zigzag(*first), out);
        return;
    }
    out.push(BLOCKS);
    values.chunks(BLOCK).for_each(|block| encode_block(block, out));
}

/// Adds floats, given by their bits.
pub(super) fn encode_floats(words: &[u64], out: &mut Vec<u8>) {
    if words.is_empty() {
        return;
    }
    for digits in 0..=DIGITS_MAX {
        if let Some(ints) = words.iter().map(|word| decimal(*word, digits)).collect::<Option<Vec<_>>>() {
            out.push(DECIMAL + digits);
            encode_ints(&ints, out);
            return;
        }
    }
    out.push(PLAIN);
    words.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
}

/// `word` times ten to the `digits`, if it is an integer that gives the very same bits back.
fn decimal(word: u64, digits: u8) -> Option<i64> {
    let scaled = (f64::from_bits(word) * power(digits)).round();
    // Also false of NaN.
    if scaled.abs() < FLOAT_INT_MAX {
        let int = scaled as i64;
        return (from_decimal(int, digits) == word).then_some(int);
    }
    None
}

fn power(digits: u8) -> f64 {
    10f64.powi(i32::from(digits))
}

fn from_decimal(int: i64, digits: u8) -> u64 {
    (int as f64 / power(digits)).to_bits()
}

fn encode_block(block: &[i64], out: &mut Vec<u8>) {
    let (Some(min), Some(max)) = (block.iter().min(), block.iter().max()) else { return };
    let bits = u64::BITS - max.wrapping_sub(*min).cast_unsigned().leading_zeros();
    let bits = if bits > BITS_MAX { u64::BITS } else { bits };
    varint(zigzag(*min), out);
    out.push(bits as u8);
    let (mut held, mut filled) = (0u128, 0);
    for value in block {
        held |= u128::from(value.wrapping_sub(*min).cast_unsigned()) << filled;
        filled += bits;
        while filled >= 8 {
            out.push(held as u8);
            held >>= 8;
            filled -= 8;
        }
    }
    if filled > 0 {
        out.push(held as u8);
    }
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes columns off bytes. Bytes that end early or mean nothing are `None`.
pub(super) struct Unpacker<'a> {
    rest: &'a [u8],
}

impl<'a> Unpacker<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn int(&mut self) -> Option<i64> {
        let mut value = 0u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits.checked_shl(shift)? >> shift != bits {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        None
    }

    /// The next column, of `count` integers.
    pub(super) fn ints(&mut self, count: usize) -> Option<Vec<i64>> {
        if count == 0 {
            return Some(Vec::new());
        }
        match self.byte()? {
            CONSTANT => Some(vec![self.int()?; count]),
            BLOCKS => {
                let mut values = Vec::with_capacity(count);
                while values.len() < count {
                    self.block(BLOCK.min(count - values.len()), &mut values)?;
                }
                Some(values)
            }
            _ => None,
        }
    }

    /// The next column, of `count` floats, by their bits.
    pub(super) fn floats(&mut self, count: usize) -> Option<Vec<u64>> {
        if count == 0 {
            return Some(Vec::new());
        }
        match self.byte()? {
            PLAIN => {
                let bytes = self.take(count.checked_mul(8)?)?;
                Some(bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect())
            }
            code => {
                let digits = code.checked_sub(DECIMAL).filter(|digits| *digits <= DIGITS_MAX)?;
                let ints = self.ints(count)?;
                Some(match digits {
                    0 => ints.into_iter().map(|int| (int as f64).to_bits()).collect(),
                    digits => {
                        let power = power(digits);
                        ints.into_iter().map(|int| (int as f64 / power).to_bits()).collect()
                    }
                })
            }
        }
    }

    /// Passes over the next column.
    pub(super) fn skip(&mut self, count: usize, are_floats: bool) -> Option<()> {
        if count == 0 {
            return Some(());
        }
        match self.byte()? {
            PLAIN if are_floats => self.take(count.checked_mul(8)?).map(drop),
            code if are_floats => {
                code.checked_sub(DECIMAL).filter(|digits| *digits <= DIGITS_MAX)?;
                self.skip(count, false)
            }
            CONSTANT => self.int().map(drop),
            BLOCKS => {
                for start in (0..count).step_by(BLOCK) {
                    self.int()?;
                    let bits = usize::from(self.byte()?);
                    self.take((bits * BLOCK.min(count - start)).div_ceil(8))?;
                }
                Some(())
            }
            _ => None,
        }
    }

    fn block(&mut self, count: usize, values: &mut Vec<i64>) -> Option<()> {
        let min = self.int()?;
        let bits = u32::from(self.byte()?);
        let bytes = self.take((bits as usize * count).div_ceil(8))?;
        match bits {
            0 => values.resize(values.len() + count, min),
            u64::BITS => {
                let words = bytes.as_chunks::<8>().0.iter();
                values.extend(words.map(|word| min.wrapping_add(i64::from_le_bytes(*word))));
            }
            1..=BITS_MAX => {
                // So that eight bytes can be read wherever a number begins.
                let mut padded = [0; BLOCK * BITS_MAX as usize / 8 + 8];
                padded.get_mut(..bytes.len())?.copy_from_slice(bytes);
                let mask = (1u64 << bits) - 1;
                let number = |place: usize| {
                    let bit = place * bits as usize;
                    let word = padded.get(bit / 8..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
                    min.wrapping_add(((u64::from_le_bytes(word) >> (bit % 8)) & mask).cast_signed())
                };
                values.extend((0..count).map(number));
            }
            _ => return None,
        }
        Some(())
    }
}
