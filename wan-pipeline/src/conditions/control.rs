//! Videos to follow or to change, with their masks, and pictures of what is to be seen.
//!
//! Sources: `pipeline_wan_vace.py` and `pipeline_lucy_edit.py` of diffusers, `pipeline_wan_fun_control.py` of VideoX-Fun.

use std::ops::Range;

use burn::tensor::{DType, Tensor, TensorData};
use wan_core::{Backend, Control, FrameSource};
use wan_io::image::{Filter, Image, Mask, Pixels, latent_mask};

use super::Conditions;
use crate::{Error, Event, Observer, Pipeline, Plan, Request, SourceVideo};

impl<B: Backend> Pipeline<B> {
    /// The control of a VACE model: what is kept of a video, what is made of it or follows another one, and the mask
    /// between both; before these, pictures of what is to be seen, a latent frame each.
    pub(super) fn condition_on_control(
        &self,
        request: &Request,
        plan: &Plan,
        observer: &mut Observer,
    ) -> Result<Conditions<B>, Error> {
        observer.emit(Event::EncodingVideo { frames: plan.num_frames })?;
        let masks = masks(request, plan)?;
        let masks = masks.as_deref();
        let frames = |part| MaskedFrames { request, masks, part, plan, device: &self.device };
        let kept = self.encode_frames(&frames(Part::Kept), plan, observer)?;
        let made = self.encode_frames(&frames(Part::Made), plan, observer)?;
        let mask = self.mask_on_latents(masks, plan)?;
        let mut latents = vec![Tensor::cat(vec![kept, made, mask], 1)];
        for reference in &request.references {
            latents.push(self.reference(reference, latents[0].dims(), plan, observer)?);
        }
        latents.rotate_left(1); // the references come first
        let scales = vec![plan.control_scale as f32];
        let control = Control { latents: Tensor::cat(latents, 2), scales };
        Ok(Conditions { control: Some(control), ..Conditions::none() })
    }

    /// A picture as a latent frame of the control, which has so many channels: nothing of it is made.
    fn reference(
        &self,
        image: &Image,
        [_, channels, _, height, width]: [usize; 5],
        plan: &Plan,
        observer: &mut Observer,
    ) -> Result<Tensor<B, 5>, Error> {
        let pixels = on_canvas(image, [plan.width as u32, plan.height as u32])?;
        let frame = Still { pixels: &pixels, device: &self.device };
        let latents = self.encode_frames(&frame, plan, observer)?;
        let rest = [1, channels - latents.dims()[1], 1, height, width];
        let rest = Tensor::zeros(rest, (&self.device, DType::F32));
        Ok(Tensor::cat(vec![latents, rest], 1))
    }

    /// The mask on the grid of the latents, `[1, 64, T, H, W]`; 1, so that all is made, where there is none.
    fn mask_on_latents(&self, masks: Option<&[Mask]>, plan: &Plan) -> Result<Tensor<B, 5>, Error> {
        let vae = &self.model.vae.config;
        let [_, _, frames, height, width] = plan.latent_shape();
        let pixels = vae.spatial_factor() * vae.spatial_factor();
        let shape = [1, pixels, frames, height, width];
        let Some(masks) = masks else {
            return Ok(Tensor::ones(shape, (&self.device, DType::F32)));
        };
        let values = latent_mask(masks, vae.spatial_factor(), vae.temporal_factor())?.values;
        Ok(Tensor::from_data(TensorData::new(values, shape), (&self.device, DType::F32)))
    }

    /// The channels of Fun-Control: the latents of the video to follow, and of the first frame in its place; zeros
    /// where there is none.
    pub(super) fn control_and_first(
        &self,
        first: Option<&Image>,
        request: &Request,
        plan: &Plan,
        observer: &mut Observer,
    ) -> Result<Tensor<B, 5>, Error> {
        let [_, channels, frames, height, width] = plan.latent_shape();
        let control = self.encode_source(request.control.as_ref(), plan, observer)?;
        let zeros = |count: usize| -> Tensor<B, 5> {
            let shape = [1, channels, count, height, width];
            Tensor::zeros(shape, (&self.device, DType::F32))
        };
        let Some(image) = first else { return Ok(Tensor::cat(vec![control, zeros(frames)], 1)) };
        let pixels = self.fit(image, request.fit, plan)?;
        let still = Still { pixels: &pixels, device: &self.device };
        let latents = self.encode_frames(&still, plan, observer)?;
        let first = Tensor::cat(vec![latents, zeros(frames - 1)], 2);
        Ok(Tensor::cat(vec![control, first], 1))
    }

    /// The latents of a video in the size of the one to make; zeros where there is none.
    pub(super) fn encode_source(
        &self,
        video: Option<&SourceVideo>,
        plan: &Plan,
        observer: &mut Observer,
    ) -> Result<Tensor<B, 5>, Error> {
        let Some(video) = video else {
            return Ok(Tensor::zeros(plan.latent_shape(), (&self.device, DType::F32)));
        };
        observer.emit(Event::EncodingVideo { frames: plan.num_frames })?;
        self.encode_frames(&Resized { video, plan, device: &self.device }, plan, observer)
    }
}

