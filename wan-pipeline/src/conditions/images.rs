//! Pictures that a video begins and ends with.

use std::ops::Range;

use burn::tensor::{DType, Tensor, TensorData};
use wan_core::{Backend, FrameSource};
use wan_io::image::{Filter, FitRule, Image, Pixels};

use super::Conditions;
use crate::denoising::check_finite;
use crate::task::MASK_CHANNELS;
use crate::{Error, Event, Observer, Pipeline, Plan, Request, Stage, Task};

impl<B: Backend> Pipeline<B> {
    /// The conditions of a video that begins with a picture.
    pub(super) fn condition_on_images(
        &self,
        first: &Image,
        request: &Request,
        plan: &Plan,
        observer: &mut Observer,
    ) -> Result<Conditions<B>, Error> {
        let last = request.last_image.as_deref();
        let images = 1 + usize::from(last.is_some());
        let (found, size) = ([first.width(), first.height()], [plan.width, plan.height]);
        let (size, fit) = (size.map(|side| side as u32), request.fit);
        observer.emit(Event::EncodingImages { images, found, size, fit })?;
        let frame = |image: &Image| self.fit(image, request.fit, plan);
        let image = self.look_at(Some(first), last, plan, observer)?;
        let (first, last) = (frame(first)?, last.map(frame).transpose()?);
        let is_alone = self.spec().task == Task::TextImageToVideo;
        let count = if is_alone { 1 } else { plan.num_frames };
        let frames = EndFrames { first: &first, last: last.as_ref(), count, device: &self.device };
        let latents = self.encode_frames(&frames, plan, observer)?;
        if is_alone {
            return Ok(Conditions { known: Some(latents), ..Conditions::none() });
        }
        let mask = known_frames(latents.dims(), frames.last.is_some());
        let mask = Tensor::from_data(mask, (&self.device, DType::F32));
        let channels = Some(Tensor::cat(vec![mask, latents], 1));
        Ok(Conditions { image, channels, ..Conditions::none() })
    }

    /// The states of the image encoder, `[1, N, D]`, where the model has one: of the first image, and of the last one
    /// where the model tells them apart; zeros where there is no image.
    pub(super) fn look_at(
        &self,
        first: Option<&Image>,
        last: Option<&Image>,
        plan: &Plan,
        observer: &mut Observer,
    ) -> Result<Option<Tensor<B, 3>>, Error> {
        if self.model.image_encoder.is_none() {
            return Ok(None);
        }
        let memory = self.memory(std::slice::from_ref(plan));
        memory.clone().only(Stage::EncodingImages).check()?;
        self.make_room(Stage::EncodingImages, &memory);
        let Some((encoder, preprocess)) = self.image_encoder(observer)? else { return Ok(None) };
        let config = encoder.config();
        let Some(first) = first else {
            let shape = [1, config.tokens(), config.hidden_size];
            return Ok(Some(Tensor::zeros(shape, (&self.device, DType::F32))));
        };
        let tells_apart = self.model.transformer.config.pos_embed_seq_len.is_some();
        let mut states = Vec::new();
        for image in [first].into_iter().chain(last.filter(|_| tells_apart)) {
            let Pixels { width, height, values } = preprocess.pixels(image)?;
            let data = TensorData::new(values, [1, 3, height as usize, width as usize]);
            let pixels = Tensor::from_data(data, (&self.device, DType::F32));
            // The original conditions on the last layer but one.
            states.push(encoder.hidden_states(pixels, 1, observer.cancel_token(), &mut ())?);
        }
        let states = Tensor::cat(states, 1);
        check_finite(|| "looking at the image".into(), &states)?;
        Ok(Some(states))
    }

    /// A picture as a frame of the video, resized as the rule does it: where the size is not that of the rule, as the
    /// pipelines with this rule resize a picture of another size.
    pub(super) fn fit(&self, image: &Image, rule: FitRule, plan: &Plan) -> Result<Pixels, Error> {
        let fit = self.model.fit(rule);
        let [width, height] = [plan.width, plan.height].map(|side| side as u32);
        tracing::info!("{image:?} becomes a frame of {width}x{height} by the rule of {rule}");
        if fit.size(image).is_ok_and(|size| size == [width, height]) {
            return Ok(fit.pixels(image)?);
        }
        Ok(match rule {
            FitRule::WanImageToVideo => image.resize_as_torch(width, height)?,
            FitRule::WanTi2v => image.cover(width, height)?.pixels(),
            _ => image.resize(width, height, Filter::Lanczos)?.pixels(),
        })
    }
}

/// A video of which the first and perhaps the last frame are known; the others are gray.
struct EndFrames<'a, B: Backend> {
    first: &'a Pixels,
    last: Option<&'a Pixels>,
    count: usize,
    device: &'a B::Device,
}

impl<B: Backend> EndFrames<'_, B> {
    fn frame(&self, index: usize) -> Option<&Pixels> {
        match index {
            0 => Some(self.first),
            _ => self.last.filter(|_| index + 1 == self.count),
        }
    }
}

impl<B: Backend> FrameSource<B> for EndFrames<'_, B> {
    fn size(&self) -> [usize; 3] {
        [self.count, self.first.height as usize, self.first.width as usize]
    }

    fn frames(&self, range: Range<usize>) -> Tensor<B, 5> {
        let [_, height, width] = FrameSource::<B>::size(self);
        let (plane, frames) = (height * width, range.len());
        let mut values = vec![0.0; 3 * frames * plane];
        for (i, frame) in range.enumerate() {
            let Some(Pixels { values: pixels, .. }) = self.frame(frame) else { continue };
            for (channel, pixels) in pixels.chunks_exact(plane).enumerate() {
                values[(channel * frames + i) * plane..][..plane].copy_from_slice(pixels);
            }
        }
        let data = TensorData::new(values, [1, 3, frames, height, width]);
        Tensor::from_data(data, (self.device, DType::F32))
    }
}

/// The mask `[1, 4, T, H, W]` that stands before the latents of known frames: a channel for each frame of a latent
/// frame, 1 where it is known. The first latent frame is one frame, which counts for four.
fn known_frames([_, _, frames, height, width]: [usize; 5], is_last_known: bool) -> TensorData {
    let plane = height * width;
    let mut values = vec![0.0f32; MASK_CHANNELS * frames * plane];
    for channel in 0..MASK_CHANNELS {
        values[channel * frames * plane..][..plane].fill(1.0);
    }
    if is_last_known {
        let last = values.len() - plane;
        values[last..].fill(1.0);
    }
    TensorData::new(values, [1, MASK_CHANNELS, frames, height, width])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_known_frames() {
        let mask = |is_last_known| {
            let data = known_frames([1, 16, 3, 1, 2], is_last_known);
            assert_eq!(data.shape.to_vec(), [1, 4, 3, 1, 2]);
            data.to_vec::<f32>().unwrap()
        };
        let (known, made) = ([1.0, 1.0], [0.0, 0.0]);
        let channel = [known, made, made].concat();
        assert_eq!(mask(false), channel.repeat(4));
        // The last frame is the last of the four of the last latent frame.
        let last = [known, made, known].concat();
        assert_eq!(mask(true), [channel.repeat(3), last].concat());
    }
}
