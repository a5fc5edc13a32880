//! Torch's CPU generator.

use std::path::Path;

use wan_core::noise::TorchGenerator;

use crate::fixture::{Array, Fixture, compare, folders_of, json};

pub fn is_kind(folder: &Path) -> bool {
    json(&folder.join("meta.json"))["fixture"] == "torch_rng"
}

#[test]
fn torch_generator() {
    for folder in folders_of("torch_rng", is_kind) {
        let fixture = Fixture::open(&folder);
        let mut checked = 0;
        let mut sequences = std::collections::BTreeMap::new();
        for name in fixture.outputs.names() {
            let expected = fixture.outputs.get(name);
            let parts: Vec<&str> = name.split('.').collect();
            let Some(seed) = parts.get(1).and_then(|p| p.strip_prefix("seed")) else { continue };
            let seed: u64 = seed.parse().expect("a seed");
            let count = expected.values.len();
            match (parts[0], parts.get(2)) {
                // In order: the names of a sequence end in its index.
                ("f32", Some(&"sequence")) => {
                    let index: usize = parts[3].parse().expect("an index");
                    sequences.entry(seed).or_insert_with(Vec::new).push((index, name));
                }
                ("f32", _) => check_normal(name, TorchGenerator::new(seed).randn(count), expected),
                ("rand_f32", _) => {
                    let found: Vec<f64> =
                        TorchGenerator::new(seed).rand(count).into_iter().map(f64::from).collect();
                    assert_eq!(found, expected.values, "{name}");
                    println!("host     {name:60} equal");
                }
                ("rand_f64", _) => {
                    assert_eq!(
                        TorchGenerator::new(seed).rand_f64(count),
                        expected.values,
                        "{name}"
                    );
                    println!("host     {name:60} equal");
                }
                (kind, _) => {
                    println!("host     {name:60} not supported: noise is f32, not {kind}");
                    continue;
                }
            }
            checked += 1;
        }
        for (seed, mut parts) in sequences {
            parts.sort();
            let mut generator = TorchGenerator::new(seed);
            for (_, name) in parts {
                let expected = fixture.outputs.get(name);
                check_normal(name, generator.randn(expected.values.len()), expected);
            }
        }
        assert!(checked > 0);
    }
}

/// Within 1e-6, and within 3 ulp where a value is not near zero.
fn check_normal(name: &str, found: Vec<f32>, expected: &Array) {
    for (&found, &expected) in found.iter().zip(&expected.values) {
        let ulps = (found.to_bits() as i64 - (expected as f32).to_bits() as i64).abs();
        assert!(
            ulps <= 3 || expected.abs() < 0.01,
            "{name}: {found} is {ulps} ulp from {expected}"
        );
    }
    let values = found.into_iter().map(f64::from).collect();
    let found = Array { shape: expected.shape.clone(), values };
    compare("host", name, &found, expected, (1e-6, 0.0));
}
