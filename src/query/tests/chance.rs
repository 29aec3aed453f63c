//! Chance that can be repeated: a test that uses it says its seed.

/// The seed of this run: `DENYUT_SEED`, or the clock's. Says which.
pub(super) fn seed() -> u64 {
    let asked = std::env::var("DENYUT_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = asked.unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 % 1_000_000_000);
    println!("seed {seed}; again with DENYUT_SEED={seed}");
    seed
}

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// By this run's [`seed`].
    pub(super) fn seeded() -> Self {
        Self(seed())
    }

    pub(super) fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % below
    }

    pub(super) fn one_of<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}
