//! Builds the root disk of a local image into a store and says how long it took: `rootdisk STORE IMAGE [erofs|ext4]`.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use plfm_rootdisk::{DiskFormat, Image, ImageName, Limits, Store, StoredImage};

fn build(store: &str, name: &str, format: &str) -> Result<StoredImage, Box<dyn std::error::Error>> {
    let limits = Limits::default();
    let store = Store::open(Path::new(store))?;
    let image = match name.parse()? {
        ImageName::Layout(path, name) => Image::from_layout(&path, name.as_deref(), &limits)?,
        ImageName::Archive(path, name) => Image::from_archive(&path, name.as_deref(), &limits)?,
        ImageName::Registry(_) => return Err("a local image is wanted".into()),
    };
    let format: DiskFormat = format.parse()?;
    Ok(store.build(&image, format, &limits, &mut |step| eprintln!("{step:?}"))?)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let (store, name, format) = match arguments.as_slice() {
        [_, store, name] => (store, name, "erofs"),
        [_, store, name, format] => (store, name, format.as_str()),
        _ => {
            eprintln!("usage: rootdisk STORE IMAGE [erofs|ext4]");
            return ExitCode::from(2);
        }
    };
    let start = Instant::now();
    match build(store, name, format) {
        Ok(stored) => {
            println!("{}", stored.disk_path().display());
            println!(
                "sha256:{} {} bytes, {:?}",
                stored.disk_digest(),
                stored.disk_bytes(),
                start.elapsed()
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            let mut cause: Option<&dyn std::error::Error> = Some(error.as_ref());
            while let Some(error) = cause {
                eprintln!("{error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}
