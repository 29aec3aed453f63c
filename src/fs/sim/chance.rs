//! Seeded chance: the same seed and the same calls give the same images.

/// SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

/// How likely each unsynced change of one thing reached the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Odds {
    /// None did.
    Old,
    /// All did.
    New,
    /// Each by its own toss, that many times in sixteen.
    Mixed(u64),
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is small, so that the remainder's bias does not matter; 0 if `bound` is 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next().checked_rem(bound as u64).unwrap_or(0)).unwrap_or(0)
    }
}

impl Odds {
    /// Even tosses alone would hardly ever lose or keep everything, or all but one sector: the extremes get their share.
    pub(super) fn toss(random: &mut Random) -> Self {
        match random.below(8) {
            0 => Self::Old,
            1 => Self::New,
            2 => Self::Mixed(1),
            3 => Self::Mixed(15),
            _ => Self::Mixed(8),
        }
    }

    /// The odds for one part of what these are for: an extreme holds for all parts.
    pub(super) fn part(self, random: &mut Random) -> Self {
        if let Self::Mixed(_) = self { Self::toss(random) } else { self }
    }

    /// Whether one change reached the disk.
    pub(super) fn happened(self, random: &mut Random) -> bool {
        match self {
            Self::Old => false,
            Self::New => true,
            Self::Mixed(sixteenths) => random.next() >> 60 < sixteenths,
        }
    }
}
