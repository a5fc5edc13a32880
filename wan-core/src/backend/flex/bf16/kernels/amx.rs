//! AMX: products of tiles of 16 rows by 32 values with 32 by 16. Its intrinsics are not stable in Rust, so the
//! instructions stand here as such.

use std::arch::asm;
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::LazyLock;

use super::tile::{DEPTH, LANES, Operands, PANELS, Tile};

/// Rows at a time: those of two tile registers.
pub(super) const ROWS: usize = 32;

/// What the eight tile registers hold: 16 rows of 64 bytes each (Intel's manual, volume 1, 18.2: "palette 1").
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_of_row: [u16; 16],
    rows: [u8; 16],
}

const CONFIGURATION: Configuration = {
    let (mut bytes_of_row, mut rows) = ([0; 16], [0; 16]);
    let mut register = 0;
    while register < 8 {
        bytes_of_row[register] = 64;
        rows[register] = 16;
        register += 1;
    }
    Configuration { palette: 1, start_row: 0, reserved: [0; 14], bytes_of_row, rows }
};

/// Whether the processor has AMX for bf16, and the system lets this process use it. The system is asked once: it
/// keeps room for the tile registers of each thread from then on.
pub(super) fn is_there() -> bool {
    static IS_THERE: LazyLock<bool> = LazyLock::new(|| has_instructions() && is_permitted());
    *IS_THERE
}

/// CPUID leaf 7: AMX-BF16 and AMX-TILE; and whether the system saves the tile registers (XCR0).
fn has_instructions() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
    const OSXSAVE: u32 = 1 << 27;
    const AMX: u32 = 1 << 22 | 1 << 24;
    const TILE_STATE: u64 = 1 << 17 | 1 << 18;

    #[target_feature(enable = "xsave")]
    fn enabled_states() -> u64 {
        // SAFETY: register 0 is there wherever the instruction is.
        unsafe { _xgetbv(0) }
    }

    // The leaves are only asked for where the leaf before says that they are there.
    let has_leaf_7 = __cpuid(0).eax >= 7;
    has_leaf_7
        && __cpuid(1).ecx & OSXSAVE != 0
        && __cpuid_count(7, 0).edx & AMX == AMX
        // SAFETY: OSXSAVE says that the instruction is there and enabled.
        && unsafe { enabled_states() } & TILE_STATE == TILE_STATE
}

/// Linux wants to be asked before tile registers are used (`arch_prctl(2)`, since 5.16), and may refuse.
#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const TILE_DATA: u64 = 18;
    let result: i64;
    // SAFETY: the call takes two numbers, and reads and writes none of this process's memory.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") TILE_DATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result == 0
}

/// Other systems are not known to let processes use it without being asked.
#[cfg(not(target_os = "linux"))]
fn is_permitted() -> bool {
    false
}

thread_local! {
    /// How many [`Registers`] this thread has.
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// The tile registers of this thread, set up; with the last of them they are free again. They hold nothing between two
/// products, so that several may be there.
pub(super) struct Registers(PhantomData<*const ()>);

impl Registers {
    /// # Panics
    /// If there is no AMX.
    pub(super) fn new() -> Self {
        assert!(is_there(), "there is no AMX");
        if HELD.replace(HELD.get() + 1) == 0 {
            // SAFETY: the instruction is there, and the system permits its use. The configuration is valid for
            // palette 1; the tile registers are used by nobody else in this thread.
            unsafe { asm!("ldtilecfg [{0}]", in(reg) &CONFIGURATION, options(nostack, readonly)) };
        }
        Self(PhantomData)
    }
}

impl Drop for Registers {
    fn drop(&mut self) {
        HELD.set(HELD.get() - 1);
        if HELD.get() == 0 {
            // SAFETY: as for `ldtilecfg`.
            unsafe { asm!("tilerelease", options(nostack, nomem)) };
        }
    }
}

/// A tile of 32 rows by two panels; with one panel its second half is not of use.
pub(super) fn multiply(_registers: &Registers, operands: &Operands, tile: &mut Tile) {
    let left = operands.left;
    let steps = left.depth.div_ceil(DEPTH);
    if left.taps.is_empty() || steps == 0 {
        *tile = Tile::new();
        return;
    }
    let panel = |i: usize| operands.panels[i.min(operands.panels.len() - 1)].as_ptr();
    // In memory, as there are not enough registers.
    let rarely = [
        left.words.as_ptr().wrapping_add(operands.start) as usize,
        steps,
        (&raw mut *tile) as usize,
    ];
    // SAFETY: [`Operands::new`] has compared what is read with the slices, for 32 rows: a step reads 16 words of
    // each row of the left operand and 256 words of each panel. What is written is the tile: 32 rows of 128
    // bytes. The registers are set up, as their token says; they hold nothing that outlives this block.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            // Where this stretch of the left operand begins.
            "mov {x}, [{tap}]",
            "shl {x}, 2",
            "add {x}, [{rarely}]",
            "mov {step}, [{rarely} + 8]",
            "3:",
            "tileloadd tmm4, [{x} + {row} * 1]",
            "tileloadd tmm6, [{y} + {lanes} * 1]",
            "tileloadd tmm7, [{z} + {lanes} * 1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            // Rows 16 to 31.
            "add {x}, {half}",
            "tileloadd tmm5, [{x} + {row} * 1]",
            "sub {x}, {half}",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {x}, {stride}",
            "add {y}, 1024",
            "add {z}, 1024",
            "dec {step}",
            "jnz 3b",
            "add {tap}, 8",
            "dec {taps}",
            "jnz 2b",
            "mov {x}, [{rarely} + 16]",
            "add {lanes}, {lanes}",
            "tilestored [{x} + {lanes} * 1], tmm0",
            "tilestored [{x} + {lanes} * 1 + 64], tmm1",
            "tilestored [{x} + {lanes} * 1 + 2048], tmm2",
            "tilestored [{x} + {lanes} * 1 + 2112], tmm3",
            rarely = in(reg) &rarely,
            tap = inout(reg) left.taps.as_ptr() => _,
            taps = inout(reg) left.taps.len() => _,
            x = out(reg) _,
            y = inout(reg) panel(0) => _,
            z = inout(reg) panel(PANELS - 1) => _,
            step = out(reg) _,
            row = in(reg) 4 * left.row,
            half = in(reg) 64 * left.row,
            stride = in(reg) 4 * left.step,
            lanes = inout(reg) 4 * LANES => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
