//! Prompts that look wrong, but must work.

use wan_pipeline::{Event, Observer, read_metadata};

use crate::model::{smallest, tiny_wan};

#[test]
fn any_text_makes_a_video_and_is_stored_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("video.mp4");
    let pipeline = tiny_wan();
    for prompt in [
        "",
        " ",
        "\n\t\r\n",
        "🐈‍⬛🏳️‍🌈👩‍👩‍👧‍👦",
        "\u{0}",
        "a\u{0}b",
        "\u{1}\u{7}\u{8}\u{1b}[31m\u{7f}\u{85}",
        "دائرة حمراء تتحرك إلى اليمين",
        "\u{202e}elcric der a\u{202c}\u{2066}\u{200f}",
        "\u{feff}a red circle\u{200b}\u{ad}",
        "Z̸̢̛͙̈́a̷͓̎l̵̰̆g̶̢͝ö̵̳́",
        "ｆｕｌｌ　ｗｉｄｔｈ，一个红色的圆形",
        "\u{10ffff}\u{fffd}\u{e000}",
        "</s><pad><unk>",
        "&lt;b&gt; &amp;amp; &#0; &#x110000;",
        "\"; DROP TABLE videos; -- \\ ' {} %s $HOME",
        "Ã©tÃ© â€œmojibakeâ€",
    ] {
        let video =
            pipeline.generate(&smallest(prompt)).unwrap_or_else(|e| panic!("{prompt:?}: {e}"));
        assert_eq!(video.frames().len(), 1);
        video.save(&path).unwrap();
        let stored = read_metadata(&path).unwrap().expect("metadata");
        assert_eq!(stored.prompt, prompt);
    }
}

/// What is left of a long prompt counts, what is cut off has no effect, and the observer is told.
#[test]
fn a_prompt_that_is_too_long_is_cut() {
    let pipeline = tiny_wan();
    let generate = |prompt: &str| {
        let mut cuts = Vec::new();
        let mut observer = Observer::new(|event| {
            if let Event::PromptCut { prompt, kept, dropped } = event {
                cuts.push((prompt.to_string(), kept, dropped));
            }
        });
        let video = pipeline.generate_with(&smallest(prompt), &mut observer).unwrap();
        drop(observer);
        (video.frames().map(<[u8]>::to_vec).collect::<Vec<_>>(), cuts)
    };
    let long = "a red circle moving right on a black background, ".repeat(300);
    let (cut, cuts) = generate(&long);
    let [(which, 512, dropped)] = &cuts[..] else { panic!("{cuts:?}") };
    assert!(which == "prompt" && *dropped > 1000, "{which}: {dropped}");

    let (longer, cuts) = generate(&format!("{long}一个绿色的三角形"));
    assert!(matches!(&cuts[..], [(_, 512, more)] if more > dropped), "{cuts:?}");
    assert_eq!(longer, cut);

    let (_, cuts) = generate("a red circle");
    assert_eq!(cuts, []);
}

#[test]
fn a_negative_prompt_is_cut_too() {
    let mut cuts = Vec::new();
    let mut observer = Observer::new(|event| {
        if let Event::PromptCut { prompt, kept, .. } = event {
            cuts.push((prompt.to_string(), kept));
        }
    });
    let request = smallest("a red circle").negative_prompt("blue ".repeat(60)).text_length(16);
    tiny_wan().generate_with(&request, &mut observer).unwrap();
    drop(observer);
    assert_eq!(cuts, [("negative prompt".to_owned(), 16)]);
}

/// Room for one token and the end.
#[test]
fn the_shortest_text_length() {
    let request = smallest("a red circle").text_length(2);
    assert_eq!(tiny_wan().generate(&request).unwrap().frames().len(), 1);
}

#[test]
fn a_hundred_kilobytes() {
    let pipeline = tiny_wan();
    for piece in ["x", "word ", "红", "\u{301}", "&amp;", "Ã©", "🐈"] {
        let prompt = piece.repeat(100_000 / piece.len());
        pipeline.generate(&smallest(&prompt)).unwrap_or_else(|e| panic!("{piece:?}: {e}"));
    }
}
