//! Videos in a browser: Chromium without a window loads, seeks and plays them.
//!
//! Without Chromium the test passes with a note, unless `WAN_REQUIRE_CHROMIUM` is set.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use super::*;

/// The colours of the quarters of a picture, which move on by one with each frame.
const COLOURS: [[u8; 3]; 4] = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [128, 128, 128]];

/// The most that red, green and blue may differ by. Without a GPU, Chromium converts with libyuv, which
/// takes 2 for the factor of 2.11 that leads to blue: 12 less for full blue, beside what compression
/// changes. (Colours of BT.601 in place of BT.709 would differ by 20 in red.)
const TOLERANCE: [u8; 3] = [4, 4, 20];

/// How long the browser may take, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn a_browser_shows_sizes_durations_and_colours() {
    let Some(program) = programs::find("chromium", "WAN_REQUIRE_CHROMIUM") else { return };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let cases = [
        (96, 64, "24000/1001", 24),
        (854, 480, "29.97", 9),
        (18, 34, "12.5", 7),
        (64, 48, "240", 60),
        (98, 66, "1", 1),
        (16, 16, "1", 2),
    ];
    let page = include_bytes!("chromium.html").to_vec();
    let mut files = HashMap::from([("/".to_owned(), ("text/html", page))]);
    let mut videos = Vec::new();
    for (index, (width, height, fps, frames)) in cases.into_iter().enumerate() {
        let spec = VideoSpec { width, height, fps: fps.parse().unwrap(), frames };
        let (name, path) = (format!("/{index}.mp4"), folder.path().join("x.mp4"));
        let mut writer = VideoWriter::create(&path, &spec, &Metadata::new("x")).unwrap();
        (0..frames).for_each(|index| writer.write_frame(&quarters(&spec, index)).unwrap());
        writer.finish().unwrap();
        let middle = |index: u32| (f64::from(index) + 0.5) / spec.fps.as_f64();
        let times = [0, frames / 2, frames - 1].map(middle);
        videos.push(json!({ "name": name, "times": times }));
        files.insert(name, ("video/mp4", fs::read(path).unwrap()));
    }
    files.insert("/videos.json".into(), ("application/json", json!(videos).to_string().into()));

    let (address, seen) = serve(files);
    let browser = Browser::start(&program, folder.path(), &address);
    let seen = seen.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        panic!("the browser says nothing but {}", browser.errors());
    });
    let seen: Value = serde_json::from_slice(&seen).unwrap();
    for ((width, height, fps, frames), seen) in
        cases.into_iter().zip(seen.as_array().expect("a list"))
    {
        let case = format!("{width}x{height}, {frames} frames at {fps}: {seen}");
        assert_eq!((&seen["width"], &seen["height"]), (&json!(width), &json!(height)), "{case}");
        let fps: FrameRate = fps.parse().unwrap();
        let duration = f64::from(frames) / fps.as_f64();
        for field in ["duration", "end"] {
            let seconds = seen[field].as_f64().unwrap();
            assert!((seconds - duration).abs() < 1e-5, "{field} should be {duration} in {case}");
        }
        let pictures: [[[u8; 3]; 4]; 3] = serde_json::from_value(seen["colours"].clone()).unwrap();
        for (found, index) in pictures.iter().zip([0, frames / 2, frames - 1]) {
            for (found, expected) in found.iter().zip(colours_of(index)) {
                let near = |c: usize| found[c].abs_diff(expected[c]) <= TOLERANCE[c];
                assert!(
                    (0..3).all(near),
                    "frame {index}: {found:?} is not {expected:?}, in {case}"
                );
            }
        }
    }
}

/// The colours of the quarters of a frame.
fn colours_of(index: u32) -> [[u8; 3]; 4] {
    std::array::from_fn(|quarter| COLOURS[(quarter + index as usize) % 4])
}

fn quarters(spec: &VideoSpec, index: u32) -> Vec<u8> {
    let colours = colours_of(index);
    let half = |at: u32, side: u32| usize::from(at >= side / 2);
    let pixel = |x, y| colours[2 * half(y, spec.height) + half(x, spec.width)];
    let rows = (0..spec.height).flat_map(|y| (0..spec.width).map(move |x| (x, y)));
    rows.flat_map(|(x, y)| pixel(x, y)).collect()
}

/// A browser without a window, ended when it is dropped.
struct Browser {
    process: Child,
    errors: PathBuf,
}

impl Browser {
    fn start(program: &Path, folder: &Path, address: &str) -> Self {
        let errors = folder.join("errors");
        let process = Command::new(program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args([
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
            ])
            .args(["--disable-sync", "--disable-quic", "--no-proxy-server"])
            .args(["--force-color-profile=srgb", "--autoplay-policy=no-user-gesture-required"])
            .arg(format!("--user-data-dir={}", folder.join("profile").display()))
            .arg(address)
            .env("HOME", folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&errors).unwrap())
            .spawn()
            .unwrap();
        Self { process, errors }
    }

    fn errors(&self) -> String {
        fs::read_to_string(&self.errors).unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Files by their paths, each with its type.
type Files = HashMap<String, (&'static str, Vec<u8>)>;

/// Serves files on the loopback interface, and hands on what is posted.
fn serve(files: Files) -> (String, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::channel();
    let files = Arc::new(files);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (files, sender) = (files.clone(), sender.clone());
            // A browser opens connections that it may never use, and drops those it has enough of.
            thread::spawn(move || answer(stream, &files, &sender).ok());
        }
    });
    (address, receiver)
}

/// Answers one request.
fn answer(
    mut stream: TcpStream,
    files: &Files,
    posted: &mpsc::Sender<Vec<u8>>,
) -> std::io::Result<()> {
    let mut input = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    input.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(()) };
    let (mut length, mut range) = (0, None);
    loop {
        let mut header = String::new();
        input.read_line(&mut header)?;
        let Some((name, value)) = header.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "range" => range = value.strip_prefix("bytes=").map(str::to_owned),
            _ => {}
        }
    }
    if method == "POST" {
        let mut body = vec![0; length];
        input.read_exact(&mut body)?;
        posted.send(body).ok();
        return stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
    }
    let Some((kind, content)) = files.get(&path) else {
        return stream.write_all(
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        );
    };
    let whole = content.len();
    let (status, place, part) = match range.as_deref().and_then(|range| range.split_once('-')) {
        Some((first, last)) => {
            let first = first.parse().unwrap_or(0).min(whole);
            let end = last.parse::<usize>().map_or(whole, |last| (last + 1).min(whole)).max(first);
            let place =
                format!("Content-Range: bytes {first}-{}/{whole}\r\n", end.saturating_sub(1));
            ("206 Partial Content", place, &content[first..end])
        }
        None => ("200 OK", String::new(), &content[..]),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{place}Accept-Ranges: \
         bytes\r\nConnection: close\r\n\r\n",
        part.len()
    )?;
    stream.write_all(part)
}
