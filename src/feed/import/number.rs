//! Numbers from text: exact, or a fault. No locale is guessed; what differs from plain digits is declared.

use super::fault::Fault;

/// How numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Notation {
    /// Between the whole and the part.
    pub(crate) point: u8,
    /// Between groups of three digits, if that is done.
    pub(crate) group: Option<u8>,
}

impl Notation {
    /// `1234.5`.
    pub(crate) const PLAIN: Self = Self { point: b'.', group: None };

    /// The number as plain text in `scratch`, or as it stands if it is plain already.
    pub(crate) fn plain<'a>(self, text: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<&'a [u8], Fault> {
        if self == Self::PLAIN {
            return Ok(text);
        }
        let mut parts = text.splitn(2, |byte| *byte == self.point);
        let (whole, part) = (parts.next().unwrap_or_default(), parts.next());
        scratch.clear();
        let (sign, digits) = match whole.split_first() {
            Some((sign @ (b'-' | b'+'), digits)) => (Some(*sign), digits),
            _ => (None, whole),
        };
        scratch.extend(sign);
        match self.group {
            Some(group) if digits.contains(&group) => {
                for (number, part) in digits.split(|byte| *byte == group).enumerate() {
                    let fits = if number == 0 { (1..=3).contains(&part.len()) } else { part.len() == 3 };
                    if !fits || !part.iter().all(u8::is_ascii_digit) {
                        return Err(Fault::BadNumber);
                    }
                    scratch.extend_from_slice(part);
                }
            }
            _ => scratch.extend_from_slice(digits),
        }
        // A point that is not the declared one is no point.
        if self.point != b'.' && (scratch.contains(&b'.') || part.is_some_and(|part| part.contains(&b'.'))) {
            return Err(Fault::BadNumber);
        }
        if let Some(part) = part {
            scratch.push(b'.');
            scratch.extend_from_slice(part);
        }
        Ok(scratch)
    }
}

/// Powers of ten that a double holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// The double nearest to a decimal number. The usual one has so few digits that one exact division gives it (Clinger, "How
/// to read floating point numbers accurately", PLDI 1990); the others are left to the standard library.
pub(crate) fn f64(text: &[u8]) -> Result<f64, Fault> {
    let (negative, digits) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, text),
    };
    if digits.len() <= 16 && !digits.is_empty() {
        let (mut mantissa, mut point) = (0u64, None);
        let mut plain = true;
        for (at, byte) in digits.iter().enumerate() {
            let digit = byte.wrapping_sub(b'0');
            if digit < 10 {
                mantissa = mantissa * 10 + u64::from(digit);
            } else if *byte == b'.' && point.is_none() {
                point = Some(at);
            } else {
                plain = false;
                break;
            }
        }
        let places = point.map_or(0, |at| digits.len() - at - 1);
        // A lone point is no number.
        let has_digit = digits.len() > usize::from(point.is_some());
        if plain
            && has_digit
            && mantissa < 1 << 53
            && let Some(power) = POWERS.get(places)
        {
            let value = mantissa as f64 / power;
            return Ok(if negative { -value } else { value });
        }
    }
    let text = std::str::from_utf8(text).map_err(|_| Fault::BadNumber)?;
    text.parse().map_err(|_| Fault::BadNumber)
}

/// An integer; `1.0` and `1e3` are none.
pub(crate) fn i64(text: &[u8]) -> Result<i64, Fault> {
    let (negative, digits) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    };
    let magnitude = u64_digits(digits)?;
    let value = if negative { 0i64.checked_sub_unsigned(magnitude) } else { 0i64.checked_add_unsigned(magnitude) };
    value.ok_or(Fault::OutOfRange)
}

/// An integer without a sign.
pub(crate) fn u64(text: &[u8]) -> Result<u64, Fault> {
    match text.split_first() {
        Some((b'-', digits)) => match u64_digits(digits)? {
            0 => Ok(0),
            _ => Err(Fault::OutOfRange),
        },
        Some((b'+', digits)) => u64_digits(digits),
        _ => u64_digits(text),
    }
}

fn u64_digits(digits: &[u8]) -> Result<u64, Fault> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Fault::BadNumber);
    }
    let mut value = 0u64;
    if digits.len() <= 19 {
        digits.iter().for_each(|byte| value = value * 10 + u64::from(byte - b'0'));
        return Ok(value);
    }
    for byte in digits {
        let next = value.checked_mul(10).and_then(|value| value.checked_add(u64::from(byte - b'0')));
        value = next.ok_or(Fault::OutOfRange)?;
    }
    Ok(value)
}

