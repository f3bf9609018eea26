//! `record`: a rollout's decision record as text, its head first, then one entry a line.

use sluice_wire::decisions::{Batch, Head, RecordError, RecordPage, batch};

use crate::cli::{Aim, Exit, Global, RecordArgs};
use crate::client::Client;

use super::{Failure, Screen};

pub async fn perform(
    args: &RecordArgs,
    global: &Global,
    client: &Client,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let mut pages = Pages::new(client, args.rollout.aim(global));
    let Some(first) = pages.next().await? else { return Ok(Exit::Well) };
    screen.value(&Head::new(&first.charter).map_err(std::io::Error::from)?)?;
    let mut page = Some(first);
    while let Some(RecordPage { batches, .. }) = page {
        for raw in &batches {
            let Batch { lines, .. } = batch(raw.get()).map_err(unread)?;
            lines.iter().try_for_each(|line| screen.value(line))?;
        }
        page = pages.next().await?;
    }
    Ok(Exit::Well)
}

/// A record's parts, one after the other.
pub(super) struct Pages<'c> {
    client: &'c Client,
    aim: Aim,
    /// None: that was all.
    after: Option<u64>,
}

impl Pages<'_> {
    pub(super) fn new(client: &Client, aim: Aim) -> Pages<'_> {
        Pages { client, aim, after: Some(0) }
    }

    pub(super) async fn next(&mut self) -> Result<Option<RecordPage>, Failure> {
        let Some(after) = self.after else { return Ok(None) };
        let page = self.client.record(&self.aim, after).await?;
        // A new attempt may begin meanwhile: the pages must be of one.
        self.aim.attempt = Some(page.charter.id.attempt().to_owned());
        self.after = page.next;
        Ok(Some(page))
    }
}

pub(super) fn unread(error: RecordError) -> Failure {
    let remedy = match &error {
        RecordError::Newer { .. } => "use the Sluice that wrote it, or a newer one",
        RecordError::Line { .. }
        | RecordError::Head { .. }
        | RecordError::TooLong { .. }
        | RecordError::Empty => "write the record anew with `sluice record ROLLOUT > FILE`",
    };
    Failure::input(error.to_string(), remedy)
}
