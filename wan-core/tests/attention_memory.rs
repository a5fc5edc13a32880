//! The memory of attention grows with the number of tokens, not with its square.

use wan_core::backend::AttentionPlan;

/// Tokens of 81 frames at 832x480, and at 1280x720.
const TOKENS: [usize; 2] = [32_760, 75_600];

#[test]
fn the_plan_stays_within_its_memory() {
    for tokens in TOKENS.into_iter().chain([1, 7, 512, 1_000_000]) {
        for heads in [1, 12, 40] {
            for bytes in [64 << 20, 256 << 20] {
                for keys in [1, 512, tokens] {
                    let plan = AttentionPlan::new([1, heads, tokens, keys], bytes);
                    let what = format!("{tokens} queries, {keys} keys, {heads} heads: {plan:?}");
                    assert!(plan.score_bytes(1, keys) <= bytes, "{what}");
                    assert!((1..=heads).contains(&plan.heads), "{what}");
                    assert!((1..=tokens).contains(&plan.rows), "{what}");
                    // What is granted is used: no piece is small without need.
                    let all = plan.heads == heads && plan.rows == tokens;
                    assert!(all || plan.score_bytes(1, keys) > bytes / 3, "{what}");
                }
            }
        }
    }
    // The real ones, whose matrix products stay large.
    for heads in [12, 40] {
        for tokens in TOKENS {
            let plan = AttentionPlan::new([1, heads, tokens, tokens], 64 << 20);
            assert!(plan.rows >= 128, "{heads} heads, {tokens} tokens: {plan:?}");
        }
    }
    // A single row that is larger than what was granted passes all the same.
    assert_eq!(AttentionPlan::new([2, 3, 4, 1000], 100), AttentionPlan { heads: 1, rows: 1 });
}

/// Peaks of memory, of which Linux keeps count.
#[cfg(all(target_os = "linux", feature = "flex"))]
mod peaks {
    use burn::tensor::{DType, Tensor};
    use wan_core::Backend;
    use wan_core::backend::AttentionArgs;

    const MIB: usize = 1 << 20;

    fn peak_after(work: impl FnOnce()) -> usize {
        let read = |field: &str| {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
            line.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1024
        };
        std::fs::write("/proc/self/clear_refs", "5").unwrap(); // the peak begins anew
        let before = read("VmRSS:");
        work();
        read("VmHWM:") - before
    }

    /// One head on `tokens` tokens takes at most `mib`, where all scores would take far more.
    fn check<B: Backend>(name: &str, tokens: usize, width: usize, mib: usize) {
        let device = B::open_device(0).unwrap();
        let shape = [1, 1, tokens, width];
        let random = |_| {
            let half = Tensor::<B, 4>::ones(shape, (&device, DType::F32));
            half.clone() * 0.5 + half.cumsum(2) * (1.0 / tokens as f64)
        };
        let [q, k] = [0, 1].map(random);
        let v = Tensor::ones(shape, (&device, DType::F32));
        let mut sums: Vec<f32> = Vec::new();
        let peak = peak_after(|| {
            let attended = B::wan_attention(AttentionArgs::new(q, k, v, 0.1));
            sums = attended.into_data().convert::<f32>().into_vec().unwrap();
        });
        let scores = 4 * tokens * tokens / MIB;
        println!("{name:8} {tokens} tokens: {} MiB; all scores: {scores} MiB", peak / MIB);
        assert!(4 * mib < scores, "the test can fail");
        assert!(peak < mib * MIB, "{name}: {} MiB for {tokens} tokens", peak / MIB);
        assert_eq!(sums.len(), tokens * width);
        // Weights sum up to 1, so the mean of ones is one.
        let largest = sums.iter().map(|sum| (sum - 1.0).abs()).fold(0.0, f32::max);
        assert!(largest < 1e-4, "{name}: {largest}");
    }

    /// One test for all, since they would disturb each other.
    #[test]
    fn scores_are_never_in_memory_as_a_whole() {
        // Operands and result of the largest take 76 MiB.
        check::<burn::backend::Flex>("flex", 75_600, 64, 256);
        #[cfg(feature = "ndarray")]
        check::<burn::backend::NdArray<f32>>("ndarray", 16_384, 16, 255);
        #[cfg(feature = "wgpu")]
        match wan_core::backend::Wgpu::devices() {
            // Another GPU has a memory of its own, which Linux does not count.
            Ok(devices) if devices[0].kind == wan_core::DeviceKind::Cpu => {
                check::<wan_core::backend::Wgpu>("wgpu", 24_576, 16, 575);
            }
            other => println!("wgpu is left out: {other:?}"),
        }
    }
}
