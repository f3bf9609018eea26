//! Routers whose weights are integers in an object: a file for each family, which describes it and does nothing. They are listed
//! in `target.rs`.

pub(crate) mod alb;
pub(crate) mod ambassador;
pub(crate) mod apisix;
pub(crate) mod avi;
pub(crate) mod contour;
pub(crate) mod gateway;
pub(crate) mod gloo;
pub(crate) mod knative;
pub(crate) mod kuma;
pub(crate) mod nginx;
pub(crate) mod openshift;
pub(crate) mod skipper;
pub(crate) mod smi;
pub(crate) mod traefik;
pub(crate) mod virtualservice;
