//! Files that were made to do harm, or are merely broken: each must give its error, and those that
//! look alike but are honest must load. One table for all formats; the rows are in the modules.

mod index;
mod legacy;
mod pickle;
mod safetensors;
mod sweep;
mod table;
mod views;
mod write;
mod zip;

use table::{Expected, Row};
use wan_io::weights::Weights;

fn rows() -> Vec<Row> {
    let parts = [
        safetensors::rows(),
        index::rows(),
        pickle::rows(),
        views::rows(),
        zip::rows(),
        legacy::rows(),
    ];
    parts.into_iter().flatten().collect()
}

#[test]
fn every_row_of_the_table() {
    let rows = rows();
    println!("{} rows", rows.len());
    assert!(rows.len() >= 60);
    let wrong: Vec<String> = rows.iter().filter_map(|row| check(row).err()).collect();
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}

/// The error of a row must be as expected, in full but for the folder; or the names of its tensors.
fn check(row: &Row) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    row.files.iter().for_each(|(name, content)| content.write(&folder.path().join(name)));
    let opened = Weights::open_path(&folder.path().join(&row.opened));
    let root = format!("{}/", folder.path().display());
    match (&row.expected, opened) {
        (Expected::Error(expected), Err(error)) => {
            let found = error.to_string().replace(&root, "");
            let same = found == *expected;
            same.then_some(()).ok_or(format!("{}:\n  {found}\n  {expected}", row.name))
        }
        (Expected::Loads(expected), Ok(weights)) => {
            // Reading them must be possible too.
            weights.names().for_each(|name| drop(weights.tensor(name).unwrap().bytes().unwrap()));
            let same = weights.names().eq(expected.iter().copied());
            same.then_some(()).ok_or(format!("{}: has {:?}", row.name, weights))
        }
        (Expected::Error(_), Ok(_)) => Err(format!("{}: loads", row.name)),
        (Expected::Loads(_), Err(error)) => Err(format!("{}: {error}", row.name)),
    }
}

/// Opening a named pipe would wait for someone who writes to it.
#[cfg(unix)]
#[test]
fn a_named_pipe_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("model.safetensors");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let error = Weights::open_path(&pipe).unwrap_err();
    assert_eq!(error.to_string(), format!("{}: is not a file", pipe.display()));
}
