//! The words of a JSON Patch (RFC 6902). A `test` with null passes for a path that is absent: the API server's library
//! (evanphx/json-patch) reads it so, and that is the only way to test that somebody else has not added something meanwhile.

use json_patch::jsonptr::{PointerBuf, Token};
use json_patch::{AddOperation, PatchOperation, RemoveOperation, TestOperation};
use serde_json::Value;

/// A path from its parts; `/` and `~` in them are escaped.
pub(crate) fn path<'a>(parts: impl IntoIterator<Item = &'a str>) -> PointerBuf {
    PointerBuf::from_tokens(parts.into_iter().map(Token::new))
}

pub(crate) fn test(path: PointerBuf, value: impl Into<Value>) -> PatchOperation {
    PatchOperation::Test(TestOperation { path, value: value.into() })
}

/// Sets what is there or not; in a list it would insert, so only whole fields are set by it.
pub(crate) fn add(path: PointerBuf, value: impl Into<Value>) -> PatchOperation {
    PatchOperation::Add(AddOperation { path, value: value.into() })
}

/// Only for what is there.
pub(crate) fn remove(path: PointerBuf) -> PatchOperation {
    PatchOperation::Remove(RemoveOperation { path })
}
