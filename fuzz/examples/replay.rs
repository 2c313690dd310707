//! Replays programs of sessions without libFuzzer: the named files, or all that are kept. Other targets take
//! `fuzz/run.sh 0`.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let mut programs: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    if programs.is_empty() {
        let kept = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus/session");
        for entry in fs::read_dir(kept)? {
            programs.push(entry?.path());
        }
        programs.sort();
    }
    for program in &programs {
        println!("{}", program.display());
        bkfs_fuzz::session::run(&fs::read(program)?);
    }
    Ok(())
}
