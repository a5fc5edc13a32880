//! H.264 in MP4, streaming: one frame in memory.
//!
//! The file is `ftyp`, `moov`, `free`, `mdat`. The `moov` box must come first for playback to
//! start before the whole file is loaded, but is only known at the end: its place is kept free,
//! as large as it can become.

use std::{
    env,
    num::{NonZeroU16, NonZeroU32},
    time::{Duration, SystemTime},
};

use openh264::{
    OpenH264API, Timestamp,
    encoder::{
        self, Complexity, Encoder, EncoderConfig, IntraFramePeriod, Profile, QpRange,
        RateControlMode, UsageType, VuiConfig,
    },
    formats::YUVSource,
};
use shiguredo_mp4::{
    BoxSize, BoxType, Either, Encode, FixedPointNumber, LanguageCode, Mp4FileTime, Uint,
    boxes::{
        Avc1Box, AvccBox, Brand, DinfBox, FtypBox, HdlrBox, MdhdBox, MdiaBox, MediaHeader, MinfBox,
        MoovBox, MvhdBox, SampleEntry, StblBox, StcoBox, StscBox, StscEntry, StsdBox, StssBox,
        StszBox, SttsBox, SttsEntry, TkhdBox, TrakBox, UnknownBox, VisualSampleEntryFields,
        VmhdBox,
    },
};

use super::{
    FrameRate, Metadata, VideoError, VideoSpec,
    convert::Yuv420,
    mp4_level,
    mp4_tags::{make_box, udta_payload},
    writer::FrameEncoder,
};
use crate::files::atomic::AtomicFile;

/// Constant quantiser, 12 (fine) to 51 (coarse). 18 is about what the reference scripts of Wan
/// write through x264: 45 dB.
const QUANTISER: u8 = 18;

/// The fewest ticks a frame, nearly. More than one, since some players want a fine clock.
const TICKS: u32 = 1000;

/// Size of an `mdat` header with a 64-bit size.
const MDAT_HEADER: u64 = 16;

pub(super) struct Mp4Encoder {
    out: AtomicFile,
    encoder: Encoder,
    yuv: Yuv420,
    movie: Movie,
    /// Where the samples start.
    data_offset: u64,
    data_bytes: u64,
    /// One encoded frame.
    sample: Vec<u8>,
    /// The date of the file, if it is not that of its last frame.
    date: Option<Duration>,
}

impl Mp4Encoder {
    pub(super) fn create(
        mut out: AtomicFile,
        spec: &VideoSpec,
        metadata: &Metadata,
        json: &str,
    ) -> Result<Self, VideoError> {
        let date = fixed_date()?;
        let yuv = Yuv420::new(spec.width as usize, spec.height as usize);
        let mut encoder = Encoder::with_api_config(OpenH264API::from_source(), config(spec.fps))
            .map_err(|error| VideoError::encode(out.path(), describe(&error)))?;

        // The encoder only starts with its first frame. A black one shows now whether it works,
        // and gives the parameter sets, which the size of `moov` depends on.
        let mut sample = Vec::new();
        let black = encode(&mut encoder, &yuv, Timestamp::ZERO, &mut sample);
        let sets = black.and_then(|picture| picture.parameter_sets.ok_or(NO_PARAMETER_SETS.into()));
        let sets = sets.map_err(|reason| VideoError::encode(out.path(), reason))?;
        encoder.force_intra_frame();

        let mut movie = Movie {
            spec: *spec,
            sets,
            udta: udta_payload(json, metadata.software.as_deref()),
            created: Mp4FileTime::from_secs(u64::MAX),
            sizes: vec![0; spec.frames as usize],
            key_frames: (1..=spec.frames).filter_map(NonZeroU32::new).collect(),
        };
        let largest = movie.head(0).map_err(|e| VideoError::encode(out.path(), e))?;
        movie.sizes.clear();
        movie.key_frames.clear();
        let data_offset = largest.len() as u64 + FREE_HEADER + MDAT_HEADER;
        out.write(&vec![0; data_offset as usize])?;
        Ok(Self { out, encoder, yuv, movie, data_offset, data_bytes: 0, sample, date })
    }

