//! The binary's parts: the runtime that performs what the core decides, the HTTP API, the command line, the demo.

pub mod cli;
pub mod client;
pub mod cluster_rights;
pub mod commands;
pub mod control;
pub mod demo;
pub mod http;
pub mod judging;
pub mod picture;
pub mod policy_files;
pub mod replay;
pub mod runtime;
pub mod shared_targets;
pub mod signing;
mod small_file;
