//! A run in a file: saved where it is, and resumed to the same result.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use wan_core::noise::TorchGenerator;
use wan_core::scheduler::SchedulerState;
use wan_core::{Backend, Control};

use crate::components::Components;
use crate::conditions::Conditions;
use crate::denoising::{Denoising, RunPart};
use crate::embeds;
use crate::latents::{Latents, host};
use crate::tensor_file::{TensorFile, TensorFileError, TensorFileWriter};
use crate::video_run::VideoRun;
use crate::{Embeddings, Error, Observer, Pipeline, Plan, RequestError, Role, Task};

/// The kind of the file, as its metadata names it.
const KIND: &str = "run";

/// The metadata of a run; the tensors are beside it.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    plans: Vec<Plan>,
    /// Steps done.
    done: usize,
    /// The weights that the latents depend on: part and fingerprint.
    fingerprints: Vec<(String, String)>,
    /// The names of all tensors, so that one that is missing is not taken for one that never was.
    tensors: BTreeSet<String>,
}

/// Opens the file of a run, before there is anything to save: see [`Denoising::save_to`].
pub struct StateWriter(TensorFileWriter);

impl StateWriter {
    /// Opens `path`, so that a folder that is missing or cannot be written is found before the work and
    /// not after it.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, Error> {
        Ok(Self(TensorFileWriter::create(path.as_ref(), KIND)?))
    }
}

impl<B: Backend> Denoising<'_, B> {
    /// Saves the run as it is: latents, the history of schedulers and guides, embeddings, plans, the step,
    /// and fingerprints of the weights, in one safetensors file. Nothing stands under its name before
    /// it is whole.
    ///
    /// # Errors
    /// If the file cannot be written, or the run has a scheduler or a guide of the caller's own.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        self.save_to(StateWriter::create(path)?)
    }

    /// [`save`](Self::save) to a file that was opened before.
    ///
    /// # Errors
    /// Those of [`save`](Self::save).
    pub fn save_to(&self, StateWriter(mut file): StateWriter) -> Result<(), Error> {
        for (i, video) in self.videos.iter().enumerate() {
            save_video(&mut file, i, video)?;
        }
        let plans = self.videos.iter().map(|video| video.plan.clone()).collect();
        let fingerprints = self.pipeline.fingerprints()?;
        let named = fingerprints.into_iter().map(|(role, hash)| (role.to_string(), hash));
        let fingerprints = named.collect();
        let tensors = file.names().map(str::to_owned).collect();
        file.json("run", &Header { plans, done: self.done, fingerprints, tensors });
        file.finish()
    }
}

fn save_video<B: Backend>(
    file: &mut TensorFileWriter,
    index: usize,
    video: &VideoRun<B>,
) -> Result<(), Error> {
    let own = [("scheduler", video.own.scheduler), ("guide", video.own.guide)];
    if let Some((what, _)) = own.into_iter().find(|(_, own)| *own) {
        return Err(RequestError::NotSaveable { what }.into());
    }
    let mut add = |name: &str, tensor: &Tensor<B, 5>| {
        file.tensor(format!("{index}.{name}"), &tensor.dims(), host(tensor.clone()));
    };
    add("latents", &video.latents);
    let unsaveable = RequestError::NotSaveable { what: "scheduler" };
    let SchedulerState { tensors, .. } = video.scheduler.state().ok_or(unsaveable)?;
    tensors.iter().for_each(|(name, tensor)| add(&format!("scheduler.{name}"), tensor));
    video.guide.state().iter().for_each(|(name, tensor)| add(&format!("guide.{name}"), tensor));
    for (name, tensor) in video.conditions.tensors() {
        file.tensor(format!("{index}.condition.{name}"), &tensor.dims(), host(tensor));
    }
    let Embeddings { prompt, negative_prompt } = &video.embeddings;
    let all =
        [("prompt_embeds", Some(prompt)), ("negative_prompt_embeds", negative_prompt.as_ref())];
    for (name, embeds) in all {
        if let Some(embeds) = embeds {
            let shape = [embeds.tokens(), embeds.width()];
            file.tensor(format!("{index}.{name}"), &shape, embeds.states().to_vec());
        }
    }
    Ok(())
}

