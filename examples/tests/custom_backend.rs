//! Runs the example `custom_backend` as a user does.

use std::process::Command;

use wan_io::video::read_mp4;

#[test]
fn every_call_of_attention_reaches_the_custom_backend() {
    let mut program = std::env::current_exe().unwrap();
    program.pop(); // the name of this test
    program.pop(); // deps
    program.push("examples");
    program.push(format!("custom_backend{}", std::env::consts::EXE_SUFFIX));
    assert!(program.is_file(), "{program:?} is not built: run `cargo test -p wan-examples`");

    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(program).arg("v.mp4").current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let (prompts, encoder_layers) = (2, 2);
    let (steps, transformer_layers, attentions) = (4, 4, 2);
    let latent_frames = 9; // the VAE attends once in each
    let calls =
        prompts * (encoder_layers + steps * transformer_layers * attentions) + latent_frames;
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, format!("v.mp4: {calls} calls of attention\n"));
    assert_eq!(read_mp4(&folder.path().join("v.mp4")).unwrap().frames.len(), 33);
}
