//! Whose the rollout is: asked of the record wherever it is in doubt.

use sluice_rollout::{Event, Fence};

use super::{Leave, Owner};
use crate::runtime::post::Letter;

impl Owner {
    /// Its alerts are the new owner's, too: here they are no longer kept up.
    pub(super) fn disowned(&self, Leave::Disowned(why): Leave) {
        tracing::warn!(rollout = %self.id, why, "no longer ours: nothing more is done here");
        self.edge.alerts.forget(&self.id);
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