impl<B: Backend> Pipeline<B> {
    /// Goes on with a run that [`Denoising::save`] wrote. On the same backend its result is that of the
    /// run without the interruption, bit for bit on the CPU. The text encoder is not needed.
    ///
    /// # Errors
    /// If the file is missing, damaged, of a later version, or of a run with other weights, which are
    /// named; or if the transformer cannot be loaded.
    pub fn resume(
        &self,
        path: impl AsRef<Path>,
        observer: &mut Observer,
    ) -> Result<Denoising<'_, B>, Error> {
        let (file, plans, done) = self.open_run(path.as_ref())?;
        let mut parts = Vec::new();
        for (i, plan) in plans.into_iter().enumerate() {
            parts.push(self.resume_video(&file, i, plan, done)?);
        }
        let mut run = self.assemble(parts, done, observer)?;
        for (i, video) in run.videos.iter_mut().enumerate() {
            let shape = video.plan.latent_shape;
            video.guide.restore(self.tensors(&file, &format!("{i}.guide."), shape)?);
        }
        Ok(run)
    }

    /// The plans of a run that [`Denoising::save`] wrote: what [`resume`](Self::resume) would go on with.
    /// No weights are loaded.
    ///
    /// # Errors
    /// If the file is missing, damaged, of a later version, or of a run with other weights.
    pub fn saved_plans(&self, path: impl AsRef<Path>) -> Result<Vec<Plan>, Error> {
        self.open_run(path.as_ref()).map(|(_, plans, _)| plans)
    }

    /// The file of a run, its plans, and the steps done.
    fn open_run(&self, path: &Path) -> Result<(TensorFile, Vec<Plan>, usize), Error> {
        let file = TensorFile::open(path)?;
        file.require_kind(KIND, false)?;
        let Header { plans, done, fingerprints, tensors } = file.json("run")?;
        self.check_fingerprints(&file, &fingerprints)?;
        check_header(&file, &self.model, &plans, done)?;
        check_names(&file, &tensors, plans.len())?;
        Ok((file, plans, done))
    }

    fn resume_video(
        &self,
        file: &TensorFile,
        index: usize,
        plan: Plan,
        done: usize,
    ) -> Result<RunPart<B>, Error> {
        let shape = plan.latent_shape;
        let latents = self.read_shaped(file, &format!("{index}.latents"), shape)?;
        let negative = format!("{index}.negative_prompt_embeds");
        let negative_prompt = match file.has(&negative) {
            false if !plan.needs_negative()? => None,
            _ => Some(embeds::read(file, &negative)?),
        };
        let prompt = embeds::read(file, &format!("{index}.prompt_embeds"))?;
        let embeddings = Embeddings { prompt, negative_prompt };
        let (prompt, negative) = (&embeddings.prompt, embeddings.negative_prompt.as_ref());
        let text_dim = self.model.transformer.config.text_dim;
        plan.check_embeddings(Some(prompt), negative, text_dim)?;
        let mut generator = TorchGenerator::new(plan.seed);
        generator.randn(shape.iter().product()); // the noise that the run began with
        let mut scheduler = plan.scheduler.scheduler(&plan.schedule, generator)?;
        scheduler.restore(done, self.tensors(file, &format!("{index}.scheduler."), shape)?)?;
        let conditions = Arc::new(self.resume_conditions(file, index, &plan)?);
        Ok(RunPart { plan, embeddings, conditions, latents, scheduler })
    }

    /// What a video is conditioned on beside its prompts, in the shapes that its model and its plan ask for.
    fn resume_conditions(
        &self,
        file: &TensorFile,
        index: usize,
        plan: &Plan,
    ) -> Result<Conditions<B>, Error> {
        let config = &self.model.transformer.config;
        let [_, z, frames, height, width] = plan.latent_shape;
        let beside = config.in_channels.saturating_sub(config.out_channels);
        let video = |channels| [1, channels, frames, height, width];
        // In a shape, or not at all where the model has no use for it.
        let read = |name: &str, expected: Option<[usize; 5]>, is_needed: bool| {
            let name = format!("{index}.condition.{name}");
            match (expected, file.has(&name)) {
                (Some(expected), true) => self.read_shaped(file, &name, expected).map(Some),
                (None, true) => {
                    Err(TensorFileError::ExtraTensor { path: file.path(), name }.into())
                }
                (_, false) if is_needed => {
                    Err(TensorFileError::MissingTensor { path: file.path(), name }.into())
                }
                (_, false) => Ok(None),
            }
        };
        let task = self.spec().task;
        let vision = self.model.image_encoder.as_ref().map(|encoder| &encoder.vision.config);
        let states = vision.map(|vision| {
            let tokens = config.pos_embed_seq_len.unwrap_or(vision.tokens());
            [1, 1, 1, tokens, vision.hidden_size]
        });
        let channels = (beside > 0).then(|| video(beside));
        let control = (task == Task::Control).then(|| video(config.vace_channels()));
        let known = (task == Task::TextImageToVideo).then_some([1, z, 1, height, width]);
        Ok(Conditions {
            image: read("image", states, states.is_some())?.map(|x| x.squeeze_dims(&[0, 1])),
            channels: read("channels", channels, channels.is_some())?,
            control: read("control", control, control.is_some())?
                .map(|latents| Control { latents, scales: vec![plan.control_scale as f32] }),
            known: read("known", known, false)?,
        })
    }

    /// The tensors whose names begin with `prefix`, by the rest of their names; all have the shape of the
    /// latents.
    fn tensors(
        &self,
        file: &TensorFile,
        prefix: &str,
        expected: [usize; 5],
    ) -> Result<Vec<(String, Tensor<B, 5>)>, Error> {
        let names = file.names().filter_map(|name| name.strip_prefix(prefix));
        let read = |name: &str| {
            let tensor = self.read_shaped(file, &format!("{prefix}{name}"), expected)?;
            Ok((name.to_owned(), tensor))
        };
        names.map(read).collect()
    }

    /// A tensor of some shape.
    fn read_shaped(
        &self,
        file: &TensorFile,
        name: &str,
        expected: [usize; 5],
    ) -> Result<Tensor<B, 5>, Error> {
        let (shape, values) = file.tensor(name)?;
        if shape != expected {
            let name = format!("{}: {name}", file.path());
            return Err(TensorFileError::shape(name, &shape, format!("{expected:?}")).into());
        }
        Ok(Latents::<B>::from_vec(values, shape, &self.device).into_tensor())
    }

    fn check_fingerprints(
        &self,
        file: &TensorFile,
        found: &[(String, String)],
    ) -> Result<(), Error> {
        for (part, expected) in self.fingerprints()? {
            let stored = found.iter().find(|(name, _)| *name == part.to_string());
            let stored = stored.map_or("missing", |(_, hash)| hash.as_str());
            if stored != expected {
                let (path, name) = (file.path(), self.model.name.clone());
                let found = stored.to_owned();
                return Err(
                    TensorFileError::OtherModel { path, part, name, found, expected }.into()
                );
            }
        }
        Ok(())
    }

    /// The parts of the model that the latents of a run depend on, with what identifies their weights.
    fn fingerprints(&self) -> Result<Vec<(Role, String)>, Error> {
        let mut fingerprints = vec![(Role::Transformer, self.model.transformer.fingerprint()?)];
        if let Some(second) = &self.model.transformer_2 {
            fingerprints.push((Role::Transformer2, second.fingerprint()?));
        }
        Ok(fingerprints)
    }
}