    fn encode_sample(&mut self) -> Result<(), VideoError> {
        let frame = self.movie.sizes.len();
        let seconds = (frame + 1) as f64 / self.movie.spec.fps.as_f64(); // The black one was 0.
        let time = Timestamp::from_millis((1000.0 * seconds) as u64);
        let failed = |reason| VideoError::encode(self.out.path(), reason);
        let picture = encode(&mut self.encoder, &self.yuv, time, &mut self.sample);
        let picture = picture.map_err(failed)?;
        if picture.count != 1 {
            let (path, pictures) = (self.out.path().to_path_buf(), picture.count);
            return Err(VideoError::Pictures { path, frame, pictures });
        }
        if picture.parameter_sets.is_some_and(|sets| sets != self.movie.sets) {
            return Err(failed("the encoder changed its parameter sets".into()));
        }
        self.movie.sizes.push(self.sample.len() as u32); // A few megabytes at most.
        if picture.is_key {
            let number = NonZeroU32::MIN.saturating_add(self.movie.sizes.len() as u32 - 1);
            self.movie.key_frames.push(number);
        }
        Ok(())
    }
}

impl FrameEncoder for Mp4Encoder {
    fn write_frame(&mut self, rgb: &[u8]) -> Result<(), VideoError> {
        self.yuv.set_rgb(rgb);
        self.encode_sample()?;
        self.data_bytes += self.sample.len() as u64;
        Ok(self.out.write(&self.sample)?)
    }

    fn finish(mut self: Box<Self>) -> Result<(), VideoError> {
        let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.movie.created = Mp4FileTime::from_unix_time(self.date.unwrap_or_else(now));
        let mut head = self
            .movie
            .head(self.data_offset)
            .map_err(|reason| VideoError::encode(self.out.path(), reason))?;
        let free = self.data_offset - MDAT_HEADER - head.len() as u64 - FREE_HEADER;
        head.extend(make_box(*b"free", &vec![0; free as usize]));
        head.extend(1u32.to_be_bytes()); // A 64-bit size follows.
        head.extend(b"mdat");
        head.extend((MDAT_HEADER + self.data_bytes).to_be_bytes());
        self.out.overwrite_start(&head)?;
        Ok(self.out.commit()?)
    }
}

/// Header of the box that fills what `moov` leaves free.
const FREE_HEADER: u64 = 8;

const NO_PARAMETER_SETS: &str = "the encoder gave no parameter sets";

/// The date that reproducible builds set for all files
/// (<https://reproducible-builds.org/specs/source-date-epoch>).
fn fixed_date() -> Result<Option<Duration>, VideoError> {
    let Some(value) = env::var_os("SOURCE_DATE_EPOCH").filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    match value.to_str().and_then(|seconds| seconds.trim().parse::<u32>().ok()) {
        Some(seconds) => Ok(Some(Duration::from_secs(seconds.into()))),
        None => Err(VideoError::Date { value: value.to_string_lossy().into_owned() }),
    }
}

fn config(fps: FrameRate) -> EncoderConfig {
    EncoderConfig::new()
        // The only mode of OpenH264 that keeps to the range of `qp`, needs no frame skipping, and
        // prints no warning.
        .rate_control_mode(RateControlMode::Bufferbased)
        .qp(QpRange::new(QUANTISER, QUANTISER))
        .skip_frames(false)
        .adaptive_quantization(false)
        .background_detection(false)
        .usage_type(UsageType::CameraVideoRealTime)
        .profile(Profile::High)
        .complexity(Complexity::High)
        .max_frame_rate(encoder::FrameRate::from_hz(fps.as_f64() as f32))
        .intra_frame_period(IntraFramePeriod::from_num_frames((2.0 * fps.as_f64()).round() as u32))
        .vui(VuiConfig::bt709())
}