/// A decimal as its digits times ten to `scale`. Digits behind the field's last place must be zeros: money is not rounded.
pub(crate) fn decimal(text: &[u8], precision: u8, scale: u8) -> Result<i128, Fault> {
    let (negative, rest) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    };
    let mut parts = rest.splitn(2, |byte| *byte == b'.');
    let (whole, part) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if whole.is_empty() && part.is_empty() || !whole.iter().chain(part).all(u8::is_ascii_digit) {
        return Err(Fault::BadNumber);
    }
    let (kept, lost) = part.split_at(part.len().min(usize::from(scale)));
    if lost.iter().any(|byte| *byte != b'0') {
        return Err(Fault::OutOfRange);
    }
    let zeros = std::iter::repeat_n(&b'0', usize::from(scale) - kept.len());
    let mut value = 0i128;
    for byte in whole.iter().chain(kept).chain(zeros) {
        let next = value.checked_mul(10).and_then(|value| value.checked_add(i128::from(byte - b'0')));
        value = next.ok_or(Fault::OutOfRange)?;
    }
    rescaled(if negative { -value } else { value }, scale, precision, scale)
}

/// A decimal of `from` places as one of `scale` places, if it has room for it.
pub(crate) fn rescaled(value: i128, from: u8, precision: u8, scale: u8) -> Result<i128, Fault> {
    let power = |places: u8| 10i128.checked_pow(u32::from(places)).ok_or(Fault::OutOfRange);
    let value = if from <= scale {
        value.checked_mul(power(scale - from)?).ok_or(Fault::OutOfRange)?
    } else {
        let unit = power(from - scale)?;
        if value % unit != 0 {
            return Err(Fault::OutOfRange);
        }
        value / unit
    };
    if value.unsigned_abs() >= power(precision)?.unsigned_abs() {
        return Err(Fault::OutOfRange);
    }
    Ok(value)
}

/// `true` or `false` in the spellings of the usual exports.
pub(crate) fn bool(text: &[u8]) -> Result<bool, Fault> {
    const TRUE: [&str; 6] = ["true", "t", "1", "yes", "y", "ya"];
    const FALSE: [&str; 6] = ["false", "f", "0", "no", "n", "tidak"];
    let is = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word.as_bytes()));
    if is(&TRUE) {
        Ok(true)
    } else if is(&FALSE) {
        Ok(false)
    } else {
        Err(Fault::BadBool)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_exact_or_faults() {
        assert_eq!(i64(b"-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(i64(b"9223372036854775808"), Err(Fault::OutOfRange));
        assert_eq!(u64(b"18446744073709551615"), Ok(u64::MAX));
        assert_eq!(u64(b"18446744073709551616"), Err(Fault::OutOfRange));
        for bad in ["", "-", "+", "1 ", "1.0", "1e3", "0x1", "\u{0661}"] {
            assert_eq!(i64(bad.as_bytes()), Err(Fault::BadNumber), "{bad:?}");
        }
        for bad in ["", "-", ".", "-.", "1.2.3", "1,5", "abc", "1 2", "--1"] {
            assert_eq!(f64(bad.as_bytes()), Err(Fault::BadNumber), "{bad:?}");
        }
        assert_eq!(decimal(b"12.50", 18, 1), Ok(125));
        assert_eq!(decimal(b"12.55", 18, 1), Err(Fault::OutOfRange));
        assert_eq!(decimal(b"-0.05", 3, 2), Ok(-5));
        assert_eq!(decimal(b"10.00", 3, 2), Err(Fault::OutOfRange));
        assert_eq!(decimal(b".", 3, 2), Err(Fault::BadNumber));
    }

    #[test]
    fn other_notations_are_declared_and_strict() {
        let mut scratch = Vec::new();
        let comma = Notation { point: b',', group: Some(b'.') };
        for (text, plain) in [("1.234.567,5", "1234567.5"), ("-12,5", "-12.5"), ("1234,5", "1234.5"), ("7", "7")] {
            assert_eq!(comma.plain(text.as_bytes(), &mut scratch).unwrap(), plain.as_bytes());
        }
        for bad in ["1.23,5", "12.3456", ".123", "1.234.", "1,2.345", "1..234"] {
            assert_eq!(comma.plain(bad.as_bytes(), &mut scratch), Err(Fault::BadNumber), "{bad}");
        }
        let comma = Notation { point: b',', group: None };
        assert_eq!(comma.plain(b"1.5", &mut scratch), Err(Fault::BadNumber));
    }

    proptest! {
        #[test]
        fn doubles_are_those_of_the_standard_library(text in "-?[0-9]{1,18}(\\.[0-9]{0,18})?([eE][+-]?[0-9]{1,3})?") {
            let expected: f64 = text.parse().unwrap();
            prop_assert_eq!(f64(text.as_bytes()).unwrap().to_bits(), expected.to_bits());
        }

        #[test]
        fn any_double_comes_back(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(!value.is_nan());
            prop_assert_eq!(f64(format!("{value}").as_bytes()).unwrap().to_bits(), bits);
        }
    }
}
