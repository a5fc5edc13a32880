//! Reads MP4 files, as far as OpenH264 decodes them.

use std::{fs::File, path::Path};

use openh264::{
    decoder::{DecodeOptions, DecodedYUV, Decoder, Flush},
    formats::YUVSource,
};
use shiguredo_mp4::{
    TrackKind,
    boxes::{Avc1Box, SampleEntry},
    demux::{Input, Mp4FileDemuxer, TrackInfo},
};

use super::{
    DecodedVideo, FrameRate, VideoError, VideoSpec, check_decoded_size, convert,
    mp4::describe,
    source::{MAX_TOP_LEVEL_BOXES, Source},
    spec::MAX_FRAMES,
};
use crate::counted;

/// Reads a whole MP4 as rgb24, such as [`VideoWriter`](super::VideoWriter) writes.
///
/// OpenH264 decodes only what such encoders as itself write: H.264 of 8 bits and 4:2:0, without
/// B-frames. For other files, use a folder of PNG frames, as FFmpeg can make it. Tracks beside the
/// only video track are passed over.
///
/// # Errors
/// [`VideoError::Io`] when the file cannot be read; [`VideoError::Codec`] when its video is encoded
/// in another way; [`VideoError::NoFrames`], [`VideoError::CutOff`] and [`VideoError::Broken`] when
/// it is empty, not whole or damaged, or its rate is not constant; [`VideoError::TooLarge`] when its
/// frames take more than 4 GiB.
pub fn read_mp4(path: &Path) -> Result<DecodedVideo, VideoError> {
    let broken = |reason: String| VideoError::broken(path, reason);
    let mut file = Source::new(File::open(path).map_err(VideoError::io("read", path))?, path)?;
    let mut demuxer = open_demuxer(&mut file)?;
    let Track { id, spec, entry } = read_track(&mut demuxer, path)?;
    check_decoded_size(path, spec.frame_bytes(), spec.frames.into())?;

    let mut decoder = Decoder::new().map_err(|error| broken(describe(&error)))?;
    let mut frames = Vec::new();
    let mut stream = parameter_sets(&entry);
    let mut samples = 0;
    while let Some(sample) = demuxer.next_sample().map_err(|e| broken(e.to_string()))? {
        if sample.track.track_id != id {
            continue;
        }
        let bytes = file.read(sample.data_offset, sample.data_size as u64)?;
        append_units(&mut stream, &bytes, &entry)
            .and_then(|()| decode(&mut decoder, &stream, &spec, &mut frames))
            .map_err(|reason| broken(format!("frame {samples}: {reason}")))?;
        samples += 1;
        stream.clear();
    }
    // The decoder holds frames back, in case that later ones belong before them.
    for yuv in decoder.flush_remaining().map_err(|error| broken(describe(&error)))? {
        frames.push(to_rgb(&yuv, &spec).map_err(broken)?);
    }
    if frames.len() != samples {
        return Err(broken(format!(
            "only {} of {} decode",
            frames.len(),
            counted(samples as u64, "frame")
        )));
    }
    Ok(DecodedVideo { spec, frames })
}

/// Lets the demuxer read the boxes it wants. It gets no more than that, since it recurses from
/// box to box through what it is given.
fn open_demuxer(file: &mut Source<'_, File>) -> Result<Mp4FileDemuxer, VideoError> {
    let mut demuxer = Mp4FileDemuxer::new();
    for _ in 0..MAX_TOP_LEVEL_BOXES {
        let Some(wanted) = demuxer.required_input() else {
            return Ok(demuxer);
        };
        let rest = file.bytes.saturating_sub(wanted.position);
        let bytes = wanted.size.map_or(rest, |bytes| bytes as u64);
        let data = file.read(wanted.position, bytes)?;
        demuxer.handle_input(Input { position: wanted.position, data: &data });
    }
    Err(VideoError::broken(file.path, "it has too many boxes before the `moov` box"))
}

/// The video track of a file.
struct Track {
    id: u32,
    spec: VideoSpec,
    entry: Avc1Box,
}

/// Finds the only video track. Sound and subtitles beside it do not matter.
fn video_track(demuxer: &mut Mp4FileDemuxer, path: &Path) -> Result<TrackInfo, VideoError> {
    let tracks = demuxer.tracks().map_err(|error| VideoError::broken(path, error))?;
    let videos: Vec<_> = tracks.iter().filter(|track| track.kind == TrackKind::Video).collect();
    match videos.as_slice() {
        [track] => Ok((*track).clone()),
        found => {
            let reason = format!("it has {} video tracks, but must have one", found.len());
            Err(VideoError::broken(path, reason))
        }
    }
}

