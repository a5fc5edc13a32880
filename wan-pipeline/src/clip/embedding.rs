/// A text, an image or a video as a place in the space that a [`Clip`](crate::Clip) has for all of them: a
/// vector of length 1.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipEmbedding(Vec<f32>);

impl ClipEmbedding {
    /// `None` unless the vector has a direction.
    pub(super) fn new(vector: &[f32]) -> Option<Self> {
        let square: f64 = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        let length = square.sqrt();
        let has_direction = length.is_finite() && length > 0.0;
        let scaled = || vector.iter().map(|&x| (f64::from(x) / length) as f32).collect();
        has_direction.then(|| Self(scaled()))
    }

    /// The mean of several, such as those of a video's frames, at length 1. `None` if there are none, or they
    /// cancel each other out.
    ///
    /// # Panics
    /// If they are of models with different widths.
    pub fn mean(embeddings: &[Self]) -> Option<Self> {
        let mut sum = vec![0.0; embeddings.first()?.0.len()];
        for Self(vector) in embeddings {
            assert_eq!(vector.len(), sum.len(), "embeddings of one model");
            sum.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x);
        }
        Self::new(&sum)
    }

    /// The cosine of the angle to another one: 1 for the same place, 0 where they have nothing to do with
    /// each other.
    ///
    /// # Panics
    /// If they are of models with different widths.
    pub fn cosine(&self, other: &Self) -> f32 {
        assert_eq!(self.0.len(), other.0.len(), "embeddings of one model");
        self.0.iter().zip(&other.0).map(|(a, b)| a * b).sum()
    }

    /// The vector.
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_direction_is_no_embedding() {
        for vector in [&[0.0, 0.0][..], &[f32::NAN, 1.0], &[f32::INFINITY, 1.0], &[]] {
            assert_eq!(ClipEmbedding::new(vector), None, "{vector:?}");
        }
        let [right, up, left] = [[2.0, 0.0], [0.0, 0.1], [-1.0, 0.0]]
            .map(|vector| ClipEmbedding::new(&vector).expect("it has a direction"));
        assert_eq!(
            [right.cosine(&right), right.cosine(&up), right.cosine(&left)],
            [1.0, 0.0, -1.0]
        );
        assert_eq!(ClipEmbedding::mean(&[right.clone(), left.clone()]), None);
        assert_eq!(ClipEmbedding::mean(&[]), None);
        let between = ClipEmbedding::mean(&[right.clone(), up]).unwrap();
        assert!((between.cosine(&right) - 0.5_f32.sqrt()).abs() < 1e-6);
    }
}
