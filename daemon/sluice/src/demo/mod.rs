//! The demo: nothing installed, nothing configured. Real services on loopback behind a weighted proxy, live traffic, the
//! embedded bus, direct scrape, and the same daemon that runs in production.

mod loopback;
pub mod proxy;
pub mod release;
pub mod service;
pub mod tour;
pub mod traffic;