/// Walks through all samples of the video once: they must be of one kind, and of equal length.
fn read_track(demuxer: &mut Mp4FileDemuxer, path: &Path) -> Result<Track, VideoError> {
    let broken = |reason: &str| VideoError::broken(path, reason);
    let track = video_track(demuxer, path)?;
    let mut samples = demuxer.clone();
    let (mut frames, mut entry, mut ticks) = (0u32, None, 0);
    let mut offset = None;
    while let Some(sample) = samples.next_sample().map_err(|e| VideoError::broken(path, e))? {
        if sample.track.track_id != track.track_id {
            continue;
        }
        match sample.sample_entry {
            Some(SampleEntry::Avc1(avc1)) if entry.is_none() => {
                check_profile(avc1, path)?;
                entry = Some(avc1.clone());
                ticks = sample.duration;
            }
            Some(SampleEntry::Avc1(_)) => return Err(broken("its frames are encoded differently")),
            Some(other) => return Err(unsupported(path, codec_name(other))),
            None => {}
        }
        // Where frames are shown in another order than they are stored, these differ.
        if *offset.get_or_insert(sample.composition_time_offset) != sample.composition_time_offset {
            return Err(unsupported(path, "H.264 with B-frames".into()));
        }
        if sample.duration != ticks {
            return Err(broken("its frames differ in length"));
        }
        frames += 1;
        if frames > MAX_FRAMES {
            return Err(broken("it has more than 1000000 frames"));
        }
    }
    let Some(entry) = entry else {
        return Err(VideoError::NoFrames { path: path.to_path_buf(), kind: "frames" });
    };
    let [width, height] = [entry.visual.width, entry.visual.height].map(u32::from);
    let fps = FrameRate::fraction(track.timescale.get(), ticks)
        .ok_or_else(|| broken("its frames are shown for no time"))?;
    let spec = VideoSpec { width, height, fps, frames };
    if spec.frame_bytes() == 0 {
        return Err(broken("its frames are 0 pixels wide or high"));
    }
    Ok(Track { id: track.track_id, spec, entry })
}

/// OpenH264 decodes 8 bits and 4:2:0: the Baseline, Main, Extended and High profiles.
fn check_profile(entry: &Avc1Box, path: &Path) -> Result<(), VideoError> {
    let name = match entry.avcc_box.avc_profile_indication {
        66 | 77 | 88 | 100 => return Ok(()),
        110 => "the High 10 profile".into(),
        122 => "the High 4:2:2 profile".into(),
        244 => "the High 4:4:4 profile".into(),
        other => format!("profile {other}"),
    };
    Err(unsupported(path, format!("H.264 of {name}")))
}

fn codec_name(entry: &SampleEntry) -> String {
    match entry {
        SampleEntry::Hev1(_) | SampleEntry::Hvc1(_) => "HEVC (H.265)".into(),
        SampleEntry::Vp08(_) => "VP8".into(),
        SampleEntry::Vp09(_) => "VP9".into(),
        SampleEntry::Av01(_) => "AV1".into(),
        SampleEntry::Unknown(unknown) => match unknown.box_type.as_bytes() {
            b"avc3" => "H.264 with its parameters between the frames (`avc3`)".into(),
            kind => format!("video of the kind `{}`", kind.escape_ascii()),
        },
        _ => "no video that is known".into(),
    }
}

fn unsupported(path: &Path, found: String) -> VideoError {
    VideoError::Codec { path: path.to_path_buf(), found }
}

const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// The parameter sets as the decoder wants them: each after a start code.
fn parameter_sets(track: &Avc1Box) -> Vec<u8> {
    let sets = track.avcc_box.sps_list.iter().chain(&track.avcc_box.pps_list);
    sets.flat_map(|set| START_CODE.iter().chain(set)).copied().collect()
}

/// Appends a sample, with start codes in place of the lengths.
fn append_units(stream: &mut Vec<u8>, mut sample: &[u8], track: &Avc1Box) -> Result<(), String> {
    let length_bytes = usize::from(track.avcc_box.length_size_minus_one.get()) + 1;
    while !sample.is_empty() {
        let unit = sample.split_at_checked(length_bytes).and_then(|(length, rest)| {
            let length = length.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
            rest.split_at_checked(length)
        });
        let Some((unit, rest)) = unit else {
            return Err("a NAL unit is longer than the sample".into());
        };
        stream.extend(START_CODE);
        stream.extend(unit);
        sample = rest;
    }
    Ok(())
}

fn decode(
    decoder: &mut Decoder,
    stream: &[u8],
    spec: &VideoSpec,
    frames: &mut Vec<Vec<u8>>,
) -> Result<(), String> {
    let options = DecodeOptions::new().flush_after_decode(Flush::NoFlush);
    let yuv = decoder.decode_with_options(stream, options).map_err(|error| describe(&error))?;
    if let Some(yuv) = yuv {
        frames.push(to_rgb(&yuv, spec)?);
    }
    Ok(())
}

fn to_rgb(yuv: &DecodedYUV<'_>, spec: &VideoSpec) -> Result<Vec<u8>, String> {
    let (width, height) = yuv.dimensions();
    if (width, height) != (spec.width as usize, spec.height as usize) {
        let VideoSpec { width: w, height: h, .. } = spec;
        return Err(format!("it is {width}x{height}, but the file says {w}x{h}"));
    }
    let (y_stride, u_stride, v_stride) = yuv.strides();
    let row = |plane, stride, index, length| -> Result<&[u8], String> {
        let plane: &[u8] = plane;
        let start: usize = stride * index;
        plane
            .get(start..start + length)
            .ok_or_else(|| "the decoder gave too few pixels".to_string())
    };
    let mut rgb = Vec::with_capacity(spec.frame_bytes());
    for line in 0..height {
        let y = row(yuv.y(), y_stride, line, width)?;
        let u = row(yuv.u(), u_stride, line / 2, width / 2)?;
        let v = row(yuv.v(), v_stride, line / 2, width / 2)?;
        for (y, (&u, &v)) in y.chunks_exact(2).zip(u.iter().zip(v)) {
            rgb.extend(convert::rgb(y[0], u, v));
            rgb.extend(convert::rgb(y[1], u, v));
        }
    }
    if rgb.len() != spec.frame_bytes() {
        return Err(format!("its width {width} is odd"));
    }
    Ok(rgb)
}
