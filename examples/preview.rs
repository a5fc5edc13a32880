//! A rough look at a video while it is made: `cargo run --release --example preview`.

use wan_pipeline::{Error, Observer, Pipeline, Request, backend::Flex};

fn main() -> Result<(), Error> {
    let pipeline = Pipeline::<Flex>::from_pretrained("tiny-wan")?;
    let request = Request::new("橙色背景，白色圆形变小").frames(33).steps(9);
    let mut run = pipeline.start(&[request], &mut Observer::silent())?;
    while let Some(step) = run.step()? {
        if step.done % 3 == 0 {
            let path = format!("preview-{}.gif", step.done);
            run.preview(0)?.save(&path)?;
            println!("{path}");
        }
    }
    Ok(())
}