/// The masks of all frames in the size of the video, if there are any.
fn masks(request: &Request, plan: &Plan) -> Result<Option<Vec<Mask>>, Error> {
    let Some(mask) = &request.mask else { return Ok(None) };
    let of_frame = |frame| mask.frame(frame, [plan.width, plan.height]);
    (0..plan.num_frames).map(of_frame).collect::<Result<_, _>>().map(Some)
}

/// A picture, its ratio kept, in the middle of a white one of some width and height.
fn on_canvas(image: &Image, [width, height]: [u32; 2]) -> Result<Pixels, Error> {
    let ratio = |side: u32, of: u32| f64::from(side) / f64::from(of);
    let scale = ratio(width, image.width()).min(ratio(height, image.height()));
    let side = |side: u32| ((f64::from(side) * scale) as u32).max(1);
    let small = image.resize(side(image.width()), side(image.height()), Filter::Lanczos)?;
    let [left, top] = [(width - small.width()) / 2, (height - small.height()) / 2];
    let mut rgb = vec![255; 3 * width as usize * height as usize];
    let rows = small.rgb8().chunks_exact(3 * small.width() as usize);
    for (row, pixels) in rows.enumerate() {
        let start = 3 * ((top as usize + row) * width as usize + left as usize);
        rgb[start..start + pixels.len()].copy_from_slice(pixels);
    }
    Ok(Image::from_rgb8(width, height, rgb)?.pixels())
}

/// A video of one frame.
struct Still<'a, B: Backend> {
    pixels: &'a Pixels,
    device: &'a B::Device,
}

impl<B: Backend> FrameSource<B> for Still<'_, B> {
    fn size(&self) -> [usize; 3] {
        [1, self.pixels.height as usize, self.pixels.width as usize]
    }

    fn frames(&self, _: Range<usize>) -> Tensor<B, 5> {
        let [count, height, width] = FrameSource::<B>::size(self);
        let data = TensorData::new(self.pixels.values.clone(), [1, 3, count, height, width]);
        Tensor::from_data(data, (self.device, DType::F32))
    }
}

/// The first frames of a video, resized to those of the one to make.
struct Resized<'a, B: Backend> {
    video: &'a SourceVideo,
    plan: &'a Plan,
    device: &'a B::Device,
}

impl<B: Backend> FrameSource<B> for Resized<'_, B> {
    fn size(&self) -> [usize; 3] {
        [self.plan.num_frames, self.plan.height, self.plan.width]
    }

    fn frames(&self, range: Range<usize>) -> Tensor<B, 5> {
        let frames = range.map(|frame| resized(self.video, frame, self.plan));
        joined(frames.collect(), self.plan, self.device)
    }
}

/// The parts of a video that a mask divides it into.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The video to change, where the mask is 0.
    Kept,
    /// The video to follow, where the mask is 1.
    Made,
}

/// A part of the videos of a request; all else is gray.
struct MaskedFrames<'a, B: Backend> {
    request: &'a Request,
    /// One for each frame; without them all is made.
    masks: Option<&'a [Mask]>,
    part: Part,
    plan: &'a Plan,
    device: &'a B::Device,
}

impl<B: Backend> MaskedFrames<'_, B> {
    /// `[3, H, W]` in -1..1.
    fn frame(&self, index: usize) -> Vec<f32> {
        let Self { request, masks, part, plan, .. } = self;
        let (video, taken) = match part {
            Part::Kept => (&request.video, 0),
            Part::Made => (&request.control, 255),
        };
        let plane = plan.width * plan.height;
        let Some(video) = video else { return vec![0.0; 3 * plane] };
        let mut values = resized(video, index, plan);
        let is_taken = |pixel: usize| match masks {
            Some(masks) => masks[index].values()[pixel] == taken,
            None => *part == Part::Made,
        };
        for (i, value) in values.iter_mut().enumerate() {
            if !is_taken(i % plane) {
                *value = 0.0;
            }
        }
        values
    }
}

impl<B: Backend> FrameSource<B> for MaskedFrames<'_, B> {
    fn size(&self) -> [usize; 3] {
        [self.plan.num_frames, self.plan.height, self.plan.width]
    }

    fn frames(&self, range: Range<usize>) -> Tensor<B, 5> {
        joined(range.map(|frame| self.frame(frame)).collect(), self.plan, self.device)
    }
}

/// A frame of a video in the size of the one to make, `[3, H, W]` in -1..1.
fn resized(video: &SourceVideo, frame: usize, plan: &Plan) -> Vec<f32> {
    let image = video.image(frame);
    let image = image.resize(plan.width as u32, plan.height as u32, Filter::Lanczos);
    image.expect("the size of a plan").pixels().values
}

/// Frames `[3, H, W]` as a video `[1, 3, T, H, W]`.
fn joined<B: Backend>(frames: Vec<Vec<f32>>, plan: &Plan, device: &B::Device) -> Tensor<B, 5> {
    let shape = [1, 3, 1, plan.height, plan.width];
    let frames = frames.into_iter().map(|values| -> Tensor<B, 5> {
        Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
    });
    Tensor::cat(frames.collect(), 2)
}
