//! Seeded chance: the same seed and the same calls give the same images.

/// SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014); or else every choice in
/// turn, from one image to the next.
#[derive(Clone, Debug)]
pub(super) struct Random {
    state: u64,
    listed: Option<Listed>,
}

/// The choices of one image, each with how many there are: digits of a number that is counted up.
#[derive(Clone, Debug, Default)]
struct Listed {
    digits: Vec<(usize, usize)>,
    at: usize,
}

impl Listed {
    fn choose(&mut self, bound: usize) -> usize {
        let at = self.at;
        self.at += 1;
        if let Some((digit, _)) = self.digits.get(at) {
            return *digit;
        }
        self.digits.push((0, bound));
        0
    }

    /// The next image's choices; false if there was none left.
    fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some((digit, bound)) = self.digits.pop() {
            if digit + 1 < bound {
                self.digits.push((digit + 1, bound));
                return true;
            }
        }
        false
    }
}

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
        Self { state: seed, listed: None }
    }

    /// Makes every choice in turn; what needs a number of its own still gets one by the seed.
    pub(super) fn listing(seed: u64) -> Self {
        Self { state: seed, listed: Some(Listed::default()) }
    }

    /// Goes on to the next choices; false if all were made.
    pub(super) fn advance(&mut self) -> bool {
        self.listed.as_mut().is_some_and(Listed::advance)
    }

    pub(super) fn is_listing(&self) -> bool {
        self.listed.is_some()
    }

    /// One of `bound`, by chance or in turn.
    pub(super) fn choose(&mut self, bound: usize) -> usize {
        match &mut self.listed {
            Some(listed) if bound > 1 => listed.choose(bound),
            Some(_) => 0,
            None => self.below(bound),
        }
    }

    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
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
        if random.is_listing() {
            return Self::Mixed(8);
        }
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
            Self::Mixed(_) if random.is_listing() => random.choose(2) == 1,
            Self::Mixed(sixteenths) => random.next() >> 60 < sixteenths,
        }
    }
}
