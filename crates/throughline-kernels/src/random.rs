//! Counter-based randomness: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
//!
//! A number depends on nothing but its key (seed, purpose, update) and its counter, so a mask can be recomputed in
//! backward instead of stored, and does not change with packing or threads.

/// What a family of random numbers is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// Initial values of parameters; `update` is the tensor's place in the layout.
    Initialise = 1,
    /// Dropout masks; `update` counts optimiser updates.
    Dropout = 2,
    /// The order of the training examples; `update` is the epoch.
    Shuffle = 3,
    /// The split of a data set into training, validation and test sets.
    Split = 4,
    /// Sampling from a model's predictions.
    Sample = 5,
    /// Inputs of benchmarks and tests.
    Benchmark = 6,
    /// Training tokens that become the unknown token; `update` is the epoch.
    Unknown = 7,
}

/// One family of random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Philox {
    key: [u32; 2],
}

impl Philox {
    /// The family of `(seed, purpose, update)`.
    pub fn new(seed: u64, purpose: Purpose, update: u64) -> Self {
        let key = mix(mix(mix(seed) ^ purpose as u64) ^ update);
        Self { key: [key as u32, (key >> 32) as u32] }
    }

    /// The four numbers at `counter`.
    #[inline(always)]
    pub fn block(self, counter: [u32; 4]) -> [u32; 4] {
        let (mut c, mut k) = (counter, self.key);
        for _ in 0..10 {
            let p0 = u64::from(c[0]) * 0xD251_1F53;
            let p1 = u64::from(c[2]) * 0xCD9E_8D57;
            c = [(p1 >> 32) as u32 ^ c[1] ^ k[0], p1 as u32, (p0 >> 32) as u32 ^ c[3] ^ k[1], p0 as u32];
            k = [k[0].wrapping_add(0x9E37_79B9), k[1].wrapping_add(0xBB67_AE85)];
        }
        c
    }

    /// The numbers of this family one after another, from the beginning.
    pub fn stream(self) -> Stream {
        Stream { philox: self, position: 0 }
    }
}

/// Finaliser of SplitMix64 (Steele et al. 2014): every bit of the input reaches every bit of the key.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// Sequential reading of a [`Philox`] family. Its whole state is [`Stream::position`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    philox: Philox,
    position: u64,
}

impl Stream {
    /// How many 32-bit numbers have been taken; what a checkpoint keeps.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Continues from a [`position`](Self::position) kept earlier.
    pub fn seek(&mut self, position: u64) {
        self.position = position;
    }

    /// The next 32 random bits.
    pub fn bits(&mut self) -> u32 {
        let (block, word) = (self.position / 4, self.position % 4);
        self.position += 1;
        self.philox.block([block as u32, (block >> 32) as u32, 0, 0])[word as usize]
    }

    /// A number in [0, 1), a multiple of 2^-53.
    pub fn uniform(&mut self) -> f64 {
        let bits = (u64::from(self.bits()) << 32) | u64::from(self.bits());
        (bits >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// A whole number in `0..bound` (Lemire's multiplication, bias below `bound / 2^64`).
    pub fn below(&mut self, bound: usize) -> usize {
        let bits = (u64::from(self.bits()) << 32) | u64::from(self.bits());
        ((u128::from(bits) * bound as u128) >> 64) as usize
    }

    /// Puts `items` into a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known-answer vectors of the Random123 distribution.
    #[test]
    fn philox_known_answers() {
        let zero = Philox { key: [0, 0] }.block([0; 4]);
        assert_eq!(zero, [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let ones = Philox { key: [u32::MAX; 2] }.block([u32::MAX; 4]);
        assert_eq!(ones, [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let pi = Philox { key: [0xa409_3822, 0x299f_31d0] }.block([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344]);
        assert_eq!(pi, [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    #[test]
    fn a_stream_is_its_position() {
        let family = Philox::new(7, Purpose::Shuffle, 3);
        let mut one = family.stream();
        let first: [u32; 9] = std::array::from_fn(|_| one.bits());
        let mut two = family.stream();
        two.seek(4);
        assert_eq!(two.bits(), first[4]);
        assert_ne!(first[0], Philox::new(7, Purpose::Shuffle, 4).stream().bits());
    }

    #[test]
    fn a_shuffle_is_a_permutation() {
        let mut items: Vec<usize> = (0..100).collect();
        Philox::new(1, Purpose::Shuffle, 0).stream().shuffle(&mut items);
        assert_ne!(items[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        items.sort_unstable();
        assert!(items.iter().copied().eq(0..100));
    }
}
