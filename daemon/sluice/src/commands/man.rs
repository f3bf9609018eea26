//! `man`: the main page to stdout, or a page for every command into a folder.

use crate::cli::{Exit, ManArgs, command, command_without_help};

use super::{Failure, Screen};

pub fn perform(args: &ManArgs, screen: &mut Screen) -> Result<Exit, Failure> {
    let Some(dir) = &args.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command()).render(&mut page)?;
        screen.text(&String::from_utf8_lossy(&page))?;
        return Ok(Exit::Well);
    };
    let cannot = |error: std::io::Error| {
        Failure::input(format!("{}: {error}", dir.display()), "name a folder that can be written")
    };
    std::fs::create_dir_all(dir).map_err(cannot)?;
    clap_mangen::generate_to(command_without_help(), dir).map_err(cannot)?;
    Ok(Exit::Well)
}
