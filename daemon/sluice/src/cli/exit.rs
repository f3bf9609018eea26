//! The four ways in which a command ends.

use std::process::ExitCode;

/// Exit codes are part of the interface: scripts depend on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0
    Well,
    /// 1: the rollout did not go well, or the command was refused.
    WentBadly,
    /// 2: wrong use or input.
    WrongUse,
    /// 3: the daemon or a server could not be reached.
    Unreachable,
}

impl Exit {
    pub fn code(self) -> u8 {
        match self {
            Exit::Well => 0,
            Exit::WentBadly => 1,
            Exit::WrongUse => 2,
            Exit::Unreachable => 3,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}
