//! `status`: all rollouts in a table, or one in full.

use crate::cli::{Exit, Global, StatusArgs};
use crate::client::Client;

use super::{Failure, Screen};

pub async fn perform(
    args: &StatusArgs,
    global: &Global,
    client: &Client,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    if let Some(rollout) = &args.rollout {
        let view = client.status(&rollout.aim(global)).await?;
        if screen.json() {
            screen.value(&view)?
        } else {
            screen.board(&[view], |board| board)?
        }
        return Ok(Exit::Well);
    }
    let mut views = client.list().await?;
    if let Some(namespace) = &global.namespace {
        views.retain(|view| view.rollout.namespace() == namespace);
    }
    if screen.json() {
        screen.value(&views)?;
    } else {
        screen.board(&views, |board| board.table())?;
    }
    Ok(Exit::Well)
}