/// Fails unless the file has the tensors that its metadata names, and no others.
fn check_names(file: &TensorFile, expected: &BTreeSet<String>, videos: usize) -> Result<(), Error> {
    let path = || file.path();
    if let Some(name) = expected.iter().find(|name| !file.has(name)) {
        return Err(TensorFileError::MissingTensor { path: path(), name: name.clone() }.into());
    }
    let of_a_video = |name: &str| {
        let video = name.split('.').next().and_then(|video| video.parse::<usize>().ok());
        video.is_some_and(|video| video < videos)
    };
    match file.names().find(|name| !expected.contains(*name) || !of_a_video(name)) {
        Some(name) => Err(TensorFileError::ExtraTensor { path: path(), name: name.into() }.into()),
        None => Ok(()),
    }
}

/// The metadata may have been changed by hand: what the run relies on is checked again.
fn check_header(
    file: &TensorFile,
    model: &Components,
    plans: &[Plan],
    done: usize,
) -> Result<(), Error> {
    let damaged = |reason: &str| {
        let (path, reason) = (file.path(), reason.to_owned());
        Err(TensorFileError::Metadata { path, field: "run", reason }.into())
    };
    let Some(first) = plans.first() else { return damaged("it has no videos") };
    if !plans.iter().all(|plan| plan.is_one_run_with(first)) {
        return damaged("its videos differ in size, frames, steps or scheduler");
    }
    let boundary = model.spec.boundary;
    let of_experts = |plan: &Plan| (plan.boundary, plan.guidance_2.is_some());
    if plans.iter().any(|plan| of_experts(plan) != (boundary, boundary.is_some())) {
        return damaged("where its second expert takes over is not where the model's does");
    }
    if done > first.steps() {
        return damaged("more steps are done than there are");
    }
    Ok(plans.iter().try_for_each(|plan| plan.validate(model))?)
}
