//! The kernels, and which of them runs: found out once, or said by the caller.
//!
//! All that is unsafe in products of bf16 is in this folder, on these conditions:
//! - An instruction runs where the processor has it and the system lets it: a [`Session`] is not made for a kernel
//!   that is not available, and asks once; what else needs an instruction asks itself.
//! - Memory is read and written inside slices: [`Operands`] and [`Dense`] are what a kernel reads, and are compared
//!   with the lengths of their slices when they are made, `Operands` for the kernel that reads them. A kernel writes a
//!   whole [`Tile`], or as many rows as [`Session::multiply_dense`] has found in the left operand.
//! - The tile registers of AMX are a thread's only while it has [`amx::Registers`]: the last to go leaves them empty.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
mod tile;
mod transpose;

use tile::Operands;
pub(super) use tile::{DEPTH, Dense, Form, LANES, Left, MAX_ROWS, PANELS, Row, Tile};
pub(super) use transpose::transpose;

/// How a CPU multiplies matrices of bf16. All sum up in f32; the results differ in the last bits of f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CpuKernel {
    /// The matrix units of Intel's server processors (since 2023).
    Amx,
    /// AVX-512 with products of pairs of bf16 (AVX512-BF16).
    Avx512Bf16,
    /// AVX-512; bf16 is widened, once for many rows.
    Avx512,
    /// AVX2 and FMA; bf16 is widened, once for many rows.
    Avx2,
    /// What the compiler makes of plain loops.
    Portable,
}

static CHOSEN: OnceLock<CpuKernel> = OnceLock::new();

/// Why a kernel cannot be chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CpuKernelError {
    /// There is no kernel of this name.
    #[error("there is no CPU kernel {found:?}: they are {known}", known = listed(CpuKernel::ALL))]
    Unknown {
        /// The name.
        found: String,
    },
    /// The processor lacks the instructions, or the system does not let them be used.
    #[error(
        "this processor cannot run the CPU kernel {kernel}: it can run {available}",
        available = listed(CpuKernel::available())
    )]
    NotAvailable {
        /// The kernel.
        kernel: CpuKernel,
    },
    /// Another one has been in use in this process.
    #[error(
        "this process already computes with the CPU kernel {chosen}, and cannot change to {kernel}"
    )]
    AlreadyChosen {
        /// The one in use.
        chosen: CpuKernel,
        /// The one that was asked for.
        kernel: CpuKernel,
    },
}

fn listed(kernels: impl IntoIterator<Item = CpuKernel>) -> String {
    let names: Vec<String> = kernels.into_iter().map(|kernel| kernel.to_string()).collect();
    names.join(", ")
}

impl CpuKernel {
    /// All kernels, the fastest first where all instructions run at their full rate.
    pub const ALL: [Self; 5] =
        [Self::Amx, Self::Avx512Bf16, Self::Avx512, Self::Avx2, Self::Portable];

    /// Those that this processor can run, the fastest first.
    pub fn available() -> impl Iterator<Item = Self> {
        let mut kernels = Self::ALL;
        if multiplies_pairs_slowly() {
            kernels.swap(1, 2);
        }
        kernels.into_iter().filter(|kernel| kernel.is_available())
    }

    /// Whether this processor can run it, and the system lets it.
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return match self {
            Self::Amx => amx::is_there(),
            Self::Avx512Bf16 => {
                is_x86_feature_detected!("avx512bf16") && Self::Avx512.is_available()
            }
            Self::Avx512 => is_x86_feature_detected!("avx512f"),
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            Self::Portable => true,
        };
        #[cfg(not(target_arch = "x86_64"))]
        return self == Self::Portable;
    }

    /// The kernel of this process: the one that was [chosen](Self::choose), else the fastest that is available.
    pub fn current() -> Self {
        *CHOSEN.get_or_init(|| Self::available().next().unwrap_or(Self::Portable))
    }

    /// Makes it the kernel of this process. It has to be said before anything was computed in bf16.
    ///
    /// # Errors
    /// If the processor cannot run it, or another kernel is in use.
    pub fn choose(self) -> Result<(), CpuKernelError> {
        if !self.is_available() {
            return Err(CpuKernelError::NotAvailable { kernel: self });
        }
        match *CHOSEN.get_or_init(|| self) {
            chosen if chosen == self => Ok(()),
            chosen => Err(CpuKernelError::AlreadyChosen { chosen, kernel: self }),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Amx => "amx",
            Self::Avx512Bf16 => "avx512-bf16",
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    /// How it wants its left operand.
    pub(super) fn form(self) -> Form {
        match self {
            Self::Amx => Form::Rows,
            Self::Avx512Bf16 => Form::Pairs,
            _ => Form::Wide,
        }
    }

    /// Rows that it computes at a time.
    pub(super) fn rows(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx => amx::ROWS,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 | Self::Avx512 => avx512::ROWS,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::ROWS,
            _ => portable::ROWS,
        }
    }

    /// The rows that it reads to compute `rows`.
    fn read_rows(self, rows: usize) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 | Self::Avx512 => avx512::read_rows(rows),
            _ => self.rows(),
        }
    }
}