impl YUVSource for Yuv420 {
    fn dimensions(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    fn strides(&self) -> (usize, usize, usize) {
        (self.width, self.width / 2, self.width / 2)
    }

    fn y(&self) -> &[u8] {
        &self.y
    }

    fn u(&self) -> &[u8] {
        &self.u
    }

    fn v(&self) -> &[u8] {
        &self.v
    }
}

#[derive(PartialEq, Eq)]
struct ParameterSets {
    sequence: Vec<u8>,
    picture: Vec<u8>,
}

struct Picture {
    /// 1, if all is well.
    count: usize,
    is_key: bool,
    /// Key frames bring them.
    parameter_sets: Option<ParameterSets>,
}

/// Encodes a frame into `sample`, as MP4 wants it: each NAL unit after its length, the parameter
/// sets apart.
fn encode(
    encoder: &mut Encoder,
    yuv: &Yuv420,
    time: Timestamp,
    sample: &mut Vec<u8>,
) -> Result<Picture, String> {
    const SLICE: u8 = 1;
    const KEY_SLICE: u8 = 5;
    const SEQUENCE_SET: u8 = 7;
    const PICTURE_SET: u8 = 8;

    let stream = encoder.encode_at(yuv, time).map_err(|error| describe(&error))?;
    sample.clear();
    let (mut sequence, mut picture, mut count, mut is_key) = (None, None, 0, false);
    for layer in (0..stream.num_layers()).filter_map(|i| stream.layer(i)) {
        for unit in (0..layer.nal_count()).filter_map(|i| layer.nal_unit(i)) {
            let unit = without_start_code(unit);
            let kind = unit.first().map_or(0, |first| first & 0x1f);
            match kind {
                SEQUENCE_SET => sequence = Some(unit.to_vec()),
                PICTURE_SET => picture = Some(unit.to_vec()),
                _ => {
                    is_key |= kind == KEY_SLICE;
                    // The slice with macroblock 0, coded as a single 1, starts a picture.
                    let is_first = unit.get(1).is_some_and(|byte| byte & 0x80 != 0);
                    count += usize::from(is_first && matches!(kind, SLICE | KEY_SLICE));
                    sample.extend((unit.len() as u32).to_be_bytes());
                    sample.extend(unit);
                }
            }
        }
    }
    Ok(Picture {
        count,
        is_key,
        parameter_sets: sequence
            .zip(picture)
            .map(|(sequence, picture)| ParameterSets { sequence, picture }),
    })
}

/// OpenH264 gives either a bare number or a text.
pub(super) fn describe(error: &openh264::Error) -> String {
    match error.native_code() {
        0 => error.to_string(),
        code => format!("OpenH264 gave error {code}"),
    }
}

fn without_start_code(unit: &[u8]) -> &[u8] {
    let unit = unit.strip_prefix(&[0]).unwrap_or(unit);
    unit.strip_prefix(&[0, 0, 1]).unwrap_or(unit)
}

/// The content of the head of the file.
struct Movie {
    spec: VideoSpec,
    sets: ParameterSets,
    udta: Vec<u8>,
    created: Mp4FileTime,
    /// Bytes of each sample.
    sizes: Vec<u32>,
    /// Numbers, from 1, of the samples that are key frames.
    key_frames: Vec<NonZeroU32>,
}

impl Movie {
    /// The boxes `ftyp` and `moov`, for samples that start at `data_offset` in the file.
    fn head(&self, data_offset: u64) -> Result<Vec<u8>, String> {
        let brands = [Brand::ISOM, Brand::ISO2, Brand::AVC1, Brand::MP41];
        let ftyp = FtypBox {
            major_brand: Brand::ISOM,
            minor_version: 512,
            compatible_brands: brands.to_vec(),
        };
        let ftyp = ftyp.encode_to_vec().map_err(|error| error.to_string())?;
        let moov = self.moov(data_offset)?.encode_to_vec();
        Ok([ftyp, moov.map_err(|error| error.to_string())?].concat())
    }

