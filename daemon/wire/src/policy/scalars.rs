//! Single values with a form of their own (`45m`, `1%`, `1.25x`), checked by what parses them.

use sluice_rollout::Weight;

use super::document::Node;
use super::workloads::PodCount;
use crate::analysis::{Ratio, WorseBy};
use crate::units::{Percent, Span};

type Check = fn(&Node) -> Result<(), String>;

/// For the types whose JSON Schema has this name.
pub(super) fn check(name: &str) -> Option<Check> {
    Some(match name {
        "Span" => |node| parsed(node, Span::parse),
        "Percent" => |node| parsed(node, Percent::parse),
        "Ratio" => |node| parsed(node, Ratio::parse),
        "WorseBy" => |node| parsed(node, WorseBy::parse),
        "PodCount" => |node| parsed(node, PodCount::parse),
        "Weight" => weight,
        _ => return None,
    })
}

fn parsed<T>(node: &Node, parse: impl Fn(&str) -> Result<T, String>) -> Result<(), String> {
    match node.text() {
        Some(text) => parse(&text).map(drop),
        // The parser's own words say what would be right.
        None => Err(parse(&node.to_string()).err().unwrap_or_default()),
    }
}

fn weight(node: &Node) -> Result<(), String> {
    match node {
        Node::Number(_) | Node::Text(_) => {
            serde_json::from_value::<Weight>(node.json()).map(drop).map_err(|error| error.to_string())
        }
        Node::Null | Node::Bool(_) | Node::List(_) | Node::Map(_) => {
            Err(format!("{node} is no weight: write a number of percent, such as 5 or 0.1"))
        }
    }
}
