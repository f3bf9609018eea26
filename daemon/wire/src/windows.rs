//! A line of WINDOWS.jsonl, and the answer of `judge`. (Being written.)
