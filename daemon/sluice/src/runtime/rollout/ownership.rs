//! Whose the rollout is: asked of the record wherever it is in doubt.

use std::time::Duration;

use sluice_rollout::{AlertKind, Event, Fence, Firing};
use sluice_wire::alert::AlertStatus;

use super::{Leave, Owner};
use crate::runtime::{
    fault::{self, Fault},
    lanes::alert_message,
    ledger::OUTLIVED,
    post::Letter,
};

/// A record that cannot be read is asked for so often, and after such pauses.
const LOOKS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);

impl Owner {
    /// Its alerts are the new owner's, too: here they are no longer kept up. But what on-call was told of a decision that
    /// never came into the store nobody else knows: that is over.
    pub(super) async fn disowned(&self, Leave::Disowned(why): Leave) {
        if self.saved.state.is_done() && matches!(self.parts.ledger.load(&self.id).await, Ok(None)) {
            // Nobody else will say that its alerts are over: the dispatcher here goes on trying.
            return tracing::warn!(rollout = %self.id, "{OUTLIVED}");
        }
        tracing::warn!(rollout = %self.id, why, "no longer ours: nothing more is done here");
        let mut ours = self.told_unsaved.clone();
        if !ours.is_empty() {
            let theirs = self.alerts_in_the_record().await;
            ours.retain(|firing| !theirs.contains(&firing.kind));
        }
        if fault::has(Fault::LeaveAnAlertBehind) {
            ours.clear();
        }
        for Firing { kind, since, .. } in &ours {
            let over = format!("not carried out: {why}");
            let message = alert_message(&self.edge, *kind, AlertStatus::Resolved, &over, *since);
            // Whether it was heard concerns nobody here any more; the dispatcher goes on trying.
            drop(self.edge.alerts.resolve(message));
        }
        let ours: Vec<AlertKind> = ours.iter().map(|firing| firing.kind).collect();
        self.edge.alerts.forget(&self.id, &ours);
    }

    /// What the present owner keeps up; nothing, if that cannot be read.
    async fn alerts_in_the_record(&self) -> Vec<AlertKind> {
        for _ in 0..LOOKS {
            match self.parts.ledger.load(&self.id).await {
                Ok(Some((saved, _))) => return saved.state.alerts.iter().map(|one| one.kind).collect(),
                Ok(None) => break,
                Err(error) => tracing::debug!(rollout = %self.id, %error, "the record cannot be read"),
            }
            tokio::time::sleep(PAUSE).await;
        }
        Vec::new()
    }

    /// Anything may have happened meanwhile. Where the store is away too, the next save finds out.
    pub(super) async fn doubt(&mut self) -> Result<(), Leave> {
        match self.parts.ledger.load(&self.id).await {
            Ok(Some((saved, _))) if saved.owner == self.saved.owner => Ok(()),
            Ok(Some((saved, _))) => Err(Leave::Disowned(format!("{} owns it", saved.owner.daemon))),
            Ok(None) => Err(Leave::Disowned("its record is gone".into())),
            Err(error) => {
                tracing::warn!(rollout = %self.id, %error, "whose it is cannot be read just now");
                Ok(())
            }
        }
    }

    /// The target refused our fence: the record says whose the rollout is now. If it is still ours (a former owner's late
    /// write, a store restored from an older copy), a higher epoch takes the target back.
    pub(super) async fn reread(&mut self, found: Fence) -> Result<Option<Event>, Leave> {
        match self.parts.ledger.load(&self.id).await {
            Ok(Some((saved, _))) if saved.owner == self.saved.owner && self.saved.state.is_done() => {
                // The target is a later rollout's: what this one still had to do to it is over.
                Ok(Some(Event::Superseded { by: format!("whoever wrote fence {found}") }))
            }
            Ok(Some((saved, _))) if saved.owner == self.saved.owner => {
                let epoch = found.epoch.max(saved.owner.epoch) + 1;
                tracing::warn!(rollout = %self.id, %found, epoch, "a later fence stands at the target, but the rollout is ours");
                self.saved.owner.epoch = epoch;
                Ok(Some(Event::Recovered { epoch, takeover: true, abort_mark: None }))
            }
            Ok(Some((saved, _))) => Err(Leave::Disowned(format!("{} owns it", saved.owner.daemon))),
            Ok(None) => Err(Leave::Disowned("its record is gone".into())),
            Err(error) => {
                tracing::warn!(rollout = %self.id, %error, "fenced off, and the record cannot be read just now");
                self.deferred.push_back(Letter::Fenced { found });
                Ok(None)
            }
        }
    }
}
