//! Files of the operator's that are read as a whole, again and again: a wrong path must not fill the memory.

use std::path::Path;

/// Refuses one that is larger, or cannot be looked at. `what`: what may not be so large, in the error's words.
pub async fn check(file: &Path, most_bytes: u64, what: &str) -> Result<(), String> {
    let size = tokio::fs::metadata(file).await.map_err(|error| error.to_string())?.len();
    if size > most_bytes {
        return Err(format!("{size} bytes are more than {what} may have ({most_bytes})"));
    }
    Ok(())
}
