//! A short fingerprint by which a resumed run knows its data and its recipe again.

/// A 64-bit FNV-1a digest (Fowler, Noll and Vo; RFC 9923). It tells changes made by accident, not by malice.
#[derive(Clone, Copy, Debug)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }
}

impl Digest {
    /// The digest of `bytes` alone.
    pub fn of(bytes: &[u8]) -> String {
        let mut digest = Self::default();
        digest.bytes(bytes);
        digest.finish()
    }

    /// Takes in `bytes`.
    pub fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
    }

    /// Takes in `tokens`, little-endian.
    pub fn tokens(&mut self, tokens: &[u32]) {
        for token in tokens {
            self.bytes(&token.to_le_bytes());
        }
    }

    /// The digest as 16 hexadecimal digits.
    pub fn finish(self) -> String {
        format!("{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published FNV-1a test vectors.
    #[test]
    fn known_answers() {
        assert_eq!(Digest::of(b""), "cbf29ce484222325");
        assert_eq!(Digest::of(b"a"), "af63dc4c8601ec8c");
        assert_eq!(Digest::of(b"foobar"), "85944171f73967e8");
    }

    #[test]
    fn tokens_are_their_bytes() {
        let mut digest = Digest::default();
        digest.tokens(&[1, 0x0203]);
        assert_eq!(digest.finish(), Digest::of(&[1, 0, 0, 0, 3, 2, 0, 0]));
    }
}