    fn moov(&self, data_offset: u64) -> Result<MoovBox, String> {
        Ok(MoovBox {
            mvhd_box: MvhdBox {
                creation_time: self.created,
                modification_time: self.created,
                timescale: self.timescale(),
                duration: self.duration(),
                rate: MvhdBox::DEFAULT_RATE,
                volume: MvhdBox::DEFAULT_VOLUME,
                matrix: MvhdBox::DEFAULT_MATRIX,
                next_track_id: 2,
            },
            trak_boxes: vec![self.trak(data_offset)?],
            mvex_box: None,
            unknown_boxes: vec![unknown(*b"udta", self.udta.clone())],
        })
    }

    fn trak(&self, data_offset: u64) -> Result<TrakBox, String> {
        Ok(TrakBox {
            tkhd_box: TkhdBox {
                flag_track_enabled: true,
                flag_track_in_movie: true,
                flag_track_in_preview: false,
                flag_track_size_is_aspect_ratio: false,
                creation_time: self.created,
                modification_time: self.created,
                track_id: 1,
                duration: self.duration(),
                layer: TkhdBox::DEFAULT_LAYER,
                alternate_group: TkhdBox::DEFAULT_ALTERNATE_GROUP,
                volume: TkhdBox::DEFAULT_VIDEO_VOLUME,
                matrix: TkhdBox::DEFAULT_MATRIX,
                width: FixedPointNumber::new(self.spec.width as i16, 0),
                height: FixedPointNumber::new(self.spec.height as i16, 0),
            },
            // No edit list: without B-frames the first sample is shown at time 0.
            edts_box: None,
            mdia_box: MdiaBox {
                mdhd_box: MdhdBox {
                    creation_time: self.created,
                    modification_time: self.created,
                    timescale: self.timescale(),
                    duration: self.duration(),
                    language: LanguageCode::UNDEFINED,
                },
                hdlr_box: HdlrBox {
                    handler_type: HdlrBox::HANDLER_TYPE_VIDE,
                    name: b"video\0".to_vec(),
                },
                minf_box: MinfBox {
                    media_header: Some(MediaHeader::Vmhd(VmhdBox::default())),
                    dinf_box: DinfBox::LOCAL_FILE,
                    stbl_box: self.stbl(data_offset)?,
                    unknown_boxes: Vec::new(),
                },
                unknown_boxes: Vec::new(),
            },
            unknown_boxes: Vec::new(),
        })
    }

    /// The sample tables: all samples are of one length, and stand in one chunk.
    fn stbl(&self, data_offset: u64) -> Result<StblBox, String> {
        let frames = self.sizes.len() as u32;
        let offset = u32::try_from(data_offset).map_err(|error| error.to_string())?;
        Ok(StblBox {
            stsd_box: StsdBox { entries: vec![SampleEntry::Avc1(self.avc1())] },
            stts_box: SttsBox {
                entries: vec![SttsEntry { sample_count: frames, sample_delta: self.ticks() }],
            },
            ctts_box: None,
            cslg_box: None,
            stsc_box: StscBox {
                entries: vec![StscEntry {
                    first_chunk: NonZeroU32::MIN,
                    sample_per_chunk: frames,
                    sample_description_index: NonZeroU32::MIN,
                }],
            },
            stsz_box: StszBox::Variable { entry_sizes: self.sizes.clone() },
            stco_or_co64_box: Either::A(StcoBox { chunk_offsets: vec![offset] }),
            stss_box: Some(StssBox { sample_numbers: self.key_frames.clone() }),
            sdtp_box: None,
            unknown_boxes: Vec::new(),
        })
    }

