//! What crosses Sluice's borders: policy, messages, records. Serde types with JSON Schema and versions.
//!
//! Everything is parsed here once, into types that cannot be wrong; inside nobody sees raw text. Nothing is read or
//! sent here.

pub mod alert;
pub mod analysis;
pub mod cloudevent;
pub mod decisions;
pub mod message;
pub mod policy;
pub mod record;
pub mod signature;
pub mod subject;
pub mod units;
pub mod view;
pub mod windows;

/// `apiVersion` of a policy, and the version that records carry.
pub const API_VERSION: &str = "sluice.dev/v1alpha1";
