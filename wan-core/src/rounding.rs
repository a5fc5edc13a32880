/// The bits of the bf16 nearest to `number`, ties to even; not a number stays so. It has no branch that would keep a
/// loop from being vectorised.
#[inline(always)]
pub fn nearest_bf16(number: f32) -> u16 {
    let bits = number.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    let quiet_nan = bits >> 16 | 0x40;
    (if number.is_nan() { quiet_nan } else { nearest }) as u16
}
