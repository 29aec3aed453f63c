//! Numbers as people read them.

use std::fmt;
use std::time::Duration;

/// Bytes in the largest unit that leaves a whole part, to three digits.
pub(super) struct Bytes(pub(super) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
        let (mut value, mut unit) = (self.0 as f64, 0);
        while value >= 1_000.0 && unit + 1 < units.len() {
            value /= 1_024.0;
            unit += 1;
        }
        let name = units.get(unit).copied().unwrap_or_default();
        let text = match value {
            _ if unit == 0 => format!("{} {name}", self.0),
            small if small < 9.995 => format!("{small:.2} {name}"),
            middle if middle < 99.95 => format!("{middle:.1} {name}"),
            large => format!("{large:.0} {name}"),
        };
        f.pad(&text)
    }
}

/// A count with a comma every three digits.
pub(super) struct Count(pub(super) u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        let mut text = String::with_capacity(digits.len() * 4 / 3);
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        f.pad(&text)
    }
}

/// How long something has been, in its largest unit.
pub(super) struct Age(pub(super) Duration);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let text = match seconds {
            0..120 => format!("{seconds} s"),
            120..7_200 => format!("{} min", seconds / 60),
            7_200..172_800 => format!("{} h", seconds / 3_600),
            _ => format!("{} d", seconds / 86_400),
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let bytes = [0, 999, 1_000, 10 << 10, 1 << 20, 999 << 20, 1_500 << 20, u64::MAX].map(|n| Bytes(n).to_string());
        assert_eq!(bytes, ["0 B", "999 B", "0.98 KiB", "10.0 KiB", "1.00 MiB", "999 MiB", "1.46 GiB", "16384 PiB"]);
        let counts = [0, 999, 1_000, 12_345, 1_234_567].map(|n| Count(n).to_string());
        assert_eq!(counts, ["0", "999", "1,000", "12,345", "1,234,567"]);
        let ages = [3, 600, 90_000, 900_000].map(|s| Age(Duration::from_secs(s)).to_string());
        assert_eq!(ages, ["3 s", "10 min", "25 h", "10 d"]);
    }
}