    fn avc1(&self) -> Avc1Box {
        // `VuiConfig::bt709` says the same in the stream: primaries 1, transfer 1, matrix 1, and
        // limited range (no bit set).
        let colour = b"nclx\0\x01\0\x01\0\x01\0";
        // The sequence set starts with: NAL type, profile, constraints, level. The encoder takes 60
        // frames a second for the highest rate, and does not know how many bytes there will be.
        let mut sequence = self.sets.sequence.clone();
        if let Some(level) = sequence.get_mut(3) {
            *level = mp4_level::lowest(*level, &self.spec, &self.sizes);
        }
        let byte = |at: usize| sequence.get(at).copied().unwrap_or_default();
        Avc1Box {
            visual: VisualSampleEntryFields {
                data_reference_index: NonZeroU16::MIN,
                width: self.spec.width as u16, // At most 3840.
                height: self.spec.height as u16,
                horizresolution: VisualSampleEntryFields::DEFAULT_HORIZRESOLUTION,
                vertresolution: VisualSampleEntryFields::DEFAULT_VERTRESOLUTION,
                frame_count: VisualSampleEntryFields::DEFAULT_FRAME_COUNT,
                compressorname: VisualSampleEntryFields::NULL_COMPRESSORNAME,
                depth: VisualSampleEntryFields::DEFAULT_DEPTH,
            },
            avcc_box: AvccBox {
                avc_profile_indication: byte(1),
                profile_compatibility: byte(2),
                avc_level_indication: byte(3),
                length_size_minus_one: Uint::new(3),
                sps_list: vec![sequence],
                pps_list: vec![self.sets.picture.clone()],
                chroma_format: Some(Uint::new(1)), // 4:2:0
                bit_depth_luma_minus8: Some(Uint::new(0)),
                bit_depth_chroma_minus8: Some(Uint::new(0)),
                sps_ext_list: Vec::new(),
            },
            unknown_boxes: vec![unknown(*b"colr", colour.to_vec())],
        }
    }

    /// What both terms of the rate are multiplied by: 1 for 24000/1001.
    fn fineness(&self) -> u32 {
        (TICKS / self.spec.fps.denominator()).max(1)
    }

    /// Ticks a second.
    fn timescale(&self) -> NonZeroU32 {
        // `VideoSpec::check` allows 1 to 1000 frames a second: neither 0 nor too large.
        let ticks = self.spec.fps.numerator() * self.fineness();
        NonZeroU32::MIN.saturating_add(ticks - 1)
    }

    /// Ticks a frame.
    fn ticks(&self) -> u32 {
        self.spec.fps.denominator() * self.fineness()
    }

    fn duration(&self) -> u64 {
        self.sizes.len() as u64 * u64::from(self.ticks())
    }
}

fn unknown(kind: [u8; 4], payload: Vec<u8>) -> UnknownBox {
    UnknownBox {
        box_type: BoxType::Normal(kind),
        box_size: BoxSize::U32(payload.len() as u32 + 8),
        payload,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_the_encoder_skips_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.mp4");
        let spec = VideoSpec { width: 64, height: 64, fps: FrameRate::new(30), frames: 100 };
        let out = AtomicFile::create(&path).unwrap();
        let mut mp4 = Mp4Encoder::create(out, &spec, &Metadata::new("x"), "{}").unwrap();
        // An encoder that may skip frames, and soon has to.
        let skipping = config(spec.fps)
            .rate_control_mode(RateControlMode::Bitrate)
            .bitrate(encoder::BitRate::from_bps(1000))
            .skip_frames(true);
        mp4.encoder = Encoder::with_api_config(OpenH264API::from_source(), skipping).unwrap();
        let first = encode(&mut mp4.encoder, &mp4.yuv, Timestamp::ZERO, &mut mp4.sample).unwrap();
        mp4.movie.sets = first.parameter_sets.unwrap();

        let noise = |seed: usize| (0..spec.frame_bytes()).map(move |i| (i * i * seed / 7) as u8);
        let mut frames = (1..=100).map(|seed| noise(seed).collect::<Vec<u8>>());
        let error = frames.find_map(|frame| mp4.write_frame(&frame).err()).unwrap();
        let written = mp4.movie.sizes.len();
        assert!(
            matches!(error, VideoError::Pictures { frame, pictures: 0, .. } if frame == written)
        );
        let expected = format!("frame {written} of `{}` became 0 pictures", path.display());
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
}
