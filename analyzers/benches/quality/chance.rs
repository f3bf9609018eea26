//! Random numbers with a seed of their own: the same table on every machine.

/// SplitMix64; good enough to draw counts from, and its state is one number.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// In (0, 1).
    pub fn unit(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / 9_007_199_254_740_992.0
    }

    pub fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Exact by inversion up to a mean of 40, rounded normal beyond.
    pub fn poisson(&mut self, mean: f64) -> u64 {
        if mean <= 0.0 {
            return 0;
        }
        if mean > 40.0 {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0) as u64;
        }
        let (mut count, mut left, mut part) = (0, self.unit(), (-mean).exp());
        while left > part && count < 400 {
            left -= part;
            count += 1;
            part *= mean / count as f64;
        }
        count
    }

    /// Exact by inversion up to a mean of 40, rounded normal beyond.
    pub fn binomial(&mut self, n: u64, p: f64) -> u64 {
        if n == 0 || p <= 0.0 {
            return 0;
        }
        if p > 0.5 {
            return n - self.binomial(n, 1.0 - p);
        }
        let mean = n as f64 * p;
        if mean > 40.0 {
            let drawn = mean + (mean * (1.0 - p)).sqrt() * self.normal();
            return (drawn.round().max(0.0) as u64).min(n);
        }
        let odds = p / (1.0 - p);
        let (mut count, mut left) = (0u64, self.unit());
        let mut part = (n as f64 * (-p).ln_1p()).exp();
        while left > part && count < n {
            left -= part;
            count += 1;
            part *= odds * (n + 1 - count) as f64 / count as f64;
        }
        count
    }

    /// How often until the first success, at least 1.
    pub fn geometric(&mut self, mean: f64) -> u64 {
        let p = 1.0 / mean;
        (self.unit().ln() / (-p).ln_1p()).floor() as u64 + 1
    }
}
