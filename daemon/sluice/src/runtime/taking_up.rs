//! Taking up what a start before this one left.

use std::sync::{Arc, MutexGuard, PoisonError};

use futures::{StreamExt, stream};
use sluice_bus::StoreError;
use sluice_rollout::{Effect, Event, Fence, RolloutId, State};
use sluice_traffic::Observed;
use sluice_wire::record::Saved;

use super::{
    Daemon,
    announce::{StartError, parse},
    begin::{Edges, leave_the_target},
    boundary::{self, Boundary},
    clock::now,
    fault::{self, Fault},
    ledger::{OUTLIVED, Open},
    roll::Entry,
    standing::Standing,
};

/// So many are taken up side by side after a start.
pub const TAKE_UP_AT_ONCE: usize = 64;
/// An owner without its store makes one decision that is not in it, an abort, and may tell it. Whoever takes the rollout up and
/// does not know of that leaves out so many effects' numbers: by those ids listeners recognise repeats. More than a decision
/// asks for.
const NUMBERS_LEFT_OUT: u64 = 100;

impl Daemon {
    /// Takes up what an earlier start of this daemon left, and knows again how the others ended.
    pub(super) async fn take_up(&self) -> anyhow::Result<()> {
        let known = self.parts.ledger.latest().await?.into_iter().map(|id| async move {
            if let Ok(Some(view)) = self.view_of(&id).await {
                self.rollouts.enter(id.namespace(), id.name(), Entry::Ended(Arc::new(view)));
            }
        });
        stream::iter(known).buffer_unordered(TAKE_UP_AT_ONCE).collect::<()>().await;
        let open = self.parts.ledger.open_rollouts().await?;
        let own = |open: &Open| self.parts.alone || open.daemon == self.parts.daemon;
        self.take_up_each(open.into_iter().filter(own).map(|open| open.rollout).collect()).await;
        Ok(())
    }

    /// What cannot be taken up now (a server that is away, say) is tried again with what waits.
    pub(super) async fn take_up_each(&self, ids: Vec<RolloutId>) {
        let each = ids.into_iter().map(|id| async move {
            match self.take_up_one(&id).await {
                Ok(true) => tracing::info!(rollout = %id, "taken up"),
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(rollout = %id, %error, "cannot be taken up yet; its traffic stays as it is; tried again soon");
                    self.left().push(id);
                }
            }
        });
        stream::iter(each).buffer_unordered(TAKE_UP_AT_ONCE).collect::<()>().await;
        self.parts.meters.left(self.left().len());
    }

    pub(super) fn left(&self) -> MutexGuard<'_, Vec<RolloutId>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `false`: it is another daemon's, or in hand already.
    pub(super) async fn take_up_one(&self, id: &RolloutId) -> Result<bool, StartError> {
        let turn = self.turn(id.namespace(), id.name());
        let _one_at_a_time = turn.lock().await;
        self.take_up_in_turn(id).await
    }

    /// By compare-and-swap on the record, under a higher epoch: of several daemons one gets it, and what a former owner
    /// still saves or writes is refused.
    pub(super) async fn take_up_in_turn(&self, id: &RolloutId) -> Result<bool, StartError> {
        if self.is_in_hand(id) {
            return Ok(false);
        }
        let Some(charter) = self.parts.ledger.charter(id).await? else {
            tracing::warn!(rollout = %id, "{OUTLIVED}");
            self.parts.ledger.forget(id).await?;
            return Ok(false);
        };
        // Between charter and state a beginning is under way.
        let gone = || StartError::Refused("its record is gone".into());
        let (saved, revision) = self.parts.ledger.load(id).await?.ok_or_else(gone)?;
        let former = saved.owner.daemon.clone();
        let anothers = !self.parts.alone && former != self.parts.daemon;
        if anothers && (self.company.lives(&former) || saved.owner.cluster != self.parts.cluster) {
            return Ok(false);
        }
        let edges = self.connect(parse(&charter)?, id).await?;
        let observed = edges.target.observe().await;
        if let Err(error) = &observed {
            tracing::warn!(rollout = %id, %error, "the target cannot be read; an abort mark may stand there");
        }
        let observed = observed.ok();
        let standing = standing(observed.as_ref(), &saved.state);
        let mark = observed.and_then(|observed| observed.abort);
        let mark = mark.filter(|mark| mark.rollout == id.to_string()).map(|mark| mark.reason);
        let mark = mark.filter(|_| !fault::has(Fault::IgnoreTheAbortMark));
        let epoch = saved.owner.epoch + u64::from(!fault::has(Fault::KeepTheFormerEpoch));
        let takeover = saved.owner.incarnation != self.parts.incarnation;
        // Fences are of the new epoch from the first effect on: an abort by the mark goes out before its transition is saved.
        let unknown = mark.is_none() && saved.state.revision > 0 && !fault::has(Fault::ReuseNumbers);
        let seq = saved.state.seq + if unknown { NUMBERS_LEFT_OUT } else { 0 };
        let mut state = State { epoch, seq, ..saved.state };
        if fault::has(Fault::ForgetWhatIsOutstanding) {
            state.outstanding.clear();
        }
        self.parts.ledger.tell_untold(id, &saved.untold).await?;
        let saved = Saved { owner: self.owner(epoch), state, untold: Vec::new(), ..saved };
        let revision = match self.parts.ledger.save(&saved, revision).await {
            Err(StoreError::Conflict { .. }) => return Ok(false),
            saved => saved?,
        };
        boundary::met(Boundary::TakenUp, "");
        if anothers {
            // What the former owner has under way must not come through any more, wherever it writes.
            // Below every effect of this owner: what is outstanding has numbers of its own.
            self.fence_off(&edges, Fence { epoch, seq: 0 }).await?;
        }
        let latest = self.parts.ledger.make_current(id, epoch).await?;
        self.parts.ledger.open(id, &self.parts.daemon).await?;
        let first = match saved.state.revision {
            // It was saved, and ended before anything was asked for.
            0 => {
                self.stop_aftermath(id).await;
                Event::Requested
            }
            _ => Event::Recovered { epoch, takeover, abort_mark: mark },
        };
        let handle = self.own(charter, edges, (saved, revision), standing, first);
        if latest == *id {
            self.rollouts.enter(id.namespace(), id.name(), Entry::Running(handle));
        } else {
            self.rollouts.enter_former(handle.clone());
            leave_the_target(&handle, &latest).await;
        }
        Ok(true)
    }

    /// Raises the fence where the former owner may have a write under way. What is not there cannot be written either.
    async fn fence_off(&self, edges: &Edges, fence: Fence) -> Result<(), StartError> {
        match edges.workloads.take_over(fence).await {
            Err(error) if !error.retryable() => {
                tracing::warn!(%error, "the former owner cannot be fenced off there");
                Ok(())
            }
            other => Ok(other?),
        }
    }
}

/// A weight that was being written when the daemon ended, or that is not the one it had written, changed at some moment
/// since: no window spans that.
pub(super) fn standing(observed: Option<&Observed>, state: &State) -> Standing {
    let weight = observed.map(|observed| observed.canary);
    let writing = state.outstanding.iter().any(|one| matches!(one.effect, Effect::SetTraffic { .. }));
    let unsure = writing || weight.is_some_and(|weight| weight != state.weight);
    Standing::found_at_start(weight, unsure.then_some(state.now), now())
}
