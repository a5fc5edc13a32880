//! The image encoder in the form that Wan's own repositories have.

use super::{Tensor, names, renamed};

/// The tensors of a vision tower in the layout of transformers as the original has them: queries, keys and values of a
/// layer in one, and axes of 1 before those of the embeddings.
pub(crate) fn original(tensors: Vec<Tensor>) -> Vec<Tensor> {
    let mut tensors = fused(&renamed(tensors, names::clip));
    for tensor in &mut tensors {
        if ["visual.cls_embedding", "visual.pos_embedding"].contains(&tensor.name.as_str()) {
            tensor.shape.splice(0..0, vec![1; 3 - tensor.shape.len()]);
        }
    }
    tensors
}

fn fused(tensors: &[Tensor]) -> Vec<Tensor> {
    let find = |name: String| {
        let found = tensors.iter().find(|tensor| tensor.name == name);
        found.unwrap_or_else(|| panic!("the image encoder has no {name}"))
    };
    let fuse = |tensor: &Tensor| {
        let Some((layer, ending)) = tensor.name.split_once(".q_proj.") else {
            return tensor.clone();
        };
        let part = |part: &str| find(format!("{layer}.{part}_proj.{ending}")).bytes.as_slice();
        let mut shape = tensor.shape.clone();
        shape[0] *= 3;
        let bytes = ["q", "k", "v"].map(part).concat();
        Tensor { name: format!("{layer}.to_qkv.{ending}"), dtype: tensor.dtype, shape, bytes }
    };
    let is_in_another =
        |tensor: &&Tensor| [".k_proj.", ".v_proj."].iter().any(|part| tensor.name.contains(part));
    tensors.iter().filter(|tensor| !is_in_another(tensor)).map(fuse).collect()
}
