//! The rollout state machine: the pure core that decides.
//!
//! One function, [`step`], takes a policy, the state of one rollout, the time and one event, and answers with the next
//! state, the effects that the edge has to perform, and the reason. No async, no IO, no clock, no randomness here:
//! time and ids come in as arguments, so that every decision can be told as a timeline and replayed.
//!
//! ```text
//!   Requested ─▶ Gated ─▶ Preparing ─▶ Shifting ─▶ Observing ─┬▶ … next step … ─▶ Baking ─▶ Promoting ─▶ Done
//!                  │          │            │           │      │                     │           │
//!                  └──────────┴────────────┴───────────┴──────┴──── abort ─────────┴───────────┴──▶ Reverting ─▶ Done
//! ```
//!
//! What it never does: it never raises a weight without `pass` or an allowed override, never raises it after an abort,
//! and never treats missing metrics as good or bad.

mod effect;
mod event;
mod ids;
mod machine;
mod policy;
mod reason;
mod state;
mod time;
mod weight;

pub use effect::{AlertKind, Effect, Lane, Notice, Numbered, Observation, Replicas, TimerId};
pub use event::{
    Action, Baseline, DrainEnd, Event, GateAnswer, GateId, Inexpressible, Override, ReadBack, Role, Verdict,
};
pub use ids::{EffectId, Fence, IdError, RolloutId};
pub use machine::{Transition, step};
pub use policy::{
    Bake, GateSpec, Hooks, Limits, OnDeadline, OnDrift, OnTrouble, OnUndrained, Policy, PolicyError, Promote,
    Replace, Step,
};
pub use reason::Reason;
pub use state::{Answered, Firing, Outcome, PauseReason, Phase, PromoteStage, RevertStage, State, Watch};
pub use time::Timestamp;
pub use weight::{Weight, WeightError};

/// Raised whenever [`step`] may answer the same events otherwise than before: a decision record names the version that
/// decided.
pub const VERSION: u32 = 1;
