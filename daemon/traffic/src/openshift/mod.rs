//! OpenShift's Route beyond two weights: what its router makes of them, and what people do to them by hand.
//!
//! ```text
//!   adjusting   the arithmetic of `oc set route-backends`       pure
//!   spread      the share that a weight comes to, by endpoints  pure
//!   backends    a Route's backends: read, changed, written
//!   versions    where a Route keeps its two versions: weights, or the one name in `to`      pure
//!   target      the target, which warns where the share is not what was written
//! ```

mod adjusting;
mod backends;
mod spread;
mod target;
mod versions;

pub use adjusting::{Adjustment, AdjustmentError, Change};
pub use backends::{Backends, connect as connect_backends};
pub use spread::{Skew, shares, skew};
pub(crate) use target::OpenShiftRoute;
pub(crate) use versions::RouteVersions;

/// One of a Route's backends, `to` first.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Backend {
    pub name: String,
    /// 0 to 256.
    pub weight: u32,
}
