//! What Sluice reads from outside, and what must hold whatever is sent: one module each. A check panics where a promise is
//! broken; that an input is refused is no fault.
//!
//! `tests/fuzz/run` lets libFuzzer look for inputs; those that once broke something, or reach far, are kept in
//! `corpora/<target>`, and every `cargo test` tries them again.

pub mod answers;
pub mod counted;
pub mod expositions;
pub mod messages;
pub mod policies;
pub mod records;
pub mod signatures;

/// One kind of input.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    pub name: &'static str,
    pub check: fn(&[u8]),
}

pub const TARGETS: [Target; 6] = [
    Target { name: "messages", check: messages::check },
    Target { name: "policies", check: policies::check },
    Target { name: "expositions", check: expositions::check },
    Target { name: "answers", check: answers::check },
    Target { name: "records", check: records::check },
    Target { name: "signatures", check: signatures::check },
];

/// Inputs in a row are parted by a byte that no text has.
pub(crate) fn parts(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    input.split(|byte| *byte == 0xFF)
}
