//! Randomness that is an argument: a seed, and independent streams drawn from it.
//!
//! A stream belongs to a purpose that has a name (`cable.uplink.loss`), so that taking
//! one fault out of a scenario does not shift the dice of all others. The generator is
//! written out here, and not a crate, because a seed kept in a bug report must mean the
//! same run for years; its numbers are pinned by a test.

use std::time::Duration;

/// What a run's randomness grows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seed(pub u64);

impl Seed {
    /// The stream of one purpose.
    pub fn stream(self, purpose: &str) -> Stream {
        // FNV-1a gives each name a number, SplitMix64 spreads it over the state.
        let named = purpose
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
        let mut state = self.0 ^ named.rotate_left(32);
        Stream {
            state: std::array::from_fn(|_| split_mix(&mut state)),
        }
    }
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// One stream of random numbers (xoshiro256++, Blackman and Vigna 2019).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    state: [u64; 4],
}

impl Stream {
    /// 64 random bits.
    pub const fn bits(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let drawn = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c, d) = (c ^ a, d ^ b);
        self.state = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        drawn
    }

    /// A number in `[0, 1)`, with the 53 bits that an `f64` has.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit an f64 exactly")]
    pub const fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number in `0..bound`; 0 where there is none.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The bias of the multiplication is below 2^-32 for every bound used here.
        let wide = u128::from(self.bits()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// Whether something of this probability happens.
    pub fn happens(&mut self, probability: f64) -> bool {
        // Draws always, so that a changed probability does not shift what follows.
        self.unit() < probability
    }

    /// A span between nothing and `most`.
    pub fn span(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.unit())
    }

    /// A normally distributed number: mean 0, deviation 1 (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let (radius, angle) = (1.0 - self.unit(), self.unit());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }

    /// Fills `bytes` with random ones.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let drawn = self.bits().to_le_bytes();
            chunk.copy_from_slice(&drawn[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_the_same_numbers_for_ever() {
        let mut stream = Seed(7).stream("cable.uplink.loss");

        let drawn: Vec<u64> = (0..3).map(|_| stream.bits()).collect();

        assert_eq!(drawn, PINNED);
    }

    const PINNED: [u64; 3] = [
        9_552_748_625_918_649_746,
        10_589_318_257_491_246_126,
        14_090_924_761_784_996_331,
    ];

    #[test]
    fn streams_of_different_purposes_and_seeds_differ() {
        let first = |seed, purpose| Seed(seed).stream(purpose).bits();

        assert_ne!(first(1, "a"), first(1, "b"));
        assert_ne!(first(1, "a"), first(2, "a"));
    }

    #[test]
    fn a_unit_lies_between_nothing_and_one_and_fills_it() {
        let mut stream = Seed(3).stream("unit");

        let drawn: Vec<f64> = (0..10_000).map(|_| stream.unit()).collect();

        assert!(drawn.iter().all(|unit| (0.0..1.0).contains(unit)));
        let mean = drawn.iter().sum::<f64>() / 10_000.0;
        assert!((0.48..0.52).contains(&mean), "{mean}");
    }

    #[test]
    fn a_normal_number_has_mean_nothing_and_deviation_one() {
        let mut stream = Seed(3).stream("normal");

        let drawn: Vec<f64> = (0..10_000).map(|_| stream.normal()).collect();

        let mean = drawn.iter().sum::<f64>() / 10_000.0;
        let variance = drawn.iter().map(|x| x * x).sum::<f64>() / 10_000.0;
        assert!(mean.abs() < 0.05, "{mean}");
        assert!((0.9..1.1).contains(&variance), "{variance}");
    }

    #[test]
    fn a_bound_is_never_reached() {
        let mut stream = Seed(9).stream("below");

        assert!((0..1000).all(|_| stream.below(7) < 7));
        assert_eq!(stream.below(0), 0);
    }
}