/// Whether a product of pairs of bf16 takes so much longer than one of f32 that it is faster to widen them. It does on
/// Intel's processors, which are made to multiply bf16 by their matrix units: where these are hidden, as virtual
/// machines do, pairs come to 0.6 of the rate of AVX-512. On AMD's they come to 1.7 of it.
fn multiplies_pairs_slowly() -> bool {
    #[cfg(target_arch = "x86_64")]
    return {
        let vendor = std::arch::x86_64::__cpuid(0);
        [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).as_flattened() == b"GenuineIntel"
    };
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

impl fmt::Display for CpuKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for CpuKernel {
    type Err = CpuKernelError;

    fn from_str(name: &str) -> Result<Self, CpuKernelError> {
        let found = || CpuKernelError::Unknown { found: name.to_owned() };
        Self::ALL.into_iter().find(|kernel| kernel.name() == name).ok_or_else(found)
    }
}

/// A kernel with what it needs of a thread while it computes.
pub(super) struct Session {
    kernel: CpuKernel,
    #[cfg(target_arch = "x86_64")]
    registers: Option<amx::Registers>,
}

impl Session {
    /// # Panics
    /// If the kernel is not available.
    pub(super) fn new(kernel: CpuKernel) -> Self {
        assert!(kernel.is_available(), "{kernel} is not available");
        Self {
            kernel,
            #[cfg(target_arch = "x86_64")]
            registers: (kernel == CpuKernel::Amx).then(amx::Registers::new),
        }
    }

    pub(super) fn kernel(&self) -> CpuKernel {
        self.kernel
    }

    /// Computes a tile of the rows that begin at `start`, and one panel or two; after these rows are perhaps some of
    /// no meaning.
    ///
    /// # Panics
    /// If the left operand does not hold the rows that the kernel reads, or a panel is of another depth.
    pub(super) fn multiply(
        &self,
        left: Left,
        start: usize,
        rows: usize,
        panels: &[&[u32]],
        tile: &mut Tile,
    ) {
        let operands = &Operands::new(self.kernel, left, start, rows, panels);
        #[cfg(target_arch = "x86_64")]
        if let Some(registers) = &self.registers {
            return amx::multiply(registers, operands, tile);
        }
        // SAFETY: the kernel is available, as was seen when the session began.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            match self.kernel {
                CpuKernel::Avx512Bf16 => return avx512::multiply_pairs(operands, tile),
                CpuKernel::Avx512 => return avx512::multiply(operands, tile),
                CpuKernel::Avx2 => return avx2::multiply(operands, tile),
                _ => {}
            }
        }
        portable::multiply(operands, tile);
    }

    /// The same of operands in f32, which matrix units do not multiply.
    ///
    /// # Panics
    /// If `out` has not as many rows as the left operand.
    pub(super) fn multiply_dense(&self, operands: &Dense, out: &mut [Row]) {
        assert_eq!(operands.rows(), out.len(), "another number of rows");
        // SAFETY: the kernel is available, as was seen when the session began, and there are as many rows.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            match self.kernel {
                CpuKernel::Avx512Bf16 | CpuKernel::Avx512 => {
                    return avx512::multiply_dense(operands, out);
                }
                CpuKernel::Avx2 => return avx2::multiply_dense(operands, out),
                _ => {}
            }
        }
        portable::multiply_dense(operands, out);
    }
}
