//! The choice of an instruction set at run time.

use crate::{Element, Kernel, Lane, Scalar};

/// An instruction set that this CPU is known to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Proof);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2(crate::x86::Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(crate::x86::Avx512),
    #[cfg(target_arch = "aarch64")]
    Neon(crate::neon::Neon),
}

/// The instruction sets that there is code for, narrowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IsaName {
    /// Portable code.
    Scalar,
    /// Armv8 NEON.
    Neon,
    /// AVX2 with FMA (x86-64-v3).
    Avx2,
    /// AVX-512 F, BW, DQ, VL (x86-64-v4).
    Avx512,
}

impl IsaName {
    /// All of them, narrowest first.
    pub const ALL: [IsaName; 4] = [IsaName::Scalar, IsaName::Neon, IsaName::Avx2, IsaName::Avx512];

    /// The name in records: `scalar`, `neon`, `avx2`, `avx512`.
    pub fn as_str(self) -> &'static str {
        match self {
            IsaName::Scalar => "scalar",
            IsaName::Neon => "neon",
            IsaName::Avx2 => "avx2",
            IsaName::Avx512 => "avx512",
        }
    }
}

/// The environment variable `THROUGHLINE_ISA` names no instruction set that this CPU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSuchIsa(());

impl core::fmt::Display for NoSuchIsa {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("THROUGHLINE_ISA: expected an instruction set that this CPU has (")?;
        for (index, isa) in Isa::available().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            f.write_str(isa.name().as_str())?;
        }
        f.write_str("), found ")?;
        #[cfg(feature = "std")]
        write!(f, "{:?}", std::env::var_os("THROUGHLINE_ISA").unwrap_or_default())?;
        #[cfg(not(feature = "std"))]
        f.write_str("another")?;
        f.write_str("; change the environment variable or unset it")
    }
}

impl core::error::Error for NoSuchIsa {}

impl Isa {
    /// Portable code: every CPU has it.
    pub const SCALAR: Isa = Isa(Proof::Scalar);

    /// The widest instruction set of this CPU, or the one that the environment variable `THROUGHLINE_ISA` names
    /// (`scalar`, `neon`, `avx2`, `avx512`), so that tests and measurements can use another one; an empty variable
    /// counts as unset. Without `std` always the widest.
    ///
    /// # Panics
    /// Where [`try_detect`](Self::try_detect) returns an error.
    pub fn detect() -> Isa {
        Isa::try_detect().unwrap_or_else(|error| panic!("{error}"))
    }

    /// The same, with an error instead of a panic.
    ///
    /// # Errors
    /// If the variable names no instruction set that this CPU has.
    pub fn try_detect() -> Result<Isa, NoSuchIsa> {
        #[cfg(feature = "std")]
        if let Some(wanted) = std::env::var_os("THROUGHLINE_ISA").filter(|wanted| !wanted.is_empty()) {
            return Isa::available().find(|isa| wanted == isa.name().as_str()).ok_or(NoSuchIsa(()));
        }
        Ok(Isa::available().last().expect("scalar code is always available"))
    }

    /// Every instruction set of this CPU that there is code for, narrowest first.
    pub fn available() -> impl Iterator<Item = Isa> {
        IsaName::ALL.into_iter().filter_map(Isa::new)
    }

    /// `name`, if this CPU has it.
    pub fn new(name: IsaName) -> Option<Isa> {
        match name {
            IsaName::Scalar => Some(Isa(Proof::Scalar)),
            #[cfg(target_arch = "x86_64")]
            IsaName::Avx2 => crate::x86::Avx2::detect().map(|isa| Isa(Proof::Avx2(isa))),
            #[cfg(target_arch = "x86_64")]
            IsaName::Avx512 => crate::x86::Avx512::detect().map(|isa| Isa(Proof::Avx512(isa))),
            #[cfg(target_arch = "aarch64")]
            IsaName::Neon => crate::neon::Neon::detect().map(|isa| Isa(Proof::Neon(isa))),
            #[allow(unreachable_patterns)]
            _ => None,
        }
    }

    /// Its name.
    pub fn name(self) -> IsaName {
        match self.0 {
            Proof::Scalar => IsaName::Scalar,
            #[cfg(target_arch = "x86_64")]
            Proof::Avx2(_) => IsaName::Avx2,
            #[cfg(target_arch = "x86_64")]
            Proof::Avx512(_) => IsaName::Avx512,
            #[cfg(target_arch = "aarch64")]
            Proof::Neon(_) => IsaName::Neon,
        }
    }
}

impl Element for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value as f32
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    #[inline]
    fn dispatch<K: Kernel<f32>>(isa: Isa, kernel: K) -> K::Output {
        match isa.0 {
            Proof::Scalar => kernel.run(Scalar::<f32>::new()),
            #[cfg(target_arch = "x86_64")]
            Proof::Avx2(lane) => lane.enter(kernel),
            #[cfg(target_arch = "x86_64")]
            Proof::Avx512(lane) => lane.enter(kernel),
            #[cfg(target_arch = "aarch64")]
            Proof::Neon(lane) => kernel.run(lane),
        }
    }
}

impl Element for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }

    #[inline]
    fn dispatch<K: Kernel<f64>>(_isa: Isa, kernel: K) -> K::Output {
        kernel.run(Scalar::<f64>::new())
    }
}
