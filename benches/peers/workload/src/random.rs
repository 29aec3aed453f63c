//! Numbers from a seed, the same on every machine and for ever.

/// xorshift64*, after Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled" (2016).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        // SplitMix64's finisher, so that seeds side by side begin far apart. It maps one seed to 0, which stays there.
        let mut mixed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Self((mixed ^ (mixed >> 31)).max(1))
    }

    /// The sequence of a name.
    pub fn named(name: &str) -> Self {
        let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
        Self::new(name.bytes().fold(0xCBF2_9CE4_8422_2325, fnv))
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// From 0 to 1, without 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// One of `0..end`.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.bits()) * end as u128) >> 64) as usize
    }

    /// How long until something that happens once in `mean` happens.
    pub fn wait(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// Close to N(0, 1): the ones among 64 random bits have mean 32 and variance 16, and a uniform fills the gaps between
    /// whole numbers.
    pub fn normal(&mut self) -> f64 {
        (f64::from(self.bits().count_ones()) - 32.5 + self.unit()) / 4.0
    }

    /// `count` different ones of `0..end`, in random order.
    pub fn different(&mut self, count: usize, end: usize) -> Vec<usize> {
        let mut found: Vec<usize> = Vec::new();
        while found.len() < count.min(end) {
            let one = self.below(end);
            if !found.contains(&one) {
                found.push(one);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn normal_has_mean_0_and_variance_1() {
        let mut random = Random::new(1);
        let values: Vec<f64> = (0..100_000).map(|_| random.normal()).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
        assert!(mean.abs() < 0.02, "{mean}");
        assert!((variance - 1.0).abs() < 0.03, "{variance}");
    }

    #[test]
    fn a_seed_gives_the_same_for_ever() {
        let mut random = Random::new(42);
        let found = [random.bits(), random.bits()];
        let mut again = Random::new(42);
        assert_eq!(found, [again.bits(), again.bits()]);
        assert_ne!(found[0], Random::new(43).bits());
        assert_eq!(Random::new(7).different(5, 5).iter().sum::<usize>(), 10);
    }
}
